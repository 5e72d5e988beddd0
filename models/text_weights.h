/* SPDX-License-Identifier: MIT
 *
 * text_weights: the tensors of a language model, as the device has them. h is hidden, d head_dim.
 */
#ifndef MODELS_TEXT_WEIGHTS_H
#define MODELS_TEXT_WEIGHTS_H

#include "config.h"
#include "weights/packer.h"

/* The feed-forwards of a routed layer, each [expert_intermediate]. */
struct text_experts {
	struct linear router; /* [experts, h] */
	unsigned count;	      /* 0: the layer is not routed */
	struct linear *gate_up, *down;
};

struct text_layer {
	struct linear qkv, o;
	struct linear gate_up, down; /* of a layer that is not routed */
	struct text_experts experts;
	vector *input_norm, *post_norm; /* [h] */
	vector *q_norm, *k_norm;	/* [d]; Qwen3 alone, else NULL */
};

struct text_weights {
	unsigned layers;
	struct text_layer *layer;
	struct matrix embed; /* where it lies in the file */
	vector *norm;	     /* [h] */
	struct linear head;
};

/* RC_FATAL names the tensor that is wrong; nothing is left then. */
enum rc text_weights_load(struct text_weights *, const struct text_config *, struct weights *,
			  const struct packer *, struct err *);
void text_weights_free(struct text_weights *, const struct packer *);

/* text_experts.c. The experts of layer `layer`, as text_weights_load(). */
enum rc text_experts_load(struct text_experts *, const struct text_config *, unsigned layer,
			  struct weights *, const struct packer *, struct err *);
void text_experts_free(struct text_experts *, const struct packer *);

/* Rope: frequency j turns by the position on axis[j] times inverse[far][j]; [rotary / 2] each, the caller's.
 * far: in a sequence longer than `switch_at`. */
void text_rope(const struct text_config *, float *inverse, uint8_t *axis);

#endif
