/*
 * Threads that open, look and list, as FUSE's do, while secrets and stored configs change and connectors come and
 * go. To be run with the thread sanitizer; by itself it sees that every version is whole and none goes back.
 */
#include "core-engine.h"

#include <pthread.h>
#include <sched.h>

enum { READERS = 4, MS = 1500 };

struct reader {
	pthread_t thread;
	unsigned long opens, waited, last;
	const char *wrong;
};

struct waiting {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool done;
	int err;
	struct snapshot *snapshot;
};

static atomic_bool stop;
static atomic_uint readers_left;

static void wait_done(int err, struct snapshot *snapshot, void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->lock);
	w->done = true;
	w->err = err;
	w->snapshot = snapshot;
	pthread_cond_signal(&w->ended);
	pthread_mutex_unlock(&w->lock);
}

static int open_wait(struct reader *r, struct connector *conn, struct snapshot **ret)
{
	struct waiting w = { .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER };
	struct open_wait *wait;
	int err;

	r->opens++;
	*ret = catalog_open_now(catalog, conn);
	if (*ret)
		return 0;
	err = catalog_open_wait(catalog, conn, wait_done, &w, &wait);
	if (err)
		return err;
	r->waited++;
	if (r->waited % 16 == 0)
		open_wait_interrupt(wait);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.ended, &w.lock);
	pthread_mutex_unlock(&w.lock);
	open_wait_release(wait);
	*ret = w.snapshot;
	return w.err;
}

/* "x=N\ny=N\nz=…": x and y are of one fetch, and never go back. */
static void look_at_bytes(struct reader *r, const struct snapshot *s)
{
	char text[256];
	unsigned long x, y;

	(void)snprintf(text, sizeof(text), "%.*s", (int)snapshot_size(s), snapshot_data(s));
	if (sscanf(text, "x=%lu\ny=%lu\n", &x, &y) != 2 || x != y)
		r->wrong = "torn";
	else if (x < r->last)
		r->wrong = "older than before";
	else
		r->last = x;
}

static void look_around(struct connector *conn)
{
	static const char *const names[] = { "state", "error", "version", "rotated", "fetched", "expires", "secrets" };
	struct connector_attr attr;
	struct buf out;

	connector_get_attr(conn, &attr);
	buf_init(&out, 64 * 1024);
	for (size_t i = 0; i < 7; i++) {
		(void)connector_xattr(conn, names[i], &out);
		buf_reset(&out);
	}
	(void)connector_xattr_list(conn, &out);
	buf_free(&out);
	(void)connector_touch_expected(conn, attr.mtime_ns);
	(void)connector_is_vanishing(conn);
}

static void *reader(void *arg)
{
	struct reader *r = arg;

	while (!atomic_load(&stop)) {
		struct listing *l = catalog_list(catalog);

		(void)catalog_mtime_ns(catalog);
		for (size_t i = 0; l && i < l->len; i++) {
			struct connector *conn = catalog_find(catalog, connector_name(l->items[i]));
			struct connector *same = catalog_find_ino(catalog, connector_ino(l->items[i]));
			struct snapshot *s = NULL;

			if (conn && open_wait(r, conn, &s) == 0 && !strcmp(connector_name(conn), "fake.properties"))
				look_at_bytes(r, s);
			snapshot_unref(s);
			if (conn)
				look_around(conn);
			connector_unref(same);
			connector_unref(conn);
		}
		listing_unref(l);
	}
	atomic_fetch_sub(&readers_left, 1);
	return NULL;
}

/* As the MKNOD and UNLINK handlers: from any thread. */
static void *names(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		struct connector *conn = catalog_find_appearing(catalog, "come.properties");

		if (conn)
			catalog_appeared(catalog, conn);
		connector_unref(conn);
		conn = catalog_find(catalog, "come.properties");
		if (conn && connector_is_vanishing(conn))
			catalog_vanished(catalog, conn);
		connector_unref(conn);
		sched_yield();
	}
	atomic_fetch_sub(&readers_left, 1);
	return NULL;
}

static void change(unsigned long n)
{
	static char value[16];
	char text[256];

	(void)snprintf(value, sizeof(value), "%lu", n);
	fake_set(fake("one"), "a", value, "b", value);
	(void)snprintf(text, sizeof(text), "k=%lu\n", n);
	put("secret.txt", text);
	if (n % 4 == 0) {
		(void)snprintf(text, sizeof(text), "z=${file:%s:k}\n# %lu\n", at("secret.txt"), n);
		put("file.properties", text);
	}
	if (n % 8 == 1)
		put("come.properties", "a=${fake:two:a}\n");
	else if (n % 8 == 5)
		(void)unlink(at("come.properties"));
	fake("two")->err = n % 3 ? 0 : ENOKEY;
}

static void status(void)
{
	struct buf out;

	buf_init(&out, 1024 * 1024);
	assert_int_equal(engine_status_json(engine, &out), 0);
	buf_free(&out);
	assert_int_equal(engine_metrics(engine, &out), 0);
	buf_free(&out);
}

static void test_threads(void **state)
{
	struct reader readers[READERS] = { 0 };
	pthread_t namer;
	int64_t end;
	unsigned long n = 1;

	(void)state;
	help_loop_new();
	help_settings();
	help_fake();
	help_dir();
	settings.settle_ms = 3;
	settings.wait_ms = 2000;
	for (size_t i = 0; i < 5; i++)
		help_providers[i].refresh = (struct refresh_settings){ .fresh_ms = 4, .poll_ms = 10, .stale_ms = -1,
		                                                       .max_rps = 1000 };
	put("fake.properties", "x=${fake:one:a}\ny=${fake:one:b}\n");
	put("plain.properties", "a=1\n");
	change(n);
	engine_make(ENGINE_MOUNT);
	sunk.hold_names = true;
	atomic_store(&stop, false);
	atomic_store(&readers_left, READERS + 1);
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&readers[i].thread, NULL, reader, &readers[i]), 0);
	assert_int_equal(pthread_create(&namer, NULL, names, NULL), 0);
	for (end = clock_mono_ms() + MS; clock_mono_ms() < end; run_for(7)) {
		change(++n);
		if (n % 16 == 0)
			status();
	}
	atomic_store(&stop, true);
	UNTIL(atomic_load(&readers_left) == 0); /* whoever waits is answered by the loop */
	for (int i = 0; i < READERS; i++) {
		assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
		if (readers[i].wrong)
			fail_msg("%s", readers[i].wrong);
		assert_true(readers[i].opens > 10 && readers[i].last > 1);
	}
	assert_int_equal(pthread_join(namer, NULL), 0);
	assert_true(sunk.rotated > 5 && sunk.appears > 2 && sunk.vanishes > 1);
	run_for(50);
	engine_end();
	help_loop_free();
	help_settings_done();
	help_dir_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_threads) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
