/*
 * The resolver: when each secret is fetched, and what is served meanwhile.
 */
#include "core-user.h"

/* ---- what is fetched ---- */

static void test_single_flight(void **state)
{
	struct fake *fk = fake("one");
	struct user *u[20];
	unsigned all = 0;

	(void)state;
	fake_set(fk, "a", "1");
	fk->hang = true;
	for (int i = 0; i < 20; i++) {
		u[i] = user_new("x=${fake:one:a}\ny=${fake:one:a}\n");
		assert_int_equal(binding_n_secrets(u[i]->b), 1);
		assert_int_equal(begin(u[i], i % 2 ? NEED_FRESH : NEED_KNOWN), 1);
	}
	run_due();
	assert_int_equal(fk->fetches, 1);
	fake_release(fk);
	UNTIL(u[19]->done);
	for (int i = 0; i < 20; i++) {
		all += u[i]->done;
		assert_int_equal(what(u[i], 1, "1"), RESOLVED);
		user_free(u[i]);
	}
	assert_int_equal(all, 20);
	assert_int_equal(fk->fetches, 1);
}

static void test_union(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:b}${fake:one:a}\n"), *v = user_new("x=${fake:one:c}${fake:one:a}\n");

	(void)state;
	fake_set(fk, "a", "1", "b", "2", "c", "3");
	need(u, NEED_FRESH);
	assert_string_equal(fk->fields, "a,b,c");
	need(v, NEED_FRESH);
	assert_int_equal(fk->fetches, 1);
	assert_int_equal(what(v, 0, "3"), RESOLVED);
	user_free(u);
	user_free(v);
}

static void test_grown(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n"), *v;

	(void)state;
	fake_set(fk, "a", "1", "b", "2");
	need(u, NEED_FRESH);
	/* known and fresh, but a field is new */
	v = user_new("x=${fake:one:b}\n");
	assert_int_equal(begin(v, NEED_KNOWN), 1);
	UNTIL(v->done);
	assert_int_equal(fk->fetches, 2);
	assert_string_equal(fk->fields, "a,b");
	assert_int_equal(what(v, 0, "2"), RESOLVED);
	user_free(v);
	user_free(u);
}

/* A field that is new while a fetch is under way: all wait for the one with all. */
static void test_grown_in_flight(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n"), *v;

	(void)state;
	fake_set(fk, "a", "1", "b", "2");
	fk->hang = true;
	assert_int_equal(begin(u, NEED_FRESH), 1);
	v = user_new("x=${fake:one:b}\n");
	assert_int_equal(begin(v, NEED_FRESH), 1);
	fake_release(fk);
	UNTIL(u->done && v->done);
	assert_int_equal(fk->fetches, 2);
	assert_int_equal(what(v, 0, "2"), RESOLVED);
	user_free(v);
	user_free(u);
}

static void test_fresh(void **state)
{
	struct fake *fk = fake("one");
	struct user *u;

	(void)state;
	help_providers[0].refresh.poll_ms = 100000;
	u = user_new("x=${fake:one:a}\n");
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	assert_int_equal(begin(u, NEED_FRESH), 0); /* at once */
	run_for(80);
	fake_set(fk, "a", "2");
	assert_int_equal(begin(u, NEED_KNOWN), 0); /* known is good enough */
	assert_int_equal(begin(u, NEED_FRESH), 1);
	UNTIL(u->done);
	assert_int_equal(fk->fetches, 2);
	assert_int_equal(what(u, 0, "2"), RESOLVED);
	assert_int_equal(u->changed, 2);
	/* fresh.ms 0: every open asks, and takes the answer that it waited for */
	help_providers[0].refresh.fresh_ms = 0;
	run_for(80);
	need(u, NEED_FRESH);
	assert_int_equal(fk->fetches, 3);
	assert_int_equal(begin(u, NEED_FRESH), 1);
	UNTIL(u->done);
	assert_int_equal(fk->fetches, 4);
	user_free(u);
}

static void test_poll(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	unsigned changed;

	(void)state;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	changed = u->changed;
	UNTIL(fk->fetches == 4);
	run_due();
	assert_int_equal(u->changed, changed); /* equal values are no change */
	fake_set(fk, "a", "2");
	UNTIL(u->changed > changed);
	assert_int_equal(what(u, 0, "2"), RESOLVED);
	assert_int_equal(binding_secret(u->b, 0)->rotation, ROTATION_POLL);
	user_free(u);
}

static void test_poll_is_stretched(void **state)
{
	struct user *u;

	(void)state;
	help_providers[0].refresh.max_rps = 2;
	u = user_new("x=${fake:a:a}${fake:b:a}${fake:c:a}${fake:d:a}\n");
	need(u, NEED_FRESH);
	assert_int_equal(binding_secret(u->b, 3)->poll_ms, 2000);
	run_for(300);
	assert_int_equal(fake("d")->fetches, 1);
	user_free(u);
	assert_int_equal(resolver_provider(resolver, 0)->n_polled, 0);
}

static void test_ttl(void **state)
{
	struct fake *fk = fake("one");
	struct user *u;

	(void)state;
	help_providers[0].refresh.poll_ms = 100000;
	u = user_new("x=${fake:one:a}\n");
	fk->ttl_ms = 150;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	assert_int_equal(binding_secret(u->b, 0)->rotation, ROTATION_TTL);
	fk->hang = true; /* a TTL never ends validity */
	UNTIL(fk->fetches == 2);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	user_free(u);
	assert_int_equal(fk->cancels, 1);
}

static void test_constant(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");

	(void)state;
	fk->constant = true;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	run_for(250);
	assert_int_equal(begin(u, NEED_FRESH), 0);
	resolver_refresh(binding_secret(u->b, 0), true);
	run_for(20);
	assert_int_equal(fk->fetches, 1);
	user_free(u);
}

/* ---- failures ---- */

static void test_failure(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	int64_t failed, healed;

	(void)state;
	fk->err = ENOKEY;
	need(u, NEED_FRESH);
	failed = clock_mono_ms();
	assert_broken(u, 0, ENOKEY, "fake: it says no");
	for (int i = 0; i < 10; i++)
		assert_int_equal(begin(u, NEED_FRESH), 0); /* at once, and no attempt */
	assert_int_equal(fk->fetches, 1);
	assert_int_equal(u->changed, 1);
	UNTIL(fk->fetches == 2 && !fk->flight);
	assert_true(clock_mono_ms() - failed >= 990);
	assert_int_equal(u->changed, 1); /* the same failure is no news */
	assert_int_equal(binding_secret(u->b, 0)->backoff_ms, 2000);
	fk->err = 0;
	fake_set(fk, "a", "1");
	UNTIL(u->changed == 2);
	healed = clock_mono_ms();
	assert_true(healed - failed >= 2900);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	assert_int_equal(binding_secret(u->b, 0)->backoff_ms, 0);
	user_free(u);
}

static void test_outage(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n"), *v;
	struct secret *s = binding_secret(u->b, 0);
	uint64_t generation;

	(void)state;
	help_providers[0].refresh.stale_ms = 700;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	generation = s->generation;
	fk->err = ETIMEDOUT;
	fk->outage = true;
	UNTIL(s->state == SECRET_STALE);
	assert_int_equal(what(u, 0, "1"), RESOLVED_STALE);
	assert_int_equal(s->generation, generation);
	assert_int_equal(u->changed, 2);
	assert_int_equal(begin(u, NEED_FRESH), 0); /* at once and without a wait */
	/* what was not wanted before is not known */
	v = user_new("x=${fake:one:b}\n");
	assert_int_equal(begin(v, NEED_FRESH), 0);
	assert_broken(v, 0, ETIMEDOUT, "it says no");
	user_free(v);
	UNTIL(s->state == SECRET_FAILED);
	assert_in_range(clock_mono_ms() - s->fetched_ms, 690, 900);
	assert_broken(u, 0, ETIMEDOUT, "it says no");
	assert_int_equal(u->changed, 3);
	fk->err = 0;
	fk->outage = false;
	UNTIL(s->state == SECRET_OK);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	user_free(u);
}

static void test_outage_for_ever_or_never(void **state)
{
	struct fake *fk = fake("one");
	struct user *u;

	(void)state;
	for (int forever = 0; forever < 2; forever++) {
		help_providers[0].refresh.stale_ms = forever ? -1 : 0;
		again();
		u = user_new("x=${fake:one:a}\n");
		fk->err = 0;
		fk->outage = false;
		fake_set(fk, "a", "1");
		need(u, NEED_FRESH);
		fk->err = EPROTO;
		fk->outage = true;
		UNTIL(u->changed == 2);
		if (forever)
			assert_int_equal(what(u, 0, "1"), RESOLVED_STALE);
		else
			assert_broken(u, 0, EPROTO, "it says no");
		assert_int_equal(binding_secret(u->b, 0)->end_ms, 0);
		user_free(u);
	}
}

static void test_refusal(void **state)
{
	static const int errs[] = { EKEYREJECTED, EKEYREVOKED, ENOKEY };
	struct fake *fk = fake("one");

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct user *u = user_new("x=${fake:one:a}\n");

		fk->err = 0;
		fake_set(fk, "a", "1");
		need(u, NEED_FRESH);
		fk->err = errs[i];
		UNTIL(u->changed == 2);
		assert_broken(u, 0, errs[i], "it says no");
		assert_null(binding_secret(u->b, 0)->values);
		user_free(u);
	}
}

static void test_deadline(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n"), *v = user_new("x=${fake:one:a}\n");
	int64_t began = clock_mono_ms();

	(void)state;
	fk->hang = true;
	begin(u, NEED_FRESH);
	run_for(150);
	begin(v, NEED_FRESH);
	UNTIL(u->done);
	assert_int_equal(v->done, 1); /* all who wait for one fetch share its end */
	assert_in_range(clock_mono_ms() - began, 295, 420);
	assert_int_equal(fk->cancels, 1);
	assert_broken(v, 0, ETIMEDOUT, "fake: one: no answer within 300 ms (connectfs.wait.ms)");
	assert_int_equal(begin(u, NEED_FRESH), 0);
	user_free(u);
	user_free(v);
}

static void test_cancel(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n"), *v = user_new("x=${fake:one:a}\n");

	(void)state;
	fk->hang = true;
	begin(u, NEED_FRESH);
	begin(v, NEED_FRESH);
	user_free(u);
	assert_int_equal(fk->cancels, 0); /* the other one still wants it */
	user_free(v);
	assert_int_equal(fk->cancels, 1);
}

/* Outlives the resolver's interest: a snapshot holds it. */
static void test_held(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");
	struct secret *s = secret_ref(binding_secret(u->b, 0));

	(void)state;
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	assert_true(secret_is_fresh(s, s->generation));
	assert_false(secret_is_fresh(s, s->generation + 1));
	user_free(u);
	run_for(80);
	assert_false(secret_is_fresh(s, s->generation));
	secret_unref(s);
	assert_int_equal(fk->fetches, 1);
}

static void test_no_memory_in_provider(void **state)
{
	struct fake *fk = fake("one");
	struct user *u = user_new("x=${fake:one:a}\n");

	(void)state;
	fk->oom = true;
	assert_int_equal(begin(u, NEED_FRESH), 1);
	assert_int_equal(u->done, 0); /* never from within */
	UNTIL(u->done);
	assert_broken(u, 0, EIO, "fake: out of memory");
	assert_int_equal(begin(u, NEED_FRESH), 0);
	fk->oom = false;
	fake_set(fk, "a", "1");
	UNTIL(u->changed == 2);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	/* and dropped before it is told */
	user_free(u);
	fk->oom = true;
	u = user_new("x=${fake:one:a}\n");
	begin(u, NEED_FRESH);
	user_free(u);
	run_for(10);
}

/* ---- what references mean ---- */

static void test_references(void **state)
{
	struct user *u = user_new("x=${other:a:b}${classless:a:b}${lacked:a:b}${fake:unmapped:b}${fake:one:none}\n");

	(void)state;
	need(u, NEED_FRESH);
	assert_int_equal(what(u, 0, NULL), LITERAL);
	assert_int_equal(what(u, 1, NULL), LITERAL);
	assert_broken(u, 2, EIO, "lacked: this connectfs has no provider of the class com.example.Vault");
	assert_broken(u, 3, EIO, "fake: the path \"unmapped\" is none");
	assert_broken(u, 4, ENOKEY, "fake: no key \"none\" in \"one\"");
	assert_int_equal(binding_unfit(u->b, 0, &why), LITERAL);
	assert_int_equal(binding_unfit(u->b, 2, &why), BROKEN);
	assert_int_equal(binding_unfit(u->b, 4, &why), RESOLVED);
	fake("one")->text = "the path one is not allowed";
	resolver_refresh(binding_secret(u->b, 0), false);
	UNTIL(u->changed == 2);
	assert_broken(u, 4, ENOKEY, "no key \"none\": fake: the path one is not allowed");
	settings.unresolved_keep = true;
	assert_int_equal(what(u, 4, NULL), LITERAL);
	assert_broken(u, 3, EIO, "unmapped");
	user_free(u);
}

static void test_refresh(void **state)
{
	struct fake *fk = fake("one");
	struct user *u;

	(void)state;
	help_providers[0].refresh.poll_ms = 100000;
	u = user_new("x=${fake:one:a}\n");
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	fake_set(fk, "a", "2");
	resolver_refresh(binding_secret(u->b, 0), false);
	UNTIL(u->changed == 2);
	assert_int_equal(what(u, 0, "2"), RESOLVED);
	user_free(u);
}

/* Two entries of config.providers are two, whatever their class. */
static void test_two_instances(void **state)
{
	struct user *u = user_new("x=${fake:one:a}${fake2:one:a}\n");

	(void)state;
	assert_int_equal(binding_n_secrets(u->b), 2);
	user_free(u);
}

static void test_bad_param(void **state)
{
	struct report report = REPORT_INIT;
	struct resolver *r = NULL;

	(void)state;
	assert_int_equal(strmap_put(help_providers[4].params, SLICE_LIT("bad"), settings.source, NULL), 0);
	assert_int_equal(resolver_new(&settings, loop, pool, watcher, &r, &report), -EINVAL);
	assert_null(r);
	assert_int_equal(report.errors, 1);
	assert_string_equal(report.items[0].key, "config.providers.fake2.param.bad");
	report_done(&report);
}

/* Without a watcher nothing is looked at again. */
static void test_once(void **state)
{
	struct fake *fk = fake("one");
	struct user *u;

	(void)state;
	resolver_free(resolver);
	make_resolver(false);
	u = user_new("x=${fake:one:a}\n");
	fake_set(fk, "a", "1");
	need(u, NEED_FRESH);
	run_for(250);
	assert_int_equal(fk->fetches, 1);
	user_free(u);
}

/* ---- files ---- */

static struct user *file_user(const char *name)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "x=${file:%s:a}\n", at(name));
	return user_new(text);
}

static void test_file(void **state)
{
	struct user *u;
	unsigned fetches;

	(void)state;
	put("s", "a=1\n");
	run_for(30); /* no longer young */
	u = file_user("s");
	need(u, NEED_FRESH);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	fetches = (unsigned)resolver_provider(resolver, 1)->fetches;
	run_for(200);
	assert_int_equal(resolver_provider(resolver, 1)->fetches, fetches); /* not polled */
	need(u, NEED_FRESH); /* the event thread never looks itself: it is read again */
	assert_int_equal(resolver_provider(resolver, 1)->fetches, fetches + 1);
	put("s", "a=2\n");
	assert_int_equal(begin(u, NEED_FRESH), 1); /* checked at every open */
	UNTIL(u->done);
	assert_int_equal(what(u, 0, "2"), RESOLVED);
	put("s", "a=3\n"); /* seen without an open */
	UNTIL(u->changed == 3);
	assert_int_equal(what(u, 0, "3"), RESOLVED);
	/* gone, and back: heals at once */
	assert_int_equal(unlink(at("s")), 0);
	UNTIL(u->changed == 4);
	assert_int_equal(what(u, 0, NULL), BROKEN);
	put("s", "a=4\n");
	assert_int_equal(begin(u, NEED_FRESH), 1);
	UNTIL(u->done);
	assert_int_equal(what(u, 0, "4"), RESOLVED);
	user_free(u);
}

static bool is_fresh(struct secret *s)
{
	return secret_is_fresh(s, s->generation);
}

/* However short a time ago the files were looked at, an open sees what has been written since. */
static void test_file_looked_at(void **state)
{
	struct secret *s;
	struct user *u;

	(void)state;
	put("s", "a=1\n");
	run_for(30);
	u = file_user("s");
	s = binding_secret(u->b, 0);
	for (int i = 0; i < 15; i++) {
		char text[32], value[16];

		need(u, NEED_FRESH);
		UNTIL(is_fresh(s) && watcher_is_quiet(watcher));
		assert_true(is_fresh(s));
		snprintf(value, sizeof(value), "%d", i);
		snprintf(text, sizeof(text), "a=%s\n", value);
		if (i % 3 == 0)
			put_in_place("s", text);
		else
			put("s", text); /* renamed over it */
		if (i % 2)
			watcher_drain(watcher); /* it has been told: that is no reason not to look */
		assert_false(is_fresh(s));
		need(u, NEED_FRESH);
		assert_int_equal(what(u, 0, value), RESOLVED);
	}
	user_free(u);
}

/* What inotify does not see: by the next look at the latest. And a moment after a look there is none. */
static void test_file_changed_unseen(void **state)
{
	struct secret *s;
	struct user *u;
	unsigned not_looked = 0;

	(void)state;
	assert_int_equal(mkdir(at("other"), 0700), 0);
	put("s", "a=1\n");
	assert_int_equal(link(at("s"), at("other/name")), 0);
	run_for(30);
	u = file_user("s");
	s = binding_secret(u->b, 0);
	for (int i = 0; i < 1000 && !not_looked; i++) {
		uint64_t generation;

		need(u, NEED_FRESH);
		UNTIL(is_fresh(s) && watcher_is_quiet(watcher));
		(void)is_fresh(s);
		generation = s->generation;
		put_in_place("other/name", i % 2 ? "a=1\n" : "a=22\n");
		not_looked = is_fresh(s);
		UNTIL(!secret_is_fresh(s, generation)); /* also where it has been read again, since it was young */
	}
	assert_int_equal(not_looked, 1);
	need(u, NEED_FRESH);
	user_free(u);
}

static void test_file_half_written(void **state)
{
	struct user *u;
	int fd;

	(void)state;
	put("s", "a=1\n");
	u = file_user("s");
	need(u, NEED_FRESH);
	run_for(60);
	fd = open(at("s"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a=", 2), 2);
	watcher_drain(watcher);
	assert_int_equal(begin(u, NEED_FRESH), 0); /* the last good values, without a wait */
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	run_for(100);
	assert_int_equal(write(fd, "2\n", 2), 2);
	assert_int_equal(close(fd), 0);
	watcher_drain(watcher);
	need(u, NEED_FRESH);
	assert_int_equal(what(u, 0, "2"), RESOLVED);
	user_free(u);
}

/* With no last good values an open waits for the close; for a writer who never ends, until the deadline. */
static void test_file_never_closed(void **state)
{
	struct user *u;
	struct secret *s;
	int64_t began;
	int fd;

	(void)state;
	put("s", "b=1\n");
	u = file_user("s");
	s = binding_secret(u->b, 0);
	need(u, NEED_FRESH);
	assert_broken(u, 0, ENOKEY, "a");
	assert_int_equal(unlink(at("s")), 0);
	UNTIL(s->state == SECRET_FAILED);
	run_for(50);
	fd = open(at("s"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a=", 2), 2);
	watcher_drain(watcher);
	assert_true(s->writing_ms);
	began = clock_mono_ms();
	assert_int_equal(begin(u, NEED_FRESH), 1);
	while (!u->done) { /* it goes on and on */
		run_for(20);
		assert_int_equal(write(fd, "#", 1), 1);
		assert_true(clock_mono_ms() - began < 2000);
	}
	assert_in_range(clock_mono_ms() - began, 290, 600);
	assert_broken(u, 0, ETIMEDOUT, "has been written without an end for 300 ms");
	assert_int_equal(close(fd), 0);
	put("s", "a=9\n");
	watcher_drain(watcher);
	need(u, NEED_FRESH);
	assert_int_equal(what(u, 0, "9"), RESOLVED);
	user_free(u);
}

/* Silence for a second: the writer is believed. */
static void test_file_silent_writer(void **state)
{
	struct user *u;
	int fd;

	(void)state;
	put("s", "a=1\n");
	u = file_user("s");
	need(u, NEED_FRESH);
	run_for(60);
	fd = open(at("s"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "a=2\n", 4), 4);
	UNTIL(u->changed == 2);
	assert_int_equal(what(u, 0, "2"), RESOLVED);
	assert_int_equal(close(fd), 0);
	user_free(u);
}

static void test_file_unparsable(void **state)
{
	struct user *u;

	(void)state;
	put("s", "a=1\n");
	u = file_user("s");
	need(u, NEED_FRESH);
	put("s", "a=\\u00\n");
	UNTIL(u->changed == 2);
	assert_int_equal(what(u, 0, "1"), RESOLVED_STALE);
	need(u, NEED_FRESH);
	assert_int_equal(what(u, 0, "1"), RESOLVED_STALE);
	put("s", "a=1\n");
	UNTIL(u->changed == 3);
	assert_int_equal(what(u, 0, "1"), RESOLVED);
	user_free(u);
}

/* A storm of writes: the last one counts, and the reads are not more than one in a settle time. */
static void test_file_storm(void **state)
{
	struct user *u;
	unsigned long before;
	int64_t began;

	(void)state;
	put("s", "a=0\n");
	u = file_user("s");
	need(u, NEED_FRESH);
	run_for(50);
	before = resolver_provider(resolver, 1)->fetches;
	began = clock_mono_ms();
	for (int i = 1; i <= 300; i++) {
		char text[16];

		(void)snprintf(text, sizeof(text), "a=%d\n", i);
		put("s", text);
		run_for(1);
	}
	run_for(80);
	assert_int_equal(what(u, 0, "300"), RESOLVED);
	/* one a settle time, and those of young files */
	assert_in_range(resolver_provider(resolver, 1)->fetches - before, 1, (clock_mono_ms() - began) / 10 + 3);
	user_free(u);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_single_flight), T(test_union), T(test_grown), T(test_grown_in_flight), T(test_fresh),
		T(test_poll), T(test_poll_is_stretched), T(test_ttl), T(test_constant),
		T(test_failure), T(test_outage), T(test_outage_for_ever_or_never), T(test_refusal),
		T(test_deadline), T(test_cancel), T(test_held), T(test_no_memory_in_provider),
		T(test_references), T(test_refresh), T(test_two_instances), T(test_bad_param), T(test_once),
		T(test_file), T(test_file_looked_at), T(test_file_changed_unseen), T(test_file_half_written),
		T(test_file_never_closed), T(test_file_silent_writer), T(test_file_unparsable), T(test_file_storm),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
