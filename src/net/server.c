/*
 * A server at its addresses: tries, redirects, the circuit.
 */
#include "net/server.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/secmem.h"

enum {
	TRY_MIN_MS = 1000,    /* of a try, where more addresses are left */
	HEADERS_MAX = 16,
};

struct address {
	char *base;           /* "https://host:8200" */
	char *host;           /* lower case; NULL: a Unix socket */
	unsigned port;
	bool https;
};

struct server {
	struct loop *loop;
	struct http *http;
	struct tls *tls;
	struct address addresses[SERVER_ADDRESSES_MAX];
	size_t n_addresses, first; /* the one that is asked first */
	char *probe;
	void (*changed)(void *arg, const char *text);
	void *arg;

	bool open;
	struct error error;        /* what opened it */
	int64_t since_ns, backoff_ms, probe_ms;
	struct loop_timer *timer;  /* the next probe */
	struct http_call *probing;
	size_t probe_at, probe_left;
	struct list calls;
	struct loop_timer *tell;   /* says that the circuit has changed */
	bool told_open;
	unsigned long probes, retries;
};

struct server_header {
	char *name, *value;        /* value in secret memory */
	size_t len;
};

struct server_call {
	struct server *server;
	struct list node;
	struct http_call *http;
	struct loop_timer *timer;  /* until the next try */
	char *method, *path;
	struct server_header headers[HEADERS_MAX];
	size_t n_headers;
	char *body;                /* secret memory */
	size_t body_len;
	int64_t deadline_ms;       /* monotonic */
	bool once;
	size_t at, tried;          /* the address of this try; how many have been tried */
	unsigned retries, redirects;
	void (*done)(void *arg, const struct http_response *r);
	void *done_arg;
};

/* Not random(), by which all that start at once would come back at once. */
static int64_t random_below(int64_t n)
{
	uint32_t r = 0;

	(void)!getrandom(&r, sizeof(r), GRND_NONBLOCK);
	return n > 0 ? (int64_t)(r % (uint64_t)n) : 0;
}

/* ---- the circuit ---- */

static void probe(struct server *s);

static void on_probe_time(void *arg)
{
	struct server *s = arg;

	if (s->probing)
		return; /* what it finds decides */
	s->probe_at = 0;
	s->probe_left = s->n_addresses;
	probe(s);
}

static void wait_for_probe(struct server *s)
{
	int64_t next = s->backoff_ms ? s->backoff_ms * 2 : SERVER_BACKOFF_MIN_MS;

	s->backoff_ms = next < SERVER_BACKOFF_MAX_MS ? next : SERVER_BACKOFF_MAX_MS;
	loop_timer_set(s->timer, s->backoff_ms / 2 + random_below(s->backoff_ms / 2));
}

/* From the loop, where no call is being looked at: who is told may do anything. */
static void tell_changed(void *arg)
{
	struct server *s = arg;

	if (s->open == s->told_open || !s->changed)
		return;
	s->told_open = s->open;
	s->changed(s->arg, s->open ? s->error.text : NULL);
}

static void circuit_open(struct server *s, int err, const char *text)
{
	error_set(&s->error, err, "%s", text);
	if (s->open)
		return;
	s->open = true;
	s->since_ns = clock_real_ns();
	wait_for_probe(s);
	loop_timer_set(s->tell, 0);
}

static void circuit_close(struct server *s, size_t at)
{
	s->first = at;
	if (!s->open)
		return;
	s->open = false;
	s->since_ns = clock_real_ns();
	loop_timer_stop(s->timer);
	loop_timer_set(s->tell, 0);
}

/* A status of a server that does its work, for this request or another. */
static bool answers(const struct http_response *r)
{
	return !r->err && r->status < 500;
}

static void set_status_text(struct error *e, const struct server *s, size_t at, int status)
{
	error_set(e, EIO, "%s answers %d%s", s->addresses[at].base, status,
	          status == 503 ? " (sealed, or in maintenance)" : "");
}

static void on_probe(void *arg, const struct http_response *r)
{
	struct server *s = arg;
	size_t at = s->probe_at;
	struct error e = ERROR_INIT;

	s->probing = NULL;
	if (answers(r)) {
		circuit_close(s, at);
		return;
	}
	if (r->err)
		error_set(&e, r->err, "%s", r->text);
	else
		set_status_text(&e, s, at, r->status);
	s->probe_at++;
	if (s->probe_left && --s->probe_left) {
		probe(s);
		return;
	}
	if (s->open) {
		s->error = e;
		wait_for_probe(s);
	} else {
		circuit_open(s, e.code, e.text);
	}
}

static void probe(struct server *s)
{
	struct http_request req = { .method = "GET", .base = s->addresses[s->probe_at].base, .path = s->probe,
	                            .deadline_ms = s->probe_ms, .urgent = true };

	s->probes++;
	s->probing = http_start(s->http, &req, on_probe, s);
	if (!s->probing && s->open)
		wait_for_probe(s);
}

/* Other certificates may be what was missing. */
static void on_tls_change(void *arg)
{
	struct server *s = arg;

	if (s->open)
		on_probe_time(s);
}

/* One request has had no answer: is it the request, or the server? */
static void suspect(struct server *s)
{
	if (!s->open && !s->probing)
		on_probe_time(s);
}

/* ---- a call ---- */

static void try_now(struct server_call *c);

static void call_free(struct server_call *c)
{
	http_cancel(c->http);
	list_remove(&c->node);
	loop_timer_free(c->timer);
	for (size_t i = 0; i < c->n_headers; i++) {
		free(c->headers[i].name);
		secmem_free(c->headers[i].value);
	}
	secmem_free(c->body);
	free(c->method);
	free(c->path);
	free(c);
}

static void call_end(struct server_call *c, const struct http_response *r)
{
	struct server *s = c->server;

	if (answers(r)) {
		s->backoff_ms = s->open ? s->backoff_ms : 0;
		s->first = c->at;
	}
	list_remove(&c->node); /* who is told may free the server */
	c->done(c->done_arg, r);
	call_free(c);
}

static int64_t left_ms(const struct server_call *c)
{
	return c->deadline_ms - clock_mono_ms();
}

static void fail_now(struct server_call *c, int err, const char *text)
{
	struct http_response r = { .err = err, .text = text, .retry_after_ms = -1 };

	call_end(c, &r);
}

/* The first try comes here too; so do those that waited while the circuit opened. */
static void on_try_time(void *arg)
{
	struct server_call *c = arg;
	struct error e = c->server->error; /* the server may go while it is told */

	if (c->server->open)
		fail_now(c, e.code, e.text);
	else
		try_now(c);
}

/* False: the deadline would pass first. */
static bool try_later(struct server_call *c, const struct http_response *r)
{
	int64_t wait = (int64_t)SERVER_RETRY_MS << c->retries;

	wait = r->retry_after_ms >= 0 ? r->retry_after_ms : random_below(wait) + 1;
	if (wait >= left_ms(c))
		return false;
	c->retries++;
	c->server->retries++;
	c->tried = 0;
	loop_timer_set(c->timer, wait);
	return true;
}

static bool try_next(struct server_call *c)
{
	struct server *s = c->server;

	if (c->tried >= s->n_addresses || left_ms(c) <= 0)
		return false;
	c->at = (c->at + 1) % s->n_addresses;
	loop_timer_set(c->timer, 0);
	return true;
}

/* ---- redirects ---- */

static int parse_address(const char *text, struct address *ret, struct error *err);

static void address_done(struct address *a)
{
	free(a->base);
	free(a->host);
}

/* "https://host:port/path": where that is one of ours, its number, and *ret_path. */
static bool find_target(const struct server *s, const char *location, size_t *ret_at, const char **ret_path)
{
	const char *rest = strstr(location, "://");
	size_t base = rest ? (size_t)(rest - location) + 3 : 0;
	struct address a = { .base = NULL };
	char *text;
	bool found = false;

	if (!rest)
		return false;
	base += strcspn(location + base, "/?#");
	text = strndup(location, base);
	if (text && location[base] == '/' && parse_address(text, &a, NULL) == 0) {
		for (size_t i = 0; i < s->n_addresses && !found; i++) {
			const struct address *own = &s->addresses[i];

			found = own->host && a.host && strcmp(own->host, a.host) == 0 && own->port == a.port &&
			        own->https == a.https;
			if (found) {
				*ret_at = i;
				*ret_path = location + base;
			}
		}
	}
	free(text);
	address_done(&a);
	return found;
}

/* Scheme, host and port of it, for a sentence: neither a password before the host, nor what follows. */
static void target_of(const char *location, char *ret, size_t size)
{
	bool https = strncasecmp(location, "https://", 8) == 0, http = strncasecmp(location, "http://", 7) == 0;
	const char *host = location + (https ? 8 : 7), *at;
	size_t len;

	if (!https && !http) {
		snprintf(ret, size, "%s", location[0] == '/' && location[1] != '/' ? "itself" : "what is no address of HTTP");
		return;
	}
	len = strcspn(host, "/?#");
	at = memrchr(host, '@', len);
	if (at) {
		len -= (size_t)(at + 1 - host);
		host = at + 1;
	}
	snprintf(ret, size, "%s://%.*s", https ? "https" : "http", (int)(len < size ? len : size), host);
}

static void fail_redirect(struct server_call *c, const char *location, const char *why)
{
	struct error e = ERROR_INIT;
	struct http_response r = { .text = e.text, .err = EPROTO, .retry_after_ms = -1 };
	char target[300];

	target_of(location, target, sizeof(target));
	error_set(&e, EPROTO, "%s redirects to %s: %s", c->server->addresses[c->at].base, target, why);
	call_end(c, &r);
}

static void redirect(struct server_call *c, const char *location)
{
	struct server *s = c->server;
	const char *path = NULL;
	size_t at = 0;
	char *copy;

	if (s->addresses[c->at].https && strncasecmp(location, "http:", 5) == 0) {
		fail_redirect(c, location, "from https to http is not followed");
		return;
	}
	if (location[0] == '/' && location[1] != '/') {
		at = c->at;
		path = location;
	} else if (!find_target(s, location, &at, &path)) {
		fail_redirect(c, location, "that is not among the addresses, and gets no token");
		return;
	}
	if (c->redirects++ >= SERVER_REDIRECTS) {
		fail_redirect(c, location, "that is one redirect too many");
		return;
	}
	copy = strdup(path);
	if (!copy) {
		fail_redirect(c, location, "out of memory");
		return;
	}
	free(c->path);
	c->path = copy;
	c->at = at;
	loop_timer_set(c->timer, 0);
}

/* ---- tries ---- */

static bool not_now(int status)
{
	return status == 412 || status == 429 || status == 500 || status == 502 || status == 504;
}

static bool no_connection(const struct http_response *r)
{
	return r->err && r->err != EINVAL && r->err != ENOMEM;
}

static void no_answer(struct server_call *c, const struct http_response *r)
{
	struct server *s = c->server;

	if ((!c->once || !r->sent) && try_next(c))
		return;
	/* Its own deadline may have been too short, or for its wait in the queue. */
	if (r->late || r->sent || c->tried < s->n_addresses)
		suspect(s);
	else
		circuit_open(s, r->err, r->text);
	call_end(c, r);
}

static void sealed(struct server_call *c, const struct http_response *r)
{
	struct error e = ERROR_INIT;

	/* A proxy may say so after it has passed the request on. */
	if (!c->once && try_next(c))
		return;
	set_status_text(&e, c->server, c->at, r->status);
	if (c->tried < c->server->n_addresses)
		suspect(c->server);
	else
		circuit_open(c->server, EIO, e.text);
	call_end(c, r);
}

static void on_answer(void *arg, const struct http_response *r)
{
	struct server_call *c = arg;

	c->http = NULL;
	if (r->err && r->status) { /* it answers; but that was cut off, or is too long */
		if (c->once || c->retries >= SERVER_RETRIES || !try_later(c, r))
			call_end(c, r);
	} else if (no_connection(r)) {
		no_answer(c, r);
	} else if (!r->err && r->status == 503) {
		sealed(c, r);
	} else if (!r->err && r->status == 307 && r->location) {
		redirect(c, r->location);
	} else if (!r->err && not_now(r->status) && c->retries < SERVER_RETRIES &&
	           (!c->once || r->status == 412 || r->status == 429) && try_later(c, r)) {
		;
	} else {
		call_end(c, r);
	}
}

/* From the loop. */
static void try_now(struct server_call *c)
{
	struct server *s = c->server;
	struct http_header headers[HEADERS_MAX];
	int64_t left = left_ms(c), most;
	struct http_request req = {
		.method = c->method, .base = s->addresses[c->at].base, .path = c->path, .headers = headers,
		.n_headers = c->n_headers, .body = slice_of(c->body, c->body_len), .fresh = c->once,
	};

	for (size_t i = 0; i < c->n_headers; i++)
		headers[i] = (struct http_header){ c->headers[i].name, slice_of(c->headers[i].value, c->headers[i].len) };
	c->tried++;
	/* Who comes after one that hangs must have time as well. */
	most = c->tried < s->n_addresses ? left / (int64_t)(s->n_addresses - c->tried + 1) : left;
	req.deadline_ms = most > TRY_MIN_MS ? most : left < TRY_MIN_MS ? left : TRY_MIN_MS;
	c->http = http_start(s->http, &req, on_answer, c);
	if (!c->http)
		fail_now(c, ENOMEM, "out of memory");
}

static bool call_copy(struct server_call *c, const struct server_request *req)
{
	c->method = strdup(req->method);
	c->path = strdup(req->path);
	if (!c->method || !c->path || req->n_headers > HEADERS_MAX)
		return false;
	for (size_t i = 0; i < req->n_headers; i++) {
		struct server_header *h = &c->headers[c->n_headers++];

		*h = (struct server_header){ strdup(req->headers[i].name), secmem_strdup(req->headers[i].value),
		                             req->headers[i].value.len };
		if (!h->name || !h->value)
			return false;
	}
	if (!req->body.len)
		return true;
	c->body = secmem_alloc(req->body.len);
	if (!c->body)
		return false;
	memcpy(c->body, req->body.data, req->body.len);
	c->body_len = req->body.len;
	return true;
}

struct server_call *server_start(struct server *s, const struct server_request *req,
                                 void (*done)(void *arg, const struct http_response *r), void *arg)
{
	struct server_call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct server_call){ .server = s, .once = req->once, .at = s->first, .done = done, .done_arg = arg,
	                           .deadline_ms = clock_mono_ms() + req->deadline_ms };
	list_init(&c->node);
	c->timer = loop_timer_new(s->loop, on_try_time, c);
	if (!c->timer || !call_copy(c, req)) {
		call_free(c);
		return NULL;
	}
	list_append(&s->calls, &c->node);
	loop_timer_set(c->timer, 0); /* done is not called from within */
	return c;
}

void server_cancel(struct server_call *call)
{
	if (call)
		call_free(call);
}

/* ---- addresses ---- */

static bool valid_host(const char *host, size_t len)
{
	if (!len || len > 255)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)host[i]) && !strchr("-._:[]%", host[i]))
			return false;
	return true;
}

static int parse_socket(const char *text, struct address *ret, struct error *err)
{
	struct sockaddr_un un;

	if (text[7] != '/' || strlen(text + 7) >= sizeof(un.sun_path))
		return error_set(err, EINVAL, "%s: a socket's path is absolute, and not longer than %zu bytes", text,
		                 sizeof(un.sun_path) - 1);
	ret->base = strdup(text);
	return ret->base ? 0 : error_set(err, ENOMEM, "out of memory");
}

/* host, host:port or [::1]:port; len without a slash at the end. */
static int parse_host(const char *text, const char *host, size_t len, struct address *ret, struct error *err)
{
	const char *colon = memrchr(host, ':', len), *bracket = memrchr(host, ']', len);
	size_t host_len = len;
	unsigned long port = ret->https ? 443 : 80;
	char *end;

	if (colon && (!bracket || colon > bracket)) {
		host_len = (size_t)(colon - host);
		port = strtoul(colon + 1, &end, 10);
		if (end != host + len || end == colon + 1 || !isdigit((unsigned char)colon[1]) || port < 1 || port > 65535)
			return error_set(err, EINVAL, "%s: the port is none", text);
	}
	if (!valid_host(host, host_len) || (host[0] != '[' && memchr(host, ':', host_len)))
		return error_set(err, EINVAL, "%s: the host is none", text);
	ret->host = strndup(host, host_len);
	if (!ret->host || asprintf(&ret->base, "%s://%s:%lu", ret->https ? "https" : "http", ret->host, port) < 0) {
		ret->base = NULL;
		address_done(ret);
		return error_set(err, ENOMEM, "out of memory");
	}
	for (char *p = ret->host; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	ret->port = (unsigned)port;
	return 0;
}

static int parse_address(const char *text, struct address *ret, struct error *err)
{
	struct address a = { .base = NULL };
	const char *host;
	size_t len;
	int r;

	if (strncasecmp(text, "unix://", 7) == 0)
		r = parse_socket(text, &a, err);
	else if (strncasecmp(text, "http://", 7) != 0 && strncasecmp(text, "https://", 8) != 0)
		/* It may be anything, a token in the wrong place too; so it is not shown. */
		return error_set(err, EINVAL, "an address begins with https://, http:// or unix:///, and this one does not");
	else {
		a.https = tolower((unsigned char)text[4]) == 's';
		host = text + (a.https ? 8 : 7);
		len = strcspn(host, "/?#");
		if (memchr(host, '@', len))
			return error_set(err, EINVAL, "an address has a user in it, which is not supported");
		if (host[len] && strcmp(host + len, "/") != 0)
			return error_set(err, EINVAL, "%.*s: an address ends after the host and the port",
			                 (int)(host + len - text), text);
		r = parse_host(text, host, len, &a, err);
	}
	if (r == 0)
		*ret = a;
	return r;
}

static int parse_addresses(struct server *s, const struct server_settings *settings, struct error *err)
{
	if (!settings->n_addresses || settings->n_addresses > SERVER_ADDRESSES_MAX)
		return error_set(err, EINVAL, "between 1 and %d addresses are needed", SERVER_ADDRESSES_MAX);
	for (size_t i = 0; i < settings->n_addresses; i++) {
		int r = parse_address(settings->addresses[i], &s->addresses[i], err);

		if (r)
			return r;
		s->n_addresses++;
		if (s->addresses[i].https && !settings->tls)
			return error_set(err, EINVAL, "%s: TLS is not set up", settings->addresses[i]);
	}
	return 0;
}

int server_new(struct loop *loop, const struct server_settings *settings, struct server **ret, struct error *ret_err)
{
	struct http_settings http = { .tls = settings->tls, .connections = settings->connections,
	                              .env_proxy = settings->env_proxy, .connect_ms = settings->connect_ms };
	struct server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(ret_err, ENOMEM, "out of memory");
	s->loop = loop;
	s->changed = settings->changed;
	s->arg = settings->arg;
	s->probe_ms = settings->connect_ms > 0 ? settings->connect_ms : HTTP_CONNECT_MS;
	list_init(&s->calls);
	err = parse_addresses(s, settings, ret_err);
	if (!err) {
		s->probe = strdup(settings->probe);
		s->timer = loop_timer_new(loop, on_probe_time, s);
		s->tell = loop_timer_new(loop, tell_changed, s);
		if (!s->probe || !s->timer || !s->tell || http_new(loop, &http, &s->http) < 0)
			err = error_set(ret_err, ENOMEM, "out of memory");
	}
	if (err) {
		server_free(s);
		return err;
	}
	s->tls = settings->tls;
	if (s->tls)
		tls_on_change(s->tls, on_tls_change, s);
	*ret = s;
	return 0;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	if (s->probing)
		http_cancel(s->probing);
	http_free(s->http);
	tls_free(s->tls);
	loop_timer_free(s->timer);
	loop_timer_free(s->tell);
	for (size_t i = 0; i < s->n_addresses; i++)
		address_done(&s->addresses[i]);
	free(s->probe);
	free(s);
}

void server_get_status(const struct server *s, struct server_status *ret)
{
	*ret = (struct server_status){
		.address = s->addresses[s->first].base, .open = s->open, .since_ns = s->since_ns,
		.error = s->open ? s->error.text : NULL, .insecure = s->tls && tls_skips_verify(s->tls),
		.probes = s->probes, .retries = s->retries,
	};
	http_get_stats(s->http, &ret->http);
}

int server_encode(struct buf *out, struct slice s, bool keep_slashes)
{
	for (size_t i = 0; i < s.len && !out->err; i++) {
		unsigned char c = (unsigned char)s.data[i];

		if ((c < 0x80 && isalnum(c)) || (c && strchr("-._~", c)) || (keep_slashes && c == '/'))
			buf_add_char(out, (char)c);
		else
			buf_addf(out, "%%%02X", c);
	}
	return out->err;
}
