/*
 * A stored config, whatever its syntax: the values that hold references, and how to render it.
 *
 * What is not a reference is copied byte for byte; a .properties line without a reference, a
 * comment, white space, the order, JSON's indentation. Kept are only the values with references:
 * a config costs its text plus what it refers to.
 */
#ifndef CONNECTFS_FORMAT_CONFIG_H
#define CONNECTFS_FORMAT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"
#include "format/reference.h"

enum config_syntax {
	CONFIG_PROPERTIES, /* ISO-8859-1, as Connect reads connector files */
	CONFIG_JSON,
};

enum config_reload {
	CONFIG_RELOAD_RESTART, /* also where the key is missing or not understood */
	CONFIG_RELOAD_NONE,
};

/* Positions and numbers are below LIMIT_STORED_BYTES. */
struct config_value {
	struct slice key, value;    /* decoded; value is what references are found in */
	unsigned line;
	uint32_t start, end;        /* as written, in the text */
	uint32_t first_ref, n_refs; /* into refs */
};

struct config_ref {
	struct slice key;
	uint32_t start, end;        /* in the decoded value */
	uint32_t value;             /* index of the value that holds it */
	uint32_t source;            /* index of what it refers to */
};

/* What references refer to, the key left out; as the first of them writes it. */
struct config_source {
	struct slice provider, path;
	bool first; /* no source before it has this provider */
};

struct config {
	enum config_syntax syntax;
	size_t n_keys;
	char *name;                  /* of the connector, or NULL: the caller takes the file's base name */
	enum config_reload reload;   /* config.action.reload, or KIP-297's config.reload.action */
	bool reload_valid;           /* false: the value was neither restart nor none (any case) */
	struct config_value *values; /* those with at least one reference */
	size_t n_values;
	struct config_ref *refs;     /* all, in order */
	size_t n_refs;
	struct config_source *sources; /* each once, in the order in which they first occur */
	size_t n_sources;
	char *pool;                  /* private */
};

static inline const struct config_source *config_ref_source(const struct config *c, const struct config_ref *ref)
{
	return &c->sources[ref->source];
}

/*
 * Parses text (over LIMIT_STORED_BYTES: -EFBIG; more than LIMIT_STORED_KEYS keys or LIMIT_STORED_REFS
 * references: -E2BIG; else the errors of properties_parse and json_config_parse). The text is not
 * kept: the caller keeps it for rendering. Shadowed properties count for nothing. Keys are never
 * scanned. Takes n log n, as all that is done with a config must: it runs in the event thread.
 */
int config_parse(struct slice text, enum config_syntax syntax, struct config **ret, unsigned *ret_line,
                 struct error *ret_err);
void config_free(struct config *c); /* NULL allowed */

/*
 * Tells the value of refs[index]: true with *ret_value (valid until config_render returns), or
 * false: the reference stays as it is, literally.
 */
typedef bool config_lookup(void *arg, size_t index, struct slice *ret_value);

/*
 * Renders into out (a secret buffer whose maximum is LIMIT_RENDERED_BYTES, emptied by the
 * caller). text is what c was parsed from. A value of which no reference is replaced is
 * copied as written. 0, -EFBIG or -ENOMEM. Pure; linear in input and output.
 */
int config_render(const struct config *c, struct slice text, config_lookup *lookup, void *arg,
                  struct buf *out);

#endif
