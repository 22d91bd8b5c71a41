/*
 * .connectfs/metrics: Prometheus' text format, version 0.0.4. Neither paths nor sentences: what
 * is scraped goes further than what operators see. Names are listed in connectfs(8).
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secmem.h"
#include "core/core.h"

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct buf *out, const char *name, const char *type, const char *help,
                   unsigned long long v)
{
	head(out, name, type, help);
	buf_addf(out, "%s %llu\n", name, v);
}

/* A label's value: backslash, quote and newline escaped. */
static void label(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\\' || *s == '"')
			buf_add_char(out, '\\');
		if (*s == '\n')
			buf_add_str(out, "\\n");
		else
			buf_add_char(out, *s);
	}
}

static void open_latency(struct stats *s, struct buf *out)
{
	static const int bounds[] = STATS_OPEN_BUCKETS;
	const char *name = "connectfs_open_duration_seconds";
	unsigned long long sum = 0;

	head(out, name, "histogram", "Time from an open to its answer.");
	for (int i = 0; i < STATS_N_OPEN_BUCKETS; i++) {
		sum += atomic_load(&s->open_bucket[i]);
		buf_addf(out, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i] / 1e6, sum);
	}
	sum += atomic_load(&s->open_bucket[STATS_N_OPEN_BUCKETS]);
	buf_addf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name, sum, name,
	         (double)atomic_load(&s->open_us_sum) / 1e6, name, sum);
}

static void by_provider(struct engine *e, struct buf *out, const char *name, const char *help, bool errors)
{
	head(out, name, "counter", help);
	for (size_t i = 0; i < resolver_n_providers(e->resolver); i++) {
		const struct provider_instance *p = resolver_provider(e->resolver, i);

		buf_addf(out, "%s{provider=\"", name);
		label(out, p->settings->name);
		buf_addf(out, "\"} %lu\n", errors ? p->errors : p->fetches);
	}
}

/* Of providers that ask somebody else. */
struct provider_metric {
	const char *name, *type, *help;
	double (*value)(const struct provider_status *s);
};

static double is_up(const struct provider_status *s) { return s->error ? 0 : 1; }
static double is_insecure(const struct provider_status *s) { return s->insecure; }
static double login_end(const struct provider_status *s) { return (double)s->login_end_ns / 1e9; }
static double leases(const struct provider_status *s) { return (double)s->leases; }
static double requests(const struct provider_status *s) { return (double)s->requests; }
static double request_failures(const struct provider_status *s) { return (double)s->request_failures; }
static double logins(const struct provider_status *s) { return (double)s->logins; }
static double login_failures(const struct provider_status *s) { return (double)s->login_failures; }
static double renewals(const struct provider_status *s) { return (double)s->renewals; }
static double renewal_failures(const struct provider_status *s) { return (double)s->renewal_failures; }

static const struct provider_metric provider_metrics[] = {
	{ "connectfs_provider_up", "gauge", "1: the secret store answers, and lets us in.", is_up },
	{ "connectfs_provider_insecure", "gauge", "1: the secret store's certificate is not verified.", is_insecure },
	{ "connectfs_provider_login_expires_seconds", "gauge",
	  "When the login ends unless it is renewed, since the epoch; 0: never, or not known.", login_end },
	{ "connectfs_provider_leases", "gauge", "Leases that are kept alive.", leases },
	{ "connectfs_provider_requests_total", "counter", "Requests to the secret store.", requests },
	{ "connectfs_provider_request_failures_total", "counter", "Requests that failed, by status or without an answer.",
	  request_failures },
	{ "connectfs_provider_logins_total", "counter", "Logins.", logins },
	{ "connectfs_provider_login_failures_total", "counter", "Logins that failed.", login_failures },
	{ "connectfs_provider_renewals_total", "counter", "Renewals of logins and leases.", renewals },
	{ "connectfs_provider_renewal_failures_total", "counter", "Renewals that failed.", renewal_failures },
};

static void provider_statuses(struct engine *e, struct buf *out)
{
	struct provider_status status;

	for (size_t k = 0; k < sizeof(provider_metrics) / sizeof(provider_metrics[0]); k++) {
		const struct provider_metric *m = &provider_metrics[k];
		bool first = true;

		for (size_t i = 0; i < resolver_n_providers(e->resolver); i++) {
			const struct provider_instance *p = resolver_provider(e->resolver, i);

			if (!provider_status(p, &status))
				continue;
			if (first)
				head(out, m->name, m->type, m->help);
			first = false;
			buf_addf(out, "%s{provider=\"", m->name);
			label(out, p->settings->name);
			buf_addf(out, "\"} %.15g\n", m->value(&status));
		}
	}
}

static void by_state(const struct listing *all, struct buf *out)
{
	size_t counts[CONNECTOR_N_STATES];

	listing_count_states(all, counts);
	head(out, "connectfs_connectors", "gauge", "Connectors by state.");
	for (size_t i = 0; i < CONNECTOR_N_STATES; i++)
		buf_addf(out, "connectfs_connectors{state=\"%s\"} %zu\n", connector_state_name((enum connector_state)i),
		         counts[i]);
}

/* Of what is served: how long ago the secret fetched longest ago was fetched. File-backed and
 * constant ones are looked at whenever they are used, and don't age. */
static double oldest_secret(struct engine *e)
{
	int64_t now = clock_mono_ms(), oldest = now;
	struct secret *s;
	size_t pos = 0;

	while ((s = resolver_next_secret(e->resolver, &pos)))
		if (s->values && s->rotation != ROTATION_FILES && s->rotation != ROTATION_CONSTANT &&
		    s->fetched_ms < oldest)
			oldest = s->fetched_ms;
	return (double)(now - oldest) / 1e3;
}

static void counters(struct stats *s, struct buf *out)
{
	single(out, "connectfs_opens_total", "counter", "Opens of connectors answered.", atomic_load(&s->opens));
	single(out, "connectfs_open_errors_total", "counter", "Opens answered by an error.",
	       atomic_load(&s->open_errors));
	single(out, "connectfs_reads_total", "counter", "Reads answered.", atomic_load(&s->reads));
	single(out, "connectfs_read_bytes_total", "counter", "Bytes read.", atomic_load(&s->read_bytes));
	single(out, "connectfs_rotations_total", "counter", "Rotations.", atomic_load(&s->rotations));
	single(out, "connectfs_renders_total", "counter", "Renderings of connectors.", atomic_load(&s->renders));
	single(out, "connectfs_touches_total", "counter", "Touches asked of the notifier.",
	       atomic_load(&s->touches));
	single(out, "connectfs_touch_failures_total", "counter",
	       "Touches that failed or came to nothing in a second.", atomic_load(&s->touch_failures));
	single(out, "connectfs_parked_refused_total", "counter", "Opens refused since too many were waiting.",
	       atomic_load(&s->parked_refused));
	single(out, "connectfs_open_files", "gauge", "Open descriptors of connectors.",
	       (unsigned long long)atomic_load(&s->open_files));
	single(out, "connectfs_opens_parked", "gauge", "Opens that are waiting.",
	       (unsigned long long)atomic_load(&s->parked));
}

int engine_metrics(struct engine *e, struct buf *out)
{
	struct listing *all = catalog_list(e->catalog);
	struct secmem_stats m;

	if (!all)
		return -ENOMEM;
	head(out, "connectfs_build_info", "gauge", "The version that runs.");
	buf_addf(out, "connectfs_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
	head(out, "connectfs_start_time_seconds", "gauge", "When the mount was made, since the epoch.");
	buf_addf(out, "connectfs_start_time_seconds %.3f\n", (double)e->processes.started_ns / 1e9);
	head(out, "connectfs_worker_start_time_seconds", "gauge", "When the worker was started, since the epoch.");
	buf_addf(out, "connectfs_worker_start_time_seconds %.3f\n", (double)e->processes.worker_started_ns / 1e9);
	single(out, "connectfs_worker_restarts_total", "counter", "Workers that had to be replaced.",
	       e->processes.worker_restarts);
	counters(&e->stats, out);
	open_latency(&e->stats, out);
	by_provider(e, out, "connectfs_fetches_total", "Fetches begun, by provider.", false);
	by_provider(e, out, "connectfs_fetch_errors_total", "Fetches that failed, by provider.", true);
	provider_statuses(e, out);
	by_state(all, out);
	head(out, "connectfs_oldest_secret_seconds", "gauge",
	     "Age of the polled or leased secret fetched longest ago.");
	buf_addf(out, "connectfs_oldest_secret_seconds %.3f\n", oldest_secret(e));
	single(out, "connectfs_log_lines_dropped_total", "counter",
	       "Lines of the worker's log that nobody took.", log_dropped());
	secmem_get_stats(&m);
	if (e->keep) {
		struct keep_stats k;

		keep_get_stats(e->keep, &k);
		m.used += k.used;
		m.locked += k.locked;
		single(out, "connectfs_keep_bytes", "gauge", "The keep, of which connectfs_secret_memory counts what is "
		       "used.", k.size);
		single(out, "connectfs_keep_failures_total", "counter", "What found no room in the keep.", k.failed);
	}
	single(out, "connectfs_audit_lines_total", "counter", "Lines of the audit log that were written.",
	       atomic_load(&e->stats.audit_lines));
	single(out, "connectfs_audit_dropped_total", "counter",
	       "Opens that are missing in the audit log, since it did not take them.",
	       atomic_load(&e->stats.audit_dropped));
	single(out, "connectfs_secret_memory_used_bytes", "gauge", "Secret memory in use.", m.used);
	single(out, "connectfs_secret_memory_locked_bytes", "gauge", "Secret memory that is locked.", m.locked);
	listing_unref(all);
	return out->err;
}
