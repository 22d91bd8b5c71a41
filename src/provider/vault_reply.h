/*
 * Answers of Vault, taken apart. Pure: bytes in, structures out; never trusts a length, a type or a nesting depth.
 * What is a secret lies in secret memory (jansson allocates there) and is wiped.
 */
#ifndef CONNECTFS_PROVIDER_VAULT_REPLY_H
#define CONNECTFS_PROVIDER_VAULT_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "provider/provider.h"
#include "provider/vault_path.h"

enum {
	VAULT_JSON_DEPTH = 64,
	VAULT_JSON_VALUES = 50000, /* a secret of 10,000 keys has fewer; their tree has some megabytes */
	VAULT_ERRORS_SHOWN = 3,
};

struct vault_auth_reply {   /* "auth" of a login or a renewal */
	struct slice token;     /* client_token */
	int64_t lease_s;        /* 0: it never ends */
	bool renewable, batch, mfa;
	int64_t num_uses;
};

struct vault_reply {
	struct json_t *root;    /* owned; the slices below point into it */
	struct slice lease_id;
	int64_t lease_s;
	bool renewable;
	bool has_auth, has_wrap, has_data;
	char *numbers;          /* owned, vault_reply.c's own: what numbers were written as */
	struct vault_auth_reply auth;
	struct slice wrap_token, wrap_path; /* wrap_info: token, creation_path */
	char errors[256];       /* "permission denied; …": the errors, cut, what may be a token masked; "": none */
};

/* 0; -EPROTO with a sentence that doesn't quote the body: no JSON ("HTML in place of JSON" where it looks so), not an
 * object, too deep, a member of the wrong type; -ENOMEM. An empty body is an empty reply. Of members of one
 * name the last counts, as in Vault. */
int vault_reply_parse(struct slice body, struct vault_reply *ret, struct error *ret_err);
void vault_reply_done(struct vault_reply *r);
/* Is one of the errors this text, or does one contain it? */
bool vault_reply_says(const struct vault_reply *r, const char *text);

/* How a read is to be understood, by vault.md 4 and 5. */
struct vault_secret {
	struct secret_field *fields; /* keys: the wanted fields', or in the reply; values: in secret memory of their own */
	size_t n_fields;
	int64_t ttl_ms;         /* static role: until it is to be read again (200 while ttl <= 1); KV 1 with a "ttl" of
	                           its own; else -1 */
	bool exact;             /* ttl_ms is: a static role */
	int64_t end_ms;         /* a certificate: until its expiration, from now; else -1 */
};

/*
 * Takes the wanted fields out of a 200's or a 404's data. A field is a member of the data, or, where there is none of
 * that name, a path of members joined by dots ("tls.key", "hosts.0" for arrays). Strings as they are; numbers as they
 * were written ("1.10", any number of digits); true and false as JSON writes them; objects and arrays as compact JSON
 * with the order kept; null is not there.
 * 0; -ENOKEY: nothing there; -EKEYREVOKED with a sentence: deleted (deletion_time, and no data or 404) or destroyed;
 * -EPROTO; -ENOMEM. With data a deletion_time is one to come, whatever our clock says. now_s: real time, in
 * seconds, for certificates.
 */
int vault_reply_secret(const struct vault_reply *r, int status, enum vault_kind kind, const struct slice *wanted,
                       size_t n_wanted, int64_t now_s, struct vault_secret *ret, struct error *ret_err);
void vault_secret_done(struct vault_secret *s);

/* lookup-self and leases/lookup: "data". False: it isn't there or not of that type. */
bool vault_reply_number(const struct vault_reply *r, const char *key, int64_t *ret);
bool vault_reply_bool(const struct vault_reply *r, const char *key, bool *ret);
bool vault_reply_string(const struct vault_reply *r, const char *key, struct slice *ret);
/* Mount discovery: data.path and data.options.version where data.type is kv. ret->path points into r. */
bool vault_reply_mount(const struct vault_reply *r, struct vault_mount *ret);
/* "2026-11-24T22:24:24.123456789Z" or with an offset, in ns since 1970; false: no such time. */
bool vault_parse_time(struct slice s, int64_t *ret_ns);

#endif
