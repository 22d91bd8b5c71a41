/*
 * The values of one secret: one block of secret memory for each set, which holds the head, the
 * table of fields (sorted by key) and the bytes; so that one free wipes all of it.
 */
#include "provider/values.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/secmem.h"

struct secret_values {
	atomic_uint refs;
	size_t n_fields, n_files;
	struct secret_file *files; /* ordinary memory: no secrets */
	struct secret_field fields[];
};

static int field_cmp(const void *a, const void *b)
{
	return slice_compare(((const struct secret_field *)a)->key, ((const struct secret_field *)b)->key);
}

void secret_files_done(struct secret_file *files, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(files[i].path);
	free(files);
}

static int copy_files(const struct secret_file *files, size_t n, struct secret_file **ret)
{
	struct secret_file *copy;

	*ret = NULL;
	if (n == 0)
		return 0;
	copy = calloc(n, sizeof(*copy));
	if (!copy)
		return -1;
	for (size_t i = 0; i < n; i++) {
		copy[i] = files[i];
		copy[i].path = strdup(files[i].path);
		if (!copy[i].path) {
			secret_files_done(copy, i);
			return -1;
		}
	}
	*ret = copy;
	return 0;
}

/* Bytes of the whole block, a NUL after each key and value included; 0: too many. */
static size_t block_size(const struct secret_field *fields, size_t n)
{
	size_t size;

	if (__builtin_mul_overflow(n, sizeof(*fields), &size) ||
	    __builtin_add_overflow(size, sizeof(struct secret_values), &size))
		return 0;
	for (size_t i = 0; i < n; i++)
		if (__builtin_add_overflow(size, fields[i].key.len + 1, &size) ||
		    __builtin_add_overflow(size, fields[i].value.len + 1, &size))
			return 0;
	return size;
}

static struct slice put(char **pos, struct slice s)
{
	char *at = *pos;

	if (s.len > 0)
		memcpy(at, s.data, s.len);
	at[s.len] = '\0';
	*pos += s.len + 1;
	return slice_of(at, s.len);
}

struct secret_values *secret_values_new(const struct secret_field *fields, size_t n_fields,
                                        const struct secret_file *files, size_t n_files)
{
	size_t size = block_size(fields, n_fields);
	struct secret_values *v;
	char *pos;

	if (size == 0)
		return NULL;
	v = secmem_alloc(size);
	if (!v)
		return NULL;
	if (copy_files(files, n_files, &v->files) < 0) {
		secmem_free(v);
		return NULL;
	}
	atomic_init(&v->refs, 1);
	v->n_fields = n_fields;
	v->n_files = n_files;
	pos = (char *)(v->fields + n_fields);
	for (size_t i = 0; i < n_fields; i++) {
		v->fields[i].key = put(&pos, fields[i].key);
		v->fields[i].value = put(&pos, fields[i].value);
	}
	if (n_fields > 1)
		qsort(v->fields, n_fields, sizeof(*v->fields), field_cmp);
	return v;
}

struct secret_values *secret_values_ref(struct secret_values *v)
{
	atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
	return v;
}

void secret_values_unref(struct secret_values *v)
{
	if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
		return;
	secret_files_done(v->files, v->n_files);
	secmem_free(v);
}

bool secret_values_get(const struct secret_values *v, struct slice key, struct slice *ret)
{
	size_t lo = 0, hi = v->n_fields;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = slice_compare(key, v->fields[mid].key);

		if (c == 0) {
			*ret = v->fields[mid].value;
			return true;
		}
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return false;
}

size_t secret_values_count(const struct secret_values *v)
{
	return v->n_fields;
}

struct secret_field secret_values_at(const struct secret_values *v, size_t i)
{
	return v->fields[i];
}

bool secret_values_equal(const struct secret_values *a, const struct secret_values *b)
{
	if (a == b)
		return true;
	if (!a || !b || a->n_fields != b->n_fields)
		return false;
	for (size_t i = 0; i < a->n_fields; i++)
		if (!slice_eq(a->fields[i].key, b->fields[i].key) ||
		    !slice_eq(a->fields[i].value, b->fields[i].value))
			return false;
	return true;
}

size_t secret_values_n_files(const struct secret_values *v)
{
	return v->n_files;
}

const struct secret_file *secret_values_file(const struct secret_values *v, size_t i)
{
	return &v->files[i];
}

bool secret_values_files_unchanged(const struct secret_values *v)
{
	for (size_t i = 0; i < v->n_files; i++) {
		struct file_stamp now;

		if (!v->files[i].local || file_stamp_peek(v->files[i].path, &now) < 0 ||
		    !file_stamp_equal(&now, &v->files[i].stamp))
			return false;
	}
	return true;
}
