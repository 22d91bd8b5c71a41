/*
 * The session: libfuse's multi-threaded loop over the supervisor's device, and its beginning and end.
 */
#include "fs/node.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/control.h"
#include "fs/handles.h"
#include "fs/journal.h"
#include "fs/notify.h"
#include "fs/open.h"

enum {
	FUSE_THREADS = 10,
	STOP_RETRY_MS = 2,
	FORGET_AT_ONCE = 256, /* connectors: half a millisecond */
};

/* Interrupts the threads that wait in read() and sem_wait() when the session is to end: before 3.18
 * fuse_session_exit() wakes nobody. Blocked in all other threads. */
#define WAKE_SIGNAL (SIGRTMIN + 5)

static _Thread_local uint64_t current_unique;

uint64_t fs_current_unique(void)
{
	return current_unique;
}

/* ---- the device ---- */

static ssize_t device_read(int fd, void *buf, size_t size, void *userdata)
{
	struct fs *fs = userdata;

	if (atomic_load_explicit(&fs->stopping, memory_order_relaxed)) {
		errno = ENODEV;
		return -1;
	}
	return journal_read(fs->journal, fd, buf, size, &current_unique);
}

static void tell_ready(struct fs *fs)
{
	if (fs->ready)
		fs->ready(fs->arg);
}

/* Of some more; false: there are none left. */
static bool forget_some(struct fs *fs)
{
	const struct listing *all = fs->to_forget;

	for (size_t n = 0; n < FORGET_AT_ONCE && all && fs->n_forgotten < all->len; n++) {
		struct connector *conn = all->items[fs->n_forgotten++];
		struct connector_attr attr;

		connector_get_attr(conn, &attr);
		if (attr.cacheable)
			fuse_lowlevel_notify_inval_inode(fs->se, connector_ino(conn), -1, 0);
	}
	return all && fs->n_forgotten < all->len;
}

/* What the kernel keeps was told by a predecessor, whose settings may have been others. We are ready when all of
 * it is gone; who opens meanwhile has his turn in between. */
static void forget_attributes(void *arg)
{
	struct fs *fs = arg;

	if (atomic_load(&fs->stopping))
		return;
	while (forget_some(fs))
		if (loop_post(fs->loop, forget_attributes, fs) == 0)
			return;
	fuse_lowlevel_notify_inval_inode(fs->se, FS_INO_ROOT, -1, 0);
	listing_unref(fs->to_forget);
	fs->to_forget = NULL;
	tell_ready(fs);
}

static void say_ready(void *arg)
{
	struct fs *fs = arg;

	if (atomic_load(&fs->stopping))
		return;
	if (!journal_is_successor(fs->journal)) {
		tell_ready(fs);
		return;
	}
	fs->to_forget = catalog_list(fs->catalog);
	forget_attributes(fs);
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs *fs = userdata;
	ssize_t n = journal_writev(fs->journal, fd, iov, count);
	int err = errno;

	if (!atomic_load_explicit(&fs->told_ready, memory_order_relaxed) && journal_is_ready(fs->journal) > 0 &&
	    !atomic_exchange(&fs->told_ready, true))
		loop_post(fs->loop, say_ready, fs);
	errno = err;
	return n;
}

static const struct fuse_custom_io device_io = { .read = device_read, .writev = device_writev };

/* ---- the threads ---- */

static void say_ended(void *arg)
{
	struct fs *fs = arg;

	if (atomic_load(&fs->stopping))
		return;
	if (fs->result)
		log_error("the FUSE session has ended", "mountpoint", fs->mountpoint, "error",
		          strerror(-fs->result), NULL);
	else
		log_info("unmounted", "mountpoint", fs->mountpoint, NULL);
	if (fs->ended)
		fs->ended(fs->arg, fs->result);
}

static void *serve(void *arg)
{
	struct fs *fs = arg;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int result = -ENOMEM;

	if (config) {
		fuse_loop_cfg_set_max_threads(config, FUSE_THREADS);
		fuse_loop_cfg_set_clone_fd(config, 0);
		result = fuse_session_loop_mt(fs->se, config);
		fuse_loop_cfg_destroy(config);
	}
	fs->result = journal_is_ready(fs->journal) == -EPROTO ? -EPROTO : result > 0 ? 0 : result;
	loop_post(fs->loop, say_ended, fs);
	return NULL;
}

static void on_wake_signal(int sig)
{
	(void)sig;
}

/* All signals go to the main thread. The session's own threads inherit the mask. */
static int start_thread(struct fs *fs)
{
	struct sigaction wake = { .sa_handler = on_wake_signal };
	sigset_t mask, old;
	int err;

	sigaction(WAKE_SIGNAL, &wake, NULL); /* without SA_RESTART */
	sigfillset(&mask);
	sigdelset(&mask, WAKE_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &mask, &old);
	err = pthread_create(&fs->thread, NULL, serve, fs);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		fs->running = true;
	return -err;
}

static struct fuse_session *session_new(struct fs *fs)
{
	char name[] = "connectfs", debug[] = "-d";
	char *argv[] = { name, debug, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(fs->config.debug ? 2 : 1, argv);
	struct fuse_session *se = fuse_session_new(&args, &fs_ops, sizeof fs_ops, fs);

	fuse_opt_free_args(&args);
	return se;
}

static void on_refused(void *arg, uint64_t ino, uint64_t unique)
{
	if (ino >= CONNECTOR_INO_MIN)
		open_dropped(arg, ino, unique);
	else
		control_dropped(arg, ino, unique);
}

int fs_serve(struct fs *fs, int device, int journal, enum journal_death death, void (*ready)(void *arg),
             void (*ended)(void *arg, int err), void *arg)
{
	int err = journal_attach(journal, death, &fs->journal);

	fs->ready = ready;
	fs->ended = ended;
	fs->arg = arg;
	if (!err)
		journal_on_refused(fs->journal, on_refused, fs);
	if (!err)
		err = open_restore(fs);
	if (!err && !(fs->se = session_new(fs)))
		err = -ENOMEM;
	if (err) {
		close(device);
		return err;
	}
	err = fuse_session_custom_io(fs->se, &device_io, device);
	if (err) {
		close(device);
		return err < -1 ? err : -EINVAL;
	}
	/* On failure the session keeps the device until fs_free. */
	return start_thread(fs);
}

int64_t fs_started_ns(const struct fs *fs)
{
	return journal_started_ns(fs->journal);
}

void fs_stop(struct fs *fs)
{
	const struct timespec pause = { .tv_nsec = STOP_RETRY_MS * 1000000 };

	atomic_store(&fs->stopping, true);
	parked_stop_all(fs);
	if (fs->journal)
		journal_stop(fs->journal);
	if (fs->running) {
		fuse_session_exit(fs->se);
		while (pthread_tryjoin_np(fs->thread, NULL) == EBUSY) {
			pthread_kill(fs->thread, WAKE_SIGNAL);
			nanosleep(&pause, NULL);
		}
		fs->running = false;
	}
	parked_stop_all(fs); /* those that came meanwhile */
	atomic_store(&fs->inited, false);
}

/* ---- life ---- */

int fs_new(struct engine *engine, struct loop *loop, const struct fs_config *config, struct fs **ret)
{
	struct fs *fs = calloc(1, sizeof *fs);

	if (!fs)
		return -ENOMEM;
	fs->engine = engine;
	fs->catalog = engine_catalog(engine);
	fs->stats = engine_stats(engine);
	fs->loop = loop;
	fs->config = *config;
	pthread_mutex_init(&fs->parked_lock, NULL);
	fs->mountpoint = strdup(config->mountpoint);
	fs->config.mountpoint = fs->mountpoint;
	fs->handles = handles_new();
	if (!fs->mountpoint || !fs->handles || notify_new(fs, &fs->notify) || control_new(fs)) {
		fs_free(fs);
		return -ENOMEM;
	}
	engine_set_sink(engine, notify_sink(fs->notify));
	*ret = fs;
	return 0;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	if (fs->running)
		fs_stop(fs);
	listing_unref(fs->to_forget);
	if (fs->se)
		fuse_session_destroy(fs->se);
	notify_free(fs->notify);
	parked_free_all(fs);
	handles_free(fs->handles);
	journal_detach(fs->journal);
	control_free(fs);
	pthread_mutex_destroy(&fs->parked_lock);
	free(fs->mountpoint);
	free(fs);
}

void fs_set_mount_device(struct fs *fs, dev_t dev)
{
	notify_set_device(fs->notify, dev);
}

int fs_set_notifier(struct fs *fs, int socket, pid_t notifier_pid, fs_greeted *greeted, void (*lost)(void *arg),
                    void *arg)
{
	return notify_connect(fs->notify, socket, notifier_pid, greeted, lost, arg);
}
