/*
 * HTTP over libcurl's multi interface. A call waits for the TLS files, then in the queue, then it is a transfer of
 * libcurl's; all that time its own timer runs. It ends in the list of what is to be told, from the loop.
 */
#include "net/http.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/secmem.h"
#include "net/lib.h"

enum {
	IDLE_EASY_MAX = 32,      /* of libcurl's handles, kept to be used again */
	RETRY_AFTER_MAX_MS = 86400 * 1000,
	REQUEST_BODY_MAX = 4 * 1024 * 1024,
};

/* libcurl's connections of one generation of the TLS files: it would not notice that they have changed. */
struct generation {
	struct http *http;
	CURLM *multi;
	struct loop_timer *timer;
	uint64_t number;
	unsigned active;
	bool dead;                   /* libcurl has given it up: it could not watch a socket */
	struct list node;
};

struct socket {
	struct generation *generation;
	struct loop_io *io;
};

enum call_state { CALL_TLS, CALL_QUEUED, CALL_ACTIVE, CALL_ENDED };

struct http_call {
	struct http *http;
	enum call_state state;
	struct list node;            /* of the queue, or of what is to be told */
	struct loop_timer *deadline;
	struct tls_wait *tls_wait;
	struct generation *generation;
	CURL *easy;
	struct curl_slist *headers;  /* libcurl's allocators: wiped */
	struct curl_slist *connect_to;
	char *method, *url, *socket_path, *connect, *shown; /* shown: "GET https://host:8200/v1/secret" */
	bool https, fresh, urgent, with_body;
	struct buf body;             /* of the request; secret */
	struct buf answer;           /* secret */
	size_t header_bytes;
	bool long_headers, long_body, json, bad_tls;
	char *location;
	int64_t retry_after_ms;      /* -1: none, or a date: */
	time_t retry_at, date;       /* 0: none */
	char curl_error[CURL_ERROR_SIZE];
	/* How it ended */
	int err, status;
	bool sent, late;
	struct error text;
	void (*done)(void *arg, const struct http_response *r);
	void *arg;
};

struct http {
	struct loop *loop;
	struct http_settings settings;
	struct generation *current;  /* NULL: none yet */
	struct list generations;
	struct list queue, active, ended;
	struct loop_timer *tell;
	bool telling, dead;          /* it is telling; it has been freed meanwhile */
	CURL *idle[IDLE_EASY_MAX];
	size_t n_idle;
	struct http_stats stats;
};

/* ---- ending ---- */

static void pump(struct http *h);

static void easy_give_back(struct http *h, CURL *easy)
{
	if (h->n_idle < IDLE_EASY_MAX) {
		curl_easy_reset(easy);
		h->idle[h->n_idle++] = easy;
	} else {
		curl_easy_cleanup(easy);
	}
}

static void generation_free(struct generation *g)
{
	list_remove(&g->node);
	curl_multi_cleanup(g->multi); /* calls back for each socket */
	loop_timer_free(g->timer);
	free(g);
}

/* Takes it out of libcurl. */
static void call_stop(struct http_call *c)
{
	struct generation *g = c->generation;

	if (c->easy) {
		if (g)
			curl_multi_remove_handle(g->multi, c->easy);
		easy_give_back(c->http, c->easy);
	}
	c->easy = NULL;
	if (g) {
		c->http->stats.active--;
		if (--g->active == 0 && g != c->http->current)
			generation_free(g);
	}
	c->generation = NULL;
}

static void call_free(struct http_call *c)
{
	call_stop(c);
	if (c->state == CALL_QUEUED)
		c->http->stats.queued--;
	if (c->tls_wait)
		tls_wait_cancel(c->tls_wait);
	list_remove(&c->node);
	loop_timer_free(c->deadline);
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->connect_to);
	buf_free(&c->body);
	buf_free(&c->answer);
	free(c->method);
	free(c->url);
	free(c->socket_path);
	free(c->connect);
	free(c->shown);
	free(c->location);
	free(c);
}

/* What it ended with is set. It is told from the loop. */
static void call_end(struct http_call *c)
{
	struct http *h = c->http;

	if (c->state == CALL_QUEUED)
		h->stats.queued--;
	call_stop(c);
	c->state = CALL_ENDED;
	loop_timer_stop(c->deadline);
	list_remove(&c->node);
	list_append(&h->ended, &c->node);
	loop_timer_set(h->tell, 0);
}

static void call_fail(struct http_call *c, int err, const char *text)
{
	c->err = err;
	error_set(&c->text, err, "%s: %s", c->shown, text);
	call_end(c);
}

/* A date is compared with the server's own clock, where it tells it. */
static int64_t retry_after_ms(const struct http_call *c)
{
	int64_t now = c->date ? c->date : clock_real_ns() / 1000000000;

	if (!c->retry_at)
		return c->retry_after_ms;
	if (c->retry_at <= now)
		return 0;
	if (c->retry_at - now >= RETRY_AFTER_MAX_MS / 1000)
		return RETRY_AFTER_MAX_MS;
	return (c->retry_at - now) * 1000;
}

static void tell(struct http_call *c)
{
	struct http_response r = {
		.err = c->err, .text = c->err ? c->text.text : NULL, .sent = c->sent, .late = c->late,
		.status = c->status, .json = c->json, .location = c->location, .retry_after_ms = retry_after_ms(c),
		.date_ns = c->date < INT64_MAX / 1000000000 ? (int64_t)c->date * 1000000000 : 0,
	};

	if (!c->err)
		r.body = buf_slice(&c->answer);
	c->done(c->arg, &r);
}

static void http_destroy(struct http *h);

/* Who is told may cancel others, start more, and free it all when no other call is left. */
static void tell_ended(void *arg)
{
	struct http *h = arg;
	struct list now;

	h->telling = true;
	list_init(&now);
	list_splice(&now, &h->ended); /* what ends meanwhile has its turn after other events */
	while (!list_empty(&now)) {
		struct http_call *c = list_entry(now.next, struct http_call, node);

		list_remove(&c->node);
		h->stats.calls++;
		h->stats.failures += c->err != 0;
		tell(c);
		call_free(c);
	}
	h->telling = false;
	if (h->dead)
		http_destroy(h);
	else
		pump(h);
}

/* ---- what libcurl says of an end ---- */

static int connect_errno(long os_errno)
{
	switch (os_errno) {
	case ETIMEDOUT:
		return ETIMEDOUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
		return EHOSTUNREACH;
	case ECONNRESET:
		return EPROTO;
	default: /* also a socket that is not there */
		return ECONNREFUSED;
	}
}

static void fail_connect(struct http_call *c)
{
	long os_errno = 0;

	curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os_errno);
	c->err = connect_errno(os_errno);
	error_set(&c->text, c->err, "%s: can't connect: %s", c->shown, strerror(os_errno ? (int)os_errno : c->err));
}

/* The fixed text of OpenSSL's error whose number libcurl's sentence has ("error:0A00045C:…"). NULL: it has none. */
static const char *tls_reason(const struct http_call *c)
{
	const char *at = strstr(c->curl_error, "error:");
	unsigned long code = at ? strtoul(at + strlen("error:"), NULL, 16) : 0;

	return code ? ERR_reason_error_string(code) : NULL;
}

/* Also where the server refuses our certificate: in TLS 1.3 that comes when the connection stands already. */
static void fail_broken_off(struct http_call *c)
{
	const char *reason = tls_reason(c);
	long os_errno = 0;

	curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os_errno);
	c->err = EPROTO;
	if (reason)
		error_set(&c->text, EPROTO, "%s: TLS: %s", c->shown, reason);
	else if (c->header_bytes)
		error_set(&c->text, EPROTO, "%s: the answer was cut off", c->shown);
	else
		error_set(&c->text, EPROTO, "%s: the connection broke off before an answer%s%s", c->shown,
		          os_errno ? ": " : "", os_errno ? strerror((int)os_errno) : "");
}

/* Of TLS libcurl's own sentence is taken, which has neither headers nor bodies, if OpenSSL has none. */
static void fail_tls(struct http_call *c, CURLcode code)
{
	const char *text = tls_reason(c);

	if (c->bad_tls)
		text = "our own certificate can't be used";
	else if (!text)
		text = c->curl_error[0] ? c->curl_error : curl_easy_strerror(code);
	c->err = EPROTO;
	error_set(&c->text, EPROTO, "%s: TLS: %s", c->shown, text);
}

static void set_failure(struct http_call *c, CURLcode code)
{
	const char *text = NULL;

	if (c->long_headers || c->long_body)
		code = CURLE_FILESIZE_EXCEEDED;
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		c->err = EHOSTUNREACH;
		text = "its name can't be resolved";
		break;
	case CURLE_COULDNT_CONNECT:
		fail_connect(c);
		return;
	case CURLE_OPERATION_TIMEDOUT:
		c->err = ETIMEDOUT;
		text = "no connection in time";
		break;
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		fail_broken_off(c);
		return;
	case CURLE_FILESIZE_EXCEEDED:
		c->err = EPROTO;
		text = c->long_headers ? "the headers of the answer are too long" : "the answer is too long";
		break;
	case CURLE_WRITE_ERROR:
	case CURLE_OUT_OF_MEMORY:
		c->err = ENOMEM;
		text = "out of memory";
		break;
	case CURLE_URL_MALFORMAT:
		c->err = EINVAL;
		text = "the address or the path can't be sent";
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CLIENTCERT:
	case CURLE_SSL_ENGINE_INITFAILED:
		fail_tls(c, code);
		return;
	default:
		c->err = EPROTO;
		text = "what answers does not speak HTTP";
	}
	error_set(&c->text, c->err, "%s: %s", c->shown, text);
}

static void call_finished(struct http_call *c, CURLcode code)
{
	long status = 0, request = 0, connects = 0;
	curl_off_t first = 0;

	curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &request);
	curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(c->easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
	c->http->stats.connections += (unsigned long)connects;
	c->sent = request > 0;
	c->status = c->sent ? (int)status : 0; /* else it is a proxy's */
	/* libcurl has no other word for a header line that is too long for it. */
	if (code == CURLE_OUT_OF_MEMORY && c->sent && first > 0 && !c->answer.err)
		c->long_headers = true;
	if (code != CURLE_OK)
		set_failure(c, code);
	call_end(c);
}

static void collect(struct generation *g)
{
	struct http *h = g->http;
	CURLMsg *m;
	int left;

	g->active++; /* stays while we look */
	while ((m = curl_multi_info_read(g->multi, &left))) {
		struct http_call *c = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		call_finished(c, m->data.result);
	}
	for (struct list *n = h->active.next, *next; g->dead && n != &h->active; n = next) {
		struct http_call *c = list_entry(n, struct http_call, node);

		next = n->next;
		if (c->generation == g)
			call_fail(c, ENOMEM, "out of memory");
	}
	if (--g->active == 0 && g != h->current)
		generation_free(g);
}

/* ---- libcurl's sockets and timer ---- */

static void on_socket(int fd, unsigned events, void *arg)
{
	struct socket *s = arg;
	struct generation *g = s->generation;
	int running;

	if (curl_multi_socket_action(g->multi, fd, (events & LOOP_READ ? CURL_CSELECT_IN : 0) |
	                             (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0), &running) != CURLM_OK)
		g->dead = true;
	collect(g);
}

static void on_curl_timer(void *arg)
{
	struct generation *g = arg;
	int running;

	if (curl_multi_socket_action(g->multi, CURL_SOCKET_TIMEOUT, 0, &running) != CURLM_OK)
		g->dead = true;
	collect(g);
}

static int timer_wanted(CURLM *multi, long ms, void *arg)
{
	struct generation *g = arg;

	(void)multi;
	if (ms < 0)
		loop_timer_stop(g->timer);
	else
		loop_timer_set(g->timer, ms);
	return 0;
}

static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
	struct generation *g = arg;
	struct socket *s = socket;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			loop_io_free(s->io);
		free(s);
		curl_multi_assign(g->multi, fd, NULL);
		return 0;
	}
	if (!s) {
		s = malloc(sizeof(*s));
		if (s)
			*s = (struct socket){ g, loop_io_new(g->http->loop, fd, on_socket, s) };
		if (!s || !s->io) {
			free(s);
			return -1;
		}
		curl_multi_assign(g->multi, fd, s);
	}
	return loop_io_want(s->io, (what & CURL_POLL_IN ? LOOP_READ : 0u) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0u)) ?
	       -1 : 0;
}

static struct generation *generation_new(struct http *h, uint64_t number)
{
	struct generation *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->http = h;
	g->number = number;
	g->multi = curl_multi_init();
	g->timer = loop_timer_new(h->loop, on_curl_timer, g);
	if (!g->multi || !g->timer) {
		if (g->multi)
			curl_multi_cleanup(g->multi);
		loop_timer_free(g->timer);
		free(g);
		return NULL;
	}
	curl_multi_setopt(g->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
	curl_multi_setopt(g->multi, CURLMOPT_SOCKETDATA, g);
	curl_multi_setopt(g->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
	curl_multi_setopt(g->multi, CURLMOPT_TIMERDATA, g);
	curl_multi_setopt(g->multi, CURLMOPT_MAXCONNECTS, (long)h->settings.connections);
	curl_multi_setopt(g->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)h->settings.connections + 1); /* the urgent */
	list_append(&h->generations, &g->node);
	return g;
}

/* That of the TLS files as they are now. NULL: out of memory. */
static struct generation *generation_now(struct http *h)
{
	uint64_t number = h->settings.tls ? tls_generation(h->settings.tls) : 0;
	struct generation *old = h->current, *g;

	if (old && old->number == number && !old->dead)
		return old;
	g = generation_new(h, number);
	if (!g)
		return NULL;
	h->current = g;
	if (old && !old->active)
		generation_free(old);
	return g;
}

/* ---- a transfer ---- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	int err = buf_add(&c->answer, data, size * n);

	if (err)
		c->long_body = err == -EFBIG;
	return err ? 0 : size * n;
}

/* The value of the header line, without white space at its ends; false: it is another header. */
static bool header_is(const char *line, size_t len, const char *name, struct slice *ret)
{
	size_t n = strlen(name);

	if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return false;
	line += n + 1;
	len -= n + 1;
	while (len && (*line == ' ' || *line == '\t'))
		line++, len--;
	while (len && isspace((unsigned char)line[len - 1]))
		len--;
	*ret = slice_of(line, len);
	return true;
}

/* 0: it is none. */
static time_t parse_date(struct slice s)
{
	char text[64];
	time_t at;

	if (!s.len || s.len >= sizeof(text))
		return 0;
	memcpy(text, s.data, s.len);
	text[s.len] = '\0';
	at = curl_getdate(text, NULL);
	return at > 0 ? at : 0;
}

static void take_retry_after(struct http_call *c, struct slice s)
{
	int64_t ms = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (!isdigit((unsigned char)s.data[i])) {
			c->retry_at = parse_date(s);
			return;
		}
		ms = ms < RETRY_AFTER_MAX_MS ? ms * 10 + (s.data[i] - '0') * 1000 : RETRY_AFTER_MAX_MS;
	}
	if (s.len)
		c->retry_after_ms = ms < RETRY_AFTER_MAX_MS ? ms : RETRY_AFTER_MAX_MS;
}

static bool is_json(struct slice s)
{
	const char *end = s.len ? memchr(s.data, ';', s.len) : NULL;

	if (end)
		s.len = (size_t)(end - s.data);
	while (s.len && isspace((unsigned char)s.data[s.len - 1]))
		s.len--;
	return (s.len == 16 && strncasecmp(s.data, "application/json", 16) == 0) ||
	       (s.len > 5 && strncasecmp(s.data + s.len - 5, "+json", 5) == 0);
}

/* An interim answer (100, 103) has been before: nothing of it counts. */
static void forget_headers(struct http_call *c)
{
	free(c->location);
	c->location = NULL;
	c->json = false;
	c->retry_after_ms = -1;
	c->retry_at = c->date = 0;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t len = size * n;
	struct slice value;

	c->header_bytes += len;
	if (c->header_bytes > HTTP_HEADERS_MAX) {
		c->long_headers = true;
		return 0;
	}
	if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
		forget_headers(c);
	} else if (header_is(data, len, "Content-Type", &value)) {
		c->json = is_json(value);
	} else if (header_is(data, len, "Location", &value)) {
		free(c->location);
		c->location = value.len && !memchr(value.data, '\0', value.len) ? strndup(value.data, value.len) : NULL;
	} else if (header_is(data, len, "Retry-After", &value)) {
		take_retry_after(c, value);
	} else if (header_is(data, len, "Date", &value)) {
		c->date = parse_date(value);
	}
	return len;
}

static CURLcode on_ssl_ctx(CURL *easy, void *ctx, void *arg)
{
	struct http_call *c = arg;

	(void)easy;
	if (tls_apply(c->http->settings.tls, ctx) == 0)
		return CURLE_OK;
	c->bad_tls = true;
	return CURLE_SSL_CERTPROBLEM;
}

static void set_tls(struct http_call *c, CURL *e)
{
	bool verify = !tls_skips_verify(c->http->settings.tls);

	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
	/* The store comes from tls_apply(); libcurl's default would be read from disk here. */
	curl_easy_setopt(e, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(e, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	/* A session taken up again would prove who we, and they, were before the files changed. */
	curl_easy_setopt(e, CURLOPT_SSL_SESSIONID_CACHE, 0L);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, c);
	if (c->connect_to)
		curl_easy_setopt(e, CURLOPT_CONNECT_TO, c->connect_to);
}

static void set_options(struct http_call *c, CURL *e)
{
	const struct http_settings *s = &c->http->settings;

	curl_easy_setopt(e, CURLOPT_URL, c->url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, c->method);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(e, CURLOPT_PRIVATE, (char *)c);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->curl_error);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)c->answer.max);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	/* Else who cancels waits for the thread that looks a name up. */
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)s->connect_ms);
	curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, c->fresh ? 1L : 0L);
	if (!s->env_proxy)
		curl_easy_setopt(e, CURLOPT_PROXY, "");
	if (c->with_body) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, (long)c->body.len);
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, c->body.len ? c->body.data : "");
	}
	if (c->socket_path)
		curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, c->socket_path);
	if (c->https)
		set_tls(c, e);
}

static void call_begin(struct http_call *c)
{
	struct http *h = c->http;
	struct generation *g = generation_now(h);

	list_remove(&c->node);
	list_append(&h->active, &c->node);
	h->stats.queued--;
	c->state = CALL_ACTIVE;
	c->easy = h->n_idle ? h->idle[--h->n_idle] : curl_easy_init();
	if (!g || !c->easy) {
		call_fail(c, ENOMEM, "out of memory");
		return;
	}
	set_options(c, c->easy);
	if (curl_multi_add_handle(g->multi, c->easy) != CURLM_OK) {
		call_fail(c, ENOMEM, "out of memory");
		return;
	}
	c->generation = g;
	g->active++;
	h->stats.active++;
}

static void pump(struct http *h)
{
	while (!list_empty(&h->queue)) {
		struct http_call *c = list_entry(h->queue.next, struct http_call, node);

		if (h->stats.active >= h->settings.connections && !c->urgent)
			break;
		call_begin(c);
	}
}

/* ---- starting ---- */

static void enqueue(struct http_call *c)
{
	c->state = CALL_QUEUED;
	c->http->stats.queued++;
	list_append(c->urgent ? c->http->queue.next : &c->http->queue, &c->node);
}

static void on_tls(void *arg, int err, const char *text)
{
	struct http_call *c = arg;
	struct http *h = c->http;

	c->tls_wait = NULL;
	if (err) {
		call_fail(c, err, text);
		return;
	}
	enqueue(c);
	pump(h);
}

static void on_deadline(void *arg)
{
	struct http_call *c = arg;
	struct http *h = c->http;
	long request = 0; /* bytes of it that have gone out */

	if (c->state == CALL_ACTIVE && c->easy)
		curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &request);
	c->sent = request > 0;
	c->late = true;
	call_fail(c, ETIMEDOUT, c->state == CALL_TLS ? "the TLS files were not read in time" :
	          c->state == CALL_QUEUED ? "no connection was free in time" : !c->sent ? "no connection in time" :
	          c->header_bytes ? "the answer did not end in time" : "no answer in time");
	pump(h);
}

static bool bad_header(struct slice v)
{
	return v.len && (memchr(v.data, '\r', v.len) || memchr(v.data, '\n', v.len) || memchr(v.data, '\0', v.len));
}

/* libcurl's words for a header without a value, and for one that it would send and shall not. */
#define EMPTY ";"
#define NEVER ":"

/* False: out of memory, or (c->err) a header that can't be sent. */
static bool add_header(struct http_call *c, const char *name, struct slice value, const char *empty)
{
	struct curl_slist *more;
	struct buf line;

	if (bad_header(value)) {
		c->err = EINVAL;
		return false;
	}
	buf_init_secret(&line, HTTP_HEADERS_MAX);
	buf_add_str(&line, name);
	buf_add_str(&line, value.len ? ": " : empty);
	more = buf_add_slice(&line, value) == 0 ? curl_slist_append(c->headers, line.data) : NULL;
	buf_free(&line);
	if (more)
		c->headers = more;
	return more;
}

static bool has_header(const struct http_request *req, const char *name)
{
	for (size_t i = 0; i < req->n_headers; i++)
		if (strcasecmp(req->headers[i].name, name) == 0)
			return true;
	return false;
}

static bool add_headers(struct http_call *c, const struct http_request *req)
{
	for (size_t i = 0; i < req->n_headers; i++)
		if (!add_header(c, req->headers[i].name, req->headers[i].value, EMPTY))
			return false;
	if (c->with_body && !has_header(req, "Content-Type") &&
	    !add_header(c, "Content-Type", SLICE_LIT("application/json"), EMPTY))
		return false;
	return add_header(c, "Expect", slice_of(NULL, 0), NEVER) &&
	       (has_header(req, "Accept") || add_header(c, "Accept", SLICE_LIT("application/json"), EMPTY));
}

/* https://host:port/… by another name: the URL has that, and the connection goes to the host. */
static bool rename_host(struct http_call *c, const char *base, const char *path, const char *name)
{
	const char *host = base + strlen("https://");
	const char *colon = strrchr(host, ':');
	const char *port = colon && !strchr(colon, ']') ? colon + 1 : "443";
	int host_len = (int)(colon && !strchr(colon, ']') ? (size_t)(colon - host) : strlen(host));
	struct curl_slist *to;

	if (asprintf(&c->url, "https://%s:%s%s", name, port, path) < 0 ||
	    asprintf(&c->connect, "%s:%s:%.*s:%s", name, port, host_len, host, port) < 0)
		return false;
	to = curl_slist_append(NULL, c->connect);
	c->connect_to = to;
	return to && add_header(c, "Host", slice_str(host), EMPTY);
}

static bool set_url(struct http_call *c, const struct http_request *req)
{
	const char *name;

	if (strncmp(req->base, "unix://", 7) == 0) {
		c->socket_path = strdup(req->base + 7);
		return c->socket_path && asprintf(&c->url, "http://localhost%s", req->path) >= 0;
	}
	c->https = strncmp(req->base, "https://", 8) == 0;
	name = c->https && c->http->settings.tls ? tls_server_name(c->http->settings.tls) : NULL;
	if (name)
		return rename_host(c, req->base, req->path, name);
	return asprintf(&c->url, "%s%s", req->base, req->path) >= 0;
}

static bool call_set(struct http_call *c, const struct http_request *req)
{
	buf_init_secret(&c->body, REQUEST_BODY_MAX);
	buf_init_secret(&c->answer, req->max_body ? req->max_body : HTTP_BODY_MAX);
	c->method = strdup(req->method);
	c->with_body = req->body.len || strcmp(req->method, "POST") == 0 || strcmp(req->method, "PUT") == 0;
	if (!c->method || asprintf(&c->shown, "%s %s%.*s", req->method, req->base, (int)strcspn(req->path, "?"),
	                           req->path) < 0)
		return false;
	return set_url(c, req) && buf_add_slice(&c->body, req->body) == 0 && add_headers(c, req);
}

struct http_call *http_start(struct http *h, const struct http_request *req,
                             void (*done)(void *arg, const struct http_response *r), void *arg)
{
	struct http_call *c = calloc(1, sizeof(*c));
	int wait;

	if (!c)
		return NULL;
	*c = (struct http_call){ .http = h, .done = done, .arg = arg, .retry_after_ms = -1, .fresh = req->fresh,
	                         .urgent = req->urgent, .state = CALL_TLS };
	list_init(&c->node);
	c->deadline = loop_timer_new(h->loop, on_deadline, c);
	if (!c->deadline || (!call_set(c, req) && !c->err)) {
		call_free(c);
		return NULL;
	}
	loop_timer_set(c->deadline, req->deadline_ms > 0 ? req->deadline_ms : 0);
	if (c->err) {
		call_fail(c, EINVAL, "a header can't be sent");
		return c;
	}
	if (c->https && !h->settings.tls) {
		call_fail(c, EINVAL, "TLS is not set up");
		return c;
	}
	wait = c->https ? tls_ready(h->settings.tls, on_tls, c, &c->tls_wait) : 0;
	if (wait < 0) {
		call_free(c);
		return NULL;
	}
	if (!wait) {
		enqueue(c);
		pump(h);
	}
	return c;
}

void http_cancel(struct http_call *call)
{
	struct http *h;

	if (!call)
		return;
	h = call->http;
	call_free(call);
	if (!list_empty(&h->queue))
		loop_timer_set(h->tell, 0); /* its place is free */
}

/* ---- the whole ---- */

int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret)
{
	struct http *h = calloc(1, sizeof(*h));
	int err = h ? http_global_init() : -ENOMEM;

	if (err) {
		free(h);
		return err;
	}
	h->loop = loop;
	h->settings = *settings;
	if (!h->settings.connections)
		h->settings.connections = HTTP_CONNECTIONS;
	if (!h->settings.connect_ms)
		h->settings.connect_ms = HTTP_CONNECT_MS;
	list_init(&h->generations);
	list_init(&h->queue);
	list_init(&h->active);
	list_init(&h->ended);
	h->tell = loop_timer_new(loop, tell_ended, h);
	if (!h->tell) {
		free(h);
		return -ENOMEM;
	}
	*ret = h;
	return 0;
}

static void http_destroy(struct http *h)
{
	h->current = NULL;
	while (!list_empty(&h->generations))
		generation_free(list_entry(h->generations.next, struct generation, node));
	while (h->n_idle)
		curl_easy_cleanup(h->idle[--h->n_idle]);
	loop_timer_free(h->tell);
	free(h);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	h->dead = true;
	if (!h->telling)
		http_destroy(h);
}

void http_get_stats(const struct http *h, struct http_stats *ret)
{
	*ret = h->stats;
}
