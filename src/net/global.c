/*
 * What is set up once for all connections: memory that is wiped, and what the libraries would load or read later.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http.h"
#include "net/lib.h"

/* ---- memory that is wiped ---- */

static void *wiping_malloc(size_t n)
{
	return malloc(n);
}

static void *wiping_calloc(size_t n, size_t size)
{
	return calloc(n, size);
}

static void wiping_free(void *p)
{
	if (!p)
		return;
	OPENSSL_cleanse(p, malloc_usable_size(p));
	free(p);
}

static void *wiping_realloc(void *p, size_t n)
{
	void *bigger;
	size_t old = p ? malloc_usable_size(p) : 0;

	if (p && !n) {
		wiping_free(p);
		return NULL;
	}
	bigger = malloc(n);
	if (bigger && p) {
		memcpy(bigger, p, old < n ? old : n);
		wiping_free(p);
	}
	return bigger;
}

static char *wiping_strdup(const char *s)
{
	return strdup(s);
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return n ? malloc(n) : NULL;
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return wiping_realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	wiping_free(p);
}

/* What the name service would load when it is asked first. Which modules, /etc/nsswitch.conf says. */
static void load_name_service(void)
{
	FILE *f = fopen("/etc/nsswitch.conf", "re");
	char line[1024], name[300], *next, *word;

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "hosts:", 6) != 0)
			continue;
		for (word = strtok_r(line + 6, " \t\n", &next); word; word = strtok_r(NULL, " \t\n", &next)) {
			if (word[0] == '[' || strchr(word, '/') || strlen(word) > 64)
				continue;
			snprintf(name, sizeof(name), "libnss_%s.so.2", word);
			(void)!dlopen(name, RTLD_NOW); /* files and dns are libc's own */
		}
	}
	if (f)
		fclose(f);
}

int http_global_init(void)
{
	static bool done;
	SSL_CTX *ctx;
	int err;

	if (done)
		return 0;
	err = net_lib_load();
	if (err)
		return err;
	/* Refused when OpenSSL has allocated already: then it goes on with its own. */
	(void)!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free);
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, wiping_malloc, wiping_free, wiping_realloc, wiping_strdup,
	                         wiping_calloc) != CURLE_OK)
		return -ENOMEM;
	if (!OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL))
		return -ENOMEM;
	ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		return -ENOMEM;
	SSL_CTX_free(ctx);
	load_name_service();
	done = true;
	return 0;
}
