/*
 * The provider "env": Kafka's EnvVarConfigProviderTest, patterns, files of variables.
 */
#include "provider-help.h"

#define KAFKA "org.apache.kafka.common.config.provider.EnvVarConfigProvider"

static int setup(void **state)
{
	(void)clearenv();
	(void)setenv("PATH", "/usr/bin:/bin", 1);
	(void)setenv("test_var1", "value1", 1);
	(void)setenv("secret_var2", "value2", 1);
	(void)setenv("new_var3", "value3", 1);
	(void)setenv("not_so_secret_var4", "value4", 1);
	(void)setenv("EMPTY", "", 1);
	(void)setenv("EQ", "a=b=", 1);
	(void)setenv("BAD", "\xff", 1);
	return help_setup(state);
}

static void test_kafka(void **state)
{
	struct opened o = open_with(KAFKA, NULL);
	struct error err = ERROR_INIT;
	struct got g;
	struct buf id;

	(void)state;
	g = fetch_keys(o, "", KEYS("test_var1"));
	assert_true(g.constant);
	assert_values(g, KEYS("test_var1", "value1"));
	assert_values(fetch_keys(o, "", KEYS("secret_var2", "test_var1")),
	              KEYS("test_var1", "value1", "secret_var2", "value2"));
	assert_values(fetch_keys(o, "", KEYS("EMPTY", "EQ", "none", "")), KEYS("EMPTY", "", "EQ", "a=b="));
	assert_nothing(fetch_keys(o, "", KEYS("BAD")), "variable BAD is not UTF-8");
	assert_int_equal(map_it(o, "test-path", &id, &err), -EIO);
	assert_string_equal(err.text, "Path is not supported for EnvVarConfigProvider, invalid value 'test-path'");
	buf_free(&id);
	close_it(o);
}

static void test_captured(void **state)
{
	struct opened o = open_with("env", NULL);

	(void)state;
	(void)setenv("test_var1", "changed", 1);
	(void)unsetenv("new_var3");
	assert_values(fetch_keys(o, "", KEYS("new_var3", "test_var1")),
	              KEYS("new_var3", "value3", "test_var1", "value1"));
	close_it(o);
}

static void test_pattern(void **state)
{
	struct opened o = open_with("env", PARAMS("allowlist.pattern", "secret_.*"));

	(void)state;
	assert_values(fetch_keys(o, "", KEYS("secret_var2")), KEYS("secret_var2", "value2"));
	assert_nothing(fetch_keys(o, "", KEYS("not_so_secret_var4")),
	               "the variable not_so_secret_var4 is not allowed by allowlist.pattern");
	close_it(o);
	o = open_with("env", PARAMS("allowlist.pattern", "E|EQ|b"));
	assert_values(fetch_keys(o, "", KEYS("EMPTY", "EQ")), KEYS("EQ", "a=b="));
	close_it(o);
	/* Backtracks without end: refused, not waited for. */
	o = open_with("env", PARAMS("allowlist.pattern", "(e*)*(e*)*(e*)*[^_]*X"));
	assert_nothing(fetch_keys(o, "", KEYS("eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee_")), "not allowed");
	close_it(o);
}

static void test_open_fails(void **state)
{
	struct error err = ERROR_INIT;
	const char *param = NULL;
	void *self;

	(void)state;
	assert_int_equal(open_provider("env", PARAMS("allowlist.pattern", "a(b"), &self, &param, &err), -EINVAL);
	assert_string_equal(param, "allowlist.pattern");
	assert_non_null(strstr(err.text, "a(b"));
}

static void test_lines(void **state)
{
	struct opened o = open_with("env", PARAMS("environment.file", at("env")));
	struct got g;

	(void)state;
	assert_failed(fetch_keys(o, "", KEYS("A")), ENOKEY, false, "/env: no such file");
	put_text("env", "# c\n; c\n\nA=1\n  B = two words  \nC=\"q \\\"x\\\" \\n\"\nD='s \\ \"'\nE=\nF=a\\\n b\n"
	                "nothing\nG=\"two\nlines\"\nH='a' \"b\"\nA=last\r\nI=x#y\nJ=k=v");
	g = fetch_keys(o, "", KEYS("A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "nothing"));
	assert_false(g.constant);
	assert_int_equal(secret_values_n_files(g.values), 1);
	assert_values(g, KEYS("A", "last", "B", "two words", "C", "q \"x\" \\n", "D", "s \\ \"", "E", "", "F",
	                      "a b", "G", "two\nlines", "H", "ab", "I", "x#y", "J", "k=v"));
	put_text("env", "A=1\n\nB='x\n");
	assert_failed(fetch_keys(o, "", KEYS("A")), EIO, true, "/env:3: a quote that does not end");
	put_text("env", "");
	assert_nothing(fetch_keys(o, "", KEYS("A")), "");
	put_text("env", "A=\\");
	assert_values(fetch_keys(o, "", KEYS("A")), KEYS("A", "\\"));
	put_text("env", "A=\xff\nB=1\n");
	assert_values(fetch_keys(o, "", KEYS("A", "B")), KEYS("B", "1"));
	close_it(o);
}

static void test_block(void **state)
{
	struct opened o = open_with("env", PARAMS("environment.file", at("env"), "allowlist.pattern", "[A-Y]"));

	(void)state;
	put_bytes("env", "A=1\0B=\"2\n\"\0C\0=D=3\0A=2\0Z=0\0E=5", 29);
	assert_values(fetch_keys(o, "", KEYS("A", "B", "C", "E", "Z")), KEYS("A", "1", "B", "\"2\n\"", "E", "5"));
	close_it(o);
}

static void test_cancel(void **state)
{
	struct opened o = open_with("env", NULL);
	struct pending a, b;

	(void)state;
	assert_int_equal(begin(o, "", KEYS("test_var1"), &a), 0);
	assert_int_equal(begin(o, "", KEYS("test_var1"), &b), 0);
	o.ops->cancel(o.self, &a.fetch);
	while (!b.got.done)
		assert_int_equal(loop_run_once(env.loop, 1), 0);
	assert_false(a.got.done);
	secret_values_unref(b.got.values);
	close_it(o);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, help_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_kafka), T(test_captured), T(test_pattern), T(test_open_fails),
		                            T(test_lines), T(test_block),    T(test_cancel) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
