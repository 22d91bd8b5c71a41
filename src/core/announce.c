/*
 * When and how changes are shown: the settle time, touches, and texts to be read again.
 *
 * The settle time bounds announcements only. A connector enters the queue at the first sign of a
 * change and is looked at when the time is over; what an open found and published meanwhile is
 * announced then as well.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/core.h"

enum { ANNOUNCE_BATCH = 64 }; /* connectors looked at in one turn of the loop: opens come between */

/* ---- the settle time ---- */

static void announce_arm(struct catalog *c)
{
	struct connector *first;
	int64_t now;

	if (list_empty(&c->announce))
		return;
	first = list_entry(c->announce.next, struct connector, announce_node);
	now = clock_mono_ms();
	loop_timer_set(c->announce_timer, first->announce_ms > now ? first->announce_ms - now : 0);
}

void connector_queue_announce(struct connector *conn, int64_t since_ms)
{
	struct catalog *c = conn->catalog;
	int64_t at = since_ms + c->engine->settings->settle_ms;
	struct list *place;

	if (!list_empty(&conn->announce_node) || c->engine->mode != ENGINE_MOUNT)
		return;
	conn->announce_ms = at;
	/* Mostly the last place: times come nearly in order. */
	for (place = c->announce.prev; place != &c->announce; place = place->prev)
		if (list_entry(place, struct connector, announce_node)->announce_ms <= at)
			break;
	list_append(place->next, &conn->announce_node); /* that is: behind place */
	if (c->announce.next == &conn->announce_node)
		announce_arm(c);
}

static void announce_one(struct connector *conn)
{
	list_remove(&conn->announce_node);
	conn->window_over = true;
	if (conn->job != JOB_NONE)
		return; /* its end announces */
	if (conn->wanted && (conn->stored_stale || (conn->dirty && conn->active)))
		connector_work(conn);
	else
		connector_job_announce(conn);
}

static void announce_turn(void *arg)
{
	struct catalog *c = arg;
	int64_t now = clock_mono_ms();

	for (int i = 0; i < ANNOUNCE_BATCH && !list_empty(&c->announce); i++) {
		struct connector *conn = list_entry(c->announce.next, struct connector, announce_node);

		if (conn->announce_ms > now)
			break;
		announce_one(conn);
	}
	announce_arm(c);
}

/* ---- what is announced ---- */

static int stronger(int a, int b)
{
	const int rotated = TOUCH_ROTATED + 1;

	if (a == rotated || b == rotated)
		return rotated;
	return a ? a : b;
}

static void kept_due(struct connector *conn, int kind)
{
	kept_set(conn, kind == TOUCH_ROTATED + 1 ? KEPT_DUE_ROTATED : KEPT_DUE_STATE, 0);
}

void connector_note(struct connector *conn, enum touch_kind kind)
{
	kept_due(conn, (int)kind + 1);
	conn->announce = stronger(conn->announce, (int)kind + 1);
}

/* Before visible attributes change. */
static void hide(struct connector *conn)
{
	struct catalog *c = conn->catalog;
	bool was;

	if (!c->has_sink)
		return;
	pthread_mutex_lock(&conn->lock);
	was = conn->touch_pending;
	conn->touch_pending = true;
	pthread_mutex_unlock(&conn->lock);
	if (!was) /* else nothing has been kept since */
		c->sink.invalidate(c->sink.arg, conn);
}

void connector_move(struct connector *conn, const struct snapshot *snapshot)
{
	struct kept_facts facts = kept_facts(conn, snapshot);
	int64_t now = clock_real_ns();
	char version[24];

	kept_begin(conn);
	if (!conn->moved) {
		facts.mtime_ns = now > facts.mtime_ns ? now : facts.mtime_ns + 1;
		facts.rotated_ns = now;
		facts.version++;
		kept_due(conn, TOUCH_ROTATED + 1);
	}
	/* First of all for a successor: what it must tell of, then what is. */
	kept_store(conn, &facts);
	if (conn->moved)
		return;
	conn->moved = true;
	hide(conn);
	pthread_mutex_lock(&conn->lock);
	conn->mtime_ns = facts.mtime_ns;
	conn->rotated_ns = facts.rotated_ns;
	conn->version = facts.version;
	pthread_mutex_unlock(&conn->lock);
	atomic_fetch_add(&conn->catalog->engine->stats.rotations, 1);
	snprintf(version, sizeof(version), "%llu", (unsigned long long)conn->version);
	log_info("rotated", "connector", conn->name, "version", version, NULL);
	connector_note(conn, TOUCH_ROTATED);
}

void connector_due(struct connector *conn, enum touch_kind kind)
{
	hide(conn);
	connector_note(conn, kind);
	connector_queue_announce(conn, clock_mono_ms());
}

static void touch_is_over(struct connector *conn)
{
	kept_set(conn, 0, KEPT_DUE_ROTATED | KEPT_DUE_STATE);
}

static void send_touch(struct connector *conn, int kind)
{
	struct catalog *c = conn->catalog;

	if (conn->touching) {
		conn->touch_again = stronger(conn->touch_again, kind);
		return;
	}
	conn->touching = true;
	pthread_mutex_lock(&conn->lock);
	conn->touch_pending = true;
	conn->touch_told = true;
	conn->touch_mtime_ns = conn->mtime_ns;
	pthread_mutex_unlock(&conn->lock);
	atomic_fetch_add(&c->engine->stats.touches, 1);
	connector_ref(conn);
	if (c->sink.touch(c->sink.arg, conn, (enum touch_kind)(kind - 1), conn->mtime_ns) < 0)
		catalog_touched(c, conn, -ENOMEM);
}

void connector_job_announce(struct connector *conn)
{
	struct catalog *c = conn->catalog;
	enum presence presence;
	int kind = conn->announce;

	if (!kind) {
		conn->window_over = false;
		if (!conn->dirty && !conn->stored_stale)
			list_remove(&conn->announce_node); /* nothing is to be told: the next change has its own window */
		return;
	}
	if (!conn->window_over && c->engine->settings->settle_ms > 0 && c->engine->mode == ENGINE_MOUNT) {
		connector_queue_announce(conn, clock_mono_ms());
		return;
	}
	conn->window_over = false;
	conn->announce = 0;
	presence = atomic_load(&conn->presence);
	if (!c->has_sink || presence == PRESENCE_APPEARING || presence == PRESENCE_GONE) {
		touch_is_over(conn);
		pthread_mutex_lock(&conn->lock);
		conn->touch_pending = false;
		pthread_mutex_unlock(&conn->lock);
		return;
	}
	send_touch(conn, kind);
}

void catalog_touched(struct catalog *c, struct connector *conn, int err)
{
	int again = conn->touch_again;

	if (!conn->touching)
		return;
	if (err)
		atomic_fetch_add(&c->engine->stats.touch_failures, 1);
	conn->touching = false;
	conn->touch_again = 0;
	if (again) {
		send_touch(conn, again);
	} else {
		if (!conn->announce)
			touch_is_over(conn);
		pthread_mutex_lock(&conn->lock);
		conn->touch_told = false;
		conn->touch_pending = conn->announce != 0;
		pthread_mutex_unlock(&conn->lock);
	}
	connector_unref(conn); /* of send_touch */
}

bool connector_touch_expected(struct connector *conn, int64_t mtime_ns)
{
	bool expected;

	pthread_mutex_lock(&conn->lock);
	expected = conn->touch_told && mtime_ns == conn->touch_mtime_ns;
	pthread_mutex_unlock(&conn->lock);
	return expected;
}

/* ---- young texts ---- */

static void young_turn(void *arg)
{
	struct catalog *c = arg;
	struct list all;

	list_init(&all);
	list_splice(&all, &c->young);
	while (!list_empty(&all)) {
		struct connector *conn = list_entry(all.next, struct connector, young_node);

		list_remove(&conn->young_node);
		if (!conn->wanted)
			continue;
		conn->stored_stale = true;
		if (conn->writer_timer) { /* its job waits for just this */
			connector_work(conn);
			continue;
		}
		catalog_queue_load(conn);
	}
	catalog_pump(c);
}

void connector_young(struct connector *conn)
{
	struct catalog *c = conn->catalog;

	if (c->engine->mode != ENGINE_MOUNT || !list_empty(&conn->young_node))
		return;
	list_append(&c->young, &conn->young_node);
	if (!loop_timer_armed(c->young_timer))
		loop_timer_set(c->young_timer, FILE_STAMP_COARSE_MS);
}

int announce_init(struct catalog *c)
{
	list_init(&c->announce);
	list_init(&c->young);
	c->announce_timer = loop_timer_new(c->engine->loop, announce_turn, c);
	c->young_timer = loop_timer_new(c->engine->loop, young_turn, c);
	return c->announce_timer && c->young_timer ? 0 : -ENOMEM;
}

void announce_done(struct catalog *c)
{
	loop_timer_free(c->announce_timer);
	loop_timer_free(c->young_timer);
}
