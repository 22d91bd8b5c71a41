/*
 * Stops one thread of a process, the main one, until it is killed itself: freeze PID. "frozen", or the errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	pid_t pid = argc == 2 ? (pid_t)atol(argv[1]) : 0;
	int status;

	if (pid <= 0)
		return 2;
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) != 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) != 0 ||
	    waitpid(pid, &status, __WALL) != pid) {
		printf("%s\n", strerrorname_np(errno));
		return 1;
	}
	printf("frozen\n");
	fflush(stdout);
	for (;;)
		pause(); /* our death lets it go on */
}
