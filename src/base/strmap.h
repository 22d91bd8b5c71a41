/*
 * A map from byte strings to pointers, in order of insertion.
 *
 * Keys are copied; values are not, and are the caller's. The hash is seeded at random
 * for each process, so that names chosen by somebody else cost no more than others.
 * Not for use by two threads at once.
 */
#ifndef CONNECTFS_BASE_STRMAP_H
#define CONNECTFS_BASE_STRMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct strmap;

struct strmap *strmap_new(void); /* NULL: out of memory */
/* free_value is called for each value (NULL: values are left alone). NULL map allowed. */
void strmap_free(struct strmap *m, void (*free_value)(void *));

void *strmap_get(const struct strmap *m, struct slice key); /* NULL: not there */
const char *strmap_get_str(const struct strmap *m, const char *key); /* for maps of char * */
/* Puts or replaces; *ret_old (NULL allowed) becomes the value replaced, or NULL.
 * 0 or -ENOMEM. */
int strmap_put(struct strmap *m, struct slice key, void *value, void **ret_old);
/* Takes out; returns the value, or NULL. */
void *strmap_del(struct strmap *m, struct slice key);
size_t strmap_len(const struct strmap *m);

/* Walks in order of insertion: size_t pos = 0; while (strmap_next(m, &pos, &key, &value)) …
 * The entry just seen may be deleted during the walk; nothing may be added. */
bool strmap_next(const struct strmap *m, size_t *pos, struct slice *ret_key, void **ret_value);

/* 64-bit FNV-1a, unseeded: for ids that must be the same in every process. */
uint64_t hash_bytes(const void *data, size_t len);

#endif
