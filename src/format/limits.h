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
	/* What Kubernetes and systemd allow for a secret (1 MiB). */
	LIMIT_SECRET_BYTES = 1024 * 1024,
	/* A config of 1 MiB whose escapes and secrets make it grow; bounds locked memory. */
	LIMIT_RENDERED_BYTES = 4 * 1024 * 1024,
};

#endif
