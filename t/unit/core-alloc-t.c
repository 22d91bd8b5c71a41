/*
 * The core with each allocation failing once, in all that happens to an engine from its making to its end: no
 * crash, nothing lost (asan says so), every open gets its answer, and afterwards all is as it should be.
 *
 * Linked with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup,
 * --wrap=asprintf,--wrap=__asprintf_chk, and without allocfail.c, whose failures are not of one thread only. Only allocations of
 * this thread fail; what the pool's threads do is tested by provider-alloc-t.
 */
#include "core-engine.h"

#include "base/secmem.h"

#include <time.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_asprintf(char **ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **ret, int flag, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static _Thread_local long countdown = -1; /* so many more succeed, then one fails */
static bool failed;

static bool must_fail(void)
{
	if (countdown < 0 || countdown-- > 0)
		return false;
	failed = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return must_fail() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return must_fail() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return must_fail() ? NULL : __real_realloc(p, n);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return must_fail() ? NULL : __real_strndup(s, n);
}

char *__wrap_strdup(const char *s)
{
	return must_fail() ? NULL : __real_strdup(s);
}

int __wrap_asprintf(char **ret, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (must_fail())
		return -1;
	va_start(ap, fmt);
	n = vasprintf(ret, fmt, ap);
	va_end(ap);
	return n;
}

/* What _FORTIFY_SOURCE makes of it. */
int __wrap___asprintf_chk(char **ret, int flag, const char *fmt, ...)
{
	va_list ap;
	int n;

	(void)flag;
	if (must_fail())
		return -1;
	va_start(ap, fmt);
	n = vasprintf(ret, fmt, ap);
	va_end(ap);
	return n;
}

/* Not longer than a second, and half of one once something has failed: it may come to nothing then. */
#define SOON(cond)                                                                 \
	do {                                                                       \
		int64_t began_ = clock_mono_ms();                                  \
		while (!(cond) && clock_mono_ms() - began_ < (failed ? 25 : 1000)) \
			loop_run_once(loop, 1);                                    \
	} while (0)

static bool ready;

static void on_any_ready(void *arg, const struct error *err)
{
	(void)arg;
	(void)err;
	ready = true;
}

static char want[256];

static void put_stored(const char *more)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "x=${fake:one:a}${lacked:p:k}\nz=${file:%s:k}\n%s", at("secret.txt"), more);
	put("orders.properties", text);
	(void)snprintf(text, sizeof(text), "x=${fake:one:a}\nz=${file:%s:k}\n%s", at("secret.txt"), more);
	put("payments.properties", text);
	(void)snprintf(want, sizeof(want), "x=2\nz=9\n%s", more);
}

static void open_one(const char *name)
{
	struct connector *conn = catalog_find(catalog, name);
	struct opening o = { .done = 1 };
	int64_t began = clock_mono_ms();

	if (!conn)
		return;
	open_begin(conn, &o);
	while (!o.done) { /* it always gets its answer */
		loop_run_once(loop, 1);
		assert_true(clock_mono_ms() - began < 3 * settings.wait_ms + 100);
	}
	open_end(&o);
	connector_unref(conn);
}

static void look(void)
{
	struct connector *conn = catalog_find(catalog, "payments.properties");
	struct listing *l = catalog_list(catalog);
	struct buf out;

	listing_unref(l);
	buf_init(&out, 1024 * 1024);
	(void)engine_status_json(engine, &out);
	buf_free(&out);
	(void)engine_metrics(engine, &out);
	buf_free(&out);
	if (conn) {
		(void)connector_xattr_list(conn, &out);
		buf_free(&out);
		(void)connector_xattr(conn, "secrets", &out);
		buf_free(&out);
	}
	connector_unref(conn);
}

static bool looked_through;

static void on_looked_through(void *arg)
{
	(void)arg;
	looked_through = true;
}

static void check_all(struct report *report)
{
	looked_through = false;
	if (engine_check(engine, true, NULL, 0, report, NULL, on_looked_through, NULL) == 0)
		UNTIL(looked_through);
}

/* The life of an engine; the part in which allocations fail. */
static bool live(struct report *report)
{
	struct engine_processes p = { .mountpoint = "/mnt" };
	int err = engine_new(&settings, ENGINE_MOUNT, loop, &engine, report);

	if (err) {
		assert_true(failed);
		engine = NULL;
		return false;
	}
	catalog = engine_catalog(engine);
	engine_set_sink(engine, &sink);
	engine_set_processes(engine, &p);
	if (engine_start(engine, on_any_ready, NULL) != 0) {
		engine_end();
		return false;
	}
	SOON(ready && is_there("orders.properties") && is_there("payments.properties"));
	open_one("orders.properties");
	open_one("payments.properties");
	fake_set(fake("one"), "a", "2"); /* rotates */
	SOON(sunk.rotated);
	put("secret.txt", "k=9\n");
	put_stored("# new\n");
	SOON(sunk.rotated > 1);
	put("new.properties", "a=${fake:two:a}\n");
	SOON(is_there("new.properties"));
	open_one("new.properties");
	assert_int_equal(unlink(at("new.properties")), 0);
	SOON(!is_there("new.properties"));
	look();
	(void)engine_refresh(engine, "*", false);
	check_all(report);
	return true;
}

/* True: nothing was left to fail. */
static bool pass(bool secret, long n)
{
	struct report report = REPORT_INIT;
	bool alive;

	sunk = (struct sunk){ 0 };
	ready = false;
	failed = false;
	put("secret.txt", "k=1\n");
	put_stored("");
	fake_set(fake("one"), "a", "1");
	fake_set(fake("two"), "a", "t");
	countdown = secret ? -1 : n;
	if (secret)
		secmem_fail_after(n + 1);
	failed = secret; /* it may have: who knows */
	alive = live(&report);
	countdown = -1;
	secmem_fail_after(-1);
	if (alive) { /* afterwards it works */
		put("secret.txt", "k=9\n");
		put_stored("# newer\n");
		UNTIL(is_there("payments.properties"));
		(void)engine_refresh(engine, "*", false);
		UNTIL(strcmp(cat("payments.properties"), want) == 0);
		for (int i = 0; i < 3; i++) /* at once after a look at its file, which may not be watched */
			assert_string_equal(cat("payments.properties"), want);
		assert_string_equal(cat("orders.properties"), "EIO");
		assert_non_null(strstr(xattr("orders.properties", "error"), "lacked"));
		UNTIL(!is_there("new.properties"));
		UNTIL(strcmp(xattr("payments.properties", "state"), "ok") == 0);
		engine_end();
	}
	report_done(&report);
	return !failed;
}

static int setup(void **state)
{
	(void)state;
	help_loop_new();
	help_settings();
	help_fake();
	help_dir();
	settings.directory = dir;
	settings.settle_ms = 2;
	settings.wait_ms = 300;
	for (size_t i = 0; i < 5; i++) {
		help_providers[i].refresh.poll_ms = 20;
		help_providers[i].refresh.fresh_ms = 10;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	help_loop_free();
	help_settings_done();
	help_dir_done();
	return 0;
}

/* Of all allocations every so many-th, beginning with another one each time; CORE_ALLOC_STEP=1: each. */
static long step_of(long usual)
{
	const char *s = getenv("CORE_ALLOC_STEP");

	return s ? atol(s) : usual;
}

static void test_heap(void **state)
{
	long step = step_of(7), n = time(NULL) % step;

	(void)state;
	assert_true(pass(false, 1000000)); /* all goes well */
	assert_true(sunk.rotated > 1);
	for (; !pass(false, n); n += step)
		if (getenv("CORE_ALLOC_SHOW"))
			print_message("# %ld\n", n);
	assert_true(n > 300);
	print_message("# %ld allocations\n", n);
}

static void test_secret_memory(void **state)
{
	(void)state;
	for (long n = 0; n < 200; n += step_of(3))
		(void)pass(true, n);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_heap), T(test_secret_memory) };

	secmem_install_jansson();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
