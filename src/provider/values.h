/*
 * The values of one secret as one fetch brought them: immutable and shared.
 *
 * Reference-counted, from any thread. Keys and values lie in secret memory. A value may hold
 * NUL and any bytes (UTF-8, with WTF-8's unpaired surrogates where Java had them).
 */
#ifndef CONNECTFS_PROVIDER_VALUES_H
#define CONNECTFS_PROVIDER_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/slice.h"

struct secret_field {
	struct slice key, value;
};

/* A file or directory that the values came from (or were missed in), as it was then. */
struct secret_file {
	char *path;              /* absolute */
	struct file_stamp stamp; /* taken not later than the content was read */
	bool local;              /* may be checked by statx from any thread */
};

struct secret_values; /* opaque but for the functions below */

/* Copies fields (any order, keys unique) and files. NULL: out of memory. One reference. */
struct secret_values *secret_values_new(const struct secret_field *fields, size_t n_fields,
                                        const struct secret_file *files, size_t n_files);
struct secret_values *secret_values_ref(struct secret_values *v);
void secret_values_unref(struct secret_values *v); /* NULL allowed; the last one wipes */

/* True and *ret (valid while a reference is held) where the key is there. Logarithmic. */
bool secret_values_get(const struct secret_values *v, struct slice key, struct slice *ret);
size_t secret_values_count(const struct secret_values *v);
/* The i-th field in the order of keys. */
struct secret_field secret_values_at(const struct secret_values *v, size_t i);
/* The same keys with the same values (files don't count). NULLs are equal to each other only. */
bool secret_values_equal(const struct secret_values *a, const struct secret_values *b);

size_t secret_values_n_files(const struct secret_values *v);
const struct secret_file *secret_values_file(const struct secret_values *v, size_t i);
/* Any thread: true when every file is local and its statx still says the same. With no files:
 * true. Never blocks: one that isn't local, or that the kernel would have to ask for, makes it false. */
bool secret_values_files_unchanged(const struct secret_values *v);

/* Frees the paths and the array; NULL with 0 allowed. */
void secret_files_done(struct secret_file *files, size_t n);

#endif
