/*
 * The audit log: the queue, and the thread that empties it.
 */
#include "fs/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/auditreader.h"
#include "fs/auditsink.h"

enum {
	QUEUE_MAX = 4096,   /* with BURST: all who may wait at the same time (FS_PARKED_MAX) are logged */
	RATE = 1000,        /* lines a second; some 20 GiB a day */
	BURST = 4096,
	LOST_EVERY_MS = 1000,
	PATIENCE_MS = 200,  /* for a socket whose reader is slow; who has been refused once is not waited for */
};

struct audit_open {
	struct audit *audit;
	struct audit_open *next;
	int64_t time_ns;
	uint64_t version;
	int err;
	uid_t uid;
	gid_t gid;
	struct audit_reader reader;
	char connector[256];
};

struct audit {
	char *where;
	struct audit_sink sink;
	struct stats *stats;
	pthread_t thread;
	bool running;
	bool failing;         /* the sink refused the last line; the thread's */

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t wake;
	struct audit_open *first, **last;
	size_t n;
	int64_t room_us;      /* when the next line may come; behind now by BURST lines at most */
	uint64_t dropped, told;
	int64_t tell_ms;      /* not before that */
	bool stopping;
};

/* ---- the queue ---- */

/* Under the lock. */
static void drop(struct audit *a)
{
	a->dropped++;
	if (a->stats)
		atomic_store(&a->stats->audit_dropped, a->dropped);
	pthread_cond_signal(&a->wake);
}

/* Is there room for a line more, by the rate? Under the lock. */
static bool take_room(struct audit *a)
{
	int64_t now = clock_mono_ns() / 1000, earliest = now - INT64_C(1000000) * BURST / RATE;

	if (a->room_us < earliest)
		a->room_us = earliest;
	if (a->room_us > now)
		return false;
	a->room_us += 1000000 / RATE;
	return true;
}

struct audit_open *audit_begin(struct audit *a, const char *connector, uid_t uid, gid_t gid, pid_t pid)
{
	struct audit_open *o = NULL;
	bool room;

	if (!a)
		return NULL;
	pthread_mutex_lock(&a->lock);
	room = take_room(a);
	pthread_mutex_unlock(&a->lock);
	if (room)
		o = calloc(1, sizeof(*o));
	if (!o) {
		pthread_mutex_lock(&a->lock);
		drop(a);
		pthread_mutex_unlock(&a->lock);
		return NULL;
	}
	o->audit = a;
	o->uid = uid;
	o->gid = gid;
	audit_reader_copy(o->connector, sizeof(o->connector), connector, strlen(connector));
	audit_reader_look(&o->reader, pid);
	return o;
}

void audit_end(struct audit_open *o, int err, uint64_t version)
{
	struct audit *a = o ? o->audit : NULL;

	if (!a)
		return;
	o->time_ns = clock_real_ns();
	o->err = -err;
	o->version = version;
	pthread_mutex_lock(&a->lock);
	if (a->n < QUEUE_MAX) {
		*a->last = o;
		a->last = &o->next;
		a->n++;
		o = NULL;
		pthread_cond_signal(&a->wake);
	} else {
		drop(a);
	}
	pthread_mutex_unlock(&a->lock);
	free(o);
}

/* Under the lock. NULL: none. */
static struct audit_open *take(struct audit *a)
{
	struct audit_open *o = a->first;

	if (!o)
		return NULL;
	a->first = o->next;
	if (!a->first)
		a->last = &a->first;
	a->n--;
	return o;
}

/* ---- the thread ---- */

static int write_open(struct audit *a, const struct audit_open *o)
{
	const struct audit_reader *r = &o->reader;
	char version[24], uid[16], gid[16], pid[16], tid[16], unit[256];
	bool in_unit = audit_reader_unit(r->cgroup, unit, sizeof(unit));
	bool known = !o->err && o->version != AUDIT_VERSION_UNKNOWN;
	const char *name = o->err ? strerrorname_np(o->err) : "ok";
	const struct audit_pair pairs[] = {
		{ "msg", "open" }, { "connector", o->connector }, { "version", known ? version : NULL },
		{ "uid", uid }, { "gid", gid }, { "pid", pid }, { "tid", r->tid != r->pid ? tid : NULL },
		{ "comm", *r->comm ? r->comm : NULL }, { "unit", in_unit ? unit : NULL },
		{ "cgroup", !in_unit && *r->cgroup ? r->cgroup : NULL }, { "exe", *r->exe ? r->exe : NULL },
		{ "result", name ? name : "EIO" },
	};

	snprintf(version, sizeof(version), "%" PRIu64, o->version);
	snprintf(uid, sizeof(uid), "%u", (unsigned)o->uid);
	snprintf(gid, sizeof(gid), "%u", (unsigned)o->gid);
	snprintf(pid, sizeof(pid), "%d", (int)r->pid);
	snprintf(tid, sizeof(tid), "%d", (int)r->tid);
	return audit_sink_write(&a->sink, o->err ? LOG_NOTICE : LOG_INFO, o->time_ns, pairs,
	                        sizeof(pairs) / sizeof(pairs[0]));
}

static int write_lost(struct audit *a, uint64_t n)
{
	char dropped[24];
	const struct audit_pair pairs[] = { { "msg", "opens not logged" }, { "dropped", dropped } };

	snprintf(dropped, sizeof(dropped), "%" PRIu64, n);
	return audit_sink_write(&a->sink, LOG_WARNING, clock_real_ns(), pairs,
	                        sizeof(pairs) / sizeof(pairs[0]));
}

/* Says once that the sink refuses, and once that it does no longer. */
static void note_result(struct audit *a, int err)
{
	if (err && !a->failing)
		log_warn("the audit log takes no lines; opens are missing in it", "audit", a->where, "error",
		         strerror(-err), NULL);
	else if (!err && a->failing)
		log_info("the audit log takes lines again", "audit", a->where, NULL);
	a->failing = err != 0;
}

/* With the lock, which is let go meanwhile: the thread's alone are what it reads without it. */
static void tell_lost(struct audit *a)
{
	uint64_t n = a->dropped - a->told;
	int err;

	a->tell_ms = clock_mono_ms() + LOST_EVERY_MS;
	pthread_mutex_unlock(&a->lock);
	err = write_lost(a, n);
	note_result(a, err);
	pthread_mutex_lock(&a->lock);
	if (!err)
		a->told += n;
}

static void write_next(struct audit *a, struct audit_open *o)
{
	int err;

	pthread_mutex_unlock(&a->lock);
	err = write_open(a, o);
	if (err == -EAGAIN && !a->failing && audit_sink_wait(&a->sink, PATIENCE_MS))
		err = write_open(a, o);
	free(o);
	note_result(a, err);
	pthread_mutex_lock(&a->lock);
	if (err)
		drop(a);
	else
		atomic_fetch_add(&a->stats->audit_lines, 1);
}

static void wait_for_more(struct audit *a)
{
	struct timespec until;

	if (a->dropped == a->told) {
		pthread_cond_wait(&a->wake, &a->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LOST_EVERY_MS / 1000;
	pthread_cond_timedwait(&a->wake, &a->lock, &until);
}

static void *write_all(void *arg)
{
	struct audit *a = arg;

	pthread_mutex_lock(&a->lock);
	while (true) {
		struct audit_open *o;
		bool lost = a->dropped != a->told;

		if (lost && clock_mono_ms() >= a->tell_ms)
			tell_lost(a);
		o = take(a);
		if (o)
			write_next(a, o);
		else if (a->stopping)
			break;
		else
			wait_for_more(a);
	}
	if (a->dropped != a->told)
		tell_lost(a);
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* ---- life ---- */

int audit_new(const char *where, struct audit **ret, struct error *ret_err)
{
	pthread_condattr_t attr;
	struct audit *a;
	int err;

	*ret = NULL;
	if (!where)
		return 0;
	a = calloc(1, sizeof(*a));
	if (!a || !(a->where = strdup(where))) {
		free(a);
		return error_set(ret_err, ENOMEM, "out of memory");
	}
	err = audit_sink_open(&a->sink, a->where, ret_err);
	if (err) {
		free(a->where);
		free(a);
		return err;
	}
	a->last = &a->first;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->wake, &attr);
	pthread_condattr_destroy(&attr);
	*ret = a;
	return 0;
}

int audit_start(struct audit *a, struct stats *stats)
{
	sigset_t all, old;
	int err;

	if (!a)
		return 0;
	a->stats = stats;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&a->thread, NULL, write_all, a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	a->running = err == 0;
	return -err;
}

int audit_reopen(struct audit *a, struct error *ret_err)
{
	return a ? audit_sink_reopen(&a->sink, ret_err) : 0;
}

void audit_free(struct audit *a)
{
	struct audit_open *o;

	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
	if (a->running)
		pthread_join(a->thread, NULL);
	while ((o = take(a)))
		free(o);
	audit_sink_close(&a->sink);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	free(a->where);
	free(a);
}
