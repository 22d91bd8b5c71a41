/*
 * Settings: one Java .properties file in Kafka's keys and ours, so that a Connect worker's file
 * works as it is; or simply a directory of stored configs. DESIGN.md section 7.
 *
 * Keys that don't begin with "connectfs." and aren't Kafka's for us are ignored: they are the
 * worker's. An unknown connectfs. key, a bad value, a provider's bad parameter is an error
 * that names file, line and key.
 */
#ifndef CONNECTFS_CORE_SETTINGS_H
#define CONNECTFS_CORE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "base/report.h"
#include "base/secmem.h"
#include "base/strmap.h"

/* What can be set for all and for each provider. */
struct refresh_settings {
	int64_t fresh_ms; /* ≥ 0 */
	int64_t poll_ms;  /* ≥ 100 */
	int64_t stale_ms; /* ≥ 0, or -1: for ever */
	int64_t max_rps;  /* ≥ 1 */
};

struct provider_settings {
	char *name;            /* as in config.providers, trimmed as the worker does */
	char *class_name;      /* NULL: config.providers.{n}.class is missing (then unknown, as in Kafka) */
	struct strmap *params; /* without the prefix; char *; our own refresh params taken out */
	struct refresh_settings refresh;
	const char *file;      /* where the class is set, for messages; NULL: an override or the default */
	unsigned line;
};

enum notify_events {
	NOTIFY_MODIFY = 1 << 0, /* IN_MODIFY */
	NOTIFY_ATTRIB = 1 << 1, /* IN_ATTRIB */
};

struct settings {
	char *source;    /* as given */
	char *file;      /* absolute path of the settings file, NULL where SOURCE is a directory */
	char *directory; /* absolute; connectfs.store.directory, relative to the settings file's directory */
	struct provider_settings *providers;
	size_t n_providers;
	struct refresh_settings refresh;
	uid_t owner;     /* connectfs.owner: a name or a number */
	gid_t group;
	bool owner_set, group_set;
	mode_t mode;     /* 0400; read bits only: others are an error */
	int64_t wait_ms, settle_ms;
	int64_t http_connections; /* at most to one secret store at a time */
	bool http_env_proxy; /* http_proxy and its relatives of the environment hold; else there is no proxy */
	bool warm;
	bool unresolved_keep;
	unsigned notify; /* enum notify_events; 0: "none" */
	enum secmem_lock lock;
	bool sandbox_required; /* connectfs.sandbox=require */
	uid_t run_user;  /* of the worker; see run_user_set */
	gid_t run_group;
	bool run_user_set, run_group_set;
	enum log_level log_level;
	char *audit;     /* "journal", "syslog" or the absolute path of a file; NULL: off */
};

struct settings_override {
	char *key, *value; /* -s KEY=VALUE, and -o with "connectfs." put before the key */
};

/*
 * Reads SOURCE. overrides win over the file. Everything wrong goes to report; 0, or -EINVAL when
 * report got at least one error, or -ENOMEM. Blocks on file I/O: before the loop runs.
 * A directory as SOURCE has the providers file, directory and env ready; a settings file without
 * config.providers has none. "=" in the override key is not possible; an override's place is
 * named "-s KEY".
 */
int settings_load(const char *source, const struct settings_override *overrides, size_t n,
                  struct settings **ret, struct report *report);
void settings_free(struct settings *s); /* NULL allowed */

/* Parses "KEY=VALUE"; *ret's strings are the caller's (free). -EINVAL without '='. */
int settings_override_parse(const char *arg, struct settings_override *ret);
/* Is "connectfs.<name>" a key of ours? For -o. */
bool settings_is_own_key(const char *name);

#endif
