/*
 * What providers ask of the resolver between two fetches.
 */
#include <string.h>

#include "base/log.h"
#include "core/resolver_private.h"

static void host_lease(void *arg, struct slice id, int64_t lease_ms, int64_t replace_ms, struct slice state,
                       const char *text)
{
	struct secret *s = resolver_find_secret(arg, id);

	if (!s)
		return;
	secret_ref(s);
	if (lease_ms > 0) {
		secret_move_lease(s, lease_ms, replace_ms, state);
	} else {
		const struct provider_instance *p = arg;

		log_warn("a lease has ended before its time", "provider", p->settings->name, "secret", s->id, "why", text,
		         NULL);
		secret_lease_gone(s, text);
	}
	secret_unref(s);
}

/* A secret store that comes back is not met by all at once: as many a second as max.rps says. */
static void host_healed(void *arg)
{
	struct provider_instance *p = arg;
	struct secret *s;
	int64_t n = 0;
	size_t pos = 0;

	while ((s = resolver_next_secret(p->resolver, &pos)))
		if (s->provider == p && s->outage)
			secret_retry(s, n++ * 1000 / p->settings->refresh.max_rps);
}

static int host_keep(void *arg, struct slice name, struct slice data)
{
	return kept_state_put(arg, name, data);
}

static void host_tell(void *arg, enum provider_level level, const char *text)
{
	static const enum log_level levels[] = { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO };
	const struct provider_instance *p = arg;

	log_write(levels[level], text, "provider", p->settings->name, NULL);
}

const struct provider_host resolver_host = {
	.lease = host_lease, .healed = host_healed, .keep = host_keep, .tell = host_tell,
};
