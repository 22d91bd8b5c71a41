/*
 * References, ${provider:[path:]key}, exactly as Kafka's ConfigTransformer finds them.
 *
 * Kafka's pattern is \$\{([^}]*?):(([^}]*?):)?([^}]*?)\} with "find" semantics
 * (org.apache.kafka.common.config.ConfigTransformer since 2.3, KAFKA-8363); this scanner
 * finds the same matches in linear time, where the pattern is up to n^4. There is no escape
 * syntax and no trimming; the first colon ends the provider, the second the path, and the
 * rest, colons included, is the key. Values that replace references are never scanned again.
 */
#ifndef CONNECTFS_FORMAT_REFERENCE_H
#define CONNECTFS_FORMAT_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct reference {
	size_t start, end;              /* of the whole, "${" to "}", in the text: [start, end) */
	struct slice provider, path, key; /* into the text; path is empty where there is none */
};

/* Finds the next reference at or after *pos; moves *pos behind it. False: no more. */
bool reference_next(struct slice text, size_t *pos, struct reference *ret);

#endif
