/*
 * One secret store's HTTP interface, at one or more addresses: which address is asked, what is tried again, what
 * a redirect may do, and the circuit that makes an outage cost one probe and not an attempt a secret.
 *
 * The circuit: closed, requests go out. It opens when a request found no address that answers, or an answer said that
 * the server is out as a whole (503 with the last address). While it is open a request fails at once with what opened
 * it, and one probe goes out after each back-off (from SERVER_BACKOFF_MIN_MS, doubled up to SERVER_BACKOFF_MAX_MS,
 * each wait drawn from its upper half), to the addresses in order. The first probe that is answered well closes it. A
 * request that was taken and not answered in its time, or whose own deadline was over before it was sent, proves
 * nothing: then a probe decides, and meanwhile requests go on. The back-off is forgotten only when a request of
 * somebody's has ended well.
 *
 * Event thread only.
 */
#ifndef CONNECTFS_NET_SERVER_H
#define CONNECTFS_NET_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/http.h"

struct server;
struct server_call;

enum {
	SERVER_BACKOFF_MIN_MS = 500,
	SERVER_BACKOFF_MAX_MS = 30000,
	SERVER_RETRIES = 2,             /* of one request, at one address that answers "not now" */
	SERVER_RETRY_MS = 250,          /* before the first, doubled each time, with full jitter; Retry-After goes before */
	SERVER_REDIRECTS = 2,
	SERVER_ADDRESSES_MAX = 16,
};

struct server_settings {
	const char *const *addresses;   /* at least one; "https://host:8200" without a path, or "unix:///path" */
	size_t n_addresses;
	struct tls *tls;                /* NULL: no https address is among them. The server takes it over */
	unsigned connections;
	bool env_proxy;
	int64_t connect_ms;             /* HTTP_CONNECT_MS; a probe must be answered within it as well */
	const char *probe;              /* path of a GET without headers: any status below 500 is well */
	/* The circuit has opened (text: the sentence) or closed (NULL). May be NULL. From the loop. */
	void (*changed)(void *arg, const char *text);
	void *arg;
};

/* Parses, checks and copies: an address without a scheme, with a path other than "/", a query or user info is -EINVAL
 * with a sentence. 0 or -errno; on failure tls stays the caller's. */
int server_new(struct loop *loop, const struct server_settings *settings, struct server **ret, struct error *ret_err);
void server_free(struct server *s); /* NULL allowed; calls must have ended or been cancelled */

struct server_request {
	const char *method;
	const char *path;               /* as in http_request */
	const struct http_header *headers;
	size_t n_headers;
	struct slice body;
	int64_t deadline_ms;            /* for all tries together */
	bool once;                      /* it makes something (a database account): tried again only if it was surely not
	                                   acted on */
};

/*
 * As http_start. What done gets is of the last try. Tried again: no connection, at the next address (the first that
 * answered stays the one that is asked first); 412, 429, 500, 502, 503, 504 SERVER_RETRIES times within the deadline
 * (503 and no connection not if all addresses have said so: the circuit opens). A 307 is followed SERVER_REDIRECTS
 * times, never from https to http, and only to a host and port that is among the addresses; else EPROTO with a
 * sentence that names the target. While the circuit is open: the err and text that opened it (ECONNREFUSED and so on;
 * EIO where it was a status).
 */
struct server_call *server_start(struct server *s, const struct server_request *req,
                                 void (*done)(void *arg, const struct http_response *r), void *arg);
void server_cancel(struct server_call *call);

/* For the status. */
struct server_status {
	const char *address;            /* the one that is asked first */
	bool open;                      /* the circuit is open */
	int64_t since_ns;               /* when it opened or closed, real time; 0: never */
	const char *error;              /* while it is open; else NULL */
	bool insecure;                  /* tls_skips_verify */
	struct http_stats http;
	unsigned long probes, retries;
};
void server_get_status(const struct server *s, struct server_status *ret);

/* Percent-encodes a path segment, or with keep_slashes a path: all but what RFC 3986 calls unreserved. 0 or buf's
 * error. */
int server_encode(struct buf *out, struct slice s, bool keep_slashes);

#endif
