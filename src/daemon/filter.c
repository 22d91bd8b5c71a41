/*
 * The lists of system calls, and what is compared of their arguments.
 *
 * What is called often must stand in the lists without arguments: such calls the kernel answers from
 * a bitmap, without running the filter.
 */
#include "daemon/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41 /* names memory, for malloc of a later glibc */
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define ALL_NAMESPACES (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
                        CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME)

/* __O_TMPFILE is O_TMPFILE without O_DIRECTORY, which is harmless. */
#define WRITING_FLAGS (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

/* Both roles: descriptors that are there, memory, and the end. */
static const int common_calls[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(close), SCMP_SYS(statx),
	SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(munmap), SCMP_SYS(brk), SCMP_SYS(futex),
	SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
	SCMP_SYS(restart_syscall), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

/* What changes nothing but this process, and what goes to descriptors that it has. The names without
 * a meaning on a machine are left out there by libseccomp. */
static const int worker_calls[] = {
	/* files */
	SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(preadv2), SCMP_SYS(pwrite64),
	SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(close_range), SCMP_SYS(fstat), SCMP_SYS(newfstatat),
	SCMP_SYS(fstat64), SCMP_SYS(fstatat64), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(statfs),
	SCMP_SYS(fstatfs), SCMP_SYS(statfs64), SCMP_SYS(fstatfs64), SCMP_SYS(getdents64),
	SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(access), SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2), SCMP_SYS(getcwd), SCMP_SYS(chdir), SCMP_SYS(umask), SCMP_SYS(fadvise64),
	SCMP_SYS(fcntl), SCMP_SYS(fcntl64), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3),
	SCMP_SYS(pipe2), SCMP_SYS(inotify_init1), SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch),
	/* memory, and memory files */
	SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mlock), SCMP_SYS(mlock2), SCMP_SYS(munlock),
	SCMP_SYS(msync), SCMP_SYS(mincore), SCMP_SYS(membarrier), SCMP_SYS(memfd_create),
	SCMP_SYS(ftruncate), SCMP_SYS(fallocate),
	/* waiting */
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2),
	SCMP_SYS(eventfd2), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_gettime),
	SCMP_SYS(signalfd4), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_getres),
	SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(alarm), SCMP_SYS(setitimer),
	/* sockets that are there */
	SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(shutdown), SCMP_SYS(getsockopt),
	/* threads and signals */
	SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list), SCMP_SYS(rseq), SCMP_SYS(futex_waitv),
	SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler), SCMP_SYS(getcpu), SCMP_SYS(sigaltstack), SCMP_SYS(rt_sigpending),
	SCMP_SYS(rt_sigsuspend), SCMP_SYS(rt_sigtimedwait),
	/* questions */
	SCMP_SYS(getppid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
	SCMP_SYS(getresuid), SCMP_SYS(getresgid), SCMP_SYS(getgroups), SCMP_SYS(getrlimit),
	SCMP_SYS(getrusage), SCMP_SYS(getrandom), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(times),
};

/* Of a worker that makes connections, and asks for names. It listens to nothing. */
static const int network_calls[] = {
	SCMP_SYS(connect), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(bind),
	SCMP_SYS(sendmmsg), SCMP_SYS(recvmmsg),
};

/* A call that is allowed where what the mask leaves of an argument is the value. */
struct condition {
	int call;
	unsigned arg;
	uint64_t mask, value;
};

/* Compared as the kernel takes them: as 32 bits. */
#define ALL_BITS UINT32_MAX
#define TYPE_BITS (ALL_BITS & ~(uint64_t)(SOCK_CLOEXEC | SOCK_NONBLOCK)) /* of a socket */

static const struct condition worker_conditions[] = {
	{ SCMP_SYS(openat), 2, WRITING_FLAGS, O_RDONLY },
	{ SCMP_SYS(open), 1, WRITING_FLAGS, O_RDONLY },
	{ SCMP_SYS(mmap), 2, PROT_EXEC, 0 },
	{ SCMP_SYS(mmap2), 2, PROT_EXEC, 0 },
	{ SCMP_SYS(mprotect), 2, PROT_EXEC, 0 },
	{ SCMP_SYS(ioctl), 1, ALL_BITS, FIONREAD },
	{ SCMP_SYS(ioctl), 1, ALL_BITS, FIONBIO },
	{ SCMP_SYS(ioctl), 1, ALL_BITS, TCGETS }, /* isatty */
	{ SCMP_SYS(prctl), 0, ALL_BITS, PR_SET_NAME },
	{ SCMP_SYS(prctl), 0, ALL_BITS, PR_GET_NAME },
	{ SCMP_SYS(prctl), 0, ALL_BITS, PR_SET_VMA },
	{ SCMP_SYS(prctl), 0, ALL_BITS, PR_GET_DUMPABLE },
	/* Limits are asked for, and not set. */
	{ SCMP_SYS(prlimit64), 2, UINT64_MAX, 0 },
	/* Threads of ours, no processes. */
	{ SCMP_SYS(clone), 0, ALL_NAMESPACES | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
	  CLONE_VM | CLONE_SIGHAND | CLONE_THREAD },
};

static const struct condition network_conditions[] = {
	{ SCMP_SYS(socketpair), 0, ALL_BITS, AF_UNIX },
	/* if_nametoindex, of a name server or an address with a scope: fe80::1%eth0 */
	{ SCMP_SYS(ioctl), 1, ALL_BITS, SIOCGIFINDEX },
	{ SCMP_SYS(ioctl), 1, ALL_BITS, SIOCGIFNAME },
};

/* What sockets there may be: what the mask leaves of the last argument is the value. */
static const struct socket_kind {
	int domain;
	unsigned arg;
	uint64_t mask, value;
} socket_kinds[] = {
	{ AF_INET, 1, TYPE_BITS, SOCK_STREAM }, { AF_INET, 1, TYPE_BITS, SOCK_DGRAM },
	{ AF_INET6, 1, TYPE_BITS, SOCK_STREAM }, { AF_INET6, 1, TYPE_BITS, SOCK_DGRAM },
	{ AF_UNIX, 1, TYPE_BITS, SOCK_STREAM }, { AF_UNIX, 1, TYPE_BITS, SOCK_DGRAM },
	/* The name service asks which addresses this machine has. */
	{ AF_NETLINK, 2, ALL_BITS, NETLINK_ROUTE },
};

static const struct condition notifier_conditions[] = {
	{ SCMP_SYS(openat), 2, O_PATH | O_CREAT, O_PATH },
	{ SCMP_SYS(unlinkat), 2, ALL_BITS, 0 },
	{ SCMP_SYS(mknodat), 2, ALL_BITS, S_IFREG | 0400 },
};

static int allow_calls(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	return err;
}

static int allow_conditions(scmp_filter_ctx ctx, const struct condition *c, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, c[i].call, 1,
		                       SCMP_CMP64(c[i].arg, SCMP_CMP_MASKED_EQ, c[i].mask, c[i].value));
	return err;
}

/* abort() and pthread_kill(): to ourselves. */
static int allow_own_signals(scmp_filter_ctx ctx)
{
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
	                        SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, ALL_BITS, (uint64_t)getpid()));
}

static int network_rules(scmp_filter_ctx ctx)
{
	int err = allow_calls(ctx, network_calls, sizeof(network_calls) / sizeof(network_calls[0]));

	if (!err)
		err = allow_conditions(ctx, network_conditions, sizeof(network_conditions) / sizeof(network_conditions[0]));
	for (size_t i = 0; i < sizeof(socket_kinds) / sizeof(socket_kinds[0]) && !err; i++) {
		const struct socket_kind *k = &socket_kinds[i];

		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
		                       SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, ALL_BITS, (uint64_t)k->domain),
		                       SCMP_CMP64(k->arg, SCMP_CMP_MASKED_EQ, k->mask, k->value));
	}
	return err;
}

static int worker_rules(scmp_filter_ctx ctx, bool read_only, bool network)
{
	int err = allow_calls(ctx, worker_calls, sizeof(worker_calls) / sizeof(worker_calls[0]));

	if (!err)
		err = allow_conditions(ctx, worker_conditions,
		                       sizeof(worker_conditions) / sizeof(worker_conditions[0]));
	if (!err && network)
		err = network_rules(ctx);
	/* No code comes in: what would load a library late fails, and goes without. */
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(mmap), 1,
		                       SCMP_CMP64(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
	/* A filter sees no flags of these, which lie in memory. libc takes the older call instead. */
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (!err)
		err = seccomp_rule_add(ctx, read_only ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS),
		                       SCMP_SYS(openat2), 0);
	return err;
}

static int notifier_rules(scmp_filter_ctx ctx)
{
	int err = allow_conditions(ctx, notifier_conditions,
	                           sizeof(notifier_conditions) / sizeof(notifier_conditions[0]));

	return err ? err : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(utimensat), 0);
}

/* With what both have. TSYNC: should a library have started a thread before us, it is not left out. */
static int load(scmp_filter_ctx ctx)
{
	int err = allow_calls(ctx, common_calls, sizeof(common_calls) / sizeof(common_calls[0]));

	if (!err)
		err = allow_own_signals(ctx);
	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	return err ? err : seccomp_load(ctx);
}

int filter_worker(bool read_only, bool network)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err;

	if (!ctx)
		return -ENOMEM;
	err = worker_rules(ctx, read_only, network);
	if (!err)
		err = load(ctx);
	seccomp_release(ctx);
	return err;
}

int filter_notifier(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err;

	if (!ctx)
		return -ENOMEM;
	err = notifier_rules(ctx);
	if (!err)
		err = load(ctx);
	seccomp_release(ctx);
	return err;
}
