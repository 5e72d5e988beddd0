/* SPDX-License-Identifier: MIT
 *
 * The CPU as a device: text.c and vision.c, one mapping for the blocks, a sampler for each thread.
 */
#include "compute.h"

#include "base/num.h"
#include "kernels/bench.h"
#include "kernels/cpu.h"
#include "kernels/pool.h"
#include "text.h"
#include "vision.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Weights packed for the kernels, vectors as they are. What is int4 in the file stays so, but for fp32. */
struct cpu_packer {
	struct packer packer;
	enum number number;
	struct pool *pool;
};

#define CACHE_SIZE ((size_t)4 << 30) /* unless somebody says another */

/* Rows of a product beyond which it is its operations that take time, not its weights: SPEED.md. */
enum { ROWS_FEW = 16 };

struct cpu {
	struct compute compute;
	struct cpu_packer text_packer, vision_packer, fine_packer;
	struct text *text;
	struct vision *vision; /* NULL: text alone */
	struct vision_config sight;
	size_t vocab;
	struct pool *pool;
	struct sampler **samplers; /* one a thread */
	char *blocks;
	size_t size;
	char name[32];
};

static enum rc pack_linear(const struct packer *base, struct linear *out, const struct matrix *parts,
			   const float *const *biases, size_t count, struct err *err)
{
	const struct cpu_packer *p = (const struct cpu_packer *)base;
	bool int4 = p->number != NUMBER_F32 && matrices_are_int4(parts, count);

	return linear_pack(out, parts, biases, count, int4 ? NUMBER_INT4 : p->number, p->pool, err);
}

static void free_linear(const struct packer *p, struct linear *l)
{
	(void)p;
	linear_release(l);
}

static enum rc keep_vector(const struct packer *p, float *values, size_t n, vector **out,
			   struct err *err)
{
	(void)p, (void)n, (void)err;
	*out = values;
	return RC_OK;
}

static void free_vector(const struct packer *p, vector *v)
{
	(void)p;
	free(v);
}

static struct cpu_packer packer_for(enum number number, struct pool *pool)
{
	return (struct cpu_packer){{.linear = pack_linear,
				    .free_linear = free_linear,
				    .vector = keep_vector,
				    .free_vector = free_vector},
				   number,
				   pool};
}

static struct cpu *cpu_of(struct compute *c)
{
	return (struct cpu *)c;
}

static void release_blocks(struct cpu *c)
{
	if (c->blocks)
		munmap(c->blocks, c->size);
	c->blocks = NULL;
}

static enum rc reserve(struct compute *base, uint32_t count, struct err *err)
{
	struct cpu *c = cpu_of(base);
	size_t size;

	release_blocks(c);
	if (!count)
		return RC_OK;
	if (!checked_mul(base->block_size, count, &size))
		return err_set(err, RC_FATAL, "memory", "a cache of %u blocks of %zu bytes", count,
			       base->block_size);
	c->blocks = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->blocks == MAP_FAILED) {
		c->blocks = NULL;
		return err_errno(err, RC_FATAL, "memory", "no %zu bytes for keys and values", size);
	}
	madvise(c->blocks, size, MADV_HUGEPAGE);
	c->size = size;
	return RC_OK;
}

/* As the tower's, they are packed in no less than 16 bits: they are thin. */
static enum rc adapt(struct compute *base, struct adapter *adapter, struct err *err)
{
	struct cpu *c = cpu_of(base);

	return text_adapt(c->text, adapter, &c->vision_packer.packer, err);
}

static void clear(struct compute *base, uint32_t block)
{
	memset(cpu_of(base)->blocks + block * base->block_size, 0, base->block_size);
}

struct draws {
	struct cpu *cpu;
	const struct text_row *rows;
	float *logits;
	size_t row[TEXT_ROWS_MAX]; /* that the logits are of */
};

static void choose(void *arg, size_t i, unsigned thread)
{
	struct draws *d = arg;
	const struct text_row *row = &d->rows[d->row[i]];
	float *logits = d->logits + i * d->cpu->vocab;
	struct draw *draw = row->draw;

	if (row->logits)
		memcpy(row->logits, logits, d->cpu->vocab * sizeof(*logits));
	if (draw)
		draw->choice = sampler_choose(d->cpu->samplers[thread], logits, draw->limit, draw->how,
					      draw->seen, draw->seen_count, draw->step);
}

static void begin(struct compute *base, const struct text_row *rows, size_t count)
{
	struct cpu *c = cpu_of(base);
	struct draws d = {.cpu = c, .rows = rows};
	size_t wanted = 0;

	d.logits = text_forward(c->text, c->pool, c->blocks, rows, count);
	for (size_t i = 0; i < count; i++)
		if (rows[i].logits || rows[i].draw)
			d.row[wanted++] = i;
	pool_run(c->pool, choose, &d, wanted);
}

/* All is done when it was begun. */
static void end(struct compute *base)
{
	(void)base;
}

static enum rc see(struct compute *base, const float *patches, unsigned rows, unsigned columns,
		   struct features *out, struct err *err)
{
	struct cpu *c = cpu_of(base);
	const struct vision_config *v = &c->sight;
	size_t size = (size_t)(rows / v->merge) * (columns / v->merge) * v->out;
	enum rc rc;

	*out = (struct features){.embeddings = malloc((1 + v->deepstacks) * size * sizeof(float))};
	if (!out->embeddings)
		return err_set(err, RC_FAILED, "memory", "no memory for a page of %zu tokens",
			       size / v->out);
	for (unsigned d = 0; d < v->deepstacks; d++)
		out->deepstack[d] = out->embeddings + (1 + d) * size;
	rc = vision_run(c->vision, c->pool, patches, rows, columns, out->embeddings, out->deepstack,
			err);
	if (rc != RC_OK)
		base->calls->forget(base, out);
	return rc;
}

/* As they are. */
static void *pack(const struct compute *base, float *patches, unsigned rows, unsigned columns)
{
	(void)base, (void)rows, (void)columns;
	return patches;
}

/* One at a time. */
static size_t look(struct compute *base, const struct view *v, size_t count, struct err *err)
{
	(void)count;
	return see(base, v->patches, v->rows, v->columns, v->features, err) == RC_OK;
}

static bool seen(struct compute *base, struct features *f, bool wait)
{
	(void)base, (void)f, (void)wait;
	return true;
}

static void forget(struct compute *base, struct features *f)
{
	(void)base;
	free(f->embeddings);
	*f = (struct features){0};
}

static void close_cpu(struct compute *base)
{
	struct cpu *c = cpu_of(base);

	for (unsigned i = 0; c->samplers && i < pool_threads(c->pool); i++)
		sampler_free(c->samplers[i]);
	free(c->samplers);
	text_free(c->text);
	vision_free(c->vision);
	release_blocks(c);
	free(c);
}

static enum rc measure(struct compute *base, size_t side, size_t bytes, struct compute_peak *peak,
		       struct err *err)
{
	peak->flop_fp8 = 0;
	return kernels_peak(((struct cpu *)base)->pool, side, bytes, &peak->copied, &peak->flop, err);
}

static const struct compute_calls calls = {
	.reserve = reserve,
	.adapt = adapt,
	.clear = clear,
	.begin = begin,
	.end = end,
	.see = see,
	.pack = pack,
	.look = look,
	.seen = seen,
	.forget = forget,
	.measure = measure,
	.close = close_cpu,
};

enum rc compute_open_cpu(struct compute **out, const struct model_config *config, struct weights *w,
			 const struct compute_options *options, struct pool *pool, struct err *err)
{
	/* The tower is small beside the language model, and pages are lost in it: 8 bits do not pay
	 * there, nor in keys and values. */
	enum number number = options->weights,
		    eyes = number == NUMBER_INT8 ? NUMBER_BF16 : number;
	struct cpu *c;
	enum rc rc;

	if (out)
		*out = NULL;
	if (options->weights == NUMBER_E4M3)
		return err_set(err, RC_FATAL, "model", "weights are fp8 on a GPU alone");
	if (options->keys == COMPUTE_KEYS_FP8)
		return err_set(err, RC_FATAL, "model",
			       "keys and values are kept in fp8 on a GPU alone");
	if (options->any_order)
		return err_set(err, RC_FATAL, "model", "sums are taken in any order on a GPU alone");
	if (!out)
		return RC_OK;
	c = xcalloc(1, sizeof(*c));
	c->text_packer = packer_for(number, pool);
	c->vision_packer = packer_for(eyes, pool);
	c->fine_packer = packer_for(NUMBER_F32, pool);
	c->text_packer.packer.fine = &c->fine_packer.packer;
	rc = text_load(&c->text, &config->text, w, eyes, &c->text_packer.packer, err);
	c->compute.calls = &calls;
	c->pool = pool;
	c->sight = config->vision;
	c->vocab = config->text.vocab;
	if (rc == RC_OK && config->vision.depth)
		rc = vision_load(&c->vision, config, w, eyes, &c->vision_packer.packer, err);
	if (rc != RC_OK) {
		close_cpu(&c->compute);
		return rc;
	}
	c->samplers = xcalloc(pool_threads(pool), sizeof(*c->samplers));
	for (unsigned i = 0; i < pool_threads(pool); i++)
		c->samplers[i] = sampler_new(c->vocab);
	snprintf(c->name, sizeof(c->name), "cpu %s", cpu_level_name(cpu_level()));
	c->compute.name = c->name;
	c->compute.rows_max = TEXT_ROWS_MAX;
	/* Whoever generates has a row in every step, and one is left for a prompt. */
	c->compute.sequences = TEXT_ROWS_MAX - 1;
	c->compute.rows_few = ROWS_FEW;
	c->compute.cache_size = options->cache_size ? options->cache_size : CACHE_SIZE;
	c->compute.block_size = text_block_size(c->text);
	*out = &c->compute;
	return RC_OK;
}
