/*
 * connectfs SOURCE MOUNTPOINT: mounts. What stands after -o is what mount(8), fstab and sshfs
 * users type, and our own settings without their prefix.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/spell.h"
#include "cli/cli.h"
#include "daemon/daemon.h"

#define OWN_PREFIX "connectfs."

/* Those that change nothing: they are for mount(8) itself, or say what is so in any case (nosuid,
 * nodev, permissions checked by the kernel, read-only towards readers, no atime). dev and suid are
 * among them since mount(8) adds them for root; they never weaken the mount. ro does not go to
 * the kernel, which would then refuse the notifier's touch. */
static const char *const accepted[] = {
	"default_permissions", "ro", "rw", "_netdev", "nofail", "auto", "noauto", "user", "users", "nouser",
	"owner", "group", "defaults", "dev", "nodev", "suid", "nosuid", "exec", "async", "sync", "dirsync",
	"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime",
	"nostrictatime", "lazytime", "nolazytime", "iversion", "noiversion", "silent", "loud", "nonempty",
	"auto_unmount",
};

/* What others call it, or can't be had, and what to do. */
static const struct {
	const char *name, *advice;
} advices[] = {
	{ "allow_root", "it is not offered; use allow_other, and say by owner, group and mode who may "
	  "read" },
	{ "uid", "write owner=USER" },
	{ "gid", "write group=GROUP" },
	{ "umask", "write mode=0440 or the like" },
	{ "remount", "a mount can't be changed in this version; unmount it and mount it again" },
	{ "subtype", "it is always connectfs" },
};

static bool is_accepted(const char *name)
{
	for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++)
		if (strcmp(accepted[i], name) == 0)
			return true;
	return strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0;
}

/* One edit away? Of a single character anything is. */
static bool is_near(const char *a, const char *b)
{
	return a[0] && a[1] && spell_distance(a, b) <= 1;
}

static const char *near_option(const char *name)
{
	static const char *const others[] = {
		"allow_other", "noexec", "fsname", "comment", "mode", "fresh.ms", "poll.ms", "stale.ms",
		"max.rps", "wait.ms", "warm", "settle.ms", "unresolved", "notify", "memory.lock", "run.user",
		"run.group", "log.level", "store.directory", "audit",
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (is_near(name, others[i]))
			return others[i];
	for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++)
		if (is_near(name, accepted[i]))
			return accepted[i];
	return NULL;
}

static int unknown_option(const char *name, struct error *ret_err)
{
	const char *meant;

	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
		if (strcmp(advices[i].name, name) == 0)
			return error_set(ret_err, EINVAL, "-o %s: %s", name, advices[i].advice);
	meant = near_option(name);
	if (meant)
		return error_set(ret_err, EINVAL, "-o %s: there is no such option; did you mean %s?", name,
		                 meant);
	return error_set(ret_err, EINVAL, "-o %s: there is no such option; connectfs(8) lists them", name);
}

/* A setting of ours, name without its prefix. */
static int own_setting(const char *name, const char *value, struct cli_settings *settings)
{
	struct settings_override *items = realloc(settings->items, (settings->len + 1) * sizeof(*items));
	struct settings_override o = { NULL, strdup(value) };

	if (items)
		settings->items = items;
	if (asprintf(&o.key, OWN_PREFIX "%s", name) < 0)
		o.key = NULL;
	if (!items || !o.key || !o.value) {
		free(o.key);
		free(o.value);
		return -ENOMEM;
	}
	settings->items[settings->len++] = o;
	return 0;
}

/* One option; value is NULL where there was no '='. */
static int take_option(const char *name, const char *value, struct cli_mount_options *ret,
                       struct cli_settings *settings, struct error *ret_err)
{
	bool prefixed = strncmp(name, OWN_PREFIX, strlen(OWN_PREFIX)) == 0;
	const char *own = prefixed ? name + strlen(OWN_PREFIX) : name;

	if (value && settings_is_own_key(own))
		return own_setting(own, value, settings);
	if (value && strcmp(name, "fsname") == 0) {
		char *copy = strdup(value);
		if (!copy)
			return -ENOMEM;
		free(ret->fsname);
		ret->fsname = copy;
		return 0;
	}
	if (strcmp(name, "comment") == 0 || (value && strncasecmp(name, "x-", 2) == 0))
		return 0;
	if (value && (is_accepted(name) || strcmp(name, "allow_other") == 0 || strcmp(name, "noexec") == 0))
		return error_set(ret_err, EINVAL, "-o %s: it takes no value", name);
	if (strcmp(name, "allow_other") == 0) {
		ret->allow_other = true;
	} else if (strcmp(name, "noexec") == 0 || strcmp(name, "exec") == 0) {
		ret->noexec = *name == 'n'; /* the last one counts, as for mount(8) */
	} else if (strcmp(name, "warm") == 0) {
		return own_setting("warm", "true", settings);
	} else if (!is_accepted(name)) {
		if (settings_is_own_key(own) || strcmp(name, "fsname") == 0)
			return error_set(ret_err, EINVAL, "-o %s: it needs a value: %s=VALUE", name, name);
		return unknown_option(name, ret_err);
	}
	return 0;
}

int cli_mount_parse(const char *arg, struct cli_mount_options *ret, struct cli_settings *settings,
                    struct error *ret_err)
{
	char *part = malloc(strlen(arg) + 1);
	int r = 0;

	if (!part)
		return -ENOMEM;
	for (const char *p = arg; r == 0 && *p;) {
		size_t len = 0;
		for (; *p && *p != ','; p++) {
			if (*p == '\\' && (p[1] == ',' || p[1] == '\\'))
				p++;
			part[len++] = *p;
		}
		part[len] = '\0';
		p += *p == ',';
		if (len == 0)
			continue; /* ",," as fstab editors leave it */
		char *equals = strchr(part, '=');
		if (equals)
			*equals = '\0';
		r = take_option(part, equals ? equals + 1 : NULL, ret, settings, ret_err);
	}
	free(part);
	return r;
}

static int run(const char *source, const char *mountpoint, struct daemon_options *options,
               const struct cli_mount_options *mount, const struct cli_settings *settings)
{
	options->source = source;
	options->mountpoint = mountpoint;
	options->overrides = settings->items;
	options->n_overrides = settings->len;
	options->mount.allow_other = mount->allow_other;
	options->mount.fsname = mount->fsname ? mount->fsname : source;
	options->mount.kernel = mount->noexec ? "noexec" : NULL;
	return daemon_run(options);
}

static int take_arguments(int argc, char **argv, struct daemon_options *options,
                          struct cli_mount_options *mount, struct cli_settings *settings)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct error err = ERROR_INIT;
	int c, r, status = 0;

	while (status == 0 && (c = getopt_long(argc, argv, "fdo:s:h", long_options, NULL)) != -1) {
		if (c == 'f') {
			options->foreground = true;
		} else if (c == 'd') {
			options->foreground = options->debug = true; /* as libfuse's -d */
		} else if (c == 's') {
			status = cli_settings_add(settings, optarg);
		} else if (c == 'o') {
			r = cli_mount_parse(optarg, mount, settings, &err);
			if (r < 0)
				status = r == -ENOMEM ? cli_no_memory() : cli_usage("%s", err.text);
		} else {
			status = cli_option(c);
			return status ? status : -1;
		}
	}
	if (status == 0 && argc - optind != 2)
		status = cli_usage("give SOURCE and MOUNTPOINT, or a verb; try 'connectfs --help'");
	return status;
}

int cli_mount(int argc, char **argv)
{
	struct daemon_options options = { 0 };
	struct cli_mount_options mount = { false, false, NULL };
	struct cli_settings settings = { NULL, 0 };
	int status = take_arguments(argc, argv, &options, &mount, &settings); /* -1: helped, and done */

	if (status == 0)
		status = run(argv[optind], argv[optind + 1], &options, &mount, &settings);
	free(mount.fsname);
	cli_settings_done(&settings);
	return status < 0 ? 0 : status;
}
