/*
 * One connector: its job, that is, reading its text, fetching its secrets, rendering, publishing.
 *
 * A connector has one job at a time, for an open or in the background. Who comes while it runs is
 * looked at when it has ended, since what the job has looked at may have changed since.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secmem.h"
#include "core/core.h"

static void job_end(struct connector *conn, int err);
static void job_secrets(struct connector *conn);

const char *connector_state_name(enum connector_state state)
{
	static const char *const names[] = { "idle", "ok", "stale", "failed" };

	return names[state];
}

const char *connector_errno_name(int err)
{
	return err ? strerrorname_np(err) : NULL;
}

struct connector *connector_new(struct catalog *c, const char *name, uint64_t ino, int64_t mtime_ns)
{
	size_t len = strlen(name);
	struct connector *conn = calloc(1, sizeof(*conn) + len + 1);

	if (!conn)
		return NULL;
	memcpy(conn->name, name, len);
	conn->catalog = c;
	conn->ino = ino;
	conn->mtime_ns = mtime_ns;
	atomic_init(&conn->refs, 1);
	atomic_init(&conn->presence, PRESENCE_GONE);
	pthread_mutex_init(&conn->lock, NULL);
	list_init(&conn->waits);
	list_init(&conn->later);
	list_init(&conn->announce_node);
	list_init(&conn->load_node);
	list_init(&conn->young_node);
	list_init(&conn->adopted_node);
	return conn;
}

void connector_destroy(struct connector *conn)
{
	kept_end(conn); /* before the snapshot that it speaks of */
	snapshot_unref(conn->snapshot);
	stored_unref(conn->stored);
	config_free(conn->config);
	free(conn->error);
	free(conn->load_error);
	pthread_mutex_destroy(&conn->lock);
	free(conn);
}

int connector_config_name(const struct connector *conn, struct buf *out)
{
	const char *dot = strrchr(conn->name, '.');

	if (conn->config && conn->config->name)
		return buf_add_str(out, conn->config->name);
	return buf_add(out, conn->name, dot ? (size_t)(dot - conn->name) : strlen(conn->name));
}

/* ---- state ---- */

static void log_state(const struct connector *conn, enum connector_state was)
{
	if (conn->catalog->engine->mode != ENGINE_MOUNT)
		return;
	if (conn->state == CONNECTOR_FAILED)
		log_warn("connector failed", "connector", conn->name, "error", conn->error, NULL);
	else if (conn->state == CONNECTOR_STALE)
		log_warn("connector stale", "connector", conn->name, "error", conn->error, NULL);
	else if (was == CONNECTOR_FAILED || was == CONNECTOR_STALE)
		log_info("connector well again", "connector", conn->name, NULL);
	else
		log_debug("connector resolved", "connector", conn->name, NULL);
}

static bool same_error(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Takes over the snapshot (NULL: keeps the last good one). */
static void set_state(struct connector *conn, enum connector_state state, int err, const char *error,
                      struct snapshot *snapshot)
{
	enum connector_state was = conn->state;
	struct snapshot *old = NULL;
	bool differs = was != state || conn->err != err || !same_error(conn->error, error);
	bool told = conn->restored && was == state;
	char *text = differs && error ? strdup(error) : NULL;

	pthread_mutex_lock(&conn->lock);
	if (snapshot) {
		old = conn->snapshot;
		conn->snapshot = snapshot;
	}
	conn->state = state;
	conn->err = err;
	if (differs) {
		free(conn->error);
		conn->error = text;
	}
	pthread_mutex_unlock(&conn->lock);
	snapshot_unref(old);
	conn->restored = false;
	if (!differs || told)
		return;
	log_state(conn, was);
	if (state == CONNECTOR_FAILED || state == CONNECTOR_STALE || was == CONNECTOR_FAILED ||
	    was == CONNECTOR_STALE)
		connector_note(conn, TOUCH_STATE);
	kept_set(conn, kept_state(state), KEPT_STATES); /* after the touch that is due: it is lost else */
}

static void set_failed(struct connector *conn, int err, const char *error)
{
	set_state(conn, CONNECTOR_FAILED, err, error, NULL);
}

/* ---- the text ---- */

/* load_err says whether there is an error; its sentence may be missing (out of memory). */
static void set_load_error(struct connector *conn, const struct error *err)
{
	free(conn->load_error);
	conn->load_error = err ? strdup(err->text) : NULL;
	conn->load_err = err ? err->code : 0;
	if (err)
		conn->stored_stale = true; /* there is no stamp to tell its change by: the next open reads */
}

static void set_load_failure(struct connector *conn, int err, const char *text)
{
	struct error e = ERROR_INIT;

	/* EACCES and the like would be taken for the mount's own word. */
	error_set(&e, err == ENOENT || err == ETIMEDOUT ? err : EIO, "%s: %s", conn->name, text);
	set_load_error(conn, &e);
}

static const char *load_sentence(const struct connector *conn)
{
	return conn->load_error ? conn->load_error : strerror(conn->load_err);
}

static void secrets_changed(void *arg, int64_t since_ms)
{
	struct connector *conn = arg;

	conn->dirty = true;
	connector_queue_announce(conn, since_ms);
}

/* Binds to config, or to nothing. What both bindings use stays as it is: no secret that goes on
 * being used is fetched again, no lease is lost. */
static int rebind(struct connector *conn, const struct config *config)
{
	struct binding *b = NULL;
	int err = 0;

	if (config)
		err = resolver_bind(conn->catalog->engine->resolver, config, secrets_changed, conn, &b);
	binding_free(conn->binding);
	conn->binding = b;
	return err;
}

/* A text that parses takes the place of the one before. */
static void take_text(struct connector *conn, struct stored *stored, struct config *config)
{
	struct stored *old = conn->stored, *in_keep = kept_text(conn, stored);
	struct config *old_config = conn->config;
	bool first = !old, same = old && old->len == stored->len && memcmp(old->text, stored->text, old->len) == 0;
	uint64_t hash = hash_bytes(stored->text, stored->len), known = conn->text_hash;
	bool moved = (known && known != hash) || (!first && !same); /* known: also to a predecessor */

	set_load_error(conn, NULL);
	if (in_keep) {
		stored_unref(stored);
		stored = in_keep;
	}
	if (!same || moved)
		rebind(conn, conn->active ? config : NULL); /* out of memory: tried again below */
	pthread_mutex_lock(&conn->lock);
	conn->stored = stored;
	if (same && !moved) {
		pthread_mutex_unlock(&conn->lock);
		stored_unref(old);
		config_free(config);
		return;
	}
	conn->config = config;
	conn->text_generation++;
	if (first && !known && stored->mtime_ns > conn->mtime_ns)
		conn->mtime_ns = stored->mtime_ns; /* written since it was listed; nobody has kept it yet */
	pthread_mutex_unlock(&conn->lock);
	stored_unref(old);
	config_free(old_config);
	conn->dirty = true;
	conn->text_hash = hash;
	if (moved)
		connector_move(conn, NULL);
	else if (!known)
		kept_refresh(conn, NULL);
}

static void writer_too_long(void *arg)
{
	struct connector *conn = connector_ref(arg);

	loop_timer_free(conn->writer_timer);
	conn->writer_timer = NULL;
	set_load_failure(conn, ETIMEDOUT, "has been written without an end for longer than connectfs.wait.ms");
	job_secrets(conn);
	connector_unref(conn);
}

/* There is no text yet, and it is being written: the job waits for the store's word that it has
 * changed, but not longer than for a fetch. False: out of memory. */
static bool wait_for_writer(struct connector *conn)
{
	struct engine *e = conn->catalog->engine;

	conn->job = JOB_LOADING;
	conn->writer_timer = loop_timer_new(e->loop, writer_too_long, conn);
	if (!conn->writer_timer) {
		set_load_failure(conn, EIO, "out of memory");
		return false;
	}
	loop_timer_set(conn->writer_timer, e->settings->wait_ms);
	return true;
}

/* What was read is not taken: the last good text is served, or the job waits. True: it waits. */
static bool text_postponed(struct connector *conn, struct stored *stored)
{
	stored_unref(stored);
	conn->stored_stale = true;
	return !conn->stored && wait_for_writer(conn);
}

/* Bad news of a file that has just been written, or is gone, is believed when it is told twice: so looks a
 * file that has been truncated, or taken away to be made anew, which inotify may not have told yet. */
static bool text_doubtful(struct connector *conn, const struct stored *stored, bool bad)
{
	int64_t now = clock_mono_ms();

	if (!bad || conn->catalog->engine->mode != ENGINE_MOUNT || (!stored && !conn->stored)) {
		conn->doubted_ms = 0;
		return false;
	}
	if (!conn->doubted_ms)
		conn->doubted_ms = now;
	/* An empty one as long as a writer is waited for: see doubt_ms() in resolver.c. */
	if (now - conn->doubted_ms >= (stored && !stored->len ? RESOLVER_WRITING_MS : FILE_STAMP_COARSE_MS)) {
		conn->doubted_ms = 0;
		return false;
	}
	connector_young(conn);
	return true;
}

/* True: the job goes on when the writer is done, or the text is read again. */
static bool text_taken(struct connector *conn, struct stored *stored, const struct error *err)
{
	struct error parse = ERROR_INIT, place = ERROR_INIT;
	struct config *config = NULL;
	unsigned line = 0;
	bool parsed;

	if (conn->stored_writing && !err) /* half of it, perhaps; changed will come */
		return text_postponed(conn, stored);
	parsed = !err && config_parse(stored_text(stored), stored->syntax, &config, &line, &parse) == 0;
	if (text_doubtful(conn, stored, err ? err->code == ENOENT : !parsed || !stored->len)) {
		config_free(config);
		return text_postponed(conn, stored);
	}
	if (err) {
		set_load_failure(conn, err->code, err->text);
	} else if (!parsed) {
		error_set(&place, EIO, "%s:%u: %s", conn->name, line ? line : 1, parse.text);
		set_load_error(conn, &place);
		stored_unref(stored);
	} else {
		if (stored->young)
			connector_young(conn);
		take_text(conn, stored, config);
	}
	return false;
}

static void text_loaded(void *arg, struct stored *stored, const struct error *err)
{
	struct connector *conn = connector_ref(arg);

	conn->load = NULL;
	if (conn->catalog->engine->watcher)
		watcher_drain(conn->catalog->engine->watcher);
	if (!text_taken(conn, stored, err))
		job_secrets(conn);
	connector_unref(conn);
}

/* True when the text must be read now; then the job waits for it. */
static bool job_text(struct connector *conn, bool open)
{
	struct engine *e = conn->catalog->engine;
	/* An open that comes here has found something to have changed; which file, the pool finds out. */
	bool needed = !conn->stored || conn->stored_stale || open;

	if (!needed || (conn->stored_writing && conn->stored))
		return false;
	if (conn->stored_writing)
		return wait_for_writer(conn);
	conn->job = JOB_LOADING;
	conn->stored_stale = false;
	conn->load = e->store->ops->load(e->store, conn->name, text_loaded, conn);
	if (!conn->load)
		set_load_failure(conn, EIO, "out of memory");
	return conn->load;
}

/* ---- the secrets ---- */

static bool must_render(const struct connector *conn)
{
	const struct snapshot *s = conn->snapshot;

	if (conn->dirty || conn->load_err || !s || conn->state != CONNECTOR_OK ||
	    s->text_generation != conn->text_generation)
		return true;
	for (size_t i = 0; i < s->n_deps; i++)
		if (s->deps[i].secret->generation != s->deps[i].generation)
			return true;
	return false;
}

static bool same_bytes(const struct snapshot *s, const struct rendering *r)
{
	return s->size == r->size && memcmp(s->data, r->data, s->size) == 0;
}

static int publish(struct connector *conn, struct rendering *r)
{
	bool rotated = conn->snapshot && !same_bytes(conn->snapshot, r);
	struct snapshot *s = snapshot_new(conn->catalog->engine->keep, r->data, r->size, conn->binding);
	enum connector_state state = r->state;
	const char *error = r->state == CONNECTOR_STALE ? r->error.text : NULL;
	int err = r->state == CONNECTOR_STALE ? r->err : 0;

	if (!s) {
		secmem_free(r->data);
		return -ENOMEM;
	}
	if (conn->load_err) { /* rendered from the last good text */
		state = CONNECTOR_STALE;
		error = load_sentence(conn);
		err = conn->load_err;
	}
	if (rotated)
		connector_move(conn, s);
	else
		kept_refresh(conn, s);
	s->text_generation = conn->text_generation;
	s->version = conn->version;
	set_state(conn, state, err, error, s);
	return 0;
}

static int render(struct connector *conn)
{
	struct rendering r;
	int err;

	if (!kept_render(conn)) {
		set_failed(conn, EIO, "rendering it has killed connectfs twice; it is tried again when its stored "
		                      "config or a secret changes");
		return -EIO;
	}
	err = connector_render(conn, &r);
	if (!err) {
		atomic_fetch_add(&conn->catalog->engine->stats.renders, 1);
		conn->dirty = false;
		if (r.state != CONNECTOR_FAILED)
			err = publish(conn, &r);
		else
			set_failed(conn, r.err, r.error.text);
	}
	kept_rendered(conn);
	if (err)
		set_failed(conn, EIO, conn->catalog->engine->keep ? "out of memory, or no room in the keep (see the status): "
		                      "it is full, or its memory can't be locked" : "out of memory");
	return conn->state == CONNECTOR_FAILED ? -conn->err : 0;
}

static void secrets_said(void *arg)
{
	struct connector *conn = connector_ref(arg);
	int err;

	conn->job = JOB_NONE;
	if (must_render(conn))
		err = render(conn);
	else
		err = 0;
	job_end(conn, err);
	connector_unref(conn);
}

/* No secrets are wanted: all that there is to say is whether the text is good. */
static int idle_state(struct connector *conn)
{
	if (conn->load_err && !conn->config)
		set_failed(conn, conn->load_err, load_sentence(conn));
	else if (conn->load_err)
		set_state(conn, CONNECTOR_STALE, conn->load_err, load_sentence(conn), NULL);
	else if (conn->state != CONNECTOR_IDLE)
		set_state(conn, CONNECTOR_IDLE, 0, NULL, NULL);
	return conn->state == CONNECTOR_FAILED ? -conn->err : 0;
}

static void job_secrets(struct connector *conn)
{
	bool open = !list_empty(&conn->waits);

	conn->job = JOB_NONE;
	if (open && !conn->active) {
		conn->active = true;
		kept_set(conn, KEPT_ACTIVE, 0);
		kept_text_move(conn);
	}
	if (!open && conn->binding && binding_lapsed(conn->binding)) { /* as if it had never been opened */
		rebind(conn, NULL);
		conn->active = false;
		kept_set(conn, 0, KEPT_ACTIVE);
	}
	if (!conn->config || !conn->active) {
		job_end(conn, idle_state(conn));
		return;
	}
	/* The text was only looked at again: what secrets have brought is shown when its settle time is over. */
	if (!open && !conn->window_over && conn->snapshot &&
	    conn->snapshot->text_generation == conn->text_generation) {
		job_end(conn, 0);
		return;
	}
	if (!conn->binding && rebind(conn, conn->config) < 0) {
		set_failed(conn, EIO, "out of memory");
		job_end(conn, -EIO);
		return;
	}
	conn->job = JOB_NEEDING;
	if (binding_need(conn->binding, open ? NEED_FRESH : NEED_KNOWN, secrets_said, conn) == 0)
		secrets_said(conn);
}

/* ---- the job ---- */

static void finish_waits(struct list *waits, int err, struct snapshot *snapshot)
{
	while (!list_empty(waits)) {
		struct open_wait *w = list_entry(waits->next, struct open_wait, node);

		list_remove(&w->node);
		open_wait_finish(w, err, err ? NULL : snapshot);
	}
}

static void job_end(struct connector *conn, int err)
{
	struct catalog *c = conn->catalog;
	struct list served;

	if (!err && !conn->snapshot)
		err = -EIO;
	list_init(&served);
	list_splice(&served, &conn->waits);
	list_splice(&conn->waits, &conn->later);
	if (conn->background) {
		conn->background = false;
		c->loading--;
	}
	conn->moved = false;
	connector_job_announce(conn);
	finish_waits(&served, err, conn->snapshot);
	if (!list_empty(&conn->waits))
		connector_work(conn);
	else if (conn->wanted && conn->stored_stale && !conn->load_err && !conn->stored_writing && !conn->collision)
		connector_queue_announce(conn, clock_mono_ms());
	catalog_pump(c);
}

void connector_work(struct connector *conn)
{
	bool open = !list_empty(&conn->waits);

	if (conn->writer_timer && !conn->stored_writing) { /* the writer is done */
		loop_timer_free(conn->writer_timer);
		conn->writer_timer = NULL;
		conn->job = JOB_NONE;
	}
	if (conn->job != JOB_NONE)
		return;
	connector_ref(conn);
	if (!conn->wanted) {
		job_end(conn, -ENOENT);
	} else if (conn->collision) {
		set_failed(conn, EIO, "another connector's name has the same hash: rename one of them");
		job_end(conn, -EIO);
	} else if (!job_text(conn, open)) {
		job_secrets(conn);
	}
	connector_unref(conn);
}

void connector_drop(struct connector *conn, int err)
{
	struct engine *e = conn->catalog->engine;
	struct list all;

	connector_ref(conn);
	if (conn->load)
		e->store->ops->cancel(e->store, conn->load);
	conn->load = NULL;
	loop_timer_free(conn->writer_timer);
	conn->writer_timer = NULL;
	rebind(conn, NULL);
	conn->job = JOB_NONE;
	conn->active = false;
	kept_set(conn, 0, KEPT_ACTIVE | KEPT_STATES | KEPT_DUE_ROTATED | KEPT_DUE_STATE);
	conn->stored_writing = false;
	conn->moved = false;
	conn->window_over = false;
	conn->touch_again = 0;
	conn->announce = 0;
	if (conn->background) {
		conn->background = false;
		conn->catalog->loading--;
	}
	list_remove(&conn->announce_node);
	list_remove(&conn->load_node);
	list_remove(&conn->young_node);
	list_init(&all);
	list_splice(&all, &conn->waits);
	list_splice(&all, &conn->later);
	/* Should the name come back, nothing is served that is no longer kept up to date. */
	pthread_mutex_lock(&conn->lock);
	conn->state = CONNECTOR_IDLE;
	conn->err = 0;
	free(conn->error);
	conn->error = NULL;
	conn->touch_pending = conn->touching;
	pthread_mutex_unlock(&conn->lock);
	finish_waits(&all, err, NULL);
	catalog_pump(conn->catalog);
	connector_unref(conn);
}
