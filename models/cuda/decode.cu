/* SPDX-License-Identifier: MIT
 *
 * decode: attention of one token a sequence over its pages.
 *
 * A block of 4 warps reads CUDA_DECODE_SPLIT keys of one key/value head of one sequence and works
 * for up to 16 of the query heads that share it: they are the rows of one m16n8k16 tile. Chunks of
 * 16 keys go round the warps; each warp copies its own next chunk while it computes on the one
 * before, and keeps its own softmax, so the warps do not wait for each other until the end, when
 * the block's memory, in which the copies were, takes the four results and they are added up in
 * order. A row of one split is written at once; else the splits' results go through scratch and a
 * second kernel adds them up in order. The split is a number of keys, never a share of them: a
 * row's result does not depend on its company.
 *
 * bf16 goes from shared memory into fragments with ldmatrix; rows are padded by 16 bytes, so that 8
 * of them never meet in a bank. e4m3 has no ldmatrix of its own: a lane reads words of 4 numbers
 * (the same padding keeps them apart) and takes the numbers in another order than memory has them,
 * which is free: dimensions 4t .. 4t + 3 of each 16 stand for columns 2t, 2t + 1, 2t + 8, 2t + 9 of
 * K and q, and byte b of word g + 8 i of V's row for column g of tile 4 i + b. A scale multiplies a
 * column of scores or of weights.
 *
 * Shared memory: 2 stages of 16 keys and values a warp: 68 KiB (bf16, dim 128: 3 blocks an SM of
 * Hopper, 96 KiB or more of copies under way), 37 KiB (e4m3). Moved: keys and values once, 8 bytes
 * a query head, dimension and split of results (3 % of bf16 keys and values at 8 heads).
 */
#include "cuda/kv.cuh"
#include "cuda/tile.cuh"

enum {
	DECODE_WARPS = 4,
	CHUNK = 16, /* keys */
	HEADS = 16, /* query heads a tile */
	STAGES = 2,
	SPLIT_CHUNKS = CUDA_DECODE_SPLIT / CHUNK,
	PAGE_CHUNKS = CUDA_KV_PAGE / CHUNK,
	SPLIT_PAGES = CUDA_DECODE_SPLIT / CUDA_KV_PAGE,
};

/* The results of splits: sums [n][q_heads][splits][dim], then of each its max and sum. */
struct decode {
	struct cuda_kv kv;
	struct cuda_attention a;
	float *sums;
	float2 *states;
	unsigned splits; /* the most */
};

template <int DIM, cuda_kv_number number> struct decode_layout {
	static constexpr int bytes = number == CUDA_KV_BF16 ? 2 : 1;
	static constexpr int row = DIM * bytes + 16;
	static constexpr int scales = number == CUDA_KV_E4M3 ? 2 * CHUNK * 2 : 0;
	static constexpr int stage = 2 * CHUNK * row + scales;
	static constexpr int memory = DECODE_WARPS * STAGES * stage;
	/* At the end: sums [warps][16][result], max and sum [warps][16]. Padded against meeting in
	 * a bank. */
	static constexpr int result = DIM + 8;
	static constexpr int results = DECODE_WARPS * HEADS * (result + 2) * 4;

	static_assert(results <= memory, "the results lie where the copies were");
	static_assert(stage % 16 == 0, "copies are of 16 bytes");
};

/* 16 keys, 16 values and their scales into a stage; `valid` of them, the rest zeros. */
template <int DIM, cuda_kv_number number>
DEVICE void decode_copy(unsigned char *stage, const struct decode &d, uint32_t page, unsigned head,
			unsigned chunk, int valid)
{
	typedef decode_layout<DIM, number> layout;
	constexpr int pieces = DIM * layout::bytes / 16;
	unsigned lane = threadIdx.x % WARP, size = d.kv.dim * layout::bytes;
	const unsigned char *keys = kv_head(d.kv, page, head);
	const unsigned char *from = keys + chunk * CHUNK * size;
	size_t values = kv_half(d.kv.dim, number);

	UNROLL
	for (unsigned i = lane; i < CHUNK * pieces; i += WARP) {
		unsigned row = i / pieces, at = i % pieces * 16;
		bool there = (int)row < valid && at < size;
		const unsigned char *piece = there ? from + row * size + at : keys;

		copy_async(stage + row * layout::row + at, piece, there);
		copy_async(stage + (CHUNK + row) * layout::row + at, piece + (there ? values : 0),
			   there);
	}
	/* A scale that is not there is multiplied by nothing that counts: it need not be 0. */
	if (number == CUDA_KV_E4M3 && lane < 4)
		copy_async(stage + 2 * CHUNK * layout::row + lane * 16,
			   keys + 2 * values +
				   (lane / 2 * CUDA_KV_PAGE + chunk * CHUNK) * sizeof(uint16_t) +
				   lane % 2 * 16,
			   true);
}

template <int DIM>
DEVICE void scores_bf16(float (*s)[4], const uint32_t (*q)[4], const unsigned char *stage)
{
	constexpr int row = decode_layout<DIM, CUDA_KV_BF16>::row;
	unsigned lane = threadIdx.x % WARP;
	/* Matrices: keys 0-7 at columns 0 and 8, then keys 8-15. */
	const unsigned char *p = stage + (lane % 8 + lane / 16 * 8) * row + lane / 8 % 2 * 16;

	UNROLL
	for (int k = 0; k < DIM / 16; k++) {
		uint32_t m[4];

		load_matrices(m, p + k * 32);
		mma_bf16(s[0], q[k], m);
		mma_bf16(s[1], q[k], m + 2);
	}
}

template <int DIM>
DEVICE void values_bf16(float (*sums)[4], const uint32_t *weights, const unsigned char *stage)
{
	constexpr int row = decode_layout<DIM, CUDA_KV_BF16>::row;
	unsigned lane = threadIdx.x % WARP;
	/* Matrices: keys 0-7, 8-15 at columns 0, then at columns 8. */
	const unsigned char *p = stage + (CHUNK + lane % 16) * row + lane / 16 * 16;

	UNROLL
	for (int n = 0; n < DIM / 8; n += 2) {
		uint32_t m[4];

		load_matrices_transposed(m, p + n * 16);
		mma_bf16(sums[n], weights, m);
		mma_bf16(sums[n + 1], weights, m + 2);
	}
}

template <int DIM>
DEVICE void scores_e4m3(float (*s)[4], const uint32_t (*q)[4], const unsigned char *stage)
{
	constexpr int row = decode_layout<DIM, CUDA_KV_E4M3>::row;
	unsigned g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;

	UNROLL
	for (int k = 0; k < DIM / 16; k++) {
		UNROLL
		for (int n = 0; n < 2; n++) {
			uint32_t word =
				*(const uint32_t *)(stage + (n * 8 + g) * row + k * 16 + 4 * t);
			uint32_t m[2];

			m[0] = bf16x2_of_e4m3(pick_bytes(word, 0, 0x1100));
			m[1] = bf16x2_of_e4m3(pick_bytes(word, 0, 0x3322));
			mma_bf16(s[n], q[k], m);
		}
	}
	/* The columns' scales: keys 2t and 2t + 1 of each eight. */
	UNROLL
	for (int n = 0; n < 2; n++) {
		uint32_t scales = *(const uint32_t *)(stage + 2 * CHUNK * row + n * 16 + 4 * t);

		s[n][0] *= low_of(scales), s[n][1] *= high_of(scales);
		s[n][2] *= low_of(scales), s[n][3] *= high_of(scales);
	}
}

/* s: the weights, before they are bf16; those of keys that are not there are 0. */
template <int DIM>
DEVICE void values_e4m3(float (*sums)[4], float (*s)[4], const unsigned char *stage, int valid)
{
	constexpr int row = decode_layout<DIM, CUDA_KV_E4M3>::row;
	unsigned g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
	const unsigned char *p = stage + (CHUNK + 2 * t) * row + 4 * g;
	uint32_t weights[4];

	UNROLL
	for (int n = 0; n < 2; n++) {
		uint32_t scales =
			*(const uint32_t *)(stage + 2 * CHUNK * row + CHUNK * 2 + n * 16 + 4 * t);
		int key = n * 8 + 2 * (int)t;

		UNROLL
		for (int r = 0; r < 2; r++) {
			s[n][2 * r] = key < valid ? s[n][2 * r] * low_of(scales) : 0;
			s[n][2 * r + 1] = key + 1 < valid ? s[n][2 * r + 1] * high_of(scales) : 0;
		}
	}
	tile_weights(weights, s);
	UNROLL
	for (int i = 0; i < DIM / 32; i++) {
		uint32_t word[4]; /* of keys 2t, 2t + 1, 2t + 8, 2t + 9 */

		UNROLL
		for (int k = 0; k < 4; k++)
			word[k] = *(const uint32_t *)(p + (k % 2 + k / 2 * 8) * row + 32 * i);
		UNROLL
		for (int b = 0; b < 4; b++) {
			uint32_t choice = 0x4400u + 0x1111u * (uint32_t)b, m[2];

			m[0] = bf16x2_of_e4m3(pick_bytes(word[0], word[1], choice));
			m[1] = bf16x2_of_e4m3(pick_bytes(word[2], word[3], choice));
			mma_bf16(sums[4 * i + b], weights, m);
		}
	}
}

/* The dimension that column c of tile n of the sums is. */
template <cuda_kv_number number> DEVICE int decode_dimension(int n, int c)
{
	return number == CUDA_KV_BF16 ? 8 * n + c : 4 * (c + n / 4 * 8) + n % 4;
}

template <int DIM, cuda_kv_number number>
DEVICE void decode_q(uint32_t (*q)[4], const struct decode &d, unsigned row, unsigned first,
		     unsigned heads)
{
	unsigned g = threadIdx.x % WARP / 4, t = threadIdx.x % 4, dim = d.kv.dim;
	const uint16_t *p = d.a.q + ((size_t)row * d.a.q_heads + first) * dim;
	const uint16_t *low = g < heads ? p + g * dim : NULL,
		       *high = g + 8 < heads ? p + (g + 8) * dim : NULL;

	UNROLL
	for (unsigned k = 0; k < DIM / 16; k++) {
		if (number == CUDA_KV_BF16) {
			tile_q(q[k], low, high, k * 16, dim);
		} else {
			uint2 none = {0, 0}, x = none, y = none;

			if (low && k * 16 < dim)
				x = *(const uint2 *)(low + k * 16 + 4 * t);
			if (high && k * 16 < dim)
				y = *(const uint2 *)(high + k * 16 + 4 * t);
			q[k][0] = x.x, q[k][1] = y.x, q[k][2] = x.y, q[k][3] = y.y;
		}
	}
}

/* Add up the warps' results in order, and write them. */
template <int DIM, cuda_kv_number number>
DEVICE void decode_finish(const struct decode &d, unsigned char *memory, struct tile_state &state,
			  float (*sums)[4], unsigned row, unsigned first, unsigned heads,
			  unsigned split, bool alone)
{
	unsigned warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
	constexpr int result = decode_layout<DIM, number>::result;
	float *all = (float *)memory, *mine = all + warp * HEADS * result;
	float2 *states = (float2 *)(all + DECODE_WARPS * HEADS * result);
	float scale = d.a.scale * LOG2_E;

	sync_block();
	UNROLL
	for (int n = 0; n < DIM / 8; n++) {
		UNROLL
		for (int i = 0; i < 4; i++)
			mine[(g + i / 2 * 8) * result +
			     decode_dimension<number>(n, (int)(2 * t) + i % 2)] = sums[n][i];
	}
	UNROLL
	for (int r = 0; r < 2; r++) {
		float sum = tile_row_sum(state.sum[r]);

		if (t == 0) {
			states[warp * HEADS + g + r * 8].x = state.max[r];
			states[warp * HEADS + g + r * 8].y = sum;
		}
	}
	sync_block();
	for (unsigned i = threadIdx.x; i < heads * d.kv.dim; i += DECODE_WARPS * WARP) {
		unsigned h = i / d.kv.dim, c = i % d.kv.dim;
		size_t head = (size_t)row * d.a.q_heads + first + h;
		float most = -INFINITY, value = 0, sum = 0;

		for (int w = 0; w < DECODE_WARPS; w++)
			most = fmaxf(most, states[w * HEADS + h].x);
		for (int w = 0; w < DECODE_WARPS; w++) {
			float weight = tile_weight(states[w * HEADS + h].x, most, scale);

			value += all[(w * HEADS + h) * result + c] * weight;
			sum += states[w * HEADS + h].y * weight;
		}
		if (alone) {
			d.a.out[head * d.kv.dim + c] = bf16_of(value / sum);
		} else {
			size_t at = head * d.splits + split;

			d.sums[at * d.kv.dim + c] = value;
			if (c == 0) {
				d.states[at].x = most;
				d.states[at].y = sum;
			}
		}
	}
}

/* Blocks: splits, tiles of all key/value heads, rows. */
template <int DIM, cuda_kv_number number>
static __global__ void THREADS_OF_BLOCK(DECODE_WARPS *WARP) decode_kernel(struct decode d)
{
	typedef decode_layout<DIM, number> layout;
	BLOCK_MEMORY(memory);
	unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, t = threadIdx.x % 4;
	unsigned group = d.a.q_heads / d.kv.heads, tiles = (group + HEADS - 1) / HEADS;
	unsigned row = blockIdx.z, split = blockIdx.x, head = blockIdx.y / tiles;
	unsigned first = blockIdx.y % tiles * HEADS, heads = min(group - first, (unsigned)HEADS);
	uint32_t keys = d.a.rows[row].index + 1, start = split * CUDA_DECODE_SPLIT, pages = 0;
	unsigned char *stages = memory + warp * STAGES * layout::stage;
	float sums[DIM / 8][4], scale = d.a.scale * LOG2_E;
	int left = (int)(keys - start), chunks;
	struct tile_state state;
	uint32_t q[DIM / 16][4];

	if (start >= keys)
		return;
	left = min(left, (int)CUDA_DECODE_SPLIT);
	chunks = (left + CHUNK - 1) / CHUNK;
	first += head * group;
	/* The numbers of the split's pages, one a lane. */
	if ((int)(lane * CUDA_KV_PAGE) < left && lane < SPLIT_PAGES)
		pages = d.a.tables[d.a.rows[row].table + split * SPLIT_PAGES + lane];
	if ((int)warp < chunks)
		decode_copy<DIM, number>(stages, d, shuffle(pages, warp / PAGE_CHUNKS), head,
					 warp % PAGE_CHUNKS, left - (int)warp * CHUNK);
	copies_end_group();
	decode_q<DIM, number>(q, d, row, first, heads);
	tile_start(state);
	UNROLL
	for (int n = 0; n < DIM / 8; n++)
		sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;

	for (int chunk = (int)warp, stage = 0; chunk < chunks; chunk += DECODE_WARPS, stage ^= 1) {
		const unsigned char *here = stages + stage * layout::stage;
		int next = chunk + DECODE_WARPS, valid = left - chunk * CHUNK;
		float s[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}}, correction[2];

		if (next < chunks)
			decode_copy<DIM, number>(stages + (stage ^ 1) * layout::stage, d,
						 shuffle(pages, next / PAGE_CHUNKS), head,
						 next % PAGE_CHUNKS, left - next * CHUNK);
		copies_end_group();
		copies_wait<1>();
		sync_warp();
		if (number == CUDA_KV_BF16)
			scores_bf16<DIM>(s, q, here);
		else
			scores_e4m3<DIM>(s, q, here);
		UNROLL
		for (int n = 0; n < 2; n++) {
			UNROLL
			for (int i = 0; i < 4; i++)
				if (n * 8 + (int)(2 * t) + i % 2 >= valid)
					s[n][i] = -INFINITY;
		}
		tile_softmax<2>(state, s, scale, correction);
		tile_correct<DIM / 8>(sums, correction);
		if (number == CUDA_KV_BF16) {
			uint32_t weights[4];

			tile_weights(weights, s);
			values_bf16<DIM>(sums, weights, here);
		} else {
			values_e4m3<DIM>(sums, s, here, valid);
		}
		sync_warp();
	}
	copies_wait<0>();
	decode_finish<DIM, number>(d, memory, state, sums, row, first, heads, split,
				   keys <= CUDA_DECODE_SPLIT);
}

/* Blocks: query heads, rows; a thread a dimension. 4 bytes a dimension and split. */
static __global__ void decode_combine_kernel(struct decode d)
{
	uint32_t keys = d.a.rows[blockIdx.y].index + 1;
	unsigned splits = (keys + CUDA_DECODE_SPLIT - 1) / CUDA_DECODE_SPLIT, c = threadIdx.x;
	size_t head = (size_t)blockIdx.y * d.a.q_heads + blockIdx.x;
	const float2 *states = d.states + head * d.splits;
	const float *sums = d.sums + head * d.splits * d.kv.dim;
	float most = -INFINITY, value = 0, sum = 0, scale = d.a.scale * LOG2_E;

	if (splits == 1 || c >= d.kv.dim)
		return;
	for (unsigned i = 0; i < splits; i++)
		most = fmaxf(most, states[i].x);
	for (unsigned i = 0; i < splits; i++) {
		float weight = tile_weight(states[i].x, most, scale);

		value += sums[i * d.kv.dim + c] * weight;
		sum += states[i].y * weight;
	}
	d.a.out[head * d.kv.dim + c] = bf16_of(value / sum);
}

static unsigned decode_splits(size_t max_keys)
{
	return divide_up(max_keys, CUDA_DECODE_SPLIT);
}

size_t cuda_decode_scratch(size_t n, unsigned q_heads, unsigned dim, size_t max_keys)
{
	return n * q_heads * decode_splits(max_keys) * (dim * sizeof(float) + sizeof(float2));
}

int cuda_attention_decode(cudaStream_t stream, const struct cuda_kv *kv,
			  const struct cuda_attention *a, size_t n, size_t max_keys, void *scratch)
{
	struct decode d = {*kv, *a, (float *)scratch, NULL, decode_splits(max_keys)};
	unsigned group = kv->heads ? a->q_heads / kv->heads : 0;
	dim3 blocks(d.splits, divide_up(group, HEADS) * kv->heads, n);
	int error;

	if (n == 0 || max_keys == 0)
		return 0;
	if (!kv_valid(kv) || group == 0 || a->q_heads % kv->heads || n > 65535)
		return CUDA_INVALID;
	d.states = (float2 *)(d.sums + n * a->q_heads * d.splits * kv->dim);
#define DECODE(dim, number)                                                                        \
	launch(decode_kernel<dim, number>, blocks, DECODE_WARPS *WARP,                             \
	       decode_layout<dim, number>::memory, stream, d)
	if (kv->dim <= 64)
		error = kv->number == CUDA_KV_BF16 ? DECODE(64, CUDA_KV_BF16)
						   : DECODE(64, CUDA_KV_E4M3);
	else
		error = kv->number == CUDA_KV_BF16 ? DECODE(128, CUDA_KV_BF16)
						   : DECODE(128, CUDA_KV_E4M3);
#undef DECODE
	if (error || d.splits == 1)
		return error;
	return launch(decode_combine_kernel, dim3(a->q_heads, (unsigned)n), CUDA_DIM_MAX, 0, stream,
		      d);
}
