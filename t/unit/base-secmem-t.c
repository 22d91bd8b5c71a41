/*
 * Tests of src/base/secmem.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/secmem.h"

/* The address sanitizer forbids to look at what was freed; it and the thread sanitizer make mlock do
 * nothing. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

static size_t used(void)
{
	struct secmem_stats s;

	secmem_get_stats(&s);
	return s.used;
}

static void hands_out_aligned_memory(void **state)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 200, 1024, 65519, 65535,
		                 65536, 65537, 262144, 3000000 };
	enum { N = sizeof(sizes) / sizeof(sizes[0]) };
	unsigned char *p[N];
	size_t before = used();

	(void)state;
	for (int i = 0; i < N; i++) {
		p[i] = secmem_alloc(sizes[i]);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % 16, 0);
		memset(p[i], i + 1, sizes[i]);
	}
	for (int i = 0; i < N; i++)
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(p[i][k], i + 1);
	for (int i = 0; i < N; i++)
		secmem_free(p[(i * 5) % N]);
	secmem_free(NULL);
	assert_int_equal(used(), before);
}

static void zalloc_and_strdup(void **state)
{
	(void)state;
	char *p = secmem_alloc(500);
	memset(p, 'x', 500);
	secmem_free(p);
	p = secmem_zalloc(500);
	for (int i = 0; i < 500; i++)
		assert_int_equal(p[i], 0);
	secmem_free(p);
	p = secmem_strdup(slice_of("abc", 2));
	assert_string_equal(p, "ab");
	secmem_free(p);
	p = secmem_strdup(slice_of(NULL, 0));
	assert_string_equal(p, "");
	secmem_free(p);
	assert_null(secmem_alloc(SIZE_MAX));
	assert_int_equal(errno, ENOMEM);
	assert_null(secmem_alloc(SIZE_MAX / 2));
	assert_null(secmem_strdup(slice_of("x", SIZE_MAX)));
}

/* Looks at memory after its end on purpose: in a block beside one that keeps the segment. */
static void free_and_realloc_wipe(void **state)
{
	(void)state;
	if (UNDER_SANITIZER)
		return;
	char *keep = secmem_alloc(16);
	char *p = secmem_alloc(4000);
	volatile char *look = p;
	memset(p, 'S', 4000);
	char *shrunk = secmem_realloc(p, 100);
	assert_ptr_equal(shrunk, p);
	for (int i = 132; i < 4000; i++)
		assert_int_not_equal(look[i], 'S');
	char *grown = secmem_realloc(shrunk, 9000);
	assert_int_equal(grown[99], 'S');
	if (grown != p)
		for (int i = 0; i < 100; i++)
			assert_int_not_equal(look[i], 'S');
	look = grown;
	secmem_free(grown);
	for (int i = 0; i < 100; i++)
		assert_int_not_equal(look[i], 'S');
	secmem_free(keep);
}

static void realloc_keeps_content(void **state)
{
	size_t before = used();
	size_t n = 1;
	(void)state;
	unsigned char *p = secmem_realloc(NULL, n);
	p[0] = 0;
	for (; n < 2000000; n = n * 3 / 2 + 1) {
		p = secmem_realloc(p, n * 3 / 2 + 1);
		assert_non_null(p);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], (unsigned char)(i * 7));
		for (size_t i = n; i < n * 3 / 2 + 1; i++)
			p[i] = (unsigned char)(i * 7);
	}
	for (; n > 1; n /= 3) {
		p = secmem_realloc(p, n / 3);
		for (size_t i = 0; i < n / 3; i++)
			assert_int_equal(p[i], (unsigned char)(i * 7));
	}
	secmem_fail_after(1);
	assert_null(secmem_realloc(p, 100000));
	p = secmem_realloc(p, 10);
	assert_non_null(p);
	secmem_free(p);
	assert_int_equal(used(), before);
}

/* Many blocks of all sizes, in an order that a seed tells; each filled with a pattern of its own. */
static void *churn(void *arg)
{
	enum { N = 3000 };
	struct { unsigned char *p; size_t n; unsigned char fill; } *slot = calloc(N, sizeof(*slot));
	unsigned seed = (unsigned)(uintptr_t)arg;
	intptr_t bad = 0;

	for (int i = 0; slot && i < 60000; i++) {
		int k = rand_r(&seed) % N;
		if (slot[k].p) {
			for (size_t j = 0; j < slot[k].n; j += 13)
				bad += slot[k].p[j] != slot[k].fill;
			secmem_free(slot[k].p);
			slot[k].p = NULL;
			continue;
		}
		slot[k].n = (size_t)rand_r(&seed) % (rand_r(&seed) % 20 ? 300 : 9000);
		slot[k].fill = (unsigned char)rand_r(&seed);
		slot[k].p = secmem_alloc(slot[k].n);
		if (slot[k].p)
			memset(slot[k].p, slot[k].fill, slot[k].n);
		else
			bad++;
	}
	for (int k = 0; slot && k < N; k++)
		secmem_free(slot[k].p);
	free(slot);
	return (void *)bad;
}

static void survives_churn_in_threads(void **state)
{
	pthread_t t[4];
	struct secmem_stats s;
	size_t before = used();

	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++) {
		void *bad;
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	secmem_get_stats(&s);
	assert_int_equal(s.used, before);
	/* What is empty was given back. */
	if (before == 0)
		assert_int_equal(s.mapped, SECMEM_SEGMENT);
}

static void many_blocks_cost_little(void **state)
{
	enum { N = 200000 };
	static char *p[N];
	struct secmem_stats s0, s;

	(void)state;
	secmem_get_stats(&s0);
	for (int i = 0; i < N; i++) {
		p[i] = secmem_alloc(64);
		assert_non_null(p[i]);
	}
	secmem_get_stats(&s);
	/* A remainder too small for a block stays with the one before it. */
	assert_in_range(s.used - s0.used, N * 64, N * 65);
	assert_true(s.mapped - s0.mapped < N * (64 + 16) * 101l / 100 + SECMEM_SEGMENT);
	assert_true(s.locked <= s.mapped);
	for (int i = 0; i < N; i += 2)
		secmem_free(p[i]);
	for (int i = 1; i < N; i += 2)
		secmem_free(p[i]);
	secmem_get_stats(&s);
	assert_int_equal(s.used, s0.used);
	assert_true(s.mapped <= s0.mapped + SECMEM_SEGMENT);
}

static void each_failure_is_told(void **state)
{
	(void)state;
	secmem_fail_after(2);
	void *a = secmem_alloc(10);
	void *b = secmem_alloc(10);
	void *c = secmem_alloc(10);
	assert_non_null(a);
	assert_null(b);
	assert_non_null(c);
	secmem_free(a);
	secmem_free(c);
	secmem_fail_after(1);
	assert_null(secmem_zalloc(10));
	secmem_fail_after(1);
	assert_null(secmem_strdup(SLICE_LIT("x")));
	secmem_fail_after(1);
	secmem_fail_after(-1);
	a = secmem_alloc(1);
	assert_non_null(a);
	secmem_free(a);
}

/* Runs fn in a child; its exit status. */
static int in_child(int (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static char *inherited;

static int child_has_an_arena_of_its_own(void)
{
	unsigned char vec;
	char *p = secmem_strdup(SLICE_LIT("child"));
	long page = sysconf(_SC_PAGESIZE);
	uintptr_t at = (uintptr_t)inherited & ~((uintptr_t)page - 1);
	/* Unless the new segment lies there, the old one is not mapped. */
	int mapped = mincore((void *)at, 1, &vec) == 0;

	if (!p || strcmp(p, "child") != 0)
		return 1;
	if (mapped && strncmp(inherited, "parent", 6) == 0)
		return 2;
	secmem_free(p);
	return 0;
}

static void child_inherits_nothing(void **state)
{
	(void)state;
	inherited = secmem_strdup(SLICE_LIT("parent"));
	assert_int_equal(in_child(child_has_an_arena_of_its_own), 0);
	assert_string_equal(inherited, "parent");
	secmem_free(inherited);
}

static int child_without_locking(void)
{
	const struct rlimit none = { 0, 0 };
	struct secmem_stats s;

	/* Root has CAP_IPC_LOCK, which no limit holds. */
	if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 || (geteuid() == 0 && setuid(65534) < 0))
		return 77;
	if (secmem_init(SECMEM_LOCK_TRY) != 0)
		return 1;
	errno = 0;
	void *p = secmem_alloc(100);
	if (errno) /* nothing has failed for the caller */
		return 4;
	secmem_get_stats(&s);
	if (!p || s.locked != 0 || s.mapped == 0 || s.lock_errno == 0)
		return 2;
	int r = secmem_init(SECMEM_LOCK_REQUIRE);
	if (r != -ENOMEM && r != -EPERM)
		return 3;
	secmem_free(p);
	return 0;
}

static int child_required(void)
{
	const struct rlimit some = { 2 * SECMEM_SEGMENT, 2 * SECMEM_SEGMENT };
	void *p[16];
	int n = 0;

	if (setrlimit(RLIMIT_MEMLOCK, &some) < 0 || (geteuid() == 0 && setuid(65534) < 0))
		return 77;
	if (secmem_init(SECMEM_LOCK_REQUIRE) != 0)
		return 77; /* locked already by others of this user */
	while (n < 16 && (p[n] = secmem_alloc(60000)))
		n++;
	if (n < 3 || n == 16 || errno != ENOMEM)
		return 2;
	while (n > 0)
		secmem_free(p[--n]);
	return secmem_init(SECMEM_LOCK_TRY) == 0 ? 0 : 3;
}

static void lock_policy(void **state)
{
	struct secmem_stats s;

	(void)state;
	assert_int_equal(secmem_init(SECMEM_LOCK_TRY), 0);
	secmem_get_stats(&s);
	assert_true(s.locked == s.mapped || s.lock_errno != 0);
	if (UNDER_SANITIZER || s.locked == 0)
		return;
	int r = in_child(child_without_locking);
	assert_true(r == 0 || r == 77);
	r = in_child(child_required);
	assert_true(r == 0 || r == 77);
}

static int child_hardens(void)
{
	struct rlimit r;

	if (secmem_harden_process() != 0 || prctl(PR_GET_DUMPABLE) != 0)
		return 1;
	return getrlimit(RLIMIT_CORE, &r) == 0 && r.rlim_cur == 0 && r.rlim_max == 0 ? 0 : 2;
}

static void hardens(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_hardens), 0);
}

static void jansson_allocates_here(void **state)
{
	size_t before = used();

	(void)state;
	json_t *j = json_loads("{\"password\": [\"secret\", 1]}", 0, NULL);
	assert_non_null(j);
	assert_true(used() > before);
	json_decref(j);
	assert_int_equal(used(), before);
	for (long n = 1; n < 8; n++) {
		secmem_fail_after(n);
		j = json_loads("{\"password\": [\"secret\", 1]}", 0, NULL);
		secmem_fail_after(-1);
		json_decref(j);
		assert_int_equal(used(), before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hands_out_aligned_memory),
		cmocka_unit_test(zalloc_and_strdup),
		cmocka_unit_test(free_and_realloc_wipe),
		cmocka_unit_test(realloc_keeps_content),
		cmocka_unit_test(survives_churn_in_threads),
		cmocka_unit_test(many_blocks_cost_little),
		cmocka_unit_test(each_failure_is_told),
		cmocka_unit_test(child_inherits_nothing),
		cmocka_unit_test(lock_policy),
		cmocka_unit_test(hardens),
		cmocka_unit_test(jansson_allocates_here),
	};

	secmem_install_jansson();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
