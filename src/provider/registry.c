/*
 * The registry of providers: the built-in ones, then those added.
 */
#include "provider/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct provider_ops *const builtin[] = {
	&provider_file,
	&provider_directory,
	&provider_env_var,
	&provider_vault,
};
enum { N_BUILTIN = sizeof(builtin) / sizeof(builtin[0]) };

/* Written before there are threads, and never freed: it lives as long as the process. */
static const struct provider_ops **added;
static size_t n_added;

static const struct provider_ops *ops_at(size_t i)
{
	if (i < N_BUILTIN)
		return builtin[i];
	return i - N_BUILTIN < n_added ? added[i - N_BUILTIN] : NULL;
}

/* The n-th name of a provider: its short name, then its classes; NULL: no more. */
static const char *name_at(const struct provider_ops *ops, size_t n)
{
	if (n == 0)
		return ops->name;
	if (!ops->classes)
		return NULL;
	for (size_t i = 1; ops->classes[i - 1]; i++)
		if (i == n)
			return ops->classes[i - 1];
	return NULL;
}

const struct provider_ops *registry_find(const char *class_name)
{
	const struct provider_ops *ops;
	const char *name;

	for (size_t i = 0; (ops = ops_at(i)); i++)
		for (size_t n = 0; (name = name_at(ops, n)); n++)
			if (strcmp(name, class_name) == 0)
				return ops;
	return NULL;
}

const char *registry_name(size_t i)
{
	const struct provider_ops *ops;
	const char *name;

	for (size_t k = 0; (ops = ops_at(k)); k++)
		for (size_t n = 0; (name = name_at(ops, n)); n++)
			if (i-- == 0)
				return name;
	return NULL;
}

int registry_add(const struct provider_ops *ops)
{
	const struct provider_ops **bigger;
	const char *name;

	for (size_t n = 0; (name = name_at(ops, n)); n++)
		if (registry_find(name))
			return -EEXIST;
	bigger = realloc(added, (n_added + 1) * sizeof(*added));
	if (!bigger)
		return -ENOMEM;
	added = bigger;
	added[n_added++] = ops;
	return 0;
}
