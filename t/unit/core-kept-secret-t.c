/*
 * What outlives a worker of secrets that aren't files: nothing is asked for again that still holds, and
 * nothing is served that doesn't.
 */
#include "core-kept.h"

#include "core/resolver_private.h"

#define TWO "x=${fake:one:a}\ny=${fake:one:b}\n"

/* Neither old nor looked at before the test says so. */
static int setup(void **state)
{
	int err = kept_setup(state);

	help_providers[0].refresh.fresh_ms = help_providers[0].refresh.poll_ms = 600000;
	help_providers[0].refresh.stale_ms = 600000;
	return err;
}

/* The only one; NULL: nobody refers to one. */
static struct secret *the_secret(void)
{
	size_t pos = 0;
	struct secret *s = resolver_next_secret(engine->resolver, &pos);

	assert_true(!s || !resolver_next_secret(engine->resolver, &pos));
	return s;
}

static void first_life_and_death(const char *text)
{
	first_life(text);
	assert_blocks(1, 1, 1);
	die();
}

/* ---- how it rotates ---- */

static void not_fetched_again(enum secret_rotation rotation)
{
	struct secret was, *s;

	first_life(ONE);
	assert_int_equal(fake("one")->fetches, 1);
	was = *the_secret();
	assert_int_equal(was.rotation, rotation);
	for (int i = 0; i < 3; i++) {
		help_providers[0].refresh.poll_ms = rotation == ROTATION_POLL ? 600000 : 20;
		next_life();
		live_on();
		s = the_secret();
		assert_int_equal(s->rotation, rotation);
		assert_int_equal(s->state, SECRET_OK);
		assert_int_equal(s->fetched_ns, was.fetched_ns);
		assert_int_equal(s->fetched_ms, was.fetched_ms);
		assert_int_equal(s->lease_end_ns, was.lease_end_ns);
		assert_int_equal(s->end_ms, was.end_ms);
		assert_int_equal(s->due_ms, was.due_ms);
		assert_int_equal(s->fresh_until_ms, was.fresh_until_ms);
		quiet();
		assert_string_equal(cat("orders.properties"), ONE_IS("1"));
		assert_true(opens_at_once("orders.properties"));
		assert_int_equal(fake("one")->fetches, 1);
		assert_blocks(1, 1, 1);
	}
	live_out();
}

static void test_poll(void **state)
{
	(void)state;
	not_fetched_again(ROTATION_POLL);
}

static void test_ttl(void **state)
{
	(void)state;
	fake("one")->ttl_ms = 600000;
	not_fetched_again(ROTATION_TTL);
}

static void test_lease(void **state)
{
	(void)state;
	fake("one")->lease_ms = 600000;
	not_fetched_again(ROTATION_LEASE);
}

static void test_constant(void **state)
{
	(void)state;
	fake("one")->constant = true;
	not_fetched_again(ROTATION_CONSTANT);
}

/* Its time goes on while nobody lives. */
static void fetched_after_its_time(void)
{
	first_life_and_death(ONE);
	fake_set(fake("one"), "a", "2");
	live(true);
	live_on();
	UNTIL(sunk.rotated);
	assert_int_equal(see("orders.properties").version, 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("2"));
}

static void test_poll_over(void **state)
{
	(void)state;
	help_providers[0].refresh.poll_ms = 150;
	fetched_after_its_time();
}

/* The successor's settings say sooner. */
static void test_poll_shorter(void **state)
{
	(void)state;
	first_life_and_death(ONE);
	help_providers[0].refresh.poll_ms = 50;
	fake_set(fake("one"), "a", "2");
	live(true);
	live_on();
	UNTIL(sunk.rotated);
}

static void test_fresh_over(void **state)
{
	(void)state;
	help_providers[0].refresh.fresh_ms = 50;
	first_life_and_death(ONE);
	fake_set(fake("one"), "a", "2");
	run_for(60);
	live(true);
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("2")); /* an open looks, the background has not */
	assert_int_equal(fake("one")->fetches, 2);
}

static void test_ttl_over(void **state)
{
	(void)state;
	fake("one")->ttl_ms = 150;
	fetched_after_its_time();
}

static void test_lease_over(void **state)
{
	(void)state;
	fake("one")->lease_ms = 400;
	fetched_after_its_time();
}

/* It has ended: the values aren't taken over, and nobody is told that it ended. */
static void test_lease_ended(void **state)
{
	unsigned fetches;

	(void)state;
	fake("one")->lease_ms = 100;
	first_life_and_death(ONE);
	run_for(120);
	fetches = fake("one")->fetches;
	fake_set(fake("one"), "a", "2");
	fake("one")->lease_ms = 600000;
	live(true);
	live_on();
	UNTIL(sunk.touches);
	quiet();
	assert_int_equal(sunk.touches, 1);
	assert_int_equal(sunk.rotated, 1);
	assert_int_equal(fake("one")->fetches, fetches + 1);
	assert_string_equal(cat("orders.properties"), ONE_IS("2"));
	assert_blocks(1, 1, 1);
}

/* Older than what is served while the store is out: it isn't served to begin with. */
static void test_stale_over(void **state)
{
	(void)state;
	help_providers[0].refresh.stale_ms = 100;
	first_life_and_death(ONE);
	run_for(120);
	fake("one")->err = ECONNREFUSED;
	fake("one")->outage = true;
	live(true);
	live_on();
	UNTIL(sunk.states);
	assert_string_equal(cat("orders.properties"), "ECONNREFUSED");
	assert_blocks(1, 1, 0);
}

/* The outage that the predecessor saw goes on; the values have their age. */
static void test_outage(void **state)
{
	struct fake *fk = fake("one");
	struct secret *s;
	int64_t fetched_ms;

	(void)state;
	help_providers[0].refresh.poll_ms = 50;
	first_life(ONE);
	fetched_ms = the_secret()->fetched_ms;
	fk->err = ETIMEDOUT;
	fk->outage = true;
	UNTIL(sunk.states == 1);
	assert_blocks(1, 1, 1);
	quiet();
	fk->hang = true; /* nobody waits for the next attempt */
	next_life();
	live_on();
	s = the_secret();
	assert_int_equal(s->state, SECRET_STALE);
	assert_true(s->fetched_ms >= fetched_ms);
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	assert_string_equal(xattr("orders.properties", "state"), "stale");
	assert_string_equal(xattr("orders.properties", "error"), "last known values: fake: it says no");
	assert_told_nothing();
}

/* ---- what is wanted ---- */

static void test_new_field(void **state)
{
	struct fake *fk = fake("one");

	(void)state;
	fk->constant = true;
	fake_set(fk, "a", "1", "b", "2");
	first_life_and_death("x=${fake:one:a}\n");
	put("orders.properties", TWO);
	run_for(30);
	live(true);
	live_on();
	assert_int_equal(fk->fetches, 2);
	assert_string_equal(fk->fields, "a,b");
	assert_string_equal(cat("orders.properties"), "x=1\ny=2\n");
	assert_int_equal(fk->fetches, 2);
	next_life();
	live_on();
	assert_string_equal(cat("orders.properties"), "x=1\ny=2\n");
	assert_int_equal(fk->fetches, 2);
	assert_blocks(1, 1, 1);
}

/* It came to be wanted while a fetch was under way that had not been asked for it; then death. */
static void test_new_field_in_flight(void **state)
{
	struct fake *fk = fake("one");
	struct connector *first, *second;
	struct opening a, b;

	(void)state;
	fk->constant = true;
	fake_set(fk, "a", "1", "b", "2");
	put("first.properties", "x=${fake:one:a}\n");
	put("second.properties", "y=${fake:one:b}\n");
	run_for(30);
	live(false);
	live_on();
	fk->hang = true;
	open_begin(first = conn_of("first.properties"), &a);
	UNTIL(fk->flight);
	open_begin(second = conn_of("second.properties"), &b);
	UNTIL(the_secret()->wanted_grew);
	loop_timer_set(fk->flight->timer, 0);
	UNTIL(fk->fetches == 2);
	assert_int_equal(blocks_of(KEEP_SECRET), 1);
	keep_freeze(keep);
	catalog_end_waits(catalog, -EINTR);
	open_end(&a);
	open_end(&b);
	connector_unref(first);
	connector_unref(second);
	die();
	fk->hang = false;
	live(true);
	live_on();
	assert_string_equal(cat("second.properties"), "y=2\n");
	assert_string_equal(cat("first.properties"), "x=1\n");
	assert_string_equal(fk->fields, "a,b");
}

/* Properties have \u0000, so names of fields do. */
static void test_field_with_nul(void **state)
{
	(void)state;
	first_life("x=${fake:one:a}\n");
	put("nul.properties", "y=${fake:one:a\\u0000bcdefghijklmnopqrstuvwxyz}\n");
	UNTIL(is_there("nul.properties"));
	assert_string_equal(cat("nul.properties"), "ENOKEY");
	quiet();
	for (int i = 0; i < 2; i++) {
		next_life();
		live_on();
		assert_string_equal(cat("nul.properties"), "ENOKEY");
		assert_string_equal(cat("orders.properties"), "x=1\n");
		assert_int_equal(the_secret()->n_wanted, 2);
		assert_int_equal(fake("one")->fetches, 2);
	}
}

/* Nobody refers to it any more: by the text, or since the connector is gone. */
static void test_dropped(void **state)
{
	(void)state;
	fake_set(fake("two"), "a", "2");
	put("gone.properties", "y=${fake:two:a}\n");
	first_life(ONE);
	cat("gone.properties");
	assert_blocks(2, 2, 2);
	die();
	put("orders.properties", "x=1\n");
	assert_int_equal(unlink(at("gone.properties")), 0);
	run_for(30);
	live(true);
	assert_int_equal(blocks_of(KEEP_SECRET), 2); /* until all texts have been read */
	live_on();
	assert_string_equal(cat("orders.properties"), "x=1\n");
	assert_blocks(1, 1, 0);
	assert_null(the_secret());
	live_out();
}

static bool is_written(const char *name)
{
	struct connector *conn = conn_of(name);
	bool writing = conn->stored_writing;

	connector_unref(conn);
	return writing;
}

/* Where a text is being written just when the worker takes over, its secrets wait for it. */
static void test_text_being_written(void **state)
{
	int fd;

	(void)state;
	fake("one")->lease_ms = 600000;
	first_life_and_death(ONE);
	for (int i = 0; i < 2; i++) {
		early = i;
		live_begin(false);
		fd = open(at("orders.properties"), O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, ONE, strlen(ONE)), (ssize_t)strlen(ONE));
		UNTIL(is_written("orders.properties"));
		engine_set_sink(engine, &sink);
		assert_int_equal(engine_set_keep(engine, keep, true, false), 0);
		catalog_kept_done(catalog);
		run_for(60);
		assert_int_equal(close(fd), 0);
		live_on();
		assert_string_equal(cat("orders.properties"), ONE_IS("1"));
		assert_int_equal(fake("one")->fetches, 1);
		assert_told_nothing();
		die();
	}
}

/* The same where it has been broken, and is mended later. */
static void test_text_broken(void **state)
{
	(void)state;
	fake("one")->lease_ms = 600000;
	first_life_and_death(ONE);
	put("orders.properties", "x=\\u00\n");
	run_for(30);
	live(true);
	live_on();
	assert_int_equal(blocks_of(KEEP_SECRET), 1);
	put("orders.properties", ONE);
	UNTIL(strcmp(xattr("orders.properties", "state"), "ok") == 0);
	assert_string_equal(cat("orders.properties"), ONE_IS("1"));
	assert_int_equal(fake("one")->fetches, 1);
	assert_int_equal(see("orders.properties").version, 0);
	live_on();
	assert_blocks(1, 1, 1);
}

static void test_failed_has_none(void **state)
{
	(void)state;
	help_providers[0].refresh.poll_ms = 50;
	first_life(ONE);
	assert_blocks(1, 1, 1);
	fake("one")->err = EKEYREVOKED;
	UNTIL(sunk.states == 1);
	assert_blocks(1, 1, 0);
	quiet();
	next_life();
	live_on();
	assert_blocks(1, 1, 0);
	assert_string_equal(cat("orders.properties"), "EKEYREVOKED");
	fake("one")->err = 0;
	UNTIL(sunk.states == 1);
	assert_blocks(1, 1, 1);
}

static void test_lease_ended_has_none(void **state)
{
	(void)state;
	fake("one")->lease_ms = 150;
	first_life(ONE);
	assert_blocks(1, 1, 1);
	fake("one")->err = ECONNREFUSED;
	fake("one")->outage = true;
	UNTIL(strcmp(cat("orders.properties"), "EKEYEXPIRED") == 0 || the_secret()->state == SECRET_FAILED);
	assert_blocks(1, 1, 0);
}

/* A provider of that name that is another one, after a reload. */
static void test_other_provider(void **state)
{
	(void)state;
	fake("one")->constant = true;
	first_life_and_death(ONE);
	assert_int_equal(strmap_put(help_providers[0].params, slice_str("url"), (void *)(uintptr_t)"b", NULL), 0);
	fake_set(fake("one"), "a", "of b");
	live(true);
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("of b"));
	assert_int_equal(fake("one")->fetches, 2);
	next_life();
	live_on();
	assert_int_equal(fake("one")->fetches, 2);
	assert_blocks(1, 1, 1);
}

/* ---- two records of one secret ---- */

static void find_block(void *arg, void *block)
{
	*(char **)arg = block;
}

/* A worker died after it had committed the later, and before it freed the one before. */
static void two_records(bool later_lies_before)
{
	void *hole;
	char *record = NULL, *copy;
	size_t n;

	fake_set(fake("one"), "a", "the value of one");
	fake("one")->constant = true;
	first_life(ONE);
	keep_each(keep, KEEP_SECRET, find_block, &record);
	n = keep_size(record);
	copy = keep_alloc(keep, n);
	memcpy(copy, record, n);
	memcpy(copy + n - strlen("the value of one"), "THE", 3); /* it is what lies last */
	if (later_lies_before) {
		/* the record in force is made anew behind the copy's place, which is then used again */
		hole = copy;
		copy = keep_alloc(keep, n);
		memcpy(copy, record, n);
		keep_commit(keep, copy, KEEP_SECRET);
		keep_free(keep, record);
		record = keep_alloc(keep, n);
		memcpy(record, hole, n);
		assert_true(keep_place(keep, record) < keep_place(keep, copy));
		keep_free(keep, hole);
		copy = record;
	}
	keep_commit(keep, copy, KEEP_SECRET);
	die();
	live(true);
	assert_int_equal(blocks_of(KEEP_SECRET), 1);
	live_on();
	assert_string_equal(cat("orders.properties"), ONE_IS("THE value of one"));
	assert_int_equal(fake("one")->fetches, 1);
	assert_blocks(1, 1, 1);
}

static void test_two_records(void **state)
{
	(void)state;
	two_records(false);
}

static void test_two_records_other_order(void **state)
{
	(void)state;
	two_records(true);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, kept_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_poll),
		TEST(test_ttl),
		TEST(test_lease),
		TEST(test_constant),
		TEST(test_poll_over),
		TEST(test_poll_shorter),
		TEST(test_fresh_over),
		TEST(test_ttl_over),
		TEST(test_lease_over),
		TEST(test_lease_ended),
		TEST(test_stale_over),
		TEST(test_outage),
		TEST(test_new_field),
		TEST(test_new_field_in_flight),
		TEST(test_field_with_nul),
		TEST(test_dropped),
		TEST(test_text_being_written),
		TEST(test_text_broken),
		TEST(test_failed_has_none),
		TEST(test_lease_ended_has_none),
		TEST(test_other_provider),
		TEST(test_two_records),
		TEST(test_two_records_other_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
