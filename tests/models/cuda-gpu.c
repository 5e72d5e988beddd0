/* SPDX-License-Identifier: MIT
 *
 * cuda-gpu: models/cuda/gpu.h without a GPU, for tests: memory is the host's, products are sums taken one
 * after the other, in another order for each kind, as on a GPU. What is asked for is done later
 * (cuda-stream.h).
 */
#include "cuda-gpu.h"

#include "cuda-stream.h"
#include "e4m3.h"

#include "cuda/memory.h"
#include "kernels/linear.h"

#include <stdlib.h>
#include <string.h>

enum { PIECES_MAX = 4096, PLANS_MAX = 256 };

struct piece {
	const void *p;
	size_t size;
};

/* A product that was done. */
struct plan {
	size_t rows, out, in;
	bool wide, fp8;
};

struct gpu {
	struct piece pieces[PIECES_MAX]; /* allocations that are there */
	size_t count, pinned;
	struct plan plans[PLANS_MAX];
	size_t plan_count;
	bool recording;
	cudaStream_t stream;
};

struct gpu_mark {
	uint64_t at;
};

size_t emulated_room = (size_t)64 << 30, emulated_asked, emulated_peak;
bool emulated_fp8 = true;
size_t emulated_graphs_max = SIZE_MAX, emulated_graphs, emulated_replays, emulated_longest;
size_t emulated_products[GPU_ANY + 1], emulated_rows[GPU_ANY + 1];

enum rc gpu_open(struct gpu **out, struct err *err)
{
	(void)err;
	*out = xcalloc(1, sizeof(**out));
	(*out)->stream = stream_new();
	return RC_OK;
}

void gpu_close(struct gpu *g)
{
	gpu_wait(g);
	stream_free(g->stream);
	if (g->pinned)
		BUG("%zu pieces of pinned memory were not freed", g->pinned);
	if (g->count)
		BUG("%zu pieces of the GPU's memory were not freed", g->count);
	free(g);
}

const char *gpu_name(const struct gpu *g)
{
	(void)g;
	return "cuda, emulated";
}

cudaStream_t gpu_stream(const struct gpu *g)
{
	return g->stream;
}

size_t gpu_room(const struct gpu *g)
{
	(void)g;
	return emulated_room - emulated_asked;
}

/* What nobody has written is NaN; of what is so large that it is there to be counted alone, as it comes. */
#define NAN_MAX ((size_t)1 << 30)

void *gpu_alloc(struct gpu *g, size_t size)
{
	void *p = NULL;

	if (g->count == PIECES_MAX)
		BUG("more than %d pieces of the GPU's memory", PIECES_MAX);
	if (memory_round(size) > gpu_room(g) || posix_memalign(&p, 256, size ? size : 1))
		return NULL;
	g->pieces[g->count++] = (struct piece){p, size};
	emulated_asked += memory_round(size);
	if (emulated_asked > emulated_peak)
		emulated_peak = emulated_asked;
	return size > NAN_MAX ? p : memset(p, 0xff, size);
}

void gpu_free(struct gpu *g, const void *p)
{
	size_t i = 0;

	gpu_wait(g);
	if (!p)
		return;
	while (i < g->count && g->pieces[i].p != p)
		i++;
	if (i == g->count)
		BUG("what is not the GPU's memory was freed");
	emulated_asked -= memory_round(g->pieces[i].size);
	g->pieces[i] = g->pieces[--g->count];
	free((void *)p);
}

void *gpu_pin(struct gpu *g, size_t size)
{
	g->pinned++;
	return memset(xmalloc(size + 1), 0xff, size);
}

void gpu_unpin(struct gpu *g, void *p)
{
	gpu_wait(g);
	g->pinned -= p != NULL;
	free(p);
}

struct copy {
	void *to;
	const void *from;
	size_t size;
};

static void run_copy(void *closure)
{
	const struct copy *c = closure;

	memcpy(c->to, c->from, c->size);
}

void gpu_send(struct gpu *g, void *to, const void *from, size_t size)
{
	struct copy c = {to, from, size};

	if (size)
		stream_put(g->stream, run_copy, &c, sizeof(c));
}

void gpu_copy(struct gpu *g, void *to, const void *from, size_t size)
{
	gpu_send(g, to, from, size);
}

void gpu_fetch(struct gpu *g, void *to, const void *from, size_t size)
{
	gpu_send(g, to, from, size);
}

struct gpu_mark *gpu_mark_new(struct gpu *g)
{
	(void)g;
	return xcalloc(1, sizeof(struct gpu_mark));
}

void gpu_mark_free(struct gpu *g, struct gpu_mark *m)
{
	(void)g;
	free(m);
}

void gpu_mark_set(struct gpu *g, struct gpu_mark *m)
{
	m->at = stream_mark(g->stream);
}

void gpu_mark_wait(struct gpu *g, struct gpu_mark *m)
{
	stream_wait(g->stream, m->at);
}

bool gpu_mark_passed(struct gpu *g, struct gpu_mark *m)
{
	return stream_try(g->stream, m->at);
}

void gpu_wait(struct gpu *g)
{
	stream_wait(g->stream, stream_mark(g->stream));
}

struct gpu_graph {
	struct recording *recording;
};

void gpu_graph_begin(struct gpu *g)
{
	stream_record(g->stream);
	g->recording = true;
}

struct gpu_graph *gpu_graph_end(struct gpu *g)
{
	struct gpu_graph *graph = xcalloc(1, sizeof(*graph));

	g->recording = false;
	graph->recording = stream_recorded(g->stream);
	if (emulated_graphs == emulated_graphs_max) {
		recording_free(graph->recording);
		free(graph);
		return NULL;
	}
	emulated_graphs++;
	if (recording_length(graph->recording) > emulated_longest)
		emulated_longest = recording_length(graph->recording);
	return graph;
}

void gpu_graph_run(struct gpu *g, struct gpu_graph *graph)
{
	emulated_replays++;
	stream_play(g->stream, graph->recording);
}

void gpu_graph_free(struct gpu *g, struct gpu_graph *graph)
{
	if (!graph)
		return;
	gpu_wait(g);
	emulated_graphs--;
	recording_free(graph->recording);
	free(graph);
}

void gpu_write(struct gpu *g, void *to, const void *from, size_t size)
{
	gpu_wait(g);
	if (size)
		memcpy(to, from, size);
}

void gpu_read(struct gpu *g, void *to, const void *from, size_t size)
{
	gpu_wait(g);
	memcpy(to, from, size);
}

void gpu_check(const struct gpu *g, int code, const char *what)
{
	(void)g;
	if (code)
		BUG("%s: error %d", what, code);
}

static size_t chains_of(enum gpu_rows kind, size_t n)
{
	size_t chains = 1;

	if (kind != GPU_ANY)
		return kind == GPU_FEW ? 4 : 8;
	for (size_t rows = gpu_rows_like(kind, n); rows > 1; rows /= 2)
		chains = chains % 8 + 1;
	return chains;
}

static float dot(size_t chains, const float *a, const float *b, size_t n)
{
	float sum[8] = {0}, all = 0;

	for (size_t i = 0; i < n; i++)
		sum[i % chains] += a[i] * b[i];
	for (size_t i = 0; i < chains; i++)
		all += sum[i];
	return all;
}

/* Of rows in bf16, or with scales in e4m3. */
struct product {
	enum gpu_rows kind;
	const void *w, *x;
	const float *w_scale, *x_scale; /* or NULL */
	size_t out, in, n;
	void *y;
	bool wide;
};

static float *widen(const void *from, size_t n, bool fp8)
{
	float *to = xmalloc(n * sizeof(*to));

	for (size_t i = 0; i < n; i++)
		to[i] = fp8 ? e4m3_to_f32(((const uint8_t *)from)[i]) : bf16_to_f32(((const uint16_t *)from)[i]);
	return to;
}

static void run_product(void *closure)
{
	const struct product *p = closure;
	float *a = widen(p->w, p->out * p->in, p->w_scale), *b = widen(p->x, p->n * p->in, p->x_scale);
	size_t chains = chains_of(p->kind, p->n);

	for (size_t i = 0; i < p->n; i++) {
		for (size_t k = 0; k < p->out; k++) {
			float sum = dot(chains, a + k * p->in, b + i * p->in, p->in);

			if (p->w_scale)
				sum = sum * p->w_scale[k] * p->x_scale[i];
			if (p->wide)
				((float *)p->y)[i * p->out + k] = sum;
			else
				((uint16_t *)p->y)[i * p->out + k] = bf16_from_f32(sum);
		}
	}
	free(a);
	free(b);
}

/* As gpu.c does, for which nothing may be recorded that was not done before. */
static void find_plan(struct gpu *g, size_t rows, size_t out, size_t in, bool wide, bool fp8)
{
	for (size_t i = 0; i < g->plan_count; i++) {
		const struct plan *p = &g->plans[i];

		if (p->rows == rows && p->out == out && p->in == in && p->wide == wide && p->fp8 == fp8)
			return;
	}
	if (g->recording || g->plan_count == PLANS_MAX)
		BUG("a product of %zu rows by %zu by %zu is new%s", rows, out, in,
		    g->recording ? ", and recorded" : "");
	g->plans[g->plan_count++] = (struct plan){rows, out, in, wide, fp8};
}

static void put_product(struct gpu *g, const struct product *p)
{
	find_plan(g, gpu_rows_like(p->kind, p->n), p->out, p->in, p->wide, p->w_scale);
	emulated_products[p->kind]++;
	emulated_rows[p->kind] += p->n;
	stream_put(g->stream, run_product, p, sizeof(*p));
}

void gpu_product(struct gpu *g, enum gpu_rows kind, const uint16_t *w, size_t out, size_t in,
		 const uint16_t *x, size_t n, void *y, bool wide)
{
	const struct product p = {kind, w, x, NULL, NULL, out, in, n, y, wide};

	put_product(g, &p);
}

enum rc gpu_has_fp8(struct gpu *g, size_t out, size_t in, struct err *err)
{
	(void)out;
	(void)in;
	return emulated_fp8 ? RC_OK
			    : err_set(err, RC_FATAL, "gpu", "%s, has no products of fp8: weights: bf16", gpu_name(g));
}

void gpu_product_fp8(struct gpu *g, enum gpu_rows kind, struct gpu_fp8 w, size_t out, size_t in,
		     struct gpu_fp8 x, size_t n, uint16_t *y)
{
	const struct product p = {kind, w.codes, x.codes, w.scale, x.scale, out, in, n, y, false};

	if (in % 16 || out % 16)
		BUG("a product of fp8 of %zu by %zu", out, in);
	put_product(g, &p);
}
