/*
 * An HTTP server in threads of the test, which does what the path of a request says; over TLS if it has a context.
 *
 *   /ok /html /echo        200 and JSON; 200 and a page; the request's body
 *   /status/503            that status, with errors in JSON
 *   /flaky/2/500           twice that status, then 200
 *   /retry/7 /retry-date   429 with Retry-After: in seconds; as a date 30 s after Date
 *   /redirect?URL          307 to the URL
 *   /loop                  307 to itself
 *   /hang /slow-body       no answer; its head and not all of its body, until the peer ends
 *   /cut /cut-chunk        an answer that ends early
 *   /close /reset          no answer, and the end of the connection
 *   /stale                 200 to the first request of a connection, to the next the end
 *   /garbage               something else than HTTP
 *   /big /big-chunks       a body of PEER_BIG bytes, with and without its length before it
 *   /headers /long-line    100 KiB of headers; 200 KiB in one
 *   /interim               103 with headers of its own, then 200
 */
#ifndef CONNECTFS_UNIT_HTTP_PEER_H
#define CONNECTFS_UNIT_HTTP_PEER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PEER_BIG = 1 << 20, PEER_CONNECTIONS = 256, PEER_HEAD = 16 * 1024, PEER_BODY = 16 * 1024 };

struct peer {
	int fd, end[2]; /* end: readable when all is to end */
	unsigned port;
	char base[256]; /* "http://127.0.0.1:port", "unix:///path" */
	SSL_CTX *tls;
	pthread_t thread, threads[PEER_CONNECTIONS];
	atomic_int connections, requests, closed, flaky, mode; /* closed: requests of /close; mode: a status for all; -1: never an answer; 0: by the path */
	pthread_mutex_t mutex;
	char head[PEER_HEAD], body[PEER_BODY]; /* of the last request */
	size_t body_len;
	char shown[128], sni[128];             /* who the client says it is; which name it asked for */
};

struct peer_connection {
	struct peer *peer;
	SSL *ssl;
	int fd, served;
};

/* False: the end. */
static inline bool peer_wait(struct peer *p, int fd)
{
	struct pollfd fds[2] = { { .fd = p->end[0], .events = POLLIN }, { .fd = fd, .events = POLLIN } };

	while (poll(fds, fd < 0 ? 1 : 2, -1) < 0)
		;
	return fds[0].revents == 0;
}

static inline ssize_t peer_read(struct peer_connection *c, char *to, size_t n)
{
	if (!c->ssl)
		return peer_wait(c->peer, c->fd) ? recv(c->fd, to, n, 0) : -1;
	if (SSL_pending(c->ssl) == 0 && !peer_wait(c->peer, c->fd))
		return -1;
	return SSL_read(c->ssl, to, (int)n);
}

static inline bool peer_write(struct peer_connection *c, const char *s, size_t n)
{
	while (n > 0) {
		ssize_t w = c->ssl ? SSL_write(c->ssl, s, (int)n) : send(c->fd, s, n, MSG_NOSIGNAL);

		if (w <= 0)
			return false;
		s += w;
		n -= (size_t)w;
	}
	return true;
}

static inline bool peer_say(struct peer_connection *c, const char *s)
{
	return peer_write(c, s, strlen(s));
}

static inline bool peer_answer(struct peer_connection *c, int status, const char *headers, const char *body)
{
	char text[PEER_BODY + 1024];

	snprintf(text, sizeof(text), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body), headers, body);
	return peer_say(c, text);
}

static inline bool peer_big(struct peer_connection *c, bool chunked)
{
	char chunk[4096];

	memset(chunk, 'x', sizeof(chunk));
	if (!peer_say(c, chunked ? "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" :
	                 "HTTP/1.1 200 X\r\nContent-Length: 1048576\r\n\r\n"))
		return false;
	for (int i = 0; i < PEER_BIG / (int)sizeof(chunk); i++) {
		if (chunked && !peer_say(c, "1000\r\n"))
			return false;
		if (!peer_write(c, chunk, sizeof(chunk)) || (chunked && !peer_say(c, "\r\n")))
			return false;
	}
	return !chunked || peer_say(c, "0\r\n\r\n");
}

static inline bool peer_headers(struct peer_connection *c, bool one)
{
	static const char ten[] = "xxxxxxxxxx";

	if (!peer_say(c, "HTTP/1.1 200 X\r\nContent-Length: 0\r\n"))
		return false;
	for (int i = 0; i < (one ? 1 : 1000); i++) {
		if (!peer_say(c, "X-Much: "))
			return false;
		for (int k = 0; k < (one ? 20000 : 10); k++)
			if (!peer_write(c, ten, 10))
				return false;
		if (!peer_say(c, "\r\n"))
			return false;
	}
	return peer_say(c, "\r\n");
}

static inline bool peer_retry_date(struct peer_connection *c)
{
	char date[64], at[64], headers[256];
	time_t now = 1700000000, then = now + 30; /* the server's clock counts, not ours */
	struct tm tm;

	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
	strftime(at, sizeof(at), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&then, &tm));
	snprintf(headers, sizeof(headers), "Retry-After: %s\r\nDate: %s\r\n", at, date);
	return peer_answer(c, 503, headers, "");
}

static inline bool peer_reset(struct peer_connection *c)
{
	struct linger l = { .l_onoff = 1 };

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	return false;
}

#define PEER_JSON "Content-Type: application/json\r\n"

static inline bool peer_odd(struct peer_connection *c, const char *path)
{
	struct peer *p = c->peer;

	if (strcmp(path, "/hang") == 0)
		return peer_wait(p, -1);
	if (strcmp(path, "/slow-body") == 0)
		return peer_say(c, "HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nabc") && peer_wait(p, -1);
	if (strcmp(path, "/cut") == 0)
		return peer_say(c, "HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nBODY-CANARY") && false;
	if (strcmp(path, "/cut-chunk") == 0)
		return peer_say(c, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nBODY-CANARY") && false;
	if (strcmp(path, "/reset") == 0)
		return peer_reset(c);
	if (strcmp(path, "/stale") == 0)
		return c->served == 0 && peer_answer(c, 200, "", "");
	if (strcmp(path, "/garbage") == 0)
		return peer_say(c, "SSH-2.0-CANARY\r\nBODY-CANARY\r\n") && false;
	if (strncmp(path, "/big", 4) == 0)
		return peer_big(c, path[4] != '\0');
	if (strcmp(path, "/headers") == 0 || strcmp(path, "/long-line") == 0)
		return peer_headers(c, path[1] == 'l');
	if (strcmp(path, "/interim") == 0)
		return peer_say(c, "HTTP/1.1 103 X\r\nRetry-After: 9\r\n" PEER_JSON "\r\n") && peer_answer(c, 200, "", "{}");
	atomic_fetch_add(&p->closed, 1); /* /close */
	return false;
}

static inline bool peer_plain(struct peer_connection *c, const char *path)
{
	struct peer *p = c->peer;
	char headers[4096];
	int n, status;

	if (strcmp(path, "/ok") == 0)
		return peer_answer(c, 200, PEER_JSON, "{\"data\":1}");
	if (strcmp(path, "/html") == 0)
		return peer_answer(c, 200, "Content-Type: text/html\r\n", "<p>BODY-CANARY");
	if (strcmp(path, "/echo") == 0)
		return peer_answer(c, 200, "Content-Type: application/x+json; charset=utf-8\r\n", p->body);
	if (sscanf(path, "/status/%d", &status) == 1)
		return peer_answer(c, status, PEER_JSON, "{\"errors\":[\"BODY-CANARY\"]}");
	if (sscanf(path, "/flaky/%d/%d", &n, &status) == 2)
		return peer_answer(c, atomic_fetch_add(&p->flaky, 1) < n ? status : 200, "", "");
	if (sscanf(path, "/retry/%d", &n) == 1) {
		snprintf(headers, sizeof(headers), "Retry-After: %d\r\n", n);
		return peer_answer(c, 429, headers, "");
	}
	if (strcmp(path, "/retry-date") == 0)
		return peer_retry_date(c);
	if (strncmp(path, "/redirect?", 10) == 0 || strcmp(path, "/loop") == 0) {
		snprintf(headers, sizeof(headers), "Location: %s\r\n", path[1] == 'l' ? path : path + 10);
		return peer_answer(c, 307, headers, "");
	}
	return peer_odd(c, path);
}

/* Reads one request. False: there is none. */
static inline bool peer_request(struct peer_connection *c, char *path, size_t size)
{
	struct peer *p = c->peer;
	char head[PEER_HEAD], body[PEER_BODY] = "";
	size_t n = 0, want = 0, have;
	char *end = NULL, *at;

	while (!end) {
		ssize_t r = n < sizeof(head) - 1 ? peer_read(c, head + n, sizeof(head) - 1 - n) : -1;

		if (r <= 0)
			return false;
		n += (size_t)r;
		head[n] = '\0';
		if (head[0] == '\x16') { /* TLS, and we speak none */
			peer_answer(c, 400, "", "");
			return false;
		}
		end = strstr(head, "\r\n\r\n");
	}
	at = strcasestr(head, "\r\nContent-Length:");
	if (at && at < end)
		want = strtoul(at + 17, NULL, 10);
	have = n - (size_t)(end + 4 - head);
	memcpy(body, end + 4, have);
	while (have < want && have < sizeof(body) - 1) {
		ssize_t r = peer_read(c, body + have, sizeof(body) - 1 - have);

		if (r <= 0)
			return false;
		have += (size_t)r;
	}
	end[2] = '\0';
	pthread_mutex_lock(&p->mutex);
	strcpy(p->head, head);
	memcpy(p->body, body, sizeof(body));
	p->body_len = have;
	pthread_mutex_unlock(&p->mutex);
	at = strchr(head, ' ');
	if (!at)
		return false;
	snprintf(path, size, "%.*s", (int)strcspn(at + 1, " "), at + 1);
	atomic_fetch_add(&p->requests, 1);
	return true;
}

static inline bool peer_accept_tls(struct peer_connection *c)
{
	struct peer *p = c->peer;
	X509 *x;
	const char *name;
	char rest[1024];

	if (!p->tls)
		return true;
	c->ssl = SSL_new(p->tls);
	SSL_set_fd(c->ssl, c->fd);
	if (SSL_accept(c->ssl) != 1) {
		/* What has come already must be read, or the end is a reset, which overtakes the alert. */
		shutdown(c->fd, SHUT_WR);
		while (peer_wait(p, c->fd) && recv(c->fd, rest, sizeof(rest), 0) > 0)
			;
		return false;
	}
	x = SSL_get1_peer_certificate(c->ssl);
	name = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
	pthread_mutex_lock(&p->mutex);
	p->shown[0] = '\0';
	if (x)
		X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, p->shown, sizeof(p->shown));
	snprintf(p->sni, sizeof(p->sni), "%s", name ? name : "");
	pthread_mutex_unlock(&p->mutex);
	X509_free(x);
	return true;
}

static inline void *peer_connection(void *arg)
{
	struct peer_connection *c = arg;
	struct peer *p = c->peer;
	struct timeval most = { .tv_sec = 20 };
	char path[2048];
	int mode;

	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
	if (peer_accept_tls(c)) {
		for (bool go = true; go && peer_request(c, path, sizeof(path)); c->served++) {
			mode = atomic_load(&p->mode);
			go = mode < 0 ? peer_wait(p, -1) : mode > 0 ? peer_answer(c, mode, "", "") : peer_plain(c, path);
		}
	}
	if (c->ssl) {
		SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
	}
	close(c->fd);
	free(c);
	return NULL;
}

static inline void *peer_main(void *arg)
{
	struct peer *p = arg;

	while (peer_wait(p, p->fd)) {
		int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC), n = atomic_load(&p->connections);
		struct peer_connection *c = calloc(1, sizeof(*c));

		if (fd < 0 || n >= PEER_CONNECTIONS || !c) {
			free(c);
			break;
		}
		*c = (struct peer_connection){ .peer = p, .fd = fd };
		atomic_store(&p->connections, n + 1); /* before anybody can have an answer by it */
		if (pthread_create(&p->threads[n], NULL, peer_connection, c) != 0)
			abort();
	}
	return NULL;
}

static inline void peer_go(struct peer *p)
{
	sigset_t all, old;

	signal(SIGPIPE, SIG_IGN);
	pthread_mutex_init(&p->mutex, NULL);
	if (pipe(p->end) < 0 || listen(p->fd, 64) < 0)
		abort();
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (pthread_create(&p->thread, NULL, peer_main, p) != 0)
		abort();
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* At a port that is given (0: any that is free). */
static inline void peer_start(struct peer *p, SSL_CTX *tls, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	                         .sin_port = htons((uint16_t)port) };
	socklen_t len = sizeof(a);
	int one = 1;

	*p = (struct peer){ .tls = tls, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(p->fd, (struct sockaddr *)&a, len) < 0 || getsockname(p->fd, (struct sockaddr *)&a, &len) < 0)
		abort();
	p->port = ntohs(a.sin_port);
	snprintf(p->base, sizeof(p->base), "%s://127.0.0.1:%u", tls ? "https" : "http", p->port);
	peer_go(p);
}

static inline void peer_start_unix(struct peer *p, const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	*p = (struct peer){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (bind(p->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		abort();
	snprintf(p->base, sizeof(p->base), "unix://%s", path);
	peer_go(p);
}

/* All its connections end as well. */
static inline void peer_stop(struct peer *p)
{
	if (p->fd < 0)
		return;
	(void)!write(p->end[1], "x", 1);
	pthread_join(p->thread, NULL);
	for (int i = 0; i < atomic_load(&p->connections); i++)
		pthread_join(p->threads[i], NULL);
	close(p->fd);
	close(p->end[0]);
	close(p->end[1]);
	pthread_mutex_destroy(&p->mutex);
	p->fd = -1;
}

/* Does the head of the last request have that line, whatever its case? */
static inline bool peer_saw(struct peer *p, const char *line)
{
	char with[1024];
	bool saw;

	snprintf(with, sizeof(with), "\r\n%s\r\n", line);
	pthread_mutex_lock(&p->mutex);
	saw = strcasestr(p->head, with) != NULL;
	pthread_mutex_unlock(&p->mutex);
	return saw;
}

#endif
