/*
 * allowed.paths: Kafka's AllowedPathsTest, then symlinks and files that aren't there.
 */
#include "provider-help.h"
#include "provider/paths.h"

static int setup(void **state)
{
	if (help_setup(state) < 0)
		return -1;
	make_dir("dir");
	make_dir("dir2");
	make_dir("dirx");
	put_text("dir/myFile", "");
	put_text("dir2/myFile", "");
	put_text("dir/other", "");
	return 0;
}

static struct allowed_paths parse(const char *param)
{
	struct allowed_paths p;
	struct error err = ERROR_INIT;

	if (allowed_paths_parse(param, &p, &err) < 0)
		fail_msg("%s", err.text);
	return p;
}

static void check(const char *param, const char *path, int want)
{
	struct allowed_paths p = parse(param);
	int r = allowed_paths_check(&p, path);

	if (r != want)
		fail_msg("%s in %s: %d", path, param ? param : "null", r);
	allowed_paths_done(&p);
}

/* "NAME,NAME" in the test's directory */
static const char *both(const char *a, const char *b)
{
	static char s[2 * PATH_MAX];

	(void)snprintf(s, sizeof(s), "%s,%s", at(a), at(b));
	return s;
}

static void bad(const char *param, const char *text)
{
	struct allowed_paths p;
	struct error err = ERROR_INIT;

	assert_int_equal(allowed_paths_parse(param, &p, &err), -EINVAL);
	assert_string_equal(err.text, text);
}

static void test_kafka(void **state)
{
	(void)state;
	check(both("dir", "dir2"), at("dir/myFile"), 0);
	check(at("dir"), at("dir2"), -EACCES);
	check(NULL, at("dir/myFile"), 0);
	check(at("dir"), at("dir/../dir2"), -EACCES);
	check(both("dir", "dir2"), at("dir/../dir2"), 0);
	check("", at("dir/../dir2"), 0);
	bad("/foo", "Path /foo does not exist");
	bad("foo bar ", "Path foo bar  is not absolute");
}

static void test_more(void **state)
{
	char list[2 * PATH_MAX];

	(void)state;
	bad(",/tmp", "Path  is not absolute");
	bad("/tmp,,/tmp", "Path  is not absolute");
	bad("/tmp, /tmp", "Path  /tmp is not absolute");
	check(",", at("dir/myFile"), -EACCES);
	check(",,", "/", -EACCES);
	check("/", at("dir/myFile"), 0);
	check("/tmp,,", at("dir/myFile"), 0);
	check(at("dir"), at("dirx"), -EACCES);
	check(at("dir"), at("dir"), 0);
	check(at("dir/myFile"), at("dir/myFile"), 0);
	check(at("dir/myFile"), at("dir/other"), -EACCES);
	check(at("dir"), "dir/myFile", -EACCES);
	check(at("dir"), "", -EACCES);
	(void)snprintf(list, sizeof(list), "%s/./x/..//", at("dir"));
	check(list, at("dir/myFile"), 0);
}

static void test_links(void **state)
{
	(void)state;
	make_link("../dir2/myFile", "dir/out");
	make_link("myFile", "dir/in");
	make_link("dir", "current");
	make_link("nowhere", "dir/dangling");
	check(at("dir"), at("dir/out"), -EACCES);
	check(both("dir", "dir2"), at("dir/out"), 0);
	check(at("dir"), at("dir/in"), 0);
	check(at("current"), at("current/myFile"), 0);
	check(at("current"), at("dir/myFile"), 0);
	check(at("dir"), at("current/myFile"), -EACCES); /* by name, as Kafka */
	check(at("dir"), at("dir/dangling"), 0);
}

static void test_switched(void **state)
{
	struct allowed_paths p;

	(void)state;
	make_link("dir", "current");
	p = parse(at("current"));
	assert_int_equal(unlink(at("current")), 0);
	make_link("dir2", "current");
	assert_int_equal(allowed_paths_check(&p, at("current/myFile")), 0);
	assert_int_equal(allowed_paths_check(&p, at("dir2/myFile")), -EACCES);
	allowed_paths_done(&p);
}

static void test_missing(void **state)
{
	(void)state;
	make_link("../dir2", "dir/away");
	check(at("dir"), at("dir/new"), 0);
	check(at("dir"), at("dir/a/b/c"), 0);
	check(at("dir"), at("dir/away/new"), -EACCES);
	check(at("dir"), at("new"), -EACCES);
	check("/", "/no/such/thing", 0);
	check(at("dir"), at("dir/myFile/x"), 0);
}

static void test_match(void **state)
{
	struct allowed_paths p = parse(at("dir")), all = parse(NULL);

	(void)state;
	assert_true(allowed_paths_match(&p, at("dir/new/x")));
	assert_false(allowed_paths_match(&p, at("dirx")));
	assert_false(allowed_paths_match(&p, "/"));
	assert_true(allowed_paths_match(&all, "relative"));
	allowed_paths_done(&p);
	allowed_paths_done(&all);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, help_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_kafka),    T(test_more),    T(test_links),
		                            T(test_switched), T(test_missing), T(test_match) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
