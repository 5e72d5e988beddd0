/* SPDX-License-Identifier: MIT
 *
 * experts: the feed-forward of a routed layer: which experts a row goes to, the products of each
 * expert with its own rows, and their sum.
 *
 * A choice is a row and one of its experts; it has a place in the lists of that expert, in an order
 * that does not matter: a choice's product is the same wherever it stands.
 *
 * Products: a block has 64 columns of one expert, and takes its choices 64 at a time; a warp has 16
 * columns and all of the rows. The depth goes through the block's memory in steps of 32, rows and
 * bf16 weights by copies that go on meanwhile, two steps of each; int4 by way of registers, where
 * the words of a step wait while the block computes the one before. W is then [columns][depth] for
 * bf16, [depth][columns] for int4, whose words have 8 columns of a depth: ldmatrix reads either.
 * Rows of it are padded by 16 bytes: no two of 8 meet in a bank. 18 KiB at most.
 *
 * Invariant: a sum goes through the depth from the first to the last, so a choice's result depends
 * on its row and on the expert alone.
 */
#include "cuda/block.cuh"

enum {
	EXPERT_WARPS = 4,
	EXPERT_THREADS = EXPERT_WARPS * WARP,
	EXPERT_COLUMNS = 64,
	EXPERT_ROWS = 64,
	EXPERT_DEPTH = 32,
	DEPTH_ROW = EXPERT_DEPTH * 2 + 16,     /* bytes */
	COLUMNS_ROW = EXPERT_COLUMNS * 2 + 16, /* the same */
	X_STAGE = EXPERT_ROWS * DEPTH_ROW,
	W_STAGE = EXPERT_COLUMNS * DEPTH_ROW, /* as much as EXPERT_DEPTH * COLUMNS_ROW, or more */
};

/* --- Which experts --- */

struct route {
	const float *logits;
	size_t stride;
	unsigned experts, used, normed;
	uint32_t *expert;
	float *weight;
};

/* The largest that is not taken, of equal ones the first. */
DEVICE unsigned route_best(const float *share, unsigned experts)
{
	float most = -2;
	unsigned best = 0;

	for (unsigned e = threadIdx.x; e < experts; e += WARP) {
		if (share[e] > most) {
			most = share[e];
			best = e;
		}
	}
	UNROLL
	for (unsigned mask = WARP / 2; mask > 0; mask /= 2) {
		float other = shuffle_xor(most, mask);
		unsigned its = shuffle(best, threadIdx.x ^ mask);

		if (other > most || (other == most && its < best)) {
			most = other;
			best = its;
		}
	}
	return best;
}

/* A warp a row. */
static __global__ void route_kernel(struct route r)
{
	BLOCK_MEMORY(memory);
	float *share = (float *)memory, most = -INFINITY, sum = 0, chosen = 0;
	const float *logits = r.logits + blockIdx.x * r.stride;
	uint32_t *expert = r.expert + blockIdx.x * (size_t)r.used;
	float *weight = r.weight + blockIdx.x * (size_t)r.used;

	for (unsigned e = threadIdx.x; e < r.experts; e += WARP)
		most = fmaxf(most, logits[e]);
	most = warp_max(most);
	for (unsigned e = threadIdx.x; e < r.experts; e += WARP) {
		share[e] = expf(logits[e] - most);
		sum += share[e];
	}
	sum = warp_sum(sum);
	sync_warp();
	for (unsigned n = 0; n < r.used; n++) {
		/* Of a row with a NaN no number is larger than another. */
		unsigned best = sum == sum ? route_best(share, r.experts) : n;

		if (threadIdx.x == 0) {
			unsigned at = n;

			for (; at > 0 && expert[at - 1] > best; at--) {
				expert[at] = expert[at - 1];
				weight[at] = weight[at - 1];
			}
			expert[at] = best;
			weight[at] = share[best] / sum;
			chosen += weight[at];
			share[best] = -1; /* taken */
		}
		sync_warp();
	}
	for (unsigned n = 0; threadIdx.x == 0 && r.normed && n < r.used; n++)
		weight[n] /= chosen;
}

int cuda_route(cudaStream_t stream, const float *logits, size_t stride, size_t n, unsigned experts,
	       unsigned used, bool normed, uint32_t *expert, float *weight)
{
	struct route r = {logits, stride, experts, used, normed, expert, weight};

	if (!used || used > experts || experts > CUDA_EXPERTS_MAX)
		return CUDA_INVALID;
	return n ? launch(route_kernel, n, WARP, experts * sizeof(float), stream, r) : 0;
}

/* --- Whose rows --- */

static __global__ void group_kernel(const uint32_t *expert, size_t choices, uint32_t *list,
				    size_t stride, uint32_t *count)
{
	BLOCK_MEMORY(memory);
	unsigned *n = (unsigned *)memory;

	if (threadIdx.x == 0)
		*n = 0;
	sync_block();
	for (size_t i = threadIdx.x; i < choices; i += blockDim.x)
		if (expert[i] == blockIdx.x)
			list[blockIdx.x * stride + add_atomic(n, 1)] = (uint32_t)i;
	sync_block();
	if (threadIdx.x == 0)
		count[blockIdx.x] = *n;
}

int cuda_group(cudaStream_t stream, const uint32_t *expert, size_t n, unsigned experts,
	       unsigned used, uint32_t *list, uint32_t *count)
{
	return n ? launch(group_kernel, experts, 256, sizeof(unsigned), stream, expert, n * used,
			  list, n, count)
		 : 0;
}

/* --- Products --- */

struct expert_product {
	struct cuda_experts w;
	const uint32_t *list, *count;
	size_t stride;
	const uint16_t *x;
	unsigned choices_a_row;
	uint16_t *y;
};

/* Of the rows `first` and following of x, numbers `depth` and following; choice: theirs, or
 * CUDA_NONE. */
DEVICE void copy_rows(const struct expert_product &p, unsigned char *to, const uint32_t *choice,
		      unsigned depth)
{
	for (unsigned i = threadIdx.x; i < EXPERT_ROWS * EXPERT_DEPTH / 8; i += EXPERT_THREADS) {
		unsigned r = i / (EXPERT_DEPTH / 8), at = i % (EXPERT_DEPTH / 8) * 8;
		bool there = choice[r] != CUDA_NONE && depth + at < p.w.in;
		const uint16_t *from = p.x;

		if (there)
			from += (size_t)(choice[r] / p.choices_a_row) * p.w.in + depth + at;
		copy_async(to + r * DEPTH_ROW + at * 2, from, there);
	}
}

DEVICE void copy_columns(const struct expert_product &p, unsigned char *to, const uint16_t *w,
			 unsigned column, unsigned depth)
{
	for (unsigned i = threadIdx.x; i < EXPERT_COLUMNS * EXPERT_DEPTH / 8; i += EXPERT_THREADS) {
		unsigned c = i / (EXPERT_DEPTH / 8), at = i % (EXPERT_DEPTH / 8) * 8;
		bool there = column + c < p.w.out && depth + at < p.w.in;
		const uint16_t *from = there ? w + (size_t)(column + c) * p.w.in + depth + at : w;

		copy_async(to + c * DEPTH_ROW + at * 2, from, there);
	}
}

/* A thread's part of a step in int4: two words, of 8 columns each, at one depth; and of their
 * group. */
struct nibbles {
	uint32_t word[2], zero[2];
	float scale[2][8];
	unsigned group; /* whose zeros and scales they are */
};

/* Words from the block's first column on, at the thread's depth of a step. */
DEVICE void load_nibbles(const struct expert_product &p, struct nibbles &n, const unsigned char *w,
			 unsigned column, unsigned depth)
{
	unsigned words = p.w.out / 8, first = column / 8 + threadIdx.x % 4 * 2,
		 k = depth + threadIdx.x / 4;
	unsigned group = depth / p.w.group;
	const uint32_t *q = (const uint32_t *)w, *zeros = (const uint32_t *)(w + p.w.zeros);
	const float *scales = (const float *)(w + p.w.scales);

	UNROLL
	for (unsigned i = 0; i < 2; i++) {
		bool there = first + i < words && k < p.w.in;

		n.word[i] = there ? q[(size_t)k * words + first + i] : 0;
		if (group == n.group)
			continue;
		n.zero[i] = there ? zeros[(size_t)group * words + first + i] : 0;
		UNROLL
		for (unsigned j = 0; j < 8; j++)
			n.scale[i][j] =
				there ? scales[(size_t)group * p.w.out + (first + i) * 8 + j] : 0;
	}
	n.group = group;
}

/* In a word the columns are 0 2 4 6 1 3 5 7. */
DEVICE void store_nibbles(const struct nibbles &n, unsigned char *to)
{
	UNROLL
	for (unsigned i = 0; i < 2; i++) {
		uint32_t pair[4];
		uint4 u;

		UNROLL
		for (unsigned j = 0; j < 4; j++) {
			int low = (int)(n.word[i] >> 4 * j & 15) - (int)(n.zero[i] >> 4 * j & 15),
			    high = (int)(n.word[i] >> (4 * j + 16) & 15) -
				   (int)(n.zero[i] >> (4 * j + 16) & 15);

			pair[j] = bf16x2_of((float)low * n.scale[i][2 * j],
					    (float)high * n.scale[i][2 * j + 1]);
		}
		u.x = pair[0], u.y = pair[1], u.z = pair[2], u.w = pair[3];
		*(uint4 *)(to + threadIdx.x / 4 * COLUMNS_ROW + (threadIdx.x % 4 * 2 + i) * 16) = u;
	}
}

/* tiles: of 16 rows, that have some. */
template <bool INT4>
DEVICE void multiply_step(float (*sum)[2][4], const unsigned char *x, const unsigned char *w,
			  unsigned tiles)
{
	unsigned lane = threadIdx.x % WARP, column = threadIdx.x / WARP * 16;

	UNROLL
	for (unsigned k = 0; k < EXPERT_DEPTH; k += 16) {
		uint32_t b[4];

		if (INT4)
			load_matrices_transposed(b, w + (k + lane % 16) * COLUMNS_ROW +
							    (column + lane / 16 * 8) * 2);
		else
			load_matrices(b, w + (column + lane % 8 + lane / 16 * 8) * DEPTH_ROW +
						 k * 2 + lane / 8 % 2 * 16);
		UNROLL
		for (unsigned t = 0; t < EXPERT_ROWS / 16; t++) {
			uint32_t a[4];

			if (t >= tiles)
				break;
			load_matrices(a, x + (t * 16 + lane % 16) * DEPTH_ROW + k * 2 +
						 lane / 16 * 16);
			mma_bf16(sum[t][0], a, b);
			mma_bf16(sum[t][1], a, b + 2);
		}
	}
}

DEVICE void store_sums(const struct expert_product &p, float (*sum)[2][4], const uint32_t *choice,
		       unsigned column)
{
	unsigned lane = threadIdx.x % WARP;

	column += threadIdx.x / WARP * 16 + lane % 4 * 2;
	UNROLL
	for (unsigned t = 0; t < EXPERT_ROWS / 16; t++) {
		UNROLL
		for (unsigned i = 0; i < 4; i++) { /* of rows g and g + 8, of both n8 tiles */
			uint32_t to = choice[t * 16 + lane / 4 + i / 2 * 8];
			unsigned at = column + i % 2 * 8;
			const float *s = sum[t][i % 2] + i / 2 * 2;

			if (to != CUDA_NONE && at < p.w.out)
				*(uint32_t *)(p.y + (size_t)to * p.w.out + at) =
					bf16x2_of(s[0], s[1]);
		}
	}
}

/* The choices of one tile of rows. */
template <bool INT4>
DEVICE void multiply_rows(const struct expert_product &p, unsigned char *memory,
			  const uint32_t *choice, const unsigned char *w, unsigned column,
			  unsigned rows)
{
	unsigned char *x = memory, *weights = memory + 2 * X_STAGE;
	unsigned steps = (p.w.in + EXPERT_DEPTH - 1) / EXPERT_DEPTH, tiles = (rows + 15) / 16;
	float sum[EXPERT_ROWS / 16][2][4];
	struct nibbles n;

	n.group = CUDA_NONE;
	UNROLL
	for (unsigned t = 0; t < EXPERT_ROWS / 16; t++) {
		UNROLL
		for (unsigned i = 0; i < 8; i++)
			sum[t][i / 4][i % 4] = 0;
	}
	copy_rows(p, x, choice, 0);
	if (INT4)
		load_nibbles(p, n, w, column, 0);
	else
		copy_columns(p, weights, (const uint16_t *)w, column, 0);
	copies_end_group();
	for (unsigned s = 0; s < steps; s++) {
		unsigned stage = s % 2, next = (s + 1) % 2;

		if (INT4)
			store_nibbles(n, weights + stage * W_STAGE);
		if (s + 1 < steps) {
			copy_rows(p, x + next * X_STAGE, choice, (s + 1) * EXPERT_DEPTH);
			if (INT4)
				load_nibbles(p, n, w, column, (s + 1) * EXPERT_DEPTH);
			else
				copy_columns(p, weights + next * W_STAGE, (const uint16_t *)w,
					     column, (s + 1) * EXPERT_DEPTH);
		}
		copies_end_group();
		copies_wait<1>();
		sync_block();
		multiply_step<INT4>(sum, x + stage * X_STAGE, weights + stage * W_STAGE, tiles);
		sync_block();
	}
	store_sums(p, sum, choice, column);
}

/* Blocks: columns, experts. */
template <bool INT4>
static __global__ void THREADS_OF_BLOCK(EXPERT_THREADS) expert_kernel(struct expert_product p)
{
	BLOCK_MEMORY(memory);
	uint32_t *choice = (uint32_t *)(memory + 2 * (X_STAGE + W_STAGE));
	unsigned count = p.count[blockIdx.y], column = blockIdx.x * EXPERT_COLUMNS;
	const unsigned char *w = (const unsigned char *)p.w.weights + blockIdx.y * p.w.stride;

	for (unsigned first = 0; first < count; first += EXPERT_ROWS) {
		unsigned rows = min(count - first, (unsigned)EXPERT_ROWS);

		for (unsigned r = threadIdx.x; r < EXPERT_ROWS; r += EXPERT_THREADS)
			choice[r] =
				r < rows ? p.list[blockIdx.y * p.stride + first + r] : CUDA_NONE;
		sync_block();
		multiply_rows<INT4>(p, memory, choice, w, column, rows);
		sync_block();
	}
}

int cuda_expert_product(cudaStream_t stream, const struct cuda_experts *w, unsigned experts,
			const uint32_t *list, const uint32_t *count, size_t n, const uint16_t *x,
			unsigned choices_a_row, uint16_t *y)
{
	struct expert_product p = {*w, list, count, n, x, choices_a_row, y};
	dim3 blocks(divide_up(w->out, EXPERT_COLUMNS), experts);
	size_t memory = 2 * (X_STAGE + W_STAGE) + EXPERT_ROWS * sizeof(uint32_t);

	if (w->in % 8 || w->out % 8 || !choices_a_row ||
	    (w->group && (w->group % EXPERT_DEPTH || w->in % w->group)))
		return CUDA_INVALID;
	if (!n)
		return 0;
	return w->group ? launch(expert_kernel<true>, blocks, EXPERT_THREADS, memory, stream, p)
			: launch(expert_kernel<false>, blocks, EXPERT_THREADS, memory, stream, p);
}

/* --- Their sum --- */

struct expert_sum {
	const uint16_t *x;
	const float *weight;
	unsigned used;
	uint16_t *y;
	size_t width, numbers;
};

static __global__ void expert_sum_kernel(struct expert_sum s)
{
	size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * 8, row = i / s.width;
	struct eight sum = {{0}};

	if (i >= s.numbers)
		return;
	for (unsigned k = 0; k < s.used; k++) {
		size_t choice = row * s.used + k;
		struct eight e = load_bf16(s.x + choice * s.width + i % s.width);

		UNROLL
		for (int j = 0; j < 8; j++)
			sum.v[j] = fmaf(s.weight[choice], e.v[j], sum.v[j]);
	}
	store_bf16(s.y + i, sum);
}

int cuda_expert_sum(cudaStream_t stream, const uint16_t *x, const float *weight, unsigned used,
		    uint16_t *y, size_t n, size_t width)
{
	struct expert_sum s = {x, weight, used, y, width, n * width};

	if (width % 8)
		return CUDA_INVALID;
	return n ? launch(expert_sum_kernel, divide_up(n * width, 256 * 8), 256, 0, stream, s) : 0;
}
