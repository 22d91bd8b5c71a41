/*
 * JSON as Connect's standalone worker and REST interface read configs, with the place of each
 * value. jansson validates (UTF-8, NUL, duplicate keys, trailing garbage), once it is known that
 * its tree will be small; a small scanner over the then valid text finds the places, since jansson
 * keeps none.
 */
#ifndef CONNECTFS_FORMAT_JSON_H
#define CONNECTFS_FORMAT_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

enum json_form {
	JSON_FLAT,    /* {"connector.class":"…", …} */
	JSON_REQUEST, /* {"name":"…","config":{…}, …}: CreateConnectorRequest, and ConnectorInfo
	                 (with "tasks" and "type"); what is beside config is kept and not read */
};

struct json_member {
	struct slice key, value;       /* decoded UTF-8; owned. Numbers and booleans as written,
	                                  as Jackson's Map<String,String> has them */
	bool is_null;                  /* null: value is empty; Kafka leaves it null */
	unsigned line;
	size_t value_start, value_end; /* the value as written, quotes included */
};

struct json_config {
	enum json_form form;
	struct slice name;             /* of JSON_REQUEST; empty if there is none */
	struct json_member *items;     /* of the flat map, or of config */
	size_t len;
	char *pool;
};

#define JSON_CONFIG_INIT { JSON_FLAT, { NULL, 0 }, NULL, 0, NULL }

/*
 * 0, or a negative errno with the line in *ret_line (NULL allowed) and a sentence with the
 * column: -EINVAL (no valid JSON, deeper than LIMIT_JSON_DEPTH, not an object, a value of config
 * that is an object or array), -EEXIST (duplicate key), -E2BIG (more than max_keys, or more than
 * LIMIT_JSON_VALUES of any kind in all the text), -ENOMEM. An object is JSON_REQUEST when it has a
 * member "config" that is an object (StandaloneHerder's order of trials comes to the same for all
 * but a flat map with a value that isn't a scalar, which is an error in both). Pure; linear.
 */
int json_config_parse(struct slice text, size_t max_keys, struct json_config *ret, unsigned *ret_line,
                      struct error *ret_err);
void json_config_done(struct json_config *c);

/* A JSON string with its quotes; non-ASCII is kept as UTF-8, an unpaired surrogate (WTF-8)
 * becomes \udXXX. 0 or buf's error. */
int json_write_string(struct buf *out, struct slice value);

#endif
