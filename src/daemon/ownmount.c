/*
 * The supervisor's mount: its beginning and its end, and whether it lives; and what the service manager keeps of
 * it over our own death.
 */
#include "daemon/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/keep.h"
#include "base/log.h"
#include "daemon/mount.h"
#include "fs/journal.h"

static const char *const stored[] = { "connectfs-device", "connectfs-keep", "connectfs-journal" };
enum { STORED = sizeof(stored) / sizeof(stored[0]) };

bool mount_is_ours(const struct supervisor *s)
{
	return mount_is_at(s->mountpoint, s->major, s->minor);
}

bool mount_is_alive(const struct supervisor *s)
{
	struct pollfd p = { .fd = s->device };

	return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLERR | POLLHUP | POLLNVAL));
}

void mount_end(struct supervisor *s, bool lazy)
{
	int err = -EBUSY;

	if (!s->mounted)
		return;
	s->mounted = false;
	if (!mount_is_ours(s))
		return;
	if (!lazy)
		err = mount_close(s->mountpoint, false);
	if (err)
		err = mount_close(s->mountpoint, true);
	if (err && err != -EINVAL && err != -ENOENT)
		log_error("can't unmount", "mountpoint", s->mountpoint, "error", strerror(-err), NULL);
	else
		log_info("unmounted", "mountpoint", s->mountpoint, NULL);
}

static int do_mount(struct supervisor *s, struct error *ret_err)
{
	int err = mount_open(s->mountpoint, &s->start->mount, &s->device, ret_err);

	if (!err)
		err = mount_identify(s->mountpoint, &s->major, &s->minor, ret_err);
	s->mounted = !err;
	return err;
}

void mount_drop_stored(struct supervisor *s)
{
	for (size_t i = 0; i < STORED; i++)
		service_drop_fd(&s->service, stored[i]);
}

void mount_store_again(struct supervisor *s)
{
	const int fds[STORED] = { s->device, s->keep, s->journal };

	mount_drop_stored(s);
	for (size_t i = 0; i < STORED; i++)
		service_keep_fd(&s->service, stored[i], fds[i]);
}

int mount_begin(struct supervisor *s, struct error *ret_err)
{
	int err;

	if (s->device >= 0)
		return 0;
	err = keep_create(&s->keep);
	if (!err)
		err = journal_create(clock_real_ns(), &s->journal);
	if (err)
		return error_set(ret_err, EIO, "can't start: %s", strerror(-err));
	err = do_mount(s, ret_err);
	if (!err)
		mount_store_again(s);
	return err;
}

/* ---- what the service manager keeps ---- */

void mount_take_stored(struct supervisor *s)
{
	int fds[STORED];

	service_take_fds(!s->start->background, stored, STORED, fds);
	s->device = fds[0];
	s->keep = fds[1];
	s->journal = fds[2];
}

bool mount_go_on(struct supervisor *s)
{
	struct mount_entry found = { 0 };

	if (s->device >= 0 && s->keep >= 0 && s->journal >= 0 && mount_is_alive(s) &&
	    mount_find(s->mountpoint, &found) == 0 && found.ours) {
		free(found.source);
		s->major = found.major;
		s->minor = found.minor;
		s->mounted = true;
		s->death = CONTROL_DEATH_KILLED;
		s->restarts = 1;
		log_info("going on with the mount of a supervisor that died", "mountpoint", s->mountpoint, NULL);
		return true;
	}
	free(found.source);
	if (s->device >= 0)
		mount_drop_stored(s);
	fd_close(&s->device);
	keep_drop(s);
	return false;
}
