/*
 * The store "directory": what it lists, what it tells of changes, what it loads.
 */
#include "provider-help.h"

#include "base/clock.h"
#include "format/limits.h"
#include "store/store.h"

enum { WAIT_MS = 8000 };

static struct store_env senv;
static struct store *store;

/* What was told, a line each: "+a.json", "-a.json", "*a.json" (changed), "~a.json" (writing). */
static char told[1 << 20];
static unsigned n_added;
static bool counting, is_ready;
static struct error ready_err;

static void tell(char what, const char *name)
{
	size_t n = strlen(told);

	if (!counting)
		(void)snprintf(told + n, sizeof(told) - n, "%c%s\n", what, name);
}

static void on_added(void *arg, const char *name, int64_t mtime_ns)
{
	(void)arg;
	assert_false(is_ready && counting);
	assert_true(mtime_ns > 0);
	n_added++;
	tell('+', name);
}

static void on_removed(void *arg, const char *name)
{
	(void)arg;
	tell('-', name);
}

static void on_changed(void *arg, const char *name)
{
	(void)arg;
	tell('*', name);
}

static void on_writing(void *arg, const char *name)
{
	(void)arg;
	tell('~', name);
}

static void on_ready(void *arg, const struct error *err)
{
	(void)arg;
	assert_false(is_ready);
	is_ready = true;
	if (err)
		ready_err = *err;
}

static int setup(void **state)
{
	if (help_setup(state) < 0)
		return -1;
	senv = (struct store_env){ .loop = env.loop, .pool = env.pool, .wait_ms = 20000 };
	told[0] = '\0';
	counting = is_ready = false;
	n_added = 0;
	ready_err = (struct error)ERROR_INIT;
	make_dir("s");
	return watcher_new(env.loop, env.pool, &senv.watcher);
}

static int teardown(void **state)
{
	if (store)
		store->ops->close(store);
	store = NULL;
	watcher_free(senv.watcher);
	return help_teardown(state);
}

static void nothing(void *arg)
{
	*(bool *)arg = true;
}

/* Runs the loop for so long. */
static void run_ms(int64_t ms)
{
	bool over = false;
	struct loop_timer *t = loop_timer_new(env.loop, nothing, &over);

	loop_timer_set(t, ms);
	while (!over)
		assert_int_equal(loop_run_once(env.loop, 1), 0);
	loop_timer_free(t);
}

/* Runs the loop until this was told, and forgets all told so far. */
static void wait_for(const char *line)
{
	int64_t end = clock_mono_ms() + WAIT_MS;
	char want[128];

	(void)snprintf(want, sizeof(want), "%s\n", line);
	while (!strstr(told, want)) {
		if (clock_mono_ms() > end)
			fail_msg("no %s, but:\n%s", line, told);
		run_ms(5);
	}
	told[0] = '\0';
}

static void start(const char *path)
{
	struct store_events ev = { on_added, on_removed, on_changed, on_writing, on_ready, NULL };
	struct error err = ERROR_INIT;

	assert_int_equal(store_directory_open(&senv, path, &store, &err), 0);
	assert_int_equal(store->ops->start(store, &ev), 0);
	assert_false(is_ready);
	while (!is_ready)
		assert_int_equal(loop_run_once(env.loop, 1), 0);
}

/* Started, and all that comes by itself has come. */
static void start_calm(void)
{
	start(at("s"));
	assert_int_equal(ready_err.code, 0);
	run_ms(50);
	told[0] = '\0';
}

struct loaded {
	bool done;
	struct stored *stored;
	struct error err;
};

static void on_loaded(void *arg, struct stored *stored, const struct error *err)
{
	struct loaded *l = arg;

	assert_false(l->done);
	assert_true((stored == NULL) == (err != NULL));
	l->done = true;
	l->stored = stored;
	if (err)
		l->err = *err;
}

static struct loaded load(const char *name)
{
	struct loaded l = { .done = false };

	assert_non_null(store->ops->load(store, name, on_loaded, &l));
	assert_false(l.done);
	while (!l.done)
		assert_int_equal(loop_run_once(env.loop, 1), 0);
	return l;
}

static void test_shows(void **state)
{
	static const char *const shown[] = { "a.properties", "a.json", "a.b.json", "a~.json", "\xc3\xa9.json", " .json" };
	static const char *const hidden[] = {
		"", "a", ".properties", ".json", "json", ".a.json", "a.json~", "#a.json#", "#a.json", ".#a.json",
		"a.json.swp", ".a.json.swp", "a.properties.bak", "a.properties.tmp", "a.json.orig", "a.json.rej",
		"a.JSON", "..data", "4913", "a.properties~", "a.json#", "a.yaml", "a.json ",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		assert_true(store_directory_shows(shown[i]));
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		assert_false(store_directory_shows(hidden[i]));
}

static void test_list(void **state)
{
	(void)state;
	put_text("s/a.properties", "a=1\n");
	put_text("s/b.json", "{}");
	put_text("s/b.json~", "{}");
	put_text("s/.c.json", "{}");
	make_dir("s/dir.json");
	assert_int_equal(mkfifo(at("s/fifo.json"), 0600), 0);
	put_text("target", "t=1\n");
	make_link("../target", "s/link.properties");
	make_link("nowhere", "s/dangling.json");
	make_link("dir.json", "s/todir.json");
	make_link("loop.json", "s/loop.json");
	start(at("s"));
	assert_int_equal(n_added, 3);
	assert_non_null(strstr(told, "+a.properties\n"));
	assert_non_null(strstr(told, "+b.json\n"));
	assert_non_null(strstr(told, "+link.properties\n"));
}

static void test_load(void **state)
{
	struct loaded l;
	char *big = malloc(LIMIT_STORED_BYTES + 1);

	(void)state;
	put_text("s/a.properties", "a=1\n");
	put_bytes("s/b.json", "{\0}", 3);
	memset(big, ' ', LIMIT_STORED_BYTES + 1);
	put_bytes("s/big.json", big, LIMIT_STORED_BYTES + 1);
	free(big);
	start_calm();
	l = load("a.properties");
	assert_int_equal(l.stored->syntax, CONFIG_PROPERTIES);
	assert_true(slice_eq_str(stored_text(l.stored), "a=1\n"));
	assert_string_equal(l.stored->path, at("s/a.properties"));
	assert_true(l.stored->local && l.stored->mtime_ns > 0 && l.stored->mtime_ns == l.stored->stamp.mtime_ns);
	assert_true(l.stored->watched && stored_unchanged(l.stored));
	put_text("s/a.properties", "a=22\n");
	assert_true(stored_unchanged(l.stored)); /* the watch tells */
	l.stored->watched = false;
	assert_false(stored_unchanged(l.stored));
	stored_unref(stored_ref(l.stored));
	stored_unref(l.stored);
	l = load("b.json");
	assert_int_equal(l.stored->syntax, CONFIG_JSON);
	assert_int_equal(l.stored->len, 3);
	stored_unref(l.stored);
	l = load("none.json");
	assert_int_equal(l.err.code, ENOENT);
	assert_string_equal(l.err.text, "no such file");
	l = load("big.json");
	assert_int_equal(l.err.code, EFBIG);
	assert_null(strstr(l.err.text, base));
}

static void test_far_time(void **state)
{
	const struct timespec t[2] = { { .tv_sec = INT64_C(13569465600) }, { .tv_sec = INT64_C(13569465600) } };
	struct loaded l;

	(void)state;
	put_text("s/a.properties", "a=1\n");
	assert_int_equal(utimensat(AT_FDCWD, at("s/a.properties"), t, 0), 0);
	start_calm();
	l = load("a.properties");
	assert_true(l.stored->mtime_ns > INT64_C(9000000000000000000));
	assert_true(l.stored->mtime_ns < INT64_MAX - 1000000); /* there is more to come */
	stored_unref(l.stored);
}

static void test_stored(void **state)
{
	struct stored *s = stored_new(SLICE_LIT("{}"), CONFIG_JSON, NULL);

	(void)state;
	assert_true(stored_unchanged(s));
	assert_null(s->path);
	stored_unref(s);
	stored_unref(NULL);
}

static void test_changes(void **state)
{
	(void)state;
	put_text("s/a.properties", "a=1\n");
	start_calm();
	put_text("s/new.json", "{}");
	wait_for("+new.json");
	put_text("s/a.properties", "a=2\n");
	wait_for("*a.properties");
	run_ms(50);
	told[0] = '\0';
	/* As editors and deploy tools do: a new file renamed over. */
	put_text("s/a.properties.tmp", "a=3\n");
	assert_int_equal(rename(at("s/a.properties.tmp"), at("s/a.properties")), 0);
	wait_for("*a.properties");
	assert_int_equal(unlink(at("s/new.json")), 0);
	wait_for("-new.json");
	assert_int_equal(rename(at("s/a.properties"), at("s/b.properties")), 0);
	wait_for("+b.properties");
	run_ms(50);
	assert_int_equal(unlink(at("s/b.properties")), 0);
	make_dir("s/b.properties");
	wait_for("-b.properties");
	run_ms(50);
	told[0] = '\0';
	put_text("s/.x.json.swp", "");
	put_text("s/x.json~", "");
	put_text("s/4913", "");
	run_ms(100);
	assert_string_equal(told, "");
}

static void test_half_written(void **state)
{
	int fd;

	(void)state;
	put_text("s/a.properties", "a=1\n");
	start_calm();
	fd = open(at("s/a.properties"), O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "b=", 2), 2);
	wait_for("~a.properties");
	for (int i = 0; i < 6; i++) {
		run_ms(300);
		assert_int_equal(write(fd, "x", 1), 1);
	}
	assert_string_equal(told, ""); /* neither changed nor told again */
	assert_int_equal(write(fd, "\n", 1), 1);
	assert_int_equal(close(fd), 0);
	wait_for("*a.properties");
	fd = open(at("s/a.properties"), O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "c", 1), 1);
	wait_for("~a.properties");
	wait_for("*a.properties"); /* after a second, without a close */
	assert_int_equal(close(fd), 0);
}

static void test_link(void **state)
{
	(void)state;
	make_dir("t");
	put_text("t/x", "a=1\n");
	make_link("../t/x", "s/a.properties");
	make_link("../t/later", "s/later.json");
	start_calm();
	put_text("t/x", "a=2\n");
	wait_for("*a.properties");
	put_text("t/later", "{}");
	wait_for("+later.json");
	assert_int_equal(unlink(at("t/x")), 0);
	wait_for("-a.properties");
	put_text("t/x", "a=3\n");
	wait_for("+a.properties");
	assert_int_equal(unlink(at("s/a.properties")), 0);
	wait_for("-a.properties");
	run_ms(50);
	put_text("t/x", "a=4\n");
	run_ms(100);
	assert_string_equal(told, "");
}

static void test_kubernetes(void **state)
{
	struct loaded l;

	(void)state;
	make_dir("s/..v1");
	put_text("s/..v1/a.properties", "a=1\n");
	make_link("..v1", "s/..data");
	make_link("..data/a.properties", "s/a.properties");
	start_calm();
	make_dir("s/..v2");
	put_text("s/..v2/a.properties", "a=2\n");
	put_text("s/..v2/b.json", "{}");
	make_link("..v2", "s/..data_tmp");
	assert_int_equal(rename(at("s/..data_tmp"), at("s/..data")), 0);
	wait_for("*a.properties");
	l = load("a.properties");
	assert_true(slice_eq_str(stored_text(l.stored), "a=2\n"));
	stored_unref(l.stored);
	make_link("..data/b.json", "s/b.json");
	wait_for("+b.json");
}

static void test_directory_vanishes(void **state)
{
	(void)state;
	put_text("s/a.properties", "a=1\n");
	start_calm();
	assert_int_equal(rename(at("s"), at("old")), 0);
	wait_for("-a.properties");
	make_dir("s");
	put_text("s/b.json", "{}");
	wait_for("+b.json");
	assert_int_equal(unlink(at("s/b.json")), 0);
	wait_for("-b.json");
}

static void test_no_directory(void **state)
{
	(void)state;
	start(at("none"));
	assert_int_equal(ready_err.code, ENOENT);
	assert_non_null(strstr(ready_err.text, "/none: "));
	make_dir("none");
	put_text("none/a.json", "{}");
	wait_for("+a.json");
}

static void test_own_mount(void **state)
{
	(void)state;
	assert_int_equal(file_set_own_mountpoint(at("s")), 0);
	start(at("s"));
	assert_int_equal(ready_err.code, EDEADLK);
	assert_int_equal(file_set_own_mountpoint("/no/mount"), 0);
}

static void test_storm(void **state)
{
	size_t n = 0;

	(void)state;
	put_text("s/a.properties", "a=1\n");
	start_calm();
	for (int i = 0; i < 2000; i++)
		put_text("s/a.properties", "a=2\n");
	run_ms(100);
	for (const char *p = told; (p = strstr(p, "*a.properties")); p++)
		n++;
	assert_in_range(n, 1, 200); /* a check under way takes all events meanwhile together */
	assert_null(strchr(told, '-'));
	assert_null(strchr(told, '+'));
}

static void test_many(void **state)
{
	int64_t begin_ms;
	char name[32];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		(void)snprintf(name, sizeof(name), "s/c%d.properties", i);
		put_text(name, "a=1\n");
	}
	counting = true;
	begin_ms = clock_mono_ms();
	start(at("s"));
	print_message("# 10000 listed in %lld ms\n", (long long)(clock_mono_ms() - begin_ms));
	assert_int_equal(n_added, 10000);
	run_ms(50);
	counting = false;
	for (int i = 0; i < 10000; i++) {
		(void)snprintf(name, sizeof(name), "s/c%d.properties", i);
		if (i != 5000)
			assert_int_equal(unlink(at(name)), 0);
	}
	wait_for("-c9999.properties");
	run_ms(100);
	put_text("s/c5000.properties", "a=2\n");
	wait_for("*c5000.properties");
}

static void test_unwatched(void **state)
{
	struct watcher *w = senv.watcher;

	(void)state;
	senv.watcher = NULL;
	put_text("s/a.json", "{}");
	start_calm();
	put_text("s/b.json", "{}");
	run_ms(50);
	assert_string_equal(told, "");
	assert_int_equal(unlink(at("s/a.json")), 0);
	assert_int_equal(load("a.json").err.code, ENOENT);
	wait_for("-a.json"); /* seen by the load */
	senv.watcher = w;
}

static void test_cancel(void **state)
{
	struct loaded l[10];

	(void)state;
	put_text("s/a.json", "{}");
	start_calm();
	memset(l, 0, sizeof(l));
	for (int i = 0; i < 10; i++) {
		struct store_load *h = store->ops->load(store, "a.json", on_loaded, &l[i]);

		assert_non_null(h);
		if (i % 2)
			store->ops->cancel(store, h);
	}
	run_ms(100);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(l[i].done, i % 2 == 0);
		stored_unref(l[i].stored);
	}
	/* And a store that is closed in the middle of it all. */
	put_text("s/b.json", "{}");
	(void)loop_run_once(env.loop, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shows),
		cmocka_unit_test(test_stored),
		T(test_list), T(test_load), T(test_changes), T(test_half_written), T(test_link), T(test_kubernetes),
		T(test_directory_vanishes), T(test_no_directory), T(test_own_mount), T(test_storm), T(test_many),
		T(test_unwatched), T(test_cancel), T(test_far_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
