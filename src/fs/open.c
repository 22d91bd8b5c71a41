/*
 * Opening, and waiting for it.
 *
 * Three may come together over one parked request: the FUSE thread that parks it, the event thread with
 * the result, and an interrupt in another FUSE thread. parked.state decides who answers.
 *
 * The interrupt only knows the parked request through the FUSE request's interrupt function, which libfuse
 * calls under the request's lock: taking the function away before the answer waits for a call that
 * is under way, and after that none can come. From within such a call libfuse lets us answer
 * (find_interrupted() holds a reference to the request, and not the session's lock), but not when
 * fuse_req_interrupt_func itself makes the call, for an interrupt that came before: the answer
 * would free the lock that it holds. That is during SETUP.
 */
#include "fs/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/keep.h"
#include "core/snapshot.h"
#include "fs/control.h"
#include "fs/audit.h"
#include "fs/journal.h"

struct parked *parked_new(struct fs *fs, fuse_req_t req, uint64_t ino, const struct fuse_file_info *fi,
                          int64_t since_ns)
{
	struct parked *p = malloc(sizeof *p);

	if (!p)
		return NULL;
	*p = (struct parked){ .fs = fs, .req = req, .ino = ino, .unique = fs_current_unique(), .fi = *fi,
		              .since_ns = since_ns };
	atomic_init(&p->state, PARKED_SETUP);
	return p;
}

/* Counts it in; -ETIMEDOUT when too many wait. */
static int enter(struct parked *p)
{
	struct fs *fs = p->fs;
	bool lasts = journal_park(fs->journal, p->unique);
	int err = 0;

	pthread_mutex_lock(&fs->parked_lock);
	/* The control files have their own number: they must tell of the opens that wait. */
	if (atomic_load(&fs->n_parked[p->is_open]) >= FS_PARKED_MAX || (p->is_open && !lasts)) {
		atomic_fetch_add(&fs->stats->parked_refused, 1);
		err = -ETIMEDOUT;
	} else {
		atomic_fetch_add(&fs->n_parked[p->is_open], 1);
		if (p->is_open)
			atomic_fetch_add(&fs->stats->parked, 1);
	}
	/* A refused open is listed as well: it is only freed when its end has come. */
	p->next = fs->parked;
	if (p->next)
		p->next->prev = p;
	fs->parked = p;
	p->listed = true;
	pthread_mutex_unlock(&fs->parked_lock);
	return err;
}

static void leave(struct parked *p)
{
	struct fs *fs = p->fs;

	pthread_mutex_lock(&fs->parked_lock);
	if (p->listed) {
		if (p->prev)
			p->prev->next = p->next;
		else
			fs->parked = p->next;
		if (p->next)
			p->next->prev = p->prev;
	}
	pthread_mutex_unlock(&fs->parked_lock);
}

/* It no longer waits (though it may still be listed). */
static void count_out(struct fs *fs, bool is_open)
{
	/* Without the lock: parked_stop_all waits under it for interrupts, which come here. */
	atomic_fetch_sub(&fs->n_parked[is_open], 1);
	if (is_open)
		atomic_fetch_sub(&fs->stats->parked, 1);
}

/* Who isn't the event thread must not touch p any more after it. */
static bool claim(struct parked *p)
{
	struct fs *fs = p->fs;
	bool is_open = p->is_open;
	int waits = PARKED_WAITS;

	if (!atomic_compare_exchange_strong(&p->state, &waits, PARKED_ANSWERED))
		return false;
	count_out(fs, is_open);
	return true;
}

/* Ends here what an interrupt knows of it. */
static void forget_interrupt(struct parked *p)
{
	fuse_req_interrupt_func(p->req, NULL, NULL);
}

bool parked_claim(struct parked *p)
{
	if (!claim(p))
		return false;
	forget_interrupt(p);
	return true;
}

static void answer_interrupted(struct fs *fs, fuse_req_t req, bool is_open, int64_t since_ns,
                               struct audit_open *audit)
{
	if (is_open)
		stats_open_done(fs->stats, (clock_mono_ns() - since_ns) / 1000, -EINTR);
	audit_end(audit, -EINTR, 0);
	fuse_reply_err(req, EINTR);
}

/* In a FUSE thread, under the lock of the request. */
static void interrupted(fuse_req_t req, void *arg)
{
	struct parked *p = arg;
	struct fs *fs = p->fs;
	bool is_open = p->is_open;
	int64_t since_ns = p->since_ns;
	struct audit_open *audit = p->audit;
	int setup = PARKED_SETUP;

	/* The event thread is to let go of it. If it is quick and answers itself, it waits for our end. */
	if (p->wait)
		open_wait_interrupt(p->wait);
	if (atomic_compare_exchange_strong(&p->state, &setup, PARKED_INTERRUPTED))
		return;
	if (claim(p))
		answer_interrupted(fs, req, is_open, since_ns, audit);
}

void parked_free(struct parked *p)
{
	if (p->listed)
		leave(p);
	if (p->wait)
		open_wait_release(p->wait);
	snapshot_unref(p->snapshot);
	connector_unref(p->conn);
	free(p->text);
	if (p->freed && !atomic_load(&p->fs->stopping)) /* else its thread is gone */
		sem_post(p->freed);
	free(p);
}

/* The end of SETUP; false: the FUSE thread has something to do yet, as the state says. */
static bool begin_wait(struct parked *p)
{
	int setup = PARKED_SETUP;

	fuse_req_interrupt_func(p->req, interrupted, p);
	if (atomic_compare_exchange_strong(&p->state, &setup, PARKED_WAITS))
		return true;
	count_out(p->fs, p->is_open);
	forget_interrupt(p);
	return false;
}

static void post(struct parked *p, void (*fn)(void *p))
{
	int err = enter(p);

	if (!err && !begin_wait(p)) {
		err = -EINTR;
	} else if (!err) {
		err = loop_post(p->fs->loop, fn, p);
		if (!err)
			return;
		/* fs_stop or an interrupt may have been quicker */
		if (!parked_claim(p)) {
			parked_free(p);
			return;
		}
	}
	fuse_reply_err(p->req, -err);
	parked_free(p);
}

void parked_post(struct parked *p, void (*fn)(void *p))
{
	struct fs *fs = p->fs;
	sem_t freed;

	if (journal_park(fs->journal, p->unique)) {
		post(p, fn);
		return;
	}
	/* It lies in this thread's buffer only, and would be lost if that were read into again. What is
	 * posted here doesn't wait for anything. */
	sem_init(&freed, 0, 0);
	p->freed = &freed;
	post(p, fn);
	while (sem_wait(&freed) < 0 && !atomic_load(&fs->stopping))
		;
	sem_destroy(&freed);
}

void parked_stop_all(struct fs *fs)
{
	pthread_mutex_lock(&fs->parked_lock);
	for (struct parked *p = fs->parked; p; p = p->next) {
		if (parked_claim(p)) /* the loop no longer runs: catalog_end_waits ends what it waits for */
			answer_interrupted(fs, p->req, p->is_open, p->since_ns, p->audit);
	}
	pthread_mutex_unlock(&fs->parked_lock);
}

void parked_free_all(struct fs *fs)
{
	while (fs->parked)
		parked_free(fs->parked);
}

/* ---- opens ---- */

static void open_file_release(struct handle *handle)
{
	struct open_file *f = open_file_of(handle);

	snapshot_unref(f->snapshot);
	connector_unref(f->conn);
	free(f);
}

struct kept_handle *open_keep_handle(struct keep *keep, uint64_t ino, uint64_t unique, uint64_t place, uint64_t seq)
{
	struct kept_handle *h = keep_alloc(keep, sizeof *h);

	if (!h)
		return NULL;
	*h = (struct kept_handle){ .unique = unique, .ino = ino, .place = place, .seq = seq };
	keep_commit(keep, h, KEEP_HANDLE);
	return h;
}

/* Takes snapshot, and kept (NULL: it is made). */
static int open_file_add(struct fs *fs, struct connector *conn, uint64_t unique, struct snapshot *snapshot,
                         struct kept_handle *kept, int64_t now_ms)
{
	struct keep *keep = engine_keep(fs->engine);
	struct open_file *f = malloc(sizeof *f);

	if (f && keep && !kept) {
		uint64_t place, seq;

		snapshot_place(snapshot, &place, &seq);
		kept = open_keep_handle(keep, connector_ino(conn), unique, place, seq);
	}
	if (!f || (keep && !kept)) {
		free(f);
		snapshot_unref(snapshot);
		return -ENOMEM;
	}
	f->conn = connector_ref(conn);
	f->snapshot = snapshot;
	f->keep = keep;
	f->kept = kept;
	handles_add(fs->handles, connector_ino(conn), unique, &f->handle, open_file_release,
	            snapshot_size(snapshot), now_ms);
	atomic_fetch_add_explicit(&fs->stats->open_files, 1, memory_order_relaxed);
	return 0;
}

void open_dropped(struct fs *fs, uint64_t ino, uint64_t unique)
{
	struct handle *handle = handles_take(fs->handles, ino, unique);
	struct open_file *f;

	if (!handle)
		return;
	/* Now, though a READ may still hold it: once RELEASE has been answered nobody would ask for it again. */
	f = open_file_of(handle);
	if (f->keep)
		keep_free(f->keep, f->kept);
	f->kept = NULL;
	handle_unref(handle);
	atomic_fetch_sub_explicit(&fs->stats->open_files, 1, memory_order_relaxed);
}

static int reply_open(fuse_req_t req, struct fuse_file_info *fi, uint64_t unique)
{
	fi->fh = unique;
	fi->direct_io = 1;
	fi->keep_cache = 0;
	fi->noflush = 1;
	return fuse_reply_open(req, fi);
}

/* An OPEN that a predecessor took up and perhaps answered: the same answer once more. If the kernel
 * doesn't want it (ENOENT), it has it, and RELEASE will come. */
bool open_repeat_answer(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi)
{
	uint64_t unique = fs_current_unique();
	struct handle *handle = handles_get(fs->handles, ino, unique, 0);

	if (!handle)
		return false;
	handle_unref(handle);
	(void)reply_open(req, fi, unique);
	return true;
}

/* Answers an open, for which no interrupt function is set: err, or the snapshot, which it takes. */
static void answer(struct fs *fs, fuse_req_t req, struct connector *conn, uint64_t unique,
                   struct fuse_file_info *fi, int64_t since_ns, int err, struct snapshot *snapshot,
                   struct audit_open *audit)
{
	uint64_t version = snapshot ? snapshot_version(snapshot) : 0;
	int64_t now = clock_mono_ns();

	if (!err)
		err = open_file_add(fs, conn, unique, snapshot, NULL, now / 1000000);
	stats_open_done(fs->stats, (now - since_ns) / 1000, err);
	audit_end(audit, err, version);
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	/* An open that the kernel has given up gets no RELEASE. */
	if (reply_open(req, fi, unique) < 0)
		open_dropped(fs, connector_ino(conn), unique);
}

/* No interrupt knows of it any more. */
static void finish(struct parked *p)
{
	struct snapshot *snapshot = p->snapshot;

	p->snapshot = NULL;
	answer(p->fs, p->req, p->conn, p->unique, &p->fi, p->since_ns, p->err, snapshot, p->audit);
	parked_free(p);
}

static void open_ended(int err, struct snapshot *snapshot, void *arg)
{
	struct parked *p = arg;
	int setup = PARKED_SETUP, early = PARKED_INTERRUPTED;

	/* Nobody else reads these before the state says so. A refused open's are not looked at. */
	if (atomic_load(&p->state) != PARKED_ANSWERED) {
		p->err = err;
		p->snapshot = snapshot;
		snapshot = NULL; /* parked_free drops it */
		if (atomic_compare_exchange_strong(&p->state, &setup, PARKED_EARLY) ||
		    atomic_compare_exchange_strong(&p->state, &early, PARKED_EARLY))
			return;
		if (parked_claim(p)) {
			finish(p);
			return;
		}
	}
	snapshot_unref(snapshot);
	parked_free(p);
}

/* The FUSE thread has answered during SETUP. Who comes second, it or the result, frees. */
static void answered_in_setup(struct parked *p)
{
	if (atomic_exchange(&p->state, PARKED_ANSWERED) == PARKED_EARLY)
		parked_free(p);
}

/* Lets the event thread take the open up, and waits unless that is through already. Takes conn and audit. */
static void park(struct fs *fs, fuse_req_t req, struct connector *conn, const struct fuse_file_info *fi,
                 int64_t since_ns, struct audit_open *audit)
{
	struct parked *p = parked_new(fs, req, connector_ino(conn), fi, since_ns);
	struct open_wait *wait;

	if (!p) {
		connector_unref(conn);
		audit_end(audit, -ENOMEM, 0);
		fuse_reply_err(req, ENOMEM);
		return;
	}
	p->audit = audit;
	p->conn = conn;
	p->is_open = true;
	if (catalog_open_wait(fs->catalog, conn, open_ended, p, &wait)) {
		audit_end(audit, -ENOMEM, 0);
		fuse_reply_err(req, ENOMEM);
		parked_free(p);
		return;
	}
	p->wait = wait;
	if (enter(p)) {
		open_wait_interrupt(wait);
		stats_open_done(fs->stats, (clock_mono_ns() - since_ns) / 1000, -ETIMEDOUT);
		audit_end(audit, -ETIMEDOUT, 0);
		fuse_reply_err(req, ETIMEDOUT);
		answered_in_setup(p);
	} else if (begin_wait(p)) {
		return; /* it may be gone already */
	} else if (atomic_load(&p->state) == PARKED_EARLY) {
		finish(p);
	} else {
		answer_interrupted(fs, req, true, since_ns, audit);
		answered_in_setup(p);
	}
}

static struct audit_open *begin_audit(struct fs *fs, fuse_req_t req, const struct connector *conn)
{
	const struct fuse_ctx *who = fuse_req_ctx(req);

	return audit_begin(fs->config.audit, conn ? connector_name(conn) : "", who->uid, who->gid, who->pid);
}

void open_connector(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi)
{
	int64_t since_ns = clock_mono_ns();
	struct connector *conn = catalog_find_ino(fs->catalog, ino);
	struct audit_open *audit = begin_audit(fs, req, conn);
	struct snapshot *snapshot;
	int err = 0;

	if (journal_is_successor(fs->journal) && open_repeat_answer(fs, req, ino, fi)) {
		audit_end(audit, 0, AUDIT_VERSION_UNKNOWN); /* the predecessor's line may have died with it */
		connector_unref(conn);
		return;
	}
	if (!conn)
		err = ESTALE;
	else if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
		err = EROFS;
	else if (!node_may_read(fs, req))
		err = EACCES;
	if (err) {
		connector_unref(conn);
		audit_end(audit, -err, 0);
		fuse_reply_err(req, err);
		return;
	}
	snapshot = catalog_open_now(fs->catalog, conn);
	if (!snapshot) {
		park(fs, req, conn, fi, since_ns, audit);
		return;
	}
	answer(fs, req, conn, fs_current_unique(), fi, since_ns, 0, snapshot, audit);
	connector_unref(conn);
}

/* ---- taking over ---- */

struct restoring {
	struct fs *fs;
	int err;
};

static void restore_file(struct restoring *r, struct kept_handle *h)
{
	struct fs *fs = r->fs;
	struct connector *conn = catalog_find_ino(fs->catalog, h->ino);
	struct snapshot *snapshot = catalog_kept_snapshot(fs->catalog, h->place, h->seq);
	int err = 0;

	if (!conn || !snapshot) {
		/* One that was being opened or closed: nobody holds it. */
		snapshot_unref(snapshot);
		keep_free(engine_keep(fs->engine), h);
	} else {
		err = open_file_add(fs, conn, h->unique, snapshot, h, clock_mono_ms());
	}
	connector_unref(conn);
	if (err)
		r->err = err;
}

static void restore_handle(void *arg, void *block)
{
	struct restoring *r = arg;
	struct kept_handle *h = block;

	if (handles_known(r->fs->handles, h->ino, h->unique))
		keep_free(engine_keep(r->fs->engine), h);
	else if (h->ino >= CONNECTOR_INO_MIN)
		restore_file(r, h);
	else if (!control_restore(r->fs, h))
		keep_free(engine_keep(r->fs->engine), h);
}

int open_restore(struct fs *fs)
{
	struct restoring r = { .fs = fs };

	if (engine_keep(fs->engine)) {
		keep_each(engine_keep(fs->engine), KEEP_HANDLE, restore_handle, &r);
		control_restored(fs);
	}
	catalog_kept_done(fs->catalog);
	return r.err;
}
