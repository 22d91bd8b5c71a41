/*
 * Settings: what stands in the file and in the overrides is gathered into one table by key (the
 * last one counts), then our own keys are read by a table of parsers, then the providers.
 */
#include "core/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/spell.h"
#include "format/limits.h"
#include "format/properties.h"
#include "provider/registry.h"

#define OWN_PREFIX "connectfs."
#define PROVIDERS "config.providers"
#define PROVIDERS_PREFIX PROVIDERS "."

enum { SETTINGS_BYTES_MAX = 1024 * 1024 }; /* no worker's file comes near it */
#define MS_MAX INT64_C(315360000000)       /* ten years: what is meant to be longer is "for ever" */

struct entry {
	char *key;
	struct slice value;
	const char *file; /* as messages name it; NULL: an override or a default */
	unsigned line;
	char *place;      /* "-s KEY", NULL: none */
	bool override, builtin;
};

struct loader {
	struct settings *s;
	struct report *report;
	struct buf text;
	struct properties props;
	struct entry *entries;
	size_t len, cap;
	struct strmap *map; /* key → the entry that counts */
	bool bad;           /* an error has been reported */
};

struct key_def;
typedef int parse_fn(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                     void *base);

struct key_def {
	const char *name;    /* without its prefix */
	parse_fn *parse;
	size_t offset, flag; /* in base: the value, and whether it is set (0: no such flag) */
	int64_t min, max;
	const char *unit;
};

/* ---- findings ---- */

static void finding(struct loader *l, enum report_severity severity, const struct entry *e,
                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void finding(struct loader *l, enum report_severity severity, const struct entry *e,
                    const char *fmt, ...)
{
	struct error err = ERROR_INIT;
	va_list ap;

	va_start(ap, fmt);
	error_vset(&err, EINVAL, fmt, ap);
	va_end(ap);
	if (severity == REPORT_ERROR)
		l->bad = true;
	if (!e)
		report_add(l->report, severity, l->s->source, 0, NULL, "%s", err.text);
	else if (e->place)
		report_add(l->report, severity, e->place, 0, NULL, "%s", err.text);
	else
		report_add(l->report, severity, e->file, e->line, e->key, "%s", err.text);
}

#define bad(l, e, ...) finding((l), REPORT_ERROR, (e), __VA_ARGS__)

/* ---- parsers: 0, or -ENOMEM; a bad value is reported and leaves the default ---- */

static void *field(void *base, size_t offset)
{
	return (char *)base + offset;
}

static bool parse_int64(const char *value, int64_t *ret)
{
	char *end;

	if (!*value || strspn(value, "-0123456789") != strlen(value))
		return false;
	errno = 0;
	long long n = strtoll(value, &end, 10);
	if (errno || *end)
		return false;
	*ret = n;
	return true;
}

static int parse_number(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                        void *base)
{
	int64_t n;

	if (parse_int64(value, &n) && n >= def->min && n <= def->max) {
		*(int64_t *)field(base, def->offset) = n;
		return 0;
	}
	if (def->min == -1)
		bad(l, e, "'%s' is not a whole number of %s from 0 to %lld, or -1 for ever", value, def->unit,
		    (long long)def->max);
	else
		bad(l, e, "'%s' is not a whole number of %s from %lld to %lld", value, def->unit,
		    (long long)def->min, (long long)def->max);
	return 0;
}

static int parse_bool(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                      void *base)
{
	bool yes = strcasecmp(value, "true") == 0; /* as Kafka's ConfigDef, which takes TRUE */

	if (yes || strcasecmp(value, "false") == 0)
		*(bool *)field(base, def->offset) = yes;
	else
		bad(l, e, "'%s' is neither true nor false", value);
	return 0;
}

/* A number that is a user's or group's id; -1 is no id. */
static bool parse_id(const char *value, unsigned *ret)
{
	int64_t n;

	if (!parse_int64(value, &n) || n < 0 || n >= UINT32_MAX)
		return false;
	*ret = (unsigned)n;
	return true;
}

static int parse_user(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                      void *base)
{
	unsigned id;

	if (!parse_id(value, &id)) {
		struct passwd *pw = *value ? getpwnam(value) : NULL;
		if (!pw) {
			bad(l, e, "there is no user '%s' on this host; give a user's name or number", value);
			return 0;
		}
		id = pw->pw_uid;
	}
	*(uid_t *)field(base, def->offset) = id;
	*(bool *)field(base, def->flag) = true;
	return 0;
}

static int parse_group(struct loader *l, const struct key_def *def, const struct entry *e,
                       const char *value, void *base)
{
	unsigned id;

	if (!parse_id(value, &id)) {
		struct group *gr = *value ? getgrnam(value) : NULL;
		if (!gr) {
			bad(l, e, "there is no group '%s' on this host; give a group's name or number",
			    value);
			return 0;
		}
		id = gr->gr_gid;
	}
	*(gid_t *)field(base, def->offset) = id;
	*(bool *)field(base, def->flag) = true;
	return 0;
}

static int parse_mode(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                      void *base)
{
	size_t len = strlen(value);

	if (len == 0 || len > 5 || strspn(value, "01234567") != len) {
		bad(l, e, "'%s' is no octal mode; write one like 0400 or 0440", value);
		return 0;
	}
	unsigned long mode = strtoul(value, NULL, 8);
	if (mode & ~0444ul)
		bad(l, e, "'%s' has bits other than read, and the files can only be read; write 0%03lo",
		    value, (mode & 0444) | 0400);
	else if (!(mode & 0400))
		bad(l, e, "'%s' keeps the owner from reading; write 0%03lo", value, mode | 0400);
	else
		*(mode_t *)field(base, def->offset) = (mode_t)mode;
	return 0;
}

static int parse_unresolved(struct loader *l, const struct key_def *def, const struct entry *e,
                            const char *value, void *base)
{
	if (strcmp(value, "fail") == 0 || strcmp(value, "keep") == 0)
		*(bool *)field(base, def->offset) = strcmp(value, "keep") == 0;
	else
		bad(l, e, "'%s' is neither fail nor keep", value);
	return 0;
}

static int parse_lock(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                      void *base)
{
	enum secmem_lock *lock = field(base, def->offset);

	if (strcmp(value, "try") == 0)
		*lock = SECMEM_LOCK_TRY;
	else if (strcmp(value, "require") == 0)
		*lock = SECMEM_LOCK_REQUIRE;
	else
		bad(l, e, "'%s' is neither try nor require", value);
	return 0;
}

static int parse_sandbox(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                         void *base)
{
	if (strcmp(value, "try") == 0 || strcmp(value, "require") == 0)
		*(bool *)field(base, def->offset) = strcmp(value, "require") == 0;
	else
		bad(l, e, "'%s' is neither try nor require", value);
	return 0;
}

static int parse_proxy(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                       void *base)
{
	if (strcmp(value, "none") == 0 || strcmp(value, "environment") == 0)
		*(bool *)field(base, def->offset) = strcmp(value, "environment") == 0;
	else
		bad(l, e, "'%s' is neither none nor environment", value);
	return 0;
}

static int parse_level(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                       void *base)
{
	int level = log_level_parse(value);

	if (level < 0)
		bad(l, e, "'%s' is none of error, warn, info, debug", value);
	else
		*(enum log_level *)field(base, def->offset) = (enum log_level)level;
	return 0;
}

static int parse_store(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                       void *base)
{
	(void)def;
	(void)base;
	if (strcmp(value, "rest") == 0 || strcmp(value, "topic") == 0)
		bad(l, e, "this build has only the directory store; set it to directory, and "
		    OWN_PREFIX "store.directory to where the stored configs lie");
	else if (strcmp(value, "directory") != 0)
		bad(l, e, "'%s' is no store; this build has only directory", value);
	return 0;
}

/* Names files of stores that have no names of their own; the directory store has them. */
static int parse_format(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                        void *base)
{
	(void)def;
	(void)base;
	if (strcmp(value, "properties") != 0 && strcmp(value, "json") != 0)
		bad(l, e, "'%s' is neither properties nor json", value);
	return 0;
}

/* The next part of a comma list, trimmed, at *pos; false at the end. */
static bool list_next(struct slice list, size_t *pos, struct slice *ret)
{
	static const char blanks[] = " \t\r\n\f\v";

	if (*pos > list.len)
		return false;
	size_t start = *pos, end = start;
	while (end < list.len && list.data[end] != ',')
		end++;
	*pos = end + 1;
	while (start < end && memchr(blanks, list.data[start], sizeof(blanks) - 1))
		start++;
	while (end > start && memchr(blanks, list.data[end - 1], sizeof(blanks) - 1))
		end--;
	*ret = slice_of(list.data + start, end - start);
	return true;
}

static int parse_notify(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                        void *base)
{
	unsigned notify = 0;
	size_t pos = 0;
	struct slice part;
	bool none = strcmp(value, "none") == 0, good = true, some = false;

	while (!none && list_next(slice_str(value), &pos, &part)) {
		some |= part.len > 0;
		if (slice_eq_str(part, "modify"))
			notify |= NOTIFY_MODIFY;
		else if (slice_eq_str(part, "attrib"))
			notify |= NOTIFY_ATTRIB;
		else if (part.len > 0)
			good = false;
	}
	if (!good || (!none && !some))
		bad(l, e, "'%s' is no list of modify and attrib; write modify,attrib or one of them, or none",
		    value);
	else
		*(unsigned *)field(base, def->offset) = notify;
	return 0;
}

/* An absolute form of path, below base where it is relative; NULL: out of memory. */
static char *absolute(const char *base, const char *path)
{
	char *ret;

	while (path[0] == '.' && path[1] == '/')
		path += 2 + strspn(path + 2, "/");
	if (strcmp(path, ".") == 0)
		path = "";
	if (*path == '/')
		ret = strdup(path);
	else if (asprintf(&ret, "%s/%s", strcmp(base, "/") == 0 ? "" : base, path) < 0)
		ret = NULL;
	if (ret)
		for (size_t n = strlen(ret); n > 1 && ret[n - 1] == '/'; n--)
			ret[n - 1] = '\0';
	return ret;
}

/* The same below the current directory. */
static int absolute_cwd(const char *path, char **ret)
{
	char *cwd = *path == '/' ? strdup("/") : getcwd(NULL, 0);

	if (!cwd)
		return -errno;
	*ret = absolute(cwd, path);
	free(cwd);
	return *ret ? 0 : -ENOMEM;
}

/* NULL, or why path is no directory that can be listed. */
static const char *directory_fault(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return errno == ENOTDIR ? "it is not a directory" : strerror(errno);
	close(fd);
	return NULL;
}

/* Relative to the settings file; from the command line, to where the command is given. */
static int parse_directory(struct loader *l, const struct key_def *def, const struct entry *e,
                           const char *value, void *base)
{
	struct settings *s = l->s;
	char *path = NULL;
	int r = 0;

	(void)def;
	(void)base;
	if (!*value) {
		bad(l, e, "it is empty; give the directory where the stored configs lie");
		return 0;
	}
	if (e->override || !s->file) {
		r = absolute_cwd(value, &path);
	} else {
		char *dir = strdup(s->file);
		if (dir) {
			char *slash = strrchr(dir, '/');
			slash[slash == dir] = '\0';
			path = absolute(dir, value);
			free(dir);
		}
		if (!path)
			r = -ENOMEM;
	}
	if (r < 0)
		return r;
	const char *fault = directory_fault(path);
	if (fault)
		bad(l, e, "can't list %s: %s; it must be the directory where the stored configs lie", path,
		    fault);
	free(s->directory);
	s->directory = path;
	return 0;
}

static int parse_audit(struct loader *l, const struct key_def *def, const struct entry *e, const char *value,
                       void *base)
{
	char **audit = field(base, def->offset), *copy = NULL;

	if (*value && *value != '/' && strcmp(value, "journal") != 0 && strcmp(value, "syslog") != 0) {
		bad(l, e, "'%s' is neither journal, nor syslog, nor the absolute path of a file", value);
		return 0;
	}
	if (*value && !(copy = strdup(value)))
		return -ENOMEM;
	free(*audit);
	*audit = copy;
	return 0;
}

/* ---- the keys ---- */

#define IN(member) offsetof(struct settings, member)

static const struct key_def own_keys[] = {
	{ "store", parse_store, 0, 0, 0, 0, NULL },
	{ "store.directory", parse_directory, 0, 0, 0, 0, NULL },
	{ "format", parse_format, 0, 0, 0, 0, NULL },
	{ "owner", parse_user, IN(owner), IN(owner_set), 0, 0, NULL },
	{ "group", parse_group, IN(group), IN(group_set), 0, 0, NULL },
	{ "mode", parse_mode, IN(mode), 0, 0, 0, NULL },
	{ "fresh.ms", parse_number, IN(refresh.fresh_ms), 0, 0, MS_MAX, "milliseconds" },
	{ "poll.ms", parse_number, IN(refresh.poll_ms), 0, 100, MS_MAX, "milliseconds" },
	{ "stale.ms", parse_number, IN(refresh.stale_ms), 0, -1, MS_MAX, "milliseconds" },
	{ "max.rps", parse_number, IN(refresh.max_rps), 0, 1, 1000000, "requests a second" },
	{ "wait.ms", parse_number, IN(wait_ms), 0, 1, 3600000, "milliseconds" },
	{ "http.connections", parse_number, IN(http_connections), 0, 1, 1024, "connections" },
	{ "http.proxy", parse_proxy, IN(http_env_proxy), 0, 0, 0, NULL },
	{ "warm", parse_bool, IN(warm), 0, 0, 0, NULL },
	{ "settle.ms", parse_number, IN(settle_ms), 0, 0, 60000, "milliseconds" },
	{ "unresolved", parse_unresolved, IN(unresolved_keep), 0, 0, 0, NULL },
	{ "notify", parse_notify, IN(notify), 0, 0, 0, NULL },
	{ "memory.lock", parse_lock, IN(lock), 0, 0, 0, NULL },
	{ "sandbox", parse_sandbox, IN(sandbox_required), 0, 0, 0, NULL },
	{ "run.user", parse_user, IN(run_user), IN(run_user_set), 0, 0, NULL },
	{ "run.group", parse_group, IN(run_group), IN(run_group_set), 0, 0, NULL },
	{ "log.level", parse_level, IN(log_level), 0, 0, 0, NULL },
	{ "audit", parse_audit, IN(audit), 0, 0, 0, NULL },
};

#undef IN
#define IN(member) offsetof(struct refresh_settings, member)

/* Those that a provider may have for itself, as params. */
static const struct key_def refresh_params[] = {
	{ "fresh.ms", parse_number, IN(fresh_ms), 0, 0, MS_MAX, "milliseconds" },
	{ "poll.ms", parse_number, IN(poll_ms), 0, 100, MS_MAX, "milliseconds" },
	{ "stale.ms", parse_number, IN(stale_ms), 0, -1, MS_MAX, "milliseconds" },
	{ "max.rps", parse_number, IN(max_rps), 0, 1, 1000000, "requests a second" },
};

#undef IN

static const struct key_def *find_def(const struct key_def *defs, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(defs[i].name, name) == 0)
			return &defs[i];
	return NULL;
}

static const struct key_def *find_own(const char *name)
{
	return find_def(own_keys, sizeof(own_keys) / sizeof(own_keys[0]), name);
}

bool settings_is_own_key(const char *name)
{
	return find_own(name) != NULL;
}

/* The key that was probably meant, or NULL. */
static const char *near_miss(const char *name)
{
	const char *found = NULL;
	size_t best = 4;

	for (size_t i = 0; i < sizeof(own_keys) / sizeof(own_keys[0]); i++) {
		const char *known = own_keys[i].name;
		size_t d = spell_distance(name, known);
		if (d < best && d * 2 < strlen(known)) {
			best = d;
			found = known;
		}
	}
	return found;
}

/* ---- gathering ---- */

static int add_entry(struct loader *l, struct entry e, struct slice key)
{
	if (l->len == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct entry *entries = realloc(l->entries, cap * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		l->entries = entries;
		l->cap = cap;
	}
	e.key = malloc(key.len + 1);
	if (!e.key)
		return -ENOMEM;
	if (key.len)
		memcpy(e.key, key.data, key.len);
	e.key[key.len] = '\0';
	if (e.override && asprintf(&e.place, "-s %s", e.key) < 0) {
		free(e.key);
		return -ENOMEM;
	}
	l->entries[l->len++] = e;
	return 0;
}

/* What a directory as SOURCE has ready. */
static int add_builtins(struct loader *l)
{
	static const char *const builtins[][2] = {
		{ PROVIDERS, "file,directory,env" },
		{ PROVIDERS_PREFIX "file.class", "file" },
		{ PROVIDERS_PREFIX "directory.class", "directory" },
		{ PROVIDERS_PREFIX "env.class", "env" },
	};

	for (size_t i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++) {
		struct entry e = { .value = slice_str(builtins[i][1]), .builtin = true };
		int r = add_entry(l, e, slice_str(builtins[i][0]));
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_file(struct loader *l)
{
	struct file_read info = { 0 };
	struct error err = ERROR_INIT;
	unsigned line = 0;
	int r;

	r = file_read_all(l->s->file, &l->text, &info, &err);
	if (r == -EFBIG)
		bad(l, NULL, "it is larger than 1 MiB, which no settings file is");
	else if (r < 0 && r != -ENOMEM)
		bad(l, NULL, "can't read the settings file: %s", err.text[0] ? err.text : strerror(-r));
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	/* As the worker reads it. Secret: other keys of the worker's may be passwords. */
	r = properties_parse(buf_slice(&l->text), PROPERTIES_LATIN1, true, LIMIT_STORED_KEYS, &l->props,
	                     &line, &err);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		l->bad = true;
		report_add(l->report, REPORT_ERROR, l->s->source, line, NULL, "%s", err.text);
		return 0;
	}
	for (size_t i = 0; i < l->props.len; i++) {
		const struct property *p = &l->props.items[i];
		struct entry e = { .value = p->value, .file = l->s->source, .line = p->line };
		if (p->shadowed)
			continue;
		r = add_entry(l, e, p->key);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Finds out what SOURCE is, and adds what it holds. */
static int add_source(struct loader *l)
{
	struct settings *s = l->s;
	struct stat st;
	char *path;
	int r = absolute_cwd(s->source, &path);

	if (r < 0)
		return r;
	if (stat(path, &st) < 0) {
		bad(l, NULL, "%s; give a settings file, or a directory of stored configs", strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		s->file = path;
		return add_file(l);
	} else if (!S_ISDIR(st.st_mode)) {
		bad(l, NULL, "it is neither a file nor a directory; give a settings file, or a directory of "
		    "stored configs");
	} else {
		const char *fault = directory_fault(path);
		if (fault)
			bad(l, NULL, "can't list the directory: %s", fault);
		s->directory = path;
		return add_builtins(l);
	}
	free(path);
	return 0;
}

static int add_overrides(struct loader *l, const struct settings_override *overrides, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct entry e = { .value = slice_str(overrides[i].value), .override = true };
		int r = add_entry(l, e, slice_str(overrides[i].key));
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_map(struct loader *l)
{
	l->map = strmap_new();
	if (!l->map)
		return -ENOMEM;
	for (size_t i = 0; i < l->len; i++) {
		int r = strmap_put(l->map, slice_str(l->entries[i].key), &l->entries[i], NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

static const struct entry *find_entry(const struct loader *l, const char *key)
{
	return strmap_get(l->map, slice_str(key));
}

/* ---- reading ---- */

/* The value as a string, in *ret (free). Reports what can't be one, and returns -EINVAL. */
static int entry_string(struct loader *l, const struct entry *e, bool trim, char **ret)
{
	struct slice v = e->value;
	char *s;

	if (memchr(v.len ? v.data : "", '\0', v.len)) {
		bad(l, e, "the value holds a NUL character (\\u0000)");
		return -EINVAL;
	}
	while (trim && v.len && (unsigned char)v.data[0] <= ' ') /* as Java's String.trim */
		v = slice_of(v.data + 1, v.len - 1);
	while (trim && v.len && (unsigned char)v.data[v.len - 1] <= ' ')
		v.len--;
	s = malloc(v.len + 1);
	if (!s)
		return -ENOMEM;
	if (v.len)
		memcpy(s, v.data, v.len);
	s[v.len] = '\0';
	*ret = s;
	return 0;
}

static int parse_entry(struct loader *l, const struct key_def *def, const struct entry *e, void *base)
{
	char *value;
	int r = entry_string(l, e, true, &value);

	if (r == 0) {
		r = def->parse(l, def, e, value, base);
		free(value);
	}
	return r == -EINVAL ? 0 : r;
}

/* An override that names nothing of ours is a mistake; in the file it is the worker's. */
static void check_foreign_override(struct loader *l, const struct entry *e)
{
	if (strcmp(e->key, PROVIDERS) == 0 ||
	    strncmp(e->key, PROVIDERS_PREFIX, strlen(PROVIDERS_PREFIX)) == 0)
		return;
	if (find_own(e->key))
		bad(l, e, "there is no such setting; did you mean " OWN_PREFIX "%s?", e->key);
	else
		finding(l, REPORT_WARNING, e, "it has no effect: connectfs has no such setting");
}

static int read_own(struct loader *l)
{
	for (size_t pos = 0; pos < l->len; pos++) {
		const struct entry *e = &l->entries[pos];
		if (find_entry(l, e->key) != e)
			continue;
		if (strncmp(e->key, OWN_PREFIX, strlen(OWN_PREFIX)) != 0) {
			if (e->override)
				check_foreign_override(l, e);
			continue;
		}
		const char *name = e->key + strlen(OWN_PREFIX);
		const struct key_def *def = find_own(name);
		if (def) {
			int r = parse_entry(l, def, e, l->s);
			if (r < 0)
				return r;
			continue;
		}
		const char *meant = near_miss(name);
		if (meant)
			bad(l, e, "there is no such setting; did you mean " OWN_PREFIX "%s?", meant);
		else
			bad(l, e, "there is no such setting; connectfs.properties(5) lists them");
	}
	return 0;
}

/* Puts a param where the provider will look; ours are taken out. */
static int read_param(struct loader *l, struct provider_settings *p, const char *name, const struct entry *e)
{
	const struct key_def *def =
		find_def(refresh_params, sizeof(refresh_params) / sizeof(refresh_params[0]), name);
	char *value;
	int r;

	if (def)
		return parse_entry(l, def, e, &p->refresh);
	r = entry_string(l, e, false, &value);
	if (r < 0)
		return r == -EINVAL ? 0 : r;
	r = strmap_put(p->params, slice_str(name), value, NULL); /* once a key: see make_map */
	if (r < 0)
		free(value);
	return r;
}

static int read_params(struct loader *l, struct provider_settings *p)
{
	char *prefix;
	int r = 0;

	if (asprintf(&prefix, PROVIDERS_PREFIX "%s.param.", p->name) < 0)
		return -ENOMEM;
	size_t len = strlen(prefix);
	for (size_t i = 0; r == 0 && i < l->len; i++) {
		const struct entry *e = &l->entries[i];
		if (strncmp(e->key, prefix, len) == 0 && find_entry(l, e->key) == e)
			r = read_param(l, p, e->key + len, e);
	}
	free(prefix);
	return r;
}

/* "file, directory, env": the classes there are. ret has size bytes. */
static void known_classes(char *ret, size_t size)
{
	size_t used = 0;
	const char *name;

	ret[0] = '\0';
	for (size_t i = 0; (name = registry_name(i)) && used < size; i++) {
		if (strchr(name, '.'))
			continue; /* the Java names: too many to be read */
		int n = snprintf(ret + used, size - used, "%s%s", used ? ", " : "", name);
		used += n > 0 ? (size_t)n : 0;
	}
}

static int read_class(struct loader *l, struct provider_settings *p, const struct entry *list)
{
	const struct entry *e;
	char *key, known[256];
	int r;

	if (asprintf(&key, PROVIDERS_PREFIX "%s.class", p->name) < 0)
		return -ENOMEM;
	e = find_entry(l, key);
	free(key);
	if (e) {
		r = entry_string(l, e, true, &p->class_name);
		if (r < 0)
			return r == -EINVAL ? 0 : r;
		p->file = e->file;
		p->line = e->line;
	}
	if (!e || !*p->class_name) {
		free(p->class_name);
		p->class_name = NULL;
		finding(l, REPORT_WARNING, e ? e : list, "provider '%s' has no class, so references to it "
		        "stay as they are, as in Kafka; set " PROVIDERS_PREFIX "%s.class", p->name, p->name);
		return 0;
	}
	if (!registry_find(p->class_name)) {
		known_classes(known, sizeof(known));
		finding(l, REPORT_WARNING, e, "there is no provider '%s' in this version, so connectors that "
		        "refer to '%s' will fail; there are: %s", p->class_name, p->name, known);
	}
	return 0;
}

static const struct provider_settings *find_provider(const struct settings *s, struct slice name)
{
	for (size_t i = 0; i < s->n_providers; i++)
		if (slice_eq_str(name, s->providers[i].name))
			return &s->providers[i];
	return NULL;
}

static int add_provider(struct loader *l, struct slice name, const struct entry *list)
{
	struct settings *s = l->s;
	struct provider_settings *items, *p;

	if (memchr(name.data, '\0', name.len)) {
		bad(l, list, "the name of a provider holds a NUL character (\\u0000)");
		return 0;
	}
	items = realloc(s->providers, (s->n_providers + 1) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	s->providers = items;
	p = &items[s->n_providers++];
	*p = (struct provider_settings){ .name = strndup(name.data, name.len), .params = strmap_new(),
	                                 .refresh = s->refresh };
	if (!p->name || !p->params)
		return -ENOMEM;
	int r = read_class(l, p, list);
	return r < 0 ? r : read_params(l, p);
}

/* A class for a name that config.providers doesn't have: most likely it was forgotten there. */
static void check_unlisted(struct loader *l)
{
	static const size_t before = sizeof(PROVIDERS_PREFIX) - 1, after = sizeof(".class") - 1;

	for (size_t i = 0; i < l->len; i++) {
		const struct entry *e = &l->entries[i];
		size_t len = strlen(e->key);
		if (e->builtin || len <= before + after || strncmp(e->key, PROVIDERS_PREFIX, before) != 0 ||
		    strcmp(e->key + len - after, ".class") != 0 || strstr(e->key, ".param."))
			continue;
		struct slice name = slice_of(e->key + before, len - before - after);
		if (find_entry(l, e->key) == e && !find_provider(l->s, name))
			finding(l, REPORT_WARNING, e, "it has no effect: '%.*s' is not in " PROVIDERS,
			        SLICE_FMT(name));
	}
}

static int read_providers(struct loader *l)
{
	const struct entry *list = find_entry(l, PROVIDERS);
	size_t pos = 0;
	struct slice name;

	while (list && list_next(list->value, &pos, &name)) {
		if (name.len == 0 || find_provider(l->s, name))
			continue;
		int r = add_provider(l, name, list);
		if (r < 0)
			return r;
	}
	check_unlisted(l);
	return 0;
}

static int read_all(struct loader *l, const struct settings_override *overrides, size_t n)
{
	int r = add_source(l);

	if (r < 0 || l->bad)
		return r;
	r = add_overrides(l, overrides, n);
	if (r == 0)
		r = make_map(l);
	if (r == 0)
		r = read_own(l);
	if (r == 0)
		r = read_providers(l);
	if (r == 0 && !l->s->directory && !find_entry(l, OWN_PREFIX "store.directory") && !l->bad)
		bad(l, NULL, "it does not say where the stored configs lie; set " OWN_PREFIX
		    "store.directory=/path/of/the/directory");
	return r;
}

static struct settings *new_settings(const char *source)
{
	struct settings *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct settings){
		.source = strdup(source),
		.refresh = { .fresh_ms = 30000, .poll_ms = 30000, .stale_ms = 86400000, .max_rps = 100 },
		.mode = 0400,
		.wait_ms = 10000,
		.http_connections = 16,
		.settle_ms = 20,
		.notify = NOTIFY_MODIFY | NOTIFY_ATTRIB,
		.lock = SECMEM_LOCK_TRY,
		.log_level = LOG_LEVEL_INFO,
	};
	if (!s->source) {
		free(s);
		return NULL;
	}
	return s;
}

static void loader_done(struct loader *l)
{
	for (size_t i = 0; i < l->len; i++) {
		free(l->entries[i].key);
		free(l->entries[i].place);
	}
	free(l->entries);
	strmap_free(l->map, NULL);
	properties_done(&l->props);
	buf_free(&l->text);
}

int settings_load(const char *source, const struct settings_override *overrides, size_t n,
                  struct settings **ret, struct report *report)
{
	struct loader l = { .report = report, .props = PROPERTIES_INIT };
	int r;

	l.s = new_settings(source);
	if (!l.s)
		return -ENOMEM;
	buf_init_secret(&l.text, SETTINGS_BYTES_MAX);
	r = read_all(&l, overrides, n);
	loader_done(&l);
	if (r == 0 && !l.bad) {
		*ret = l.s;
		return 0;
	}
	if (r < 0 && r != -ENOMEM)
		bad(&l, NULL, "%s", strerror(-r)); /* the current directory is gone */
	settings_free(l.s);
	return r == -ENOMEM ? r : -EINVAL;
}

/* Params can be passwords. */
static void free_param(void *value)
{
	if (value)
		explicit_bzero(value, strlen(value));
	free(value);
}

void settings_free(struct settings *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_providers; i++) {
		free(s->providers[i].name);
		free(s->providers[i].class_name);
		strmap_free(s->providers[i].params, free_param);
	}
	free(s->providers);
	free(s->source);
	free(s->file);
	free(s->directory);
	free(s->audit);
	free(s);
}

int settings_override_parse(const char *arg, struct settings_override *ret)
{
	const char *equals = strchr(arg, '=');

	if (!equals || equals == arg)
		return -EINVAL;
	char *key = strndup(arg, (size_t)(equals - arg)), *value = strdup(equals + 1);
	if (!key || !value) {
		free(key);
		free(value);
		return -ENOMEM;
	}
	ret->key = key;
	ret->value = value;
	return 0;
}
