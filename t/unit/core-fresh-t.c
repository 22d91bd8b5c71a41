/*
 * Tests of secret_is_fresh() (src/core/secret.h) between an open and the event thread: in the one order that is wanted,
 * which wrapped calls bring about.
 */
#include "core-engine.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/inotify.h>

static bool no_kernel_watch;
static atomic_bool in_order;
static sem_t asked, telling, answered;
static _Thread_local bool is_reader;

int __real_inotify_add_watch(int fd, const char *path, uint32_t mask);
int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask);
bool __real_watcher_is_quiet(const struct watcher *w);
bool __wrap_watcher_is_quiet(const struct watcher *w);
void __real_secret_sign(struct secret *s);
void __wrap_secret_sign(struct secret *s);

int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	if (no_kernel_watch) {
		errno = ENOSPC;
		return -1;
	}
	return __real_inotify_add_watch(fd, path, mask);
}

/* The reader goes on when the event thread is about to tell, and has not yet. */
bool __wrap_watcher_is_quiet(const struct watcher *w)
{
	bool quiet = __real_watcher_is_quiet(w);

	if (is_reader && atomic_load(&in_order)) {
		sem_post(&asked);
		sem_wait(&telling);
	}
	return quiet;
}

void __wrap_secret_sign(struct secret *s)
{
	if (atomic_exchange(&in_order, false)) {
		sem_post(&telling);
		sem_wait(&answered);
	}
	__real_secret_sign(s);
}

static int setup(void **state)
{
	char text[300];

	(void)state;
	help_loop_new();
	help_settings();
	help_fake();
	help_dir();
	sem_init(&asked, 0, 0);
	sem_init(&telling, 0, 0);
	sem_init(&answered, 0, 0);
	assert_int_equal(mkdir(at("sub"), 0755), 0);
	put("sub/secret.txt", "k=1\n");
	(void)snprintf(text, sizeof(text), "z=${file:%s:k}\n", at("sub/secret.txt"));
	put("file.properties", text);
	run_for(50);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	engine_end();
	help_loop_free();
	help_settings_done();
	help_dir_done();
	sem_destroy(&asked);
	sem_destroy(&telling);
	sem_destroy(&answered);
	return 0;
}

/* What an open after a change finds: "": it asks. */
struct found {
	char first[64], second[64];
};

static void open_at_once(struct connector *conn, char *ret, size_t size)
{
	struct snapshot *s = catalog_open_now(catalog, conn);

	(void)snprintf(ret, size, "%.*s", s ? (int)snapshot_size(s) : 0, s ? snapshot_data(s) : "");
	snapshot_unref(s);
}

static void *reader(void *arg)
{
	static struct found found;
	struct connector *conn = arg;
	int fd = open(at("sub/secret.txt"), O_WRONLY | O_CLOEXEC);

	is_reader = true;
	open_at_once(conn, found.first, sizeof(found.first));
	if (fd < 0 || pwrite(fd, "k=2\n", 4, 0) != 4)
		return NULL;
	close(fd);
	atomic_store(&in_order, true);
	open_at_once(conn, found.second, sizeof(found.second));
	atomic_store(&in_order, false);
	sem_post(&asked); /* where it did not ask whether all is told */
	sem_post(&answered);
	return &found;
}

/* A watch that was blind when the file changed sees before it has told so: an open between must look. */
static void a_watch_that_begins_to_see(void **state)
{
	struct connector *conn;
	struct found *found;
	pthread_t thread;
	void *ret;

	(void)state;
	engine_make(ENGINE_MOUNT);
	no_kernel_watch = true;
	assert_string_equal(cat("file.properties"), "z=1\n");
	run_for(300);
	no_kernel_watch = false;
	run_for(600);
	conn = conn_of("file.properties");
	usleep(600000); /* it looks again when we come back to the loop */
	watcher_drain(engine->watcher);
	assert_int_equal(pthread_create(&thread, NULL, reader, conn), 0);
	sem_wait(&asked);
	for (int i = 0; i < 20; i++)
		loop_run_once(loop, 1);
	/* Where nothing was told in these turns nobody may be waited for. */
	sem_post(&telling);
	assert_int_equal(pthread_join(thread, &ret), 0);
	found = ret;
	assert_non_null(found);
	assert_string_equal(found->first, "z=1\n");
	assert_string_equal(found->second, "");
	connector_unref(conn);
	UNTIL(strcmp(cat("file.properties"), "z=2\n") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_watch_that_begins_to_see, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
