/*
 * The token: who waits for one, how it is kept alive, and what a 403 says of it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "provider/vault.h"
#include "provider/vault_login.h"

enum {
	RESTORE_MS = 1000,      /* by then the leases of a predecessor have been adopted: tokens without one are dropped */
	RECORD_MAX = VAULT_CREDENTIAL_MAX * 2 + 256,
};

struct vault_token {
	struct list node;       /* vault_auth.tokens */
	struct vault_auth *auth;
	unsigned refs;
	unsigned long number;
	char name[32];
	char *id;
	struct vault_token_facts facts;
	int64_t end_ms;         /* monotonic; INT64_MAX: none */
	bool dead;
	bool final;             /* renewal doesn't extend it */
	bool asked;             /* its end is near: a login is to bring another */
	bool proved;            /* a request with it has succeeded */
	bool restored;          /* one reference is for who may adopt leases */
	int64_t doubt_ms;       /* since when requests are refused for a reason that can't be told; 0: they aren't */
	int64_t backoff_ms;
	struct loop_timer *timer;
	struct vault_request *renewal, *question;
	struct list verdicts;   /* who waits for the question */
};

struct vault_auth_wait {
	struct list node;       /* vault_auth.waits or .ready, or that of a delivery */
	void (*done)(void *arg, int err, const char *text, struct vault_token *t);
	void *arg;
};

struct vault_verdict {
	struct list node;       /* vault_token.verdicts or vault_auth.judged, or that of a delivery */
	void (*verdict)(void *arg, bool dead);
	void *arg;
	bool dead;
};

struct vault_auth {
	struct vault *v;
	struct list tokens, waits, ready, judged;
	struct vault_token *current; /* holds a reference; never a dead one */
	unsigned long next_number;
	struct vault_login *login;
	struct vault_material material;
	struct loop_timer *retry, *flush, *restore;
	int64_t retry_at_ms, backoff_ms;
	int64_t forbidden_ms;   /* the last login that a 403 caused; 0: none */
	bool again;             /* a file has changed since the login under way began */
	bool closing;
	bool watching;
	struct watch *watches[VAULT_LOGIN_FILES];
	struct pool_job *removal;
	struct error error;     /* of the last login; code 0: it succeeded */
	int64_t error_ns, login_ns;
	unsigned long logins, login_failures, renewals, renewal_failures;
	void (*moved)(void *arg, struct vault_token *t);
	void *moved_arg;
};

static void login_start(struct vault_auth *a);
static void token_arm(struct vault_token *t);

/* ---- tokens ---- */

static void keep(struct vault_auth *a, const char *name, struct slice data)
{
	const struct provider_env *env = a->v->env;

	/* What can't be kept is asked for anew by a successor. */
	if (env->host && !a->closing)
		(void)env->host->keep(env->host_arg, slice_str(name), data);
}

static int64_t token_end_real_ns(const struct vault_token *t)
{
	int64_t left = vault_token_left_ms(t);

	return left > INT64_MAX / 4000000 ? 0 : clock_real_ns() + left * 1000000;
}

static void token_store(struct vault_token *t)
{
	const struct vault_token_facts *f = &t->facts;
	struct buf b;

	if (!t->auth->v->env->host || t->dead)
		return;
	buf_init_secret(&b, RECORD_MAX);
	(void)buf_addf(&b, "1 %d %" PRId64 " %" PRId64 " %d %d %d %d %d\n", t == t->auth->current, token_end_real_ns(t),
	               f->life_ms, f->renewable, f->batch, f->looked, f->detailed, t->final);
	if (buf_add_str(&b, t->id) == 0)
		keep(t->auth, t->name, buf_slice(&b));
	buf_free(&b);
}

static void token_free(struct vault_token *t)
{
	list_remove(&t->node);
	keep(t->auth, t->name, slice_of(NULL, 0));
	vault_request_cancel(t->renewal);
	vault_request_cancel(t->question);
	loop_timer_free(t->timer);
	secmem_free(t->id);
	free(t);
}

struct vault_token *vault_token_ref(struct vault_token *t)
{
	if (t)
		t->refs++;
	return t;
}

void vault_token_unref(struct vault_token *t)
{
	if (t && --t->refs == 0)
		token_free(t);
}

struct slice vault_token_id(const struct vault_token *t)
{
	return slice_str(t ? t->id : NULL);
}

struct slice vault_token_name(const struct vault_token *t)
{
	return slice_str(t ? t->name : NULL);
}

int64_t vault_token_left_ms(const struct vault_token *t)
{
	int64_t left;

	if (!t || (!t->dead && t->end_ms == INT64_MAX))
		return INT64_MAX;
	left = t->end_ms - clock_mono_ms();
	return t->dead || left < 0 ? 0 : left;
}

bool vault_token_is_dead(const struct vault_token *t)
{
	return t && t->dead;
}

bool vault_token_is_current(const struct vault_token *t)
{
	return !t || t == t->auth->current;
}

bool vault_token_is_final(const struct vault_token *t)
{
	return t && (t->final || !t->facts.renewable);
}

static void on_token_timer(void *arg);

static void token_set_end(struct vault_token *t, int64_t left_ms)
{
	int64_t now = clock_mono_ms();

	t->end_ms = left_ms > INT64_MAX - now ? INT64_MAX : now + left_ms;
}

/* With one reference, the caller's. */
static struct vault_token *token_new(struct vault_auth *a, unsigned long number, struct slice id,
                                     const struct vault_token_facts *facts)
{
	struct vault_token *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->timer = loop_timer_new(a->v->env->loop, on_token_timer, t);
	t->id = secmem_strdup(id);
	if (!t->timer || !t->id) {
		loop_timer_free(t->timer);
		secmem_free(t->id);
		free(t);
		return NULL;
	}
	t->auth = a;
	t->refs = 1;
	t->number = number;
	(void)snprintf(t->name, sizeof(t->name), "token:%lu", number);
	t->facts = *facts;
	if (t->facts.batch)
		t->facts.renewable = false;
	token_set_end(t, facts->left_ms);
	list_init(&t->verdicts);
	list_append(&a->tokens, &t->node);
	return t;
}

static void token_moved(struct vault_token *t)
{
	if (t->auth->moved)
		t->auth->moved(t->auth->moved_arg, t);
}

/* ---- who waits ---- */

/* To all of from: the token, or why there is none; who comes meanwhile waits for the next time. */
static void deliver(struct vault_auth *a, struct list *from)
{
	struct list now;

	list_init(&now);
	list_splice(&now, from);
	while (!list_empty(&now)) {
		struct vault_auth_wait *w = list_entry(now.next, struct vault_auth_wait, node);

		list_remove(&w->node);
		if (a->current) {
			w->done(w->arg, 0, NULL, vault_token_ref(a->current));
		} else if (a->error.code) {
			w->done(w->arg, a->error.code, a->error.text, NULL);
		} else {
			list_append(&a->waits, &w->node);
			continue;
		}
		free(w);
	}
}

static void deliver_verdicts(struct vault_auth *a)
{
	struct list now;

	list_init(&now);
	list_splice(&now, &a->judged);
	while (!list_empty(&now)) {
		struct vault_verdict *w = list_entry(now.next, struct vault_verdict, node);

		list_remove(&w->node);
		w->verdict(w->arg, w->dead);
		free(w);
	}
}

static void on_flush(void *arg)
{
	struct vault_auth *a = arg;

	deliver_verdicts(a);
	deliver(a, &a->ready);
	if (!list_empty(&a->waits) && !a->login && !a->current)
		login_start(a);
}

/* The token, if there is one that can be used. */
static bool has_token(struct vault_auth *a)
{
	return a->current && vault_token_left_ms(a->current) > 0;
}

int vault_auth_need(struct vault_auth *a, void (*done)(void *arg, int err, const char *text, struct vault_token *t),
                    void *arg, struct vault_token **ret, struct vault_auth_wait **ret_wait)
{
	struct vault_auth_wait *w;

	if (a->v->settings.auth == VAULT_AUTH_NONE || has_token(a)) {
		*ret = vault_token_ref(a->current);
		return 0;
	}
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	*w = (struct vault_auth_wait){ .done = done, .arg = arg };
	if (!a->login && a->error.code && clock_mono_ms() < a->retry_at_ms) {
		list_append(&a->ready, &w->node);
		loop_timer_set(a->flush, 0);
	} else {
		list_append(&a->waits, &w->node);
		if (!a->login)
			login_start(a);
	}
	*ret_wait = w;
	return 1;
}

void vault_auth_wait_cancel(struct vault_auth_wait *w)
{
	if (!w)
		return;
	list_remove(&w->node);
	free(w);
}

/* ---- the end of a token ---- */

/* All that asked get an answer when the loop runs. */
static void judge_all(struct vault_token *t, bool dead)
{
	for (struct list *n = t->verdicts.next; n != &t->verdicts; n = n->next)
		list_entry(n, struct vault_verdict, node)->dead = dead;
	if (!list_empty(&t->verdicts)) {
		list_splice(&t->auth->judged, &t->verdicts);
		loop_timer_set(t->auth->flush, 0);
	}
}

static void set_failure(struct vault_auth *a, int err, const char *text, int64_t wait_ms)
{
	bool first = a->error.code == 0;

	(void)error_set(&a->error, err, "%s", text);
	if (first)
		a->error_ns = clock_real_ns();
	a->retry_at_ms = clock_mono_ms() + wait_ms;
	loop_timer_set(a->retry, wait_ms);
	if (first)
		vault_tell(a->v, PROVIDER_WARNING, "no login: %s", a->error.text);
}

/* A 403 told so: then logins are rare, as it may be the login that is refused its rights. */
static void log_in_anew(struct vault_auth *a, bool forbidden)
{
	int64_t now = clock_mono_ms();

	if (a->login)
		return;
	if (forbidden && a->forbidden_ms && now - a->forbidden_ms < vault_times.forbidden_ms) {
		/* The one that comes then counts as caused by it. */
		a->forbidden_ms += vault_times.forbidden_ms;
		set_failure(a, EKEYREJECTED, "the server has refused a token that was less than a minute old",
		            a->forbidden_ms - now);
		return;
	}
	if (forbidden)
		a->forbidden_ms = now;
	if (!a->error.code || now >= a->retry_at_ms)
		login_start(a);
}

static void token_dies(struct vault_token *t, bool forbidden)
{
	struct vault_auth *a = t->auth;
	bool current = t == a->current;

	if (t->dead)
		return;
	(void)vault_token_ref(t);
	t->dead = true;
	loop_timer_stop(t->timer);
	vault_request_cancel(t->renewal);
	vault_request_cancel(t->question);
	t->renewal = t->question = NULL;
	keep(a, t->name, slice_of(NULL, 0));
	judge_all(t, true);
	if (current) {
		a->current = NULL;
		vault_token_unref(t);
		log_in_anew(a, forbidden);
	}
	token_moved(t);
	vault_token_unref(t);
}

/* ---- renewal ---- */

/* It will end: another is wanted, and is had in good time or not at all. */
static void ask_for_another(struct vault_token *t)
{
	struct vault_auth *a = t->auth;

	if (t != a->current || t->asked)
		return;
	t->asked = true;
	if (a->v->settings.auth == VAULT_AUTH_TOKEN)
		vault_tell(a->v, PROVIDER_WARNING, "the token of %s ends in %" PRId64 " s and can't be extended: a new one is "
		           "needed", vault_login_source(&a->v->settings), vault_token_left_ms(t) / 1000);
	log_in_anew(a, false);
}

static void token_finalize(struct vault_token *t)
{
	t->final = true;
	/* A lease of a predecessor's, or the last third of a file's token: waits until it is time. */
	if (t->auth->v->settings.auth != VAULT_AUTH_TOKEN)
		ask_for_another(t);
}

/* After an outage; not beyond its end. */
static void renew_later(struct vault_token *t)
{
	int64_t wait = vault_backoff(&t->backoff_ms), left = vault_token_left_ms(t);

	loop_timer_set(t->timer, wait < left ? wait : left);
}

static bool question(struct vault_token *t);

static void on_renewed(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct vault_token *t = arg;
	struct vault_auth *a = t->auth;
	int64_t granted;

	t->renewal = NULL;
	(void)vault_token_ref(t);
	if (r->err || vault_is_outage(r, reply)) {
		a->renewal_failures++;
		renew_later(t);
	} else if (r->status != 200 || !reply->has_auth) {
		a->renewal_failures++;
		if (vault_says_dead(reply)) {
			token_dies(t, true);
		} else {
			if (r->status == 403)
				(void)question(t); /* it may be dead, and its leases with it */
			token_finalize(t);
			token_arm(t);
		}
	} else {
		a->renewals++;
		t->backoff_ms = 0;
		t->proved = true;
		granted = reply->auth.lease_s > 0 && reply->auth.lease_s < INT64_MAX / 1000 ? reply->auth.lease_s * 1000 : 0;
		token_set_end(t, granted ? granted : INT64_MAX);
		if (!reply->auth.renewable && granted)
			t->facts.renewable = false;
		if (granted && t->facts.life_ms && granted < t->facts.life_ms / 100 * VAULT_SHRINK_PERCENT)
			token_finalize(t);
		else
			t->facts.life_ms = granted;
		token_store(t);
		token_arm(t);
		token_moved(t);
	}
	vault_token_unref(t);
}

static void renew(struct vault_token *t)
{
	struct buf body;

	buf_init(&body, 128);
	if (t->facts.life_ms > 0)
		(void)buf_addf(&body, "{\"increment\":%" PRId64 "}", (t->facts.life_ms + 999) / 1000);
	if (!body.err)
		t->renewal = vault_request_start(t->auth->v, "POST", "/v1/auth/token/renew-self", buf_slice(&body),
		                                 slice_str(t->id), false, VAULT_REQUEST_MS, on_renewed, t);
	buf_free(&body);
	if (!t->renewal)
		renew_later(t);
}

/* The next thing to do for it: a renewal, the search for another, its end. No request that hangs hides the end. */
static void token_arm(struct vault_token *t)
{
	int64_t left = vault_token_left_ms(t), third;

	if (t->dead || left == INT64_MAX) {
		loop_timer_stop(t->timer);
		return;
	}
	third = t->facts.life_ms > 0 ? t->facts.life_ms / 3 : left / 3;
	if (!vault_token_is_final(t))
		loop_timer_set(t->timer, t->renewal ? left : vault_renew_in(left));
	else if (t == t->auth->current && !t->asked)
		loop_timer_set(t->timer, left > third ? left - third : 0);
	else
		loop_timer_set(t->timer, left);
}

static void on_token_timer(void *arg)
{
	struct vault_token *t = arg;

	if (vault_token_left_ms(t) <= 0) {
		token_dies(t, false);
		return;
	}
	(void)vault_token_ref(t);
	if (vault_token_is_final(t)) {
		ask_for_another(t);
		token_arm(t);
	} else if (!t->renewal) {
		renew(t);
		if (t->renewal)
			token_arm(t);
	}
	vault_token_unref(t);
}

/* ---- login ---- */

static void stop_watching(struct vault_auth *a)
{
	for (unsigned i = 0; i < VAULT_LOGIN_FILES; i++) {
		watch_free(a->watches[i]);
		a->watches[i] = NULL;
	}
}

/* Of a login that works only the token's file is of interest: all else is read at the next login. */
static void on_file(unsigned events, const char *name, void *arg)
{
	struct vault_auth *a = arg;

	(void)name;
	if (!(events & (WATCH_CHANGED | WATCH_OVERFLOW)))
		return;
	if (a->login)
		a->again = true;
	else if ((a->error.code && !a->current) || a->v->settings.auth == VAULT_AUTH_TOKEN ||
	         (a->current && a->current->asked))
		login_start(a);
}

static void start_watching(struct vault_auth *a)
{
	const struct vault_source *src[VAULT_LOGIN_FILES];
	unsigned n = vault_login_files(&a->v->settings, src);

	if (a->watching || !a->v->env->watcher)
		return;
	a->watching = true;
	for (unsigned i = 0; i < n; i++)
		if (src[i]->file)
			a->watches[i] = watch_file(a->v->env->watcher, src[i]->file, NULL, on_file, a);
}

static void material_store(struct vault_auth *a)
{
	struct buf b;

	if (!a->material.moved)
		return;
	a->material.moved = false;
	buf_init_secret(&b, RECORD_MAX);
	(void)buf_add_str(&b, a->material.wrapping ? a->material.wrapping : "");
	(void)buf_add_char(&b, '\n');
	if (buf_add_str(&b, a->material.secret_id ? a->material.secret_id : "") == 0)
		keep(a, "secret-id", buf_slice(&b));
	buf_free(&b);
}

static void login_succeeded(struct vault_auth *a, struct vault_token *t)
{
	struct vault_token *old = a->current;
	bool failed = a->error.code != 0;

	a->current = t;
	if (t) {
		a->logins++;
		a->login_ns = clock_real_ns();
		token_store(t);
		token_arm(t);
		if (t->facts.num_uses > 0)
			vault_tell(a->v, PROVIDER_WARNING, "the token can be used %" PRId64 " times only: each request takes one",
			           t->facts.num_uses);
		if (a->v->env->host) /* else nobody would have it after this command */
			vault_login_remove_secret_id(a->v, &a->removal);
	} else {
		a->current = old; /* the same as before */
		old = NULL;
	}
	a->error.code = 0;
	a->error_ns = 0;
	a->backoff_ms = 0;
	loop_timer_stop(a->retry);
	deliver(a, &a->waits);
	if (failed) {
		vault_tell(a->v, PROVIDER_INFO, "the login works again");
		if (a->v->env->host)
			a->v->env->host->healed(a->v->env->host_arg);
	}
	if (old) {
		if (old->refs > 1)
			token_store(old); /* no longer the current one */
		token_moved(old);
		vault_token_unref(old);
	}
}

static void login_failed(struct vault_auth *a, int err, const char *text)
{
	a->login_failures++;
	set_failure(a, err, text, a->again ? 0 : vault_backoff(&a->backoff_ms));
	a->again = false;
	if (!a->current)
		deliver(a, &a->waits);
}

static void on_login(void *arg, const struct vault_login_result *r)
{
	struct vault_auth *a = arg;
	struct vault_token *t = NULL;

	a->login = NULL;
	material_store(a);
	if (r->err) {
		login_failed(a, r->err, r->text);
		return;
	}
	if (!r->same && r->facts.left_ms <= 0) {
		login_failed(a, EKEYEXPIRED, "login: the server gave a token that has ended already");
		return;
	}
	if (!r->same && !(t = token_new(a, a->next_number, r->token, &r->facts))) {
		login_failed(a, ENOMEM, "login: out of memory");
		return;
	}
	if (t)
		a->next_number++;
	login_succeeded(a, t);
	if (a->again && !a->login) {
		a->again = false;
		if (a->v->settings.auth == VAULT_AUTH_TOKEN)
			login_start(a);
	}
}

static void login_start(struct vault_auth *a)
{
	start_watching(a);
	a->again = false;
	loop_timer_stop(a->retry);
	a->login = vault_login_start(a->v, &a->material, has_token(a) ? slice_str(a->current->id) : slice_of(NULL, 0),
	                             on_login, a);
	if (a->login)
		return;
	set_failure(a, ENOMEM, "login: out of memory", vault_backoff(&a->backoff_ms));
	list_splice(&a->ready, &a->waits);
	loop_timer_set(a->flush, 0);
}

static void on_retry(void *arg)
{
	struct vault_auth *a = arg;

	if (!a->login)
		login_start(a);
}

void vault_auth_connected(struct vault_auth *a)
{
	if (!a->error.code || a->login || a->error.code == EKEYREJECTED)
		return;
	a->backoff_ms = 0;
	a->retry_at_ms = 0; /* whoever is told of it, too, waits for the login */
	loop_timer_set(a->retry, 0);
}

/* ---- what a 403 means ---- */

void vault_auth_proved(struct vault_auth *a, struct vault_token *t)
{
	(void)a;
	if (!t)
		return;
	t->proved = true;
	t->doubt_ms = 0;
}

/* lookup-self was refused. Where that is no news, and the words are those of a dead token as well, the token lives as
 * long as it is good for anything. */
static bool is_dead_by(struct vault_token *t, const struct vault_reply *reply)
{
	int64_t now = clock_mono_ms();

	if (vault_says_dead(reply))
		return true;
	if (vault_reply_says(reply, "1 error occurred")) {
		t->facts.detailed = true;
		return false;
	}
	if (t->facts.looked || t->facts.detailed || !t->proved)
		return true;
	if (!t->doubt_ms)
		t->doubt_ms = now;
	return now - t->doubt_ms > vault_times.forbidden_ms;
}

static void on_question(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct vault_token *t = arg;

	t->question = NULL;
	if (!r->err && r->status == 200) {
		t->facts.looked = true;
		t->proved = true;
		judge_all(t, false);
	} else if (!r->err && r->status == 403) {
		if (is_dead_by(t, reply))
			token_dies(t, true);
		else
			judge_all(t, false);
	} else {
		/* Nobody knows: not a refusal, at any rate; who asks again gets the same token. */
		judge_all(t, true);
	}
}

static bool question(struct vault_token *t)
{
	if (!t->question)
		t->question = vault_request_start(t->auth->v, "GET", "/v1/auth/token/lookup-self", slice_of(NULL, 0),
		                                  slice_str(t->id), false, VAULT_REQUEST_MS, on_question, t);
	return t->question != NULL;
}

int vault_auth_judge(struct vault_auth *a, struct vault_token *t, bool says_invalid,
                     void (*verdict)(void *arg, bool dead), void *arg, struct vault_verdict **ret)
{
	struct vault_verdict *w = malloc(sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct vault_verdict){ .verdict = verdict, .arg = arg, .dead = true };
	if (t->dead || says_invalid) {
		list_append(&a->judged, &w->node);
		loop_timer_set(a->flush, 0);
		*ret = w;
		token_dies(t, true);
		return 0;
	}
	if (!question(t)) {
		free(w);
		return -ENOMEM;
	}
	list_append(&t->verdicts, &w->node);
	*ret = w;
	return 0;
}

void vault_auth_condemn(struct vault_auth *a, struct vault_token *t)
{
	(void)a;
	token_dies(t, true);
}

void vault_verdict_cancel(struct vault_verdict *w)
{
	if (!w)
		return;
	list_remove(&w->node);
	free(w);
}

void vault_auth_on_token(struct vault_auth *a, void (*fn)(void *arg, struct vault_token *t), void *arg)
{
	a->moved = fn;
	a->moved_arg = arg;
}

/* ---- what a predecessor has left ---- */

static void restore_secret_id(struct vault_auth *a, const char *text)
{
	const char *nl = strchr(text, '\n');

	if (!nl)
		return;
	vault_material_done(&a->material);
	if (nl > text)
		a->material.wrapping = secmem_strdup(slice_of(text, (size_t)(nl - text)));
	if (nl[1])
		a->material.secret_id = secmem_strdup(slice_str(nl + 1));
}

static void restore_token(struct vault_auth *a, unsigned long number, const char *text)
{
	struct vault_token_facts f = { .left_ms = INT64_MAX };
	int current, renewable, batch, looked, detailed, final, len = 0;
	int64_t end_ns;
	struct vault_token *t;

	if (sscanf(text, "1 %d %" SCNd64 " %" SCNd64 " %d %d %d %d %d%n", &current, &end_ns, &f.life_ms, &renewable, &batch,
	           &looked, &detailed, &final, &len) != 8 || text[len] != '\n' || text[len + 1] == '\0' || f.life_ms < 0)
		return;
	f.renewable = renewable;
	f.batch = batch;
	f.looked = looked;
	f.detailed = detailed;
	if (end_ns > 0) {
		f.left_ms = (end_ns - clock_real_ns()) / 1000000;
		if (f.left_ms < 0)
			f.left_ms = 0;
		if (f.life_ms > 0 && f.left_ms > f.life_ms) /* the clock was set back */
			f.left_ms = f.life_ms;
	}
	t = token_new(a, number, slice_str(text + len + 1), &f);
	if (!t)
		return;
	t->final = final;
	t->restored = true; /* the first reference */
	t->proved = true;
	if (current && f.left_ms > 0 && (!a->current || a->current->number < number)) {
		vault_token_unref(a->current);
		a->current = vault_token_ref(t);
	}
	token_arm(t);
}

/* "1 …\n<token>", see token_store. */
void vault_auth_restore(struct vault_auth *a, struct slice name, struct slice data)
{
	static const char prefix[] = "token:";
	char number[16] = "", *end, *text;
	unsigned long n;

	if (data.len > RECORD_MAX)
		return;
	text = secmem_strdup(data);
	if (!text)
		return;
	if (slice_eq_str(name, "secret-id")) {
		restore_secret_id(a, text);
	} else if (name.len > sizeof(prefix) - 1 && name.len - (sizeof(prefix) - 1) < sizeof(number) &&
	           memcmp(name.data, prefix, sizeof(prefix) - 1) == 0) {
		memcpy(number, name.data + sizeof(prefix) - 1, name.len - (sizeof(prefix) - 1));
		errno = 0;
		n = strtoul(number, &end, 10);
		if (errno == 0 && *end == '\0' && n > 0) {
			restore_token(a, n, text);
			if (n >= a->next_number)
				a->next_number = n + 1;
		}
	}
	secmem_free(text);
	loop_timer_set(a->restore, RESTORE_MS);
}

static void on_restored(void *arg)
{
	struct vault_auth *a = arg;
	struct list *n = a->tokens.next;

	while (n != &a->tokens) {
		struct vault_token *t = list_entry(n, struct vault_token, node);

		n = n->next;
		if (t->restored) {
			t->restored = false;
			vault_token_unref(t);
		}
	}
	start_watching(a);
	/* Its file may have changed while nobody looked: no request, where it hasn't. */
	if (a->v->settings.auth == VAULT_AUTH_TOKEN && a->current && !a->login)
		login_start(a);
}

struct vault_token *vault_auth_find(struct vault_auth *a, struct slice name)
{
	for (struct list *n = a->tokens.next; n != &a->tokens; n = n->next) {
		struct vault_token *t = list_entry(n, struct vault_token, node);

		if (slice_eq_str(name, t->name) && !t->dead)
			return vault_token_ref(t);
	}
	return NULL;
}

/* ---- the whole ---- */

int vault_auth_new(struct vault *v, struct vault_auth **ret)
{
	struct vault_auth *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->v = v;
	a->next_number = 1;
	list_init(&a->tokens);
	list_init(&a->waits);
	list_init(&a->ready);
	list_init(&a->judged);
	a->retry = loop_timer_new(v->env->loop, on_retry, a);
	a->flush = loop_timer_new(v->env->loop, on_flush, a);
	a->restore = loop_timer_new(v->env->loop, on_restored, a);
	if (!a->retry || !a->flush || !a->restore) {
		vault_auth_free(a);
		return -ENOMEM;
	}
	*ret = a;
	return 0;
}

static void drop_all(struct list *of, void (*drop)(struct list *n))
{
	while (!list_empty(of))
		drop(of->next);
}

static void drop_wait(struct list *n)
{
	vault_auth_wait_cancel(list_entry(n, struct vault_auth_wait, node));
}

static void drop_verdict(struct list *n)
{
	vault_verdict_cancel(list_entry(n, struct vault_verdict, node));
}

static void drop_token(struct list *n)
{
	struct vault_token *t = list_entry(n, struct vault_token, node);

	drop_all(&t->verdicts, drop_verdict);
	token_free(t);
}

void vault_auth_free(struct vault_auth *a)
{
	if (!a)
		return;
	a->closing = true; /* what is kept stays, for a successor */
	vault_login_cancel(a->login);
	if (a->removal)
		pool_cancel(a->removal);
	stop_watching(a);
	drop_all(&a->waits, drop_wait);
	drop_all(&a->ready, drop_wait);
	drop_all(&a->judged, drop_verdict);
	drop_all(&a->tokens, drop_token);
	vault_material_done(&a->material);
	loop_timer_free(a->retry);
	loop_timer_free(a->flush);
	loop_timer_free(a->restore);
	free(a);
}

void vault_auth_reads(const struct vault_auth *a, void (*add)(void *arg, const char *path), void *arg)
{
	const struct vault_source *src[VAULT_LOGIN_FILES];
	unsigned n = vault_login_files(&a->v->settings, src);

	for (unsigned i = 0; i < n; i++)
		if (src[i]->file)
			add(arg, src[i]->file);
}

void vault_auth_status(const struct vault_auth *a, struct provider_status *ret)
{
	const struct vault_settings *s = &a->v->settings;

	ret->login = s->auth == VAULT_AUTH_NONE ? NULL : vault_auth_name(s->auth);
	ret->login_ns = a->login_ns;
	if (a->current)
		ret->login_end_ns = token_end_real_ns(a->current);
	if (a->error.code && !a->current) {
		ret->error = a->error.text;
		ret->error_since_ns = a->error_ns;
	}
	ret->logins += a->logins;
	ret->login_failures += a->login_failures;
	ret->renewals += a->renewals;
	ret->renewal_failures += a->renewal_failures;
}
