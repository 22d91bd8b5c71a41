/*
 * Tests of src/base/report.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/report.h"

static char *printed(const struct report *r)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	report_print(r, f);
	fclose(f);
	return text;
}

static void prints_places(void **state)
{
	struct report r = REPORT_INIT;

	(void)state;
	report_add(&r, REPORT_ERROR, "orders.properties", 12, "connection.password", "no %s", "such key");
	report_add(&r, REPORT_WARNING, "a", 0, NULL, "odd");
	report_add(&r, REPORT_NOTE, NULL, 0, "k", "fine");
	report_add(&r, REPORT_ERROR, NULL, 3, NULL, "x\ny\xc2\x9b\x9b\xe2\x80\xae\xc3\xa4");
	report_add(NULL, REPORT_ERROR, NULL, 0, NULL, "x");
	assert_int_equal(r.len, 4);
	assert_int_equal(r.errors, 2);
	assert_int_equal(r.warnings, 1);
	assert_false(r.truncated);
	char *text = printed(&r);
	assert_string_equal(text, "orders.properties:12: connection.password: no such key\n"
	                          "a: warning: odd\n"
	                          "k: note: fine\n"
	                          "line 3: x?y??????\xc3\xa4\n");
	free(text);
	report_done(&r);
	assert_int_equal(r.len, 0);
	report_done(&r);
	report_done(NULL);
}

static void stops_at_its_maximum(void **state)
{
	struct report r = REPORT_INIT;

	(void)state;
	for (unsigned i = 0; i < REPORT_MAX + 5; i++)
		report_add(&r, REPORT_ERROR, "f", i + 1, NULL, "%u", i);
	assert_int_equal(r.len, REPORT_MAX);
	assert_int_equal(r.errors, REPORT_MAX + 5);
	assert_true(r.truncated);
	for (unsigned i = 0; i < REPORT_MAX; i += 997)
		assert_int_equal(r.items[i].line, i + 1);
	report_done(&r);
	assert_false(r.truncated);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prints_places),
		cmocka_unit_test(stops_at_its_maximum),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
