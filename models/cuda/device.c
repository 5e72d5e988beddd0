/* SPDX-License-Identifier: MIT
 *
 * The GPU as a device: weights go over as bf16, each projection [out][in] with both sides padded by zeros
 * to multiples of 8, which products and 16-byte copies want; with weights: fp8 those of the language model's
 * layers become e4m3 there, a scale a row, padded to multiples of 16. The head, which embeddings are read from,
 * routers, experts and the tower stay as they are.
 *
 * Invariant: what a row gives does not depend on what is beside it, unless any order of sums will do. Products and attention of tokens of a
 * prompt are other kernels than those of tokens that the model has written, so which of the two a row is
 * must not depend on how a prompt was cut up: text_row says it, and written tokens that have lost their
 * keys are computed again one a step (compute->singly).
 *
 * Memory is counted before anything is loaded: the families' loaders run twice, first with a packer that
 * only says how much each projection would take.
 */
#include "cuda/device.h"

#include "base/num.h"
#include "vision.h"

#include <stdlib.h>
#include <string.h>

static struct cuda *cuda_of(struct compute *c)
{
	return (struct cuda *)c;
}

void cuda_need(struct cuda *c, struct cuda_buffer *b, enum memory_part part, size_t count, size_t size)
{
	if (c->buffer_count == CUDA_BUFFERS_MAX)
		BUG("more than %d buffers", CUDA_BUFFERS_MAX);
	memory_add(&c->plan, part, count, size);
	b->size = count * size;
	c->buffers[c->buffer_count++] = b;
}

void cuda_announced(const struct cuda_buffer *b, size_t size)
{
	if (size > b->size)
		BUG("a buffer of %zu bytes was announced, %zu are used", b->size, size);
}

static enum rc take_buffers(struct cuda *c, struct err *err)
{
	for (size_t i = 0; i < c->buffer_count; i++) {
		struct cuda_buffer *b = c->buffers[i];

		b->data = gpu_alloc(c->gpu, b->size);
		if (!b->data)
			return err_set(err, RC_FATAL, "memory",
				       "somebody else took the GPU's memory: %zu MiB more are needed, "
				       "%zu are free",
				       b->size >> 20, gpu_room(c->gpu) >> 20);
	}
	return RC_OK;
}

enum rc cuda_pin(struct cuda *c, const struct cuda_pinned *pieces, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		void *p = gpu_pin(c->gpu, pieces[i].size);

		if (!p)
			return err_set(err, RC_FATAL, "memory", "no memory of the host for the GPU to reach");
		if (c->pinned_count == CUDA_PINNED_MAX)
			BUG("more than %d pieces of pinned memory", CUDA_PINNED_MAX);
		c->pinned[c->pinned_count++] = *pieces[i].at = p;
	}
	return RC_OK;
}

void cuda_multiply(struct gpu *gpu, enum gpu_rows kind, const struct linear *l, const uint16_t *x,
		   size_t n, void *y, bool wide)
{
	if (n)
		gpu_product(gpu, kind, l->weight, l->out, l->in, x, n, y, wide);
}

/* ---- weights ---- */

static void to_bf16(const float *from, uint16_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = bf16_from_f32(from[i]);
}

/* Some at a time. */
void cuda_write_part(struct gpu *gpu, uint16_t *to, const struct matrix *m, size_t rows, size_t width)
{
	size_t chunk = max_u64((4u << 20) / m->columns, 1);
	float *values = xmalloc(chunk * m->columns * sizeof(*values));
	uint16_t *numbers = xcalloc(chunk * width, sizeof(*numbers));

	for (size_t first = 0, n, there; first < rows; first += n) {
		n = min_u64(chunk, rows - first);
		there = min_u64(n, m->rows - min_u64(first, m->rows));
		matrix_to_f32(m, first, there, values);
		for (size_t i = 0; i < there; i++)
			to_bf16(values + i * m->columns, numbers + i * width, m->columns);
		memset(numbers + there * width, 0, (n - there) * width * sizeof(*numbers));
		gpu_write(gpu, to + first * width, numbers, n * width * sizeof(*numbers));
	}
	free(values);
	free(numbers);
}

enum rc cuda_full(const struct gpu *gpu, size_t size, struct err *err)
{
	return err_set(err, RC_FATAL, "memory",
		       "the weights do not fit into the GPU's memory: %zu MiB more are needed, %zu are free",
		       size >> 20, gpu_room(gpu) >> 20);
}

/* As cuda_write_part(), in e4m3 with a scale a row. Numbers go over as bf16, some at a time. */
static enum rc write_part_fp8(struct gpu *gpu, uint8_t *to, float *scale, const struct matrix *m, size_t rows,
			      size_t width, struct err *err)
{
	size_t chunk = min_u64(max_u64((4u << 20) / width / 8 * 8, 8), rows);
	uint16_t *numbers = gpu_alloc(gpu, chunk * width * sizeof(*numbers));

	if (!numbers)
		return cuda_full(gpu, chunk * width * sizeof(*numbers), err);
	for (size_t first = 0, n; first < rows; first += n) {
		size_t start = min_u64(first, m->rows);
		struct matrix part = matrix_rows(m, start, min_u64(chunk, m->rows - start));

		n = min_u64(chunk, rows - first);
		cuda_write_part(gpu, numbers, &part, n, width);
		gpu_check(gpu,
			  cuda_quantise(gpu_stream(gpu), numbers, to + first * width, scale + first, n, width),
			  "weights in fp8");
	}
	gpu_free(gpu, numbers);
	return RC_OK;
}

/* Sides are padded so. */
static size_t padded(enum number number, size_t n)
{
	return number == NUMBER_E4M3 ? cuda_round_fp8(n) : cuda_round(n);
}

/* Rows that pad parts are zeros, which products turn into zeros. */
static enum rc write_linear(struct gpu *gpu, struct linear *l, const struct matrix *parts,
			    const float *const *biases, size_t count, struct err *err)
{
	uint16_t *weight = l->weight, *bias = xcalloc(l->out, sizeof(*bias));
	enum rc rc = RC_OK;

	for (size_t i = 0, row = 0, n; rc == RC_OK && i < count; row += n, i++) {
		n = padded(l->number, parts[i].rows);
		if (l->number == NUMBER_E4M3)
			rc = write_part_fp8(gpu, (uint8_t *)l->weight + row * l->in, l->scale + row, &parts[i],
					    n, l->in, err);
		else
			cuda_write_part(gpu, weight + row * l->in, &parts[i], n, l->in);
		if (biases && biases[i])
			to_bf16(biases[i], bias + row, parts[i].rows);
	}
	if (biases)
		gpu_write(gpu, l->bias, bias, l->out * sizeof(*bias));
	free(bias);
	return rc;
}

static enum rc pack_linear(const struct packer *base, struct linear *l, const struct matrix *parts,
			   const float *const *biases, size_t count, struct err *err)
{
	const struct cuda_packer *p = (const struct cuda_packer *)base;
	struct gpu *gpu = p->gpu;
	bool fp8 = p->number == NUMBER_E4M3;

	*l = (struct linear){.in = padded(p->number, parts->columns), .number = p->number};
	for (size_t i = 0; i < count; i++)
		l->out += padded(p->number, parts[i].rows);
	l->weight_size = l->out * l->in * number_size(p->number);
	if (p->plan) {
		memory_add(p->plan, p->part, l->weight_size, 1);
		if (biases)
			memory_add(p->plan, p->part, l->out, sizeof(uint16_t));
		if (fp8)
			memory_add(p->plan, p->part, l->out, sizeof(*l->scale));
		return RC_OK;
	}
	l->weight = gpu_alloc(gpu, l->weight_size);
	l->bias = l->weight && biases ? gpu_alloc(gpu, l->out * sizeof(uint16_t)) : NULL;
	l->scale = l->weight && fp8 ? gpu_alloc(gpu, l->out * sizeof(*l->scale)) : NULL;
	if (!l->weight || (biases && !l->bias) || (fp8 && !l->scale))
		return cuda_full(gpu, l->weight_size, err);
	return write_linear(gpu, l, parts, biases, count, err);
}

static void free_linear(const struct packer *base, struct linear *l)
{
	struct gpu *gpu = ((const struct cuda_packer *)base)->gpu;

	gpu_free(gpu, l->weight);
	gpu_free(gpu, l->bias);
	gpu_free(gpu, l->scale);
	*l = (struct linear){0};
}

/* How an expert lies in a stack; group 0: bf16. */
static struct cuda_experts lay(size_t in, size_t out, size_t group)
{
	struct cuda_experts e = {.stride = out * in * sizeof(uint16_t),
				 .in = (unsigned)in,
				 .out = (unsigned)out,
				 .group = (unsigned)group};

	if (group) {
		size_t groups = in / group;

		e.zeros = in * out / 2;
		e.scales = e.zeros + (groups * out / 2 + 15) / 16 * 16;
		e.stride = e.scales + (groups * out * sizeof(float) + 15) / 16 * 16;
	}
	return e;
}

static struct cuda_experts lay_experts(const struct matrix *parts, size_t each, size_t count)
{
	bool int4 = parts->columns % 32 == 0 && matrices_are_int4(parts, each * count);
	size_t out = 0;

	for (size_t i = 0; i < each; i++)
		out += cuda_round(parts[i].rows);
	return lay(cuda_round(parts->columns), out, int4 ? parts->group : 0);
}

/* One expert of a stack in int4, its parts beside each other. */
static void write_int4(struct gpu *gpu, char *to, const struct cuda_experts *e, const struct matrix *parts,
		       size_t each)
{
	char *all = xcalloc(e->stride, 1);
	size_t words = e->out / 8, first = 0, groups = e->in / e->group;

	for (size_t i = 0; i < each; first += parts[i++].rows) {
		const struct matrix *m = &parts[i];
		size_t size = m->rows / 2, across = m->across / 2;

		for (size_t k = 0; k < e->in; k++)
			memcpy(all + (k * words + first / 8) * 4, (const char *)m->data + k * across, size);
		for (size_t g = 0; g < groups; g++) {
			struct matrix scales = {.data = (const char *)m->scales +
							g * m->across * number_size(m->scale),
						.number = m->scale,
						.rows = 1,
						.columns = m->rows};

			memcpy(all + e->zeros + (g * words + first / 8) * 4,
			       (const char *)m->zeros + g * across, size);
			matrix_to_f32(&scales, 0, 1,
				      (float *)(void *)(all + e->scales) + g * e->out + first);
		}
	}
	gpu_write(gpu, to, all, e->stride);
	free(all);
}

static enum rc pack_stack(const struct packer *base, struct linear *l, const struct matrix *parts,
			  size_t each, size_t count, struct err *err)
{
	const struct cuda_packer *p = (const struct cuda_packer *)base;
	struct cuda_experts e = lay_experts(parts, each, count);
	char *all = NULL;

	if (p->plan)
		memory_add(p->plan, p->part, count, e.stride);
	else if (!(all = gpu_alloc(p->gpu, count * e.stride)))
		return cuda_full(p->gpu, count * e.stride, err);
	for (size_t i = 0; i < count; i++, parts += each) {
		size_t row = 0;

		l[i] = (struct linear){.in = e.in,
				       .out = e.out,
				       .number = e.group ? NUMBER_INT4 : NUMBER_BF16,
				       .weight = all ? all + i * e.stride : NULL,
				       .weight_size = e.stride,
				       .group = e.group};
		for (size_t k = 0; all && !e.group && k < each; row += cuda_round(parts[k++].rows))
			cuda_write_part(p->gpu, (uint16_t *)l[i].weight + row * e.in, &parts[k],
					cuda_round(parts[k].rows), e.in);
		if (all && e.group)
			write_int4(p->gpu, l[i].weight, &e, parts, each);
	}
	return RC_OK;
}

static void free_stack(const struct packer *base, struct linear *l, size_t count)
{
	gpu_free(((const struct cuda_packer *)base)->gpu, l->weight);
	memset(l, 0, count * sizeof(*l));
}

struct cuda_experts cuda_experts_of(const struct linear *l)
{
	struct cuda_experts e = lay(l->in, l->out, l->group);

	e.weights = l->weight;
	return e;
}

static enum rc pack_vector(const struct packer *base, float *values, size_t n, vector **out,
			   struct err *err)
{
	const struct cuda_packer *p = (const struct cuda_packer *)base;
	struct gpu *gpu = p->gpu;
	uint16_t *numbers;

	if (p->plan) {
		memory_add(p->plan, p->part, cuda_round(n), sizeof(*numbers));
		free(values);
		*out = NULL;
		return RC_OK;
	}
	numbers = xmalloc(n * sizeof(*numbers));
	to_bf16(values, numbers, n);
	free(values);
	*out = gpu_alloc(gpu, cuda_round(n) * sizeof(*numbers));
	if (*out)
		gpu_write(gpu, *out, numbers, n * sizeof(*numbers));
	free(numbers);
	return *out ? RC_OK : cuda_full(gpu, n * sizeof(*numbers), err);
}

static void free_vector(const struct packer *base, vector *v)
{
	gpu_free(((const struct cuda_packer *)base)->gpu, v);
}

/* rest: for what stays bf16. */
static struct cuda_packer packer_for(struct gpu *gpu, struct memory_plan *plan, enum number number,
				     const struct packer *rest)
{
	return (struct cuda_packer){{.linear = pack_linear,
				     .free_linear = free_linear,
				     .vector = pack_vector,
				     .free_vector = free_vector,
				     .fine = rest,
				     .head = rest,
				     .stack = pack_stack,
				     .free_stack = free_stack},
				    gpu,
				    plan,
				    MEMORY_WEIGHTS,
				    number};
}

/* ---- the device ---- */

static enum rc reserve(struct compute *base, uint32_t count, struct err *err)
{
	struct cuda *c = cuda_of(base);
	size_t size;

	gpu_free(c->gpu, c->kv.pages);
	c->kv.pages = NULL;
	replays_forget(c->replays);
	if (!count)
		return RC_OK;
	if (!checked_mul(base->block_size, count, &size) || size > base->cache_size)
		return err_set(err, RC_FATAL, "memory",
			       "a cache of %u blocks of %zu bytes: there is room for %zu MiB", count,
			       base->block_size, base->cache_size >> 20);
	/* One more, for rows that only fill up a recorded step. */
	size += base->block_size;
	c->kv.pages = gpu_alloc(c->gpu, size);
	c->spare_block = count;
	if (!c->kv.pages)
		return err_set(err, RC_FATAL, "memory",
			       "somebody else took the GPU's memory: a cache of %zu MiB is needed, %zu are "
			       "free",
			       size >> 20, gpu_room(c->gpu) >> 20);
	return cuda_adapters_reserve(c, err);
}

/* What lies beyond a sequence's tokens is never looked at. */
static void clear(struct compute *base, uint32_t block)
{
	(void)base, (void)block;
}

static enum rc adapt(struct compute *base, struct adapter *adapter, struct err *err)
{
	return cuda_adapters_add(cuda_of(base), adapter, err);
}

static void begin(struct compute *base, const struct text_row *rows, size_t count)
{
	language_begin(cuda_of(base), rows, count);
}

static void end(struct compute *base)
{
	language_end(cuda_of(base));
}

static void *pack(const struct compute *base, float *patches, unsigned rows, unsigned columns)
{
	return tower_pack((const struct cuda *)base, patches, rows, columns);
}

static size_t look(struct compute *base, const struct view *views, size_t count, struct err *err)
{
	return tower_look(cuda_of(base), views, count, err);
}

static bool seen(struct compute *base, struct features *f, bool wait)
{
	return tower_seen(cuda_of(base), f, wait);
}

static enum rc see(struct compute *base, const float *patches, unsigned rows, unsigned columns,
		   struct features *out, struct err *err)
{
	const struct vision_config *v = &cuda_of(base)->config.vision;
	size_t size = (size_t)rows * columns * 3 * v->temporal * v->patch * v->patch * sizeof(float);
	void *packed = pack(base, memcpy(xmalloc(size), patches, size), rows, columns);
	size_t looked = look(base, &(struct view){packed, rows, columns, out}, 1, err);

	free(packed);
	if (looked)
		seen(base, out, true);
	return looked ? RC_OK : RC_FAILED;
}

static void forget(struct compute *base, struct features *f)
{
	seen(base, f, true);
	free(f->embeddings);
	*f = (struct features){0};
}

static void close_cuda(struct compute *base)
{
	struct cuda *c = cuda_of(base);

	if (c->eye)
		gpu_wait(c->eye);
	for (size_t i = 0; i < c->buffer_count; i++)
		gpu_free(c->gpu, c->buffers[i]->data);
	while (c->pinned_count)
		gpu_unpin(c->gpu, c->pinned[--c->pinned_count]);
	replays_free(c->replays);
	tower_close(c);
	language_close(c);
	cuda_adapters_close(c);
	text_weights_free(&c->text, &c->layers.packer);
	vision_free(c->vision);
	gpu_free(c->gpu, c->kv.pages);
	if (c->eye)
		gpu_close(c->eye);
	gpu_close(c->gpu);
	free(c);
}

static enum rc measure(struct compute *base, size_t side, size_t bytes, struct compute_peak *peak,
		       struct err *err)
{
	return cuda_measure(cuda_of(base), side, bytes, peak, err);
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
	.close = close_cuda,
};

/* Of fp8, also where the model is opened in bf16 to be held against: nothing has been loaded yet. */
static enum rc has_products(const struct cuda *c, struct err *err)
{
	const struct text_layer *l = c->text.layer;
	const struct linear *products[] = {&l->qkv, &l->o, &l->gate_up, &l->down};
	enum rc rc = RC_OK;

	for (size_t i = 0; i < ARRAY_SIZE(products) && rc == RC_OK; i++)
		if (products[i]->out)
			rc = gpu_has_fp8(c->gpu, cuda_round_fp8(products[i]->out),
					 cuda_round_fp8(products[i]->in), err);
	return rc;
}

/* Shapes of all weights; what they and everything else will take; and what is left for keys and values. */
static enum rc plan(struct cuda *c, struct weights *w, const struct compute_options *o, struct err *err)
{
	const struct text_config *t = &c->config.text;
	struct cuda_packer counter = packer_for(c->gpu, &c->plan, NUMBER_BF16, NULL),
			   layers = packer_for(c->gpu, &c->plan, c->layers.number, &counter.packer);
	uint32_t blocks = 0;
	enum rc rc;

	c->cache = (struct memory_cache){
		.block = c->compute.block_size, .asked = o->cache_size, .spare = 1};
	rc = text_weights_load(&c->text, t, w, &layers.packer, err);
	if (rc != RC_OK)
		return rc;
	if (o->weights == NUMBER_E4M3)
		rc = has_products(c, err);
	c->room = gpu_room(c->gpu);
	counter.part = MEMORY_TOWER;
	if (rc == RC_OK && c->config.vision.depth)
		rc = vision_load(&c->vision, &c->config, w, NUMBER_BF16, &counter.packer, err);
	if (rc == RC_OK) {
		language_plan(c);
		if (c->vision)
			tower_plan(c);
		/* A step's rows and as many again, to be of any use; no more than all sequences can fill. */
		c->cache.least = (uint32_t)(min_u64(t->max_positions, 2 * CUDA_ROWS) / KV_PAGE + 1);
		c->cache.most = (uint32_t)min_u64((t->max_positions / KV_PAGE + 1) *
						       (uint64_t)c->compute.sequences,
					       UINT32_MAX / 2);
		rc = memory_settle(&c->plan, &c->cache, c->room, &blocks, err);
	}
	c->compute.cache_size = blocks * c->compute.block_size;
	text_weights_free(&c->text, &layers.packer);
	vision_free(c->vision);
	c->vision = NULL;
	return rc;
}

static enum rc load(struct cuda *c, struct weights *w, struct err *err)
{
	enum rc rc = text_weights_load(&c->text, &c->config.text, w, &c->layers.packer, err);

	if (rc == RC_OK && c->config.vision.depth)
		rc = vision_load(&c->vision, &c->config, w, NUMBER_BF16, &c->packer.packer, err);
	if (rc == RC_OK)
		rc = take_buffers(c, err);
	if (rc != RC_OK)
		return rc;
	rc = language_open(c, err);
	if (rc == RC_OK && c->vision)
		rc = tower_open(c, err);
	gpu_wait(c->gpu); /* the tower's stream does not */
	return rc;
}

/* Where the tower has deepstack, tokens are normed when they lie side by side. */
static enum rc check_vision(const struct vision_config *v, struct err *err)
{
	size_t width = (size_t)v->hidden * (v->deepstacks ? v->merge * v->merge : 1);

	if (v->hidden / v->heads > CUDA_DIM_MAX)
		return err_set(err, RC_FATAL, "model-config",
			       "a vision tower with heads of %u numbers is not computed on a GPU",
			       v->hidden / v->heads);
	if (v->hidden % 8 || width > CUDA_WIDTH_MAX)
		return err_set(err, RC_FATAL, "model-config",
			       "a vision tower that norms %zu numbers is not computed on a GPU: multiples "
			       "of 8 up to %d are",
			       width, CUDA_WIDTH_MAX);
	return RC_OK;
}

static enum rc check(const struct model_config *config, const struct compute_options *o, struct err *err)
{
	const struct text_config *t = &config->text;
	const struct vision_config *v = &config->vision;

	if (o->weights != NUMBER_BF16 && o->weights != NUMBER_E4M3)
		return err_set(err, RC_FATAL, "model", "a GPU computes with bf16 or fp8 weights, not %s",
			       number_name(o->weights));
	if (o->weights == NUMBER_E4M3 && t->hidden % 16)
		return err_set(err, RC_FATAL, "model-config",
			       "fp8 weights are computed with in rows of a multiple of 16, not %u: "
			       "weights: bf16",
			       t->hidden);
	if (o->sequences > GPU_FEW_MOST && !o->any_order)
		return err_set(err, RC_FATAL, "model", "a GPU writes %d texts side by side, not %u", GPU_FEW_MOST,
			       o->sequences);
	if (t->head_dim % 16 || t->head_dim > CUDA_DIM_MAX)
		return err_set(err, RC_FATAL, "model-config",
			       "heads of %u numbers are not computed on a GPU", t->head_dim);
	if (t->heads / t->kv_heads > CUDA_PREFILL_ROWS)
		return err_set(err, RC_FATAL, "model-config",
			       "%u heads of queries a head of keys are not computed on a GPU",
			       t->heads / t->kv_heads);
	if (t->hidden % 8 || t->hidden > CUDA_WIDTH_MAX)
		return err_set(err, RC_FATAL, "model-config",
			       "hidden_size %u is not computed on a GPU: multiples of 8 up to %d are",
			       t->hidden, CUDA_WIDTH_MAX);
	return v->depth && !o->plain ? check_vision(v, err) : RC_OK;
}

/* The GPU, and again for the tower. */
static enum rc open_gpus(struct cuda *c, struct err *err)
{
	enum rc rc = gpu_open(&c->gpu, err);

	if (rc != RC_OK)
		return rc;
	if (c->config.vision.depth)
		rc = gpu_open(&c->eye, err);
	if (rc != RC_OK)
		gpu_close(c->gpu);
	return rc;
}

enum rc compute_open_cuda(struct compute **out, const struct model_config *config, struct weights *w,
			  const struct compute_options *options, struct pool *pool, struct err *err)
{
	enum cuda_kv_number number =
		options->keys == COMPUTE_KEYS_FP8 ? CUDA_KV_E4M3 : CUDA_KV_BF16;
	struct cuda *c;
	enum rc rc = check(config, options, err);

	(void)pool;
	if (out)
		*out = NULL;
	if (rc != RC_OK || !out)
		return rc;
	c = xcalloc(1, sizeof(*c));
	c->config = *config;
	if (options->plain)
		c->config.vision = (struct vision_config){0};
	rc = open_gpus(c, err);
	if (rc != RC_OK) {
		free(c);
		return rc;
	}
	c->replays = replays_new(c->gpu);
	c->compute.calls = &calls;
	c->packer = packer_for(c->gpu, NULL, NUMBER_BF16, NULL);
	c->layers = packer_for(c->gpu, NULL, options->plain ? NUMBER_BF16 : options->weights,
			       &c->packer.packer);
	c->page_size = cuda_kv_page_size(config->text.kv_heads, config->text.head_dim, number);
	c->compute.name = gpu_name(c->gpu);
	c->compute.rows_max = CUDA_ROWS;
	c->compute.sequences = options->sequences ? options->sequences : CUDA_SEQUENCES;
	c->compute.rows_few = options->drafts ? (unsigned)min_u64((uint64_t)c->compute.sequences * (1 + options->drafts),
								  CUDA_ROWS_FEW)
					      : 0;
	c->picks = max_u64(c->compute.sequences, c->compute.rows_few);
	c->compute.block_size = c->page_size * config->text.layers;
	c->compute.ahead = CUDA_FLIGHTS - 1;
	c->compute.singly = true;
	c->any_order = options->any_order;
	c->kv = (struct cuda_kv){.stride = c->compute.block_size,
				 .heads = config->text.kv_heads,
				 .dim = config->text.head_dim,
				 .number = number};
	rc = plan(c, w, options, err);
	if (rc == RC_OK)
		rc = load(c, w, err);
	if (rc != RC_OK) {
		close_cuda(&c->compute);
		return rc;
	}
	c->compute.looks = c->vision ? CUDA_LOOKS : 0;
	*out = &c->compute;
	return RC_OK;
}
