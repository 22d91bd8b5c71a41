/*
 * Settings: good and bad files, overrides and directories, each with what must come of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/settings.h"

static char dir[] = "/tmp/connectfs-settings-XXXXXX";
static char file[64], store[64];

static void write_file(const char *text)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_true(fwrite(text, 1, strlen(text), f) == strlen(text));
	assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	snprintf(file, sizeof(file), "%s/c.properties", dir);
	snprintf(store, sizeof(store), "%s/store", dir);
	return mkdir(store, 0700);
}

static int teardown(void **state)
{
	(void)state;
	unlink(file);
	rmdir(store);
	return chdir("/") < 0 || rmdir(dir) < 0 ? -1 : 0;
}

/* Loads source with up to two overrides; the report's text into ret (freed by the caller). */
static int load(const char *source, const char *const *overrides, size_t n, struct settings **ret,
                char **ret_text)
{
	struct report report = REPORT_INIT;
	struct settings_override items[2];
	size_t size;
	FILE *out = open_memstream(ret_text, &size);

	assert_non_null(out);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(settings_override_parse(overrides[i], &items[i]), 0);
	int r = settings_load(source, items, n, ret, &report);
	assert_true((r == 0) == (report.errors == 0));
	report_print(&report, out);
	report_done(&report);
	fclose(out);
	for (size_t i = 0; i < n; i++) {
		free(items[i].key);
		free(items[i].value);
	}
	return r;
}

#define STORE "connectfs.store.directory=store\n"

static const struct bad {
	const char *text, *message; /* all of the report */
} bad_files[] = {
	{ "", "c.properties: it does not say where the stored configs lie; set "
	      "connectfs.store.directory=/path/of/the/directory\n" },
	{ "bootstrap.servers=x\nconfig.storage.topic=y\n",
	  "c.properties: it does not say where the stored configs lie; set "
	  "connectfs.store.directory=/path/of/the/directory\n" },
	{ STORE "# a\n\nconnectfs.mode=0640\n",
	  "c.properties:4: connectfs.mode: '0640' has bits other than read, and the files can only be read; "
	  "write 0440\n" },
	{ STORE "connectfs.mode=044\n",
	  "c.properties:2: connectfs.mode: '044' keeps the owner from reading; write 0444\n" },
	{ STORE "connectfs.mode=u+r\n",
	  "c.properties:2: connectfs.mode: 'u+r' is no octal mode; write one like 0400 or 0440\n" },
	{ STORE "connectfs.fresh.ms=30s\n",
	  "c.properties:2: connectfs.fresh.ms: '30s' is not a whole number of milliseconds from 0 to "
	  "315360000000\n" },
	{ STORE "connectfs.poll.ms=99\n",
	  "c.properties:2: connectfs.poll.ms: '99' is not a whole number of milliseconds from 100 to "
	  "315360000000\n" },
	{ STORE "connectfs.stale.ms=-2\n",
	  "c.properties:2: connectfs.stale.ms: '-2' is not a whole number of milliseconds from 0 to "
	  "315360000000, or -1 for ever\n" },
	{ STORE "connectfs.http.connections=0\n",
	  "c.properties:2: connectfs.http.connections: '0' is not a whole number of connections from 1 to 1024\n" },
	{ STORE "connectfs.http.proxy=yes\n",
	  "c.properties:2: connectfs.http.proxy: 'yes' is neither none nor environment\n" },
	{ STORE "connectfs.wait.ms=99999999999999999999\n",
	  "c.properties:2: connectfs.wait.ms: '99999999999999999999' is not a whole number of milliseconds "
	  "from "
	  "1 to 3600000\n" },
	{ STORE "connectfs.max.rps=0\n",
	  "c.properties:2: connectfs.max.rps: '0' is not a whole number of requests a second from 1 to "
	  "1000000\n" },
	{ STORE "connectfs.warm=yes\n", "c.properties:2: connectfs.warm: 'yes' is neither true nor false\n" },
	{ STORE "connectfs.settle.ms=\n",
	  "c.properties:2: connectfs.settle.ms: '' is not a whole number of milliseconds from 0 to 60000\n" },
	{ STORE "connectfs.unresolved=drop\n",
	  "c.properties:2: connectfs.unresolved: 'drop' is neither fail nor keep\n" },
	{ STORE "connectfs.notify=create\n",
	  "c.properties:2: connectfs.notify: 'create' is no list of modify and attrib; write modify,attrib "
	  "or one "
	  "of them, or none\n" },
	{ STORE "connectfs.notify=\n",
	  "c.properties:2: connectfs.notify: '' is no list of modify and attrib; write modify,attrib or "
	  "one of "
	  "them, or none\n" },
	{ STORE "connectfs.memory.lock=no\n",
	  "c.properties:2: connectfs.memory.lock: 'no' is neither try nor require\n" },
	{ STORE "connectfs.sandbox=off\n",
	  "c.properties:2: connectfs.sandbox: 'off' is neither try nor require\n" },
	{ STORE "connectfs.log.level=trace\n",
	  "c.properties:2: connectfs.log.level: 'trace' is none of error, warn, info, debug\n" },
	{ STORE "connectfs.audit=log/audit\n",
	  "c.properties:2: connectfs.audit: 'log/audit' is neither journal, nor syslog, nor the absolute path of "
	  "a file\n" },
	{ STORE "connectfs.owner=no-such-user\n",
	  "c.properties:2: connectfs.owner: there is no user 'no-such-user' on this host; give a user's "
	  "name or "
	  "number\n" },
	{ STORE "connectfs.run.group=4294967295\n",
	  "c.properties:2: connectfs.run.group: there is no group '4294967295' on this host; give a "
	  "group's name "
	  "or number\n" },
	{ STORE "connectfs.format=yaml\n",
	  "c.properties:2: connectfs.format: 'yaml' is neither properties nor json\n" },
	{ STORE "connectfs.store=rest\n",
	  "c.properties:2: connectfs.store: this build has only the directory store; set it to directory, "
	  "and "
	  "connectfs.store.directory to where the stored configs lie\n" },
	{ "connectfs.store=topic\n",
	  "c.properties:1: connectfs.store: this build has only the directory store; set it to directory, "
	  "and "
	  "connectfs.store.directory to where the stored configs lie\n" },
	{ STORE "connectfs.store=s3\n",
	  "c.properties:2: connectfs.store: 's3' is no store; this build has only directory\n" },
	{ "connectfs.store.directory=nowhere\n",
	  "c.properties:1: connectfs.store.directory: can't list DIR/nowhere: No such file or directory; "
	  "it must "
	  "be the directory where the stored configs lie\n" },
	{ "connectfs.store.directory=c.properties\n",
	  "c.properties:1: connectfs.store.directory: can't list DIR/c.properties: it is not a directory; "
	  "it must "
	  "be the directory where the stored configs lie\n" },
	{ STORE "connectfs.mod=0400\n",
	  "c.properties:2: connectfs.mod: there is no such setting; did you mean connectfs.mode?\n" },
	{ STORE "connectfs.fresh=1\n",
	  "c.properties:2: connectfs.fresh: there is no such setting; did you mean connectfs.fresh.ms?\n" },
	{ STORE "connectfs.colour=blue\n",
	  "c.properties:2: connectfs.colour: there is no such setting; connectfs.properties(5) lists "
	  "them\n" },
	{ STORE "connectfs.mode=\\u0000\n",
	  "c.properties:2: connectfs.mode: the value holds a NUL character (\\u0000)\n" },
	{ STORE "config.providers=v\nconfig.providers.v.class=file\nconfig.providers.v.param.poll.ms=soon\n",
	  "c.properties:4: config.providers.v.param.poll.ms: 'soon' is not a whole number of milliseconds "
	  "from "
	  "100 to 315360000000\n" },
	{ STORE "connectfs.warm=no\nconnectfs.mode=9\n",
	  "c.properties:2: connectfs.warm: 'no' is neither true nor false\n"
	  "c.properties:3: connectfs.mode: '9' is no octal mode; write one like 0400 or 0440\n" },
};

/* text with DIR replaced by our directory; free. */
static char *expand(const char *text)
{
	const char *at = strstr(text, "DIR");
	char *ret = NULL;

	assert_true(asprintf(&ret, "%.*s%s%s", at ? (int)(at - text) : 0, text, at ? dir : "",
	                     at ? at + 3 : text) >= 0);
	return ret;
}

static void test_bad_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
		struct settings *s = NULL;
		char *text, *want = expand(bad_files[i].message);

		write_file(bad_files[i].text);
		assert_int_equal(load("c.properties", NULL, 0, &s, &text), -EINVAL);
		assert_string_equal(text, want);
		assert_null(s);
		free(text);
		free(want);
	}
}

static void test_defaults(void **state)
{
	struct settings *s;
	char *text;

	(void)state;
	write_file("bootstrap.servers=a:9092\n" STORE);
	assert_int_equal(load("./c.properties", NULL, 0, &s, &text), 0);
	assert_string_equal(text, "");
	free(text);
	assert_string_equal(s->source, "./c.properties");
	assert_string_equal(s->file, file);
	assert_string_equal(s->directory, store);
	assert_int_equal(s->n_providers, 0);
	assert_int_equal(s->refresh.fresh_ms, 30000);
	assert_int_equal(s->refresh.poll_ms, 30000);
	assert_int_equal(s->refresh.stale_ms, 86400000);
	assert_int_equal(s->refresh.max_rps, 100);
	assert_int_equal(s->mode, 0400);
	assert_int_equal(s->wait_ms, 10000);
	assert_int_equal(s->http_connections, 16);
	assert_false(s->http_env_proxy);
	assert_int_equal(s->settle_ms, 20);
	assert_false(s->warm || s->unresolved_keep || s->owner_set || s->group_set || s->run_user_set);
	assert_int_equal(s->notify, NOTIFY_MODIFY | NOTIFY_ATTRIB);
	assert_int_equal(s->lock, SECMEM_LOCK_TRY);
	assert_false(s->sandbox_required);
	assert_int_equal(s->log_level, LOG_LEVEL_INFO);
	assert_null(s->audit);
	settings_free(s);
}

static void test_all_keys(void **state)
{
	struct settings *s;
	char *text;

	(void)state;
	write_file("connectfs.store=directory\nconnectfs.store.directory=./store/\nconnectfs.format=json\n"
	           "connectfs.owner=root\nconnectfs.group=12\nconnectfs.mode=nonsense\nconnectfs.mode= "
	           "0440 \n"
	           "connectfs.fresh.ms=0\nconnectfs.poll.ms=100\nconnectfs.max.rps=5\nconnectfs.stale.ms=-1\n"
	           "connectfs.wait.ms=1\nconnectfs.http.connections=3\nconnectfs.http.proxy=environment\nconnectfs.warm=TRUE\nconnectfs.settle.ms=0\n"
	           "connectfs.unresolved=keep\n"
	           "connectfs.notify=attrib\nconnectfs.memory.lock=require\nconnectfs.run.user=0\n"
	           "connectfs.sandbox=require\n"
	           "connectfs.run.group=root\nconnectfs.log.level=debug\nconnectfs.audit=/var/log/audit\n");
	assert_int_equal(load(file, NULL, 0, &s, &text), 0);
	assert_string_equal(text, "");
	free(text);
	assert_string_equal(s->directory, store);
	assert_true(s->owner_set && s->group_set && s->run_user_set && s->run_group_set);
	assert_int_equal(s->owner, 0);
	assert_int_equal(s->group, 12);
	assert_int_equal(s->mode, 0440);
	assert_int_equal(s->refresh.fresh_ms, 0);
	assert_int_equal(s->refresh.poll_ms, 100);
	assert_int_equal(s->refresh.max_rps, 5);
	assert_int_equal(s->refresh.stale_ms, -1);
	assert_int_equal(s->wait_ms, 1);
	assert_int_equal(s->http_connections, 3);
	assert_true(s->http_env_proxy);
	assert_int_equal(s->settle_ms, 0);
	assert_true(s->warm && s->unresolved_keep);
	assert_int_equal(s->notify, NOTIFY_ATTRIB);
	assert_int_equal(s->lock, SECMEM_LOCK_REQUIRE);
	assert_true(s->sandbox_required);
	assert_int_equal(s->log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(s->audit, "/var/log/audit");
	settings_free(s);
}

static void test_providers(void **state)
{
	struct settings *s;
	char *text;

	(void)state;
	write_file(STORE "config.providers= a ,, b,a\t,c,\n"
	           "connectfs.poll.ms=5000\n"
	           "config.providers.a.class= org.apache.kafka.common.config.provider.FileConfigProvider \n"
	           "config.providers.a.param.allowed.paths=/a\\\\b \n"
	           "config.providers.a.param.poll.ms=700\n"
	           "config.providers.b.class=com.example.Other\n"
	           "config.providers.d.class=file\n");
	assert_int_equal(load("c.properties", NULL, 0, &s, &text), 0);
	assert_string_equal(text,
	        "c.properties:7: config.providers.b.class: warning: there is no provider "
	        "'com.example.Other' in this "
	        "version, so connectors that refer to 'b' will fail; there are: file, directory, env, vault\n"
	        "c.properties:2: config.providers: warning: provider 'c' has no class, so references to it "
	        "stay as "
	        "they are, as in Kafka; set config.providers.c.class\n"
	        "c.properties:8: config.providers.d.class: warning: it has no effect: 'd' is not in "
	        "config.providers\n");
	free(text);
	assert_int_equal(s->n_providers, 3);
	struct provider_settings *a = &s->providers[0];
	assert_string_equal(a->name, "a");
	assert_string_equal(a->class_name, "org.apache.kafka.common.config.provider.FileConfigProvider");
	assert_string_equal(a->file, "c.properties");
	assert_int_equal(a->line, 4);
	assert_int_equal(strmap_len(a->params), 1);
	assert_string_equal(strmap_get_str(a->params, "allowed.paths"), "/a\\b ");
	assert_int_equal(a->refresh.poll_ms, 700);
	assert_int_equal(a->refresh.fresh_ms, 30000);
	assert_int_equal(s->providers[1].refresh.poll_ms, 5000);
	assert_string_equal(s->providers[1].class_name, "com.example.Other");
	assert_string_equal(s->providers[2].name, "c");
	assert_null(s->providers[2].class_name);
	settings_free(s);
}

static void test_directory(void **state)
{
	static const char *const overrides[] = { "config.providers.file.param.allowed.paths=/x=y",
		                                 "connectfs.mode=0440" };
	static const char *const wrong[] = { "mode=0440", "bootstrap.servers=x" };
	struct settings *s = NULL;
	char *text;

	(void)state;
	assert_int_equal(load("store", overrides, 2, &s, &text), 0);
	assert_string_equal(text, "");
	free(text);
	assert_null(s->file);
	assert_string_equal(s->directory, store);
	assert_int_equal(s->n_providers, 3);
	assert_string_equal(s->providers[0].name, "file");
	assert_string_equal(strmap_get_str(s->providers[0].params, "allowed.paths"), "/x=y");
	assert_string_equal(s->providers[1].class_name, "directory");
	assert_string_equal(s->providers[2].class_name, "env");
	assert_null(s->providers[2].file);
	assert_int_equal(s->mode, 0440);
	settings_free(s);

	assert_int_equal(load("store", wrong, 2, &s, &text), -EINVAL);
	assert_string_equal(text, "-s mode: there is no such setting; did you mean connectfs.mode?\n"
	                          "-s bootstrap.servers: warning: it has no effect: connectfs has no such "
	                          "setting\n");
	free(text);
}

static void test_override_wins(void **state)
{
	static const char *const overrides[] = { "connectfs.mode=0444", "config.providers=x" };
	static const char *const wrong[] = { "connectfs.warm=perhaps" };
	struct settings *s = NULL;
	char *text;

	(void)state;
	write_file(STORE "connectfs.mode=nonsense\nconfig.providers=y\nconfig.providers.x.class=env\n");
	assert_int_equal(load(file, overrides, 2, &s, &text), 0);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(s->mode, 0444);
	assert_int_equal(s->n_providers, 1);
	assert_string_equal(s->providers[0].name, "x");
	settings_free(s);

	write_file(STORE);
	assert_int_equal(load(file, wrong, 1, &s, &text), -EINVAL);
	assert_string_equal(text, "-s connectfs.warm: 'perhaps' is neither true nor false\n");
	free(text);
}

static void test_bad_sources(void **state)
{
	struct settings *s = NULL;
	char *text;

	(void)state;
	assert_int_equal(load("missing", NULL, 0, &s, &text), -EINVAL);
	assert_string_equal(text, "missing: No such file or directory; give a settings file, or a "
	                          "directory of stored configs\n");
	free(text);
	assert_int_equal(load("/dev/null", NULL, 0, &s, &text), -EINVAL);
	assert_string_equal(text, "/dev/null: it is neither a file nor a directory; give a settings file, "
	                          "or a directory of stored configs\n");
	free(text);
	write_file("a");
	assert_int_equal(truncate(file, 1024 * 1024 + 1), 0);
	assert_int_equal(load("c.properties", NULL, 0, &s, &text), -EINVAL);
	assert_string_equal(text, "c.properties: it is larger than 1 MiB, which no settings file is\n");
	free(text);
	write_file(STORE "a=\\u12\n");
	assert_int_equal(load("c.properties", NULL, 0, &s, &text), -EINVAL);
	assert_true(strncmp(text, "c.properties:2: ", 16) == 0);
	free(text);
	if (geteuid() != 0) {
		assert_int_equal(chmod(file, 0), 0);
		assert_int_equal(load("c.properties", NULL, 0, &s, &text), -EINVAL);
		assert_true(strncmp(text, "c.properties: can't read the settings file: ", 44) == 0);
		free(text);
		assert_int_equal(chmod(file, 0600), 0);
	}
}

static void test_override_parse(void **state)
{
	struct settings_override o = { NULL, NULL };

	(void)state;
	assert_int_equal(settings_override_parse("a=b=c", &o), 0);
	assert_string_equal(o.key, "a");
	assert_string_equal(o.value, "b=c");
	free(o.key);
	free(o.value);
	assert_int_equal(settings_override_parse("a", &o), -EINVAL);
	assert_int_equal(settings_override_parse("=a", &o), -EINVAL);
	assert_true(settings_is_own_key("mode"));
	assert_true(settings_is_own_key("run.user"));
	assert_false(settings_is_own_key("connectfs.mode"));
	assert_false(settings_is_own_key("allow_other"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_files),     cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_all_keys),      cmocka_unit_test(test_providers),
		cmocka_unit_test(test_directory),     cmocka_unit_test(test_override_wins),
		cmocka_unit_test(test_bad_sources),   cmocka_unit_test(test_override_parse),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("core-settings", tests, setup, teardown);
}
