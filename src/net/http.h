/*
 * HTTP requests to one server, over libcurl's multi interface on the loop: kept-alive connections (HTTP/2 where
 * TLS offers it), a bound on how many there are, deadlines, and nothing that blocks the event thread. What knows of
 * several addresses, of retries and of outages is server.h.
 *
 * Bodies, headers and what libcurl and OpenSSL buffer lie in memory that is wiped when it is freed; bodies of answers
 * in secret memory. Nothing of a request or an answer gets into a sentence but method, host, path without its query,
 * status and what the TLS layer says. No redirect is followed, no "Expect:" is sent, no cookie kept, no credential
 * taken from the environment or ~/.netrc. Event thread only.
 */
#ifndef CONNECTFS_NET_HTTP_H
#define CONNECTFS_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/slice.h"
#include "net/tls.h"

struct http;
struct http_call;

enum {
	HTTP_CONNECTIONS = 16,               /* connectfs.http.connections */
	HTTP_CONNECT_MS = 5000,              /* for name, connection and TLS together */
	HTTP_BODY_MAX = 4 * 1024 * 1024,     /* of an answer */
	HTTP_HEADERS_MAX = 64 * 1024,
};

/*
 * Once, before threads and before the sandbox: libcurl and OpenSSL with allocators that wipe, and what they and the
 * name service would load or read later (NSS modules, openssl.cnf). 0 or -errno. May be called again.
 */
int http_global_init(void);

struct http_settings {
	struct tls *tls;        /* for https; NULL: https is refused. Must outlive it */
	unsigned connections;   /* at most at a time; other calls wait for their turn */
	bool env_proxy;         /* http_proxy, https_proxy and no_proxy of the environment hold; else there is no proxy */
	int64_t connect_ms;
};

/* 0 or -errno. */
int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret);
void http_free(struct http *h); /* NULL allowed; calls must have ended or been cancelled */

struct http_header {
	const char *name;
	struct slice value; /* without CR, LF and NUL, or the call fails with EINVAL */
};

struct http_request {
	const char *method;     /* "GET", "POST", "PUT", "LIST", "DELETE" */
	const char *base;       /* "https://host:8200", "http://…", or "unix:///path" of a socket (then HTTP without TLS) */
	const char *path;       /* "/v1/secret/data/db?version=3": percent-encoded already, sent as it is */
	const struct http_header *headers;
	size_t n_headers;
	struct slice body;      /* empty: none. Else sent as application/json */
	int64_t deadline_ms;    /* from now, time in the queue included */
	size_t max_body;        /* 0: HTTP_BODY_MAX */
	bool fresh;             /* by a new connection: libcurl sends a request again itself where a kept-alive one turns
	                           out to be dead */
	bool urgent;            /* it goes out at once, before what waits, and beside what is under way */
};

struct http_response {
	/* 0: the server has answered, whatever the status. Else ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH (no route, no such
	 * name), EPROTO (TLS, no HTTP, cut off, too long), EINVAL (the request can't be sent), ENOMEM or EIO. */
	int err;
	const char *text;       /* with err: the sentence */
	bool sent;              /* the server may have acted on it: the connection stood and the request was begun */
	bool late;              /* with ETIMEDOUT: its own deadline was over, which may be for its wait in the queue alone */
	int status;             /* also with err, where the head of an answer has come: cut off, too long; else 0 */
	struct slice body;      /* secret memory; valid during done only, as is all of this */
	bool json;              /* its Content-Type is application/json (or +json) */
	const char *location;   /* of a redirect, NULL: none */
	int64_t retry_after_ms; /* Retry-After (seconds or a date); -1: none */
	int64_t date_ns;        /* Date, real time; 0: none */
};

/*
 * Starts one. All of req is copied. done is called exactly once, in the event thread, never from within this call, and
 * not after http_cancel. NULL: out of memory.
 */
struct http_call *http_start(struct http *h, const struct http_request *req,
                             void (*done)(void *arg, const struct http_response *r), void *arg);
void http_cancel(struct http_call *call);

/* For the status: calls under way and waiting; connections made so far. */
struct http_stats {
	size_t active, queued;
	unsigned long calls, failures, connections;
};
void http_get_stats(const struct http *h, struct http_stats *ret);

#endif
