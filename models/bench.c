/* SPDX-License-Identifier: MIT
 *
 * cloister-model bench: prompt and output tokens a second of a whole model, through the engine as
 * pages go through it. Each figure is the median of some rounds, all figures of a round in turn, so
 * that a disturbance meets all alike.
 */
#include "bench.h"

#include "base/num.h"
#include "bench_pages.h"
#include "engine.h"
#include "gate.h"
#include "kernels/bench.h"
#include "kernels/cpu.h"
#include "shapes.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char usage[] =
	"usage: cloister-model bench --random --shape NAME | --random --config FILE | --model DIR\n"
	"                            [--weights bf16|int8|fp8|f32] [--kv bf16|fp8] [--cache MIB] "
	"[--speculate N]\n"
	"                            [--threads N] [--rounds N] [--prompt N] [--tokens N]\n"
	"                            [--batch N[,N...]] [--page N] [--any-order]\n"
	"                            [--pages N [--product N] [--copy MIB]]\n"
	"       cloister-model bench --kernels [--threads N] [--rounds N]\n"
	"       cloister-model bench --shape NAME --show\n"
	"\n"
	"Looks at a page of N x N pixels where the model has eyes, reads a prompt, then writes\n"
	"tokens at each batch size; a JSON line for each. With --pages so many whole pages go\n"
	"through instead at each batch size, each with a prompt and so many tokens: first a line\n"
	"of what the device gives at best, a copy and a large product (bf16, with --weights fp8\n"
	"that as well), then for each batch\n"
	"size pages and tokens a second, the time in vision, prefill and decode, and the share\n"
	"that the least possible time has of it. --product and --copy are the side of the\n"
	"matrices and the MiB that are measured (2048 and 256, on a GPU 8192 and 1024). The cache has 1024 MiB, or as --cache says;\n"
	"0: what the device has left. With --speculate N tokens are guessed ahead where the output\n"
	"repeats itself: random weights soon do nothing else. --show prints a shape's config.json.\n"
	"\n"
	"Shapes for --shape:\n";

enum { BATCHES_MAX = 16, ROUNDS_MAX = 99 };

#define CACHE_SIZE ((size_t)1 << 30)

struct options {
	const char *config, *model, *shape;
	enum number weights;
	enum compute_keys keys;
	size_t cache_size;
	unsigned pages, product, copy; /* 0: as the device wants it */
	unsigned threads, rounds, prompt, tokens, batches[BATCHES_MAX], batch_count, page, drafts;
	bool random, kernels, show, any_order;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned count(const char *text, const char *option)
{
	uint64_t n;

	if (!parse_u64(text, 1u << 20, &n) || n == 0)
		die(EX_USAGE_ERROR, "--%s %s is not a number from 1 up", option, text);
	return (unsigned)n;
}

static void parse_batches(struct options *o, const char *text)
{
	char *copy = xstrdup(text), *rest = copy, *item;

	o->batch_count = 0;
	while ((item = strsep(&rest, ",")) != NULL) {
		if (o->batch_count == BATCHES_MAX)
			die(EX_USAGE_ERROR, "--batch has more than %d sizes", BATCHES_MAX);
		o->batches[o->batch_count++] = count(item, "batch");
	}
	free(copy);
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option table[] = {
		{"config", required_argument, NULL, 'c'},
		{"model", required_argument, NULL, 'm'},
		{"weights", required_argument, NULL, 'w'},
		{"threads", required_argument, NULL, 't'},
		{"rounds", required_argument, NULL, 'r'},
		{"prompt", required_argument, NULL, 'p'},
		{"tokens", required_argument, NULL, 'n'},
		{"batch", required_argument, NULL, 'b'},
		{"page", required_argument, NULL, 'g'},
		{"random", no_argument, NULL, 'R'},
		{"shape", required_argument, NULL, 's'},
		{"kv", required_argument, NULL, 'K'},
		{"any-order", no_argument, NULL, 'o'},
		{"speculate", required_argument, NULL, 'D'},
		{"cache", required_argument, NULL, 'C'},
		{"pages", required_argument, NULL, 'P'},
		{"product", required_argument, NULL, 'M'},
		{"copy", required_argument, NULL, 'Y'},
		{"show", no_argument, NULL, 'S'},
		{"kernels", no_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	uint64_t mebibytes, drafts;
	int c;

	*o = (struct options){.weights = NUMBER_BF16,
			      .cache_size = CACHE_SIZE,
			      .rounds = 5,
			      .prompt = 512,
			      .tokens = 32,
			      .batches = {1, 4, 16},
			      .batch_count = 3,
			      .page = 448};
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = optarg;
			break;
		case 'm':
			o->model = optarg;
			break;
		case 'w':
			if (!number_of_weights(optarg, &o->weights))
				die(EX_USAGE_ERROR, "--weights is bf16, int8, fp8 or f32");
			break;
		case 't':
			o->threads = count(optarg, "threads");
			break;
		case 'r':
			o->rounds = (unsigned)min_u64(count(optarg, "rounds"), ROUNDS_MAX);
			break;
		case 'p':
			o->prompt = count(optarg, "prompt");
			break;
		case 'n':
			o->tokens = count(optarg, "tokens");
			break;
		case 'b':
			parse_batches(o, optarg);
			break;
		case 'g':
			o->page = count(optarg, "page");
			break;
		case 'R':
			o->random = true;
			break;
		case 'k':
			o->kernels = true;
			break;
		case 's':
			o->shape = optarg;
			break;
		case 'K':
			if (strcmp(optarg, "bf16") && strcmp(optarg, "fp8"))
				die(EX_USAGE_ERROR, "--kv is bf16 or fp8");
			o->keys = *optarg == 'f' ? COMPUTE_KEYS_FP8 : COMPUTE_KEYS_AS_WEIGHTS;
			break;
		case 'o':
			o->any_order = true;
			break;
		case 'D':
			if (!parse_u64(optarg, ENGINE_DRAFTS_MAX, &drafts))
				die(EX_USAGE_ERROR, "--speculate %s is not a number up to %d", optarg,
				    ENGINE_DRAFTS_MAX);
			o->drafts = (unsigned)drafts;
			break;
		case 'C':
			if (!parse_u64(optarg, 1 << 24, &mebibytes))
				die(EX_USAGE_ERROR, "--cache %s is not a number of MiB", optarg);
			o->cache_size = mebibytes << 20;
			break;
		case 'P':
			o->pages = count(optarg, "pages");
			break;
		case 'M':
			o->product = count(optarg, "product");
			break;
		case 'Y':
			o->copy = count(optarg, "copy");
			break;
		case 'S':
			o->show = true;
			break;
		case 'h':
			fputs(usage, stdout);
			shapes_list(stdout);
			exit(EX_ALL_DONE);
		default:
			exit(EX_USAGE_ERROR);
		}
	}
	if (optind < argc || o->kernels + (o->config && o->random) + (o->shape && (o->random || o->show)) +
					   (o->model != NULL) != 1) {
		fputs(usage, stderr);
		exit(EX_USAGE_ERROR);
	}
}

static unsigned largest_batch(const struct options *o)
{
	unsigned most = 1;

	for (unsigned b = 0; b < o->batch_count; b++)
		most = (unsigned)max_u64(most, o->batches[b]);
	return most;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), by_value);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void add_requests(struct engine *e, const struct model *m, unsigned batch, unsigned prompt,
			 unsigned tokens)
{
	unsigned *ids = xmalloc(prompt * sizeof(*ids));
	struct err err;

	for (unsigned k = 0; k < batch; k++) {
		struct engine_request r = {.id = k,
					   .prompt = ids,
					   .prompt_count = prompt,
					   .most = tokens,
					   .endless = true,
					   .sampling = {.top_p = 1, .repetition_penalty = 1}};

		/* No two alike, or they would share what they begin with. */
		for (unsigned i = 0; i < prompt; i++)
			ids[i] = (unsigned)((k * 7919u + i * 104729u +
					     (unsigned)engine_load(e).generated_tokens) %
					    m->config.text.vocab);
		if (engine_add(e, &r, &err) != RC_OK)
			die(EX_CONFIGURATION, "%s", err.text);
	}
	free(ids);
}

static void drop_results(struct engine *e)
{
	struct engine_result r;

	while (engine_take(e, &r)) {
		free(r.tokens);
		free(r.log_probabilities);
	}
}

/* Seconds to read a prompt alone: all passes but those that write. */
static double time_prompt(struct engine *e, const struct model *m, unsigned prompt)
{
	double start;

	add_requests(e, m, 1, prompt, 1);
	start = now();
	while (engine_step(e))
		;
	start = now() - start;
	drop_results(e);
	return start;
}

/* Seconds a token of each of `batch` sequences, behind a short prompt, as long as all are side by side. */
static double time_tokens(struct engine *e, const struct model *m, unsigned batch, unsigned tokens)
{
	double start = 0, end = 0;
	uint64_t first = 0, last = 0;

	add_requests(e, m, batch, 16, tokens + 2);
	while (engine_step(e)) {
		struct engine_load load = engine_load(e);

		if (load.waiting || load.running < batch)
			continue;
		end = now();
		last = load.generated_tokens;
		if (start == 0) {
			start = end;
			first = last;
		}
	}
	drop_results(e);
	return (end - start) * batch / (double)max_u64(last - first, 1);
}

/* What the language model's matrices are in. */
static enum number number_of(const struct options *o, const struct model *m)
{
	bool kept = o->weights != NUMBER_F32 && o->weights != NUMBER_E4M3;

	return m->config.awq_group && kept ? NUMBER_INT4 : o->weights;
}

/* Bytes of a number in the layers, and in the head. Fp8 leaves alone the head and experts, of which a model of
 * experts is made for the most part. */
static double bytes_of(const struct options *o, const struct model *m, double *head)
{
	enum number number = number_of(o, m);
	bool experts = m->config.text.experts;

	if (number == NUMBER_INT4)
		return *head = 0.5;
	*head = (double)number_size(number == NUMBER_E4M3 ? NUMBER_BF16 : number);
	if (number == NUMBER_E4M3 && experts)
		return m->config.awq_group ? 0.5 : *head;
	return (double)number_size(number);
}

/* What all lines of a model begin with. */
static void begin_line(const char *bench, const struct model *m, enum number number, struct pool *pool)
{
	printf("{\"bench\":\"%s\",\"architecture\":\"%s\",\"weights\":\"%s\",\"device\":\"%s\","
	       "\"threads\":%u,",
	       bench, m->config.architecture, number_name(number), m->compute->name, pool_threads(pool));
}

/* A square page through the vision tower: seconds a round. */
static void bench_page(const struct options *o, const struct model *m, struct pool *pool)
{
	const struct vision_config *v = &m->config.vision;
	unsigned side = (unsigned)max_u64(o->page / v->patch / v->merge, 1) * v->merge;
	size_t patches = (size_t)side * side, tokens = patches / v->merge / v->merge, n;
	struct compute *c = m->compute;
	struct features features;
	float *pixels;
	double seconds[ROUNDS_MAX], s;
	struct err err;

	n = patches * 3 * v->temporal * v->patch * v->patch;
	pixels = xmalloc(n * sizeof(float));
	for (size_t i = 0; i < n; i++)
		pixels[i] = (float)(i * 2654435761u % 512) / 256 - 1;
	for (unsigned r = 0; r < o->rounds; r++) {
		seconds[r] = now();
		if (c->calls->see(c, pixels, side, side, &features, &err) != RC_OK)
			die(EX_CONFIGURATION, "%s", err.text);
		seconds[r] = now() - seconds[r];
		c->calls->forget(c, &features);
	}
	s = median(seconds, o->rounds);
	begin_line("page", m, o->weights, pool);
	printf("\"patches\":%zu,\"tokens\":%zu,\"tokens_per_s\":%.1f}\n", patches, tokens,
	       (double)tokens / s);
	free(pixels);
}

static void bench_model(const struct options *o, struct model *m, struct pool *pool)
{
	struct engine_options options = {.sequences = largest_batch(o), .drafts = o->drafts};
	uint64_t drafted[BATCHES_MAX] = {0}, accepted[BATCHES_MAX] = {0};
	double prompt[ROUNDS_MAX], tokens[BATCHES_MAX][ROUNDS_MAX], head,
		body = bench_parameters(&m->config.text, &head), s, head_bytes,
		bytes = bytes_of(o, m, &head_bytes);
	enum number number = number_of(o, m);
	struct engine *e;
	struct err err;

	if (engine_open(&e, m, &options, &err) != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	for (unsigned r = 0; r < o->rounds; r++) {
		prompt[r] = time_prompt(e, m, o->prompt);
		for (unsigned b = 0; b < o->batch_count; b++) {
			struct engine_load before = engine_load(e);

			tokens[b][r] = time_tokens(e, m, o->batches[b], o->tokens);
			drafted[b] += engine_load(e).drafted - before.drafted;
			accepted[b] += engine_load(e).accepted - before.accepted;
		}
	}
	s = median(prompt, o->rounds);
	begin_line("prompt", m, number, pool);
	printf("\"tokens\":%u,\"tokens_per_s\":%.1f,\"gflops\":%.1f}\n", o->prompt, o->prompt / s,
	       (2 * body * o->prompt + 2 * head) / s / 1e9);
	for (unsigned b = 0; b < o->batch_count; b++) {
		s = median(tokens[b], o->rounds);
		begin_line("output", m, number, pool);
		printf("\"batch\":%u,\"tokens_per_s\":%.2f", o->batches[b], o->batches[b] / s);
		/* How many experts a batch meets is not known here. */
		if (!m->config.text.experts)
			printf(",\"weights_gb_per_s\":%.2f", (body * bytes + head * head_bytes) / s / 1e9);
		if (o->drafts)
			printf(",\"drafted\":%llu,\"accepted\":%llu", (unsigned long long)drafted[b],
			       (unsigned long long)accepted[b]);
		puts("}");
	}
	engine_close(e);
}

/* What the device gives, then whole pages at each batch size. */
static enum rc bench_whole(const struct options *o, struct model *m, struct pool *pool, struct err *err)
{
	struct engine_options options = {.sequences = largest_batch(o), .drafts = o->drafts};
	const char *name = o->shape ? o->shape : o->model ? o->model : o->config, *last = strrchr(name, '/');
	bool small = !strncmp(m->compute->name, "cpu", 3);
	struct bench_pages b = {.shape = last ? last + 1 : name,
				.weights = number_name(number_of(o, m)),
				.pages = o->pages,
				.side = o->page,
				.prompt = o->prompt,
				.tokens = o->tokens,
				.threads = pool_threads(pool)};
	struct engine *e;
	enum rc rc;

	b.weight_bytes = bytes_of(o, m, &b.head_bytes);
	if (!m->config.vision.depth)
		return err_set(err, RC_FATAL, "bench", "%s has no eyes for pages", b.shape);
	rc = m->compute->calls->measure(m->compute, o->product ? o->product : small ? 2048 : 8192,
					(size_t)(o->copy ? o->copy : small ? 256 : 1024) << 20, &b.peak, err);
	if (rc != RC_OK)
		return rc;
	printf("{\"bench\":\"device\",\"device\":\"%s\",\"threads\":%u,\"copy_gb_per_s\":%.1f,"
	       "\"product_tflops\":%.4g",
	       m->compute->name, b.threads, b.peak.copied / 1e9, b.peak.flop / 1e12);
	if (b.peak.flop_fp8 > 0)
		printf(",\"product_fp8_tflops\":%.4g", b.peak.flop_fp8 / 1e12);
	puts("}");
	rc = engine_open(&e, m, &options, err);
	if (rc != RC_OK)
		return rc;
	for (unsigned i = 0; i < o->batch_count; i++) {
		b.batch = o->batches[i];
		bench_pages(&b, m, e);
		b.first += o->pages + 1;
	}
	engine_close(e);
	return RC_OK;
}

static void print_accuracy(const struct model *m, enum number number, const struct gate_figures *f,
			   struct pool *pool)
{
	begin_line("accuracy", m, number, pool);
	printf("\"tokens\":%zu,\"divergence_nat\":%.6g,\"same_token\":%.6g}\n", f->tokens, f->divergence,
	       f->agreement);
}

static enum rc open_model(const struct options *o, struct model *m, compute_opener *open,
			  const struct compute_options *options, struct pool *pool, struct err *err)
{
	struct gate_figures f;
	enum rc rc;

	if (o->model) {
		rc = gate_open(m, o->model, open, options, pool, &f, err);
		if (rc == RC_OK && f.tokens)
			print_accuracy(m, number_of(o, m), &f, pool);
		return rc;
	}
	*m = (struct model){0};
	rc = o->config ? model_config_load_file(&m->config, o->config, err)
		       : shape_config(&m->config, o->shape, err);
	/* A GPU makes room for the largest page that the model's settings allow, and there are none. */
	m->config.image.min_pixels = m->config.image.max_pixels = (uint64_t)o->page * o->page;
	return rc == RC_OK ? model_open_config(m, open, options, pool, err) : rc;
}

int bench_main(int argc, char **argv, compute_opener *open)
{
	struct options o;
	struct model model;
	struct pool *pool;
	struct err err;
	enum rc rc;

	parse(&o, argc, argv);
	if (o.show) {
		if (!shape_json(o.shape))
			die(EX_USAGE_ERROR, "no shape is called %s", o.shape);
		puts(shape_json(o.shape));
		return EX_ALL_DONE;
	}
	if (pool_open(&pool, o.threads, &err) != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	if (o.kernels) {
		rc = kernels_bench(pool, o.rounds, stdout, &err);
	} else {
		struct compute_options options = {.weights = o.weights,
						  .sequences = largest_batch(&o),
						  .keys = o.keys,
						  .drafts = o.drafts,
						  .cache_size = o.cache_size,
						  .any_order = o.any_order};

		rc = open_model(&o, &model, open, &options, pool, &err);
		if (rc == RC_OK && o.pages) {
			rc = bench_whole(&o, &model, pool, &err);
			model_close(&model);
		} else if (rc == RC_OK) {
			if (model.config.vision.depth)
				bench_page(&o, &model, pool);
			bench_model(&o, &model, pool);
			model_close(&model);
		}
	}
	pool_close(pool);
	if (rc != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	return fflush(stdout) ? EX_BUG : EX_ALL_DONE;
}
