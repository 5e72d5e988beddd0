/* SPDX-License-Identifier: MIT
 *
 * cuda/kernels: what the engine computes on a GPU beside the matrix products.
 *
 * Every function puts its kernels on a stream and returns at once: 0, or the cudaError_t of the
 * launch (cudaGetErrorString() names it; CUDA_INVALID: arguments that no kernel is built for). All
 * pointers are to device memory and aligned to 16 bytes, but for those called host; n = 0 does
 * nothing. Nothing is allocated, nothing is synchronised: all may be captured into a CUDA graph.
 *
 * Numbers: the residual stream x is fp32; what goes into a product and comes out of one is bf16
 * (uint16_t here), so are the weights of norms and the biases; norms, softmax and rotation are
 * computed in fp32. Matrices are row-major and contiguous unless a stride is given. Widths of bf16
 * rows are multiples of 8, so that 16 bytes move at a time.
 *
 * Invariant: as on the CPU, what comes out for a row depends on that row and on its own sequence
 * alone, to the bit: not on the number of rows, the row's place among them, the upper bounds that
 * grids are made from, nor on how a prompt was cut into calls. All sums are taken in fixed orders;
 * there are no atomics on floats. (Prefill and decode add up in different orders: a token's own
 * result differs in rounding between the two.)
 *
 * The reference is models/kernels/ on the CPU.
 */
#ifndef MODELS_CUDA_KERNELS_H
#define MODELS_CUDA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st *cudaStream_t; /* as in the toolkit, which need not be there */

enum {
	CUDA_INVALID = 1,	      /* cudaErrorInvalidValue */
	CUDA_KV_PAGE = 32,	      /* tokens; as KV_PAGE */
	CUDA_DECODE_SPLIT = 512,      /* keys that one block of decode attention reads */
	CUDA_PREFILL_ROWS = 128,      /* query vectors (tokens x query heads a KV head) a tile */
	CUDA_SEGMENT_TILE = 128,      /* tokens a tile of attention within long segments, or ... */
	CUDA_SEGMENT_TILE_SHORT = 64, /* ... windows */
	CUDA_DIM_MAX = 128,	      /* of a head */
	CUDA_WIDTH_MAX = 8192,	      /* of a row that is normed; a multiple of 8 */
};

#define CUDA_NONE   UINT32_MAX
#define CUDA_CHOSEN UINT32_C(0x80000000)

/*
 * One row of the language model: a token of a sequence. An array of them on the device serves all
 * layers of a step. A row that only fills up a graph's batch needs a page of its own, which it may
 * share with others of its kind.
 */
struct cuda_row {
	uint32_t table;	      /* where its sequence's page table starts in `tables` */
	uint32_t index;	      /* of the token in its sequence: it attends to 0 .. index */
	uint32_t position[3]; /* time, row, column, as text_row has them */
	/* Its id; or CUDA_CHOSEN | slot: the one that cuda_choose() left in chosen[slot]. */
	uint32_t token;
	uint32_t embedding; /* row in the vision buffers, instead of the token; or CUDA_NONE */
	uint32_t far;	    /* not 0: it turns by the second half of `inverse` */
};

/* --- Rows of the language model (rows.cu) --- */

/* x [n][hidden] fp32 = table[token] or vision[embedding]; table [vocab][hidden], vision
 * [any][hidden] bf16 (NULL where no row has an embedding); chosen: see cuda_row (NULL where no row
 * asks for it). */
int cuda_embed(cudaStream_t, const struct cuda_row *rows, size_t n, size_t hidden,
	       const uint16_t *table, const uint16_t *vision, const uint32_t *chosen, float *x);

/*
 * For each row: x += delta; x += deepstack[row's embedding], where it has one; y = norm(x) *
 * weight. delta [n][width] bf16 or NULL; deepstack [any][width] bf16, with rows, or both NULL; y
 * bf16 or NULL: add alone. width <= 8192.
 */
int cuda_add_rms_norm(cudaStream_t, float *x, const uint16_t *delta, const uint16_t *deepstack,
		      const struct cuda_row *rows, const uint16_t *weight, float eps, uint16_t *y,
		      size_t n, size_t width);

/* The last one: y[i] = norm(x[pick[i]] + delta[pick[i]] + ...) for i < n; x stays. */
int cuda_pick_rms_norm(cudaStream_t, const float *x, const uint16_t *delta,
		       const uint16_t *deepstack, const struct cuda_row *rows, const uint32_t *pick,
		       const uint16_t *weight, float eps, uint16_t *y, size_t n, size_t width);

/* x += delta (or NULL); y = (x - mean) / sqrt(variance + eps) * weight + bias. */
int cuda_add_layer_norm(cudaStream_t, float *x, const uint16_t *delta, const uint16_t *weight,
			const uint16_t *bias, float eps, uint16_t *y, size_t n, size_t width);

/* y [n][width] = silu(gate + bias) * (up + bias): gate_up [n][2 width], gate first; bias [2 width]
 * or NULL. */
int cuda_silu_gate(cudaStream_t, const uint16_t *gate_up, const uint16_t *bias, uint16_t *y,
		   size_t n, size_t width);

/* In place, bias [width] or NULL: y = f(y + bias). */
int cuda_gelu_tanh(cudaStream_t, uint16_t *y, const uint16_t *bias, size_t n, size_t width);
int cuda_gelu_erf(cudaStream_t, uint16_t *y, const uint16_t *bias, size_t n, size_t width);
int cuda_bias(cudaStream_t, uint16_t *y, const uint16_t *bias, size_t n, size_t width);

/* --- For products of fp8 (quantise.cu) --- */

/*
 * Each row x [n][width] as codes [n][width] in e4m3 times scale [n]: its largest number becomes 448, rounding
 * is to nearest, ties to even. A row of zeros has the scale 0, one with an infinity or a NaN has NaN. width a
 * multiple of 16.
 */
int cuda_quantise(cudaStream_t, const uint16_t *x, uint8_t *codes, float *scale, size_t n, size_t width);

/* --- Experts (experts.cu) --- */

enum { CUDA_EXPERTS_MAX = 1024 };

/*
 * Each row chooses `used` of the experts, as experts_choose() of experts.h: expert and weight [n][used] are
 * its choices. logits [n][stride] fp32.
 */
int cuda_route(cudaStream_t, const float *logits, size_t stride, size_t n, unsigned experts,
	       unsigned used, bool normed, uint32_t *expert, float *weight);

/* Which choices (row * used + k) are each expert's: list [experts][n], count [experts]. In no order. */
int cuda_group(cudaStream_t, const uint32_t *expert, size_t n, unsigned experts, unsigned used,
	       uint32_t *list, uint32_t *count);

/*
 * The weights of all experts of a layer, one behind the other. bf16: [out][in]. int4: words [in][out / 8],
 * zeros [in / group][out / 8] and fp32 scales [in / group][out], nibbles in the order of AWQ; in and
 * group are multiples of 32.
 */
struct cuda_experts {
	const void *weights;
	size_t stride; /* bytes an expert, a multiple of 16 */
	size_t zeros, scales; /* where they lie in an expert */
	unsigned in, out; /* multiples of 8 */
	unsigned group;	  /* 0: bf16 */
};

/* y [choice][out] = the choice's expert times row choice / choices_a_row of x [any][in], for all choices in
 * the lists. An int4 weight is rounded to bf16. */
int cuda_expert_product(cudaStream_t, const struct cuda_experts *, unsigned experts,
			const uint32_t *list, const uint32_t *count, size_t n, const uint16_t *x,
			unsigned choices_a_row, uint16_t *y);

/* y [n][width] = the sum of each row's choices x [n][used][width], by their weights, in their order. */
int cuda_expert_sum(cudaStream_t, const uint16_t *x, const float *weight, unsigned used, uint16_t *y,
		    size_t n, size_t width);

/* --- Adapters (adapt.cu) --- */

enum {
	CUDA_ADAPTED_MAX = 4,	/* adapters of a row */
	CUDA_ADAPTED_ROWS = 16, /* of a tile */
	CUDA_PARTS_MAX = 3,
};

/*
 * What one adapter adds to one product, part by part: the columns first[i] .. first[i] + out[i] of its
 * result, all multiples of 8, get b[i] times `rank` numbers of scale * a x, those from rank * i on. These
 * are rounded to bf16.
 */
struct cuda_addition {
	const uint16_t *a;		   /* [parts * rank][in] */
	const uint16_t *b[CUDA_PARTS_MAX]; /* [out[i]][rank] */
	uint32_t first[CUDA_PARTS_MAX], out[CUDA_PARTS_MAX];
	uint32_t parts, rank; /* parts: 0: nothing; rank: a multiple of 8 */
	float scale;
};

/* A tile: rows of a step that go by the same adapters, in the same order. An array of them on the device
 * serves all layers of a step; those without rows only fill it up. */
struct cuda_adapted {
	const struct cuda_addition *adapter[CUDA_ADAPTED_MAX]; /* each an array of the device, by place */
	uint32_t adapters, rows, row[CUDA_ADAPTED_ROWS];
};

struct cuda_adaptation {
	const struct cuda_adapted *tiles;
	size_t place;
	unsigned most;	    /* adapters of a row */
	size_t in, out;	    /* of the product, multiples of 8 */
	size_t width;	    /* parts * rank of the widest adapter in this place */
	const uint16_t *x;  /* [any][in] */
	uint16_t *low;	    /* scratch, [any][most][width] */
	uint16_t *y;	    /* [any][out], what the product gave */
};

/* y += what the adapters of each row add, in their order in fp32, and rounded once. In a row that is in no
 * tile nothing changes, and no row is in two. */
int cuda_adapt(cudaStream_t, const struct cuda_adaptation *, size_t tiles);

/* --- Keys and values (qkv.cu) --- */

enum cuda_kv_number {
	CUDA_KV_BF16,
	CUDA_KV_E4M3, /* one byte a number, and a bf16 scale for each token, head and K or V */
};

/*
 * The cache of one layer. A page is CUDA_KV_PAGE tokens of one layer of one sequence; page p lies
 * at pages + p * stride, so that layers may lie within a page's block or blocks within a layer.
 *
 * In a page, head by head: K [32][dim], V [32][dim], and with E4M3 the scales, K [32] and V [32]
 * bf16. So what one block of decode attention reads of a page is one run of 16 KiB (bf16, dim 128),
 * in whole lines of memory, and copies go into shared memory 16 bytes at a time without a gather;
 * tokens stay rows because K is then the second operand of m16n8k16 as it lies, and V with
 * ldmatrix.trans. A scale a token needs no calibration, no value is ever clipped and none is
 * written twice; it costs 1.6 % of the bytes at dim 128, and carries a NaN, which e4m3 alone would
 * lose.
 *
 * What a page holds beyond its sequence's tokens is never looked at: pages need not be cleared.
 */
struct cuda_kv {
	void *pages;
	size_t stride;	/* bytes, a multiple of 16 */
	unsigned heads; /* key/value heads */
	unsigned dim;	/* a multiple of 16, up to CUDA_DIM_MAX */
	enum cuda_kv_number number;
};

/* Bytes of a page of one layer: a multiple of 16. */
size_t cuda_kv_page_size(unsigned heads, unsigned dim, enum cuda_kv_number number);

/* cosine, sine [n][half], times scale: frequency j turns by position[axis[j]] * inverse[j], and in rows that
 * are far by inverse[half + j]; once a step. */
int cuda_text_angles(cudaStream_t, const struct cuda_row *rows, size_t n, const float *inverse,
		     const uint8_t *axis, unsigned half, float scale, float *cosine, float *sine);

struct cuda_qkv {
	const uint16_t *qkv;  /* [n][(q_heads + 2 kv->heads) dim], as the product left it */
	const uint16_t *bias; /* of as many columns, or NULL */
	const uint16_t *q_norm, *k_norm; /* [dim], or both NULL */
	float eps;
	const float *cosine, *sine; /* [n][rotary / 2] */
	unsigned rotary;	    /* numbers of a head that turn, the first; a multiple of 4 */
	unsigned q_heads;	    /* a multiple of kv->heads */
	uint16_t *q;		    /* out [n][q_heads dim] */
};

/* Bias, norm and rotation; q goes to q, k and v into the pages of the rows. tables: page numbers.
 */
int cuda_qkv_store(cudaStream_t, const struct cuda_kv *kv, const struct cuda_row *rows,
		   const uint32_t *tables, size_t n, const struct cuda_qkv *);

/* --- Attention over pages --- */

struct cuda_attention {
	const struct cuda_row *rows;
	const uint32_t *tables;
	const uint16_t *q; /* [rows][q_heads dim] */
	uint16_t *out;	   /* the same */
	unsigned q_heads;
	float scale;
};

/*
 * Decode (decode.cu): n rows, one token each, any number of keys. max_keys: no row has more (index
 * + 1); what the grid is made for, so a graph may be captured with a bound and replayed below it.
 * scratch: cuda_decode_scratch() bytes for these n and max_keys or larger ones.
 */
size_t cuda_decode_scratch(size_t n, unsigned q_heads, unsigned dim, size_t max_keys);
int cuda_attention_decode(cudaStream_t, const struct cuda_kv *kv, const struct cuda_attention *,
			  size_t n, size_t max_keys, void *scratch);

/*
 * Prefill (prefill.cu): causal, rows of any sequences side by side, those of one sequence beside
 * each other in ascending order. Their keys must be stored before. q_heads / kv->heads <=
 * CUDA_PREFILL_ROWS. A value that is not finite spoils the rows before it that are in its tile, too.
 */
struct cuda_tile {
	uint32_t first, count; /* rows */
	uint32_t start, end;   /* segments: where the tile's segment lies; else unused */
};

/* Host: cut rows into tiles, n at most; returns their number. Longest first keeps the GPU even. */
size_t cuda_prefill_tiles(const struct cuda_row *host_rows, size_t n, unsigned group,
			  struct cuda_tile *host_tiles);
int cuda_attention_prefill(cudaStream_t, const struct cuda_kv *kv, const struct cuda_attention *,
			   const struct cuda_tile *tiles, size_t count);

/* --- Vision (vision.cu, segments.cu) --- */

/*
 * Where a patch lies, in patches, and on how large a page. Patches may come in any order that
 * attention can use: for Qwen2.5-VL in that of the windows, so that a window is a run of rows;
 * tokens come out in the same order, and cuda_row.embedding finds them.
 */
struct cuda_patch {
	uint16_t row, column, rows, columns;
};

/*
 * x [n][width] fp32 = embed + bias + positions: embed [n][width] as the product left it; bias or
 * NULL; positions [side * side][width], stretched over the page bilinearly with corners on corners
 * (Qwen3-VL), or NULL.
 */
int cuda_patches(cudaStream_t, const uint16_t *embed, const uint16_t *bias,
		 const uint16_t *positions, unsigned side, const struct cuda_patch *patches,
		 float *x, size_t n, size_t width);

/* cosine, sine [n][2 quarter]: first the row's angles, then the column's; inverse [quarter]. */
int cuda_vision_angles(cudaStream_t, const struct cuda_patch *patches, size_t n,
		       const float *inverse, unsigned quarter, float *cosine, float *sine);

/* In place: qkv [n][3 heads dim] += bias (or NULL); q and k are rotated. dim a multiple of 8. */
int cuda_vision_rotate(cudaStream_t, uint16_t *qkv, const uint16_t *bias, const float *cosine,
		       const float *sine, size_t n, unsigned heads, unsigned dim);

/*
 * Every token to every token of its segment: q at qkv, k and v `heads dim` and twice that further,
 * [tokens][3 heads dim]; out [tokens][heads dim]. dim: a multiple of 8, up to CUDA_DIM_MAX (64, 80
 * and 128 are computed as such, others padded to the next).
 *
 * Tiles come from cuda_segment_tiles() and have `tile_rows`, CUDA_SEGMENT_TILE or _SHORT: which of
 * the two does not show in the result. The host's segments are count + 1 ascending offsets; it
 * writes at most tokens / tile_rows + count tiles.
 */
size_t cuda_segment_tiles(const uint32_t *host_segments, size_t count, unsigned tile_rows,
			  struct cuda_tile *host_tiles);
int cuda_attention_segments(cudaStream_t, const uint16_t *qkv, uint16_t *out, unsigned heads,
			    unsigned dim, float scale, const struct cuda_tile *tiles, size_t count,
			    unsigned tile_rows);

/* --- The next token (sample.cu) --- */

/* As struct sampling of sampler.h, one a row; an array of them on the device. */
struct cuda_sampling {
	double temperature, top_p, min_p, repetition_penalty;
	uint64_t seed, step;
	uint32_t top_k;
	uint32_t slot; /* where its token goes, and which row of `seen` is its own */
};

enum cuda_choice_status {
	CUDA_CHOICE_VALID,
	CUDA_CHOICE_NAN, /* a NaN among the logits, or no finite one: token is 0 */
	/* The draw is among more candidates than are sorted here: sampler_choose() on the host,
	 * which also has to put the token into chosen and seen. */
	CUDA_CHOICE_HOST,
};

struct cuda_choice {
	uint32_t token;
	float log_probability;
	uint32_t status;
	uint32_t unused;
};

/*
 * logits [n][stride] fp32, stay as they are; tokens >= limit are never chosen. seen: a bit for each
 * token of prompt and output so far, [slots][seen_stride] words, bit t % 32 of word t / 32; the one
 * chosen is added; NULL where no row has a penalty. chosen: [slots], for the next cuda_embed(), or
 * NULL. choices [n]. scratch: cuda_choose_scratch() bytes. The choice is sampler_choose()'s for
 * equal logits; where it draws, up to the last bits of exp() in fp64.
 */
size_t cuda_choose_scratch(size_t n, size_t limit);
int cuda_choose(cudaStream_t, const float *logits, size_t stride, size_t limit,
		const struct cuda_sampling *how, size_t n, uint32_t *seen, size_t seen_stride,
		uint32_t *chosen, struct cuda_choice *choices, void *scratch);

#ifdef __cplusplus
}
#endif

#endif
