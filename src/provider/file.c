/*
 * The provider "file": keys of a .properties file, as Kafka's FileConfigProvider, and the
 * parameter `secrets` of KIP-297's draft: the file (or directory) of references without a path.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/limits.h"
#include "format/properties.h"
#include "provider/filejob.h"

/* The place of an item of the file in the order of keys. */
struct place {
	const struct property *item;
	size_t at;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int r = slice_compare(x->item->key, y->item->key);

	return r != 0 ? r : (x->at > y->at) - (x->at < y->at);
}

/* The last one of that key, as Properties.load() keeps it. */
static const struct property *find_last(const struct place *sorted, size_t n, struct slice key)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (slice_compare(sorted[mid].item->key, key) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low > 0 && slice_eq(sorted[low - 1].item->key, key) ? sorted[low - 1].item : NULL;
}

/* The fields asked for, out of all that the file has. */
static void pick(struct filejob *j, const struct properties *p)
{
	struct secret_field *found = calloc(j->n_fields + 1, sizeof(*found));
	struct place *sorted = calloc(p->len + 1, sizeof(*sorted));
	size_t n = 0;

	if (!found || !sorted) {
		filejob_fail(j, EIO, true, "%s: out of memory", j->path);
		goto out;
	}
	for (size_t i = 0; i < p->len; i++)
		sorted[i] = (struct place){ .item = &p->items[i], .at = i };
	qsort(sorted, p->len, sizeof(*sorted), compare_places);
	for (size_t i = 0; i < j->n_fields; i++) {
		const struct property *item = find_last(sorted, p->len, j->fields[i]);

		if (item)
			found[n++] = (struct secret_field){ .key = j->fields[i], .value = item->value };
	}
	filejob_succeed(j, found, n);
out:
	free(found);
	free(sorted);
}

static void parse(struct filejob *j, struct slice text)
{
	struct properties p = PROPERTIES_INIT;
	struct error why = ERROR_INIT;
	unsigned line = 0;
	int r = properties_parse(text, PROPERTIES_UTF8, true, LIMIT_STORED_KEYS, &p, &line, &why);

	if (r == 0) {
		pick(j, &p);
		properties_done(&p);
	} else if (line > 0) {
		filejob_fail(j, EIO, true, "%s:%u: %s", j->path, line, why.text);
	} else {
		filejob_fail(j, EIO, true, "%s: %s", j->path, r == -ENOMEM ? "out of memory" : why.text);
	}
}

static void read_file(struct filejob *j)
{
	struct file_read got = { .local = false };
	struct error why = ERROR_INIT;
	struct buf text;
	int r;

	buf_init_secret(&text, LIMIT_SECRET_BYTES);
	r = filejob_read(j, j->path, j->path, &text, &got, &why);
	if (r < 0)
		got.local = filejob_is_local(j->path);
	if (filejob_add_file(j, j->path, &got.stamp, got.local) == 0) {
		if (r == -EACCES && why.code == 0)
			filejob_succeed(j, NULL, 0);
		else if (r < 0)
			filejob_fail_read(j, r, j->path, &why);
		else
			parse(j, buf_slice(&text));
	}
	buf_free(&text);
}

static bool is_directory(const char *path)
{
	struct file_stamp stamp;

	return file_stamp_take(path, &stamp) == 0 && stamp.exists && S_ISDIR(stamp.mode);
}

static void file_work(struct filejob *j)
{
	const char *secrets = j->conf->secrets;
	int r;

	if (j->path[0] == '\0') {
		filejob_note(j, "the reference has no path, and the provider no param `secrets`");
		filejob_succeed(j, NULL, 0);
		return;
	}
	r = filejob_allowed(j, j->path);
	if (r == -EACCES) {
		filejob_succeed(j, NULL, 0);
	} else if (r < 0) {
		filejob_fail_read(j, r, j->path, NULL);
	} else if (secrets && strcmp(secrets, j->path) == 0 && is_directory(secrets)) {
		directory_work(j);
	} else {
		read_file(j);
	}
}

static int file_open(const struct provider_env *env, const char *class_name, const struct strmap *params,
                     void **ret_self, const char **ret_param, struct error *ret_err)
{
	(void)class_name;
	return filejob_open(env, file_work, params, ret_self, ret_param, ret_err);
}

static const char *const classes[] = {
	"org.apache.kafka.common.config.provider.FileConfigProvider",
	"org.apache.kafka.connect.configs.FileConfigProvider", /* KIP-297's draft */
	NULL,
};

const struct provider_ops provider_file = {
	.name = "file",
	.classes = classes,
	.open = file_open,
	.map = filejob_map,
	.reads = filejob_reads,
	.fetch = filejob_fetch,
	.cancel = filejob_cancel,
	.close = filejob_close,
};
