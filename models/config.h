/* SPDX-License-Identifier: MIT
 *
 * config: what config.json, generation_config.json and preprocessor_config.json of a model folder
 * say, checked, in one spelling.
 *
 * Both spellings of transformers 4 and 5 are read: fields of the language model at the top level or
 * in text_config, rope_theta and rope_scaling or rope_parameters. Whatever this engine would have
 * to know to compute the right numbers, and does not (another rope type, a sliding window,
 * quantised weights), is an error and never ignored.
 */
#ifndef MODELS_CONFIG_H
#define MODELS_CONFIG_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum family {
	FAMILY_QWEN3,	   /* text alone */
	FAMILY_QWEN2_5_VL, /* Nanonets-OCR2-3B, Nanonets-OCR-s */
	FAMILY_QWEN3_VL,   /* Qwen3-VL, Chandra 1 */
	FAMILY_PHI3,	   /* Phi-4-mini: text alone */
};

enum { LAYERS_MAX = 1024, EXPERTS_MAX = 1024, ROPE_MAX = 128 /* frequencies */ };

struct text_config {
	unsigned hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, max_positions;
	float eps;
	double rope_theta;
	unsigned
		mrope[3]; /* rope frequencies of the time, row and column axes; all 0: plain rope */
	bool mrope_interleaved; /* T H W T H W ... instead of T..., H..., W... */
	unsigned rotary;	/* numbers of a head that rope turns, the first ones; the rest stay */
	/* longrope: what divides each frequency in sequences of up to `switch_at` tokens, and in longer
	 * ones; 0: nothing does. */
	unsigned switch_at;
	float factor[2][ROPE_MAX];
	float rope_scale; /* of cosines and sines */
	bool qkv_bias, qk_norm, tied;
	bool stacked; /* q, k and v are saved as one tensor, and so are gate and up */

	unsigned experts; /* 0: every layer has one feed-forward, of `intermediate` */
	unsigned experts_used, expert_intermediate;
	bool expert_weights_normed; /* those of the experts used add up to 1 */
	bool routed[LAYERS_MAX];    /* the layers that have experts */
};

enum { VISION_BLOCKS_MAX = 256 };

struct vision_config {
	unsigned depth; /* 0: no vision tower */
	unsigned hidden, heads, intermediate;
	unsigned patch;		      /* pixels a side */
	unsigned temporal;	      /* frames a patch; a page is repeated */
	unsigned merge;		      /* patches a side that make one token */
	unsigned out;		      /* = text hidden */
	unsigned window;	      /* Qwen2.5: pixels a side */
	unsigned positions;	      /* Qwen3: side of the learned grid of positions */
	bool full[VISION_BLOCKS_MAX]; /* Qwen2.5: blocks that attend to the whole page */
	unsigned deepstack[8],
		deepstacks; /* Qwen3: blocks whose output goes to the first text layers */
};

struct image_config {
	uint64_t min_pixels, max_pixels;
	float mean[3], std[3];
};

struct generation_config {
	unsigned eos[16], eos_count;
	bool sample;
	unsigned top_k;
	double temperature, top_p, min_p, repetition_penalty;
};

struct model_config {
	enum family family;
	const char *architecture; /* static */
	struct text_config text;
	struct vision_config vision;
	struct image_config image;
	struct generation_config generation;
	unsigned image_token, vision_start, vision_end;
	uint32_t awq_group; /* of quantised weights, as weights_set_group() */
};

enum rc model_config_load(struct model_config *, const char *folder, struct err *);

/* Can this engine read models of this architecture, as config.json calls it? */
bool model_architecture_known(const char *architecture);

/* config.json alone, for random weights: bench and tests. */
enum rc model_config_load_file(struct model_config *, const char *path, struct err *);
/* The same, parsed; `name` is for messages. */
enum rc model_config_read(struct model_config *, const json_t *root, const char *name, struct err *);

#endif
