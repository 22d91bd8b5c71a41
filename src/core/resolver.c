/*
 * The resolver: when each secret is fetched, and what is served meanwhile. Who refers to what is
 * in binding.c.
 */
#include "core/resolver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "core/resolver_private.h"
#include "provider/registry.h"

/* A fetch in flight and the copies of what it asks for. */
struct fetch_job {
	struct fetch fetch;
	struct slice fields[];
};

enum { TTL_MIN_MS = 100 }; /* whatever a provider says */

static void fetch_start(struct secret *s);
static void fetch_ended(struct secret *s, const struct fetch_result *r);
static void fetch_done(struct fetch *f, const struct fetch_result *r);

/* ---- time ---- */

static int64_t earliest(int64_t a, int64_t b)
{
	if (!a || !b)
		return a ? a : b;
	return a < b ? a : b;
}

static void secret_arm(struct secret *s)
{
	int64_t at = earliest(earliest(s->deadline_ms, s->writing_ms), earliest(s->due_ms, s->end_ms));
	int64_t now;

	if (!at && !s->unbegun) {
		loop_timer_stop(s->timer);
		return;
	}
	now = clock_mono_ms();
	loop_timer_set(s->timer, at > now && !s->unbegun ? at - now : 0);
}

/* Up to a tenth earlier, so that hosts that started together don't ask together. */
static int64_t jittered(int64_t ms)
{
	return ms - (ms >= 10 ? (int64_t)(random() % (ms / 10)) : 0);
}

static int64_t effective_poll_ms(const struct secret *s)
{
	const struct provider_instance *p = s->provider;
	int64_t stretched = (int64_t)p->n_polled * 1000 / p->settings->refresh.max_rps;

	return stretched > p->settings->refresh.poll_ms ? stretched : p->settings->refresh.poll_ms;
}

/* ---- who is told ---- */

static void secret_wake(struct secret *s)
{
	struct list woken;

	list_init(&woken);
	list_splice(&woken, &s->waiters);
	while (!list_empty(&woken)) {
		struct binding_secret *bs = list_entry(woken.next, struct binding_secret, waiter);

		list_remove(&bs->waiter);
		binding_secret_said(bs);
	}
}

static void secret_tell(struct secret *s, int64_t since_ms)
{
	for (struct list *n = s->users.next; n != &s->users; n = n->next) {
		struct binding_secret *bs = list_entry(n, struct binding_secret, user);

		bs->binding->changed(bs->binding->arg, since_ms);
	}
}

/* ---- watches ---- */

struct watches {
	struct watch **all;
	char **paths;
	size_t n;
	bool complete;
};

static void watches_done(struct watches *w)
{
	for (size_t i = 0; i < w->n; i++) {
		watch_free(w->all[i]);
		free(w->paths[i]);
	}
	free(w->all);
	free(w->paths);
}

/* Other threads ask the watches, under the lock, whether they see. */
static void secret_set_watches(struct secret *s, const struct watches *w)
{
	struct watches old = { s->watches, s->watched_paths, s->n_watches, false };

	pthread_mutex_lock(&s->lock);
	s->watches = w->all;
	s->n_watches = w->n;
	s->watches_complete = w->complete;
	pthread_mutex_unlock(&s->lock);
	s->watched_paths = w->paths;
	watches_done(&old);
}

/* A change was seen: fetch, but not more often than once in a settle time. */
static void secret_changed(struct secret *s)
{
	int64_t now = clock_mono_ms(), next = s->attempt_ms + s->resolver->settings->settle_ms;

	if (!s->changed_ms)
		s->changed_ms = now;
	if (s->fetch) {
		s->again = true;
		return;
	}
	if (now >= next) {
		fetch_start(s);
		return;
	}
	s->due_ms = earliest(s->due_ms, next);
	secret_arm(s);
}

static void secret_on_watch(unsigned events, const char *name, void *arg)
{
	struct secret *s = arg;

	(void)name;
	secret_sign(s);
	s->event_ms = clock_mono_ms();
	if (events & WATCH_WRITING) { /* after a change as well: it is read when it has been written */
		s->writing_ms = clock_mono_ms() + RESOLVER_WRITING_MS;
		s->writes++;
		secret_arm(s);
	} else if (events & (WATCH_CHANGED | WATCH_OVERFLOW)) {
		s->writing_ms = 0;
		secret_changed(s);
	}
}

static bool same_paths(const struct secret *s, const struct secret_file *files, size_t n)
{
	if (n != s->n_watches)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(files[i].path, s->watched_paths[i]) != 0 || (files[i].local && !s->watches[i]))
			return false;
	return true;
}

/* NULL: it is polled. */
static struct watch *watch_local(struct secret *s, const struct secret_file *file)
{
	return file->local ? watch_file(s->resolver->watcher, file->path, &file->stamp, secret_on_watch, s) : NULL;
}

/* Watches the files that the last result depended on. What can't be watched is polled. */
static void secret_watch(struct secret *s, const struct secret_file *files, size_t n)
{
	struct watches w = { .complete = true };

	if (!s->resolver->watcher || same_paths(s, files, n))
		return;
	if (n) {
		w.all = calloc(n, sizeof(struct watch *));
		w.paths = calloc(n, sizeof(char *));
		w.complete = w.all && w.paths;
	}
	while (w.complete && w.n < n && (w.paths[w.n] = strdup(files[w.n].path))) {
		w.all[w.n] = watch_local(s, &files[w.n]);
		w.complete = w.all[w.n++];
	}
	w.complete = w.complete && w.n == n;
	secret_set_watches(s, &w);
}

/* ---- results ---- */

static char *sentence(const struct secret *s, const char *text)
{
	char *ret;

	if (!text)
		return NULL;
	if (asprintf(&ret, "%s: %s", s->provider->settings->name, text) < 0)
		return NULL;
	return ret;
}

static void set_polled(struct secret *s, bool polled)
{
	if (polled && !s->poll_ms)
		s->provider->n_polled++;
	if (!polled && s->poll_ms)
		s->provider->n_polled--;
	s->poll_ms = polled ? effective_poll_ms(s) : 0;
}

static enum secret_rotation rotation_of(const struct fetch_result *r)
{
	if (r->constant)
		return ROTATION_CONSTANT;
	if (secret_values_n_files(r->values))
		return ROTATION_FILES;
	if (r->lease_ms >= 0)
		return ROTATION_LEASE;
	return r->ttl_ms >= 0 ? ROTATION_TTL : ROTATION_POLL;
}

/* When to look again, after a fetch that succeeded. */
static void schedule_next(struct secret *s, const struct fetch_result *r, int64_t now)
{
	enum secret_rotation rotation = s->rotation;
	bool polled = rotation == ROTATION_POLL || (rotation == ROTATION_FILES && !s->watches_complete);

	s->due_ms = s->end_ms = s->replace_ms = 0;
	if (!s->resolver->watcher)
		return; /* once: nothing is looked at again */
	set_polled(s, polled);
	if (rotation == ROTATION_LEASE) {
		s->end_ms = now + r->lease_ms;
		s->replace_ms = r->replace_ms < r->lease_ms ? now + jittered(r->replace_ms) : 0;
		s->due_ms = s->replace_ms;
	} else if (rotation == ROTATION_TTL) {
		int64_t ttl = r->ttl_ms > TTL_MIN_MS ? r->ttl_ms : TTL_MIN_MS;

		s->due_ms = now + (r->exact ? ttl : jittered(ttl));
	} else if (polled) {
		s->due_ms = now + jittered(s->poll_ms);
	}
	if (rotation == ROTATION_FILES && r->ttl_ms >= 0) /* a file was too young to tell its next change by */
		s->due_ms = earliest(s->due_ms, now + r->ttl_ms);
}

static void forget_failure(struct secret *s)
{
	free(s->error);
	s->error = NULL;
	s->err = 0;
	s->outage = false;
	s->backoff_ms = 0;
	secret_files_done(s->files, s->n_files);
	s->files = NULL;
	s->n_files = 0;
}

/* In real time, which is what is shown; beyond the end of time: for ever. */
static int64_t lease_end_ns(int64_t from_ns, int64_t lease_ms)
{
	if (lease_ms < 0)
		return 0;
	return lease_ms > (INT64_MAX - from_ns) / 1000000 ? INT64_MAX : from_ns + lease_ms * 1000000;
}

static bool secret_is_used(struct secret *s)
{
	bool used;

	pthread_mutex_lock(&s->lock);
	used = s->used;
	pthread_mutex_unlock(&s->lock);
	return used;
}

static int64_t fresh_until(const struct secret *s, const struct fetch_result *r, int64_t now)
{
	if (r->constant)
		return INT64_MAX;
	if (r->lease_ms >= 0) /* due to be replaced: an open of the last part of its life asks for another */
		return now + (r->replace_ms < r->lease_ms ? r->replace_ms : r->lease_ms);
	return now + s->provider->settings->refresh.fresh_ms;
}

static bool set_note(struct secret *s, const char *text)
{
	char *note = sentence(s, text);
	bool differs = (note != NULL) != (s->note != NULL) || (note && strcmp(note, s->note) != 0);

	free(s->note);
	s->note = note;
	return differs;
}

/* Those who wait for values that are not older than their open have use of them. */
static bool has_opener(const struct secret *s)
{
	for (const struct list *n = s->waiters.next; n != &s->waiters; n = n->next)
		if (list_entry(n, struct binding_secret, waiter)->binding->need == NEED_FRESH)
			return true;
	return false;
}

/* Out of memory: a successor asks for another lease. */
static void set_lease_state(struct secret *s, struct slice state)
{
	char *copy = state.len ? secmem_alloc(state.len) : NULL;

	if (copy)
		memcpy(copy, state.data, state.len);
	secmem_free(s->lease_state);
	s->lease_state = copy;
	s->lease_state_len = copy ? state.len : 0;
}

static void apply_success(struct secret *s, const struct fetch_result *r, int64_t since_ms)
{
	struct secret_values *old = s->values;
	bool differs = !secret_values_equal(old, r->values), tell;
	enum secret_state was = s->state;
	int64_t now = clock_mono_ms();

	pthread_mutex_lock(&s->lock);
	s->values = r->values;
	s->state = SECRET_OK;
	s->rotation = rotation_of(r);
	s->fresh_until_ms = fresh_until(s, r, now);
	s->fetched_ns = clock_real_ns();
	s->lease_end_ns = lease_end_ns(s->fetched_ns, r->lease_ms);
	s->used = has_opener(s);
	if (differs)
		s->generation++;
	pthread_mutex_unlock(&s->lock);
	secret_values_unref(old);
	set_lease_state(s, r->lease_ms >= 0 ? r->state : slice_of(NULL, 0));
	s->fetched_ms = now;
	tell = differs || was != SECRET_OK;
	if (set_note(s, r->text))
		tell = true;
	forget_failure(s);
	if (s->resolver->watcher) {
		size_t n = secret_values_n_files(s->values);

		secret_watch(s, n ? secret_values_file(s->values, 0) : NULL, n);
	}
	schedule_next(s, r, now);
	kept_secret_store(s);
	if (tell)
		secret_tell(s, since_ms);
}

static void keep_failure_files(struct secret *s, const struct fetch_result *r)
{
	secret_files_done(s->files, s->n_files);
	s->files = NULL;
	s->n_files = 0;
	if (!r->n_files)
		return;
	s->files = calloc(r->n_files, sizeof(*s->files));
	if (!s->files)
		return;
	for (size_t i = 0; i < r->n_files; i++) {
		s->files[i] = r->files[i];
		s->files[i].path = strdup(r->files[i].path);
		if (!s->files[i].path)
			return;
		s->n_files = i + 1;
	}
}

static bool may_serve_stale(const struct secret *s, int64_t now)
{
	int64_t stale = s->provider->settings->refresh.stale_ms;

	if (!s->values)
		return false;
	if (s->lease_end_ns) /* what ends by itself is good until then, however long ago it was fetched */
		return s->lease_end_ns > clock_real_ns() && (!s->end_ms || s->end_ms > now);
	return stale < 0 || now < s->fetched_ms + stale;
}

static void drop_values(struct secret *s, enum secret_state state)
{
	struct secret_values *old = s->values;

	pthread_mutex_lock(&s->lock);
	s->values = NULL;
	s->state = state;
	s->lease_end_ns = 0;
	if (old)
		s->generation++;
	pthread_mutex_unlock(&s->lock);
	secret_values_unref(old);
	s->replace_ms = 0;
	kept_secret_drop(s);
}

static void schedule_retry(struct secret *s, int64_t now)
{
	int64_t next = s->backoff_ms ? s->backoff_ms * 2 : RESOLVER_BACKOFF_MIN_MS;

	s->backoff_ms = next < RESOLVER_BACKOFF_MAX_MS ? next : RESOLVER_BACKOFF_MAX_MS;
	s->due_ms = now + s->backoff_ms;
	if (!s->resolver->watcher)
		s->end_ms = 0;
	else if (s->state == SECRET_STALE && !s->lease_end_ns && s->provider->settings->refresh.stale_ms >= 0)
		s->end_ms = s->fetched_ms + s->provider->settings->refresh.stale_ms;
	else if (s->state == SECRET_FAILED)
		s->end_ms = 0;
}

static void apply_failure(struct secret *s, const struct fetch_result *r, int64_t since_ms)
{
	int64_t now = clock_mono_ms();
	bool stale = r->outage && may_serve_stale(s, now);
	enum secret_state was = s->state;
	char *error = sentence(s, r->text ? r->text : strerror(r->err));
	bool tell = s->err != r->err || !s->error || !error || strcmp(error, s->error) != 0;

	if (stale) {
		pthread_mutex_lock(&s->lock);
		s->state = SECRET_STALE;
		pthread_mutex_unlock(&s->lock);
	} else {
		drop_values(s, SECRET_FAILED);
	}
	free(s->error);
	s->error = error;
	s->err = r->err;
	s->outage = r->outage;
	s->provider->errors++;
	keep_failure_files(s, r);
	if (s->resolver->watcher && r->n_files)
		secret_watch(s, s->files, s->n_files);
	schedule_retry(s, now);
	if (stale && (tell || was != s->state))
		kept_secret_store(s);
	if (tell || was != s->state)
		secret_tell(s, since_ms);
}

/* ---- fetching ---- */

/* By what the last fetch said of the files. */
static enum pool_place place_of(const struct secret *s)
{
	const struct secret_file *files = s->err ? s->files : NULL;
	size_t n = s->err ? s->n_files : 0;

	if (s->err == ETIMEDOUT)
		return POOL_DOUBTFUL;
	if (!s->err && s->values && secret_values_n_files(s->values)) {
		n = secret_values_n_files(s->values);
		files = secret_values_file(s->values, 0);
	}
	for (size_t i = 0; i < n; i++)
		if (!files[i].local)
			return POOL_DOUBTFUL;
	return n ? POOL_LOCAL : POOL_UNKNOWN;
}

static struct fetch_job *fetch_job_new(struct secret *s)
{
	struct fetch_job *job;
	size_t bytes = 0;
	char *copy;

	for (size_t i = 0; i < s->n_wanted; i++)
		bytes += s->wanted[i].len + 1;
	job = calloc(1, sizeof(*job) + s->n_wanted * sizeof(struct slice) + bytes);
	if (!job)
		return NULL;
	copy = (char *)&job->fields[s->n_wanted];
	for (size_t i = 0; i < s->n_wanted; i++) {
		memcpy(copy, s->wanted[i].name, s->wanted[i].len);
		job->fields[i] = slice_of(copy, s->wanted[i].len);
		copy += s->wanted[i].len + 1;
	}
	job->fetch.id = slice_of(s->id, s->id_len);
	job->fetch.fields = job->fields;
	job->fetch.n_fields = s->n_wanted;
	job->fetch.deadline_ms = s->resolver->settings->wait_ms;
	job->fetch.place = place_of(s);
	job->fetch.done = fetch_done;
	job->fetch.arg = s;
	return job;
}

/* A failure of our own making, told as if the provider had told it. */
static void fetch_failed(struct secret *s)
{
	struct fetch_result r = {
		.err = EIO, .outage = true, .text = "out of memory", .ttl_ms = -1, .lease_ms = -1
	};

	s->unbegun = false;
	s->deadline_ms = 0;
	fetch_ended(s, &r);
}

static void fetch_start(struct secret *s)
{
	if (s->unbegun)
		return; /* the last attempt could not even begin; that is about to be told */
	if (s->fetch) {
		s->again = true;
		return;
	}
	s->again = s->lapsed = false;
	s->n_begun++;
	s->writes_before = s->writes;
	s->asked_more = s->wanted_grew;
	s->wanted_grew = false;
	s->due_ms = 0;
	s->attempt_ms = clock_mono_ms();
	s->provider->fetches++;
	s->fetch = fetch_job_new(s);
	if (!s->fetch || s->provider->ops->fetch(s->provider->self, &s->fetch->fetch) < 0) {
		free(s->fetch);
		s->fetch = NULL;
		s->unbegun = true;
	} else if (!s->deadline_ms) { /* else somebody has been waiting for a writer already */
		s->deadline_ms = s->attempt_ms + s->resolver->settings->wait_ms;
	}
	secret_arm(s);
}

/* The fetch has ended, in whatever way: the next step for the secret and those who wait. */
static void fetch_ended(struct secret *s, const struct fetch_result *r)
{
	int64_t since_ms = s->changed_ms ? s->changed_ms : clock_mono_ms();

	s->changed_ms = 0;
	s->n_answered = s->n_begun;
	if (r->err)
		apply_failure(s, r, since_ms);
	else
		apply_success(s, r, since_ms);
	/* Somebody wants more than was asked for: they go on waiting, but not beyond the deadline. */
	if (s->wanted_grew && r->err != ETIMEDOUT) {
		fetch_start(s);
		return;
	}
	if (s->again) {
		s->again = false;
		secret_changed(s);
	}
	secret_arm(s);
	secret_wake(s);
}

/* Serves the last known values meanwhile, or lets those who ask wait, at most until the deadline. At the
 * first doubt they wait as well: a moment later the truth is known, mostly. */
static void hold(struct secret *s, const struct fetch_result *r)
{
	secret_values_unref(r->values);
	s->again = false;
	s->wanted_grew = s->wanted_grew || s->asked_more;
	if (s->values && !s->wanted_grew && s->doubts != 1) {
		s->deadline_ms = 0;
		secret_wake(s);
	} /* else the deadline stays: a writer who never ends is none to wait for */
	if (s->resolver)
		secret_arm(s);
}

static void fetch_done(struct fetch *f, const struct fetch_result *r)
{
	struct secret *s = secret_ref(f->arg);
	bool held;

	/* Was the file being written while it was read? Then what was read may be half of it. What
	 * is seen now is a change during this fetch: it must not begin another one here. */
	if (s->resolver->watcher)
		watcher_drain(s->resolver->watcher);
	held = secret_must_hold(s, f, r);
	free(s->fetch);
	s->fetch = NULL;
	if (held) {
		hold(s, r);
	} else {
		s->deadline_ms = 0;
		fetch_ended(s, r);
	}
	secret_unref(s);
}

/* No answer, or only a writer who does not end. */
static void fetch_timed_out(struct secret *s)
{
	struct fetch_result r = { .err = ETIMEDOUT, .outage = true, .ttl_ms = -1, .lease_ms = -1 };
	char text[ERROR_TEXT_MAX];

	snprintf(text, sizeof(text), "%s: %s %lld ms (connectfs.wait.ms)", s->id,
	         s->fetch ? "no answer within" : "has been written without an end for",
	         (long long)s->resolver->settings->wait_ms);
	if (s->fetch)
		s->provider->ops->cancel(s->provider->self, &s->fetch->fetch);
	free(s->fetch);
	s->fetch = NULL;
	s->deadline_ms = 0;
	r.text = text;
	fetch_ended(s, &r);
}

/* Nobody has opened it since it was fetched: making another one would go on for ever. */
static void secret_lapse(struct secret *s)
{
	drop_values(s, SECRET_IDLE);
	forget_failure(s);
	set_lease_state(s, slice_of(NULL, 0));
	s->due_ms = s->end_ms = 0;
	s->lapsed = true;
	secret_tell(s, clock_mono_ms());
}

/* What is served has come to its end: a lease, or the time for which last known values are served. */
static void secret_ended(struct secret *s)
{
	struct fetch_result r = { .err = EKEYEXPIRED, .text = NULL, .ttl_ms = -1, .lease_ms = -1 };
	char text[ERROR_TEXT_MAX];
	bool lease = s->lease_end_ns != 0;

	s->end_ms = 0;
	if (lease && !secret_is_used(s) && !s->fetch) {
		secret_lapse(s);
		return;
	}
	if (lease) {
		r.err = EKEYEXPIRED;
		snprintf(text, sizeof(text), "%s: the lease has ended and no new one could be had%s%s", s->id,
		         s->error ? ": " : "", s->error ? s->error : "");
		r.text = text;
		apply_failure(s, &r, clock_mono_ms());
		return;
	}
	drop_values(s, SECRET_FAILED);
	secret_tell(s, clock_mono_ms());
}

/* ---- leases ---- */

void secret_move_lease(struct secret *s, int64_t lease_ms, int64_t replace_ms, struct slice state)
{
	int64_t now = clock_mono_ms(), until = replace_ms < lease_ms ? replace_ms : lease_ms;

	if (!s->values || s->rotation != ROTATION_LEASE)
		return;
	pthread_mutex_lock(&s->lock);
	s->lease_end_ns = lease_end_ns(clock_real_ns(), lease_ms);
	s->fresh_until_ms = now + until;
	pthread_mutex_unlock(&s->lock);
	set_lease_state(s, state);
	s->end_ms = now + lease_ms;
	s->replace_ms = replace_ms < lease_ms ? now + jittered(replace_ms) : 0;
	if (!s->fetch && !s->err) /* else its next attempt stands */
		s->due_ms = s->replace_ms;
	kept_secret_store(s);
	secret_arm(s);
}

void secret_lease_gone(struct secret *s, const char *text)
{
	if (!s->values || s->rotation != ROTATION_LEASE)
		return;
	if (!secret_is_used(s) && !s->fetch) {
		secret_lapse(s);
		secret_arm(s);
		return;
	}
	/* Not served any more, but by those who have it open. */
	pthread_mutex_lock(&s->lock);
	s->fresh_until_ms = 0;
	s->lease_end_ns = 1;
	pthread_mutex_unlock(&s->lock);
	s->end_ms = s->replace_ms = 0;
	free(s->note);
	s->note = sentence(s, text);
	kept_secret_drop(s);
	if (!s->fetch)
		fetch_start(s);
}

void secret_retry(struct secret *s, int64_t ms)
{
	int64_t at = clock_mono_ms() + ms;

	if (s->fetch || !s->outage)
		return;
	s->backoff_ms = 0;
	if (!s->due_ms || at < s->due_ms)
		s->due_ms = at;
	secret_arm(s);
}

static void secret_on_timer(void *arg)
{
	struct secret *s = secret_ref(arg);
	int64_t now = clock_mono_ms();

	if (s->unbegun)
		fetch_failed(s);
	if (s->resolver && s->deadline_ms && now >= s->deadline_ms)
		fetch_timed_out(s);
	if (s->resolver && s->writing_ms && now >= s->writing_ms) {
		s->writing_ms = 0;
		secret_changed(s);
		if (!s->fetch && !s->due_ms)
			fetch_start(s);
	}
	if (s->resolver && s->end_ms && now >= s->end_ms)
		secret_ended(s);
	if (s->resolver && s->due_ms && now >= s->due_ms) {
		bool unused = s->replace_ms && now >= s->replace_ms && !s->err && !secret_is_used(s);

		s->due_ms = 0;
		if (!s->fetch && s->resolver->watcher && !unused)
			fetch_start(s);
	}
	if (s->resolver)
		secret_arm(s);
	secret_unref(s);
}

/* ---- what is asked ---- */

/* There is nothing to serve, and the file is being written: its end is waited for, but not longer
 * than for a fetch. */
static void wait_for_writer(struct secret *s)
{
	if (s->deadline_ms || s->fetch)
		return;
	s->deadline_ms = clock_mono_ms() + s->resolver->settings->wait_ms;
	secret_arm(s);
}

static bool said_known(struct secret *s, bool waited)
{
	/* The end of a settle time shows the files as they are then. */
	if (s->changed_ms && !waited && !s->writing_ms) {
		if (!s->fetch)
			fetch_start(s);
		return false;
	}
	if (!s->wanted_grew && (s->values || s->state == SECRET_FAILED))
		return true;
	if (s->state == SECRET_STALE || s->state == SECRET_FAILED)
		return true; /* the attempts go on in the background */
	if (s->writing_ms)
		wait_for_writer(s);
	else if (!s->fetch)
		fetch_start(s);
	return false;
}

/* The event thread looks at no file itself, since that may block: what depends on files is read again in the
 * pool, by a fetch that begins after the question. */
bool secret_said(struct secret *s, enum need need, unsigned long asked, bool waited)
{
	int64_t now = clock_mono_ms();
	bool out = s->state == SECRET_STALE || s->state == SECRET_FAILED;
	bool by_files = s->state == SECRET_OK ? s->rotation == ROTATION_FILES : s->n_files > 0;

	if (need == NEED_KNOWN)
		return said_known(s, waited);
	if (s->writing_ms) {
		if ((s->values && !s->wanted_grew && s->doubts != 1) || (waited && out))
			return true;
		wait_for_writer(s);
		return false;
	}
	if (s->n_answered > asked && (out || !s->wanted_grew))
		return true;
	if (s->state == SECRET_STALE && !by_files) {
		if (!s->fetch && now >= s->due_ms)
			fetch_start(s);
		return true;
	}
	if (s->state == SECRET_FAILED && !by_files && !s->fetch && (waited || now < s->due_ms))
		return true;
	/* An answer that came while we waited is not older than the question, but for files. */
	if (s->state == SECRET_OK && !by_files && !s->wanted_grew && (waited || now < s->fresh_until_ms))
		return true;
	if (!s->fetch)
		fetch_start(s);
	return false;
}

void resolver_refresh(struct secret *s, bool leases)
{
	bool kept = s->rotation == ROTATION_CONSTANT || (s->rotation == ROTATION_LEASE && !leases);

	if (s->state == SECRET_OK && kept)
		return;
	fetch_start(s);
}

/* ---- the table ---- */

static int secret_key(struct buf *key, const struct provider_instance *p, struct slice id)
{
	buf_init(key, 1024 * 1024);
	buf_addf(key, "%zu:", (size_t)(p - p->resolver->providers));
	return buf_add_slice(key, id);
}

struct secret *resolver_find_secret(struct provider_instance *p, struct slice id)
{
	struct secret *s = NULL;
	struct buf key;

	if (secret_key(&key, p, id) == 0)
		s = strmap_get(p->resolver->secrets, buf_slice(&key));
	buf_free(&key);
	return s;
}

int resolver_get_secret(struct resolver *r, struct provider_instance *p, struct slice id, struct secret **ret)
{
	struct secret *s;
	struct buf key;
	int err = secret_key(&key, p, id);

	if (err)
		return err;
	s = strmap_get(r->secrets, buf_slice(&key));
	if (!s) {
		s = secret_new(p, id);
		if (s)
			s->timer = loop_timer_new(r->loop, secret_on_timer, s);
		if (!s || !s->timer || strmap_put(r->secrets, buf_slice(&key), s, NULL) < 0) {
			buf_free(&key);
			if (s)
				loop_timer_free(s->timer);
			secret_unref(s);
			return -ENOMEM;
		}
		s->resolver = r;
		s->watcher = r->watcher;
		s->key = buf_steal(&key, &s->key_len);
		if (kept_secret_restore(s)) {
			set_polled(s, s->rotation == ROTATION_POLL);
			secret_arm(s);
		}
	}
	buf_free(&key);
	*ret = s;
	return 0;
}

void resolver_drop_secret(struct secret *s)
{
	struct resolver *r = s->resolver;

	if (s->fetch) {
		s->provider->ops->cancel(s->provider->self, &s->fetch->fetch);
		free(s->fetch);
		s->fetch = NULL;
	}
	if (s->provider->ops->release)
		s->provider->ops->release(s->provider->self, slice_of(s->id, s->id_len));
	set_polled(s, false);
	secret_set_watches(s, &(struct watches){ .n = 0 });
	kept_secret_drop(s);
	loop_timer_free(s->timer);
	s->timer = NULL;
	s->resolver = NULL;
	strmap_del(r->secrets, slice_of(s->key, s->key_len));
	secret_unref(s);
}

/* ---- making and ending ---- */

static int open_provider(struct provider_instance *p, struct report *report)
{
	const struct provider_settings *ps = p->settings;
	struct error err = ERROR_INIT;
	const char *param = NULL;
	char key[512];
	int r;

	p->ops = ps->class_name ? registry_find(ps->class_name) : NULL;
	if (!p->ops)
		return 0;
	r = p->ops->open(&p->env, ps->class_name, ps->params, &p->self, &param, &err);
	if (r == 0)
		return 0;
	p->ops = NULL;
	snprintf(key, sizeof(key), "config.providers.%s%s%s", ps->name, param ? ".param." : "", param ? param : "");
	report_add(report, REPORT_ERROR, ps->file, ps->line, key, "%s", err.text[0] ? err.text : strerror(-r));
	return r;
}

int resolver_new(const struct settings *settings, struct loop *loop, struct pool *pool,
                 struct watcher *watcher, struct resolver **ret, struct report *report)
{
	struct resolver *r = calloc(1, sizeof(*r) + settings->n_providers * sizeof(r->providers[0]));
	unsigned seed;
	int err = 0;

	if (!r)
		return -ENOMEM;
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == sizeof(seed))
		srandom(seed); /* for jitter only */
	r->settings = settings;
	r->loop = loop;
	r->watcher = watcher;
	r->n_providers = settings->n_providers;
	r->secrets = strmap_new();
	if (!r->secrets)
		err = -ENOMEM;
	for (size_t i = 0; i < r->n_providers; i++) {
		r->providers[i].resolver = r;
		r->providers[i].settings = &settings->providers[i];
		r->providers[i].env = (struct provider_env){
			.loop = loop, .pool = pool, .watcher = watcher, .host = watcher ? &resolver_host : NULL,
			.host_arg = &r->providers[i], .wait_ms = settings->wait_ms,
			.http_connections = (unsigned)settings->http_connections, .http_env_proxy = settings->http_env_proxy,
		};
	}
	for (size_t i = 0; i < r->n_providers && err != -ENOMEM; i++) {
		int e = open_provider(&r->providers[i], report);

		err = e ? e : err;
	}
	if (err) {
		resolver_free(r);
		return err;
	}
	*ret = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_providers; i++) {
		if (r->providers[i].ops)
			r->providers[i].ops->close(r->providers[i].self);
		kept_state_done(&r->providers[i]);
	}
	strmap_free(r->secrets, NULL);
	strmap_free(r->kept, NULL);
	free(r);
}

struct secret *resolver_next_secret(struct resolver *r, size_t *pos)
{
	struct slice key;
	void *value;

	return strmap_next(r->secrets, pos, &key, &value) ? value : NULL;
}

bool provider_status(const struct provider_instance *p, struct provider_status *ret)
{
	struct provider_status status = { .address = NULL };

	if (!p->ops || !p->ops->status)
		return false;
	p->ops->status(p->self, &status);
	*ret = status;
	return true;
}

size_t resolver_n_providers(const struct resolver *r)
{
	return r->n_providers;
}

const struct provider_instance *resolver_provider(const struct resolver *r, size_t i)
{
	return &r->providers[i];
}
