/*
 * The registry: short names, Java class names, additions.
 */
#include "provider-help.h"

static void test_find(void **state)
{
	(void)state;
	assert_ptr_equal(registry_find("file"), &provider_file);
	assert_ptr_equal(registry_find("directory"), &provider_directory);
	assert_ptr_equal(registry_find("env"), &provider_env_var);
	assert_ptr_equal(registry_find("org.apache.kafka.common.config.provider.FileConfigProvider"), &provider_file);
	assert_ptr_equal(registry_find("org.apache.kafka.connect.configs.FileConfigProvider"), &provider_file);
	assert_ptr_equal(registry_find("org.apache.kafka.common.config.provider.DirectoryConfigProvider"),
	                 &provider_directory);
	assert_ptr_equal(registry_find("org.apache.kafka.common.config.provider.EnvVarConfigProvider"),
	                 &provider_env_var);
	assert_null(registry_find("File"));
	assert_null(registry_find(""));
	assert_null(registry_find("org.apache.kafka.common.config.provider.FileConfigProvider "));
}

static void test_add(void **state)
{
	static const char *const classes[] = { "com.example.A", "com.example.B", NULL };
	static const struct provider_ops one = { .name = "one", .classes = classes };
	static const struct provider_ops bare = { .name = "bare" };
	static const struct provider_ops twice = { .name = "two", .classes = classes };
	size_t n = 0;

	(void)state;
	while (registry_name(n)) {
		assert_non_null(registry_find(registry_name(n)));
		n++;
	}
	assert_int_equal(n, 11);
	assert_int_equal(registry_add(&one), 0);
	assert_int_equal(registry_add(&bare), 0);
	assert_int_equal(registry_add(&twice), -EEXIST);
	assert_int_equal(registry_add(&provider_file), -EEXIST);
	assert_ptr_equal(registry_find("com.example.B"), &one);
	assert_ptr_equal(registry_find("bare"), &bare);
	assert_null(registry_find("two"));
	assert_string_equal(registry_name(n), "one");
	assert_string_equal(registry_name(n + 3), "bare");
	assert_null(registry_name(n + 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_add),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
