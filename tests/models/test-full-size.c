/* SPDX-License-Identifier: MIT
 *
 * The shape of Qwen3-0.6B with random weights, full size: it loads, reads prompts and writes
 * tokens, every number is finite, and a request gives the same bits alone and beside another.
 */
#include "engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

enum { PROMPT = 40, TOKENS = 4, REQUESTS = 2 };

#define NEEDED_MIB 1700 /* what it takes at most, and a sixth more */

/* A number of MiB behind a word of a file; what is no number or is not there is no limit. */
static double mebibytes(const char *path, const char *key, double unit)
{
	char line[256];
	double found = INFINITY, n;
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%lf", &n) == 1)
			found = n * unit / (1 << 20);
	if (f)
		fclose(f);
	return found;
}

static double free_mebibytes(void)
{
	double most = mebibytes("/sys/fs/cgroup/memory.max", "", 1);
	double used = mebibytes("/sys/fs/cgroup/memory.current", "", 1);
	double left = isfinite(most) && isfinite(used) ? most - used : INFINITY;

	return fmin(left, mebibytes("/proc/meminfo", "MemAvailable:", 1024));
}

/* Prompts of other lengths: one of them ends within a block of the cache, one on its edge. */
static struct engine_result *run(struct model *m, unsigned first, unsigned count)
{
	struct engine_options options = {.cache_size = 64u << 20, .sequences = REQUESTS};
	struct engine_result *results = xcalloc(REQUESTS, sizeof(*results)), one;
	unsigned prompt[PROMPT];
	struct engine *e;
	struct err err;

	if (engine_open(&e, m, &options, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (unsigned k = first; k < first + count; k++) {
		struct engine_request r = {.id = k,
					   .prompt = prompt,
					   .prompt_count = PROMPT - 8 * k,
					   .most = TOKENS,
					   .endless = true,
					   .sampling = {.top_p = 1, .repetition_penalty = 1}};

		for (unsigned i = 0; i < PROMPT; i++)
			prompt[i] = (k * 7919 + i * i * 3571) % m->config.text.vocab;
		if (engine_add(e, &r, &err) != RC_OK)
			fail_msg("%s", err.text);
	}
	while (engine_step(e))
		continue;
	while (engine_take(e, &one))
		results[one.id] = one;
	engine_close(e);
	return results;
}

static void release(struct engine_result *results)
{
	for (unsigned k = 0; k < REQUESTS; k++) {
		free(results[k].tokens);
		free(results[k].log_probabilities);
	}
	free(results);
}

static void check_finite(const struct engine_result *r)
{
	assert_int_equal(r->finish, ENGINE_LENGTH);
	assert_int_equal(r->count, TOKENS);
	for (size_t i = 0; i < r->count; i++)
		assert_true(isfinite(r->log_probabilities[i]) && r->log_probabilities[i] < 0);
}

static void check_same(const struct engine_result *a, const struct engine_result *b)
{
	assert_memory_equal(a->tokens, b->tokens, TOKENS * sizeof(*a->tokens));
	assert_memory_equal(a->log_probabilities, b->log_probabilities,
			    TOKENS * sizeof(*a->log_probabilities));
}

static void test_qwen3_600m(void **state)
{
	struct engine_result *both, *alone;
	struct rusage usage;
	struct model model = {0};
	struct pool *pool;
	struct err err;

	(void)state;
	if (getenv("CLOISTER_SANITIZED")) {
		print_message("# skipped: under a sanitizer it takes minutes\n");
		skip();
	}
	if (free_mebibytes() < NEEDED_MIB) {
		print_message("# skipped: %.0f MiB of memory are free, it takes %d\n",
			      free_mebibytes(), NEEDED_MIB);
		skip();
	}
	if (pool_open(&pool, 0, &err) != RC_OK ||
	    model_config_load_file(&model.config, "tests/bench/models/qwen3-0.6b.json", &err) != RC_OK ||
	    model_open_config(&model, compute_open_cpu, &(struct compute_options){.weights = NUMBER_BF16},
			      pool, &err) != RC_OK)
		fail_msg("%s", err.text);
	both = run(&model, 0, REQUESTS);
	for (unsigned k = 0; k < REQUESTS; k++) {
		check_finite(&both[k]);
		alone = run(&model, k, 1);
		check_same(&both[k], &alone[k]);
		release(alone);
	}
	/* What they say depends on what they were asked. */
	assert_memory_not_equal(both[0].log_probabilities, both[1].log_probabilities,
				TOKENS * sizeof(float));
	release(both);
	model_close(&model);
	pool_close(pool);
	getrusage(RUSAGE_SELF, &usage);
	print_message("# figure: full-size model in memory: %ld MiB at most\n",
		      usage.ru_maxrss / 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_qwen3_600m)};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
