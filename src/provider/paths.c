/*
 * allowed.paths: what a file or directory provider may read.
 */
#include "provider/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

/* Takes over entry, also on failure. */
static int add_entry(struct allowed_paths *p, char *entry)
{
	char **bigger;

	if (!entry)
		return -ENOMEM;
	bigger = realloc(p->entries, (p->len + 1) * sizeof(*p->entries));
	if (!bigger) {
		free(entry);
		return -ENOMEM;
	}
	p->entries = bigger;
	p->entries[p->len++] = entry;
	return 0;
}

static int parse_entry(struct allowed_paths *p, const char *item, struct error *err)
{
	char path[PATH_MAX];
	char *real;
	int r;

	if (file_normalize(item, path, sizeof(path)) < 0)
		return error_set(err, EINVAL, "Path %.200s… is too long", item);
	if (path[0] != '/')
		return error_set(err, EINVAL, "Path %s is not absolute", item[0] ? path : "");
	real = realpath(path, NULL);
	if (!real && errno == ENOMEM)
		return error_set(err, ENOMEM, "out of memory");
	if (!real)
		return error_set(err, EINVAL, "Path %s does not exist", path);
	r = add_entry(p, strdup(path));
	if (r == 0 && strcmp(path, real) != 0)
		r = add_entry(p, real);
	else
		free(real);
	return r < 0 ? error_set(err, ENOMEM, "out of memory") : 0;
}

int allowed_paths_parse(const char *param, struct allowed_paths *ret, struct error *ret_err)
{
	struct allowed_paths p = { .unrestricted = !param || param[0] == '\0' };
	char *copy, *item, *next;
	size_t len;
	int r = 0;

	if (p.unrestricted) {
		*ret = p;
		return 0;
	}
	copy = strdup(param);
	if (!copy)
		return error_set(ret_err, ENOMEM, "out of memory");
	/* Java's split() drops trailing empty strings, and only those. */
	len = strlen(copy);
	while (len > 0 && copy[len - 1] == ',')
		copy[--len] = '\0';
	for (item = len > 0 ? copy : NULL; item && r == 0; item = next) {
		next = strchr(item, ',');
		if (next)
			*next++ = '\0';
		r = parse_entry(&p, item, ret_err);
	}
	free(copy);
	if (r < 0)
		allowed_paths_done(&p);
	else
		*ret = p;
	return r;
}

void allowed_paths_done(struct allowed_paths *p)
{
	for (size_t i = 0; i < p->len; i++)
		free(p->entries[i]);
	free(p->entries);
	*p = (struct allowed_paths){ 0 };
}

/* By whole components: /a/dd does not cover /a/ddx. */
static bool covers(const char *entry, const char *path)
{
	size_t len = strlen(entry);

	if (strncmp(entry, path, len) != 0)
		return false;
	return path[len] == '\0' || path[len] == '/' || (len > 0 && entry[len - 1] == '/');
}

bool allowed_paths_match(const struct allowed_paths *p, const char *path)
{
	if (p->unrestricted)
		return true;
	if (path[0] != '/')
		return false;
	for (size_t i = 0; i < p->len; i++)
		if (covers(p->entries[i], path))
			return true;
	return false;
}

/* The real path, or where the file isn't there, that of its deepest existing directory with the
 * rest appended. path is normalised and absolute. */
static int real_or_nearest(const char *path, char ret[PATH_MAX])
{
	char dir[PATH_MAX], real[PATH_MAX];
	size_t cut = strlen(path);

	memcpy(dir, path, cut + 1);
	while (!realpath(dir, real)) {
		if ((errno != ENOENT && errno != ENOTDIR) || cut == 0)
			return -errno;
		do
			cut--;
		while (cut > 0 && path[cut] != '/');
		memcpy(dir, path, cut);
		strcpy(dir + cut, cut == 0 ? "/" : "");
	}
	if (strlen(real) + strlen(path + cut) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(ret, strcmp(real, "/") == 0 && path[cut] != '\0' ? "" : real);
	strcat(ret, path + cut);
	return 0;
}

int allowed_paths_permit(const struct allowed_paths *p, const char *real)
{
	char entry[PATH_MAX];

	if (allowed_paths_match(p, real))
		return 0;
	/* An entry may itself be a symlink that has been switched since (Kubernetes' ..data): where
	 * it leads now is what the operator allowed. */
	for (size_t i = 0; i < p->len; i++)
		if (realpath(p->entries[i], entry) && covers(entry, real))
			return 0;
	return -EACCES;
}

int allowed_paths_check(const struct allowed_paths *p, const char *path)
{
	char norm[PATH_MAX], real[PATH_MAX];
	int r;

	if (p->unrestricted)
		return 0;
	r = file_normalize(path, norm, sizeof(norm));
	if (r < 0)
		return r;
	if (!allowed_paths_match(p, norm))
		return -EACCES;
	r = real_or_nearest(norm, real);
	return r < 0 ? r : allowed_paths_permit(p, real);
}
