/*
 * Who reads: what /proc says of the process that an open comes from. Some system calls, which take some
 * microseconds; none of the files read here ever waits for the process's memory or for a file system, so a
 * FUSE thread may do it. Any thread.
 */
#ifndef CONNECTFS_FS_AUDITREADER_H
#define CONNECTFS_FS_AUDITREADER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Empty strings: could not be told. What is too long ends in "...". */
struct audit_reader {
	pid_t pid, tid;   /* the process; the thread that opens */
	char comm[32];
	char exe[256];    /* where we may look: another user's takes CAP_SYS_PTRACE */
	char cgroup[256]; /* path in the service manager's hierarchy; "" for its root */
};

/* tid: as the kernel names whom a request comes from; 0 where that one is in another pid namespace. */
void audit_reader_look(struct audit_reader *r, pid_t tid);

/* The service manager's unit in the path of a cgroup: the first part that is no slice. What lies deeper is
 * made and named by whom the unit runs as. False: none. */
bool audit_reader_unit(const char *cgroup, char *ret, size_t size);

/* A copy of len bytes that shows where it is cut; size > 4. */
void audit_reader_copy(char *ret, size_t size, const char *s, size_t len);

#endif
