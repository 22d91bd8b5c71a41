/*
 * What stands after -o.
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

#include "cli/cli.h"

struct parsed {
	struct cli_mount_options mount;
	struct cli_settings settings;
	struct error err;
};

static int parse(const char *arg, struct parsed *p)
{
	return cli_mount_parse(arg, &p->mount, &p->settings, &p->err);
}

static void done(struct parsed *p)
{
	free(p->mount.fsname);
	cli_settings_done(&p->settings);
	*p = (struct parsed){ .err = ERROR_INIT };
}

static void test_accepted(void **state)
{
	struct parsed p = { .err = ERROR_INIT };

	(void)state;
	assert_int_equal(parse("defaults,ro,_netdev,nofail,noauto,user,users,nouser,auto,rw,dev,"
	                       "nodev,suid,nosuid,"
	                       "exec,noatime,relatime,default_permissions,x-systemd.automount,x-a=b,"
	                       "X-mount.mkdir,"
	                       "comment=a b,comment,group,owner,,", &p), 0);
	assert_false(p.mount.allow_other || p.mount.noexec);
	assert_null(p.mount.fsname);
	assert_int_equal(p.settings.len, 0);
	assert_int_equal(parse("", &p), 0);
	done(&p);
}

static void test_ours(void **state)
{
	struct parsed p = { .err = ERROR_INIT };

	(void)state;
	assert_int_equal(parse("allow_other,noexec,fsname=a\\,b\\\\c,mode=0440,group=connect", &p), 0);
	assert_int_equal(parse("connectfs.stale.ms=-1,warm,store.directory=/a=b,notify=modify\\,attrib,"
	                       "fsname=x", &p), 0);
	assert_true(p.mount.allow_other && p.mount.noexec);
	assert_string_equal(p.mount.fsname, "x");
	static const char *const want[][2] = {
		{ "connectfs.mode", "0440" },       { "connectfs.group", "connect" },
		{ "connectfs.stale.ms", "-1" },     { "connectfs.warm", "true" },
		{ "connectfs.store.directory", "/a=b" }, { "connectfs.notify", "modify,attrib" },
	};
	assert_int_equal(p.settings.len, sizeof(want) / sizeof(want[0]));
	for (size_t i = 0; i < p.settings.len; i++) {
		assert_string_equal(p.settings.items[i].key, want[i][0]);
		assert_string_equal(p.settings.items[i].value, want[i][1]);
	}
	assert_int_equal(parse("exec", &p), 0);
	assert_false(p.mount.noexec);
	done(&p);
	assert_int_equal(parse("fsname=a\\,b\\\\c", &p), 0);
	assert_string_equal(p.mount.fsname, "a,b\\c");
	done(&p);
}

static void test_wrong(void **state)
{
	static const char *const rows[][2] = {
		{ "ro,alow_other", "-o alow_other: there is no such option; did you mean allow_other?" },
		{ "noexecs", "-o noexecs: there is no such option; did you mean noexec?" },
		{ "mod=0440", "-o mod: there is no such option; did you mean mode?" },
		{ "colour=blue", "-o colour: there is no such option; connectfs(8) lists them" },
		{ "mode", "-o mode: it needs a value: mode=VALUE" },
		{ "fsname", "-o fsname: it needs a value: fsname=VALUE" },
		{ "allow_other=1", "-o allow_other: it takes no value" },
		{ "ro=1", "-o ro: it takes no value" },
		{ "uid=7", "-o uid: write owner=USER" },
		{ "allow_root", "-o allow_root: it is not offered; use allow_other, and say by owner, "
		  "group and mode "
		  "who may read" },
		{ "remount", "-o remount: a mount can't be changed in this version; unmount it and mount "
		  "it again" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct parsed p = { .err = ERROR_INIT };
		assert_int_equal(parse(rows[i][0], &p), -EINVAL);
		assert_string_equal(p.err.text, rows[i][1]);
		done(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_ours),
		cmocka_unit_test(test_wrong),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("cli-mount", tests, NULL, NULL);
}
