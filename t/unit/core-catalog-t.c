/*
 * The catalog, by an engine over a directory: what is served, when it is told, who comes and goes.
 */
#include "core-engine.h"

#define ONE "# c\nname=orders\nx=${fake:one:a}\n"
#define ONE_IS(v) "# c\nname=orders\nx=" v "\n"

static int setup(void **state)
{
	(void)state;
	help_loop_new();
	help_settings();
	help_fake();
	help_dir();
	fake_set(fake("one"), "a", "1");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (engine)
		engine_end();
	help_loop_free();
	help_settings_done();
	help_dir_done();
	catalog_set_hash(NULL);
	return 0;
}

/* A mount with orders, whose secret never changes by itself. */
static void start(const char *text)
{
	put("orders.properties", text);
	run_for(30); /* no longer young */
	engine_make(ENGINE_MOUNT);
}

static struct connector_attr attr_of(const char *name)
{
	struct connector *conn = conn_of(name);
	struct connector_attr a;

	connector_get_attr(conn, &a);
	connector_unref(conn);
	return a;
}

/* ---- opening ---- */

static void test_first_open(void **state)
{
	struct connector_attr a;

	(void)state;
	start(ONE);
	a = attr_of("orders.properties");
	assert_int_equal(a.size, 0);
	assert_false(a.cacheable);
	assert_string_equal(xattr("orders.properties", "state"), "idle");
	assert_int_equal(fake("one")->fetches, 0); /* what was never opened costs nothing */
	assert_false(opens_at_once("orders.properties"));
	assert_true(opens_at_once("orders.properties"));
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	a = attr_of("orders.properties");
	assert_int_equal(a.size, strlen(ONE_IS("1")));
	assert_true(a.cacheable);
	assert_string_equal(xattr("orders.properties", "state"), "ok");
	run_for(50);
	assert_int_equal(sunk.touches, 0); /* no rotation */
	assert_int_equal(sunk.invalidates, 0);
}

static void test_rotation(void **state)
{
	struct connector_attr before, after;

	(void)state;
	start(ONE);
	cat("orders.properties");
	before = attr_of("orders.properties");
	sunk.hold = true;
	fake_set(fake("one"), "a", "22");
	UNTIL(sunk.touches);
	assert_int_equal(sunk.rotated, 1);
	assert_int_equal(sunk.invalidates, 1);
	after = attr_of("orders.properties");
	assert_int_equal(after.size, before.size + 1);
	assert_true(after.mtime_ns > before.mtime_ns);
	assert_int_equal(sunk.mtime_ns, after.mtime_ns);
	assert_false(after.cacheable); /* until the touch has ended */
	assert_true(connector_touch_expected(sunk.conn, after.mtime_ns));
	assert_false(connector_touch_expected(sunk.conn, -1));
	assert_false(connector_touch_expected(sunk.conn, before.mtime_ns));
	assert_string_equal(cat("orders.properties"), ONE_IS("22"));
	assert_string_equal(xattr("orders.properties", "version"), "1");
	catalog_touched(catalog, sunk.conn, 0);
	catalog_touched(catalog, sunk.conn, 0); /* harmless */
	assert_true(attr_of("orders.properties").cacheable);
	assert_false(connector_touch_expected(sunk.conn, after.mtime_ns));
	run_for(250); /* polled meanwhile */
	assert_int_equal(sunk.touches, 1);
	assert_int_equal(engine_stats(engine)->rotations, 1);
}

/* Of those that come while a touch is under way one more is made. */
static void test_touch_again(void **state)
{
	(void)state;
	settings.settle_ms = 0;
	start(ONE);
	cat("orders.properties");
	sunk.hold = true;
	for (int i = 0; i < 4; i++) {
		char value[16], want[64];

		(void)snprintf(value, sizeof(value), "v%d", i);
		(void)snprintf(want, sizeof(want), "# c\nname=orders\nx=%s\n", value);
		fake_set(fake("one"), "a", value);
		UNTIL(strcmp(cat("orders.properties"), want) == 0);
		fake("one")->pairs[1] = "v3";
	}
	assert_int_equal(sunk.touches, 1);
	catalog_touched(catalog, sunk.conn, -ETIMEDOUT);
	assert_int_equal(sunk.touches, 2);
	assert_int_equal(sunk.mtime_ns, attr_of("orders.properties").mtime_ns);
	assert_false(attr_of("orders.properties").cacheable);
	catalog_touched(catalog, sunk.conn, 0);
	assert_int_equal(sunk.touches, 2);
	assert_int_equal(engine_stats(engine)->touch_failures, 1);
	assert_true(attr_of("orders.properties").cacheable);
}

/* Broken, and back with the same bytes: no rotation. */
static void test_same_bytes(void **state)
{
	struct fake *fk = fake("one");
	int64_t mtime;

	(void)state;
	start(ONE);
	cat("orders.properties");
	mtime = attr_of("orders.properties").mtime_ns;
	fk->err = EKEYREVOKED;
	UNTIL(sunk.states == 1);
	assert_string_equal(cat("orders.properties"), "EKEYREVOKED");
	assert_string_equal(xattr("orders.properties", "state"), "failed");
	assert_string_equal(xattr("orders.properties", "error"), "orders.properties:3: x: fake: it says no");
	fk->err = 0;
	UNTIL(sunk.states == 2);
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	assert_int_equal(attr_of("orders.properties").mtime_ns, mtime);
	assert_string_equal(xattr("orders.properties", "version"), "0");
	assert_string_equal(xattr("orders.properties", "error"), "ENODATA");
	/* an outage */
	fk->err = ECONNREFUSED;
	fk->outage = true;
	UNTIL(sunk.states == 3);
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	assert_string_equal(xattr("orders.properties", "state"), "stale");
	assert_string_equal(xattr("orders.properties", "error"), "last known values: fake: it says no");
	run_for(50);
	assert_int_equal(sunk.rotated, 0);
	assert_int_equal(sunk.invalidates, 0);
}

static void test_mtime_increases(void **state)
{
	const struct timespec times[2] = { { 4102444800, 0 }, { 4102444800, 5 } };
	int64_t before;

	(void)state;
	put("orders.properties", ONE);
	assert_int_equal(utimensat(AT_FDCWD, at("orders.properties"), times, 0), 0);
	engine_make(ENGINE_MOUNT);
	before = attr_of("orders.properties").mtime_ns;
	assert_int_equal(before, 4102444800 * INT64_C(1000000000) + 5); /* the stored file's */
	cat("orders.properties");
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.touches);
	assert_int_equal(attr_of("orders.properties").mtime_ns, before + 1);
}

/* A build that is to be reproducible gives all its files this time. It is one like any other. */
static void test_mtime_zero(void **state)
{
	const struct timespec times[2] = { { 0, 0 }, { 0, 0 } };

	(void)state;
	put("orders.properties", ONE);
	assert_int_equal(utimensat(AT_FDCWD, at("orders.properties"), times, 0), 0);
	run_for(30);
	engine_make(ENGINE_MOUNT);
	cat("orders.properties");
	assert_int_equal(attr_of("orders.properties").mtime_ns, 0);
	sunk.hold = true;
	fake("one")->err = EKEYREVOKED;
	UNTIL(sunk.states);
	assert_int_equal(sunk.mtime_ns, 0);
	assert_true(connector_touch_expected(sunk.conn, 0));
	catalog_touched(catalog, sunk.conn, 0);
	assert_false(connector_touch_expected(sunk.conn, 0));
}

/* ---- stored configs ---- */

static void test_stored_change_of_idle(void **state)
{
	int64_t mtime;

	(void)state;
	start(ONE);
	mtime = attr_of("orders.properties").mtime_ns;
	put("orders.properties", ONE "y=1\n");
	UNTIL(sunk.touches);
	assert_int_equal(sunk.rotated, 1);
	assert_true(attr_of("orders.properties").mtime_ns > mtime);
	assert_string_equal(xattr("orders.properties", "version"), "1");
	assert_string_equal(xattr("orders.properties", "state"), "idle");
	assert_int_equal(fake("one")->fetches, 0);
	/* written anew with the same bytes */
	put("orders.properties", ONE "y=1\n");
	run_for(100);
	assert_int_equal(sunk.touches, 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("1") "y=1\n");
	run_for(50);
	assert_int_equal(sunk.touches, 1);
}

/* A window from the first change, never extended; an open finds the change at once. */
static void test_settle(void **state)
{
	int64_t began;

	(void)state;
	settings.settle_ms = 250;
	start(ONE);
	cat("orders.properties");
	began = clock_mono_ms();
	for (int i = 0; i < 9; i++) {
		char text[128];

		(void)snprintf(text, sizeof(text), "%sy=%d\n", ONE, i);
		put("orders.properties", text);
		run_for(20);
		if (i == 4)
			assert_string_equal(cat("orders.properties"), ONE_IS("1") "y=4\n");
	}
	assert_int_equal(sunk.touches, 0);
	UNTIL(sunk.touches);
	assert_in_range(clock_mono_ms() - began, 240, 420);
	assert_string_equal(cat("orders.properties"), ONE_IS("1") "y=8\n");
	run_for(400);
	assert_int_equal(sunk.touches, 1);
}

static void test_open_finds_secret_file(void **state)
{
	char text[256];

	(void)state;
	settings.settle_ms = 100;
	put("secret.txt", "a=1\n");
	(void)snprintf(text, sizeof(text), "x=${file:%s:a}\n", at("secret.txt"));
	start(text);
	assert_string_equal(cat("orders.properties"), "x=1\n");
	put("secret.txt", "a=2\n");
	assert_string_equal(cat("orders.properties"), "x=2\n");
	assert_int_equal(sunk.touches, 0);
	UNTIL(sunk.touches);
	run_for(250);
	assert_int_equal(sunk.touches, 1);
	assert_string_equal(xattr("orders.properties", "version"), "1");
}

static void test_broken_stored(void **state)
{
	const char *bad = "x=\\u00\n";

	(void)state;
	put("bad.json", "{\"a\":");
	start(ONE);
	/* never good */
	assert_string_equal(xattr("bad.json", "state"), "failed");
	assert_non_null(strstr(xattr("bad.json", "error"), "bad.json:1: "));
	assert_string_equal(cat("bad.json"), "EIO");
	put("bad.json", "{\"a\":\"1\"}");
	assert_string_equal(cat("bad.json"), "{\"a\":\"1\"}");
	assert_string_equal(xattr("bad.json", "state"), "ok");
	/* the last good one goes on being served */
	cat("orders.properties");
	run_for(100);
	sunk.touches = sunk.rotated = sunk.states = 0;
	put("orders.properties", bad);
	UNTIL(sunk.touches);
	assert_int_equal(sunk.states, 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	assert_string_equal(xattr("orders.properties", "state"), "stale");
	assert_non_null(strstr(xattr("orders.properties", "error"), "orders.properties:1: "));
	/* and its secrets rotate */
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.rotated == 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("2"));
	assert_string_equal(xattr("orders.properties", "state"), "stale");
	put("orders.properties", ONE);
	assert_string_equal(cat("orders.properties"), ONE_IS("2"));
	assert_string_equal(xattr("orders.properties", "state"), "ok");
	assert_string_equal(xattr("orders.properties", "version"), "1");
}

static void test_broken_idle(void **state)
{
	char *big = calloc(1, 1200000);

	(void)state;
	assert_non_null(big);
	memset(big, '#', 1199999);
	start(ONE);
	put("orders.properties", big);
	free(big);
	UNTIL(sunk.states == 1);
	assert_string_equal(xattr("orders.properties", "state"), "stale");
	assert_int_equal(strncmp(xattr("orders.properties", "error"), "orders.properties: ", 19), 0);
	put("orders.properties", ONE);
	UNTIL(sunk.states == 2);
	assert_string_equal(xattr("orders.properties", "state"), "idle");
	assert_string_equal(xattr("orders.properties", "version"), "0");
	assert_int_equal(fake("one")->fetches, 0);
}

/* Makes a file and writes to it until it is there; it is not closed. */
static struct connector *write_on(const char *name, int *ret_fd)
{
	int64_t began = clock_mono_ms();
	struct connector *conn;

	*ret_fd = open(at(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(*ret_fd >= 0);
	do {
		assert_int_equal(write(*ret_fd, "#", 1), 1);
		run_for(5);
		conn = catalog_find(catalog, name);
		assert_true(clock_mono_ms() - began < PATIENCE_MS);
	} while (!conn);
	return conn;
}

/* With no text yet, an open waits for its writer; at most as long as for a fetch. */
static void test_stored_being_written(void **state)
{
	struct connector *conn;
	struct opening o;
	int64_t began;
	int fd;

	(void)state;
	start(ONE);
	conn = write_on("new.properties", &fd);
	open_begin(conn, &o);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(write(fd, "#", 1), 1);
		run_for(10);
	}
	assert_int_equal(o.done, 0);
	assert_int_equal(write(fd, "\na=1\n", 5), 5);
	assert_int_equal(close(fd), 0);
	UNTIL(o.done);
	assert_int_equal(o.err, 0);
	assert_non_null(memmem(snapshot_data(o.snapshot), snapshot_size(o.snapshot), "\na=1\n", 5));
	open_end(&o);
	connector_unref(conn);
	/* one who never ends */
	conn = write_on("log.properties", &fd);
	began = clock_mono_ms();
	open_begin(conn, &o);
	while (!o.done) {
		assert_int_equal(write(fd, "#", 1), 1);
		run_for(10);
		assert_true(clock_mono_ms() - began < 3000);
	}
	assert_int_equal(o.err, -ETIMEDOUT);
	assert_in_range(clock_mono_ms() - began, 290, 900);
	open_end(&o);
	connector_unref(conn);
	assert_int_equal(close(fd), 0);
	UNTIL(strcmp(cat("log.properties"), "ETIMEDOUT") != 0);
	assert_string_equal(xattr("log.properties", "state"), "ok");
	/* and one that leaves while somebody waits */
	conn = write_on("gone.properties", &fd);
	open_begin(conn, &o);
	run_for(20);
	assert_int_equal(unlink(at("gone.properties")), 0);
	UNTIL(o.done);
	assert_int_equal(o.err, -ENOENT);
	assert_int_equal(close(fd), 0);
	open_end(&o);
	connector_unref(conn);
}

/* A good text stays while the next one is being written. */
static void test_rewritten(void **state)
{
	int fd;

	(void)state;
	settings.settle_ms = 0;
	start("a=1\n");
	assert_string_equal(cat("orders.properties"), "a=1\n");
	fd = open(at("orders.properties"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "a=", 2), 2);
	for (int i = 0; i < 5; i++) {
		assert_string_equal(cat("orders.properties"), "a=1\n");
		run_for(10);
	}
	assert_int_equal(write(fd, "2\n", 2), 2);
	assert_int_equal(close(fd), 0);
	UNTIL(sunk.rotated == 1);
	assert_string_equal(cat("orders.properties"), "a=2\n");
}

/* ---- coming and going ---- */

static void test_come_and_go(void **state)
{
	struct connector *conn;
	struct listing *before, *after;
	int64_t mtime;

	(void)state;
	start(ONE);
	mtime = catalog_mtime_ns(catalog);
	before = catalog_list(catalog);
	sunk.hold_names = true;
	put("new.properties", "a=1\n");
	UNTIL(sunk.appears);
	assert_null(catalog_find(catalog, "new.properties")); /* not before its MKNOD */
	conn = catalog_find_appearing(catalog, "new.properties");
	assert_non_null(conn);
	catalog_appeared(catalog, conn);
	catalog_appeared(catalog, conn);
	assert_null(catalog_find_appearing(catalog, "new.properties"));
	assert_string_equal(cat("new.properties"), "a=1\n");
	assert_true(catalog_mtime_ns(catalog) > mtime);
	after = catalog_list(catalog);
	assert_int_equal(before->len, 1); /* as it was */
	assert_int_equal(after->len, 2);
	assert_string_equal(connector_name(after->items[0]), "new.properties");
	listing_unref(before);
	listing_unref(after);
	mtime = catalog_mtime_ns(catalog);
	assert_int_equal(unlink(at("new.properties")), 0);
	UNTIL(sunk.vanishes);
	assert_true(connector_is_vanishing(conn));
	assert_string_equal(cat("new.properties"), "ENOENT"); /* stays until its UNLINK, but there is nothing */
	catalog_vanished(catalog, conn);
	catalog_vanished(catalog, conn);
	run_due();
	assert_null(catalog_find(catalog, "new.properties"));
	assert_true(catalog_mtime_ns(catalog) > mtime);
	assert_int_equal(sunk.vanishes, 1);
	assert_int_equal(sunk.appears, 1);
	assert_int_equal(sunk.touches, 0);
	connector_unref(conn);
}

static void test_gone_while_appearing(void **state)
{
	struct connector *conn;
	uint64_t ino;

	(void)state;
	start(ONE);
	sunk.hold_names = true;
	put("new.properties", "a=1\n");
	UNTIL(sunk.appears);
	conn = catalog_find_appearing(catalog, "new.properties");
	assert_int_equal(unlink(at("new.properties")), 0);
	UNTIL(!conn->wanted);
	assert_int_equal(sunk.vanishes, 0);
	/* once it is there, it goes */
	catalog_appeared(catalog, conn);
	UNTIL(sunk.vanishes);
	catalog_vanished(catalog, conn);
	run_due();
	ino = connector_ino(conn);
	connector_unref(conn);
	assert_null(catalog_find_ino(catalog, ino));
	assert_int_equal(sunk.appears, 1);
	/* the same again, and back before it could appear */
	put("new.properties", "a=1\n");
	UNTIL(sunk.appears == 2);
	conn = catalog_find_appearing(catalog, "new.properties");
	assert_int_equal(unlink(at("new.properties")), 0);
	UNTIL(!conn->wanted);
	put("new.properties", "a=2\n");
	UNTIL(conn->wanted);
	catalog_appeared(catalog, conn);
	run_for(20);
	assert_int_equal(sunk.appears, 2);
	assert_int_equal(sunk.vanishes, 1);
	assert_string_equal(cat("new.properties"), "a=2\n");
	connector_unref(conn);
}

static void test_back_while_vanishing(void **state)
{
	struct connector *conn;
	uint64_t ino;

	(void)state;
	start(ONE);
	cat("orders.properties");
	conn = conn_of("orders.properties");
	ino = connector_ino(conn);
	sunk.hold_names = true;
	assert_int_equal(unlink(at("orders.properties")), 0);
	UNTIL(sunk.vanishes);
	put("orders.properties", ONE "y=2\n");
	UNTIL(conn->wanted);
	assert_int_equal(sunk.appears, 0);
	assert_string_equal(cat("orders.properties"), ONE_IS("1") "y=2\n"); /* it is there */
	catalog_vanished(catalog, conn);
	UNTIL(sunk.appears == 1);
	assert_null(catalog_find(catalog, "orders.properties"));
	catalog_appeared(catalog, conn);
	connector_unref(conn);
	conn = conn_of("orders.properties");
	assert_int_equal(connector_ino(conn), ino);
	connector_unref(conn);
	run_for(50);
	assert_string_equal(cat("orders.properties"), ONE_IS("1") "y=2\n");
	assert_int_equal(sunk.vanishes, 1);
}

/* A reference is held, as by an open descriptor: the name that comes back is the same node. */
static void test_back_while_held(void **state)
{
	struct connector *conn, *found;
	struct connector_attr before, after;
	unsigned fetches;

	(void)state;
	start(ONE);
	cat("orders.properties");
	conn = conn_of("orders.properties");
	connector_get_attr(conn, &before);
	assert_int_equal(unlink(at("orders.properties")), 0);
	UNTIL(sunk.vanishes && !is_there("orders.properties"));
	found = catalog_find_ino(catalog, connector_ino(conn));
	assert_ptr_equal(found, conn);
	connector_unref(found);
	fetches = fake("one")->fetches;
	run_for(250);
	assert_int_equal(fake("one")->fetches, fetches); /* no secret is kept for it */
	put("orders.properties", ONE);
	UNTIL(sunk.appears);
	run_due();
	found = conn_of("orders.properties");
	assert_ptr_equal(found, conn);
	connector_unref(found);
	assert_string_equal(xattr("orders.properties", "state"), "idle");
	assert_false(opens_at_once("orders.properties")); /* what it held is not kept up to date */
	connector_get_attr(conn, &after);
	assert_true(after.mtime_ns >= before.mtime_ns);
	fake_set(fake("one"), "a", "3");
	UNTIL(sunk.rotated);
	connector_get_attr(conn, &after);
	assert_true(after.mtime_ns > before.mtime_ns);
	connector_unref(conn);
}

static void test_removed_while_touched(void **state)
{
	struct connector *conn;

	(void)state;
	start(ONE);
	cat("orders.properties");
	sunk.hold = true;
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.touches);
	conn = sunk.conn;
	assert_int_equal(unlink(at("orders.properties")), 0);
	UNTIL(sunk.vanishes && !is_there("orders.properties"));
	catalog_touched(catalog, conn, -ENOENT); /* held until here */
	assert_int_equal(sunk.touches, 1);
}

static uint64_t same_hash(const void *data, size_t len)
{
	(void)data;
	return len ? 7 : 8;
}

static void test_collision(void **state)
{
	struct connector *a, *b;

	(void)state;
	catalog_set_hash(same_hash);
	start("a=1\n");
	a = conn_of("orders.properties");
	assert_int_equal(connector_ino(a), CONNECTOR_INO_MIN + 7);
	put("second.properties", "a=2\n");
	UNTIL((b = catalog_find(catalog, "second.properties")));
	assert_int_not_equal(connector_ino(a), connector_ino(b));
	assert_string_equal(cat("orders.properties"), "a=1\n");
	assert_string_equal(cat("second.properties"), "EIO");
	assert_string_equal(xattr("second.properties", "error"),
	                    "another connector's name has the same hash: rename one of them");
	run_for(60);
	assert_true(list_empty(&catalog->announce)); /* and it is not looked at again and again */
	connector_unref(a);
	connector_unref(b);
}

/* ---- waiting ---- */

static void test_interrupt(void **state)
{
	struct fake *fk = fake("one");
	struct connector *conn;
	struct opening o[4];

	(void)state;
	start(ONE);
	conn = conn_of("orders.properties");
	fk->hang = true;
	open_begin(conn, &o[0]);
	open_begin(conn, &o[1]);
	open_wait_interrupt(o[1].wait); /* before it has been taken up */
	UNTIL(o[1].done && fk->flight);
	assert_int_equal(o[1].err, -EINTR);
	open_begin(conn, &o[2]); /* while the job runs */
	open_begin(conn, &o[3]);
	run_due();
	open_wait_interrupt(o[0].wait); /* the one that the job serves */
	open_wait_interrupt(o[0].wait);
	open_wait_interrupt(o[2].wait);
	UNTIL(o[0].done && o[2].done);
	assert_int_equal(o[0].err, -EINTR);
	assert_int_equal(o[2].err, -EINTR);
	assert_int_equal(o[3].done, 0);
	open_wait_release(o[3].wait); /* given back before done */
	o[3].wait = NULL;
	fake_release(fk);
	UNTIL(o[3].done);
	assert_int_equal(o[3].err, 0);
	run_for(70);
	open_end(&o[2]);
	open_begin(conn, &o[2]);
	UNTIL(o[2].done);
	open_wait_interrupt(o[2].wait); /* after done */
	run_due();
	assert_int_equal(o[2].done, 1);
	for (int i = 0; i < 4; i++)
		open_end(&o[i]);
	connector_unref(conn);
}

static void test_timeout(void **state)
{
	(void)state;
	start(ONE);
	fake("one")->hang = true;
	assert_string_equal(cat("orders.properties"), "ETIMEDOUT");
	assert_string_equal(cat("orders.properties"), "ETIMEDOUT");
	assert_int_equal(fake("one")->fetches, 1);
}

static void test_removed_while_waiting(void **state)
{
	struct connector *conn;
	struct opening o[3];

	(void)state;
	start(ONE);
	conn = conn_of("orders.properties");
	fake("one")->hang = true;
	open_begin(conn, &o[0]);
	UNTIL(fake("one")->flight);
	open_begin(conn, &o[1]);
	run_due();
	assert_int_equal(unlink(at("orders.properties")), 0);
	UNTIL(o[0].done && o[1].done);
	assert_int_equal(o[0].err, -ENOENT);
	assert_int_equal(o[1].err, -ENOENT);
	assert_int_equal(fake("one")->cancels, 1);
	open_begin(conn, &o[2]);
	UNTIL(o[2].done);
	assert_int_equal(o[2].err, -ENOENT);
	for (int i = 0; i < 3; i++)
		open_end(&o[i]);
	connector_unref(conn);
}

/* While the text is being read, and while it is waited for. */
static void test_removed_while_loading(void **state)
{
	struct connector *conn;
	struct opening o;

	(void)state;
	start(ONE);
	conn = conn_of("orders.properties");
	conn->stored_stale = true;
	open_begin(conn, &o);
	while (conn->job != JOB_LOADING)
		loop_run_once(loop, 0);
	catalog_store_removed(catalog, "orders.properties");
	assert_int_equal(o.done, 1);
	assert_int_equal(o.err, -ENOENT);
	open_end(&o);
	connector_unref(conn);
	run_for(30);
	assert_int_equal(catalog->loading, 0);
}

/* The ends of all states that a job may be in; asan says whether anything is lost. */
static void test_free_in_every_state(void **state)
{
	(void)state;
	for (int i = 0; i < 7; i++) {
		struct opening o = { .done = 1 };
		struct connector *conn;

		settings.warm = i == 6;
		fake("one")->hang = i == 2 || i == 6;
		fake_set(fake("one"), "a", "1");
		put("orders.properties", ONE);
		engine_make(ENGINE_MOUNT);
		conn = conn_of("orders.properties");
		if (i == 1 || i == 2) {
			conn->stored_stale = i == 1;
			open_begin(conn, &o);
			while (conn->job != (i == 1 ? JOB_LOADING : JOB_NEEDING))
				loop_run_once(loop, 0);
		} else if (i == 3) { /* in the settle time */
			settings.settle_ms = 10000;
			put("orders.properties", ONE "y=1\n");
			UNTIL(!list_empty(&conn->announce_node));
			settings.settle_ms = 20;
		} else if (i == 4) { /* touched */
			cat("orders.properties");
			sunk.hold = true;
			fake_set(fake("one"), "a", "2");
			UNTIL(sunk.touches);
		} else if (i == 5) { /* being read in the background */
			conn->stored_stale = true;
			catalog_queue_load(conn);
			catalog_pump(catalog);
			assert_int_equal(conn->job, JOB_LOADING);
		}
		connector_unref(conn);
		engine_free(engine);
		engine = NULL;
		assert_true(o.done);
		assert_true(i == 1 || i == 2 ? o.err == -EINTR : o.err == 0);
		open_end(&o);
	}
}

/* ---- attributes ---- */

static void test_xattrs(void **state)
{
	struct connector *conn;
	struct buf list;

	(void)state;
	start("x=${fake:one:a}${fake:one:b}${none:p:k}\n");
	fake("one")->lease_ms = 100000;
	fake_set(fake("one"), "a", "1", "b", "2");
	assert_string_equal(xattr("orders.properties", "fetched"), "ENODATA");
	assert_string_equal(xattr("orders.properties", "secrets"), "fake:one\nnone:p");
	assert_string_equal(xattr("orders.properties", "other"), "EOPNOTSUPP");
	cat("orders.properties");
	assert_string_equal(xattr("orders.properties", "state"), "ok");
	assert_string_equal(xattr("orders.properties", "version"), "0");
	assert_string_equal(xattr("orders.properties", "rotated"), "ENODATA");
	assert_int_equal(strncmp(xattr("orders.properties", "fetched"), "20", 2), 0);
	assert_true(strcmp(xattr("orders.properties", "expires"), xattr("orders.properties", "fetched")) > 0);
	conn = conn_of("orders.properties");
	buf_init(&list, 4096);
	assert_int_equal(connector_xattr_list(conn, &list), 0);
	assert_int_equal(list.len, sizeof("user.connectfs.state\0user.connectfs.version\0user.connectfs.fetched\0"
	                                  "user.connectfs.expires\0user.connectfs.secrets"));
	assert_string_equal(list.data, "user.connectfs.state");
	buf_free(&list);
	connector_unref(conn);
}

static void test_find(void **state)
{
	struct error err = ERROR_INIT;
	struct connector *conn;

	(void)state;
	put("payments.json", "{\"a\":\"1\"}");
	put("both.json", "{\"a\":\"1\"}");
	put("both.properties", "a=1\n");
	start(ONE);
	conn = engine_find(engine, "orders", &err);
	assert_string_equal(connector_name(conn), "orders.properties");
	connector_unref(conn);
	conn = engine_find(engine, "payments", &err);
	assert_string_equal(connector_name(conn), "payments.json");
	connector_unref(conn);
	conn = engine_find(engine, "both.json", &err);
	assert_string_equal(connector_name(conn), "both.json");
	connector_unref(conn);
	assert_null(engine_find(engine, "both", &err));
	assert_string_equal(err.text, "both: there are both.properties and both.json: say which");
	assert_null(engine_find(engine, "none", &err));
	assert_int_equal(err.code, ENOENT);
}

/* ---- the engine ---- */

static void test_warm(void **state)
{
	char name[32];

	(void)state;
	for (int i = 0; i < 30; i++) {
		(void)snprintf(name, sizeof(name), "c%d.properties", i);
		put(name, ONE);
	}
	put("bad.json", "{");
	settings.warm = true;
	engine_make(ENGINE_MOUNT);
	UNTIL(list_empty(&catalog->to_load) && !catalog->loading);
	for (int i = 0; i < 30; i++) {
		(void)snprintf(name, sizeof(name), "c%d.properties", i);
		assert_string_equal(xattr(name, "state"), "ok");
		assert_true(attr_of(name).size > 0);
	}
	assert_string_equal(xattr("bad.json", "state"), "failed");
	assert_int_equal(sunk.touches, sunk.states);
	assert_int_equal(sunk.rotated, 0);
	/* and kept up to date */
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.rotated == 30);
}

static void test_refresh(void **state)
{
	(void)state;
	help_providers[0].refresh.poll_ms = 100000;
	settings.settle_ms = 0; /* also with none */
	put("other.properties", ONE);
	start(ONE);
	assert_int_equal(engine_refresh(engine, "none", false), -ENOENT);
	cat("orders.properties");
	cat("other.properties");
	fake_set(fake("one"), "a", "2");
	assert_int_equal(engine_refresh(engine, "orders", false), 0);
	UNTIL(sunk.rotated == 2);
	assert_string_equal(cat("orders.properties"), ONE_IS("2"));
	fake_set(fake("one"), "a", "3");
	assert_int_equal(engine_refresh(engine, "*", false), 0);
	assert_int_equal(engine_refresh(engine, "orders.properties", false), 0);
	UNTIL(sunk.rotated == 4);
	run_for(50);
	assert_in_range(fake("one")->fetches, 3, 4);
	assert_string_equal(cat("orders.properties"), ONE_IS("3"));
}

static bool checked;
static size_t progressed;

static void on_checked(void *arg)
{
	(void)arg;
	checked = true;
}

static void on_progress(void *arg, size_t done, size_t total)
{
	(void)arg;
	assert_int_equal(done, ++progressed);
	assert_true(total >= done);
}

static char *check_it(bool online, const char *const *names, size_t n, size_t errors)
{
	struct report report = REPORT_INIT;
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	checked = false;
	progressed = 0;
	assert_int_equal(engine_check(engine, online, names, n, &report, on_progress, on_checked, NULL), 0);
	UNTIL(checked);
	report_print(&report, f);
	(void)fclose(f);
	if (report.errors != errors)
		fail_msg("%zu errors: %s", report.errors, text);
	report_done(&report);
	return text;
}

static void test_check(void **state)
{
	static const char *const names[] = { "good", "none" };
	char *text;

	(void)state;
	put("bad.json", "{\n\n\"a\"");
	put("good.properties", "\nx=${fake:one:a}\ny=${else:p:k}\n");
	put("keys.properties", "x=${fake:one:none}\nz=${fake:unmapped:k}\nconfig.action.reload=never\n");
	put("lacked.properties", "\n\nx=${lacked:p:k}\n");
	engine_make(ENGINE_ONCE);
	text = check_it(false, NULL, 0, 4);
	assert_non_null(strstr(text, "bad.json:3: "));
	assert_non_null(strstr(text, "good.properties:3: y: note: "));
	assert_non_null(strstr(text, "keys.properties: config.action.reload: must be restart or none"));
	assert_non_null(strstr(text, "keys.properties:2: z: fake: the path \"unmapped\" is none"));
	assert_non_null(strstr(text, "lacked.properties:3: x: lacked: this connectfs has no provider"));
	assert_int_equal(progressed, 4);
	assert_int_equal(fake("one")->fetches, 0);
	free(text);
	text = check_it(true, NULL, 0, 5);
	assert_non_null(strstr(text, "keys.properties:1: x: fake: no key \"none\" in \"one\""));
	free(text);
	text = check_it(true, names, 2, 1);
	assert_non_null(strstr(text, "none: no such connector"));
	assert_int_equal(progressed, 1);
	free(text);
	/* render's way */
	assert_string_equal(cat("good.properties"), "\nx=1\ny=${else:p:k}\n");
	/* ended in the middle */
	fake("one")->hang = true;
	assert_int_equal(engine_check(engine, true, NULL, 0, NULL, NULL, on_checked, NULL), 0);
	run_for(20);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_first_open), T(test_rotation), T(test_touch_again), T(test_same_bytes), T(test_mtime_increases),
		T(test_mtime_zero), T(test_stored_change_of_idle), T(test_settle), T(test_open_finds_secret_file), T(test_broken_stored),
		T(test_broken_idle), T(test_stored_being_written), T(test_rewritten), T(test_come_and_go),
		T(test_gone_while_appearing), T(test_back_while_vanishing), T(test_back_while_held),
		T(test_removed_while_touched), T(test_collision), T(test_interrupt), T(test_timeout),
		T(test_removed_while_waiting), T(test_removed_while_loading), T(test_free_in_every_state),
		T(test_xattrs), T(test_find), T(test_warm), T(test_refresh), T(test_check),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
