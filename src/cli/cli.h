/*
 * Verbs and options. Exit status: 0 done, 1 what was asked about is broken, 2 wrong usage or
 * settings, each with a sentence on standard error.
 */
#ifndef CONNECTFS_CLI_CLI_H
#define CONNECTFS_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/settings.h"

/* The whole command line; what main returns. */
int cli_main(int argc, char **argv);

/* The verbs; argv[0] is the verb's name. */
int cli_mount(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_render(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_refresh(int argc, char **argv);

/* -s and -o collected in order. */
struct cli_settings {
	struct settings_override *items;
	size_t len;
};
int cli_settings_add(struct cli_settings *s, const char *arg); /* "KEY=VALUE"; 2 with a sentence */
void cli_settings_done(struct cli_settings *s);

/* "connectfs: …" on standard error; returns 2. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
