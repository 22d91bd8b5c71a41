/*
 * .connectfs/status.json and .connectfs/metrics: their members and their shape.
 */
#include "core-engine.h"
#include "format/limits.h"

#include <jansson.h>

static int setup(void **state)
{
	(void)state;
	help_loop_new();
	help_settings();
	help_fake();
	help_dir();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	engine_end();
	help_loop_free();
	help_settings_done();
	help_dir_done();
	return 0;
}

static json_t *status(void)
{
	json_error_t err;
	struct buf out;
	json_t *root;

	buf_init(&out, 16 * 1024 * 1024);
	assert_int_equal(engine_status_json(engine, &out), 0);
	root = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, &err);
	if (!root)
		fail_msg("%s: %s", err.text, out.data);
	buf_free(&out);
	return root;
}

/* Exactly these members; a type 0: string or null, 'i': integer, 'I': integer or null, 'b', 'a', 'o', 'O':
 * object or null, 'N': null. */
static void assert_members(const json_t *o, const char *const *want)
{
	size_t n = 0;

	assert_true(json_is_object(o));
	for (; want[n * 2]; n++) {
		const json_t *v = json_object_get(o, want[n * 2]);
		char type = want[n * 2 + 1][0];
		bool right = type == 's' ? json_is_string(v) : type == 'S' ? json_is_string(v) || json_is_null(v) :
			type == 'i' ? json_is_integer(v) : type == 'I' ? json_is_integer(v) || json_is_null(v) :
			type == 'O' ? json_is_object(v) || json_is_null(v) : type == 'N' ? json_is_null(v) : type == 'b' ? json_is_boolean(v) : type == 'a' ? json_is_array(v) : json_is_object(v);

		if (!v || !right)
			fail_msg("%s is no %c", want[n * 2], type);
	}
	assert_int_equal(json_object_size(o), n);
}

#define MEMBERS(o, ...) assert_members(o, (const char *const[]){ __VA_ARGS__, NULL })

static void assert_connector(const json_t *c)
{
	MEMBERS(c, "name", "s", "connector", "s", "state", "s", "version", "i", "size", "i", "mtime", "s", "rotated",
	        "S", "error", "S", "errno", "S", "secrets", "a", "unknown_providers", "a");
}

static void assert_secret(const json_t *s)
{
	MEMBERS(s, "provider", "s", "id", "s", "state", "s", "fetched", "S", "age_ms", "I", "rotation", "s", "poll_ms",
	        "I", "expires", "S", "next_ms", "I", "users", "i", "error", "S", "errno", "S");
}

static void assert_root(const json_t *root)
{
	const char *name;
	size_t i;
	json_t *v;

	MEMBERS(root, "version", "s", "mountpoint", "S", "source", "s", "started", "S", "supervisor", "i", "worker", "i",
	        "notifier", "i", "worker_restarts", "i", "open_files", "i", "parked", "i", "memory", "o", "keep", "N",
	        "protections", "o", "notifier_protections", "O", "audit", "o", "connectors_by_state", "o", "connectors", "a", "secrets", "a",
	        "providers", "a");
	MEMBERS(json_object_get(root, "memory"), "used", "i", "mapped", "i", "locked", "i", "lock_error", "S");
	json_object_foreach(json_object_get(root, "protections"), name, v)
		MEMBERS(v, "in_force", "b", "why", "S");
	json_object_foreach(json_object_get(root, "notifier_protections"), name, v)
		MEMBERS(v, "in_force", "b", "why", "S");
	MEMBERS(json_object_get(root, "audit"), "to", "S", "lines", "i", "dropped", "i");
	MEMBERS(json_object_get(root, "connectors_by_state"), "idle", "i", "ok", "i", "stale", "i", "failed", "i");
	json_array_foreach(json_object_get(root, "connectors"), i, v)
		assert_connector(v);
	json_array_foreach(json_object_get(root, "secrets"), i, v)
		assert_secret(v);
	json_array_foreach(json_object_get(root, "providers"), i, v)
		MEMBERS(v, "name", "s", "class", "S", "known", "b", "fetches", "i", "errors", "i");
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static json_int_t number_of(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const json_t *item(const json_t *root, const char *list, const char *key, const char *value)
{
	size_t i;
	json_t *v;

	json_array_foreach(json_object_get(root, list), i, v)
		if (strcmp(text_of(v, key), value) == 0)
			return v;
	fail_msg("no %s %s in %s", key, value, list);
	return NULL;
}

static void test_empty(void **state)
{
	json_t *root;

	(void)state;
	engine_make(ENGINE_MOUNT);
	root = status();
	assert_root(root);
	assert_true(json_is_null(json_object_get(root, "notifier_protections"))); /* it has not told */
	assert_int_equal(json_array_size(json_object_get(root, "connectors")), 0);
	assert_int_equal(json_array_size(json_object_get(root, "providers")), 5);
	json_decref(root);
}

static void test_members(void **state)
{
	static const struct engine_protection protections[] = { { "seccomp", NULL }, { "files", "not confined" } };
	static const struct engine_protection of_notifier[] = { { "seccomp", "none" }, { "files", NULL } };
	struct engine_processes p = { 1, 2, 3, "/mnt", 1700000000000000000, 0, 4, protections, of_notifier, 2 };
	const json_t *v;
	json_t *root;

	(void)state;
	put("idle.properties", "name=Idle\n");
	put("ok.properties", "x=${fake:one:a}${fake:one:b}${else:p:k}${else:q:k}${classless:p:k}\n");
	put("two.json", "{\"name\":\"two\",\"config\":{\"x\":\"${fake:one:a}\"}}");
	put("bad.properties", "x=${fake:none:a}\n");
	put("lease.properties", "x=${fake:lease:a}\n");
	fake_set(fake("one"), "a", "canary", "b", "canary");
	fake_set(fake("lease"), "a", "canary");
	fake("lease")->lease_ms = 100000;
	fake("none")->err = ENOKEY;
	engine_make(ENGINE_MOUNT);
	engine_set_processes(engine, &p);
	engine_set_processes(engine, &p);
	cat("ok.properties");
	cat("two.json");
	cat("bad.properties");
	cat("lease.properties");
	root = status();
	assert_root(root);
	assert_string_equal(text_of(root, "mountpoint"), "/mnt");
	assert_string_equal(text_of(root, "source"), "source");
	assert_int_equal(strncmp(text_of(root, "started"), "2023-11-14T22:13:20", 19), 0);
	assert_int_equal(number_of(root, "notifier"), 3);
	assert_int_equal(number_of(root, "worker_restarts"), 4);
	v = json_object_get(root, "protections");
	assert_int_equal(json_object_size(v), 3); /* and memory_lock */
	assert_true(json_is_true(json_object_get(json_object_get(v, "seccomp"), "in_force")));
	assert_true(json_is_null(json_object_get(json_object_get(v, "seccomp"), "why")));
	assert_true(json_is_false(json_object_get(json_object_get(v, "files"), "in_force")));
	assert_string_equal(text_of(json_object_get(v, "files"), "why"), "not confined");
	v = json_object_get(root, "notifier_protections");
	assert_int_equal(json_object_size(v), 2);
	assert_string_equal(text_of(json_object_get(v, "seccomp"), "why"), "none");
	assert_true(json_is_true(json_object_get(json_object_get(v, "files"), "in_force")));
	assert_int_equal(number_of(json_object_get(root, "connectors_by_state"), "ok"), 3);
	v = item(root, "connectors", "name", "idle.properties");
	assert_string_equal(text_of(v, "connector"), "Idle");
	assert_string_equal(text_of(v, "state"), "idle");
	v = item(root, "connectors", "name", "ok.properties");
	assert_string_equal(text_of(v, "connector"), "ok");
	assert_int_equal(json_array_size(json_object_get(v, "secrets")), 1); /* each once */
	assert_string_equal(json_string_value(json_array_get(json_object_get(v, "secrets"), 0)), "fake:one");
	assert_int_equal(json_array_size(json_object_get(v, "unknown_providers")), 2);
	assert_string_equal(json_string_value(json_array_get(json_object_get(v, "unknown_providers"), 1)), "classless");
	v = item(root, "connectors", "name", "bad.properties");
	assert_string_equal(text_of(v, "errno"), "ENOKEY");
	assert_string_equal(text_of(v, "error"), "bad.properties:1: x: fake: it says no");
	v = item(root, "secrets", "id", "one");
	assert_int_equal(number_of(v, "users"), 2);
	assert_string_equal(text_of(v, "state"), "ok");
	assert_string_equal(text_of(v, "rotation"), "poll");
	assert_int_equal(number_of(v, "poll_ms"), 100);
	v = item(root, "secrets", "id", "lease");
	assert_string_equal(text_of(v, "rotation"), "lease");
	assert_non_null(text_of(v, "expires"));
	v = item(root, "secrets", "id", "none");
	assert_string_equal(text_of(v, "state"), "failed");
	assert_true(number_of(v, "next_ms") > 500);
	assert_false(json_boolean_value(json_object_get(item(root, "providers", "name", "lacked"), "known")));
	assert_int_equal(number_of(item(root, "providers", "name", "fake"), "errors"), 1);
	json_decref(root);
}

static void test_not_utf8(void **state)
{
	json_t *root;

	(void)state;
	put("b\xff\"\\\n.properties", "x=${fake:one:a}${fake:\xe4:k}\n");
	engine_make(ENGINE_MOUNT);
	cat("b\xff\"\\\n.properties");
	root = status();
	assert_root(root);
	(void)item(root, "connectors", "name", "b?\"\\\n.properties");
	json_decref(root);
}

/* n references of a shape, in which # is a number that descends. The caller frees. */
static char *many_refs(const char *shape, int n)
{
	const char *at_number = strchr(shape, '#');
	struct buf b;
	size_t len;

	buf_init(&b, 1 << 20);
	assert_int_equal(buf_add_str(&b, "a="), 0);
	for (int i = n; i > 0; i--)
		assert_int_equal(buf_addf(&b, "%.*s%05x%s", (int)(at_number - shape), shape, (unsigned)i,
		                          at_number + 1), 0);
	return buf_steal(&b, &len);
}

/* Opened, shown in the status and in attributes with as many references as there may be: in no time, unless
 * something is quadratic. */
static void test_many_refs(void **state)
{
	static const struct {
		const char *name, *shape, *first, *state;
		size_t n_secrets, n_unknown, n_listed;
	} cases[] = {
		{ "unknown.properties", "${u#:}", "u02710:", "ok", 0, LIMIT_STORED_REFS, 500 },
		{ "paths.properties", "${lacked:/#:}", "lacked:/02710", "failed", LIMIT_STORED_REFS, 0, 500 },
		{ "unmapped.properties", "${fake:unmapped:#}", "fake:unmapped", "failed", 1, 0, 1 },
		{ "keys.properties", "${file:/none/#:k}", "file:/none/02710", "failed", LIMIT_STORED_REFS, 0, 500 },
		{ "fields.properties", "${fake:one:#}", "fake:one", "failed", 1, 0, 1 },
	};
	json_t *root;

	(void)state;
	fake_set(fake("one"), "00001", "value");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = many_refs(cases[i].shape, LIMIT_STORED_REFS);

		put(cases[i].name, text);
		free(text);
	}
	engine_make(ENGINE_MOUNT);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cat(cases[i].name);
		assert_string_equal(xattr(cases[i].name, "state"), cases[i].state);
	}
	assert_int_equal(fake("one")->fetches, 1);
	root = status();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const json_t *v = item(root, "connectors", "name", cases[i].name);
		struct connector *conn = conn_of(cases[i].name);
		struct buf list;
		size_t lines = 1;

		assert_int_equal(json_array_size(json_object_get(v, "secrets")), cases[i].n_secrets);
		assert_int_equal(json_array_size(json_object_get(v, "unknown_providers")), cases[i].n_unknown);
		buf_init(&list, 64 * 1024);
		assert_int_equal(connector_xattr(conn, "secrets", &list), 0);
		assert_int_equal(strncmp(list.data, cases[i].first, strlen(cases[i].first)), 0);
		for (size_t k = 0; k < list.len; k++)
			lines += list.data[k] == '\n';
		assert_int_equal(lines, cases[i].n_listed);
		buf_reset(&list);
		assert_int_equal(connector_xattr_list(conn, &list), 0);
		buf_free(&list);
		connector_unref(conn);
	}
	json_decref(root);
}

static void test_too_many_refs(void **state)
{
	char *text = many_refs("${u#:}", LIMIT_STORED_REFS + 1);

	(void)state;
	put("ok.properties", "a=1\n");
	put("more.properties", text);
	free(text);
	engine_make(ENGINE_MOUNT);
	assert_string_equal(cat("more.properties"), "EIO");
	assert_string_equal(xattr("more.properties", "error"), "more.properties:1: more than 10000 references");
	assert_string_equal(xattr("more.properties", "secrets"), "ENODATA");
	assert_string_equal(cat("ok.properties"), "a=1\n");
}

/* Two connectors that want fields of one secret, in all orders and twice; one goes. */
static void test_shared_fields(void **state)
{
	(void)state;
	fake_set(fake("one"), "a", "1", "b", "2", "c", "3", "d", "4");
	put("x.properties", "x=${fake:one:d}${fake:one:b}${fake:one:d}\n");
	engine_make(ENGINE_MOUNT);
	assert_string_equal(cat("x.properties"), "x=424\n");
	assert_string_equal(fake("one")->fields, "b,d");
	put("y.properties", "y=${fake:one:c}${fake:one:a}${fake:one:b}${fake:one:c}\n");
	UNTIL(is_there("y.properties"));
	assert_string_equal(cat("y.properties"), "y=3123\n");
	assert_string_equal(fake("one")->fields, "a,b,c,d");
	assert_int_equal(unlink(at("x.properties")), 0);
	UNTIL(!is_there("x.properties"));
	run_for(80); /* fresh.ms is over */
	assert_string_equal(cat("y.properties"), "y=3123\n");
	UNTIL(strcmp(fake("one")->fields, "a,b,c") == 0);
}

/* A line of the attribute is a secret, whatever a path holds. */
static void test_secrets_lines(void **state)
{
	struct connector *conn;
	struct buf b;
	char *text;

	(void)state;
	put("c.properties",
	    "x=${fake:a\\nfile/etc/b\\u001b[2J\\u0000\\u007f:k}${q\\u009b\\u00e9\\t:p:k}${::}\n");
	text = many_refs("${fake:#", 1);
	text = realloc(text, 100000);
	memset(text + strlen(text), 'x', 99000);
	strcpy(text + 99000, ":k}\n");
	put("long.properties", text);
	free(text);
	engine_make(ENGINE_MOUNT);
	assert_string_equal(xattr("c.properties", "secrets"), "fake:a?file/etc/b?[2J??\nq??\xc3\xa9?:p\n:");
	conn = conn_of("long.properties");
	buf_init(&b, 64 * 1024);
	assert_int_equal(connector_xattr(conn, "secrets", &b), 0);
	assert_int_equal(b.len, 0);
	buf_free(&b);
	connector_unref(conn);
}

/* ---- metrics ---- */

enum { MAX_SERIES = 256 };

static char *series[MAX_SERIES];
static size_t n_series;

static void see(const char *name, size_t len)
{
	char *s = strndup(name, len);

	for (size_t i = 0; i < n_series; i++)
		if (strcmp(series[i], s) == 0)
			fail_msg("twice: %s", s);
	assert_true(n_series < MAX_SERIES);
	series[n_series++] = s;
}

static void forget(void)
{
	while (n_series)
		free(series[--n_series]);
}

static bool has(const char *name)
{
	for (size_t i = 0; i < n_series; i++)
		if (strcmp(series[i], name) == 0)
			return true;
	return false;
}

/* HELP, TYPE, then samples of that family only; the form of names and values. */
static void assert_metrics(char *text)
{
	char family[128] = "", type[32] = "";
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[128], rest[256], *value, *end;

		if (sscanf(line, "# HELP %127s %255[^\n]", name, rest) == 2) {
			char head[140];

			(void)snprintf(head, sizeof(head), "# %s", name);
			see(head, strlen(head)); /* a family once */
			(void)snprintf(family, sizeof(family), "%s", name);
			type[0] = '\0';
			assert_int_equal(rest[strlen(rest) - 1], '.');
			continue;
		}
		if (sscanf(line, "# TYPE %127s %31s", name, type) == 2) {
			assert_string_equal(name, family);
			/* promtool's rule: counters end in _total, others don't */
			end = strlen(name) > 6 ? name + strlen(name) - 6 : name;
			assert_int_equal(strcmp(type, "counter") == 0, strcmp(end, "_total") == 0);
			continue;
		}
		if (strncmp(line, family, strlen(family)) != 0 || !type[0])
			fail_msg("not of %s: %s", family, line);
		value = strrchr(line, ' ');
		assert_non_null(value);
		see(line, (size_t)(value - line));
		(void)strtod(value + 1, &end);
		assert_int_equal(*end, '\0');
	}
}

static void test_metrics(void **state)
{
	static const char *const names[] = {
		"connectfs_build_info", "connectfs_start_time_seconds", "connectfs_worker_start_time_seconds",
		"connectfs_worker_restarts_total",
		"connectfs_opens_total", "connectfs_open_errors_total", "connectfs_reads_total",
		"connectfs_read_bytes_total", "connectfs_rotations_total", "connectfs_renders_total",
		"connectfs_touches_total", "connectfs_touch_failures_total", "connectfs_parked_refused_total",
		"connectfs_open_files", "connectfs_opens_parked", "connectfs_open_duration_seconds",
		"connectfs_fetches_total", "connectfs_fetch_errors_total", "connectfs_connectors",
		"connectfs_oldest_secret_seconds", "connectfs_secret_memory_used_bytes",
		"connectfs_secret_memory_locked_bytes", "connectfs_log_lines_dropped_total",
		"connectfs_audit_lines_total", "connectfs_audit_dropped_total",
	};
	struct buf out;
	size_t heads = 0;

	(void)state;
	help_providers[4].name = (char *)(uintptr_t)"q\"\\\nz";
	put("ok.properties", "x=${fake:path-canary:a}\n");
	put("bad.properties", "x=${fake:sentence:a}\n");
	fake("sentence")->err = EIO;
	fake_set(fake("path-canary"), "a", "value-canary");
	engine_make(ENGINE_MOUNT);
	cat("ok.properties");
	cat("bad.properties");
	stats_open_done(engine_stats(engine), 70, 0);
	stats_open_done(engine_stats(engine), 20000000, -EIO);
	buf_init(&out, 1024 * 1024);
	assert_int_equal(engine_metrics(engine, &out), 0);
	assert_null(strstr(out.data, "canary"));
	assert_null(strstr(out.data, "says no"));
	assert_int_equal(out.data[out.len - 1], '\n');
	assert_metrics(out.data);
	assert_true(has("connectfs_fetches_total{provider=\"q\\\"\\\\\\nz\"}"));
	assert_true(has("connectfs_connectors{state=\"failed\"}"));
	assert_true(has("connectfs_open_duration_seconds_bucket{le=\"5e-05\"}"));
	assert_true(has("connectfs_open_duration_seconds_bucket{le=\"+Inf\"}"));
	assert_true(has("connectfs_open_duration_seconds_count"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char head[140];

		(void)snprintf(head, sizeof(head), "# %s", names[i]);
		if (!has(head))
			fail_msg("missing: %s", names[i]);
	}
	for (size_t i = 0; i < n_series; i++)
		heads += series[i][0] == '#';
	assert_int_equal(heads, sizeof(names) / sizeof(names[0])); /* and no others */
	forget();
	buf_free(&out);
}

/* A buffer that is too small is told, and no half of a status. */
static void test_too_large(void **state)
{
	struct buf out;

	(void)state;
	put("ok.properties", "a=1\n");
	engine_make(ENGINE_MOUNT);
	buf_init(&out, 600);
	assert_true(engine_status_json(engine, &out) < 0);
	buf_free(&out);
	assert_true(engine_metrics(engine, &out) < 0);
	buf_free(&out);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_empty), T(test_members), T(test_not_utf8), T(test_many_refs), T(test_too_many_refs),
		T(test_shared_fields), T(test_secrets_lines), T(test_metrics), T(test_too_large),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
