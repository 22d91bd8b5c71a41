/*
 * The catalog: the tables of connectors, and how they come and go.
 */
#include "core/catalog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/core.h"

static uint64_t (*name_hash)(const void *data, size_t len) = hash_bytes;

void catalog_set_hash(uint64_t (*hash)(const void *data, size_t len))
{
	name_hash = hash ? hash : hash_bytes;
}

/* ---- references ---- */

struct connector *connector_ref(struct connector *conn)
{
	atomic_fetch_add_explicit(&conn->refs, 1, memory_order_relaxed);
	return conn;
}

/* A reference, unless the last one is just being given up. */
static struct connector *connector_try_ref(struct connector *conn)
{
	unsigned n = atomic_load_explicit(&conn->refs, memory_order_relaxed);

	while (n)
		if (atomic_compare_exchange_weak_explicit(&conn->refs, &n, n + 1, memory_order_relaxed,
		                                          memory_order_relaxed))
			return conn;
	return NULL;
}

static struct slice ino_key(const uint64_t *ino)
{
	return slice_of((const char *)ino, sizeof(*ino));
}

void connector_unref(struct connector *conn)
{
	struct catalog *c;

	if (!conn || atomic_fetch_sub_explicit(&conn->refs, 1, memory_order_acq_rel) != 1)
		return;
	c = conn->catalog;
	if (c) { /* else it has outlived the catalog */
		pthread_rwlock_wrlock(&c->lock);
		if (strmap_get(c->inos, ino_key(&conn->ino)) == conn)
			strmap_del(c->inos, ino_key(&conn->ino));
		pthread_rwlock_unlock(&c->lock);
	}
	connector_destroy(conn);
}

/* ---- looking ---- */

static bool is_visible(const struct connector *conn)
{
	enum presence p = atomic_load(&conn->presence);

	return p == PRESENCE_VISIBLE || p == PRESENCE_VANISHING;
}

static struct connector *find_name(struct catalog *c, const char *name)
{
	struct connector *conn;

	pthread_rwlock_rdlock(&c->lock);
	conn = strmap_get(c->names, slice_str(name));
	if (conn)
		connector_ref(conn);
	pthread_rwlock_unlock(&c->lock);
	return conn;
}

struct connector *catalog_find(struct catalog *c, const char *name)
{
	struct connector *conn = find_name(c, name);

	if (conn && !is_visible(conn)) {
		connector_unref(conn);
		return NULL;
	}
	return conn;
}

struct connector *catalog_find_appearing(struct catalog *c, const char *name)
{
	struct connector *conn = find_name(c, name);

	if (conn && atomic_load(&conn->presence) != PRESENCE_APPEARING) {
		connector_unref(conn);
		return NULL;
	}
	return conn;
}

bool connector_is_vanishing(struct connector *conn)
{
	return atomic_load(&conn->presence) == PRESENCE_VANISHING;
}

struct connector *catalog_find_ino(struct catalog *c, uint64_t ino)
{
	struct connector *conn;

	pthread_rwlock_rdlock(&c->lock);
	conn = strmap_get(c->inos, ino_key(&ino));
	if (conn)
		conn = connector_try_ref(conn);
	pthread_rwlock_unlock(&c->lock);
	return conn;
}

const char *connector_name(const struct connector *conn)
{
	return conn->name;
}

uint64_t connector_ino(const struct connector *conn)
{
	return conn->ino;
}

void connector_get_attr(struct connector *conn, struct connector_attr *ret)
{
	pthread_mutex_lock(&conn->lock);
	ret->size = conn->snapshot ? conn->snapshot->size : 0;
	ret->mtime_ns = conn->mtime_ns;
	ret->cacheable = conn->snapshot && !conn->touch_pending;
	pthread_mutex_unlock(&conn->lock);
}

int64_t catalog_mtime_ns(struct catalog *c)
{
	return atomic_load(c->mtime_ns);
}

/* ---- listing ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct connector *const *)a)->name, (*(struct connector *const *)b)->name);
}

/* A listing lies in one block; its reference count is before it. */
struct counted_listing {
	atomic_uint refs;
	struct listing listing;
	struct connector *items[];
};

static struct listing *listing_new(struct catalog *c)
{
	struct counted_listing *cl;
	struct slice key;
	size_t pos = 0;
	void *value;

	pthread_rwlock_rdlock(&c->lock);
	cl = malloc(sizeof(*cl) + strmap_len(c->names) * sizeof(cl->items[0]));
	if (cl) {
		atomic_init(&cl->refs, 1);
		cl->listing = (struct listing){ 0, cl->items };
		while (strmap_next(c->names, &pos, &key, &value))
			if (is_visible(value))
				cl->items[cl->listing.len++] = connector_ref(value);
	}
	pthread_rwlock_unlock(&c->lock);
	if (!cl)
		return NULL;
	qsort(cl->items, cl->listing.len, sizeof(cl->items[0]), by_name);
	return &cl->listing;
}

static struct counted_listing *counted(struct listing *l)
{
	return list_entry(l, struct counted_listing, listing);
}

struct listing *catalog_list(struct catalog *c)
{
	struct listing *l;

	pthread_mutex_lock(&c->listing_lock);
	if (!c->listing)
		c->listing = listing_new(c);
	l = c->listing;
	if (l)
		atomic_fetch_add(&counted(l)->refs, 1);
	pthread_mutex_unlock(&c->listing_lock);
	return l;
}

void listing_unref(struct listing *l)
{
	if (!l || atomic_fetch_sub(&counted(l)->refs, 1) != 1)
		return;
	for (size_t i = 0; i < l->len; i++)
		connector_unref(l->items[i]);
	free(counted(l));
}

/* It is to be made anew, though the world may have seen nothing else than it will then. Any thread. */
static void listing_drop(struct catalog *c)
{
	struct listing *old;

	pthread_mutex_lock(&c->listing_lock);
	old = c->listing;
	c->listing = NULL;
	pthread_mutex_unlock(&c->listing_lock);
	listing_unref(old);
}

/* Names have come or gone. Any thread. The time last: whoever sees it move finds the names. */
static void listing_changed(struct catalog *c)
{
	listing_drop(c);
	kept_moved(c);
}

/* ---- coming and going ---- */

static uint64_t ino_of_hash(uint64_t hash)
{
	uint64_t ino = hash & INT64_MAX;

	return ino < CONNECTOR_INO_MIN ? ino + CONNECTOR_INO_MIN : ino;
}

/* One that is free; the first that is tried is that of the name. */
static uint64_t pick_ino(struct catalog *c, uint64_t ino, bool *ret_collision)
{
	*ret_collision = false;
	while (strmap_get(c->inos, ino_key(&ino))) {
		*ret_collision = true;
		ino = ino_of_hash(hash_bytes(&ino, sizeof(ino)));
	}
	return ino;
}

/* The connector of that name: in the tables, or one that was removed and is still held open. */
static struct connector *find_or_new(struct catalog *c, const char *name, int64_t mtime_ns)
{
	struct connector *conn = NULL, *old;
	bool collision, held = true;
	uint64_t ino = ino_of_hash(name_hash(name, strlen(name)));

	pthread_rwlock_wrlock(&c->lock);
	old = strmap_get(c->inos, ino_key(&ino));
	if (old && strcmp(old->name, name) == 0)
		conn = connector_try_ref(old);
	if (!conn) {
		if (old && strcmp(old->name, name) == 0)
			strmap_del(c->inos, ino_key(&ino)); /* is just being destroyed */
		ino = pick_ino(c, ino, &collision);
		conn = connector_new(c, name, ino, mtime_ns);
		held = conn && strmap_put(c->inos, ino_key(&conn->ino), conn, NULL) == 0;
		if (held)
			conn->collision = collision;
	}
	if (held && strmap_put(c->names, slice_str(name), conn, NULL) < 0)
		held = false;
	pthread_rwlock_unlock(&c->lock);
	if (!held) {
		connector_unref(conn);
		return NULL;
	}
	return conn;
}

/* Brings presence and what the store wants together, one step at a time. Event thread. */
static void reconcile(struct connector *conn)
{
	struct catalog *c = conn->catalog;
	enum presence p = atomic_load(&conn->presence);

	if (conn->wanted)
		kept_begin(conn); /* also of one whose text is never good: a successor is to know that it was shown */
	if (conn->wanted && p == PRESENCE_GONE) {
		atomic_store(&conn->presence, c->has_sink ? PRESENCE_APPEARING : PRESENCE_VISIBLE);
		if (!c->has_sink)
			listing_changed(c);
		else if (c->sink.appear(c->sink.arg, conn) < 0)
			catalog_appeared(c, conn);
	} else if (!conn->wanted && p == PRESENCE_VISIBLE) {
		atomic_store(&conn->presence, c->has_sink ? PRESENCE_VANISHING : PRESENCE_GONE);
		if (!c->has_sink)
			listing_changed(c);
		else if (c->sink.vanish(c->sink.arg, conn) < 0)
			catalog_vanished(c, conn);
	}
	if (!conn->wanted && atomic_load(&conn->presence) == PRESENCE_GONE) {
		struct connector *table;

		pthread_rwlock_wrlock(&c->lock);
		table = strmap_get(c->names, slice_str(conn->name)) == conn ?
			strmap_del(c->names, slice_str(conn->name)) : NULL;
		pthread_rwlock_unlock(&c->lock);
		connector_unref(table);
	}
}

static void reconcile_posted(void *arg)
{
	struct connector *conn = arg;

	atomic_store(&conn->reconciling, false);
	reconcile(conn);
	connector_unref(conn);
}

static void presence_done(struct catalog *c, struct connector *conn, enum presence from, enum presence to)
{
	if (!atomic_compare_exchange_strong(&conn->presence, &from, to))
		return;
	listing_changed(c); /* before it is kept: who dies in between has a successor that does both again */
	kept_set(conn, to == PRESENCE_VISIBLE ? KEPT_VISIBLE : 0, to == PRESENCE_VISIBLE ? 0 : KEPT_VISIBLE);
	if (atomic_exchange(&conn->reconciling, true))
		return;
	conn->reconcile = (struct loop_work){ reconcile_posted, connector_ref(conn), NULL };
	loop_post_work(c->engine->loop, &conn->reconcile);
}

void catalog_appeared(struct catalog *c, struct connector *conn)
{
	presence_done(c, conn, PRESENCE_APPEARING, PRESENCE_VISIBLE);
}

void catalog_vanished(struct catalog *c, struct connector *conn)
{
	presence_done(c, conn, PRESENCE_VANISHING, PRESENCE_GONE);
}

/* ---- taking over from the worker before ---- */

struct connector *catalog_adopt(struct catalog *c, const char *name, bool visible)
{
	struct connector *conn = find_name(c, name);

	if (!conn) {
		conn = find_or_new(c, name, 0); /* the tables' reference */
		if (!conn)
			return NULL;
		connector_ref(conn);
		atomic_store(&conn->presence, visible ? PRESENCE_VISIBLE : PRESENCE_GONE);
		listing_drop(c);
	} else if (!visible && atomic_load(&conn->presence) == PRESENCE_VISIBLE) {
		atomic_store(&conn->presence, PRESENCE_GONE);
		listing_drop(c);
	}
	return conn;
}

void catalog_adopted(struct catalog *c, struct connector *conn)
{
	reconcile(conn);
	if (conn->wanted)
		connector_unref(conn);
	else
		list_append(&c->adopted, &conn->adopted_node); /* held until it is known who has it open */
}

void catalog_drop_adopted(struct catalog *c)
{
	while (!list_empty(&c->adopted)) {
		struct connector *conn = list_entry(c->adopted.next, struct connector, adopted_node);

		list_remove(&conn->adopted_node);
		connector_unref(conn);
	}
}

void catalog_appear_again(struct catalog *c, struct connector *conn)
{
	atomic_store(&conn->presence, PRESENCE_GONE);
	listing_drop(c);
	reconcile(conn);
}

/* ---- the store's events ---- */

void catalog_store_added(void *arg, const char *name, int64_t mtime_ns)
{
	struct catalog *c = arg;
	struct connector *conn = find_name(c, name);

	if (conn) { /* one whose going has not been shown yet */
		conn->wanted = true;
		connector_unref(conn);
	} else {
		conn = find_or_new(c, name, mtime_ns); /* the tables' reference */
		if (!conn) {
			log_error("out of memory", "connector", name, NULL);
			return;
		}
		conn->wanted = true;
	}
	if (c->engine->listed && c->engine->mode == ENGINE_MOUNT)
		log_info("connector added", "connector", name, NULL);
	conn->stored_stale = true;
	reconcile(conn);
	if (c->engine->mode == ENGINE_MOUNT) {
		catalog_queue_load(conn);
		catalog_pump(c);
	}
}

void catalog_store_removed(void *arg, const char *name)
{
	struct catalog *c = arg;
	struct connector *conn = find_name(c, name);

	if (!conn)
		return;
	if (conn->wanted) {
		conn->wanted = false;
		log_info("connector removed", "connector", name, NULL);
		connector_drop(conn, -ENOENT);
		reconcile(conn);
	}
	connector_unref(conn);
}

void catalog_store_changed(void *arg, const char *name)
{
	struct catalog *c = arg;
	struct connector *conn = find_name(c, name);

	if (!conn) { /* there was no memory for it when it came */
		catalog_store_added(c, name, clock_real_ns());
		return;
	}
	conn->stored_writing = false;
	conn->stored_stale = true;
	connector_queue_announce(conn, clock_mono_ms());
	if (conn->job == JOB_LOADING && !conn->load)
		connector_work(conn);
	connector_unref(conn);
}

void catalog_store_writing(void *arg, const char *name)
{
	struct connector *conn = find_name(arg, name);

	if (!conn)
		return;
	conn->stored_writing = true;
	connector_unref(conn);
}

void catalog_queue_load(struct connector *conn)
{
	list_remove(&conn->load_node);
	list_append(&conn->catalog->to_load, &conn->load_node);
}

/* Has all that a predecessor had open referred to its secrets? Not as long as a text is being written, or is
 * broken: it may still refer to them. */
static bool all_bound(struct catalog *c)
{
	struct slice key;
	size_t pos = 0;
	void *value;

	while (strmap_next(c->names, &pos, &key, &value)) {
		const struct connector *conn = value;

		if (conn->wanted && conn->active && !conn->binding && !conn->collision)
			return false;
	}
	return true;
}

/* Reads texts in the background, some at a time, so that an open never waits behind all. */
void catalog_pump(struct catalog *c)
{
	if (c->pumping)
		return; /* a job ended at once */
	c->pumping = true;
	while (c->loading < CATALOG_LOADS && !list_empty(&c->to_load) && c->engine->listed) {
		struct connector *conn = list_entry(c->to_load.next, struct connector, load_node);

		list_remove(&conn->load_node);
		if (conn->job != JOB_NONE || !conn->wanted || conn->stored_writing)
			continue; /* the job's end, or the writer's, comes back to it */
		conn->background = true;
		c->loading++;
		connector_work(conn);
	}
	c->pumping = false;
	if (resolver_has_kept(c->engine->resolver) && c->loading == 0 && list_empty(&c->to_load) && all_bound(c))
		resolver_kept_done(c->engine->resolver);
}

/* ---- making and ending ---- */

int catalog_new(struct engine *e, struct catalog **ret)
{
	struct catalog *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->engine = e;
	pthread_rwlock_init(&c->lock, NULL);
	pthread_mutex_init(&c->listing_lock, NULL);
	list_init(&c->to_load);
	list_init(&c->adopted);
	atomic_init(&c->own_mtime_ns, clock_real_ns());
	c->mtime_ns = &c->own_mtime_ns;
	c->names = strmap_new();
	c->inos = strmap_new();
	if (!c->names || !c->inos || announce_init(c) < 0) {
		catalog_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void catalog_end_waits(struct catalog *c, int err)
{
	struct slice key;
	size_t pos = 0;
	void *value;

	c->pumping = true; /* no more loads */
	while (strmap_next(c->names, &pos, &key, &value))
		connector_drop(value, err);
}

void catalog_free(struct catalog *c)
{
	struct slice key;
	size_t pos = 0;
	void *value;

	if (!c)
		return;
	c->has_sink = false;
	c->pumping = true; /* no more */
	catalog_kept_done(c);
	listing_unref(c->listing);
	while (c->names && strmap_next(c->names, &pos, &key, &value)) {
		struct connector *conn = value;

		connector_drop(conn, -EINTR);
		strmap_del(c->names, key);
		connector_unref(conn);
	}
	for (pos = 0; c->inos && strmap_next(c->inos, &pos, &key, &value);)
		if (((struct connector *)value)->touching)
			catalog_touched(c, value, 0); /* nobody will */
	for (pos = 0; c->inos && strmap_next(c->inos, &pos, &key, &value);)
		((struct connector *)value)->catalog = NULL; /* held by somebody */
	announce_done(c);
	kept_catalog_end(c);
	strmap_free(c->names, NULL);
	strmap_free(c->inos, NULL);
	pthread_rwlock_destroy(&c->lock);
	pthread_mutex_destroy(&c->listing_lock);
	free(c);
}
