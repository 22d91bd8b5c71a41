/*
 * The registry: finds a provider by our short name or by a Java class name.
 */
#ifndef CONNECTFS_PROVIDER_REGISTRY_H
#define CONNECTFS_PROVIDER_REGISTRY_H

#include "provider/provider.h"

/* NULL: there is none. Case matters, as for Java. */
const struct provider_ops *registry_find(const char *class_name);
/* The names that registry_find knows, for messages: i = 0, 1, … until NULL. */
const char *registry_name(size_t i);
/* Adds one (tests, plugins). ops stays the caller's and must outlive the process. Before
 * threads. 0, -EEXIST or -ENOMEM. */
int registry_add(const struct provider_ops *ops);

#endif
