/*
 * Leases: secrets that end by themselves, are never read to look, and outlive the worker. And what a provider keeps
 * for its successor.
 */
#include "core-user.h"

#include "base/keep.h"

/* What the provider "fake" calls. */
#define HOST resolver_provider(resolver, 0)->env.host
#define HOST_ARG resolver_provider(resolver, 0)->env.host_arg

static void test_lease(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	struct secret *s = binding_secret(u->b, 0);

	(void)state;
	fk->lease_ms = 400;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	assert_true(s->lease_end_ns > 0);
	run_for(100); /* longer than fresh.ms */
	assert_int_equal(begin(u, NEED_FRESH), 0);
	resolver_refresh(s, false);
	run_for(20);
	assert_int_equal(fk->fetches, 1); /* never re-read to look */
	resolver_refresh(s, true);
	UNTIL(fk->fetches == 2 && !fk->flight);
	assert_int_equal(begin(u, NEED_FRESH), 0); /* somebody has use of it */
	/* the store fails: the values are served until the lease ends, not longer */
	fk->err = ECONNREFUSED;
	fk->outage = true;
	UNTIL(s->state == SECRET_STALE);
	assert_int_equal(what(u, 0, "1"), RESOLVED_STALE);
	UNTIL(s->state == SECRET_FAILED);
	assert_broken(u, 0, EKEYEXPIRED, "fake: one: the lease has ended and no new one could be had: fake: it says no");
	assert_int_equal(begin(u, NEED_FRESH), 0);
	fk->err = 0;
	UNTIL(s->state == SECRET_OK);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	user_free(u);
}

/* One that nobody opens is not replaced, and ends without an error. */
static void test_lease_lapses(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	struct secret *s = binding_secret(u->b, 0);
	unsigned told;

	(void)state;
	fk->lease_ms = 400;
	fk->replace_ms = 100;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH); /* used: it is replaced once */
	UNTIL(fk->fetches == 2 && !fk->flight);
	told = u->changed;
	UNTIL(s->state == SECRET_IDLE);
	assert_true(binding_lapsed(u->b));
	assert_true(u->changed > told);
	assert_int_equal(fk->fetches, 2);
	run_for(150);
	assert_int_equal(fk->fetches, 2);
	need(u, NEED_FRESH); /* and is had again */
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	assert_false(binding_lapsed(u->b));
	assert_int_equal(fk->fetches, 3);
	user_free(u);
}

/* An open after the time of replacement gets another one, also where it lapsed till then. */
static void test_lease_is_due(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	struct secret *s = binding_secret(u->b, 0);

	(void)state;
	fk->lease_ms = 600000;
	fk->replace_ms = 60;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	UNTIL(fk->fetches == 2 && !fk->flight);
	run_for(150);
	assert_int_equal(fk->fetches, 2); /* nobody has opened it since */
	assert_int_equal(s->state, SECRET_OK);
	need(u, NEED_FRESH);
	assert_int_equal(fk->fetches, 3);
	user_free(u);
}

/* The provider renews it, and says so; then it can't any more. */
static void test_lease_moves(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	struct secret *s = binding_secret(u->b, 0);

	(void)state;
	fk->lease_ms = 300;
	fk->replace_ms = INT64_MAX;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	run_for(100);
	HOST->lease(HOST_ARG, SLICE_LIT("one"), 600000, INT64_MAX, SLICE_LIT("id"), NULL);
	run_for(300);
	assert_int_equal(s->state, SECRET_OK);
	assert_int_equal(begin(u, NEED_FRESH), 0);
	assert_int_equal(fk->fetches, 1);
	HOST->lease(HOST_ARG, SLICE_LIT("one"), 600000, 50, SLICE_LIT("id"), NULL);
	UNTIL(fk->fetches == 2 && !fk->flight);
	HOST->lease(HOST_ARG, SLICE_LIT("nobody"), 600000, 50, SLICE_LIT("id"), NULL);
	user_free(u);
	assert_non_null(strstr(fake_log, "release one; "));
}

/* An operator has revoked it: what it brought is not served any more. */
static void test_lease_revoked(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	struct secret *s = binding_secret(u->b, 0);

	(void)state;
	fk->lease_ms = 600000;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	fake_set(fk, "a", "2");
	HOST->lease(HOST_ARG, SLICE_LIT("one"), 0, 0, SLICE_LIT(""), "it has been revoked");
	assert_int_equal(begin(u, NEED_FRESH), 1);
	UNTIL(u->done);
	assert_int_equal(what(u, 0, "2"), RESOLVED);
	assert_int_equal(fk->fetches, 2);
	/* used, and no other can be had */
	assert_int_equal(begin(u, NEED_FRESH), 0);
	fk->err = ECONNREFUSED;
	fk->outage = true;
	HOST->lease(HOST_ARG, SLICE_LIT("one"), 0, 0, SLICE_LIT(""), "it has been revoked");
	UNTIL(s->state == SECRET_FAILED);
	assert_broken(u, 0, ECONNREFUSED, "fake: it says no");
	user_free(u);
}

/* More of what it has brought already makes no other. */
static void test_lease_wanted_more(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\ny=${fake:one:b}\n"), *other, *third;

	(void)state;
	fk->lease_ms = 600000;
	fake_set(fk, "a", "1", "b", "2", "c.d", "3");
	need(u, NEED_FRESH);
	other = user_new("z=${fake:one:b}\n");
	assert_int_equal(begin(other, NEED_FRESH), 0);
	assert_int_equal(fk->fetches, 1);
	/* nor what isn't there; but a path into what is nested may be found by a read only */
	third = user_new("z=${fake:one:missing}\n");
	assert_int_equal(begin(third, NEED_FRESH), 0);
	assert_broken(third, 0, ENOKEY, "no key \"missing\"");
	user_free(third);
	assert_int_equal(fk->fetches, 1);
	third = user_new("z=${fake:one:c.d}\n");
	need(third, NEED_FRESH);
	assert_int_equal(fk->fetches, 2);
	user_free(third);
	user_free(other);
	user_free(u);
}

/* What an outage has failed is asked for again when the provider says so, not when its back-off ends. */
static void test_healed(void **state)
{
	struct fake *fk = fake("one"), *other = fake("two");
	struct user *u = user_new("x=${fake:one:a}\n"), *w = user_new("x=${fake:two:a}\n");

	(void)state;
	fake_set(fk, "a", "1");
	fk->err = other->err = ECONNREFUSED;
	fk->outage = true; /* the other's failure is the store's own word */
	need(u, NEED_FRESH);
	need(w, NEED_FRESH);
	binding_secret(u->b, 0)->due_ms += 600000;
	binding_secret(w->b, 0)->due_ms += 600000;
	fk->err = other->err = 0;
	HOST->healed(HOST_ARG);
	UNTIL(binding_secret(u->b, 0)->state == SECRET_OK);
	assert_int_equal(other->fetches, 1);
	user_free(u);
	user_free(w);
}

/* ---- over a death ---- */

static int keep_fd = -1;
static struct keep *keep;

static int keep_setup(void **state)
{
	assert_int_equal(setup(state), 0);
	assert_int_equal(keep_create(&keep_fd), 0);
	assert_int_equal(keep_attach(keep_fd, NULL, NULL, &keep), 0);
	assert_int_equal(resolver_set_keep(resolver, keep), 0);
	resolver_kept_done(resolver);
	fake_log[0] = '\0';
	return 0;
}

static int keep_teardown(void **state)
{
	teardown(state);
	keep_detach(keep);
	close(keep_fd);
	return 0;
}

/* Of a worker that died, and has a successor. */
static void succeed(struct user *u)
{
	keep_freeze(keep); /* what the dead one does now is not seen */
	user_free(u);
	resolver_free(resolver);
	keep_detach(keep);
	fake_log[0] = '\0';
	assert_int_equal(keep_attach(keep_fd, NULL, NULL, &keep), 0);
	make_resolver(true);
	assert_int_equal(resolver_set_keep(resolver, keep), 0);
}

static struct user *leased(const char *lease_state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");

	fk->lease_ms = 600000;
	fk->replace_ms = INT64_MAX;
	fk->state = lease_state;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	return u;
}

static void test_adopted(void **state)
{
	struct user *u = leased("first");

	(void)state;
	HOST->lease(HOST_ARG, SLICE_LIT("one"), 500000, 400000, SLICE_LIT("second"), NULL);
	succeed(u);
	u = user_new("x=${fake:one:a}\n");
	assert_non_null(strstr(fake_log, "adopt one second; "));
	assert_int_equal(begin(u, NEED_FRESH), 0);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	assert_int_equal(fake("one")->fetches, 1);
	assert_true(binding_secret(u->b, 0)->used);
	assert_true(binding_secret(u->b, 0)->replace_ms > clock_mono_ms() + 300000);
	resolver_kept_done(resolver);
	user_free(u);
}

/* What the provider can't go on with is fetched anew. */
static void test_not_adopted(void **state)
{
	struct user *u = leased("bad");

	(void)state;
	succeed(u);
	u = user_new("x=${fake:one:a}\n");
	need(u, NEED_FRESH);
	assert_int_equal(fake("one")->fetches, 2);
	resolver_kept_done(resolver);
	user_free(u);
}

/* Whether it has been opened is known after a death as well, to the last open. */
static void test_used_is_kept(void **state)
{
	struct user *u = leased("id");
	struct secret *s = binding_secret(u->b, 0);
	uint64_t generation;

	(void)state;
	resolver_refresh(s, true);
	UNTIL(fake("one")->fetches == 2 && !fake("one")->flight);
	assert_false(s->used);
	succeed(u);
	u = user_new("x=${fake:one:a}\n");
	s = binding_secret(u->b, 0);
	assert_false(s->used);
	generation = s->generation;
	assert_true(secret_is_fresh(s, generation)); /* as a FUSE thread asks */
	assert_true(s->used);
	succeed(u);
	u = user_new("x=${fake:one:a}\n");
	assert_true(binding_secret(u->b, 0)->used);
	assert_int_equal(fake("one")->fetches, 2);
	resolver_kept_done(resolver);
	user_free(u);
}

static int put_state(const char *name, const char *data)
{
	return HOST->keep(HOST_ARG, slice_str(name), slice_str(data));
}

static void count_block(void *arg, void *block)
{
	(void)block;
	++*(size_t *)arg;
}

static size_t states(void)
{
	size_t n = 0;

	keep_each(keep, KEEP_STATE, count_block, &n);
	return n;
}

static void test_states(void **state)
{
	struct user *u = user_new("x=1\n");

	(void)state;
	assert_int_equal(put_state("token:1", "first"), 0);
	assert_int_equal(put_state("token:2", "second"), 0);
	assert_int_equal(put_state("token:1", "other"), 0);
	assert_int_equal(put_state("token:2", ""), 0);
	assert_int_equal(put_state("token:3", ""), 0);
	assert_int_equal(states(), 1);
	succeed(u);
	assert_string_equal(fake_log, "restore token:1 other; ");
	assert_int_equal(put_state("token:1", "last"), 0);
	assert_int_equal(states(), 1);
	/* An instance that is set otherwise is another one. */
	assert_int_equal(strmap_put(settings.providers[0].params, SLICE_LIT("p"), (void *)(uintptr_t)"q", NULL), 0);
	succeed(user_new("x=1\n"));
	assert_string_equal(fake_log, "");
	assert_int_equal(states(), 0);
	resolver_kept_done(resolver);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define K(f) cmocka_unit_test_setup_teardown(f, keep_setup, keep_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_lease), T(test_lease_lapses), T(test_lease_is_due), T(test_lease_moves), T(test_lease_revoked),
		T(test_lease_wanted_more), T(test_healed),
		K(test_adopted), K(test_not_adopted), K(test_used_is_kept), K(test_states),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
