/*
 * Tests of src/base/watch.h, with real files.
 */
#include "watch-help.h"

static void file_written_in_place(void **state)
{
	struct seen s;

	(void)state;
	put("f", "1");
	put("g", "1");
	struct watch *x = watch("f", &s);
	put("g", "2"); /* another file of the directory */
	assert_int_equal(drain(&s), 0);
	int fd = open(in("f"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(drain(&s), 0);
	assert_int_equal(write(fd, "2", 1), 1);
	assert_int_equal(drain(&s), WATCH_WRITING);
	assert_string_equal(s.names, ". ");
	assert_int_equal(write(fd, "3", 1), 1);
	assert_int_equal(drain(&s), WATCH_WRITING);
	close(fd);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	fd = open(in("f"), O_RDONLY | O_CLOEXEC);
	char c;
	assert_int_equal(read(fd, &c, 1), 1);
	close(fd);
	assert_int_equal(drain(&s), 0);
	assert_int_equal(chmod(in("f"), 0600), 0);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	/* made anew, and not closed yet: half of it is there */
	unlink(in("f"));
	fd = open(in("f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "4", 1), 1);
	assert_int_equal(drain(&s), WATCH_WRITING | WATCH_CHANGED);
	close(fd);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	watch_free(x);
	put("f", "2");
	assert_int_equal(drain(&s), 0);
}

static void file_replaced_and_removed(void **state)
{
	struct seen s;

	(void)state;
	put("f", "1");
	struct watch *x = watch("f", &s);
	for (int i = 0; i < 3; i++) {
		put("new", "2");
		assert_int_equal(drain(&s), 0);
		replace("new", "f");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		assert_int_equal(s.calls, 1);
		put("f", "3");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		unlink(in("f"));
		assert_int_equal(drain(&s), WATCH_CHANGED);
		put("f", "4");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		replace("f", "away");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		replace("away", "f");
		assert_int_equal(drain(&s), WATCH_CHANGED);
	}
	watch_free(x);
}

static void writer_of_a_replaced_file_is_not_heard(void **state)
{
	struct seen s;

	(void)state;
	put("f", "1");
	struct watch *x = watch("f", &s);
	int fd = open(in("f"), O_WRONLY | O_CLOEXEC);
	put("new", "2");
	replace("new", "f");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(drain(&s) & WATCH_WRITING, 0);
	close(fd);
	watch_free(x);
}

static void path_that_is_not_there_yet(void **state)
{
	struct seen s;

	(void)state;
	struct watch *x = watch("a/b/c/f", &s);
	make_dir("other");
	assert_int_equal(drain(&s), 0);
	make_dir("a");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	make_dir("a/b");
	make_dir("a/b/c"); /* before we can have looked */
	put("a/b/c/f", "1");
	assert_true(drain(&s) & WATCH_CHANGED);
	put("a/b/c/f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	watch_free(x);
}

static void directory_that_goes_and_returns(void **state)
{
	struct seen s;

	(void)state;
	make_dir("a");
	make_dir("a/b");
	put("a/b/f", "1");
	struct watch *x = watch("a/b/f", &s);
	for (int i = 0; i < 3; i++) {
		/* moved away and back */
		replace("a", "away");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		put("away/b/f", "2");
		assert_int_equal(drain(&s), 0);
		replace("away", "a");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		put("a/b/f", "2");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		/* removed and made anew */
		unlink(in("a/b/f"));
		rmdir(in("a/b"));
		rmdir(in("a"));
		assert_int_equal(drain(&s), WATCH_CHANGED);
		make_dir("a");
		make_dir("a/b");
		put("a/b/f", "1");
		assert_true(drain(&s) & WATCH_CHANGED);
		put("a/b/f", "2");
		assert_int_equal(drain(&s), WATCH_CHANGED);
	}
	/* replaced by another, by a rename over it */
	unlink(in("a/b/f"));
	make_dir("c");
	put("c/f", "9");
	drain(&s);
	replace("c", "a/b");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	put("a/b/f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	watch_free(x);
}

static void kubernetes_swap(void **state)
{
	struct seen s;
	char name[64], file[80];

	(void)state;
	make_dir("vol");
	make_dir("vol/..v0");
	put("vol/..v0/key", "0");
	link_to("..v0", "vol/..data");
	link_to("..data/key", "vol/key");
	struct watch *x = watch("vol/key", &s);
	for (int i = 1; i < 5; i++) {
		snprintf(name, sizeof(name), "vol/..v%d", i);
		snprintf(file, sizeof(file), "%s/key", name);
		make_dir(name);
		put(file, "1");
		link_to(name + 4, "vol/..data_tmp");
		assert_int_equal(drain(&s), 0);
		replace("vol/..data_tmp", "vol/..data");
		assert_int_equal(drain(&s), WATCH_CHANGED);
		assert_int_equal(s.calls, 1);
		/* the old one goes, unseen */
		snprintf(name, sizeof(name), "vol/..v%d", i - 1);
		snprintf(file, sizeof(file), "%s/key", name);
		unlink(in(file));
		assert_int_equal(drain(&s), 0);
		rmdir(in(name));
		assert_int_equal(drain(&s), 0);
		/* the new one is watched, in place as well */
		snprintf(file, sizeof(file), "vol/..v%d/key", i);
		put(file, "2");
		assert_int_equal(drain(&s), WATCH_CHANGED);
	}
	watch_free(x);
}

static void symlinks_of_all_kinds(void **state)
{
	struct seen s;
	char target[512];

	(void)state;
	make_dir("real");
	make_dir("real/sub");
	make_dir("links");
	put("real/sub/f", "1");
	snprintf(target, sizeof(target), "%s/links/up", dir);
	link_to(target, "links/abs");
	link_to("../real/./sub//..", "links/up");
	link_to("abs/sub/f", "links/f");
	struct watch *x = watch("links/../links/f", &s);
	put("real/sub/f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	/* a link in the middle is replaced by a directory */
	unlink(in("links/up"));
	assert_int_equal(drain(&s), WATCH_CHANGED);
	make_dir("links/up");
	make_dir("links/up/sub");
	put("links/up/sub/f", "1");
	assert_true(drain(&s) & WATCH_CHANGED);
	put("links/up/sub/f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	put("real/sub/f", "2");
	assert_int_equal(drain(&s), 0);
	watch_free(x);
	/* a link that leads nowhere, and one that leads to itself */
	link_to("nowhere/f", "dangling");
	link_to("self", "self");
	struct seen s2;
	x = watch("dangling", &s);
	struct watch *y = watch("self", &s2);
	make_dir("nowhere");
	put("nowhere/f", "1");
	assert_true(drain(&s) & WATCH_CHANGED);
	put("nowhere/f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	unlink(in("self"));
	put("self", "1");
	drain(&s2);
	assert_true(s2.events & WATCH_CHANGED);
	watch_free(x);
	watch_free(y);
}

static void one_file_through_two_paths(void **state)
{
	struct seen s, s2;

	(void)state;
	make_dir("d");
	put("d/f", "1");
	link_to("d", "e");
	struct watch *x = watch("d/f", &s);
	struct watch *y = watch("e/f", &s2);
	put("d/f", "2");
	s2.events = 0;
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_int_equal(s2.events, WATCH_CHANGED);
	watch_free(x);
	put("d/f", "3");
	assert_int_equal(drain(&s2), WATCH_CHANGED);
	watch_free(y);
	x = watch("d/f", &s);
	put("d/f", "3");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	watch_free(x);
}

static void directory_entries(void **state)
{
	struct seen s = { 0 };

	(void)state;
	make_dir("d");
	put("d/old", "1");
	struct watch *x = watch_dir(watcher, in("d"), note, &s);
	assert_non_null(x);
	assert_int_equal(s.calls, 0);
	assert_int_equal(drain(&s), WATCH_CHANGED); /* it has begun to see */
	assert_string_equal(s.names, ". ");
	int fd = open(in("d/new"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_string_equal(s.names, "new ");
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(drain(&s), WATCH_WRITING);
	close(fd);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	replace("d/new", "d/newer");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_string_equal(s.names, "new newer ");
	unlink(in("d/old"));
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_string_equal(s.names, "old ");
	/* the directory itself */
	replace("d", "away");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_string_equal(s.names, ". ");
	put("away/f", "1");
	assert_int_equal(drain(&s), 0);
	make_dir("d");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_string_equal(s.names, ". ");
	put("d/f", "1");
	assert_int_equal(drain(&s), WATCH_WRITING | WATCH_CHANGED);
	assert_string_equal(s.names, "f f f ");
	unlink(in("d/f"));
	rmdir(in("d"));
	drain(&s);
	assert_string_equal(s.names, "f . ");
	watch_free(x);
}

static void directory_through_a_symlink(void **state)
{
	struct seen s = { 0 };

	(void)state;
	make_dir("d1");
	make_dir("d2");
	link_to("d1", "d");
	struct watch *x = watch_dir(watcher, in("d"), note, &s);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	put("d1/f", "1");
	drain(&s);
	assert_string_equal(s.names, "f f f ");
	link_to("d2", "d.new");
	replace("d.new", "d");
	drain(&s);
	assert_string_equal(s.names, ". ");
	put("d1/f", "1");
	assert_int_equal(drain(&s), 0);
	put("d2/g", "1");
	drain(&s);
	assert_string_equal(s.names, "g g g ");
	watch_free(x);
}

static struct seen added;
static struct watch *added_watch;

static void free_and_add(unsigned events, const char *name, void *arg)
{
	struct seen *s = arg;

	note(events, name, s);
	watch_free(s->free_this); /* itself or another */
	s->free_this = NULL;
	if (!added_watch)
		added_watch = watch_file(watcher, in("d/f"), NULL, note, &added);
}

static void callbacks_may_free_and_add(void **state)
{
	(void)state;
	added = (struct seen){ 0 };
	added_watch = NULL;
	make_dir("d");
	put("d/f", "1");
	for (int kind = 0; kind < 2; kind++) {
		struct seen s[3] = { { 0 } };
		struct watch *x[3];
		for (int i = 0; i < 3; i++) {
			x[i] = kind ? watch_dir(watcher, in("d"), free_and_add, &s[i])
			            : watch_file(watcher, in("d/f"), NULL, free_and_add, &s[i]);
			assert_non_null(x[i]);
		}
		settle();
		for (int i = 0; i < 3; i++)
			s[i] = (struct seen){ 0 };
		/* Each frees the next: whichever comes first, at least one of the others must not run. */
		for (int i = 0; i < 3; i++)
			s[i].free_this = x[(i + 1) % 3];
		assert_int_equal(chmod(in("d/f"), kind ? 0600 : 0644), 0);
		drain(&s[0]);
		int calls = 0;
		for (int i = 0; i < 3; i++) {
			bool gone = s[(i + 2) % 3].calls > 0;
			calls += s[i].calls > 0;
			if (!gone)
				watch_free(x[i]);
		}
		assert_in_range(calls, 1, 2);
		/* itself */
		struct seen self = { 0 };
		self.free_this = kind ? watch_dir(watcher, in("d"), free_and_add, &self)
		                      : watch_file(watcher, in("d/f"), NULL, free_and_add, &self);
		assert_non_null(self.free_this);
		struct watch *me = self.free_this;
		self.free_this = NULL;
		settle();
		self = (struct seen){ .free_this = me };
		assert_int_equal(chmod(in("d/f"), 0640), 0);
		drain(&self);
		assert_int_equal(self.calls, 1);
	}
	assert_non_null(added_watch);
	put("d/f", "3");
	assert_int_equal(drain(&added), WATCH_CHANGED);
	watch_free(added_watch);
}

static void many_files_in_one_directory(void **state)
{
	enum { N = 10000 };
	static struct seen s[N];
	static struct watch *x[N];
	char name[32];

	(void)state;
	make_dir("d");
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "d/f%d", i);
		s[i] = (struct seen){ 0 };
		x[i] = watch_file(watcher, in(name), NULL, note, &s[i]);
		assert_non_null(x[i]);
	}
	settle();
	for (int i = 0; i < N; i += 100) {
		snprintf(name, sizeof(name), "d/f%d", i);
		put(name, "1");
	}
	settle();
	for (int i = 0; i < N; i++)
		assert_int_equal(s[i].events, i % 100 ? 0 : WATCH_CHANGED);
	replace("d", "away");
	settle();
	for (int i = 0; i < N; i++)
		assert_int_equal(s[i].calls, i % 100 ? 1 : 2);
	for (int i = 0; i < N; i++)
		watch_free(x[i]);
}

static long queue_limit(void)
{
	FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
	long n = -1;

	if (f) {
		if (fscanf(f, "%ld", &n) != 1)
			n = -1;
		fclose(f);
	}
	return n;
}

static void overflow_is_told_to_all(void **state)
{
	struct seen s, s2;
	long limit = queue_limit();

	(void)state;
	if (limit < 1 || limit > 100000)
		return;
	put("f", "1");
	put("g", "1");
	make_dir("d");
	struct watch *x = watch("f", &s);
	struct watch *y = watch("d/none", &s2);
	/* Two names in turn: equal events one after another are merged. */
	for (long i = 0; i <= limit / 2 + 1; i++) {
		chmod(in("g"), 0600);
		chmod(in("f"), 0600);
	}
	s2.events = 0;
	assert_int_equal(drain(&s), WATCH_CHANGED | WATCH_OVERFLOW);
	assert_int_equal(s2.events, WATCH_OVERFLOW);
	put("f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	watch_free(x);
	watch_free(y);
}

static void the_loop_calls(void **state)
{
	struct seen s;

	(void)state;
	put("f", "1");
	struct watch *x = watch("f", &s);
	put("f", "2");
	for (int i = 0; i < 100 && !(s.events & WATCH_CHANGED); i++)
		loop_run_once(loop, 1);
	assert_int_equal(s.events, WATCH_CHANGED);
	watch_free(x);
}

static void refuses_bad_paths(void **state)
{
	static char path[PATH_MAX + 10];
	struct seen s;

	(void)state;
	assert_null(watch_file(watcher, "relative", NULL, note, &s));
	assert_int_equal(errno, EINVAL);
	memset(path, '/', sizeof(path) - 1);
	assert_null(watch_file(watcher, path, NULL, note, &s));
	assert_int_equal(errno, ENAMETOOLONG);
	/* A name that can't exist. */
	memset(path + 1, 'x', 300);
	path[301] = '\0';
	struct watch *x = watch_file(watcher, path, NULL, note, &s);
	assert_non_null(x);
	watch_free(x);
	x = watch_file(watcher, "/", NULL, note, &s);
	assert_non_null(x);
	watch_free(x);
	x = watch_dir(watcher, "/", note, &s);
	assert_non_null(x);
	watch_free(x);
	watch_free(NULL);
	watcher_free(NULL);
}

/* A directory that may be searched but not read can't be watched. */
static void unreadable_directories(void **state)
{
	struct seen s;

	(void)state;
	/* Root reads all: be somebody else, if that one can come here. */
	if (geteuid() == 0 && (chown(dir, 65534, 65534) < 0 || seteuid(65534) < 0 || access(dir, W_OK) < 0))
		return;
	make_dir("a");
	make_dir("a/b");
	put("a/b/f", "1");
	chmod(in("a"), 0111);
	/* Not the last one: what it leads to tells of its own end. */
	struct watch *x = watch("a/b/f", &s);
	put("a/b/f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	watch_free(x);
	chmod(in("a"), 0755);
	chmod(in("a/b"), 0111);
	/* At the beginning, and then by time. */
	s = (struct seen){ 0 };
	x = watch_file(watcher, in("a/b/f"), NULL, note, &s);
	assert_int_equal(drain(&s), WATCH_OVERFLOW);
	for (int i = 0; i < 1000 && s.calls < 3; i++)
		loop_run_once(loop, 1);
	assert_int_equal(s.events, WATCH_OVERFLOW);
	assert_int_equal(s.calls, 3);
	watch_free(x);
	chmod(in("a/b"), 0755);
	/* One that becomes so later is looked at by time, until it can be watched again. */
	x = watch("a/b/f", &s);
	chmod(in("a/b"), 0111);
	/* The kernel's watch is there already, and asking for it again is refused. */
	assert_int_equal(drain(&s), WATCH_CHANGED);
	for (int i = 0; i < 1000 && !(s.events & WATCH_OVERFLOW); i++)
		loop_run_once(loop, 1);
	assert_true(s.events & WATCH_OVERFLOW);
	chmod(in("a/b"), 0755);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	put("a/b/f", "2");
	assert_int_equal(drain(&s), WATCH_CHANGED);
	watch_free(x);
}

/* In a child with mounts of its own. 77: not allowed here. */
static int watch_mounted_file(void)
{
	struct seen s = { 0 };
	struct loop *l;
	struct pool *p;
	struct watcher *w;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount(in("source/f"), in("place/f"), "none", MS_BIND, NULL) < 0)
		return 77;
	if (loop_new(&l) < 0 || pool_new(l, &p) < 0 || watcher_new(l, p, &w) < 0)
		return 1;
	struct watch *x = watch_file(w, in("place/f"), NULL, note, &s);
	while (watcher_is_walking(w))
		loop_run_once(l, 1);
	put("source/f", "2");
	watcher_drain(w);
	watch_free(x);
	watcher_free(w);
	pool_free(p);
	loop_free(l);
	return s.events == WATCH_CHANGED ? 0 : 2;
}

/* A file bound to its place by a mount, as container engines do, is written through another directory. */
static void file_that_is_a_mount_point(void **state)
{
	int status;

	(void)state;
	make_dir("source");
	make_dir("place");
	put("source/f", "1");
	put("place/f", "");
	pid_t pid = fork();
	if (pid == 0)
		_exit(watch_mounted_file());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77);
}

static void what_was_known_before(void **state)
{
	struct file_stamp known;
	struct seen s = { 0 };

	(void)state;
	put("f", "1");
	link_to("f", "l");
	assert_int_equal(file_stamp_take(in("l"), &known), 0);
	struct watch *x = watch_file(watcher, in("l"), &known, note, &s);
	assert_int_equal(s.calls, 0);
	assert_int_equal(drain(&s), 0);
	watch_free(x);
	x = watch_file(watcher, in("none"), &(struct file_stamp){ 0 }, note, &s);
	assert_int_equal(drain(&s), 0);
	watch_free(x);
	/* Between the caller's look and ours. */
	put("f", "22");
	x = watch_file(watcher, in("l"), &known, note, &s);
	assert_int_equal(drain(&s), WATCH_CHANGED);
	assert_int_equal(s.calls, 1);
	watch_free(x);
	/* And while we walk, or after that and before we are told. */
	for (int i = 0; i < 50; i++) {
		assert_int_equal(file_stamp_take(in("l"), &known), 0);
		struct watch *other = watch_file(watcher, in("other"), NULL, note, &s);
		x = watch_file(watcher, in("l"), &known, note, &s);
		usleep((useconds_t)i * 20);
		put("f", i % 2 ? "22" : "333");
		assert_int_equal(drain(&s) & WATCH_CHANGED, WATCH_CHANGED);
		watch_free(x);
		watch_free(other);
	}
}

/* The kernel's watches that we have. */
static int kernel_watches(void)
{
	char path[64], line[256];
	int n = 0;

	for (int fd = 0; fd < 100; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		FILE *f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			n += strncmp(line, "inotify wd:", 11) == 0;
		if (f)
			fclose(f);
	}
	return n;
}

static void none_is_left_in_the_kernel(void **state)
{
	struct watch *x[100];
	struct seen s[100];
	char name[32];

	(void)state;
	make_dir("d");
	int before = kernel_watches();
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 100; i++) {
			snprintf(name, sizeof(name), "d/%d", i);
			mkdir(in(name), 0755);
			snprintf(name, sizeof(name), "d/%d/f", i);
			s[i] = (struct seen){ 0 };
			x[i] = watch_file(watcher, in(name), NULL, note, &s[i]);
		}
		if (round % 3 == 0)
			settle();
		for (int i = 0; i < 100; i += 2) /* in the midst of the walks */
			watch_free(x[i]);
		if (round % 4 == 0)
			settle();
		for (int i = 1; i < 100; i += 2)
			watch_free(x[i]);
	}
	assert_false(watcher_is_walking(watcher));
	/* Orphans are taken back when there is something to do. */
	for (int i = 0; i < 100 && kernel_watches() > before; i++) {
		usleep(10000);
		put("f", "1");
		struct watch *y = watch_file(watcher, in("f"), NULL, note, &s[0]);
		settle();
		watch_free(y);
	}
	assert_int_equal(kernel_watches(), before);
}

/* A walk that is given a kernel watch which another path gives up at that moment. */
static void watches_that_come_and_go(void **state)
{
	struct seen s, s2;

	(void)state;
	make_dir("d");
	put("d/f", "1");
	for (int i = 0; i < 300; i++) {
		struct watch *x = watch("d/f", &s);
		s2 = (struct seen){ 0 };
		struct watch *y = watch_file(watcher, in("d/f"), NULL, note, &s2);
		usleep((useconds_t)(i % 50) * 2);
		watch_free(x);
		settle();
		s2.events = 0;
		put("d/f", "2");
		settle();
		assert_int_equal(s2.events, WATCH_CHANGED);
		watch_free(y);
	}
}

static void a_way_without_an_end(void **state)
{
	char path[PATH_MAX] = "";
	struct seen s = { 0 };

	(void)state;
	strcpy(path, dir);
	for (int i = 0; i < 300; i++)
		strcat(path, "/d");
	make_dir("d");
	struct watch *x = watch_file(watcher, path, NULL, note, &s);
	assert_int_equal(drain(&s), 0); /* it ends where nothing is */
	watch_free(x);
	for (int i = 0; i < 30; i++) {
		char name[32], target[PATH_MAX] = "";
		snprintf(name, sizeof(name), "l%d", i);
		for (int n = 0; n < 20; n++)
			strcat(target, "d/../");
		snprintf(target + strlen(target), 32, "l%d", i + 1);
		link_to(target, name);
	}
	put("l30", "1");
	x = watch_file(watcher, in("l0"), NULL, note, &s);
	assert_int_equal(drain(&s), WATCH_OVERFLOW);
	watch_free(x);
}

/* In a child with mounts of its own, one of which never answers. 77: not allowed here. */
static int watch_link_to_hung(void)
{
	struct seen s = { 0 }, s2 = { 0 };
	char options[128];
	struct loop *l;
	struct pool *p;
	struct watcher *w;

	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	if (fuse < 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("hung", in("hung"), "fuse", MS_NODEV | MS_NOSUID, options) < 0)
		return 77;
	if (loop_new(&l) < 0 || pool_new(l, &p) < 0 || watcher_new(l, p, &w) < 0)
		return 1;
	struct watch *x = watch_file(w, in("link"), NULL, note, &s);
	struct watch *y = watch_file(w, in("g"), NULL, note, &s2);
	while (watcher_is_walking(w))
		loop_run_once(l, 1);
	link_to("hung/file", "new");
	replace("new", "link");
	put("g", "2");
	watcher_drain(w); /* must come back */
	if (!(s2.events & WATCH_CHANGED) || !watcher_is_walking(w) || s.calls)
		return 2;
	struct watch *z = watch_file(w, in("hung/file"), NULL, note, &s);
	struct file_stamp stamp;
	/* Nor may a look wait. */
	if (!z || file_stamp_peek(in("link"), &stamp) != -EAGAIN || file_mount_is_local(in("hung/file")))
		return 3;
	watch_free(z);
	/* The mount ends. */
	close(fuse);
	while (watcher_is_walking(w))
		loop_run_once(l, 1);
	if (!(s.events & WATCH_CHANGED))
		return 4;
	watch_free(x);
	watch_free(y);
	watcher_free(w);
	pool_free(p);
	loop_free(l);
	return 0;
}

static void a_link_that_comes_to_hang(void **state)
{
	int status;

	(void)state;
	make_dir("hung");
	put("g", "1");
	put("real", "1");
	link_to("real", "link");
	pid_t pid = fork();
	if (pid == 0)
		_exit(watch_link_to_hung());
	for (int i = 0; i < 2000 && waitpid(pid, &status, WNOHANG) == 0; i++) {
		usleep(10000);
		if (i == 1999)
			kill(pid, SIGKILL);
	}
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != 77)
		assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(file_written_in_place),
		TEST(file_replaced_and_removed),
		TEST(writer_of_a_replaced_file_is_not_heard),
		TEST(path_that_is_not_there_yet),
		TEST(directory_that_goes_and_returns),
		TEST(kubernetes_swap),
		TEST(symlinks_of_all_kinds),
		TEST(one_file_through_two_paths),
		TEST(directory_entries),
		TEST(directory_through_a_symlink),
		TEST(callbacks_may_free_and_add),
		TEST(many_files_in_one_directory),
		TEST(overflow_is_told_to_all),
		TEST(the_loop_calls),
		TEST(refuses_bad_paths),
		TEST(unreadable_directories),
		TEST(file_that_is_a_mount_point),
		TEST(what_was_known_before),
		TEST(none_is_left_in_the_kernel),
		TEST(watches_that_come_and_go),
		TEST(a_way_without_an_end),
		TEST(a_link_that_comes_to_hang),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
