/* SPDX-License-Identifier: MIT
 *
 * Small random models of every family against what transformers computes with the same weights
 * (tests/golden/make-models.py): vision features, positions, logits of every step, greedy tokens.
 * In fp32 they agree to 1e-4; in bf16 we may be as far off as the reference's own bf16. The same with the
 * adapters that lie in a model's folder, as peft applies them.
 */
#include "engine.h"
#include "image.h"
#include "on-compute.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGES_MAX 8

#define FP8_MOST  8 /* they come to 5; the step of e4m3 is 16 times that of bf16 */
#define FP8_WEIGHTS_MOST 24 /* they come to 14: of numbers, both of a product's are rounded so */

static const char *root(void)
{
	const char *given = getenv("CLOISTER_GOLDEN_MODELS");

	return given ? given : "tests/golden/models";
}

struct golden {
	char *folder;
	struct model model;
	struct weights *expected, *own; /* own: an adapter's; or NULL */
	struct adapted adapted;
	struct pool *pool;
	struct model_page pages[PAGES_MAX];
	struct features features[PAGES_MAX];
	size_t page_count;
};

static const struct tensor *expect(const struct golden *g, const char *format, ...)
{
	const struct tensor *t;
	char name[64];
	va_list ap;

	va_start(ap, format);
	vsnprintf(name, sizeof(name), format, ap);
	va_end(ap);
	t = g->own ? weights_find(g->own, name) : NULL;
	t = t ? t : weights_find(g->expected, name);
	if (!t)
		fail_msg("%s: no %s", g->folder, name);
	return t;
}

static int64_t integer(const struct tensor *t, size_t i)
{
	int64_t n;

	memcpy(&n, (const char *)t->data + i * sizeof(n), sizeof(n));
	return n;
}

static float number_at(const struct tensor *t, size_t i)
{
	float x;

	memcpy(&x, (const char *)t->data + i * sizeof(x), sizeof(x));
	return x;
}

/* The largest difference, as a share of the largest value. */
static double difference(const float *got, const struct tensor *want, size_t first, size_t n)
{
	double most = 0, worst = 0;

	for (size_t i = 0; i < n; i++) {
		double w = number_at(want, first + i);

		most = fmax(most, fabs(w));
		worst = fmax(worst, isfinite(got[i]) ? fabs(got[i] - w) : INFINITY);
	}
	return worst / most;
}

static void golden_open_with(struct golden *g, const char *name, const struct compute_options *options)
{
	char *base = xasprintf("%s/%.*s", root(), (int)strcspn(name, "/"), name);
	struct err err;

	*g = (struct golden){.folder = xasprintf("%s/%s", root(), name)};
	if (pool_open(&g->pool, 0, &err) != RC_OK ||
	    model_open(&g->model, base, COMPUTE_OPEN, options, g->pool, &err) != RC_OK ||
	    weights_open_file(&g->expected, base, "expected.safetensors", &err) != RC_OK)
		fail_msg("%s: %s", base, err.text);
	free(base);
	if (!strchr(name, '/'))
		return;
	if (model_adapt(&g->model, g->folder, &err) != RC_OK ||
	    weights_open_file(&g->own, g->folder, "expected.safetensors", &err) != RC_OK)
		fail_msg("%s: %s", g->folder, err.text);
	g->adapted.count = 1;
}

static void golden_open(struct golden *g, const char *name, enum number number, enum compute_keys keys)
{
	golden_open_with(g, name, &(struct compute_options){.weights = number, .keys = keys});
}

static void golden_close(struct golden *g)
{
	for (size_t k = 0; k < g->page_count; k++)
		g->model.compute->calls->forget(g->model.compute, &g->features[k]);
	model_close(&g->model);
	weights_close(g->expected);
	weights_close(g->own);
	pool_close(g->pool);
	free(g->folder);
}

static void check_lanczos(struct golden *g, size_t k, const struct image *image)
{
	const struct tensor *want = expect(g, "lanczos.%zu", k);
	struct image out;
	struct err err;

	if (image_resize(image, (unsigned)want->shape[1], (unsigned)want->shape[0],
			 IMAGE_LANCZOS_PILLOW, g->pool, &out, &err) != RC_OK)
		fail_msg("%s", err.text);
	assert_memory_equal(out.rgb, want->data, want->size);
	image_release(&out);
}

/* Patches as the reference's processor makes them: the grid exactly, no pixel off by a level. */
static void __attribute__((unused)) test_pixels(void **state)
{
	const struct tensor *grid;
	struct golden g;
	struct err err;

	golden_open(&g, *state, NUMBER_F32, COMPUTE_KEYS_AS_WEIGHTS);
	grid = weights_find(g.expected, "grid");
	for (size_t k = 0; grid && k < grid->shape[0]; k++) {
		const struct tensor *source = expect(&g, "image.%zu", k),
				    *want = expect(&g, "pixels.%zu", k);
		struct image image = {(unsigned)source->shape[1], (unsigned)source->shape[0],
				      (unsigned char *)source->data};
		unsigned rows, columns;
		float *patches;

		check_lanczos(&g, k, &image);
		if (image_patches(&g.model.config, &image, g.pool, &patches, &rows, &columns,
				  &err) != RC_OK)
			fail_msg("%s", err.text);
		assert_int_equal(rows, integer(grid, 2 * k));
		assert_int_equal(columns, integer(grid, 2 * k + 1));
		for (size_t i = 0; i < want->size / sizeof(float); i++)
			if (!(fabsf(patches[i] - number_at(want, i)) < 1e-3f))
				fail_msg("%s: page %zu: value %zu is %g, not %g", g.folder, k, i,
					 patches[i], number_at(want, i));
		free(patches);
	}
	golden_close(&g);
}

/* n numbers, as the device has them. */
static void check_near(const struct golden *g, const float *features, const struct tensor *want, size_t n,
		       double tolerance)
{
	float *values = features_read(features, n);
	double off = difference(values, want, 0, n);

	free(values);
	if (!(off < tolerance))
		fail_msg("%s: %s differs by %g", g->folder, want->stored, off);
}

static void check_vision(struct golden *g, double tolerance)
{
	const struct tensor *grid = weights_find(g->expected, "grid");
	const struct vision_config *v = &g->model.config.vision;
	struct err err;

	for (size_t k = 0; grid && k < grid->shape[0]; k++) {
		unsigned rows = (unsigned)integer(grid, 2 * k),
			 columns = (unsigned)integer(grid, 2 * k + 1);
		size_t tokens = (size_t)rows * columns / v->merge / v->merge;
		const struct tensor *t = expect(g, "pixels.%zu", k);
		float *pixels = malloc(t->size);

		memcpy(pixels, t->data, t->size);
		if (g->model.compute->calls->see(g->model.compute, pixels, rows, columns,
						 &g->features[k], &err) != RC_OK)
			fail_msg("%s", err.text);
		check_near(g, g->features[k].embeddings, expect(g, "vision.%zu", k), tokens * v->out, tolerance);
		for (unsigned d = 0; d < v->deepstacks; d++)
			check_near(g, g->features[k].deepstack[d], expect(g, "deepstack.%zu.%u", k, d), tokens * v->out,
				   tolerance);
		g->pages[k].rows = rows / v->merge;
		g->pages[k].columns = columns / v->merge;
		g->page_count = k + 1;
		free(pixels);
	}
}

static unsigned check_positions(struct golden *g, unsigned *position)
{
	const struct tensor *prompt = expect(g, "prompt"), *want = expect(g, "positions");
	size_t n = prompt->shape[0], page = 0;
	unsigned next;

	for (size_t i = 0; i < n; i++)
		if (g->page_count && integer(prompt, i) == (int64_t)g->model.config.image_token &&
		    integer(prompt, i - 1) == (int64_t)g->model.config.vision_start)
			g->pages[page++].first = i;
	assert_int_equal(page, g->page_count);
	next = model_positions(n, g->pages, page, position);
	for (size_t i = 0; i < n; i++)
		for (size_t axis = 0; axis < 3; axis++)
			assert_int_equal(position[3 * i + axis], integer(want, axis * n + i));
	return next;
}

/* Row i of the prompt, or behind it a token generated before. */
static void fill_row(const struct golden *g, struct text_row *r, size_t i, const unsigned *position,
		     unsigned next)
{
	const struct tensor *prompt = expect(g, "prompt"), *tokens = expect(g, "tokens");
	size_t n = prompt->shape[0];

	r->index = i;
	if (i >= n) {
		r->token = (unsigned)integer(tokens, i - n);
		for (size_t axis = 0; axis < 3; axis++)
			r->position[axis] = next + (unsigned)(i - n);
		return;
	}
	r->token = (unsigned)integer(prompt, i);
	memcpy(r->position, position + 3 * i, sizeof(r->position));
	for (size_t k = 0; k < g->page_count; k++) {
		const struct model_page *p = &g->pages[k];
		size_t at = i - p->first;

		if (i < p->first || at >= (size_t)p->rows * p->columns)
			continue;
		r->page = &g->features[k];
		r->place = at;
	}
}

/* Steps as they were made: the prompt cut into calls of `chunk` rows, then token by token. */
static float *run(struct golden *g, size_t chunk, const unsigned *position, unsigned next)
{
	size_t n = expect(g, "prompt")->shape[0], steps = expect(g, "tokens")->shape[0];
	size_t vocab = g->model.config.text.vocab, total = n + steps - 1,
	       blocks = total / KV_PAGE + 1;
	float *logits = calloc(steps * vocab, sizeof(float));
	struct text_sequence sequence = {calloc(blocks, sizeof(uint32_t)), blocks, 0};
	struct compute *compute = g->model.compute;
	struct text_row *rows = calloc(chunk, sizeof(*rows));
	size_t switch_at = g->model.config.text.switch_at, read = n;
	bool far = switch_at && n > switch_at;
	struct err err;

	if (compute->calls->reserve(compute, (uint32_t)blocks, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (uint32_t b = 0; b < blocks; b++) {
		sequence.blocks[b] = (uint32_t)blocks - 1 - b;
		compute->calls->clear(compute, b);
	}
	for (size_t i = 0; i < total;) {
		size_t count = i >= read ? 1 : read - i < chunk ? read - i : chunk;

		memset(rows, 0, chunk * sizeof(*rows));
		for (size_t k = 0; k < count; k++, i++) {
			rows[k].sequence = &sequence;
			fill_row(g, &rows[k], i, position, next);
			rows[k].written = i >= read;
			rows[k].far = far;
			rows[k].adapted = g->adapted;
			if (i >= read - 1)
				rows[k].logits = logits + (i - (n - 1)) * vocab;
		}
		compute_forward(compute, rows, count);
		/* The next token makes it long: all of it is read again, by other angles. */
		if (i >= n && i < total && !far && switch_at && i + 1 > switch_at) {
			far = true;
			read = i + 1;
			i = 0;
		}
	}
	free(sequence.blocks);
	free(rows);
	return logits;
}

/* In calls as large as may be; not a bit differs when the prompt comes in pieces. */
static float *run_both(struct golden *g)
{
	unsigned *position = calloc(3 * expect(g, "prompt")->shape[0], sizeof(*position));
	unsigned next = check_positions(g, position);
	float *whole = run(g, g->model.compute->rows_max, position, next), *cut = run(g, 7, position, next);

	assert_memory_equal(whole, cut, expect(g, "logits")->size);
	free(cut);
	free(position);
	return whole;
}

static void check_logits(struct golden *g, const float *logits, double tolerance)
{
	const struct tensor *want = expect(g, "logits"), *tokens = expect(g, "tokens");
	size_t vocab = g->model.config.text.vocab;

	for (size_t step = 0; step < tokens->shape[0]; step++) {
		const float *row = logits + step * vocab;
		double off = difference(row, want, step * vocab, vocab);
		size_t best = 0;

		for (size_t i = 1; i < vocab; i++)
			if (row[i] > row[best])
				best = i;
		if (!(off < tolerance))
			fail_msg("%s: step %zu: logits differ by %g", g->folder, step, off);
		if (tolerance < 1e-3 && best != (size_t)integer(tokens, step))
			fail_msg("%s: step %zu: token %zu, not %lld", g->folder, step, best,
				 (long long)integer(tokens, step));
	}
}

static void __attribute__((unused)) test_fp32(void **state)
{
	struct golden g;
	float *logits;

	golden_open(&g, *state, NUMBER_F32, COMPUTE_KEYS_AS_WEIGHTS);
	check_vision(&g, 1e-4);
	logits = run_both(&g);
	check_logits(&g, logits, 1e-4);
	free(logits);
	golden_close(&g);
}

/* The engine comes to the same tokens, whatever it has to read again on the way. */
static void __attribute__((unused)) test_engine(void **state)
{
	struct engine_options options = {.sequences = 2};
	struct engine_request request = {.sampling = {.repetition_penalty = 1, .top_p = 1}};
	struct engine_result result = {.tokens = NULL};
	const struct tensor *prompt, *tokens;
	struct engine *engine;
	struct golden g;
	unsigned *ids;
	struct err err;

	golden_open(&g, *state, NUMBER_F32, COMPUTE_KEYS_AS_WEIGHTS);
	prompt = expect(&g, "prompt");
	tokens = expect(&g, "tokens");
	ids = calloc(prompt->shape[0], sizeof(*ids));
	for (size_t i = 0; i < prompt->shape[0]; i++)
		ids[i] = (unsigned)integer(prompt, i);
	request.prompt = ids;
	request.prompt_count = prompt->shape[0];
	request.most = tokens->shape[0];
	request.endless = true;
	request.adapted = g.adapted;
	options.cache_size = 8 * g.model.compute->block_size;
	if (g.model.config.vision.depth)
		goto out;
	if (engine_open(&engine, &g.model, &options, &err) != RC_OK ||
	    engine_add(engine, &request, &err) != RC_OK)
		fail_msg("%s", err.text);
	while (engine_step(engine))
		;
	assert_true(engine_take(engine, &result));
	assert_int_equal(result.count, tokens->shape[0]);
	for (size_t i = 0; i < result.count; i++)
		assert_int_equal(result.tokens[i], integer(tokens, i));
	free(result.tokens);
	free(result.log_probabilities);
	engine_close(engine);
out:
	free(ids);
	golden_close(&g);
}

/* The largest distances of the logits from the exact ones: ours, and of the reference's own bf16. */
static double distance(const struct golden *g, const float *logits, double *reference)
{
	const struct tensor *exact = expect(g, "logits"), *half = expect(g, "logits_bf16");
	double worst = 0, largest = 0;

	*reference = 0;
	for (size_t i = 0; i < exact->size / sizeof(float); i++) {
		double off = fabs(logits[i] - number_at(exact, i));

		worst = fmax(worst, isfinite(logits[i]) ? off : INFINITY);
		*reference = fmax(*reference, fabs(number_at(half, i) - number_at(exact, i)));
		largest = fmax(largest, fabs(number_at(exact, i)));
	}
	/* A row that has gone to another expert, as near as the two were, is off by more. */
	if (g->model.config.text.experts)
		*reference = fmax(*reference, 0.05 * largest);
	return worst;
}

/* What is kept is what was asked for. */
static void check_block_size(const struct golden *g, enum compute_keys keys)
{
#ifdef ON_CUDA
	const struct text_config *t = &g->model.config.text;

	assert_int_equal(g->model.compute->block_size,
			 t->layers * cuda_kv_page_size(t->kv_heads, t->head_dim,
						       keys == COMPUTE_KEYS_FP8 ? CUDA_KV_E4M3
										: CUDA_KV_BF16));
#else
	(void)g, (void)keys;
#endif
}

/* `most` times as far off as the reference's bf16. */
static void check_distance(const struct golden *g, const float *logits, double most)
{
	double reference, worst = distance(g, logits, &reference);

#ifdef ON_CUDA
	/* int4 becomes bf16, as in the reference's bf16: most of the error is of that kind, and of one size. */
	if (g->model.config.awq_group)
		most *= 1.5;
#endif
	if (!(worst <= most * reference))
		fail_msg("%s: a logit is off by %g, the reference's own bf16 by no more than %g",
			 g->folder, worst, reference);
}

/* The same, and in pieces not a bit otherwise. */
static void check_rounded(const char *name, enum number number, enum compute_keys keys, double most)
{
	struct golden g;
	float *logits;

	golden_open(&g, name, number, keys);
	check_block_size(&g, keys);
	check_vision(&g, 3e-2);
	logits = run_both(&g);
	check_distance(&g, logits, most);
	free(logits);
	golden_close(&g);
}

static void test_bf16(void **state)
{
	check_rounded(*state, NUMBER_BF16, COMPUTE_KEYS_AS_WEIGHTS, 1);
}

#ifdef ON_CUDA
static void test_fp8(void **state)
{
	check_rounded(*state, NUMBER_BF16, COMPUTE_KEYS_FP8, FP8_MOST);
}

/* Rows of 8 more than a multiple of 16 are refused by name: of a model, or of what an adapter would read. */
static void test_fp8_weights(void **state)
{
	struct compute_options options = {.weights = NUMBER_E4M3};
	const char *name = *state;
	char *folder = xasprintf("%s/%.*s", root(), (int)strcspn(name, "/"), name),
	     *adapter = strchr(name, '/') ? xasprintf("%s/%s", root(), name) : NULL;
	struct model_config config;
	struct model m;
	struct err err;

	if (compute_lacks_fp8())
		skip();
	if (model_config_load(&config, folder, &err) != RC_OK)
		fail_msg("%s", err.text);
	if (config.text.hidden % 16) {
		assert_int_equal(model_open(&m, folder, COMPUTE_OPEN, &options, NULL, &err), RC_FATAL);
		assert_non_null(strstr(err.text, "fp8 weights are computed with in rows of a multiple of 16"));
	} else if (adapter && config.text.intermediate % 16) {
		assert_int_equal(model_open(&m, folder, COMPUTE_OPEN, &options, NULL, &err), RC_OK);
		assert_int_equal(model_adapt(&m, adapter, &err), RC_FATAL);
		assert_non_null(strstr(err.text, "intermediate_size that is a multiple of 16"));
		model_close(&m);
	} else {
		check_rounded(name, NUMBER_E4M3, COMPUTE_KEYS_AS_WEIGHTS, FP8_WEIGHTS_MOST);
	}
	free(folder);
	free(adapter);
}

/* Whole and in pieces as near as in one order, but not the same to the bit. */
static void test_any_order(void **state)
{
	unsigned *position, next;
	struct golden g;

	golden_open_with(&g, *state, &(struct compute_options){.weights = NUMBER_BF16, .any_order = true});
	check_vision(&g, 3e-2);
	position = calloc(3 * expect(&g, "prompt")->shape[0], sizeof(*position));
	next = check_positions(&g, position);
	for (size_t i = 0; i < 2; i++) {
		float *logits = run(&g, i ? 7 : g.model.compute->rows_max, position, next);

		check_distance(&g, logits, 1);
		free(logits);
	}
	free(position);
	golden_close(&g);
}
#endif

/* Weights of 8 bits: not far off, and not a bit of a row depends on its company. */
static void __attribute__((unused)) test_int8(void **state)
{
	struct golden g;
	float *logits;

	golden_open(&g, *state, NUMBER_INT8, COMPUTE_KEYS_AS_WEIGHTS);
	check_vision(&g, 3e-2);
	logits = run_both(&g);
	check_logits(&g, logits, 0.25);
	free(logits);
	golden_close(&g);
}

static bool refused(const char *name)
{
	char *folder = xasprintf("%s/%s", root(), name);
	struct model_config config;
	struct err err;
	bool yes = model_config_load(&config, folder, &err) == RC_OK && compute_refuses(&config);

	free(folder);
	return yes;
}

static const struct kind {
	const char *what;
	CMUnitTestFunction run;
	bool adapters; /* of these, too */
} kinds[] = {{"bf16", test_bf16, true},
	     ONLY_ON_CUDA({"fp8", test_fp8, true}, {"any order", test_any_order, true},
			  {"fp8 weights", test_fp8_weights, true})
	     ONLY_ON_CPU({"pixels", test_pixels, false}, {"fp32", test_fp32, true},
			 {"int8", test_int8, true}, {"engine", test_engine, true})};

enum { TESTS_MAX = 256 };

static struct CMUnitTest tests[TESTS_MAX];
static size_t count;

/* `name` is given away. */
static void add_tests(char *name, bool adapter)
{
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		if (adapter && !kinds[k].adapters)
			continue;
		if (count == TESTS_MAX)
			BUG("more than %d tests", TESTS_MAX);
		tests[count++] = (struct CMUnitTest){xasprintf("%s %s", name, kinds[k].what),
						     kinds[k].run, NULL, NULL, xstrdup(name)};
	}
	free(name);
}

static void add_adapters(const char *name)
{
	char *path = xasprintf("%s/%s", root(), name);
	DIR *dir = opendir(path);
	struct dirent *e;

	while (dir && (e = readdir(dir)) != NULL)
		if (!strncmp(e->d_name, "adapter-", 8))
			add_tests(xasprintf("%s/%s", name, e->d_name), true);
	if (dir)
		closedir(dir);
	free(path);
}

int main(void)
{
	DIR *dir = opendir(root());
	struct dirent *e;
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (compute_missing()) {
		printf("1..0 # SKIP %s\n", compute_missing());
		return 0;
	}
	while (dir && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.' || refused(e->d_name))
			continue;
		add_tests(xstrdup(e->d_name), false);
		add_adapters(e->d_name);
	}
	if (!count) {
		printf("not ok 1 - no golden models in %s\n1..1\n", root());
		return 1;
	}
	closedir(dir);
	failed = _cmocka_run_group_tests("golden", tests, count, NULL, NULL);
	for (size_t i = 0; i < count; i++) {
		free((char *)tests[i].name);
		free(tests[i].initial_state);
	}
	return failed;
}
