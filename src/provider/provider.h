/*
 * What every provider carries out, be it a file, a server on the network or a plugin.
 *
 * All calls come from the event thread and none may block: what blocks goes to the pool, what
 * waits for the network to the loop. A provider never sees connectors or references: the
 * resolver asks it for one secret with all the fields that anybody wants of it, one fetch of a
 * secret at a time (single flight is the resolver's work, as are freshness, back-off and last
 * known values).
 */
#ifndef CONNECTFS_PROVIDER_PROVIDER_H
#define CONNECTFS_PROVIDER_PROVIDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/pool.h"
#include "base/slice.h"
#include "base/strmap.h"
#include "provider/values.h"

/* What a provider may use. Outlives the providers. */
struct provider_env {
	struct loop *loop;
	struct pool *pool;
};

/* How a fetch ended. The provider fills it; the callee of done owns nothing of it but the
 * reference of values, which it takes over. */
struct fetch_result {
	/* 0, or a positive errno: ENOKEY no such secret; EKEYREVOKED deleted, destroyed or revoked;
	 * EKEYREJECTED the secret store refuses us this secret; EKEYEXPIRED its lease or certificate
	 * ended; ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH, EPROTO no answer; EIO anything else. */
	int err;
	/* With err: the secret store did not answer, refused our own login, or sent what can't be
	 * understood; so the last known values go on being served. Without: err is the store's own
	 * word about the secret, and nothing is served. */
	bool outage;
	/* With err: the sentence. Without: NULL, or why fields may be missing ("the path … is not
	 * allowed by allowed.paths"). Names provider, path, key names, HTTP status; never a value.
	 * Without the provider's name in front (the resolver puts it there). */
	const char *text;
	/* Without err: the fields that exist among those asked for. With err: NULL. */
	struct secret_values *values;
	/* With err: the files whose change can heal it (values has its own). NULL, 0: none. */
	const struct secret_file *files;
	size_t n_files;
	/* When to read again, in ms from now; -1: the provider doesn't say (poll.ms holds for what
	 * has no files). A TTL never ends validity. */
	int64_t ttl_ms;
	/* The values end in so many ms (a lease, a certificate); -1: they don't. */
	int64_t lease_ms;
	/* The values can't change while this process lives (its environment): never fetch again. */
	bool constant;
};

/* One fetch: the resolver makes it, gives it to ops->fetch, and frees it after done or cancel. */
struct fetch {
	struct slice id;            /* secret id, from ops->map */
	const struct slice *fields; /* wanted, unique, sorted */
	size_t n_fields;
	int64_t deadline_ms;        /* from now; the resolver cancels then in any case */
	enum pool_place place;      /* what the last fetch of it said of its files */
	void (*done)(struct fetch *f, const struct fetch_result *r); /* exactly once, in the event
	                               thread, never from within ops->fetch; not after cancel */
	void *arg;                  /* the resolver's */
	void *priv;                 /* the provider's */
};

struct provider_ops {
	const char *name;           /* our short name: "file" */
	const char *const *classes; /* Java class names that mean this one, NULL-terminated */
	/*
	 * Makes an instance. params: name → char *, the settings' config.providers.{n}.param.*
	 * without that prefix. An unknown param is ignored, as Kafka does. 0, or -EINVAL/-ENOMEM with
	 * a sentence; *ret_param (static string) names the param that is at fault, or NULL.
	 */
	int (*open)(const struct provider_env *env, const char *class_name, const struct strmap *params,
	            void **ret_self, const char **ret_param, struct error *ret_err);
	/*
	 * Maps a reference's path and key to the id of a secret and a field in it. Pure, cheap, and
	 * the same for the same input; appends to two empty buffers. 0, or a negative errno of the
	 * table above with a sentence (such a reference is broken).
	 */
	int (*map)(void *self, struct slice path, struct slice key, struct buf *ret_id,
	           struct buf *ret_field, struct error *ret_err);
	/* Calls add for each file or directory that its fetches may read, "/" where that can be any: the worker keeps
	 * itself from all others. Right after open. NULL: they read none. */
	void (*reads)(void *self, void (*add)(void *arg, const char *path), void *arg);
	/* Starts a fetch. 0, or -ENOMEM (then done is not called). */
	int (*fetch)(void *self, struct fetch *f);
	/* After it done is not called, and the provider touches f no more. */
	void (*cancel)(void *self, struct fetch *f);
	/* After all fetches have ended or been cancelled. */
	void (*close)(void *self);
};

extern const struct provider_ops provider_file, provider_directory, provider_env_var;

#endif
