/*
 * allowed.paths, as Kafka's AllowedPaths has it (KIP-993; symlinks resolved on both sides as in
 * KAFKA-20700, since a link inside an allowed directory must not lead out of it).
 */
#ifndef CONNECTFS_PROVIDER_PATHS_H
#define CONNECTFS_PROVIDER_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct allowed_paths {
	bool unrestricted; /* param null or "" */
	char **entries;    /* normalised, absolute; and their real paths, where they differ */
	size_t len;
};

/* Splits at ',' without trimming; each must be absolute and exist, else -EINVAL with Kafka's
 * words ("Path x is not absolute", "Path x does not exist"). "," alone denies everything. */
int allowed_paths_parse(const char *param, struct allowed_paths *ret, struct error *ret_err);
void allowed_paths_done(struct allowed_paths *p);
/* By name alone (pure): is the normalised path at or below an entry? Unrestricted: true. */
bool allowed_paths_match(const struct allowed_paths *p, const char *path);
/* For the pool: matches the path by name, and again after realpath(3). A file that isn't there is
 * judged by name and by its deepest directory that exists. 0, -EACCES, or realpath's -errno. */
int allowed_paths_check(const struct allowed_paths *p, const char *path);
/* For the pool: the real path of something open. 0 or -EACCES. */
int allowed_paths_permit(const struct allowed_paths *p, const char *real);

#endif
