/* SPDX-License-Identifier: MIT
 *
 * flash: attention of a tile of query vectors to all keys they may see, 64 keys at a time, scores
 * never in memory (Dao et al., arXiv 2205.14135): what prefill and vision share.
 *
 * A block of WARPS warps has WARPS x MT x 16 query vectors; a warp keeps its own MT m16 tiles of q
 * and of the result in registers and reads every key and value from the block's memory, so each
 * ldmatrix serves MT products. Keys and values of the next 64 are copied while the block computes
 * on those before. Shared memory: 2 stages of 64 keys and values, rows padded by 16 bytes (no two of
 * 8 meet in a bank): 36, 44 or 68 KiB for DIM 64, 80 or 128; q comes straight from memory. Moved
 * from the L2 cache: all keys and values of a head once a tile.
 *
 * A source, whose functions are found by its type, says where things lie:
 *	source_keys(source)		of the tile's longest row
 *	source_unmasked(source)		of its shortest
 *	source_limit(source, m)		of row m
 *	source_dim(source)		columns beyond are zeros
 *	source_q(source, m)		NULL: there is no such row
 *	source_out(source, m)
 *	source_copy(source, memory, first, stage, threads)	ask for keys first .. first + 63
 *	source_arrived(...)		the same; returns K [64][row], V [64][row]
 *
 * Invariant: a row's result depends on its q and its keys alone: a block of keys beyond its limit
 * weighs 0 and changes nothing, so neither the tile's other rows nor its size show. (Values must be
 * finite: nothing times NaN is NaN.)
 */
#ifndef MODELS_CUDA_FLASH_CUH
#define MODELS_CUDA_FLASH_CUH

#include "cuda/tile.cuh"

enum { FLASH_KEYS = 64 };

template <int DIM> struct flash_layout {
	static constexpr int row = DIM * 2 + 16;
	static constexpr int stage = 2 * FLASH_KEYS * row;
};

template <int DIM, int MT>
DEVICE void flash_scores(float (*s)[FLASH_KEYS / 8][4], const uint32_t (*q)[DIM / 16][4],
			 const unsigned char *keys)
{
	constexpr int row = flash_layout<DIM>::row;
	unsigned lane = threadIdx.x % WARP;
	/* Matrices: keys 0-7 at columns 0 and 8, then keys 8-15. */
	const unsigned char *p = keys + (lane % 8 + lane / 16 * 8) * row + lane / 8 % 2 * 16;

	UNROLL
	for (int mt = 0; mt < MT; mt++) {
		UNROLL
		for (int n = 0; n < FLASH_KEYS / 8; n++)
			s[mt][n][0] = s[mt][n][1] = s[mt][n][2] = s[mt][n][3] = 0;
	}
	UNROLL
	for (int k = 0; k < DIM / 16; k++) {
		UNROLL
		for (int n = 0; n < FLASH_KEYS / 8; n += 2) {
			uint32_t m[4];

			load_matrices(m, p + n * 8 * row + k * 32);
			UNROLL
			for (int mt = 0; mt < MT; mt++) {
				mma_bf16(s[mt][n], q[mt][k], m);
				mma_bf16(s[mt][n + 1], q[mt][k], m + 2);
			}
		}
	}
}

template <int DIM, int MT>
DEVICE void flash_values(float (*sums)[DIM / 8][4], float (*s)[FLASH_KEYS / 8][4],
			 const unsigned char *values)
{
	constexpr int row = flash_layout<DIM>::row;
	unsigned lane = threadIdx.x % WARP;
	/* Matrices: keys 0-7, 8-15 at columns 0, then at columns 8. */
	const unsigned char *p = values + lane % 16 * row + lane / 16 * 16;

	UNROLL
	for (int k = 0; k < FLASH_KEYS / 16; k++) {
		uint32_t weights[MT][4];

		UNROLL
		for (int mt = 0; mt < MT; mt++)
			tile_weights(weights[mt], &s[mt][2 * k]);
		UNROLL
		for (int n = 0; n < DIM / 8; n += 2) {
			uint32_t m[4];

			load_matrices_transposed(m, p + k * 16 * row + n * 16);
			UNROLL
			for (int mt = 0; mt < MT; mt++) {
				mma_bf16(sums[mt][n], weights[mt], m);
				mma_bf16(sums[mt][n + 1], weights[mt], m + 2);
			}
		}
	}
}

/* limit: of rows g and g + 8. */
DEVICE void flash_mask(float (*s)[4], const unsigned *limit, unsigned first)
{
	unsigned t = threadIdx.x % 4;

	UNROLL
	for (int n = 0; n < FLASH_KEYS / 8; n++) {
		UNROLL
		for (int i = 0; i < 4; i++)
			if (first + n * 8 + 2 * t + i % 2 >= limit[i / 2])
				s[n][i] = -INFINITY;
	}
}

template <int DIM>
DEVICE void flash_write(float (*sums)[4], struct tile_state &state, uint16_t *low, uint16_t *high,
			unsigned dim)
{
	unsigned t = threadIdx.x % 4;
	float sum[2] = {tile_row_sum(state.sum[0]), tile_row_sum(state.sum[1])};

	UNROLL
	for (int n = 0; n < DIM / 8; n++) {
		if (low && (unsigned)(n * 8) < dim)
			*(uint32_t *)(low + n * 8 + 2 * t) =
				bf16x2_of(sums[n][0] / sum[0], sums[n][1] / sum[0]);
		if (high && (unsigned)(n * 8) < dim)
			*(uint32_t *)(high + n * 8 + 2 * t) =
				bf16x2_of(sums[n][2] / sum[1], sums[n][3] / sum[1]);
	}
}

template <int DIM, int WARPS, int MT, typename SOURCE>
DEVICE void flash(const SOURCE &source, unsigned char *memory, float scale)
{
	constexpr int threads = WARPS * WARP;
	unsigned warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, keys = source_keys(source);
	unsigned limit[MT][2];
	uint32_t q[MT][DIM / 16][4];
	float sums[MT][DIM / 8][4];
	struct tile_state state[MT];

	source_copy(source, memory, 0, 0, threads);
	copies_end_group();
	scale *= LOG2_E;
	UNROLL
	for (int mt = 0; mt < MT; mt++) {
		unsigned m = (warp * MT + mt) * 16 + g;

		limit[mt][0] = source_limit(source, m);
		limit[mt][1] = source_limit(source, m + 8);
		UNROLL
		for (int k = 0; k < DIM / 16; k++)
			tile_q(q[mt][k], source_q(source, m), source_q(source, m + 8), k * 16,
			       source_dim(source));
		tile_start(state[mt]);
		UNROLL
		for (int n = 0; n < DIM / 8; n++)
			sums[mt][n][0] = sums[mt][n][1] = sums[mt][n][2] = sums[mt][n][3] = 0;
	}
	for (unsigned first = 0, stage = 0; first < keys; first += FLASH_KEYS, stage ^= 1) {
		bool masked = first + FLASH_KEYS > source_unmasked(source);
		float s[MT][FLASH_KEYS / 8][4], correction[2];
		const unsigned char *here;

		if (first + FLASH_KEYS < keys)
			source_copy(source, memory, first + FLASH_KEYS, stage ^ 1, threads);
		copies_end_group();
		copies_wait<1>();
		sync_block();
		here = source_arrived(source, memory, first, stage, threads);
		flash_scores<DIM, MT>(s, q, here);
		UNROLL
		for (int mt = 0; mt < MT; mt++) {
			if (masked)
				flash_mask(s[mt], limit[mt], first);
			tile_softmax<FLASH_KEYS / 8>(state[mt], s[mt], scale, correction);
			tile_correct<DIM / 8>(sums[mt], correction);
		}
		flash_values<DIM, MT>(sums, s, here + FLASH_KEYS * flash_layout<DIM>::row);
		sync_block();
	}
	copies_wait<0>();
	UNROLL
	for (int mt = 0; mt < MT; mt++) {
		unsigned m = (warp * MT + mt) * 16 + g;

		flash_write<DIM>(sums[mt], state[mt], source_out(source, m),
				 source_out(source, m + 8), source_dim(source));
	}
}

#endif
