/*
 * Who reads, from /proc.
 */
#include "fs/auditreader.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROC_TEXT_MAX = 4096 };

/* What a file of /proc begins with. False: it can't be read. */
static bool read_proc(pid_t pid, const char *name, char *ret, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return false;
	n = read(fd, ret, size - 1);
	close(fd);
	ret[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* The kernel names the thread that opens. */
static pid_t process_of(pid_t tid)
{
	char text[512];
	const char *at;
	int pid;

	if (!read_proc(tid, "status", text, sizeof(text)))
		return tid;
	at = strstr(text, "\nTgid:"); /* a newline in the name is escaped there */
	return at && sscanf(at, "\nTgid: %d", &pid) == 1 && pid > 0 ? pid : tid;
}

void audit_reader_copy(char *ret, size_t size, const char *s, size_t len)
{
	size_t n = len < size ? len : size - 1;

	memcpy(ret, s, n);
	ret[n] = '\0';
	if (n < len)
		memcpy(ret + size - 4, "...", 4);
}

/* The path in the service manager's hierarchy: of the line "N:name=systemd:/…" where there is one, else of
 * "0::/…". Empty for the root. */
static void read_cgroup(pid_t pid, char *ret, size_t size)
{
	char text[PROC_TEXT_MAX];
	const char *found = NULL, *at;

	if (!read_proc(pid, "cgroup", text, sizeof(text)))
		return;
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		at = strstr(line, ":name=systemd:/");
		if (at)
			found = at + strlen(":name=systemd:");
		else if (!found && strncmp(line, "0::/", 4) == 0)
			found = line + 3;
	}
	if (found && found[1])
		audit_reader_copy(ret, size, found, strlen(found));
}

void audit_reader_look(struct audit_reader *r, pid_t tid)
{
	char path[64], exe[1024];
	ssize_t n;

	*r = (struct audit_reader){ .pid = tid, .tid = tid };
	if (tid <= 0)
		return;
	r->pid = process_of(tid);
	if (read_proc(r->pid, "comm", r->comm, sizeof(r->comm)) && r->comm[strlen(r->comm) - 1] == '\n')
		r->comm[strlen(r->comm) - 1] = '\0';
	read_cgroup(r->pid, r->cgroup, sizeof(r->cgroup));
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)r->pid);
	n = readlink(path, exe, sizeof(exe));
	if (n > 0)
		audit_reader_copy(r->exe, sizeof(r->exe), exe, (size_t)n);
}

static bool is_unit(const char *name, size_t len)
{
	static const char *const suffixes[] = { ".service", ".scope", ".socket", ".mount", ".swap" };

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		size_t n = strlen(suffixes[i]);

		if (len > n && strncmp(name + len - n, suffixes[i], n) == 0)
			return true;
	}
	return false;
}

bool audit_reader_unit(const char *cgroup, char *ret, size_t size)
{
	for (size_t len; *cgroup == '/'; cgroup += len) {
		cgroup++;
		len = strcspn(cgroup, "/");
		if (len > 6 && strncmp(cgroup + len - 6, ".slice", 6) == 0)
			continue;
		if (!is_unit(cgroup, len))
			return false;
		audit_reader_copy(ret, size, cgroup, len);
		return true;
	}
	return false;
}
