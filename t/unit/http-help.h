/*
 * For tests of src/net/: a loop, what a call has ended with, and waiting for it.
 */
#ifndef CONNECTFS_UNIT_HTTP_HELP_H
#define CONNECTFS_UNIT_HTTP_HELP_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "http-peer.h"
#include "net/http.h"

static struct loop *loop;

struct got {
	int told, err, status;
	bool sent, json, late;
	char text[ERROR_TEXT_MAX + 1], location[2048], body[PEER_BODY];
	size_t body_len;
	int64_t retry_after_ms, date_ns;
	void (*then)(struct got *g); /* from within done */
};

static inline void note(void *arg, const struct http_response *r)
{
	struct got *g = arg;

	g->told++;
	g->err = r->err;
	g->status = r->status;
	g->sent = r->sent;
	g->json = r->json;
	g->late = r->late;
	assert_true((r->err != 0) == (r->text != NULL));
	snprintf(g->text, sizeof(g->text), "%s", r->text ? r->text : "");
	snprintf(g->location, sizeof(g->location), "%s", r->location ? r->location : "");
	g->body_len = r->body.len;
	if (r->body.len > 0)
		memcpy(g->body, r->body.data, r->body.len < sizeof(g->body) ? r->body.len : sizeof(g->body) - 1);
	g->body[r->body.len < sizeof(g->body) ? r->body.len : sizeof(g->body) - 1] = '\0';
	g->retry_after_ms = r->retry_after_ms;
	g->date_ns = r->date_ns;
	/* Whatever goes wrong: nothing of headers and bodies, ours or theirs. */
	assert_null(strstr(g->text, "CANARY"));
	if (g->then)
		g->then(g);
}

static inline void tick(void *arg)
{
	(void)arg;
}

/* One turn of the loop, which waits for at most 10 ms. */
static inline void turn(void)
{
	struct loop_timer *t = loop_timer_new(loop, tick, NULL);

	loop_timer_set(t, 10);
	loop_run_once(loop, 1);
	loop_timer_free(t);
}

/* Runs the loop until it holds; a minute at most. */
#define run_until(condition) \
	do { \
		for (int i_ = 0; i_ < 6000 && !(condition); i_++) \
			turn(); \
		assert_true(condition); \
	} while (0)

static inline void run_for(int64_t ms)
{
	bool over = false;
	struct loop_timer *t = loop_timer_new(loop, tick, NULL);

	loop_timer_set(t, ms);
	while (!over) {
		loop_run_once(loop, 1);
		over = !loop_timer_armed(t);
	}
	loop_timer_free(t);
}

#endif
