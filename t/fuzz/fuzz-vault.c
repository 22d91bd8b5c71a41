/*
 * Fuzzes what a server of Vault's sends, and paths of references. The first byte says what the rest is.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/secmem.h"
#include "provider/vault_path.h"
#include "provider/vault_reply.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	secmem_install_jansson();
	return 0;
}

static void check(int ok)
{
	if (!ok)
		abort();
}

static void fuzz_reply(struct slice body, unsigned how)
{
	const struct slice wanted[] = { SLICE_LIT("password"), SLICE_LIT("a.b.0"), SLICE_LIT("") };
	struct vault_reply r;
	struct vault_secret s;
	struct vault_mount m;
	struct error err = ERROR_INIT;
	int e = vault_reply_parse(body, &r, &err);

	if (e) {
		check(err.code == -e && err.text[0]);
		return;
	}
	e = vault_reply_secret(&r, how & 4 ? 404 : 200, (enum vault_kind)(how % 3), wanted, 3, 1700000000, &s, &err);
	if (e == 0) {
		for (size_t i = 0; i < s.n_fields; i++)
			for (size_t j = 0; j < i; j++)
				check(!slice_eq(s.fields[i].key, s.fields[j].key));
		check((s.ttl_ms > 0 || s.ttl_ms == -1) && s.end_ms >= -1);
		vault_secret_done(&s);
	}
	(void)vault_reply_mount(&r, &m);
	vault_reply_done(&r);
}

/* An id is the same when it is mapped again, and what is asked for has no byte that a request line can't have. */
static void fuzz_path(struct slice path, unsigned how)
{
	const struct vault_settings settings = { .dialect = how & 1 ? VAULT_LENSES : VAULT_OURS, .kv_version = how & 2,
	                                         .prefix_depth = how >> 2 & 3 };
	const struct vault_settings ours = { .dialect = VAULT_OURS };
	struct buf id, again, field;
	struct vault_target t;
	struct vault_mount mount = { SLICE_LIT("secret/"), how % 3 };

	buf_init(&id, 1 << 20);
	buf_init(&again, 1 << 20);
	buf_init(&field, 1 << 20);
	if (path.len && vault_path_map(&settings, path, SLICE_LIT("k"), &id, &field, NULL) == 0) {
		buf_reset(&field);
		check(vault_path_map(&ours, buf_slice(&id), SLICE_LIT("k"), &again, &field, NULL) == 0);
		check(slice_eq(buf_slice(&id), buf_slice(&again)));
		if (vault_path_target(buf_slice(&id), &mount, &t, NULL) == 0) {
			for (size_t i = 0; i < t.path.len; i++)
				check((unsigned char)t.path.data[i] > ' ' && (unsigned char)t.path.data[i] < 0x7f);
			vault_target_done(&t);
		}
	}
	buf_free(&id);
	buf_free(&again);
	buf_free(&field);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest;

	if (!size)
		return 0;
	rest = slice_of((const char *)data + 1, size - 1);
	if (data[0] & 0x80)
		fuzz_path(rest, data[0] & 0x7f);
	else
		fuzz_reply(rest, data[0]);
	return 0;
}
