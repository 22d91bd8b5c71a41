/*
 * What outlives a worker of connectors and snapshots: nothing is announced that has not changed, and nothing
 * that has is forgotten.
 */
#include "core-kept.h"

/* ---- nothing has changed ---- */

/* Lives of the same bytes: with polls, or with values that are fresh all the time. */
static void same_again(bool polled)
{
	struct seen before, idle, after;
	unsigned fetches;

	if (!polled)
		help_providers[0].refresh.fresh_ms = help_providers[0].refresh.poll_ms = 600000;
	put("idle.properties", "name=idle\n");
	first_life(ONE);
	fake_set(fake("one"), "a", "2");
	assert_int_equal(engine_refresh(engine, "orders.properties", false), 0);
	UNTIL(sunk.touches == 1);
	quiet();
	before = see("orders.properties");
	idle = see("idle.properties");
	assert_int_equal(before.version, 1);
	assert_string_equal(before.bytes, ONE_IS("2"));
	for (int i = 0; i < 3; i++) {
		fetches = fake("one")->fetches;
		next_life();
		after = see("orders.properties");
		assert_same(&before, &after);
		after = see("idle.properties");
		assert_same(&idle, &after);
		assert_int_equal(after.version, 0);
		assert_int_equal(after.size, 0);
		live_on();
		if (polled)
			UNTIL(fake("one")->fetches > fetches + 1);
		else
			run_for(50);
		assert_told_nothing();
		after = see("orders.properties");
		assert_same(&before, &after);
		after = see("idle.properties");
		assert_same(&idle, &after);
		assert_string_equal(cat("orders.properties"), ONE_IS("2"));
		assert_string_equal(xattr("orders.properties", "version"), "1");
		assert_string_equal(xattr("orders.properties", "state"), "ok");
		assert_string_equal(xattr("idle.properties", "state"), "idle");
		assert_told_nothing();
		assert_true(polled || fake("one")->fetches == fetches);
	}
	live_out();
}

static void test_same(void **state)
{
	(void)state;
	same_again(false);
}

static void test_same_polled(void **state)
{
	(void)state;
	same_again(true);
}

/* The keep could not be gone on with, and there is an empty one: names that have been shown stay visible. */
static void test_keep_renewed(void **state)
{
	(void)state;
	put("idle.properties", "name=idle\n");
	first_life(ONE);
	die();
	close(keep_fd);
	assert_int_equal(keep_create(&keep_fd), 0);
	live(true);
	assert_true(is_there("orders.properties") && is_there("idle.properties"));
	live_on();
	assert_told_nothing();
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	put("new.properties", "name=new\n");
	UNTIL(sunk.appears == 1);
	live_out();
}

static bool is_in_keep(const char *name)
{
	struct connector *conn = conn_of(name);
	bool is = conn->stored && conn->stored->keep == keep;

	connector_unref(conn);
	return is;
}

/* What has been opened has its text in the keep, and nowhere else; what hasn't has none there. */
static void test_text_in_keep(void **state)
{
	(void)state;
	put("idle.properties", "name=idle\n");
	first_life(ONE);
	for (int i = 0; i < 3; i++) {
		assert_true(is_in_keep("orders.properties"));
		assert_false(is_in_keep("idle.properties"));
		assert_int_equal(blocks_of(KEEP_TEXT), 1);
		next_life();
		live_on();
	}
	put("orders.properties", ONE "y=1\n");
	UNTIL(sunk.touches == 1);
	quiet();
	assert_true(is_in_keep("orders.properties"));
	assert_int_equal(blocks_of(KEEP_TEXT), 1);
	live_out();
}

/* Written anew with the same bytes: its file's time has moved, the connector's hasn't. */
static void test_same_bytes_rewritten(void **state)
{
	struct seen before, after;

	(void)state;
	put("idle.properties", "name=idle\n");
	first_life(ONE);
	before = see("idle.properties");
	put("idle.properties", "name=idle\n"); /* while we live */
	quiet();
	after = see("idle.properties");
	assert_same(&before, &after);
	next_life();
	live_on();
	after = see("idle.properties");
	assert_same(&before, &after);
	die();
	put("idle.properties", "name=idle\n"); /* while nobody does */
	run_for(30);
	live(true);
	live_on();
	assert_told_nothing();
	after = see("idle.properties");
	assert_same(&before, &after);
}

/* Opened, but without a snapshot, since a secret never came. */
static void test_same_failed(void **state)
{
	struct seen before, after;

	(void)state;
	fake("one")->err = ENOKEY;
	first_life(ONE);
	assert_string_equal(cat("orders.properties"), "ENOKEY");
	quiet();
	before = see("orders.properties");
	next_life();
	after = see("orders.properties");
	assert_same(&before, &after);
	live_on();
	assert_told_nothing(); /* it was broken, and is */
	assert_string_equal(xattr("orders.properties", "state"), "failed");
	assert_non_null(strstr(xattr("orders.properties", "error"), "it says no"));
	assert_string_equal(cat("orders.properties"), "ENOKEY");
	fake("one")->err = 0;
	UNTIL(sunk.states == 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	assert_int_equal(sunk.rotated, 0);
}

/* The secret store was out before and is after. */
static void test_same_stale(void **state)
{
	struct fake *fk = fake("one");
	struct seen before, after;

	(void)state;
	first_life(ONE);
	fk->err = ECONNREFUSED;
	fk->outage = true;
	UNTIL(sunk.states == 1);
	quiet();
	before = see("orders.properties");
	next_life();
	live_on();
	UNTIL(strcmp(xattr("orders.properties", "state"), "stale") == 0);
	quiet();
	after = see("orders.properties");
	assert_same(&before, &after);
	assert_told_nothing();
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	fk->err = 0;
	UNTIL(sunk.states == 1); /* and that it is well again is told */
	quiet();
	assert_int_equal(sunk.touches, 1);
	assert_string_equal(xattr("orders.properties", "state"), "ok");
}

/* Broken meanwhile with no change of bytes: as in one life, that is told, and no rotation. */
static void test_broken_meanwhile(void **state)
{
	struct seen before, after;

	(void)state;
	help_providers[0].refresh.fresh_ms = 0;
	first_life(ONE);
	before = see("orders.properties");
	die();
	fake("one")->err = EKEYREVOKED;
	run_for(120);
	live(true);
	live_on();
	UNTIL(sunk.states == 1);
	assert_string_equal(cat("orders.properties"), "EKEYREVOKED");
	after = see("orders.properties");
	assert_same(&before, &after);
	assert_int_equal(sunk.rotated, 0);
}

/* The stored file is broken, or gone bad while nobody lived: the last good text goes on being served. */
static void test_text_broken(void **state)
{
	struct seen before, after;

	(void)state;
	first_life(ONE);
	before = see("orders.properties");
	die();
	put("orders.properties", "x=\\u12\n");
	live(true);
	after = see("orders.properties");
	assert_same(&before, &after);
	live_on();
	UNTIL(sunk.states == 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	die();
	live(true);
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	put("orders.properties", ONE "y=2\n");
	UNTIL(sunk.touches && strcmp(cat("orders.properties"), ONE_IS("1") "y=2\n") == 0);
	after = see("orders.properties");
	assert_rotated(&before, &after, 1);
}

/* ---- changed while nobody lived ---- */

static void test_secret_changed(void **state)
{
	struct seen before, after;

	(void)state;
	first_life(ONE);
	before = see("orders.properties");
	die();
	fake_set(fake("one"), "a", "22");
	live(true);
	after = see("orders.properties");
	assert_same(&before, &after);
	live_on();
	UNTIL(sunk.touches);
	after = see("orders.properties");
	assert_rotated(&before, &after, 1);
	assert_string_equal(after.bytes, ONE_IS("22"));
	assert_int_equal(sunk.mtime_ns, after.mtime_ns);
	assert_int_equal(sunk.rotated, 1);
	run_for(250);
	assert_int_equal(sunk.touches, 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("22"));
	live_out();
}

static void test_secret_file_changed(void **state)
{
	struct seen before, after;
	char text[256];

	(void)state;
	put("secret.txt", "a=1\n");
	(void)snprintf(text, sizeof(text), "x=${file:%s:a}\n", at("secret.txt"));
	first_life(text);
	before = see("orders.properties");
	assert_string_equal(before.bytes, "x=1\n");
	assert_blocks(1, 1, 0); /* a file is looked at anyway */
	next_life();
	live_on();
	assert_told_nothing();
	after = see("orders.properties");
	assert_same(&before, &after);
	die();
	put("secret.txt", "a=2\n");
	live(true);
	live_on();
	UNTIL(sunk.touches);
	after = see("orders.properties");
	assert_rotated(&before, &after, 1);
	assert_string_equal(after.bytes, "x=2\n");
	quiet();
	assert_int_equal(sunk.touches, 1);
}

static void text_changed(const char *name, bool opened)
{
	struct seen before = see(name), after;

	die();
	put(name, "y=new\n");
	run_for(30);
	live(true);
	after = see(name);
	assert_same(&before, &after);
	catalog_kept_done(catalog);
	UNTIL(sunk.touches);
	after = see(name);
	assert_rotated(&before, &after, 1);
	assert_string_equal(after.bytes, opened ? "y=new\n" : "");
	assert_int_equal(sunk.rotated, 1);
	assert_int_equal(sunk.mtime_ns, after.mtime_ns);
	run_for(150);
	assert_int_equal(sunk.touches, 1);
	/* and in this life the next one is one more */
	before = after;
	put(name, "y=newer\n");
	UNTIL(sunk.touches == 2);
	after = see(name);
	assert_rotated(&before, &after, 1);
	quiet();
	next_life();
	live_on();
	before = see(name);
	assert_same(&before, &after);
	assert_told_nothing();
	assert_string_equal(cat(name), "y=newer\n");
}

static void test_text_changed(void **state)
{
	(void)state;
	first_life(ONE);
	text_changed("orders.properties", true);
}

static void test_text_changed_of_idle(void **state)
{
	(void)state;
	put("idle.properties", "name=idle\n");
	first_life(ONE);
	text_changed("idle.properties", false);
}

/* Both: bytes and version move once. */
static void test_text_and_secret_changed(void **state)
{
	struct seen before, after;

	(void)state;
	first_life(ONE);
	before = see("orders.properties");
	die();
	put("orders.properties", ONE "y=2\n");
	fake_set(fake("one"), "a", "2");
	run_for(120);
	live(true);
	live_on();
	UNTIL(strcmp(cat("orders.properties"), ONE_IS("2") "y=2\n") == 0);
	quiet();
	after = see("orders.properties");
	assert_true(after.version > before.version && after.mtime_ns > before.mtime_ns);
	assert_true(after.version <= before.version + 2); /* the kept secret may still have been fresh */
	assert_int_equal(sunk.mtime_ns, after.mtime_ns);
}

/* ---- coming and going ---- */

static void test_removed_and_added(void **state)
{
	(void)state;
	put("gone.properties", "a=b\n");
	first_life(ONE);
	cat("gone.properties");
	assert_blocks(2, 2, 1);
	die();
	assert_int_equal(unlink(at("gone.properties")), 0);
	put("new.properties", "c=d\n");
	run_for(30);
	live_with(true, true, false);
	assert_true(is_there("gone.properties")); /* until its UNLINK */
	assert_false(is_there("new.properties")); /* until its MKNOD */
	live_on();
	assert_int_equal(sunk.vanishes, 1);
	assert_int_equal(sunk.appears, 1);
	assert_int_equal(sunk.touches, 0);
	assert_blocks(3, 2, 1);
	/* and once more, since nobody came */
	die();
	live_with(true, true, false);
	live_on();
	assert_int_equal(sunk.vanishes, 1);
	assert_int_equal(sunk.appears, 1);
	assert_true(is_there("gone.properties"));
	assert_false(is_there("new.properties"));
	die();
	live(true);
	live_on();
	assert_int_equal(sunk.vanishes, 1);
	assert_int_equal(sunk.appears, 1);
	assert_false(is_there("gone.properties"));
	assert_string_equal(cat("new.properties"), "c=d\n");
	assert_blocks(2, 2, 1);
	next_life();
	live_on();
	assert_told_nothing();
	assert_true(is_there("new.properties"));
	live_out();
}

/* The same where a worker lives: it has told, and dies before the notifier comes. */
static void test_dies_appearing(void **state)
{
	(void)state;
	put("gone.properties", "a=b\n");
	first_life(ONE);
	sunk.hold_names = true;
	put("new.properties", "c=d\n");
	assert_int_equal(unlink(at("gone.properties")), 0);
	UNTIL(sunk.appears && sunk.vanishes);
	quiet();
	next_life();
	assert_false(is_there("new.properties"));
	assert_true(is_there("gone.properties"));
	live_on();
	assert_int_equal(sunk.appears, 1);
	assert_int_equal(sunk.vanishes, 1);
	assert_true(is_there("new.properties"));
	assert_false(is_there("gone.properties"));
	next_life();
	live_on();
	assert_told_nothing();
	assert_blocks(2, 1, 1);
}

/* The root's time moves when names come and go, not when those who show them do. */
static void test_root_time(void **state)
{
	int64_t mtime;

	(void)state;
	put("gone.properties", "a=b\n");
	first_life(ONE);
	mtime = catalog_mtime_ns(catalog);
	for (int i = 0; i < 3; i++) {
		next_life();
		assert_int_equal(catalog_mtime_ns(catalog), mtime);
		live_on();
		assert_int_equal(catalog_mtime_ns(catalog), mtime);
	}
	/* they have come and gone meanwhile: not before somebody sees it */
	die();
	assert_int_equal(unlink(at("gone.properties")), 0);
	put("new.properties", "c=d\n");
	run_for(30);
	live_with(true, true, false);
	live_on();
	assert_int_equal(catalog_mtime_ns(catalog), mtime);
	die();
	live(true);
	assert_int_equal(catalog_mtime_ns(catalog), mtime);
	live_on();
	assert_true(is_there("new.properties") && !is_there("gone.properties"));
	assert_true(catalog_mtime_ns(catalog) > mtime);
	/* never back, also where the clock goes back */
	mtime = clock_real_ns() + INT64_C(1000000000000);
	atomic_store(catalog->mtime_ns, mtime);
	next_life();
	assert_int_equal(catalog_mtime_ns(catalog), mtime);
	put("newer.properties", "c=d\n");
	UNTIL(is_there("newer.properties"));
	assert_int_equal(catalog_mtime_ns(catalog), mtime + 1);
	/* who is told to end changes nothing any more, and its successor has the rest to tell */
	quiet();
	keep_freeze(keep);
	put("newest.properties", "c=d\n");
	UNTIL(is_there("newest.properties"));
	assert_int_equal(catalog_mtime_ns(catalog), mtime + 1);
	next_life();
	assert_false(is_there("newest.properties"));
	assert_int_equal(catalog_mtime_ns(catalog), mtime + 1);
	live_on();
	assert_true(is_there("newest.properties"));
	assert_int_equal(catalog_mtime_ns(catalog), mtime + 2);
	live_out();
}

/* It has been shown in a later life: no matter whether its text was good, or read before or after, it has. */
static void test_dies_shown(void **state)
{
	(void)state;
	first_life(ONE);
	put("bad.json", "{");
	put("good.json", "{}");
	UNTIL(sunk.appears == 2);
	quiet();
	assert_true(is_there("bad.json"));
	next_life();
	assert_true(is_there("bad.json"));
	assert_true(is_there("good.json"));
	live_on();
	assert_told_nothing();
}

/* Removed meanwhile, and here again before its UNLINK: the same node, and its version goes on. */
static void test_back_again(void **state)
{
	struct seen before, after;

	(void)state;
	first_life(ONE);
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.touches == 1);
	quiet();
	before = see("orders.properties");
	die();
	assert_int_equal(unlink(at("orders.properties")), 0);
	live_with(true, true, false);
	live_on();
	assert_int_equal(sunk.vanishes, 1);
	put("orders.properties", ONE "y=1\n");
	UNTIL(see("orders.properties").version == 2);
	after = see("orders.properties");
	assert_true(after.mtime_ns > before.mtime_ns);
	catalog_vanished(catalog, sunk.conn);
	sunk.hold_names = false;
	UNTIL(sunk.appears && is_there("orders.properties"));
	assert_string_equal(cat("orders.properties"), ONE_IS("2") "y=1\n");
	assert_int_equal(see("orders.properties").ino, before.ino);
}

static uint64_t one_hash(const void *data, size_t len)
{
	(void)data;
	(void)len;
	return 5;
}

/* Of two names with one hash the one with the other number goes last, when its number has become another. */
static void test_collision_gone(void **state)
{
	(void)state;
	catalog_set_hash(one_hash);
	put("first.properties", "a=b\n");
	first_life(ONE);
	put("second.properties", "c=d\n");
	UNTIL(is_there("second.properties"));
	assert_string_equal(cat("second.properties"), "EIO");
	assert_int_equal(unlink(at("orders.properties")), 0);
	assert_int_equal(unlink(at("first.properties")), 0);
	UNTIL(!is_there("first.properties") && !is_there("orders.properties"));
	quiet();
	die();
	assert_int_equal(unlink(at("second.properties")), 0);
	live(true);
	live_on();
	assert_int_equal(sunk.vanishes, 1);
	assert_false(is_there("second.properties"));
	assert_blocks(0, 0, 0);
	live_out();
}

/* ---- touches ---- */

static void test_touch_due(void **state)
{
	struct seen before, after;

	(void)state;
	first_life(ONE);
	sunk.hold = true;
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.touches);
	before = see("orders.properties");
	for (int i = 0; i < 3; i++) {
		die();
		live_with(true, true, false);
		after = see("orders.properties");
		assert_same(&before, &after);
		assert_false(sunk.touches);
		UNTIL(sunk.touches);
		assert_int_equal(sunk.rotated, 1);
		assert_int_equal(sunk.mtime_ns, before.mtime_ns);
		live_on();
		after = see("orders.properties");
		assert_same(&before, &after);
		assert_int_equal(sunk.touches, 1);
	}
	catalog_touched(catalog, sunk.conn, 0);
	next_life();
	live_on();
	assert_told_nothing();
}

/* A change within the settle time of a worker that dies then. */
static void test_touch_not_sent(void **state)
{
	struct seen before;

	(void)state;
	first_life(ONE);
	settings.settle_ms = 60000;
	put("orders.properties", ONE "y=1\n");
	UNTIL(strcmp(cat("orders.properties"), ONE_IS("1") "y=1\n") == 0);
	before = see("orders.properties");
	assert_int_equal(sunk.touches, 0);
	settings.settle_ms = 20;
	next_life();
	UNTIL(sunk.touches);
	assert_int_equal(sunk.mtime_ns, before.mtime_ns);
	assert_int_equal(before.version, 1);
	live_on();
	assert_int_equal(see("orders.properties").version, 1);
	assert_int_equal(sunk.touches, 1);
}

/* Only what it is: the connector became broken. */
static void test_touch_state_due(void **state)
{
	(void)state;
	first_life(ONE);
	sunk.hold = true;
	fake("one")->err = EKEYREVOKED;
	UNTIL(sunk.states == 1);
	die();
	live_with(true, true, false);
	UNTIL(sunk.touches);
	assert_int_equal(sunk.states, 1);
	assert_int_equal(sunk.rotated, 0);
}

/* A worker that is told to end, and has a successor all the same, leaves the keep as it is. */
static void test_frozen(void **state)
{
	struct seen before, after;
	int64_t mtime;

	(void)state;
	help_providers[0].refresh.fresh_ms = help_providers[0].refresh.poll_ms = 600000;
	first_life(ONE);
	sunk.hold = true;
	put("orders.properties", ONE "y=1\n");
	UNTIL(sunk.touches);
	mtime = sunk.mtime_ns;
	before = see("orders.properties");
	keep_freeze(keep);
	catalog_end_waits(catalog, -EINTR);
	engine_free(engine);
	engine = NULL;
	keep_detach(keep);
	live(true);
	after = see("orders.properties");
	assert_same(&before, &after);
	live_on();
	assert_int_equal(sunk.rotated, 1);
	assert_int_equal(sunk.mtime_ns, mtime);
	assert_string_equal(cat("orders.properties"), ONE_IS("1") "y=1\n");
	assert_int_equal(fake("one")->fetches, 1); /* it was known to be in use */
}

/* ---- snapshots of open files ---- */

struct place {
	uint64_t place, seq;
};

static struct snapshot *open_at(const char *name, struct place *ret)
{
	struct connector *conn = conn_of(name);
	struct snapshot *s;
	struct opening o;

	open_begin(conn, &o);
	UNTIL(o.done);
	assert_non_null(o.snapshot);
	s = snapshot_ref(o.snapshot);
	snapshot_place(s, &ret->place, &ret->seq);
	open_end(&o);
	connector_unref(conn);
	return s;
}

static struct snapshot *kept_at(const struct place *p, const char *bytes)
{
	struct snapshot *s = catalog_kept_snapshot(catalog, p->place, p->seq);

	assert_non_null(s);
	assert_int_equal(snapshot_size(s), strlen(bytes));
	assert_memory_equal(snapshot_data(s), bytes, snapshot_size(s));
	return s;
}

/* Two versions of one connector and one that is gone are held open through two deaths. */
static void test_open_files(void **state)
{
	const char *const bytes[3] = { ONE_IS("1"), ONE_IS("2"), "a=b\n" };
	struct snapshot *s[3];
	struct place p[3];

	(void)state;
	put("gone.properties", "a=b\n");
	first_life(ONE);
	s[0] = open_at("orders.properties", &p[0]);
	s[2] = open_at("gone.properties", &p[2]);
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.touches == 1);
	s[1] = open_at("orders.properties", &p[1]);
	assert_int_equal(unlink(at("gone.properties")), 0);
	UNTIL(sunk.vanishes == 1);
	quiet();
	fake_set(fake("one"), "a", "3");
	for (int life = 0; life < 2; life++) {
		keep_freeze(keep);
		for (int i = 0; i < 3; i++)
			snapshot_unref(s[i]);
		next_life();
		for (int i = 0; i < 3; i++)
			s[i] = kept_at(&p[i], bytes[i]);
		assert_null(catalog_kept_snapshot(catalog, p[0].place, p[0].seq + 1000));
		assert_null(catalog_kept_snapshot(catalog, p[0].place + 16, p[0].seq));
		assert_null(catalog_kept_snapshot(catalog, 0, 0));
		live_on();
		UNTIL(strcmp(cat("orders.properties"), ONE_IS("3")) == 0);
		quiet();
		assert_null(catalog_kept_snapshot(catalog, p[0].place, p[0].seq)); /* it is too late to ask */
		assert_false(is_there("gone.properties"));
		for (int i = 0; i < 3; i++)
			assert_memory_equal(snapshot_data(s[i]), bytes[i], strlen(bytes[i]));
		assert_blocks(1, 4, 1);
	}
	for (int i = 0; i < 3; i++)
		snapshot_unref(s[i]);
	assert_blocks(1, 1, 1);
	live_out();
}

/* Nothing is left behind, whatever happens in a life. */
static void test_many_lives(void **state)
{
	struct keep_stats first, last;
	struct snapshot *held = NULL;
	struct place p;
	char value[16];

	(void)state;
	put("idle.properties", "a=b\n");
	first_life(ONE);
	keep_get_stats(keep, &first);
	for (int i = 0; i < 52; i++) {
		keep_freeze(keep);
		snapshot_unref(held);
		held = NULL;
		die();
		(void)snprintf(value, sizeof(value), "%d", 1 + i / 2);
		fake_set(fake("one"), "a", value);
		if (i % 4 == 0)
			put("coming.properties", "c=d\n");
		else if (i % 4 == 2)
			assert_int_equal(unlink(at("coming.properties")), 0);
		live(true);
		live_on();
		if (i % 4 < 2)
			cat("coming.properties");
		if (i % 3 == 0)
			held = open_at("orders.properties", &p);
		/* the background has rendered the secret as it was kept, until it is polled */
		UNTIL(see("orders.properties").version == (uint64_t)i / 2);
		quiet();
		assert_int_equal(blocks_of(KEEP_CONNECTOR), i % 4 < 2 ? 3 : 2);
		assert_true(blocks_of(KEEP_SNAPSHOT) <= (i % 4 < 2 ? 3u : 2u));
		assert_int_equal(blocks_of(KEEP_SECRET), 1);
	}
	snapshot_unref(held);
	keep_get_stats(keep, &last);
	assert_int_equal(last.blocks, first.blocks);
	assert_int_equal(last.used, first.used);
	assert_int_equal(last.size, first.size);
	assert_int_equal(last.failed, 0);
	live_out();
}

#define BOTH(t) \
	cmocka_unit_test_setup_teardown(t, kept_setup, kept_teardown), \
	{ #t "_early", t, kept_setup_early, kept_teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_same),
		BOTH(test_same_polled),
		BOTH(test_text_in_keep),
		BOTH(test_keep_renewed),
		BOTH(test_same_bytes_rewritten),
		BOTH(test_same_failed),
		BOTH(test_same_stale),
		BOTH(test_broken_meanwhile),
		BOTH(test_text_broken),
		BOTH(test_secret_changed),
		BOTH(test_secret_file_changed),
		BOTH(test_text_changed),
		BOTH(test_text_changed_of_idle),
		BOTH(test_text_and_secret_changed),
		BOTH(test_removed_and_added),
		BOTH(test_dies_appearing),
		BOTH(test_root_time),
		BOTH(test_dies_shown),
		BOTH(test_back_again),
		BOTH(test_collision_gone),
		BOTH(test_touch_due),
		BOTH(test_touch_not_sent),
		BOTH(test_touch_state_due),
		BOTH(test_frozen),
		BOTH(test_open_files),
		BOTH(test_many_lives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
