/*
 * Which results of files are not believed at once.
 */
#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "core/resolver_private.h"

static bool has_empty_file(const struct secret_values *v)
{
	for (size_t i = 0; i < secret_values_n_files(v); i++) {
		const struct file_stamp *stamp = &secret_values_file(v, i)->stamp;

		if (stamp->exists && S_ISREG(stamp->mode) && stamp->size == 0)
			return true;
	}
	return false;
}

/* Does it lack what is known, or where nothing is, what was asked for? */
static bool is_worse(const struct secret *s, const struct fetch *f, const struct fetch_result *r)
{
	struct slice value, old;

	if (!s->values)
		return secret_values_count(r->values) < f->n_fields;
	for (size_t i = 0; i < f->n_fields; i++)
		if (secret_values_get(s->values, f->fields[i], &old) &&
		    (!secret_values_get(r->values, f->fields[i], &value) || (old.len && !value.len)))
			return true;
	return false;
}

/*
 * For how long the result of a file is doubted, that is, must be the same without a sign of a change; 0: it
 * is believed. It is doubted where it is worse than what is known, and at first where the file is young: so
 * it looks when a file has just been truncated, or taken away to be made anew. An empty one is doubted as
 * long as a writer is waited for, since ext4 shows the size 0 before it moves the times and inotify tells,
 * and under load for tens of milliseconds.
 */
static int64_t doubt_ms(const struct secret *s, const struct fetch *f, const struct fetch_result *r)
{
	bool young = r->ttl_ms >= 0;

	if (r->err)
		return r->n_files && (s->values || young) ? FILE_STAMP_COARSE_MS : 0;
	if (!secret_values_n_files(r->values) || !is_worse(s, f, r))
		return 0;
	if (has_empty_file(r->values))
		return RESOLVER_WRITING_MS;
	return s->values || young ? FILE_STAMP_COARSE_MS : 0;
}

static bool held_longer(int64_t *since_ms, int64_t now, int64_t limit_ms)
{
	if (!*since_ms)
		*since_ms = now;
	return now - *since_ms >= limit_ms;
}

bool secret_must_hold(struct secret *s, const struct fetch *f, const struct fetch_result *r)
{
	bool overlapped = s->writes != s->writes_before && (!r->err || r->outage);
	int64_t now = clock_mono_ms(), doubt;

	if (!s->resolver->watcher)
		return false;
	if (s->writing_ms && (!r->err || r->outage)) {
		s->doubts = 0;
		return true;
	}
	doubt = doubt_ms(s, f, r);
	if (!doubt)
		s->doubted_ms = 0;
	else if (!held_longer(&s->doubted_ms, now, doubt) || now - s->event_ms < doubt || overlapped ||
	         r->ttl_ms >= 0) {
		s->doubts++;
		s->writing_ms = now + FILE_STAMP_COARSE_MS;
		return true;
	}
	s->doubts = 0;
	if (overlapped && !held_longer(&s->held_ms, now, RESOLVER_WRITING_MS)) {
		s->writing_ms = now + FILE_STAMP_COARSE_MS;
		return true;
	}
	s->doubted_ms = s->held_ms = 0;
	return false;
}
