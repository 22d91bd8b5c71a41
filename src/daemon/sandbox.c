/*
 * The sandbox. The parts: capabilities, which directories may be read, Landlock, entering it.
 */
#include "daemon/sandbox.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "daemon/filter.h"

enum { SYMLINKS_MAX = 40 }; /* as the kernel */

#define ETC "/etc/"
#define RESOLV_CONF ETC "resolv.conf"

#if defined(WITH_SANITIZERS)
static const char *const seccomp_left_out = "this build has sanitizers, which need other system calls";
#elif defined(WITH_COVERAGE)
static const char *const seccomp_left_out = "this build writes files at its end, to count lines";
#else
static const char *const seccomp_left_out = NULL;
#endif

#ifdef WITH_COVERAGE
enum { LANDLOCK_LEFT_OUT = 1 };
#else
enum { LANDLOCK_LEFT_OUT = 0 };
#endif

void sandbox_init(struct sandbox *s)
{
	*s = (struct sandbox){ .dirs = NULL };
	for (int i = 0; i < SANDBOX_PARTS; i++)
		snprintf(s->lacks[i], SANDBOX_WHY_SIZE, "not entered");
}

void sandbox_done(struct sandbox *s)
{
	for (size_t i = 0; i < s->n_dirs; i++)
		close(s->dirs[i]);
	free(s->dirs);
	s->dirs = NULL;
	s->n_dirs = 0;
}

const char *sandbox_part_name(enum sandbox_part part)
{
	static const char *const names[SANDBOX_PARTS] = {
		[SANDBOX_SECCOMP] = "seccomp",
		[SANDBOX_FILES] = "files",
		[SANDBOX_NETWORK] = "network",
		[SANDBOX_CAPABILITIES] = "capabilities",
		[SANDBOX_NO_NEW_PRIVS] = "no_new_privs",
		[SANDBOX_NOT_DUMPABLE] = "not_dumpable",
	};

	return names[part];
}

/* why NULL: it is in force. */
static void tell(struct sandbox *s, enum sandbox_part part, const char *why)
{
	snprintf(s->lacks[part], SANDBOX_WHY_SIZE, "%s", why ? why : "");
}

/* ---- Capabilities ----------------------------------------------------------------------- */

struct caps {
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
};

static bool permitted(const struct caps *c, unsigned cap)
{
	return c->data[CAP_TO_INDEX(cap)].permitted & CAP_TO_MASK(cap);
}

/* The bounding set, while CAP_SETPCAP can be had; without it what is in there can't be gained, as there
 * is no_new_privs. */
static void drop_bounding(struct caps *c)
{
	if (!permitted(c, CAP_SETPCAP))
		return;
	c->data[CAP_TO_INDEX(CAP_SETPCAP)].effective |= CAP_TO_MASK(CAP_SETPCAP);
	if (syscall(SYS_capset, &c->head, c->data) != 0)
		return;
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (cap != CAP_IPC_LOCK)
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static int drop_capabilities(bool keep_lock)
{
	struct caps c = { .head = { .version = _LINUX_CAPABILITY_VERSION_3 } };
	struct __user_cap_data_struct *lock = &c.data[CAP_TO_INDEX(CAP_IPC_LOCK)];

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_capget, &c.head, c.data) != 0)
		return -errno;
	drop_bounding(&c);
	keep_lock = keep_lock && permitted(&c, CAP_IPC_LOCK);
	memset(c.data, 0, sizeof(c.data)); /* the ambient set is never more than the inheritable */
	if (keep_lock)
		lock->permitted = lock->effective = CAP_TO_MASK(CAP_IPC_LOCK);
	return syscall(SYS_capset, &c.head, c.data) == 0 ? 0 : -errno;
}

static int drop(struct sandbox *s, bool keep_lock)
{
	int err = drop_capabilities(keep_lock);

	tell(s, SANDBOX_CAPABILITIES, err ? strerror(-err) : NULL);
	tell(s, SANDBOX_NO_NEW_PRIVS, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? NULL : "the kernel refused it");
	return err;
}

int sandbox_drop_capabilities(struct sandbox *s)
{
	return drop(s, true);
}

/* ---- Which directories ------------------------------------------------------------------- */

static int add_directory(struct sandbox *s, int fd)
{
	int *bigger;

	if (s->n_dirs == SANDBOX_DIRS_MAX) {
		close(fd);
		return -E2BIG;
	}
	bigger = realloc(s->dirs, (s->n_dirs + 1) * sizeof(*bigger));
	if (!bigger) {
		close(fd);
		return -ENOMEM;
	}
	s->dirs = bigger;
	s->dirs[s->n_dirs++] = fd;
	return 0;
}

/* at: without symlinks. Goes up to what is a directory, but not to "/". */
static int add_nearest(struct sandbox *s, const char *at)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", at);
	while (path[0] && path[1]) {
		int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd >= 0)
			return add_directory(s, fd);
		*strrchr(path, '/') = '\0';
	}
	return 0;
}

/* The walk along a path. */
struct way {
	char at[PATH_MAX];   /* where we are: without symlinks, "" for the root */
	char rest[PATH_MAX]; /* what is still to go */
	int links;
};

/* The target of the link at w->at takes its place. False: that is no path. */
static bool follow(struct way *w, const char *target)
{
	char rest[PATH_MAX];

	if (++w->links > SYMLINKS_MAX ||
	    (size_t)snprintf(rest, sizeof(rest), "%s/%s", target, w->rest) >= sizeof(rest))
		return false;
	strcpy(w->rest, rest);
	if (target[0] == '/')
		w->at[0] = '\0';
	else
		*strrchr(w->at, '/') = '\0';
	return true;
}

static int allow(struct sandbox *s, const char *path, int links);

/* The directory in which the target lies; not "/", for a link such as /var/run. */
static int allow_beside(struct sandbox *s, const struct way *w, const char *target)
{
	char path[PATH_MAX], normal[PATH_MAX];
	const char *slash;
	int n;

	if (target[0] == '/')
		n = snprintf(path, sizeof(path), "%s/..", target);
	else
		n = snprintf(path, sizeof(path), "%.*s/%s/..", (int)(strrchr(w->at, '/') - w->at), w->at, target);
	if (n < 0 || (size_t)n >= sizeof(path) || file_normalize(path, normal, sizeof(normal)) != 0)
		return 0;
	slash = strchr(normal, '/');
	return !slash || !slash[1] ? 0 : allow(s, normal, w->links + 1);
}

/* One step; 1: on, 0: at is the end, or -errno. */
static int step(struct sandbox *s, struct way *w)
{
	char *name = w->rest + strspn(w->rest, "/"), target[PATH_MAX];
	size_t len = strcspn(name, "/"), at = strlen(w->at);
	ssize_t n;

	if (len == 0)
		return 0;
	if (strncmp(name, "..", len) == 0) { /* and "." */
		char *slash = len == 2 ? strrchr(w->at, '/') : NULL;

		if (slash)
			*slash = '\0';
	} else if (at + 1 + len >= sizeof(w->at)) {
		return 0;
	} else {
		w->at[at] = '/';
		memcpy(w->at + at + 1, name, len);
		w->at[at + 1 + len] = '\0';
	}
	memmove(w->rest, name + len, strlen(name + len) + 1);
	if (!w->at[0])
		return 1;
	if (file_is_own_mountpoint(w->at)) { /* it is refused in any case, and would wait for ourselves */
		w->at[0] = '\0';
		return 0;
	}
	n = readlink(w->at, target, sizeof(target) - 1);
	if (n <= 0)
		return n < 0 && errno == EINVAL; /* no link, or nothing there */
	target[n] = '\0';
	n = allow_beside(s, w, target);
	if (n == 0 && follow(w, target))
		return 1;
	w->at[0] = '\0'; /* it leads nowhere */
	return (int)n;
}

static int allow(struct sandbox *s, const char *path, int links)
{
	struct way w = { .at = "", .links = links };
	int r;

	if (links > SYMLINKS_MAX || strlen(path) >= sizeof(w.rest))
		return 0;
	strcpy(w.rest, path);
	while ((r = step(s, &w)) == 1)
		;
	return r < 0 ? r : add_nearest(s, w.at);
}

int sandbox_allow(struct sandbox *s, const char *path)
{
	char normal[PATH_MAX];

	if (path[0] != '/')
		return 0;
	if (file_normalize(path, normal, sizeof(normal)) == 0 && strcmp(normal, "/") == 0) {
		int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

		s->everywhere = true;
		return fd < 0 ? -errno : add_directory(s, fd);
	}
	return allow(s, path, 0);
}

/* What the file leads to: itself where that lies in /etc, which is not for us, else the directory that it lies in. */
static int allow_file(struct sandbox *s, const char *path)
{
	char real[PATH_MAX];
	int fd;

	if (!realpath(path, real))
		return 0;
	if (strncmp(real, ETC, strlen(ETC)) != 0 || strchr(real + strlen(ETC), '/'))
		return sandbox_allow(s, real);
	fd = open(real, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? 0 : add_directory(s, fd);
}

static bool readable(const char *path, int *ret_errno)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	*ret_errno = errno;
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int sandbox_allow_network(struct sandbox *s)
{
	static const char *const files[] = {
		RESOLV_CONF, ETC "hosts", ETC "host.conf", ETC "nsswitch.conf", ETC "gai.conf", ETC "services",
	};
	int err = 0, why;

	s->network = true;
	s->names = readable(RESOLV_CONF, &why);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && !err; i++)
		err = allow_file(s, files[i]);
	return err;
}

bool sandbox_is_outdated(const struct sandbox *s)
{
	int why;

	return s->names && !readable(RESOLV_CONF, &why) && why == EACCES;
}

/* ---- Landlock --------------------------------------------------------------------------- */

/* As of ABI 6; the headers of the distribution may be older. */
struct ruleset {
	uint64_t fs;
	uint64_t net;    /* ABI 4 */
	uint64_t scoped; /* ABI 6 */
};

enum {
	READING = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
	NET_BIND = 1, NET_CONNECT = 2, /* TCP */
	SCOPE_SIGNALS_AND_ABSTRACT = 3,
};

/* The version, or -errno. */
static int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? -errno : (int)abi;
}

/* Each right that the kernel knows to withhold. */
static struct ruleset all_rights(int abi)
{
	/* ABI 1 has 13; 2 adds moving to another directory, 3 truncating, 5 ioctl on devices. */
	int n = abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13;

	return (struct ruleset){
		.fs = (UINT64_C(1) << n) - 1,
		.net = abi >= 4 ? NET_BIND | NET_CONNECT : 0,
		.scoped = abi >= 6 ? SCOPE_SIGNALS_AND_ABSTRACT : 0,
	};
}

/* Withholds all but what free has, for good; reading is left below the dirs. A directory that the kernel
 * takes no rule for is left out. 0 or -errno. */
static int enter_landlock(int abi, uint64_t free_rights, bool connect, const int *dirs, size_t n)
{
	struct ruleset all = all_rights(abi);
	size_t size = abi >= 6 ? sizeof(all) : abi >= 4 ? offsetof(struct ruleset, scoped) :
	              offsetof(struct ruleset, net);
	int fd, err = 0;

	all.fs &= ~free_rights;
	if (connect)
		all.net &= ~(uint64_t)NET_CONNECT;
	fd = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < n; i++) {
		struct landlock_path_beneath_attr rule = { .allowed_access = READING, .parent_fd = dirs[i] };
		struct stat st;

		if (fstat(dirs[i], &st) == 0 && !S_ISDIR(st.st_mode))
			rule.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
		(void)!syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	}
	if (syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		err = -errno;
	close(fd);
	return err;
}

static const char *landlock_why(int err)
{
	if (LANDLOCK_LEFT_OUT)
		return seccomp_left_out;
	if (err == -ENOSYS)
		return "not confined: this kernel has no Landlock";
	if (err == -EOPNOTSUPP)
		return "not confined: Landlock is switched off in this kernel (lsm= of its command line)";
	return "not confined: the kernel refused Landlock";
}

/* ---- Entering --------------------------------------------------------------------------- */

/* What programs read in general: messages, time zones, libraries; and of ourselves where descriptors and mounts
 * are. Not /proc/self, whose directory is another one when the kernel has forgotten it meanwhile; of other
 * processes Landlock shows nothing but what all may see. Not /etc, which has the hashes of passwords as well. */
static int allow_common(struct sandbox *s)
{
	static const char *const common[] = { "/usr", "/proc", "/sys/devices/system/cpu" };
	int err = 0;

	for (size_t i = 0; i < sizeof(common) / sizeof(common[0]) && !err; i++)
		err = sandbox_allow(s, common[i]);
	return err;
}

/* What libc reads when it is needed first: the time zone, from /etc (for localtime_r), and a library when a thread
 * is cancelled, since no code comes in later. The handle stays. */
static void load_late(void)
{
	tzset();
	(void)!dlopen("libgcc_s.so.1", RTLD_NOW);
}

/* abi: as landlock_abi() has it; free_rights: as enter_landlock. */
static void enter_files(struct sandbox *s, int abi, uint64_t free_rights)
{
	int err = abi < 0 ? abi : enter_landlock(abi, free_rights, s->network, s->dirs, s->n_dirs);

	if (err)
		tell(s, SANDBOX_FILES, landlock_why(err));
	else if (s->everywhere)
		tell(s, SANDBOX_FILES, "not confined, set allowed.paths");
	else
		tell(s, SANDBOX_FILES, NULL);
	s->causes[SANDBOX_FILES] = !err && s->everywhere ? SANDBOX_SETTINGS : LANDLOCK_LEFT_OUT ? SANDBOX_BUILD :
	                           SANDBOX_KERNEL;
	if (s->network) {
		s->causes[SANDBOX_NETWORK] = SANDBOX_SETTINGS;
		tell(s, SANDBOX_NETWORK, "a provider makes connections");
		return;
	}
	s->causes[SANDBOX_NETWORK] = LANDLOCK_LEFT_OUT ? SANDBOX_BUILD : SANDBOX_KERNEL;
	tell(s, SANDBOX_NETWORK, err ? landlock_why(err) : abi < 4 ?
	     "not confined: Landlock of this kernel knows files only" : NULL);
}

/* Before the filter, which may kill who asks. */
static void look_at_dumpable(struct sandbox *s)
{
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)
		tell(s, SANDBOX_NOT_DUMPABLE, NULL);
}

/* err: what the filter said, where the build has one. */
static void tell_filter(struct sandbox *s, int err)
{
	s->causes[SANDBOX_SECCOMP] = seccomp_left_out ? SANDBOX_BUILD : SANDBOX_KERNEL;
	tell(s, SANDBOX_SECCOMP, seccomp_left_out ? seccomp_left_out : !err ? NULL : err == -ENOSYS || err == -EINVAL ?
	     "this kernel has no seccomp filters" : strerror(-err));
	if (!s->lacks[SANDBOX_SECCOMP][0] && !s->network)
		tell(s, SANDBOX_NETWORK, NULL); /* no socket at all */
}

int sandbox_require(const struct sandbox *s, struct error *ret_err)
{
	char text[ERROR_TEXT_MAX] = "";
	size_t len = 0;

	for (int i = 0; i < SANDBOX_PARTS && len < sizeof(text); i++)
		if (s->lacks[i][0] && s->causes[i] != SANDBOX_SETTINGS)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s: %s", len ? "; " : "",
			                        sandbox_part_name((enum sandbox_part)i), s->lacks[i]);
	if (!text[0])
		return 0;
	return error_set(ret_err, ENOTSUP, "not all protections can be had: %s", text);
}

int sandbox_enter(struct sandbox *s, bool require, struct error *ret_err)
{
	int abi = LANDLOCK_LEFT_OUT ? -ECANCELED : landlock_abi(), err;

	err = allow_common(s);
	if (err)
		return error_set(ret_err, -err, "%s", strerror(-err));
	load_late();
	enter_files(s, abi, 0);
	sandbox_done(s); /* descriptors of directories are a way out of a sandbox */
	look_at_dumpable(s);
	if (!seccomp_left_out)
		err = filter_worker(s->causes[SANDBOX_FILES] == SANDBOX_SETTINGS || !s->lacks[SANDBOX_FILES][0], s->network);
	if (err == -ENOMEM)
		return error_set(ret_err, ENOMEM, "out of memory");
	tell_filter(s, err);
	return require ? sandbox_require(s, ret_err) : 0;
}

/* Without a rule: what it opens it opens by O_PATH, which Landlock does not look at, as little as at setting
 * times. A rule would need a descriptor of the mount, which could hang here and would keep it busy; so making
 * and removing names is left free, and the filter narrows that to regular files. */
int sandbox_enter_notifier(struct sandbox *s)
{
	int err = drop(s, false);

	if (err)
		return err;
	look_at_dumpable(s);
	if (seccomp_left_out) { /* a sanitizer looks into /proc at the end */
		tell(s, SANDBOX_FILES, seccomp_left_out);
		tell(s, SANDBOX_NETWORK, seccomp_left_out);
		s->causes[SANDBOX_FILES] = s->causes[SANDBOX_NETWORK] = SANDBOX_BUILD;
	} else {
		enter_files(s, landlock_abi(), LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE);
		err = filter_notifier();
	}
	tell_filter(s, err);
	return 0;
}
