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
#include "base/watch.h"
#include "provider/values.h"

enum provider_level { PROVIDER_ERROR, PROVIDER_WARNING, PROVIDER_INFO };

/* What the resolver does for an instance, arg being its own. None of it from within open, map, restore,
 * release or status. */
struct provider_host {
	/* The lease of the secret has moved (renewed, seen to be revoked): it ends in lease_ms, and is to be replaced in
	 * replace_ms, as in fetch_result. lease_ms 0: it has ended before its time, for the reason in text; then its
	 * values are not served any more, and are fetched anew if somebody has use of them. text NULL otherwise. state:
	 * as in fetch_result. */
	void (*lease)(void *arg, struct slice id, int64_t lease_ms, int64_t replace_ms, struct slice state,
	              const char *text);
	/* It answers again (connection, login): what an outage has failed is fetched anew, not all at once. */
	void (*healed)(void *arg);
	/* Keeps data, for a successor, under a name; empty data: removes it. 0, or -ENOMEM or -ENOSPC (then nothing is
	 * kept under it). */
	int (*keep)(void *arg, struct slice name, struct slice data);
	/* Something that the operator should know, a sentence without the provider's name: for the log. */
	void (*tell)(void *arg, enum provider_level level, const char *text);
};

/* What a provider may use. Outlives the instance. */
struct provider_env {
	struct loop *loop;
	struct pool *pool;
	struct watcher *watcher;          /* NULL: nothing is looked at again (check, render) */
	const struct provider_host *host; /* NULL where watcher is, and in tests */
	void *host_arg;
	int64_t wait_ms;                  /* connectfs.wait.ms */
	unsigned http_connections;        /* connectfs.http.connections */
	bool http_env_proxy;              /* connectfs.http.proxy=environment */
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
	bool exact;     /* not earlier, as it is done otherwise so that hosts don't ask together */
	/* The values end in so many ms (a lease, a certificate); -1: they don't. */
	int64_t lease_ms;
	/* With a lease: when to fetch other values in place of these, in ms from now, if somebody has use of them. Beyond
	 * lease_ms: not yet known, since the provider prolongs it, and tells by host->lease. */
	int64_t replace_ms;
	/* With a lease: what the provider must know of it after this process (its id, its token), for ops->adopt. */
	struct slice state;
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

/* What there is to say of an instance that asks somebody else. */
struct provider_status {
	const char *address;        /* NULL: it asks nobody */
	const char *error;          /* why it can't work now: no connection, no login; NULL: it can */
	int64_t error_since_ns;     /* real time; 0: no error */
	const char *login;          /* the method: "approle"; NULL: none */
	int64_t login_ns;           /* the last successful one, real time; 0: none yet */
	int64_t login_end_ns;       /* when its token ends unless it is renewed; 0: never, or not known */
	bool insecure;              /* the server's certificate is not verified */
	size_t leases;
	unsigned long requests, request_failures, logins, login_failures, renewals, renewal_failures;
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

	/* The following may be NULL. */
	bool network;               /* its instances make connections: the sandbox lets them */
	/* A predecessor has left data under this name (host->keep). Before any fetch. */
	void (*restore)(void *self, struct slice name, struct slice data);
	/* A predecessor has fetched the secret, with a lease that ends in lease_ms: state is its result's, or the last
	 * that host->lease gave. The provider prolongs it from now on. 0; else it can't, and the secret is fetched anew. */
	int (*adopt)(void *self, struct slice id, struct slice state, int64_t lease_ms);
	/* Nobody has use of the secret any more. */
	void (*release)(void *self, struct slice id);
	/* For the status and metrics; ret is zeroed, strings live until control returns to the loop. */
	void (*status)(void *self, struct provider_status *ret);
};

extern const struct provider_ops provider_file, provider_directory, provider_env_var, provider_vault;

#endif
