/*
 * Verbs and options. Exit status: 0 done, 1 what was asked about is broken, 2 wrong usage or
 * settings, each with a sentence on standard error.
 */
#ifndef CONNECTFS_CLI_CLI_H
#define CONNECTFS_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/loop.h"
#include "core/engine.h"
#include "core/settings.h"

/* The whole command line; what main returns. */
int cli_main(int argc, char **argv);

/* The verbs; argv[0] is the verb's name. */
int cli_mount(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_render(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_refresh(int argc, char **argv);
int cli_reload(int argc, char **argv);

/* -s and -o collected in order. */
struct cli_settings {
	struct settings_override *items;
	size_t len;
};
int cli_settings_add(struct cli_settings *s, const char *arg); /* "KEY=VALUE"; 2 with a sentence */
void cli_settings_done(struct cli_settings *s);

/* "connectfs: …" on standard error; returns 2. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The same for "connectfs: …" of what is broken; returns 1. */
int cli_broken(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_no_memory(void); /* says so; returns 1 */
void cli_print_usage(FILE *out);
/* For a verb's own -h: 0 and the usage on standard output. For '?' of getopt: 2 and a hint. */
int cli_option(int c);

/*
 * What mount(8), fstab and sshfs users type after -o, and our own settings. strings are the
 * caller's (free, cli_settings_done).
 */
struct cli_mount_options {
	bool allow_other, noexec;
	char *fsname; /* NULL: SOURCE */
};
/* One -o; may be called again for the next. 0; -EINVAL with a sentence; -ENOMEM. */
int cli_mount_parse(const char *arg, struct cli_mount_options *ret, struct cli_settings *settings,
                    struct error *ret_err);

/*
 * Is it the mount of a connectfs? Its canonical path in *ret (free), found without touching the
 * mount. 0, or 2 with a sentence.
 */
int cli_find_mount(const char *path, char **ret);
/*
 * Runs work in a child process that can be left behind, since a mount whose worker hangs can hang
 * whoever touches it. work writes what it has to say to out, and returns 0 or -errno. 0 or work's
 * -errno with what it wrote in out; -ETIMEDOUT after some seconds without an end.
 */
int cli_guard(int (*work)(int out, void *arg), void *arg, struct buf *out);
/* The sentence for an error of touching the mount at path; returns 2. */
int cli_mount_fault(const char *path, int err);

/*
 * The tables of `status`: json is the content of status.json, colour whether to use escape codes,
 * now_ns the real time that ages are told against. 0 with *ret_broken (a connector is failed or
 * stale); -EINVAL: that is no status; -ENOMEM. Lines have 100 columns at most.
 */
int cli_status_table(struct slice json, bool colour, int64_t now_ns, struct buf *out, bool *ret_broken);

/* An engine that reads once, for check and render. */
struct cli_once {
	struct settings *settings;
	struct loop *loop;
	struct engine *engine;
};
/* Loads source, starts the engine and waits for its first listing. warnings: show them too. 0, or the
 * exit status with all sentences on standard error. cli_once_close in any case. */
int cli_once_open(const char *source, const struct cli_settings *overrides, bool warnings,
                  struct cli_once *ret);
void cli_once_close(struct cli_once *o);
/* Runs the loop until *done. 0 or -errno. */
int cli_once_wait(struct cli_once *o, const bool *done);

#endif
