/*
 * Loading what src/net/ needs of others.
 */
#define NET_LIB_ITSELF
#include "net/lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct net_lib net_lib;

/* A pointer to a function is what dlsym() returns (POSIX). */
static bool find(void *from, const char *name, void *ret, size_t size)
{
	void *f = from ? dlsym(from, name) : NULL;

	_Static_assert(sizeof(void (*)(void)) == sizeof(void *), "POSIX");
	memcpy(ret, &f, size);
	return f;
}

int net_lib_load(void)
{
	static bool loaded;
	struct net_lib l;
	bool all = true;
	void *from;

	if (loaded)
		return 0;
#define FIND(f) all = find(from, #f, &l.f##_, sizeof(l.f##_)) && all;
	from = dlopen("libcrypto.so.3", RTLD_NOW);
	NET_LIB_CRYPTO(FIND)
	from = dlopen("libssl.so.3", RTLD_NOW);
	NET_LIB_SSL(FIND)
	from = dlopen("libcurl.so.4", RTLD_NOW);
	NET_LIB_CURL(FIND)
	if (!all)
		return -ELIBACC;
	net_lib = l;
	loaded = true;
	return 0;
}
