/*
 * For tests of what outlives a worker: engines that live one after the other on one keep.
 *
 * A life ends with the keep frozen, so that nothing is let go of in order, or in a child that is killed.
 */
#ifndef CONNECTFS_UNIT_CORE_KEPT_H
#define CONNECTFS_UNIT_CORE_KEPT_H

#include "core-engine.h"

#include <signal.h>
#include <sys/wait.h>

#define ONE "# c\nname=orders\nx=${fake:one:a}\n"
#define ONE_IS(v) "# c\nname=orders\nx=" v "\n"

static int keep_fd = -1;
static struct keep *keep;
static bool in_child;
static bool early; /* the texts have been read before the keep is given, as in a worker that waits for its turn */

static inline int kept_setup(void **state)
{
	(void)state;
	help_loop_new();
	help_settings();
	help_fake();
	help_dir();
	early = false;
	fake_set(fake("one"), "a", "1");
	assert_int_equal(keep_create(&keep_fd), 0);
	return 0;
}

static inline int kept_setup_early(void **state)
{
	int err = kept_setup(state);

	early = true;
	return err;
}

/* Frozen, and so as if killed: what runs after that changes nothing in the keep. */
static inline void die(void)
{
	keep_freeze(keep);
	engine_end();
	keep_detach(keep);
	keep = NULL;
}

/* In order, and without a successor: all is let go of. */
static inline void live_out(void)
{
	struct keep_stats st;

	engine_end();
	keep_get_stats(keep, &st);
	assert_int_equal(st.blocks, 0);
	keep_detach(keep);
	keep = NULL;
}

static inline int kept_teardown(void **state)
{
	(void)state;
	if (in_child)
		_exit(99); /* something was not as it should be */
	if (engine)
		die();
	close(keep_fd);
	help_loop_free();
	help_settings_done();
	help_dir_done();
	catalog_set_hash(NULL);
	return 0;
}

static inline void texts_read(void)
{
	UNTIL(list_empty(&catalog->to_load) && !catalog->loading);
}

/* A life up to the first listing. */
static inline void live_begin(bool hold)
{
	struct report report = REPORT_INIT;

	settings.directory = dir;
	listed = false;
	sunk = (struct sunk){ .hold = hold, .hold_names = hold };
	assert_int_equal(keep_attach(keep_fd, NULL, NULL, &keep), 0);
	assert_int_equal(engine_new(&settings, ENGINE_MOUNT, loop, &engine, &report), 0);
	catalog = engine_catalog(engine);
	engine_await_keep(engine);
	assert_int_equal(engine_start(engine, on_ready, NULL), 0);
	UNTIL(listed);
	if (early)
		texts_read();
}

/* And on to the moment at which FUSE would be served: nothing has been looked at in the background. */
static inline void live_with(bool hold, bool successor, bool crashed)
{
	live_begin(hold);
	engine_set_sink(engine, &sink);
	assert_int_equal(engine_set_keep(engine, keep, successor, crashed), 0);
}

static inline void live(bool successor)
{
	live_with(false, successor, false);
}

static inline bool is_quiet(void)
{
	struct slice key;
	size_t pos = 0;
	void *value;

	while (strmap_next(catalog->names, &pos, &key, &value)) {
		const struct connector *conn = value;

		if (conn->job != JOB_NONE || conn->announce || (conn->touching && !sunk.hold) ||
		    !list_empty(&conn->announce_node) || !list_empty(&conn->young_node))
			return false;
	}
	return n_answers == 0;
}

/* What has been going to happen for a moment has happened, and has been told. */
static inline void quiet(void)
{
	run_for(2 * settings.settle_ms + 10);
	UNTIL(is_quiet());
}

/* Nobody asks for a predecessor's open files any more, and the background has been through. */
static inline void live_on(void)
{
	catalog_kept_done(catalog);
	texts_read();
	quiet();
	texts_read();
}

/* The first worker of all, with orders opened. */
static inline void first_life(const char *text)
{
	put("orders.properties", text);
	run_for(30);
	live(false);
	live_on();
	cat("orders.properties");
	run_due();
}

static inline void next_life(void)
{
	die();
	live(true);
}

/* ---- what is in the keep ---- */

static inline void count_block(void *arg, void *block)
{
	(void)block;
	++*(size_t *)arg;
}

static inline size_t blocks_of(enum keep_kind kind)
{
	size_t n = 0;

	keep_each(keep, kind, count_block, &n);
	return n;
}

/* Just these blocks, at most a text for each connector and one for all, and no others that nobody knows of. */
static inline void assert_blocks(size_t connectors, size_t snapshots, size_t secrets)
{
	struct keep_stats st;

	keep_get_stats(keep, &st);
	assert_int_equal(blocks_of(KEEP_CONNECTOR), connectors);
	assert_int_equal(blocks_of(KEEP_SNAPSHOT), snapshots);
	assert_int_equal(blocks_of(KEEP_SECRET), secrets);
	assert_true(blocks_of(KEEP_TEXT) <= connectors);
	assert_true(blocks_of(KEEP_CATALOG) <= 1);
	assert_int_equal(st.blocks, connectors + snapshots + secrets + blocks_of(KEEP_TEXT) + blocks_of(KEEP_CATALOG));
}

/* ---- what the world sees of a connector ---- */

struct seen {
	int64_t mtime_ns, rotated_ns;
	uint64_t version, ino;
	size_t size;
	char bytes[256];
};

static inline struct seen see(const char *name)
{
	struct connector *conn = conn_of(name);
	struct connector_attr a;
	struct seen s = { 0 };

	connector_get_attr(conn, &a);
	s.mtime_ns = a.mtime_ns;
	s.rotated_ns = conn->rotated_ns;
	s.version = conn->version;
	s.ino = connector_ino(conn);
	s.size = a.size;
	assert_true(s.size < sizeof(s.bytes));
	if (s.size)
		memcpy(s.bytes, snapshot_data(conn->snapshot), s.size);
	connector_unref(conn);
	return s;
}

static inline void assert_same(const struct seen *a, const struct seen *b)
{
	assert_int_equal(a->mtime_ns, b->mtime_ns);
	assert_int_equal(a->rotated_ns, b->rotated_ns);
	assert_int_equal(a->version, b->version);
	assert_int_equal(a->ino, b->ino);
	assert_int_equal(a->size, b->size);
	assert_string_equal(a->bytes, b->bytes);
}

static inline void assert_rotated(const struct seen *before, const struct seen *after, unsigned times)
{
	assert_int_equal(after->version, before->version + times);
	assert_true(after->mtime_ns > before->mtime_ns);
	assert_int_equal(after->ino, before->ino);
}

static inline void assert_told_nothing(void)
{
	assert_int_equal(sunk.touches, 0);
	assert_int_equal(sunk.invalidates, 0);
	assert_int_equal(sunk.appears, 0);
	assert_int_equal(sunk.vanishes, 0);
}

#endif
