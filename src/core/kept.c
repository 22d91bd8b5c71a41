/*
 * What core has in the keep, and how a worker takes over what the one before had there: snapshots, and of
 * each connector what the world has seen of it, so that nothing is announced that has not changed.
 *
 * Restoring comes after the first listing and before FUSE is served. A connector that the store still has goes on
 * where it was; its text and its secrets are looked at again in the background, and what has changed
 * meanwhile is a rotation like any other. One that has gone since is made to vanish, one that is new to appear.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/core.h"

enum {
	KEPT_DEATH = 0x100,  /* in the flags, counted from here on: deaths while it was being rendered */
	KEPT_DEATHS_MAX = 2, /* then it isn't rendered again */
};

#define KEPT_DEATHS (~(uint32_t)(KEPT_DEATH - 1))

/* Two sets of facts, of which one holds, so that one store changes all of them. */
struct kept_connector {
	uint64_t ino;
	_Atomic uint32_t flags; /* enum kept_is, and the deaths */
	_Atomic uint32_t which;
	_Atomic uint64_t inputs; /* hash of what the deaths that are counted have rendered */
	struct kept_facts facts[2];
	char name[];            /* NUL-terminated */
};

struct kept_snapshot {
	uint64_t size;
	char data[];
};

/* Changed in place. */
struct kept_catalog {
	_Atomic int64_t mtime_ns; /* of the root */
};

/* What is served while the stored file is broken, or is being written. */
struct kept_text {
	uint64_t ino;
	uint32_t syntax; /* enum config_syntax */
	uint32_t len;
	char data[];
};

/* ---- snapshots ---- */

char *kept_snapshot_new(struct keep *keep, const char *data, size_t size)
{
	struct kept_snapshot *k = keep_alloc(keep, sizeof(*k) + size);

	if (!k)
		return NULL;
	k->size = size;
	if (size)
		memcpy(k->data, data, size);
	keep_commit(keep, k, KEEP_SNAPSHOT);
	return k->data;
}

static struct kept_snapshot *kept_of_data(char *data)
{
	return list_entry(data, struct kept_snapshot, data);
}

void kept_snapshot_free(struct keep *keep, char *data)
{
	keep_free(keep, kept_of_data(data));
}

void snapshot_place(const struct snapshot *s, uint64_t *ret_place, uint64_t *ret_seq)
{
	*ret_place = s->keep ? keep_place(s->keep, kept_of_data(s->data)) : 0;
	*ret_seq = s->keep ? keep_seq(kept_of_data(s->data)) : 0;
}

/* ---- connectors ---- */

uint32_t kept_state(enum connector_state state)
{
	return state == CONNECTOR_FAILED ? KEPT_FAILED : state == CONNECTOR_STALE ? KEPT_STALE : 0;
}

/* Under the lock, so that whoever changes it from now on finds the record. */
static uint32_t flags_of(const struct connector *conn)
{
	enum presence p = atomic_load(&conn->presence);
	uint32_t flags = kept_state(conn->state);

	if (p == PRESENCE_VISIBLE || p == PRESENCE_VANISHING)
		flags |= KEPT_VISIBLE;
	if (conn->active)
		flags |= KEPT_ACTIVE;
	if (conn->announce == TOUCH_ROTATED + 1 || conn->touching)
		flags |= KEPT_DUE_ROTATED;
	else if (conn->announce)
		flags |= KEPT_DUE_STATE;
	return flags;
}

void kept_begin(struct connector *conn)
{
	struct keep *keep = conn->catalog->engine->keep;
	size_t len = strlen(conn->name);
	struct kept_connector *k;

	if (!keep || conn->kept)
		return;
	k = keep_alloc(keep, sizeof(*k) + len + 1);
	if (!k)
		return; /* tried again at the next change; a successor would take it for a new one */
	k->ino = conn->ino;
	memcpy(k->name, conn->name, len + 1);
	k->facts[0] = kept_facts(conn, NULL);
	pthread_mutex_lock(&conn->lock);
	atomic_init(&k->flags, flags_of(conn));
	keep_commit(keep, k, KEEP_CONNECTOR);
	conn->kept = k;
	pthread_mutex_unlock(&conn->lock);
}

void kept_store(struct connector *conn, const struct kept_facts *facts)
{
	uint32_t other;

	kept_begin(conn);
	if (!conn->kept || keep_is_frozen(conn->catalog->engine->keep))
		return;
	other = !atomic_load_explicit(&conn->kept->which, memory_order_relaxed);
	FAULT_POINT();
	conn->kept->facts[other] = *facts;
	FAULT_STORE(&conn->kept->which, other);
}

struct kept_facts kept_facts(const struct connector *conn, const struct snapshot *snapshot)
{
	struct kept_facts f = {
		.mtime_ns = conn->mtime_ns, .rotated_ns = conn->rotated_ns, .version = conn->version,
		.text_hash = conn->text_hash,
	};

	if (!snapshot)
		snapshot = conn->snapshot;
	if (snapshot)
		snapshot_place(snapshot, &f.snapshot_place, &f.snapshot_seq);
	return f;
}

void kept_refresh(struct connector *conn, const struct snapshot *snapshot)
{
	const struct kept_facts facts = kept_facts(conn, snapshot);

	kept_store(conn, &facts);
}

void kept_set(struct connector *conn, uint32_t set, uint32_t clear)
{
	uint32_t flags;

	pthread_mutex_lock(&conn->lock);
	if (conn->kept && !keep_is_frozen(conn->catalog->engine->keep)) {
		flags = atomic_load_explicit(&conn->kept->flags, memory_order_relaxed);
		FAULT_STORE(&conn->kept->flags, (flags & ~clear) | set);
	}
	pthread_mutex_unlock(&conn->lock);
}

/* Deaths are counted as long as it is the same that is rendered. False: it has killed too many. */
bool kept_render(struct connector *conn)
{
	struct kept_connector *k = conn->kept;
	uint64_t inputs;

	if (!k)
		return true;
	inputs = binding_hash(conn->binding, conn->text_hash);
	if (atomic_load(&k->inputs) != inputs) {
		kept_set(conn, 0, KEPT_DEATHS);
		FAULT_STORE(&k->inputs, inputs);
	}
	if (atomic_load(&k->flags) / KEPT_DEATH >= KEPT_DEATHS_MAX)
		return false;
	kept_set(conn, KEPT_RENDERING, 0);
	return true;
}

void kept_rendered(struct connector *conn)
{
	kept_set(conn, 0, KEPT_RENDERING | KEPT_DEATHS);
}

struct stored *kept_text(const struct connector *conn, const struct stored *s)
{
	struct keep *keep = conn->catalog->engine->keep;
	struct kept_text *k = keep && conn->active && !s->keep ? keep_alloc(keep, sizeof(*k) + s->len) : NULL;
	struct stored *moved = k ? stored_in_keep(s, keep, k, k->data) : NULL;

	if (!moved) {
		if (k)
			keep_free(keep, k);
		return NULL;
	}
	*k = (struct kept_text){ .ino = conn->ino, .syntax = s->syntax, .len = (uint32_t)s->len };
	if (s->len)
		memcpy(k->data, s->text, s->len);
	keep_commit(keep, k, KEEP_TEXT);
	return moved;
}

void kept_text_move(struct connector *conn)
{
	struct stored *old = conn->stored, *moved = old ? kept_text(conn, old) : NULL;

	if (!moved)
		return;
	pthread_mutex_lock(&conn->lock);
	conn->stored = moved;
	pthread_mutex_unlock(&conn->lock);
	stored_unref(old);
}

void kept_end(struct connector *conn)
{
	if (conn->catalog && conn->catalog->engine->keep)
		keep_free(conn->catalog->engine->keep, conn->kept);
	conn->kept = NULL;
}

/* ---- the root ---- */

void kept_moved(struct catalog *c)
{
	int64_t now = clock_real_ns(), last = atomic_load(c->mtime_ns);

	if (c->kept && keep_is_frozen(c->engine->keep))
		return; /* nor is it kept that the name has come or gone */
	FAULT_POINT();
	while (!atomic_compare_exchange_weak(c->mtime_ns, &last, now > last ? now : last + 1))
		;
	FAULT_POINT();
}

void kept_catalog_end(struct catalog *c)
{
	c->mtime_ns = &c->own_mtime_ns;
	if (c->kept)
		keep_free(c->engine->keep, c->kept);
	c->kept = NULL;
}

static void restore_catalog(void *arg, void *block)
{
	struct catalog *c = arg;

	if (!c->kept && keep_holds(block, sizeof(*c->kept), 0))
		c->kept = block;
	else
		keep_free(c->engine->keep, block);
}

/* Before names are taken over, which then move nothing. */
static void take_catalog(struct catalog *c)
{
	struct keep *keep = c->engine->keep;

	keep_each(keep, KEEP_CATALOG, restore_catalog, c);
	if (!c->kept) {
		c->kept = keep_alloc(keep, sizeof(*c->kept));
		if (!c->kept)
			return;
		atomic_init(&c->kept->mtime_ns, atomic_load(c->mtime_ns));
		keep_commit(keep, c->kept, KEEP_CATALOG);
	}
	c->mtime_ns = &c->kept->mtime_ns;
}

/* ---- restoring ---- */

struct restoring {
	struct engine *e;
	struct strmap *snapshots; /* place → struct snapshot */
	bool crashed;
	int err;
};

static struct slice place_key(const uint64_t *place)
{
	return slice_of((const char *)place, sizeof(*place));
}

static void restore_snapshot(void *arg, void *block)
{
	struct restoring *r = arg;
	struct kept_snapshot *k = block;
	uint64_t place = keep_place(r->e->keep, k);
	struct snapshot *s;

	if (!keep_holds(k, sizeof(*k), k->size)) {
		keep_free(r->e->keep, k); /* written over by who crashed */
		return;
	}
	s = snapshot_adopt(r->e->keep, k->data, k->size);
	if (!s || strmap_put(r->snapshots, place_key(&place), s, NULL) < 0) {
		free(s); /* not the block */
		r->err = -ENOMEM;
	}
}

struct snapshot *catalog_kept_snapshot(struct catalog *c, uint64_t place, uint64_t seq)
{
	struct snapshot *s = c->kept_snapshots ? strmap_get(c->kept_snapshots, place_key(&place)) : NULL;

	return s && keep_seq(kept_of_data(s->data)) == seq ? snapshot_ref(s) : NULL;
}

/* Under the lock. Why it is broken or stale will be said by its first job. */
static void take_state(struct connector *conn, uint32_t flags)
{
	if (conn->state != CONNECTOR_IDLE || !conn->wanted)
		return; /* we know better: of its text */
	if (flags & KEPT_STATES) {
		conn->state = flags & KEPT_FAILED ? CONNECTOR_FAILED : CONNECTOR_STALE;
		conn->err = EIO;
	} else if (conn->snapshot) {
		conn->state = CONNECTOR_OK;
	}
	conn->restored = true;
}

/* A state that came of a text that was read before: has it been told already? */
static void compare_state(struct connector *conn, uint32_t flags)
{
	uint32_t state = kept_state(conn->state);

	if (conn->restored || !conn->wanted)
		return;
	if (state != (flags & KEPT_STATES))
		kept_set(conn, state | KEPT_DUE_STATE, KEPT_STATES);
	else if (conn->announce == TOUCH_STATE + 1)
		conn->announce = 0;
}

/* What it was seen as. */
static void take_facts(struct connector *conn, struct kept_connector *k)
{
	struct kept_facts f = k->facts[atomic_load_explicit(&k->which, memory_order_acquire) & 1];
	uint32_t flags = atomic_load(&k->flags);
	struct snapshot *s = catalog_kept_snapshot(conn->catalog, f.snapshot_place, f.snapshot_seq);

	pthread_mutex_lock(&conn->lock);
	conn->kept = k;
	conn->mtime_ns = f.mtime_ns;
	conn->rotated_ns = f.rotated_ns;
	conn->version = f.version;
	if (s && !conn->snapshot) {
		s->version = f.version;
		conn->snapshot = s;
		s = NULL;
	}
	take_state(conn, flags);
	pthread_mutex_unlock(&conn->lock);
	snapshot_unref(s);
	compare_state(conn, flags);
	conn->active = conn->wanted && (flags & KEPT_ACTIVE);
	if (conn->stored && f.text_hash && f.text_hash != conn->text_hash)
		conn->stored_stale = true; /* it was read before we came here: again, and it is found to have changed */
	if (f.text_hash)
		conn->text_hash = f.text_hash;
	else if (conn->stored)
		kept_refresh(conn, NULL); /* the text is known only now */
}

static void count_death(struct restoring *r, struct connector *conn, struct kept_connector *k)
{
	uint32_t flags = atomic_load(&k->flags);

	if (!(flags & KEPT_RENDERING))
		return;
	if (r->crashed)
		flags += KEPT_DEATH;
	FAULT_STORE(&k->flags, flags & ~(uint32_t)KEPT_RENDERING);
	if (r->crashed && flags / KEPT_DEATH >= KEPT_DEATHS_MAX)
		log_error("rendering it has killed the worker twice: it isn't rendered again before it or its "
		          "secrets change", "connector", conn->name, NULL);
}

static void restore_connector(void *arg, void *block)
{
	struct restoring *r = arg;
	struct kept_connector *k = block;
	struct catalog *c = r->e->catalog;
	uint32_t flags = atomic_load(&k->flags);
	struct connector *conn = catalog_adopt(c, k->name, flags & KEPT_VISIBLE);

	if (!conn || conn->kept || conn->ino != k->ino) {
		/* Of two records of one name, or where a hash has found another place, one goes. */
		keep_free(r->e->keep, k);
		if (!conn)
			r->err = -ENOMEM;
		else if (!conn->wanted && !conn->kept)
			catalog_adopted(c, conn); /* it was shown, and must vanish all the same */
		else
			connector_unref(conn);
		return;
	}
	take_facts(conn, k);
	count_death(r, conn, k);
	flags = atomic_load(&k->flags);
	if (flags & (KEPT_DUE_ROTATED | KEPT_DUE_STATE))
		connector_due(conn, flags & KEPT_DUE_ROTATED ? TOUCH_ROTATED : TOUCH_STATE);
	if (conn->wanted && (conn->active || conn->stored_stale || (flags & KEPT_STATES)))
		catalog_queue_load(conn);
	catalog_adopted(c, conn);
}

/* Read again in any case; but should it be broken now, this one is served. 0: k is the text's now; -EINVAL: it is
 * damaged; -ENOMEM. */
static int take_text(struct restoring *r, struct connector *conn, struct kept_text *k)
{
	const struct stored text = { .text = k->data, .len = k->len, .syntax = (enum config_syntax)k->syntax };
	struct error err = ERROR_INIT;
	struct config *config = NULL;
	struct stored *stored = NULL;
	unsigned line;

	if (!keep_holds(k, sizeof(*k), k->len))
		return -EINVAL;
	if (config_parse(stored_text(&text), text.syntax, &config, &line, &err) == 0)
		stored = stored_in_keep(&text, r->e->keep, k, k->data);
	if (!stored) {
		config_free(config);
		return err.code == EINVAL ? -EINVAL : -ENOMEM;
	}
	pthread_mutex_lock(&conn->lock);
	conn->stored = stored;
	conn->config = config;
	conn->text_generation++;
	pthread_mutex_unlock(&conn->lock);
	conn->stored_stale = true;
	conn->dirty = true;
	return 0;
}

static void restore_text(void *arg, void *block)
{
	struct restoring *r = arg;
	struct kept_text *k = block;
	struct connector *conn = catalog_find_ino(r->e->catalog, k->ino);
	int err = -EEXIST;

	/* Of two, which a death between them leaves, either will do: the text is read again. */
	if (conn && conn->wanted && conn->active && !conn->stored)
		err = take_text(r, conn, k);
	if (!err) {
		catalog_queue_load(conn);
	} else if (err == -ENOMEM) {
		r->err = err; /* a successor may have more */
	} else if (!conn || !conn->stored || conn->stored->block != k) {
		if (conn && conn->active)
			kept_text_move(conn); /* it was read before we came here; we may be called for its block too */
		keep_free(r->e->keep, k);
	}
	connector_unref(conn);
}

/* Those that have no record: of a first worker all; else they are new. */
static void restore_others(struct engine *e, bool successor)
{
	struct listing *all = catalog_list(e->catalog);

	for (size_t i = 0; all && i < all->len; i++) {
		struct connector *conn = all->items[i];

		if (conn->kept)
			continue;
		if (successor)
			catalog_appear_again(e->catalog, conn);
		kept_begin(conn);
	}
	listing_unref(all);
}

int engine_set_keep(struct engine *e, struct keep *keep, bool successor, bool crashed)
{
	struct restoring r = { .e = e, .crashed = crashed };
	struct keep_stats stats;

	/* One in place of another that could not be gone on with: which names have been shown nobody knows. They stay
	 * visible, without the events of those that are new. */
	keep_get_stats(keep, &stats);
	if (!stats.blocks)
		successor = false;
	e->keep = keep;
	r.snapshots = e->catalog->kept_snapshots = strmap_new();
	if (!r.snapshots)
		return -ENOMEM;
	r.err = resolver_set_keep(e->resolver, keep);
	take_catalog(e->catalog);
	keep_each(keep, KEEP_SNAPSHOT, restore_snapshot, &r);
	keep_each(keep, KEEP_CONNECTOR, restore_connector, &r);
	keep_each(keep, KEEP_TEXT, restore_text, &r);
	restore_others(e, successor);
	engine_warm(e);
	catalog_pump(e->catalog);
	return r.err;
}

struct keep *engine_keep(const struct engine *e)
{
	return e->keep;
}

static void drop_snapshot(void *value)
{
	snapshot_unref(value);
}

void catalog_kept_done(struct catalog *c)
{
	strmap_free(c->kept_snapshots, drop_snapshot);
	c->kept_snapshots = NULL;
	catalog_drop_adopted(c);
}
