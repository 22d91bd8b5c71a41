/*
 * A snapshot: the rendered bytes of one connector at one moment. Immutable, reference-counted,
 * from any thread; lies in secret memory.
 */
#ifndef CONNECTFS_CORE_SNAPSHOT_H
#define CONNECTFS_CORE_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

struct snapshot; /* opaque */

struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s); /* NULL allowed; the last one wipes */
const char *snapshot_data(const struct snapshot *s);
size_t snapshot_size(const struct snapshot *s);
uint64_t snapshot_version(const struct snapshot *s); /* the connector's, when it was published */
/* Where it lies in the keep, see keep_place and keep_seq; both 0 where there is no keep. */
void snapshot_place(const struct snapshot *s, uint64_t *ret_place, uint64_t *ret_seq);

#endif
