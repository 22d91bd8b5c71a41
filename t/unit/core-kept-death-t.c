/*
 * Deaths of a worker, as they come: by a signal while it renders, by SIGKILL at any moment; and a keep
 * that is full. Linked with --wrap=connector_render,--wrap=keep_alloc.
 */
#include "core-kept.h"

#include <stdatomic.h>
#include <sys/mman.h>

int __real_connector_render(const struct connector *conn, struct rendering *ret);
int __wrap_connector_render(const struct connector *conn, struct rendering *ret);
void *__real_keep_alloc(struct keep *k, size_t n);
void *__wrap_keep_alloc(struct keep *k, size_t n);

static bool poison, full;
static unsigned poison_rendered; /* by this process, which survives it */

int __wrap_connector_render(const struct connector *conn, struct rendering *ret)
{
	if (poison && strcmp(conn->name, "orders.properties") == 0) {
		if (in_child) {
			signal(SIGSEGV, SIG_DFL);
			raise(SIGSEGV);
		}
		poison_rendered++;
	}
	return __real_connector_render(conn, ret);
}

void *__wrap_keep_alloc(struct keep *k, size_t n)
{
	if (full) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_keep_alloc(k, n);
}

static int setup(void **state)
{
	poison = full = false;
	poison_rendered = 0;
	return kept_setup(state);
}

/* A child, with a loop of its own. */
static pid_t child_begin(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	in_child = true;
	if (!freopen("/dev/null", "w", stdout))
		_exit(98);
	help_loop_new();
	return 0;
}

static int child_end(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* ---- rendering it kills ---- */

/* A life that opens the connector, and dies of it, or is killed after. */
static void life_that_opens(const char *name, bool successor, bool crashed, int expected)
{
	pid_t pid = child_begin();
	int status;

	if (!pid) {
		live_with(false, successor, crashed);
		live_on();
		cat(name);
		run_due();
		raise(SIGKILL);
	}
	status = child_end(pid);
	assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), expected);
}

static void put_two(const char *orders)
{
	put("orders.properties", orders);
	put("other.properties", "y=${fake:two:a}\n");
	fake_set(fake("two"), "a", "2");
	run_for(30);
	poison = true;
}

/* Not rendered in this life, nor in any that follows, whatever it dies of. */
static void assert_poisoned(unsigned lives)
{
	for (unsigned i = 0; i < lives; i++) {
		live_with(false, true, i % 2 == 0);
		live_on();
		assert_string_equal(cat("orders.properties"), "EIO");
		assert_string_equal(xattr("orders.properties", "state"), "failed");
		assert_non_null(strstr(xattr("orders.properties", "error"), "killed connectfs twice"));
		assert_string_equal(cat("other.properties"), "y=2\n");
		run_for(150);
		assert_string_equal(cat("orders.properties"), "EIO");
		if (i + 1 < lives)
			die();
	}
	assert_int_equal(poison_rendered, 0);
}

static void test_poison(void **state)
{
	(void)state;
	put_two(ONE);
	life_that_opens("orders.properties", false, false, SIGSEGV);
	life_that_opens("orders.properties", true, true, SIGSEGV);
	assert_poisoned(5);
	/* a secret that changes: it is tried again */
	poison = false;
	fake_set(fake("one"), "a", "9");
	UNTIL(strcmp(cat("orders.properties"), ONE_IS("9")) == 0);
	next_life();
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("9"));
}

/* The secret is in a file, which each life reads anew: that is no change. */
static void test_poison_file(void **state)
{
	char text[256];

	(void)state;
	put("secret.txt", "a=1\n");
	(void)snprintf(text, sizeof(text), "x=${file:%s:a}\n", at("secret.txt"));
	put_two(text);
	life_that_opens("orders.properties", false, false, SIGSEGV);
	life_that_opens("orders.properties", true, true, SIGSEGV);
	assert_poisoned(3);
	poison = false;
	put("secret.txt", "a=2\n");
	UNTIL(strcmp(cat("orders.properties"), "x=2\n") == 0);
	assert_string_equal(xattr("orders.properties", "state"), "ok");
}

static void test_poison_text_changes(void **state)
{
	(void)state;
	put_two(ONE);
	life_that_opens("orders.properties", false, false, SIGSEGV);
	life_that_opens("orders.properties", true, true, SIGSEGV);
	assert_poisoned(1);
	die();
	put("orders.properties", ONE "z=1\n"); /* while nobody lives, and it kills once more */
	run_for(30);
	life_that_opens("orders.properties", true, true, SIGSEGV);
	poison = false;
	live_with(false, true, true);
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("1") "z=1\n");
	assert_string_equal(cat("other.properties"), "y=2\n");
}

/* Deaths that are not its own don't count. */
static void test_poison_killed(void **state)
{
	(void)state;
	put_two(ONE);
	for (int i = 0; i < 4; i++)
		life_that_opens("orders.properties", i > 0, false, SIGSEGV);
	life_that_opens("orders.properties", true, true, SIGSEGV); /* one that does */
	poison = false;
	live_with(false, true, false);
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
}

static void test_poison_cleared(void **state)
{
	(void)state;
	put_two(ONE);
	for (int i = 0; i < 3; i++) {
		life_that_opens("orders.properties", i > 0, false, SIGSEGV);
		poison = false;
		life_that_opens("orders.properties", true, true, SIGKILL); /* it goes well once */
		poison = true;
	}
	life_that_opens("orders.properties", true, false, SIGSEGV);
	poison = false;
	live_with(false, true, true);
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	assert_string_equal(xattr("orders.properties", "state"), "ok");
}

/* ---- killed at any moment ---- */

enum { KILLS = 100 };

/* What a life that was killed had shown. */
static struct shown {
	_Atomic uint64_t version, told;
	_Atomic int64_t mtime_ns;
	atomic_bool ready;
} *shown;

static void rotate_for_ever(void)
{
	struct connector *conn;
	char value[24];

	live(true);
	catalog_kept_done(catalog);
	conn = conn_of("orders.properties");
	shown->ready = true;
	for (;;) {
		(void)snprintf(value, sizeof(value), "%llu", (unsigned long long)conn->version + 1);
		fake_set(fake("one"), "a", value);
		for (uint64_t was = conn->version; conn->version == was;)
			loop_run_once(loop, 1);
		shown->mtime_ns = see("orders.properties").mtime_ns;
		shown->version = conn->version;
		while (random() % 4 && (conn->touching || conn->announce))
			loop_run_once(loop, 1);
		if (!conn->touching && !conn->announce)
			shown->told = conn->version;
	}
}

/* Not before that version has been shown: 0 at any time. */
static void kill_at_random(uint64_t version)
{
	const struct timespec moment = { 0, random() % 12000000 };
	pid_t pid;

	shown->ready = false;
	pid = child_begin();
	if (!pid)
		rotate_for_ever();
	while ((!shown->ready || shown->version < version) && waitpid(pid, NULL, WNOHANG) == 0)
		nanosleep(&(struct timespec){ 0, 200000 }, NULL);
	nanosleep(&moment, NULL);
	kill(pid, SIGKILL);
	assert_true(WIFSIGNALED(child_end(pid)));
}

/* The secret's value is the version that shows it. */
static uint64_t assert_fits(struct seen *s)
{
	char want[64];

	*s = see("orders.properties");
	(void)snprintf(want, sizeof(want), "# c\nname=orders\nx=%llu\n", (unsigned long long)s->version);
	assert_string_equal(s->bytes, want);
	return s->version;
}

static void test_killed(void **state)
{
	struct seen s = { 0 };
	char value[24];
	int kills = getenv("CONNECTFS_TEST_VALGRIND") ? KILLS / 10 : KILLS;

	(void)state;
	shown = mmap(NULL, sizeof(*shown), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(shown != MAP_FAILED);
	settings.settle_ms = 1;
	help_providers[0].refresh.poll_ms = 1;
	fake_set(fake("one"), "a", "0");
	put("orders.properties", ONE);
	run_for(30);
	live(false);
	live_on();
	cat("orders.properties");
	for (int i = 0; i < kills; i++) {
		uint64_t before = assert_fits(&s);

		die();
		kill_at_random(i ? 0 : before + 1); /* at least one of them shall have rotated, however slow it all is */
		(void)snprintf(value, sizeof(value), "%llu", (unsigned long long)shown->version);
		live(true);
		assert_true(assert_fits(&s) >= shown->version && s.version >= before);
		assert_true(s.mtime_ns >= shown->mtime_ns);
		(void)snprintf(value, sizeof(value), "%llu", (unsigned long long)s.version + 1);
		fake_set(fake("one"), "a", value);
		if (s.version > shown->told)
			UNTIL(sunk.rotated && sunk.mtime_ns >= s.mtime_ns);
		UNTIL(see("orders.properties").version == s.version + 1);
		live_on();
		assert_blocks(1, 1, 1);
		assert_fits(&s);
	}
	assert_true(s.version > (uint64_t)kills);
	live_out();
	munmap(shown, sizeof(*shown));
}

/* ---- the keep is full ---- */

static void test_full(void **state)
{
	struct seen before, after;

	(void)state;
	first_life(ONE);
	put("other.properties", "y=${fake:two:a}\n");
	fake_set(fake("two"), "a", "2");
	UNTIL(sunk.appears == 1 && is_there("other.properties"));
	quiet();
	full = true;
	assert_string_equal(cat("other.properties"), "EIO");
	assert_non_null(strstr(xattr("other.properties", "error"), "no room in the keep"));
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	fake_set(fake("one"), "a", "3");
	UNTIL(strcmp(cat("orders.properties"), "EIO") == 0);
	full = false;
	UNTIL(strcmp(cat("other.properties"), "y=2\n") == 0);
	assert_string_equal(cat("orders.properties"), ONE_IS("3"));
	assert_string_equal(xattr("other.properties", "state"), "ok");
	run_for(150); /* the secrets are fetched, and kept, again */
	assert_blocks(2, 2, 2);
	before = see("orders.properties");
	assert_int_equal(before.version, 1);
	next_life();
	after = see("orders.properties");
	assert_same(&before, &after);
	live_on();
	assert_told_nothing();
	live_out();
}

/* It is full from the first: nothing is kept, and what comes later is. */
static void test_full_from_the_first(void **state)
{
	struct seen before, after;

	(void)state;
	full = true;
	put("bad.json", "{");
	first_life(ONE);
	assert_blocks(0, 0, 0);
	assert_string_equal(cat("orders.properties"), "EIO");
	full = false;
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	quiet(); /* that it is well again has been told */
	sunk.hold = true;
	fake_set(fake("one"), "a", "2");
	UNTIL(sunk.rotated == 1);
	before = see("orders.properties");
	next_life();
	assert_true(is_there("orders.properties"));
	after = see("orders.properties");
	assert_same(&before, &after);
	catalog_kept_done(catalog);
	UNTIL(sunk.rotated == 1); /* it was due */
	assert_int_equal(sunk.mtime_ns, before.mtime_ns);
	UNTIL(is_there("bad.json")); /* of this there was no room to know */
	live_on();
	assert_int_equal(sunk.appears, 1);
	assert_blocks(2, 1, 1);
}

/* A predecessor left it full: no more is lost than what there is no room for. */
static void test_full_successor(void **state)
{
	struct seen before, after;

	(void)state;
	first_life(ONE);
	before = see("orders.properties");
	die();
	full = true;
	live(true);
	live_on();
	after = see("orders.properties");
	assert_same(&before, &after);
	assert_string_equal(cat("orders.properties"), "EIO");
	full = false;
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	after = see("orders.properties");
	assert_same(&before, &after);
	assert_int_equal(sunk.rotated, 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, kept_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_poison),
		TEST(test_poison_file),
		TEST(test_poison_text_changes),
		TEST(test_poison_killed),
		TEST(test_poison_cleared),
		TEST(test_killed),
		TEST(test_full),
		TEST(test_full_from_the_first),
		TEST(test_full_successor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
