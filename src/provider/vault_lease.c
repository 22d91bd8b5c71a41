/*
 * Leases: one timer each, which is armed for whatever comes first.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "base/strmap.h"
#include "provider/vault.h"

enum {
	STATE_MAX = 8192, LEASE_ID_MAX = 4096,
	ROUNDING_MS = 1000,
	MOVED_MS = 20, /* less is the rounding of clocks that are read one after another */
};

struct lease {
	struct list node;          /* vault_leases.all */
	struct vault_leases *l;
	struct slice id;           /* the secret's; owned */
	char *lease_id;            /* secret memory; NULL: an end and nothing to renew */
	struct vault_token *token; /* a reference; NULL: none */
	int64_t end_ms;            /* its own; monotonic */
	int64_t life_ms;           /* what a renewal should bring */
	int64_t margin_ms;         /* before its end it is replaced */
	bool renewable;            /* and renewal still extends it */
	bool retired;              /* another has taken its place, or nobody has use of it */
	bool fresh;                /* adopted, and the resolver doesn't know yet when to replace it */
	int64_t renew_at, lookup_at, drop_at; /* monotonic; INT64_MAX: never */
	int64_t backoff_ms;
	int64_t told_ms, told_replace_ms;     /* monotonic: what the resolver knows */
	struct loop_timer *timer;
	struct vault_request *request;
	bool renewing;             /* of request: else a look-up, or a revocation */
	struct vault_verdict *verdict;
	struct buf state;
};

struct vault_leases {
	struct vault *v;
	struct list all;
	struct strmap *by_id;      /* those that are not retired */
	bool forbidden;            /* this token may not look leases up: */
	char forbidden_name[32];
	unsigned long renewals, failures;
};

static void on_timer(void *arg);
static void arm(struct lease *s);

static int64_t after(int64_t ms)
{
	int64_t now = clock_mono_ms();

	return ms > INT64_MAX - now ? INT64_MAX : now + ms;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How long before the end of a lease it is replaced: servers count in seconds, so not less than one of a short one. */
static int64_t margin(int64_t life_ms)
{
	int64_t m = life_ms / 100 * VAULT_REPLACE_PERCENT, least = earlier(ROUNDING_MS, life_ms / 3);

	return earlier(m > least ? m : least, VAULT_REPLACE_MAX_MS);
}

/* ---- one lease ---- */

static void stop_request(struct lease *s)
{
	vault_request_cancel(s->request);
	s->request = NULL;
	vault_verdict_cancel(s->verdict);
	s->verdict = NULL;
}

static void lease_free(struct lease *s)
{
	list_remove(&s->node);
	stop_request(s);
	loop_timer_free(s->timer);
	vault_token_unref(s->token);
	secmem_free(s->lease_id);
	buf_free(&s->state);
	free((char *)s->id.data);
	free(s);
}

static struct lease *lease_new(struct vault_leases *l, struct slice id, struct slice lease_id, int64_t left_ms,
                               int64_t life_ms, struct vault_token *token)
{
	struct lease *s = calloc(1, sizeof(*s));
	char *copy = malloc(id.len + 1);

	if (!s || !copy || !(s->timer = loop_timer_new(l->v->env->loop, on_timer, s)) ||
	    (lease_id.len > 0 && !(s->lease_id = secmem_strdup(lease_id)))) {
		if (s)
			loop_timer_free(s->timer);
		free(s);
		free(copy);
		return NULL;
	}
	if (id.len > 0)
		memcpy(copy, id.data, id.len);
	s->l = l;
	s->id = slice_of(copy, id.len);
	s->token = vault_token_ref(token);
	s->end_ms = after(left_ms);
	s->life_ms = life_ms;
	s->margin_ms = margin(life_ms);
	s->renew_at = s->lookup_at = s->drop_at = INT64_MAX;
	buf_init_secret(&s->state, STATE_MAX);
	list_append(&l->all, &s->node);
	return s;
}

static int64_t token_end(const struct lease *s)
{
	return after(vault_token_left_ms(s->token));
}

/* With its token it ends, whatever the server granted. */
static int64_t lease_end(const struct lease *s)
{
	return earlier(s->end_ms, token_end(s));
}

/* Not before it is known that it will end. */
static int64_t replace_at(const struct lease *s)
{
	int64_t at = s->renewable ? INT64_MAX : s->end_ms - s->margin_ms;
	int64_t token = token_end(s);

	/* As long as there is no other token, another lease would end with this one as well. */
	if (token != INT64_MAX && !vault_token_is_current(s->token))
		at = earlier(at, token - s->margin_ms);
	return at;
}

static int64_t ms_until(int64_t at)
{
	int64_t now = clock_mono_ms();

	return at == INT64_MAX ? INT64_MAX : at > now ? at - now : 0;
}

static int make_state(struct lease *s)
{
	struct slice name = vault_token_name(s->token);

	buf_reset(&s->state);
	(void)buf_addf(&s->state, "1 %d %" PRId64 " %.*s\n", s->renewable, s->life_ms,
	               name.len > 0 ? (int)name.len : 1, name.len > 0 ? name.data : "-");
	return buf_add_str(&s->state, s->lease_id ? s->lease_id : "");
}

static bool is_same(int64_t a, int64_t b)
{
	return a > b ? a - b < MOVED_MS : b - a < MOVED_MS;
}

/* Tells the resolver, if it makes a difference. May bring calls of ours. */
static void tell_moved(struct lease *s)
{
	const struct provider_env *env = s->l->v->env;
	int64_t end = lease_end(s), replace = replace_at(s);

	if (s->retired || !env->host || (is_same(end, s->told_ms) && is_same(replace, s->told_replace_ms)) ||
	    make_state(s) < 0)
		return;
	s->told_ms = end;
	s->told_replace_ms = replace;
	s->fresh = false;
	if (ms_until(end) > 0)
		env->host->lease(env->host_arg, s->id, ms_until(end), ms_until(replace), buf_slice(&s->state), NULL);
}

/* It ended before its time. Frees s; the resolver may fetch another, and release this one, before this returns. */
static void lease_gone(struct lease *s, const char *why)
{
	const struct provider_env *env = s->l->v->env;
	struct slice id = s->id;
	bool told = !s->retired && env->host;

	if (!s->retired)
		(void)strmap_del(s->l->by_id, s->id);
	s->id = slice_of(NULL, 0);
	lease_free(s);
	if (told)
		env->host->lease(env->host_arg, id, 0, 0, slice_of(NULL, 0), why);
	free((char *)id.data);
}

/* ---- requests ---- */

static void lease_final(struct lease *s)
{
	s->renewable = false;
	s->renew_at = INT64_MAX;
}

static bool is_gone(const struct vault_reply *reply)
{
	return vault_reply_says(reply, "lease not found") || vault_reply_says(reply, "invalid lease") ||
	       vault_reply_says(reply, "lease expired");
}

/* A request about it was refused, and the token lives: so it may not ask. */
static void refused(struct lease *s)
{
	struct slice name = vault_token_name(s->token);

	if (s->renewing) {
		lease_final(s);
		vault_tell(s->l->v, PROVIDER_WARNING, "%.*s: the lease may not be renewed (sys/leases/renew is refused)",
		           SLICE_FMT(s->id));
	} else {
		s->l->forbidden = true;
		(void)snprintf(s->l->forbidden_name, sizeof(s->l->forbidden_name), "%.*s", SLICE_FMT(name));
		s->lookup_at = INT64_MAX;
	}
	arm(s);
	tell_moved(s);
}

static void on_verdict(void *arg, bool dead)
{
	struct lease *s = arg;

	s->verdict = NULL;
	if (!dead) {
		refused(s);
		return;
	}
	/* A dead one's leases are gone by now, without this call; so nobody knows yet. */
	if (s->renewing)
		s->renew_at = after(vault_backoff(&s->backoff_ms));
	arm(s);
}

static void judge(struct lease *s, const struct vault_reply *reply)
{
	bool invalid = vault_says_dead(reply);

	if (!s->token) {
		refused(s);
		return;
	}
	if (invalid) {
		/* It ends with the token, before that call returns: nothing of s is used after it. */
		vault_auth_condemn(s->l->v->auth, s->token);
		return;
	}
	if (vault_auth_judge(s->l->v->auth, s->token, false, on_verdict, s, &s->verdict) < 0) {
		s->renew_at = s->renewing ? after(vault_backoff(&s->backoff_ms)) : s->renew_at;
		arm(s);
	}
}

static void take_grant(struct lease *s, const struct vault_reply *reply)
{
	int64_t granted = reply->lease_s < INT64_MAX / 1000 ? reply->lease_s * 1000 : INT64_MAX / 2;
	int64_t asked = s->l->v->settings.increment_s, should = s->life_ms;

	if (asked > 0 && asked < should / 1000)
		should = asked * 1000;
	s->l->renewals++;
	s->backoff_ms = 0;
	s->end_ms = after(granted);
	/* Once the server cuts what it grants, its end is known. */
	if (!reply->renewable || granted < should / 100 * VAULT_SHRINK_PERCENT || granted == 0) {
		lease_final(s);
	} else {
		s->life_ms = granted;
		s->margin_ms = margin(granted);
		s->renew_at = after(vault_renew_in(granted));
	}
}

static void on_renewed(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct lease *s = arg;

	s->request = NULL;
	if (!r->err && r->status == 200) {
		vault_auth_proved(s->l->v->auth, s->token);
		take_grant(s, reply);
	} else {
		s->l->failures++;
		if (!r->err && r->status == 403) {
			judge(s, reply);
			return;
		}
		if (!r->err && !vault_is_outage(r, reply)) {
			if (is_gone(reply)) {
				lease_gone(s, "the server knows the lease no more: it has been revoked");
				return;
			}
			lease_final(s); /* "lease is not renewable" */
		} else {
			s->renew_at = after(vault_backoff(&s->backoff_ms));
		}
	}
	arm(s);
	tell_moved(s);
}

static void on_looked(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct lease *s = arg;
	int64_t ttl;

	s->request = NULL;
	if (!r->err && r->status == 200) {
		vault_auth_proved(s->l->v->auth, s->token);
		/* Somebody has cut it short; a second is the answer's rounding. */
		if (vault_reply_number(reply, "ttl", &ttl) && ttl >= 0 && ttl < INT64_MAX / 2000 &&
		    (ttl + 2) * 1000 < ms_until(s->end_ms))
			s->end_ms = after(ttl * 1000);
	} else if (!r->err && r->status == 403) {
		judge(s, reply);
		return;
	} else if (!r->err && !vault_is_outage(r, reply) && is_gone(reply)) {
		lease_gone(s, "the server knows the lease no more: it has been revoked");
		return;
	}
	arm(s);
	tell_moved(s);
}

static void on_revoked(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct lease *s = arg;

	s->request = NULL;
	if (r->err || (r->status >= 400 && !is_gone(reply)))
		vault_tell(s->l->v, PROVIDER_WARNING, "%.*s: a lease could not be revoked, and ends by itself",
		           SLICE_FMT(s->id));
	lease_free(s);
}

static bool ask(struct lease *s, const char *path, int64_t increment_s, vault_done *done)
{
	struct buf body;

	buf_init_secret(&body, LEASE_ID_MAX * 7);
	(void)vault_body_add(&body, "lease_id", slice_str(s->lease_id));
	if (increment_s > 0)
		(void)buf_addf(&body, ",\"increment\":%" PRId64, increment_s);
	if (vault_body_end(&body) == 0)
		s->request = vault_request_start(s->l->v, "PUT", path, buf_slice(&body), vault_token_id(s->token), false,
		                                 VAULT_REQUEST_MS, done, s);
	buf_free(&body);
	return s->request != NULL;
}

/* ---- the timer ---- */

static int64_t next_lookup(const struct lease *s)
{
	struct slice name = vault_token_name(s->token);

	if (!s->lease_id || s->retired || (s->l->forbidden && slice_eq_str(name, s->l->forbidden_name)))
		return INT64_MAX;
	return after(vault_times.lookup_ms - (vault_times.lookup_ms >= 10 ? random() % (vault_times.lookup_ms / 10) : 0));
}

static void arm(struct lease *s)
{
	int64_t at = s->retired ? s->drop_at : lease_end(s);

	if (!s->retired && !s->request && !s->verdict)
		at = earlier(at, earlier(s->renew_at, s->lookup_at));
	if (s->fresh)
		at = 0;
	if (at == INT64_MAX)
		loop_timer_stop(s->timer);
	else
		loop_timer_set(s->timer, ms_until(at));
}

static void retired_due(struct lease *s)
{
	if (s->request)
		return;
	if (s->l->v->settings.revoke && s->lease_id && ms_until(lease_end(s)) > 0 &&
	    ask(s, "/v1/sys/leases/revoke", 0, on_revoked))
		return;
	lease_free(s);
}

static void on_timer(void *arg)
{
	struct lease *s = arg;
	int64_t now = clock_mono_ms();

	if (s->retired) {
		retired_due(s);
		return;
	}
	if (s->fresh) {
		s->fresh = false;
		arm(s);
		tell_moved(s);
		return;
	}
	if (lease_end(s) <= now) {
		/* The resolver knows the time as well. */
		(void)strmap_del(s->l->by_id, s->id);
		lease_free(s);
		return;
	}
	if (!s->request && !s->verdict && s->renew_at <= now) {
		s->renewing = true;
		if (!ask(s, "/v1/sys/leases/renew",
		         s->l->v->settings.increment_s > 0 ? s->l->v->settings.increment_s : (s->life_ms + 999) / 1000, on_renewed))
			s->renew_at = after(vault_backoff(&s->backoff_ms));
	} else if (!s->request && !s->verdict && s->lookup_at <= now) {
		s->lookup_at = next_lookup(s);
		s->renewing = false;
		if (s->lookup_at != INT64_MAX)
			(void)ask(s, "/v1/sys/leases/lookup", 0, on_looked);
	}
	arm(s);
}

/* ---- from outside ---- */

/* Its values may be in use yet, by connectors that restart. */
static void retire(struct lease *s)
{
	(void)strmap_del(s->l->by_id, s->id);
	if (!s->lease_id) {
		lease_free(s);
		return;
	}
	stop_request(s);
	s->retired = true;
	s->fresh = false;
	s->drop_at = after(vault_times.revoke_ms);
	/* Past its end there is nothing to revoke, and no need of the token. */
	if (lease_end(s) < s->drop_at)
		s->drop_at = lease_end(s);
	arm(s);
}

static int lease_put(struct lease *s)
{
	struct lease *old = strmap_get(s->l->by_id, s->id);

	if (old)
		retire(old);
	return strmap_put(s->l->by_id, s->id, s, NULL);
}

int vault_lease_begin(struct vault_leases *l, struct slice id, struct slice lease_id, int64_t lease_ms, bool renewable,
                      struct vault_token *token, int64_t *ret_lease_ms, int64_t *ret_replace_ms,
                      struct slice *ret_state)
{
	struct lease *s;

	if (lease_ms < 0)
		lease_ms = 0;
	s = lease_id.len > LEASE_ID_MAX ? NULL : lease_new(l, id, lease_id, lease_ms, lease_ms, token);
	if (!s)
		return -ENOMEM;
	s->renewable = renewable && lease_id.len > 0 && lease_ms > 0;
	if (s->renewable)
		s->renew_at = after(vault_renew_in(lease_ms));
	s->lookup_at = next_lookup(s);
	if (make_state(s) < 0 || lease_put(s) < 0) {
		lease_free(s);
		return -ENOMEM;
	}
	s->told_ms = lease_end(s);
	s->told_replace_ms = replace_at(s);
	*ret_lease_ms = ms_until(s->told_ms);
	*ret_replace_ms = ms_until(s->told_replace_ms);
	*ret_state = buf_slice(&s->state);
	arm(s);
	return 0;
}

int vault_lease_adopt(struct vault_leases *l, struct slice id, struct slice state, int64_t lease_ms)
{
	char *text = state.len < STATE_MAX ? secmem_strdup(state) : NULL, token[32];
	struct vault_token *t = NULL;
	struct lease *s = NULL;
	int renewable, len = 0, r = -EINVAL;
	int64_t life_ms;

	if (!text)
		return state.len < STATE_MAX ? -ENOMEM : -EINVAL;
	if (sscanf(text, "1 %d %" SCNd64 " %31s%n", &renewable, &life_ms, token, &len) != 3 || text[len] != '\n' ||
	    life_ms < 0 || lease_ms <= 0)
		goto out;
	r = -ENOENT;
	if (strcmp(token, "-") != 0 && !(t = vault_auth_find(l->v->auth, slice_str(token))))
		goto out;
	r = -ENOMEM;
	s = lease_new(l, id, slice_str(text + len + 1), lease_ms, life_ms, t);
	if (!s)
		goto out;
	s->renewable = renewable && s->lease_id;
	if (s->renewable) /* as if the predecessor still did it */
		s->renew_at = after(lease_ms > life_ms / 3 ? vault_renew_in(lease_ms - life_ms / 3) : 0);
	s->lookup_at = next_lookup(s);
	s->fresh = true;
	s->told_ms = s->told_replace_ms = -1;
	if (lease_put(s) < 0) {
		lease_free(s);
		goto out;
	}
	arm(s);
	r = 0;
out:
	vault_token_unref(t);
	secmem_free(text);
	return r;
}

void vault_lease_release(struct vault_leases *l, struct slice id)
{
	struct lease *s = strmap_get(l->by_id, id);

	if (s)
		retire(s);
}

static struct lease *first_of(struct vault_leases *l, const struct vault_token *t)
{
	for (struct list *n = l->all.next; n != &l->all; n = n->next) {
		struct lease *s = list_entry(n, struct lease, node);

		if (s->token == t)
			return s;
	}
	return NULL;
}

/* What the resolver is told may change the list: so each is marked before, and looked for anew. */
static void tell_all(struct vault_leases *l, const struct vault_token *t)
{
	struct list later, *n;

	list_init(&later);
	list_splice(&later, &l->all);
	while ((n = later.next) != &later) {
		struct lease *s = list_entry(n, struct lease, node);

		list_remove(n);
		list_append(&l->all, n);
		if (s->token != t)
			continue;
		if (s->retired && lease_end(s) < s->drop_at)
			s->drop_at = lease_end(s);
		arm(s);
		tell_moved(s);
	}
}

void vault_leases_token_moved(struct vault_leases *l, struct vault_token *t)
{
	struct lease *s;

	if (!vault_token_is_dead(t)) {
		tell_all(l, t);
		return;
	}
	while ((s = first_of(l, t)))
		lease_gone(s, "the token that it was made with has ended");
}

size_t vault_leases_count(const struct vault_leases *l)
{
	return strmap_len(l->by_id);
}

void vault_leases_counters(const struct vault_leases *l, unsigned long *ret_renewals, unsigned long *ret_failures)
{
	*ret_renewals = l->renewals;
	*ret_failures = l->failures;
}

int vault_leases_new(struct vault *v, struct vault_leases **ret)
{
	struct vault_leases *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->v = v;
	list_init(&l->all);
	l->by_id = strmap_new();
	if (!l->by_id) {
		free(l);
		return -ENOMEM;
	}
	*ret = l;
	return 0;
}

void vault_leases_free(struct vault_leases *l)
{
	if (!l)
		return;
	while (!list_empty(&l->all))
		lease_free(list_entry(l->all.next, struct lease, node));
	strmap_free(l->by_id, NULL);
	free(l);
}
