/*
 * For tests of the core: an engine over a temporary directory, with a sink that keeps what it was told.
 */
#ifndef CONNECTFS_UNIT_CORE_ENGINE_H
#define CONNECTFS_UNIT_CORE_ENGINE_H

#include "core-help.h"

static struct engine *engine;
static struct catalog *catalog;
static bool listed;

/* ---- the sink ---- */

static struct sunk {
	bool hold;              /* touches are not answered: the test does */
	bool hold_names;        /* nor are MKNOD and UNLINK */
	unsigned invalidates, touches, rotated, states, appears, vanishes;
	int64_t mtime_ns;       /* of the last touch */
	struct connector *conn; /* of the last one told; no reference */
} sunk;

/* Answers come from the loop, as the notifier's; nothing is allocated for them. */
enum what { ANSWER_TOUCHED, ANSWER_APPEARED, ANSWER_VANISHED };

static struct answer {
	struct connector *conn;
	enum what what;
} answers[4096];
static size_t n_answers;
static struct loop_work answering;

static inline void answer(void *arg)
{
	(void)arg;
	answering.fn = NULL;
	for (size_t i = 0; i < n_answers; i++) {
		struct connector *conn = answers[i].conn;

		if (answers[i].what == ANSWER_TOUCHED)
			catalog_touched(catalog, conn, 0);
		else if (answers[i].what == ANSWER_APPEARED)
			catalog_appeared(catalog, conn);
		else
			catalog_vanished(catalog, conn);
		connector_unref(conn);
	}
	n_answers = 0;
}

static inline void answer_later(struct connector *conn, enum what what)
{
	assert_true(n_answers < sizeof(answers) / sizeof(answers[0]));
	answers[n_answers++] = (struct answer){ connector_ref(conn), what };
	if (answering.fn)
		return;
	answering = (struct loop_work){ answer, NULL, NULL };
	loop_post_work(loop, &answering);
}

static inline void sink_invalidate(void *arg, struct connector *conn)
{
	(void)arg;
	(void)conn;
	sunk.invalidates++;
}

static inline int sink_touch(void *arg, struct connector *conn, enum touch_kind kind, int64_t mtime_ns)
{
	(void)arg;
	sunk.touches++;
	if (kind == TOUCH_ROTATED)
		sunk.rotated++;
	else
		sunk.states++;
	sunk.conn = conn;
	sunk.mtime_ns = mtime_ns;
	if (!sunk.hold)
		answer_later(conn, ANSWER_TOUCHED);
	return 0;
}

static inline int sink_appear(void *arg, struct connector *conn)
{
	(void)arg;
	sunk.appears++;
	sunk.conn = conn;
	if (!sunk.hold_names)
		answer_later(conn, ANSWER_APPEARED);
	return 0;
}

static inline int sink_vanish(void *arg, struct connector *conn)
{
	(void)arg;
	sunk.vanishes++;
	sunk.conn = conn;
	if (!sunk.hold_names)
		answer_later(conn, ANSWER_VANISHED);
	return 0;
}

static const struct catalog_sink sink = { sink_invalidate, sink_touch, sink_appear, sink_vanish, NULL };

/* ---- the engine ---- */

static inline void on_ready(void *arg, const struct error *err)
{
	(void)arg;
	if (err)
		fail_msg("%s", err->text);
	listed = true;
}

static inline void engine_make(enum engine_mode mode)
{
	struct report report = REPORT_INIT;

	settings.directory = dir;
	listed = false;
	sunk = (struct sunk){ 0 };
	assert_int_equal(engine_new(&settings, mode, loop, &engine, &report), 0);
	catalog = engine_catalog(engine);
	assert_int_equal(engine_start(engine, on_ready, NULL), 0);
	UNTIL(listed);
	if (mode == ENGINE_MOUNT)
		engine_set_sink(engine, &sink);
	UNTIL(list_empty(&catalog->to_load) && !catalog->loading);
	run_due();
}

static inline void engine_end(void)
{
	run_due();
	engine_free(engine);
	engine = NULL;
	catalog = NULL;
}

static inline struct connector *conn_of(const char *name)
{
	struct connector *conn = catalog_find(catalog, name);

	if (!conn)
		fail_msg("%s is not there", name);
	return conn;
}

static inline bool is_there(const char *name)
{
	struct connector *conn = catalog_find(catalog, name);

	connector_unref(conn);
	return conn;
}

/* ---- opens ---- */

struct opening {
	struct open_wait *wait;
	struct snapshot *snapshot;
	int err;
	unsigned done;
	bool at_once;
};

static inline void opened(int err, struct snapshot *snapshot, void *arg)
{
	struct opening *o = arg;

	assert_false(o->done);
	assert_true((err == 0) == (snapshot != NULL));
	o->done++;
	o->err = err;
	o->snapshot = snapshot;
}

static inline void open_begin(struct connector *conn, struct opening *o)
{
	*o = (struct opening){ .err = 0 };
	o->snapshot = catalog_open_now(catalog, conn);
	o->at_once = o->snapshot != NULL;
	if (!o->at_once)
		o->err = catalog_open_wait(catalog, conn, opened, o, &o->wait);
	if (!o->wait)
		o->done = 1;
	assert_true(o->wait || o->at_once || o->err == -ENOMEM);
}

static inline void open_end(struct opening *o)
{
	if (o->wait)
		open_wait_release(o->wait);
	snapshot_unref(o->snapshot);
	o->wait = NULL;
	o->snapshot = NULL;
}

/* Opens by name, waits; what it reads, or the error's name. Valid until the 8th call after. */
static inline const char *cat(const char *name)
{
	static char ring[8][4096];
	static unsigned next;
	char *s = ring[next++ % 8];
	struct connector *conn = conn_of(name);
	struct opening o;

	open_begin(conn, &o);
	UNTIL(o.done);
	if (o.err)
		(void)snprintf(s, sizeof(ring[0]), "%s", strerrorname_np(-o.err));
	else
		(void)snprintf(s, sizeof(ring[0]), "%.*s", (int)snapshot_size(o.snapshot), snapshot_data(o.snapshot));
	open_end(&o);
	connector_unref(conn);
	return s;
}

static inline bool opens_at_once(const char *name)
{
	struct connector *conn = conn_of(name);
	struct opening o;
	bool at_once;

	open_begin(conn, &o);
	at_once = o.at_once;
	UNTIL(o.done);
	open_end(&o);
	connector_unref(conn);
	return at_once;
}

/* An attribute, or the error's name. */
static inline const char *xattr(const char *name, const char *attr)
{
	static char ring[8][2048];
	static unsigned next;
	char *s = ring[next++ % 8];
	struct connector *conn = conn_of(name);
	struct buf b;
	int err;

	buf_init(&b, sizeof(ring[0]) - 1);
	err = connector_xattr(conn, attr, &b);
	(void)snprintf(s, sizeof(ring[0]), "%s", err ? strerrorname_np(-err) : b.data);
	buf_free(&b);
	connector_unref(conn);
	return s;
}

#endif
