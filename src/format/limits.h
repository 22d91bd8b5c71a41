/*
 * Limits of what is read and written, each with its reason. What is beyond a limit is an error of
 * that connector or secret alone.
 */
#ifndef CONNECTFS_FORMAT_LIMITS_H
#define CONNECTFS_FORMAT_LIMITS_H

enum {
	/* Kafka's own limit for a record (max.message.bytes, 1 MiB by default) bounds what the
	 * config topic can hold, and no real config comes near it. */
	LIMIT_STORED_BYTES = 1024 * 1024,
	/* Ten times the largest generated configs seen; bounds tables and the time of a render. */
	LIMIT_STORED_KEYS = 10000,
	/* A value may hold any number of references, and each costs memory and time in the one event
	 * thread: as many as there may be keys, which is one a key. */
	LIMIT_STORED_REFS = 10000,
	/* Values of any kind in a JSON text, and how deep they nest: jansson builds a tree of them all,
	 * in locked memory. Room for all keys and, in a ConnectorInfo, for 10,000 tasks (three values
	 * each); no config nests deeper than four. */
	LIMIT_JSON_VALUES = 4 * LIMIT_STORED_KEYS,
	LIMIT_JSON_DEPTH = 100,
	/* What Kubernetes and systemd allow for a secret (1 MiB). */
	LIMIT_SECRET_BYTES = 1024 * 1024,
	/* A config of 1 MiB whose escapes and secrets make it grow; bounds locked memory. */
	LIMIT_RENDERED_BYTES = 4 * 1024 * 1024,
};

#endif
