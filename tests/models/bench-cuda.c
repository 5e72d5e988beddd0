/* SPDX-License-Identifier: MIT
 *
 * bench-cuda: the kernels of models/cuda/ on the GPU, at the shapes of the models, each as a share of what the
 * device gives: bytes a second of a copy that is measured first (read and written), or of bf16 products, whose
 * ceiling is given in TFLOP/s on the command line (a large cuBLASLt product; without it none is shown).
 *
 * Each runs 3 times unmeasured, then 20 times, one launch behind the other between two events; the fastest of
 * 5 such rounds counts. Caches, tables and pages are filled with random numbers; pages lie in random order.
 */
#include "cuda-device.h"

enum { ROUNDS = 5, RUNS = 20, COPY = 1 << 30 };

struct bench {
	const char *name;
	void (*run)(const struct bench *);
	double flop, bytes; /* of one run */

	struct cuda_kv kv;
	struct cuda_attention attention;
	struct cuda_adaptation adaptation;
	struct cuda_tile *tiles;
	size_t n, keys, tile_count, width;
	unsigned heads, dim, tile_rows;
	void *a, *b, *c;
};

static double copy_speed, product_speed; /* bytes and FLOP a second; 0: not known */

static double seconds_of(const struct bench *b)
{
	cudaEvent_t start, stop;
	double best = INFINITY;

	DEVICE_CALL(cudaEventCreate(&start));
	DEVICE_CALL(cudaEventCreate(&stop));
	for (int i = 0; i < 3; i++)
		b->run(b);
	for (int round = 0; round < ROUNDS; round++) {
		float ms;

		DEVICE_CALL(cudaEventRecord(start, NULL));
		for (int i = 0; i < RUNS; i++)
			b->run(b);
		DEVICE_CALL(cudaEventRecord(stop, NULL));
		DEVICE_CALL(cudaEventSynchronize(stop));
		DEVICE_CALL(cudaEventElapsedTime(&ms, start, stop));
		best = fmin(best, (double)ms / 1000 / RUNS);
	}
	DEVICE_CALL(cudaEventDestroy(start));
	DEVICE_CALL(cudaEventDestroy(stop));
	return best;
}

static void report(const struct bench *b)
{
	double seconds = seconds_of(b);

	printf("%-44s %9.1f us", b->name, seconds * 1e6);
	if (b->flop > 0) {
		printf("  %7.1f TFLOP/s", b->flop / seconds * 1e-12);
		if (product_speed > 0)
			printf("  %3.0f %%", b->flop / seconds / product_speed * 100);
	} else {
		printf("  %7.1f GB/s", b->bytes / seconds * 1e-9);
		if (copy_speed > 0)
			printf("  %3.0f %%", b->bytes / seconds / copy_speed * 100);
	}
	printf("\n");
	fflush(stdout);
}

/* bf16 in (-1, 1): a million random ones again and again. */
static uint16_t *random_bf16(size_t n)
{
	enum { PIECE = 1 << 20 };
	uint16_t *piece = xmalloc(PIECE * 2), *to = device_alloc(n * 2);

	for (size_t i = 0; i < PIECE; i++)
		piece[i] = bf16_from_f32(random_float());
	for (size_t i = 0; i < n; i += PIECE)
		device_put(to + i, piece, min_u64(PIECE, n - i) * 2);
	free(piece);
	return to;
}

static void run_copy(const struct bench *b)
{
	DEVICE_CALL(cudaMemcpyAsync(b->a, b->b, COPY, cudaMemcpyDeviceToDevice, NULL));
}

static void bench_copy(void)
{
	struct bench b = { .name = "copy", .run = run_copy, .bytes = 2.0 * COPY };

	b.a = device_alloc(COPY);
	b.b = random_bf16(COPY / 2);
	report(&b);
	copy_speed = b.bytes / seconds_of(&b);
	device_free(b.a);
	device_free(b.b);
}

static void run_decode(const struct bench *b)
{
	if (cuda_attention_decode(NULL, &b->kv, &b->attention, b->n, b->keys, b->a) != 0)
		fail_msg("decode: %s", cudaGetErrorString(cudaGetLastError()));
}

static void run_prefill(const struct bench *b)
{
	if (cuda_attention_prefill(NULL, &b->kv, &b->attention, b->tiles, b->tile_count) != 0)
		fail_msg("prefill: %s", cudaGetErrorString(cudaGetLastError()));
}

/* `sequences` of `keys` tokens each; the rows are the last of each, or all. */
static void paged_make(struct bench *b, size_t sequences, size_t keys, bool all, unsigned q_heads, unsigned heads,
		       enum cuda_kv_number number)
{
	size_t pages = (keys + CUDA_KV_PAGE - 1) / CUDA_KV_PAGE, count = sequences * pages;
	uint32_t *tables = xmalloc(count * sizeof(*tables));
	struct cuda_row *rows;

	b->keys = keys;
	b->n = sequences * (all ? keys : 1);
	b->kv = (struct cuda_kv){ .stride = cuda_kv_page_size(heads, b->dim, number), .heads = heads, .dim = b->dim,
				  .number = number };
	b->kv.pages = random_bf16(count * b->kv.stride / 2);
	for (size_t i = 0; i < count; i++) {
		size_t j = random_bits() % (i + 1);

		tables[i] = tables[j];
		tables[j] = (uint32_t)i;
	}
	rows = xcalloc(b->n, sizeof(*rows));
	for (size_t i = 0; i < b->n; i++)
		rows[i] = (struct cuda_row){ .table = (uint32_t)((all ? i / keys : i) * pages),
					     .index = (uint32_t)(all ? i % keys : keys - 1) };
	b->attention = (struct cuda_attention){
		.rows = device_copy(rows, b->n * sizeof(*rows)), .tables = device_copy(tables, count * sizeof(*tables)),
		.q = random_bf16(b->n * q_heads * b->dim), .out = device_alloc(b->n * q_heads * b->dim * 2),
		.q_heads = q_heads, .scale = 1 / sqrtf((float)b->dim),
	};
	if (all) {
		struct cuda_tile *tiles = xcalloc(b->n, sizeof(*tiles));

		b->tile_count = cuda_prefill_tiles(rows, b->n, q_heads / heads, tiles);
		b->tiles = device_copy(tiles, b->tile_count * sizeof(*tiles));
		free(tiles);
	} else {
		b->a = device_alloc(cuda_decode_scratch(b->n, q_heads, b->dim, keys));
	}
	free(rows);
	free(tables);
}

static void paged_free(struct bench *b)
{
	device_free(b->kv.pages), device_free(b->attention.rows), device_free(b->attention.tables);
	device_free(b->attention.q), device_free(b->attention.out);
	if (b->tiles)
		device_free(b->tiles);
	if (b->a)
		device_free(b->a);
}

static void bench_paged(void)
{
	static const struct {
		const char *name;
		unsigned q_heads, heads;
	} models[] = { { "Qwen2.5-VL 3B", 16, 2 }, { "Qwen3-VL 4B and 8B", 32, 8 }, { "Qwen3-VL 30B-A3B", 32, 4 } };
	enum { KEYS = 2650, PROMPT = 2150 };

	for (size_t i = 0; i < 2 * ARRAY_SIZE(models); i++) {
		enum cuda_kv_number number = i % 2 ? CUDA_KV_E4M3 : CUDA_KV_BF16;
		unsigned q_heads = models[i / 2].q_heads, heads = models[i / 2].heads;

		for (size_t batch = 1; batch <= 128; batch = batch == 1 ? 32 : batch * 2) {
			struct bench b = { .run = run_decode, .dim = 128 };
			char name[80];

			snprintf(name, sizeof(name), "decode x %zu, %s, %s", batch, models[i / 2].name,
				 i % 2 ? "e4m3" : "bf16");
			b.name = name;
			paged_make(&b, batch, KEYS, false, q_heads, heads, number);
			b.bytes = (double)batch * KEYS / CUDA_KV_PAGE * (double)b.kv.stride;
			report(&b);
			paged_free(&b);
		}
		struct bench b = { .run = run_prefill, .dim = 128 };
		char name[80];

		snprintf(name, sizeof(name), "prefill 4 x %d, %s, %s", PROMPT, models[i / 2].name, i % 2 ? "e4m3" : "bf16");
		b.name = name;
		paged_make(&b, 4, PROMPT, true, q_heads, heads, number);
		b.flop = 4.0 * 2 * PROMPT * (double)PROMPT * q_heads * 128; /* the lower half */
		report(&b);
		paged_free(&b);
	}
}

static void run_segments(const struct bench *b)
{
	if (cuda_attention_segments(NULL, b->a, b->b, b->heads, b->dim, 1 / sqrtf((float)b->dim), b->tiles,
				    b->tile_count, b->tile_rows) != 0)
		fail_msg("segments: %s", cudaGetErrorString(cudaGetLastError()));
}

static void bench_segments(void)
{
	enum { HEADS = 16 };
	static const struct {
		uint32_t dim, patches, segment;
	} shapes[] = { { 80, 8192, 8192 }, { 80, 8192, 64 }, { 72, 8192, 8192 }, { 72, 16384, 16384 }, { 64, 8192, 8192 } };

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		size_t n = shapes[i].patches, count = n / shapes[i].segment, width = HEADS * (size_t)shapes[i].dim;
		struct bench b = { .run = run_segments, .heads = HEADS, .dim = shapes[i].dim };
		uint32_t *segments = xcalloc(count + 1, sizeof(*segments));
		struct cuda_tile *tiles = xcalloc(n / CUDA_SEGMENT_TILE_SHORT + count, sizeof(*tiles));
		char name[80];

		for (size_t k = 0; k <= count; k++)
			segments[k] = (uint32_t)k * shapes[i].segment;
		b.tile_rows = shapes[i].segment < CUDA_SEGMENT_TILE ? CUDA_SEGMENT_TILE_SHORT : CUDA_SEGMENT_TILE;
		b.tile_count = cuda_segment_tiles(segments, count, b.tile_rows, tiles);
		b.tiles = device_copy(tiles, b.tile_count * sizeof(*tiles));
		b.a = random_bf16(n * 3 * width);
		b.b = device_alloc(n * width * 2);
		snprintf(name, sizeof(name), "vision, %zu patches in %zu, heads of %u", n, count, b.dim);
		b.name = name;
		b.flop = 4.0 * (double)n * shapes[i].segment * (double)width;
		report(&b);
		free(segments);
		free(tiles);
		device_free(b.tiles), device_free(b.a), device_free(b.b);
	}
}

static void run_norm(const struct bench *b)
{
	if (cuda_add_rms_norm(NULL, b->a, b->b, NULL, NULL, b->b, 1e-6f, b->c, b->n, b->width) != 0)
		fail_msg("norm: %s", cudaGetErrorString(cudaGetLastError()));
}

static void run_silu(const struct bench *b)
{
	if (cuda_silu_gate(NULL, b->a, NULL, b->c, b->n, b->width) != 0)
		fail_msg("silu: %s", cudaGetErrorString(cudaGetLastError()));
}

static void run_choose(const struct bench *b)
{
	if (cuda_choose(NULL, b->a, b->width, b->width, b->b, b->n, NULL, 0, NULL, b->c, b->tiles) != 0)
		fail_msg("choose: %s", cudaGetErrorString(cudaGetLastError()));
}

static void bench_rows(void)
{
	struct bench norm = { .name = "add and norm, 8192 x 2048", .run = run_norm, .n = 8192, .width = 2048 };
	struct bench silu = { .name = "SwiGLU, 8192 x 11008", .run = run_silu, .n = 8192, .width = 11008 };

	norm.bytes = 12.0 * 8192 * 2048;
	norm.a = device_alloc(8192 * 2048 * 4);
	DEVICE_CALL(cudaMemset(norm.a, 0, 8192 * 2048 * 4));
	norm.b = random_bf16(8192 * 2048);
	norm.c = device_alloc(8192 * 2048 * 2);
	report(&norm);
	device_free(norm.a), device_free(norm.b), device_free(norm.c);

	silu.bytes = 6.0 * 8192 * 11008;
	silu.a = random_bf16((size_t)8192 * 2 * 11008);
	silu.c = device_alloc((size_t)8192 * 11008 * 2);
	report(&silu);
	device_free(silu.a), device_free(silu.c);
}

static void bench_choose(void)
{
	enum { BATCH = 128, VOCAB = 151936 };
	float *logits = random_floats((size_t)BATCH * VOCAB);

	for (int draws = 0; draws < 2; draws++) {
		struct bench b = { .run = run_choose, .n = BATCH, .width = VOCAB };
		struct cuda_sampling how[BATCH];

		b.name = draws ? "choose x 128 of 151936, top-p" : "choose x 128 of 151936, greedy";
		for (size_t i = 0; i < BATCH; i++)
			how[i] = (struct cuda_sampling){ .temperature = draws * 0.1, .top_p = 0.95,
							 .repetition_penalty = 1, .seed = i };
		b.bytes = 4.0 * BATCH * VOCAB * (draws ? 3 : 1);
		for (size_t i = 0; i < (size_t)BATCH * VOCAB; i++)
			logits[i] = random_float() * 10;
		b.a = device_copy(logits, (size_t)BATCH * VOCAB * 4);
		b.b = device_copy(how, sizeof(how));
		b.c = device_alloc(BATCH * sizeof(struct cuda_choice));
		b.tiles = device_alloc(cuda_choose_scratch(BATCH, VOCAB));
		report(&b);
		device_free(b.a), device_free(b.b), device_free(b.c), device_free(b.tiles);
	}
	free(logits);
}

static void run_adapt(const struct bench *b)
{
	if (cuda_adapt(NULL, &b->adaptation, b->tile_count) != 0)
		fail_msg("adapters: %s", cudaGetErrorString(cudaGetLastError()));
}

/* What adapters of rank 16 add to q, k and v of Qwen3-VL-4B: rows of one adapter, or each of its own. */
static void bench_adapt(const char *name, size_t n, size_t adapters)
{
	enum { HIDDEN = 2560, Q = 4096, KV = 1024, RANK = 16, OUT = Q + 2 * KV, MOST = 64 };
	struct bench b = { .name = name, .run = run_adapt,
			   .adaptation = { .most = 1, .in = HIDDEN, .out = OUT, .width = 3 * RANK } };
	struct cuda_addition l[MOST], *there;
	struct cuda_adapted *tiles = xcalloc(n, sizeof(*tiles));
	size_t each = n / adapters;

	for (size_t i = 0; i < adapters; i++)
		l[i] = (struct cuda_addition){ .a = random_bf16(3 * RANK * HIDDEN),
					       .b = { random_bf16(Q * RANK), random_bf16(KV * RANK),
						      random_bf16(KV * RANK) },
					       .first = { 0, Q, Q + KV }, .out = { Q, KV, KV },
					       .parts = 3, .rank = RANK, .scale = 1 };
	there = device_copy(l, adapters * sizeof(*l));
	for (size_t i = 0; i < n; i++) {
		struct cuda_adapted *tile = &tiles[b.tile_count];

		tile->adapters = 1;
		tile->adapter[0] = there + i / each;
		tile->row[tile->rows++] = (uint32_t)i;
		b.tile_count += tile->rows == CUDA_ADAPTED_ROWS || (i + 1) % each == 0;
	}
	b.bytes = 2.0 * ((double)adapters * (3 * RANK * HIDDEN + OUT * RANK) + (double)n * (HIDDEN + 2 * OUT));
	b.adaptation.tiles = device_copy(tiles, b.tile_count * sizeof(*tiles));
	b.adaptation.x = random_bf16(n * HIDDEN);
	b.adaptation.y = random_bf16(n * OUT);
	b.adaptation.low = device_alloc(n * 3 * RANK * 2);
	report(&b);
	for (size_t i = 0; i < adapters; i++)
		device_free(l[i].a), device_free(l[i].b[0]), device_free(l[i].b[1]), device_free(l[i].b[2]);
	device_free(there), device_free(b.adaptation.tiles), device_free(b.adaptation.x);
	device_free(b.adaptation.y), device_free(b.adaptation.low);
	free(tiles);
}

static void test_all(void **state)
{
	struct cudaDeviceProp p;

	(void)state;
	DEVICE_CALL(cudaGetDeviceProperties(&p, 0));
	printf("%s, %d multiprocessors, %.1f GiB\n", p.name, p.multiProcessorCount, (double)p.totalGlobalMem * 0x1p-30);
	bench_copy();
	bench_paged();
	bench_segments();
	bench_rows();
	bench_choose();
	bench_adapt("1 row of an adapter, qkv of 4B", 1, 1);
	bench_adapt("64 rows of an adapter, qkv of 4B", 64, 1);
	bench_adapt("64 rows of 64 adapters, qkv of 4B", 64, 64);
	bench_adapt("4096 rows of an adapter, qkv of 4B", 4096, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all) };
	const char *missing = device_missing();

	if (missing) {
		fprintf(stderr, "bench-cuda: needs an NVIDIA GPU: %s\n", missing);
		return 1;
	}
	product_speed = argc > 1 ? strtod(argv[1], NULL) * 1e12 : 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
