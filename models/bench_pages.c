/* SPDX-License-Identifier: MIT
 *
 * bench_pages: pages of random pixels are seen, read and written as cloister-model does it: between two steps
 * the tower looks at those for which there is a place, as many as it takes in one pass. Other than there it is
 * waited for, so that its time can be told from that of the steps.
 *
 * Time is that of vision (patches are there), of prefill (steps in which a prompt was read, with what was
 * written beside it) and of decode (steps without). Held against it is the least it can take by the
 * roofline: operations at the speed of the large product, bytes at that of the copy, both measured in the
 * same run, whichever is longer for matrices, and keys and values on top. What activations, norms and the
 * host take is not counted: a share of 1 is out of reach.
 */
#include "bench_pages.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct page {
	struct engine_page page;
	struct features features;
	bool used;
};

struct phase {
	double seconds, ideal;
};

struct bench {
	const struct bench_pages *o;
	struct model *m;
	struct engine *e;
	unsigned side; /* patches */
	void *patches; /* all pages have the same */
	struct page *places; /* o->batch of them */
	struct phase see, read, write;
	double body, head;
	uint64_t prompt_tokens, written, drafted, accepted;
	size_t most_blocks;
	double batch_sum;
	size_t steps, passes;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the roofline ---- */

double bench_parameters(const struct text_config *c, double *head)
{
	double q = (double)c->heads * c->head_dim, kv = (double)c->kv_heads * c->head_dim,
	       h = c->hidden;

	double sum = c->layers * (h * (q + 2 * kv) + q * h);

	*head = h * c->vocab;
	for (unsigned i = 0; i < c->layers; i++)
		sum += c->routed[i] ? h * (c->experts + 3.0 * c->experts_used * c->expert_intermediate)
				    : 3 * h * c->intermediate;
	return sum;
}

/* Numbers that a step of so many rows reads: of the experts, those that some row is likely to be sent to. */
static double numbers_met(const struct text_config *c, double body, double rows)
{
	double unused = 1 - pow(1 - (double)c->experts_used / fmax(c->experts, 1), rows);

	for (unsigned i = 0; c->experts && i < c->layers; i++)
		if (c->routed[i])
			body += 3.0 * c->hidden * c->expert_intermediate *
				(unused * c->experts - c->experts_used);
	return body;
}

static double key_bytes(const struct model *m)
{
	return (double)m->compute->block_size / KV_PAGE;
}

/* Seconds for the matrices of a step, `heads` rows of which want logits. */
static double matrices(const struct bench *b, double rows, double heads)
{
	const struct compute_peak *peak = &b->o->peak;
	double bytes = numbers_met(&b->m->config.text, b->body, rows) * b->o->weight_bytes +
		       (heads > 0 ? b->head * b->o->head_bytes : 0),
	       flop = peak->flop_fp8 > 0 && !b->m->config.text.experts ? peak->flop_fp8 : peak->flop;

	return fmax(2 * b->body * rows / flop + 2 * b->head * heads / peak->flop, bytes / peak->copied);
}

/* Attention of `n` tokens of a prompt to each other and to those before. */
static double attention(const struct text_config *c, double n)
{
	return 2.0 * c->layers * c->heads * c->head_dim * n * n;
}

static double vision_flop(const struct vision_config *v, double patches)
{
	double h = v->hidden, in = 3.0 * v->temporal * v->patch * v->patch, wide = h * v->merge * v->merge,
	       mlp = (v->window ? 3 : 2) * h * v->intermediate, sum = in * h, window = patches;

	for (unsigned i = 0; i < v->depth; i++) {
		if (v->window && !v->full[i])
			window = (double)(v->window / v->patch) * (v->window / v->patch);
		else
			window = patches;
		sum += 4 * h * h + mlp + 2 * fmin(window, patches) * h;
	}
	return 2 * patches * (sum + (1 + v->deepstacks) * (wide * wide + wide * v->out) /
					    (v->merge * v->merge));
}

/* ---- the work ---- */

static size_t tokens_of(const struct bench *b)
{
	unsigned side = b->side / b->m->config.vision.merge;

	return (size_t)side * side;
}

/* No two prompts alike: they would share their keys. */
static void add_request(struct bench *b, struct page *p, unsigned number)
{
	const struct vision_config *v = &b->m->config.vision;
	size_t before = b->o->prompt / 2 + 1, tokens = tokens_of(b), n = before + tokens + b->o->prompt / 2;
	unsigned *ids = xcalloc(n, sizeof(*ids));
	struct engine_request r = {.id = number,
				   .prompt = ids,
				   .prompt_count = n,
				   .pages = &p->page,
				   .page_count = 1,
				   .most = b->o->tokens,
				   .endless = true,
				   .sampling = {.top_p = 1, .repetition_penalty = 1}};
	struct err err;

	for (size_t i = 0; i < n; i++)
		ids[i] = (unsigned)((number * 7919u + i * 104729u) % (b->m->config.text.vocab / 2));
	p->page = (struct engine_page){.place = {before, b->side / v->merge, b->side / v->merge},
				       .features = &p->features};
	memcpy(p->page.digest, &number, sizeof(number));
	if (engine_add(b->e, &r, &err) != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	free(ids);
}

/* A pass of the tower, for `count` pages at most, the first of them `number`: for how many it was. */
static unsigned take_in(struct bench *b, unsigned number, unsigned count)
{
	struct compute *c = b->m->compute;
	struct page **pages = xcalloc(count, sizeof(struct page *)), *p = b->places;
	struct view *views = xcalloc(count, sizeof(*views));
	double start = now();
	struct err err;
	size_t n;

	for (unsigned i = 0; i < count; i++, p++) {
		while (p->used)
			p++;
		pages[i] = p;
		views[i] = (struct view){b->patches, b->side, b->side, &p->features};
	}
	n = c->calls->look(c, views, count, &err);
	if (!n)
		die(EX_CONFIGURATION, "%s", err.text);
	for (size_t i = 0; i < n; i++)
		c->calls->seen(c, &pages[i]->features, true);
	b->see.seconds += now() - start;
	b->see.ideal += (double)n * vision_flop(&b->m->config.vision, (double)b->side * b->side) /
			b->o->peak.flop;
	b->passes++;
	for (size_t i = 0; i < n; i++) {
		pages[i]->used = true;
		add_request(b, pages[i], number + (unsigned)i);
	}
	free(pages);
	free(views);
	return (unsigned)n;
}

static void step(struct bench *b)
{
	struct engine_load before = engine_load(b->e), after;
	double start = now(), seconds, read, written, used, keys;

	engine_step(b->e);
	seconds = now() - start;
	after = engine_load(b->e);
	read = (double)(after.prompt_tokens - before.prompt_tokens);
	written = (double)(after.generated_tokens - before.generated_tokens);
	used = (double)(after.blocks - after.free_blocks);
	/* The last block of each is half full, on the whole. */
	keys = fmax(used - after.running / 2.0, 0) * KV_PAGE * key_bytes(b->m) / b->o->peak.copied;
	if (after.blocks - after.free_blocks > b->most_blocks)
		b->most_blocks = after.blocks - after.free_blocks;
	if (read > 0) {
		double whole = (double)(tokens_of(b) + b->o->prompt);

		b->read.seconds += seconds;
		b->read.ideal += matrices(b, read + written, written + 1) + (written > 0 ? keys : 0) +
				 attention(&b->m->config.text, whole) * read / whole / b->o->peak.flop;
	} else {
		b->write.seconds += seconds;
		b->write.ideal += written > 0 ? matrices(b, written, written) + keys : 0;
		b->batch_sum += written;
		b->steps++;
	}
	b->prompt_tokens += (uint64_t)read;
	b->written += (uint64_t)written;
	b->drafted += after.drafted - before.drafted;
	b->accepted += after.accepted - before.accepted;
}

static void let_go(struct bench *b)
{
	struct engine_result r;

	while (engine_take(b->e, &r)) {
		struct page *p = b->places;

		while (!p->used || memcmp(p->page.digest, &(unsigned){(unsigned)r.id}, sizeof(unsigned)))
			p++;
		b->m->compute->calls->forget(b->m->compute, &p->features);
		p->used = false;
		free(r.tokens);
		free(r.log_probabilities);
	}
}

static void run(struct bench *b, unsigned first, unsigned pages)
{
	unsigned given = 0;

	for (;;) {
		struct engine_load load = engine_load(b->e);
		unsigned busy = load.running + load.waiting;

		if (given < pages && busy < b->o->batch)
			given += take_in(b, first + given,
					 (unsigned)min_u64(b->o->batch - busy, pages - given));
		else if (given == pages && !busy)
			return;
		step(b);
		let_go(b);
	}
}

static double share(const struct phase *p)
{
	return p->seconds > 0 ? p->ideal / p->seconds : 0;
}

void bench_pages(const struct bench_pages *o, struct model *m, struct engine *e)
{
	const struct vision_config *v = &m->config.vision;
	struct bench b = {.o = o, .m = m, .e = e}, all;
	struct phase sum;
	double seconds;
	float *pixels;
	size_t n;

	b.side = (unsigned)max_u64(o->side / v->patch / v->merge, 1) * v->merge;
	b.body = bench_parameters(&m->config.text, &b.head);
	b.places = xcalloc(o->batch, sizeof(*b.places));
	n = (size_t)b.side * b.side * 3 * v->temporal * v->patch * v->patch;
	pixels = xmalloc(n * sizeof(*pixels));
	for (size_t i = 0; i < n; i++)
		pixels[i] = (float)(i * 2654435761u % 512) / 256 - 1;
	b.patches = m->compute->calls->pack(m->compute, pixels, b.side, b.side);
	all = b;
	run(&b, o->first + o->pages, 1); /* kernels are picked, memory is touched */
	b = all;
	seconds = now();
	run(&b, o->first, o->pages);
	seconds = now() - seconds;
	sum = (struct phase){seconds, b.see.ideal + b.read.ideal + b.write.ideal};
	printf("{\"bench\":\"pages\",\"shape\":\"%s\",\"architecture\":\"%s\",\"weights\":\"%s\",\"device\":\"%s\","
	       "\"threads\":%u,\"batch\":%u,\"pages\":%u,\"patches\":%u,\"prompt_tokens\":%llu,"
	       "\"output_tokens\":%llu,\"seconds\":%.4g,\"pages_per_s\":%.4g,\"tokens_per_s\":%.4g,",
	       o->shape, m->config.architecture, o->weights, m->compute->name, o->threads, o->batch, o->pages,
	       b.side * b.side, (unsigned long long)b.prompt_tokens, (unsigned long long)b.written, seconds,
	       o->pages / seconds, (double)b.written / seconds);
	printf("\"vision_s\":%.4g,\"vision_share\":%.4g,\"vision_batch\":%.1f,\"prefill_s\":%.4g,"
	       "\"prefill_share\":%.4g,\"decode_s\":%.4g,\"decode_share\":%.4g,\"decode_batch\":%.1f,\"share\":%.4g,"
	       "\"roofline_pages_per_s\":%.4g,\"cache_used\":%.4g,\"drafted\":%llu,\"accepted\":%llu}\n",
	       b.see.seconds, share(&b.see), o->pages / (double)b.passes, b.read.seconds, share(&b.read),
	       b.write.seconds, share(&b.write), b.steps ? b.batch_sum / (double)b.steps : 0, share(&sum),
	       sum.ideal > 0 ? o->pages / sum.ideal : 0,
	       (double)b.most_blocks / (double)engine_load(e).blocks, (unsigned long long)b.drafted,
	       (unsigned long long)b.accepted);
	fflush(stdout);
	free(b.places);
	free(b.patches);
}
