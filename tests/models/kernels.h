/* SPDX-License-Identifier: MIT
 *
 * kernels: what the tests of the kernels share: numbers from a seed, int4 as files have it, and a test for each
 * level that this CPU has.
 */
#ifndef TESTS_KERNELS_H
#define TESTS_KERNELS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/num.h"
#include "kernels/cpu.h"
#include "kernels/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 1;

static inline uint64_t random_bits(void) /* SplitMix64 */
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* In (-1, 1). */
static inline float random_float(void)
{
	return (float)(int32_t)(random_bits() >> 32) * 0x1p-31f;
}

static inline float *random_floats(size_t n)
{
	float *x = xmalloc(n * sizeof(*x) + 1);

	for (size_t i = 0; i < n; i++)
		x[i] = random_float();
	return x;
}

/* A nibble where AWQ has that of row `row`, in words [depth][across / 8]. */
static inline unsigned put_nibble(char *words, size_t across, size_t depth, size_t row, unsigned nibble)
{
	static const unsigned place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };
	char *at = words + (depth * across + row) / 8 * 4;
	unsigned shift = 4 * place[row % 8];
	uint32_t word;

	memcpy(&word, at, 4);
	word = (word & ~(15u << shift)) | nibble << shift;
	memcpy(at, &word, 4);
	return nibble;
}

static inline struct pool *test_pool(unsigned threads)
{
	struct pool *pool;
	struct err err;

	assert_int_equal(pool_open(&pool, threads, &err), RC_OK);
	return pool;
}

/* Run the tests once a level that this CPU has, as "name (level)"; where tiles are emulated, with them alone. */
static inline int level_setup(void **state)
{
	cpu_level_set(*(enum cpu_level *)*state);
	return 0;
}

static inline int run_at_every_level(const char *const *names, void (*const *tests)(void **), size_t count)
{
	static enum cpu_level levels[CPU_LEVELS];
	size_t first = 0, most = cpu_level() + 1, n = 0;
	struct CMUnitTest *all = xcalloc(CPU_LEVELS * count, sizeof(*all));
	int failed;

#ifdef TILE_EMULATED
	if (most <= CPU_AVX512) {
		printf("1..0 # SKIP what surrounds the emulated tiles needs AVX-512\n");
		return 0;
	}
	first = CPU_AMX;
	most = CPU_AMX + 1;
#endif
	for (size_t level = first; level < most; level++) {
		levels[level] = (enum cpu_level)level;
		for (size_t i = 0; i < count; i++)
			all[n++] = (struct CMUnitTest){
				.name = xasprintf("%s (%s)", names[i], cpu_level_name(levels[level])),
				.test_func = tests[i], .setup_func = level_setup, .initial_state = &levels[level],
			};
	}
	failed = _cmocka_run_group_tests("kernels", all, n, NULL, NULL);
	for (size_t i = 0; i < n; i++)
		free((char *)all[i].name);
	free(all);
	return failed;
}

#endif
