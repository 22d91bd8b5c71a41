/*
 * What TLS connections to one server trust and show: certificates of authorities, our own certificate and key. The
 * files are read in the pool, parsed there, and read anew when they change; a connection that is made later has
 * what is known then, and kept-alive ones are given up. The server's certificate and name are always verified, unless
 * skip_verify says otherwise. TLS 1.2 at least. Event thread only.
 */
#ifndef CONNECTFS_NET_TLS_H
#define CONNECTFS_NET_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/pool.h"
#include "base/watch.h"

struct tls;

/* Paths are absolute. All may be NULL; strings are copied. */
struct tls_settings {
	const char *ca_cert;     /* a PEM file with one or more; with ca_path: both hold */
	const char *ca_path;     /* a directory of such files (each file in it counts, whatever its name) */
	                         /* neither: the system's, /etc/ssl/certs/ca-certificates.crt */
	const char *client_cert; /* PEM, the chain after it */
	const char *client_key;  /* PEM without a passphrase; NULL: it is in client_cert too */
	const char *server_name; /* for SNI and verification, in place of the host */
	bool skip_verify;
};

/* watcher NULL: files are read once. 0 or -errno with a sentence. Reads nothing yet. */
int tls_new(struct loop *loop, struct pool *pool, struct watcher *watcher, const struct tls_settings *settings,
            struct tls **ret, struct error *ret_err);
void tls_free(struct tls *t); /* NULL allowed */

/* Calls add for each file and directory that it reads. */
void tls_reads(const struct tls *t, void (*add)(void *arg, const char *path), void *arg);

/*
 * Sees to it that the files have been read: 0, they are (or there is something that they were when they could be read
 * last); 1: done(arg, err, text) comes later, never from within this call: err 0, or a positive errno with a sentence
 * that names the file. A failure is tried again at the next call, but not more often than once a second.
 */
struct tls_wait;
int tls_ready(struct tls *t, void (*done)(void *arg, int err, const char *text), void *arg, struct tls_wait **ret);
void tls_wait_cancel(struct tls_wait *w);

/* Moves when files have been read anew: connections made under another number are to be given up. */
uint64_t tls_generation(const struct tls *t);
const char *tls_server_name(const struct tls *t); /* NULL: the host */
bool tls_skips_verify(const struct tls *t);
/* Sets up an SSL_CTX of libcurl's (CURLOPT_SSL_CTX_FUNCTION). After tls_ready. 0 or -errno. */
int tls_apply(struct tls *t, void *ssl_ctx);
/* Called when the generation moves, so that whoever waits because of it may try again. NULL: nobody. */
void tls_on_change(struct tls *t, void (*changed)(void *arg), void *arg);

#endif
