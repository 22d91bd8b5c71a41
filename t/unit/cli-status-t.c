/*
 * The tables of status: what they show, their width, and that no name reaches the terminal's ears.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "cli/cli.h"

#define NOW INT64_C(1796088264000000000) /* 2026-12-01T01:24:24Z */

static const char sample[] =
	"{\"version\":\"0.1.0\",\"mountpoint\":\"/run/connect\",\"source\":\"/etc/c.properties\","
	"\"started\":\"2026-11-30T22:24:24.000Z\",\"supervisor\":1,\"worker\":2,\"notifier\":3,"
	"\"worker_restarts\":1,\"open_files\":2,\"parked\":0,"
	"\"memory\":{\"used\":4096,\"mapped\":262144,\"locked\":262144,\"lock_error\":null},"
	"\"connectors_by_state\":{\"idle\":0,\"ok\":1,\"stale\":0,\"failed\":1},"
	"\"connectors\":["
	"{\"name\":\"orders.properties\",\"connector\":\"orders\",\"state\":\"ok\",\"version\":7,"
	"\"size\":2048,"
	"\"mtime\":\"2026-12-01T01:20:24.000Z\",\"rotated\":\"2026-12-01T01:20:24.000Z\",\"error\":null,"
	"\"errno\":null,\"secrets\":[\"file:/etc/db\"],\"unknown_providers\":[\"date\"]},"
	"{\"name\":\"pay\\u001b[31mments.json\",\"connector\":\"payments\",\"state\":\"failed\","
	"\"version\":0,"
	"\"size\":0,\"mtime\":\"2026-12-01T01:20:24.000Z\",\"rotated\":null,"
	"\"error\":\"payments.json:3: connection.password: file: /etc/db has no key 'password'\","
	"\"errno\":\"ENOKEY\",\"secrets\":[],\"unknown_providers\":[]},"
	"{\"name\":\""
	"\xe6\xb3\xa8\xe6\x96\x87\xe6\xb3\xa8\xe6\x96\x87\xe6\xb3\xa8\xe6\x96\x87\xe6\xb3\xa8\xe6\x96\x87"
	"\xe6\xb3\xa8\xe6\x96\x87\xe6\xb3\xa8\xe6\x96\x87\xe6\xb3\xa8\xe6\x96\x87\xe6\xb3\xa8\xe6\x96\x87"
	"\xe6\xb3\xa8\xe6\x96\x87\xe6\xb3\xa8\xe6\x96\x87.json\",\"state\":\"idle\",\"version\":0,\"size\":0,"
	"\"rotated\":null,\"error\":null,\"unknown_providers\":[]}],"
	"\"secrets\":[{\"provider\":\"file\",\"id\":\"/a/very/long/path/of/directories/to/the/secret/"
	"db.properties\","
	"\"state\":\"ok\",\"fetched\":\"2026-12-01T01:24:22.000Z\",\"age_ms\":2000,\"rotation\":\"files\","
	"\"poll_ms\":null,\"expires\":null,\"next_ms\":null,\"users\":12,\"error\":null,\"errno\":null}],"
	"\"providers\":[{\"name\":\"file\",\"class\":\"file\",\"known\":true,\"fetches\":1,\"errors\":0}]}";

static const char expected[] =
	"CONNECTOR                           STATE   VERSION  ROTATED  SIZE  ERROR\n"
	"orders.properties                   ok            7       4m  2.0K  left as it is: ${date:…\n"
	"pay?[31mments.json                  failed        0        -     0  payments.json:3: "
	"connection.pas…\n"
	"注文注文注文注文注文注文注文注文…   idle          0        -     0\n"
	"\n"
	"SECRET                              STATE  FETCHED  NEXT  USERS  ERROR\n"
	"file:/a/ver…e/secret/db.properties  ok          2s     -     12\n"
	"\n"
	"3 connectors: 1 ok, 1 failed; 1 secret; 2 open files; up 3h; 256K locked; 1 worker restart\n";

static void test_table(void **state)
{
	struct buf out;
	bool broken = false;

	(void)state;
	buf_init(&out, 1 << 20);
	assert_int_equal(cli_status_table(slice_str(sample), false, NOW, &out, &broken), 0);
	assert_string_equal(out.data, expected);
	assert_true(broken);
	buf_free(&out);
}

static size_t columns(const char *line, size_t len)
{
	char copy[1024];
	wchar_t wide[1024];

	assert_true(len < sizeof(copy));
	memcpy(copy, line, len);
	copy[len] = '\0';
	size_t n = mbstowcs(wide, copy, 1024);
	assert_true(n != (size_t)-1);
	return (size_t)wcswidth(wide, n);
}

/* Names and sentences of all lengths, in one column characters and in two. */
static void test_width(void **state)
{
	(void)state;
	for (int len = 0; len < 120; len++) {
		char *json = NULL, name[600] = "";
		struct buf out;
		bool broken;

		for (int i = 0; i < len; i++)
			strcat(name, i % 3 == 0 ? "注" : i % 3 == 1 ? "a" : "é");
		assert_true(asprintf(&json,
		        "{\"connectors\":[{\"name\":\"%s\",\"state\":\"stale\",\"version\":12345678901,"
		        "\"size\":%d,"
		        "\"rotated\":\"1970-01-01T00:00:00Z\",\"error\":\"%s\"}],"
		        "\"secrets\":[{\"provider\":\"p\","
		        "\"id\":\"%s\",\"state\":\"fetching\",\"age_ms\":999999999999999,\"next_ms\":-5,"
		        "\"users\":99999999999,\"error\":\"%s\"}],\"memory\":{\"lock_error\":\"%s\"}}",
		        name, len * 100000, name, name, name, name) > 0);
		buf_init(&out, 1 << 20);
		assert_int_equal(cli_status_table(slice_str(json), false, NOW, &out, &broken), 0);
		assert_null(strchr(out.data, '\033'));
		for (const char *p = out.data; *p; p = strchr(p, '\n') + 1)
			assert_in_range(columns(p, (size_t)(strchr(p, '\n') - p)), 0, 100);
		buf_free(&out);
		free(json);
	}
}

/* Of memory the summary has told. */
static void test_protections(void **state)
{
	static const char json[] =
		"{\"connectors\":[],\"secrets\":[],\"protections\":{"
		"\"seccomp\":{\"in_force\":true,\"why\":null},"
		"\"files\":{\"in_force\":false,\"why\":\"not confined, set allowed.paths\"},"
		"\"network\":{\"in_force\":false,\"why\":\"no\\u001bthing\"},"
		"\"memory_lock\":{\"in_force\":false,\"why\":\"Cannot allocate memory\"}},"
		"\"notifier_protections\":{\"seccomp\":{\"in_force\":false,\"why\":\"none\"},"
		"\"files\":{\"in_force\":true,\"why\":null}}}";
	struct buf out;
	bool broken;

	(void)state;
	buf_init(&out, 1 << 20);
	assert_int_equal(cli_status_table(slice_str(json), false, NOW, &out, &broken), 0);
	assert_false(broken);
	assert_non_null(strstr(out.data, "\nnot in force: files: not confined, set allowed.paths\n"
	                                "not in force: network: no?thing\n"
	                                "not in force in the notifier: seccomp: none\n"));
	buf_free(&out);
}

static void test_colour(void **state)
{
	struct buf out;
	bool broken;

	(void)state;
	buf_init(&out, 1 << 20);
	assert_int_equal(cli_status_table(slice_str(sample), true, NOW, &out, &broken), 0);
	assert_non_null(strstr(out.data, "\033[31mfailed\033[0m"));
	assert_non_null(strstr(out.data, "\033[32mok\033[0m"));
	assert_null(strstr(out.data, "pay\033"));
	buf_free(&out);
}

static void test_others(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "{}", "{\"connectors\":{},\"secrets\":[]}" };
	struct buf out;
	bool broken = true;

	(void)state;
	buf_init(&out, 1 << 20);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cli_status_table(slice_str(bad[i]), false, NOW, &out, &broken), -EINVAL);
	assert_int_equal(cli_status_table(slice_str("{\"connectors\":[],\"secrets\":[]}"), false, NOW, &out,
	                                  &broken), 0);
	assert_string_equal(out.data, "0 connectors; 0 secrets; 0 open files; up -; 0 locked\n");
	assert_false(broken);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_width),
		cmocka_unit_test(test_protections),
		cmocka_unit_test(test_colour),
		cmocka_unit_test(test_others),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("cli-status", tests, NULL, NULL);
}
