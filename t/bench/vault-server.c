/*
 * A server of `make bench` that answers as Vault does, with KV 2 at "secret/", after a fixed time, to as many
 * connections as there come, in one thread: what a client costs and where it waits is not hidden behind the server.
 *
 *     vault-server DELAY
 *
 * DELAY in ms, decimals allowed. Listens on 127.0.0.1, and prints the port on a line. HTTP/1.1, kept alive. Any token
 * will do, and lives for ever.
 *
 *     GET /v1/sys/internal/ui/mounts/…, /v1/auth/token/lookup-self, /v1/sys/health
 *     GET /v1/secret/data/NAME     a secret that nobody wrote has { "value": "NAME-1" }
 *     PUT, POST /v1/secret/data/NAME  stores "data" of the body as the next version; without the delay
 *     GET /counts                  what was asked for so far; without the delay, and not counted
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define KV "/v1/secret/data/"

enum {
	INPUT_MAX = 64 * 1024, /* of a request */
	DATA_MAX = 16 * 1024, NAME_LEN_MAX = 1024,
	EVENTS = 256, BUCKETS = 1 << 15, BACKLOG = 4096,
};

struct secret {
	struct secret *next;
	unsigned version;
	char *data; /* JSON object */
	char name[];
};

struct connection {
	int fd;
	size_t len;          /* of in */
	char *in;            /* INPUT_MAX bytes */
	char *out;           /* NULL: none; else waits, or is sent in part */
	size_t out_len, sent;
	bool waits, dead;
	int64_t due_ns;
	struct connection *next; /* of those that wait: the delay is the same for all, so in order */
};

static struct {
	unsigned long mounts, lookups, health, reads, writes, other, connections, open, open_max, active, active_max;
} counts;

static struct secret *secrets[BUCKETS];
static struct connection *first_waiting, *last_waiting;
static int epoll, timer;
static int64_t delay_ns;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "vault-server: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- secrets ---- */

static struct secret **find(const char *name)
{
	uint32_t hash = 2166136261u;
	struct secret **s;

	for (const char *c = name; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 16777619u;
	for (s = &secrets[hash % BUCKETS]; *s && strcmp((*s)->name, name) != 0; s = &(*s)->next)
		;
	return s;
}

/* The object that is the member "data" of a body: *ret_len bytes, or NULL. */
static const char *data_of(const char *body, size_t *ret_len)
{
	const char *key = strstr(body, "\"data\""), *start = key ? strchr(key, '{') : NULL;
	bool quoted = false;
	int depth = 0;

	for (const char *c = start; c && *c; c++) {
		if (quoted && *c == '\\' && c[1])
			c++;
		else if (*c == '"')
			quoted = !quoted;
		else if (!quoted && *c == '{')
			depth++;
		else if (!quoted && *c == '}' && --depth == 0) {
			*ret_len = (size_t)(c + 1 - start);
			return *ret_len < DATA_MAX ? start : NULL;
		}
	}
	return NULL;
}

/* The version, or 0: no such body. */
static unsigned store(const char *name, const char *body)
{
	size_t len;
	const char *data = data_of(body, &len);
	struct secret **at = find(name), *s = *at;

	if (!data)
		return 0;
	if (!s) {
		s = *at = calloc(1, sizeof(*s) + strlen(name) + 1);
		if (!s)
			die("memory");
		strcpy(s->name, name);
	}
	free(s->data);
	s->data = strndup(data, len);
	if (!s->data)
		die("memory");
	return ++s->version;
}

/* ---- answers ---- */

static void answer(struct connection *c, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void answer(struct connection *c, int status, const char *format, ...)
{
	char *body;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&body, format, args);
	va_end(args);
	if (n < 0)
		die("memory");
	n = asprintf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status,
	             status == 200 ? "OK" : "Not Found", n, body);
	if (n < 0)
		die("memory");
	free(body);
	c->out_len = (size_t)n;
	c->sent = 0;
}

/* As Vault wraps what it has to say; data is JSON. */
static void answer_data(struct connection *c, const char *data)
{
	answer(c, 200, "{\"request_id\":\"00000000-0000-0000-0000-000000000000\",\"lease_id\":\"\",\"renewable\":false,"
	       "\"lease_duration\":0,\"data\":%s,\"wrap_info\":null,\"warnings\":null,\"auth\":null}\n", data);
}

static void answer_secret(struct connection *c, const char *name)
{
	const struct secret *s = *find(name);
	char data[DATA_MAX + NAME_LEN_MAX], text[DATA_MAX + NAME_LEN_MAX + 256];

	snprintf(data, sizeof(data), s ? "%s" : "{\"value\":\"%s-1\"}", s ? s->data : name);
	snprintf(text, sizeof(text), "{\"data\":%s,\"metadata\":{\"created_time\":\"2026-01-01T00:00:00.000000001Z\","
	         "\"custom_metadata\":null,\"deletion_time\":\"\",\"destroyed\":false,\"version\":%u}}", data,
	         s ? s->version : 1);
	answer_data(c, text);
}

static void answer_counts(struct connection *c)
{
	answer(c, 200, "{\"mounts\":%lu,\"lookups\":%lu,\"health\":%lu,\"reads\":%lu,\"writes\":%lu,\"other\":%lu,"
	       "\"connections\":%lu,\"open_max\":%lu,\"active_max\":%lu}\n", counts.mounts, counts.lookups, counts.health,
	       counts.reads, counts.writes, counts.other, counts.connections, counts.open_max, counts.active_max);
}

static bool begins(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

/* Makes the answer; whether it is to be delayed. path: without the query. */
static bool handle(struct connection *c, const char *method, const char *path, const char *body)
{
	bool get = strcmp(method, "GET") == 0;

	if (get && strcmp(path, "/counts") == 0) {
		answer_counts(c);
		return false;
	}
	if (strlen(path) > NAME_LEN_MAX || strpbrk(path, "\"\\")) {
		counts.other++;
		answer(c, 404, "{\"errors\":[]}\n");
	} else if (get && begins(path, KV)) {
		counts.reads++;
		answer_secret(c, path + strlen(KV));
	} else if (get && begins(path, "/v1/sys/internal/ui/mounts/")) {
		counts.mounts++;
		answer_data(c, "{\"path\":\"secret/\",\"type\":\"kv\",\"options\":{\"version\":\"2\"},\"accessor\":\"kv_0\"}");
	} else if (get && strcmp(path, "/v1/auth/token/lookup-self") == 0) {
		counts.lookups++;
		answer_data(c, "{\"id\":\"bench\",\"accessor\":\"bench\",\"ttl\":0,\"creation_ttl\":0,\"renewable\":false,"
		            "\"expire_time\":null,\"explicit_max_ttl\":0,\"num_uses\":0,\"policies\":[\"root\"],"
		            "\"type\":\"service\",\"orphan\":true,\"path\":\"auth/token/root\"}");
	} else if (get && strcmp(path, "/v1/sys/health") == 0) {
		counts.health++;
		answer(c, 200, "{\"initialized\":true,\"sealed\":false,\"standby\":false,\"version\":\"0\"}\n");
	} else if (!get && begins(path, KV) && (strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0)) {
		char data[64];
		unsigned version = store(path + strlen(KV), body);

		counts.writes++;
		snprintf(data, sizeof(data), "{\"version\":%u}", version);
		answer_data(c, data);
		return false;
	} else {
		counts.other++;
		answer(c, 404, "{\"errors\":[]}\n");
	}
	return true;
}

/* ---- connections ---- */

static void set_timer(void)
{
	struct itimerspec t = { .it_value = { 0 } };

	if (first_waiting) {
		t.it_value.tv_sec = first_waiting->due_ns / 1000000000;
		t.it_value.tv_nsec = first_waiting->due_ns % 1000000000;
	}
	if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &t, NULL) != 0)
		die("timerfd_settime");
}

static void end_connection(struct connection *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->fd >= 0)
		counts.open--;
	c->fd = -1;
	c->dead = true;
	if (c->waits)
		return; /* freed when it is due */
	free(c->in);
	free(c->out);
	free(c);
}

static void await(struct connection *c)
{
	c->waits = true;
	c->due_ns = now_ns() + delay_ns;
	c->next = NULL;
	if (last_waiting)
		last_waiting->next = c;
	else
		first_waiting = c;
	last_waiting = c;
	if (++counts.active > counts.active_max)
		counts.active_max = counts.active;
	if (first_waiting == c)
		set_timer();
}

/* False: it has ended. */
static bool send_answer(struct connection *c)
{
	while (c->sent < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->sent, c->out_len - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };

			epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
			return true;
		}
		if (n < 0) {
			end_connection(c);
			return false;
		}
		c->sent += (size_t)n;
	}
	free(c->out);
	c->out = NULL;
	return true;
}

static size_t length_of(const char *headers)
{
	for (const char *line = headers; line; line = strstr(line, "\r\n")) {
		line += line == headers ? 0 : 2;
		if (strncasecmp(line, "content-length:", 15) == 0)
			return strtoul(line + 15, NULL, 10);
	}
	return 0;
}

/* What is in it, one request after the other. False: it has ended. */
static bool requests(struct connection *c)
{
	while (!c->out) {
		char *end, method[16], path[2048], next;
		size_t head, body;
		bool later;

		c->in[c->len] = '\0';
		end = strstr(c->in, "\r\n\r\n");
		if (!end)
			return true;
		head = (size_t)(end + 4 - c->in);
		*end = '\0';
		body = length_of(c->in);
		if (head + body >= INPUT_MAX || sscanf(c->in, "%15s %2047[^? ]", method, path) != 2) {
			end_connection(c);
			return false;
		}
		*end = '\r';
		if (c->len < head + body)
			return true;
		next = c->in[head + body];
		c->in[head + body] = '\0';
		later = handle(c, method, path, c->in + head);
		c->in[head + body] = next;
		c->len -= head + body;
		memmove(c->in, c->in + head + body, c->len);
		if (later && delay_ns > 0)
			await(c);
		else if (!send_answer(c))
			return false;
	}
	return true;
}

static void on_event(struct connection *c, uint32_t events)
{
	ssize_t n;

	if (events & EPOLLOUT) {
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };

		epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
		if (c->out && !c->waits && (!send_answer(c) || !requests(c)))
			return;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	n = recv(c->fd, c->in + c->len, INPUT_MAX - c->len, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) { /* or more than we take */
		end_connection(c);
		return;
	}
	c->len += (size_t)n;
	requests(c);
}

static void on_timer(void)
{
	int64_t now = now_ns();
	uint64_t n;

	(void)!read(timer, &n, sizeof(n));
	while (first_waiting && first_waiting->due_ns <= now) {
		struct connection *c = first_waiting;

		first_waiting = c->next;
		if (!first_waiting)
			last_waiting = NULL;
		c->waits = false;
		counts.active--;
		if (c->dead)
			end_connection(c);
		else if (send_answer(c))
			requests(c);
	}
	set_timer();
}

static void on_listener(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct connection *c = calloc(1, sizeof(*c));
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
		const int one = 1;

		if (!c || !(c->in = malloc(INPUT_MAX + 1)))
			die("memory");
		c->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0)
			die("epoll_ctl");
		counts.connections++;
		if (++counts.open > counts.open_max)
			counts.open_max = counts.open;
	}
}

static int listen_somewhere(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) != 0 || listen(fd, BACKLOG) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) != 0)
		die("listen");
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

/* Its own two descriptors stand for themselves, by their addresses. */
static void serve(int *listener)
{
	struct epoll_event e[EVENTS];

	for (int *fd = listener;; fd = &timer) {
		e[0] = (struct epoll_event){ .events = EPOLLIN, .data.ptr = fd };
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, *fd, &e[0]) != 0)
			die("epoll_ctl");
		if (fd == &timer)
			break;
	}
	for (;;) {
		int n = epoll_wait(epoll, e, EVENTS, -1);
		bool due = false;

		for (int i = 0; i < n; i++)
			if (e[i].data.ptr == listener)
				on_listener(*listener);
			else if (e[i].data.ptr == &timer)
				due = true; /* afterwards: it may free others of these */
			else
				on_event(e[i].data.ptr, e[i].events);
		if (due)
			on_timer();
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int listener;

	if (argc != 2) {
		fprintf(stderr, "usage: vault-server DELAY\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	delay_ns = (int64_t)(1e6 * strtod(argv[1], NULL));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (epoll < 0 || timer < 0)
		die("epoll");
	listener = listen_somewhere();
	serve(&listener);
}
