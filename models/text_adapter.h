/* SPDX-License-Identifier: MIT
 *
 * text_adapter: an adapter (adapter.h) as the device has it, beside the projections of
 * text_weights.h.
 */
#ifndef MODELS_TEXT_ADAPTER_H
#define MODELS_TEXT_ADAPTER_H

#include "adapter.h"
#include "config.h"
#include "weights/packer.h"

/* The linears of struct text_layer. */
enum text_linear { TEXT_QKV, TEXT_O, TEXT_GATE_UP, TEXT_DOWN, TEXT_LINEARS };

/* What is added to one of them: its parts (q, k and v) are adapted one by one. */
struct text_addition {
	unsigned count;	 /* parts; 0: it is not adapted */
	struct linear a; /* of all parts, one below the other: [count * rank][in] */
	struct linear b[3];
	size_t first[3]; /* the column that each part's result is added to */
};

struct text_adapter {
	unsigned layers, rank;
	float scale;
	size_t widest; /* numbers of the widest part */
	struct text_addition (*layer)[TEXT_LINEARS];
};

/* RC_FATAL names what does not fit the model; nothing is left then. */
enum rc text_adapter_load(struct text_adapter *, const struct text_config *, struct adapter *,
			  const struct packer *, struct err *);
void text_adapter_free(struct text_adapter *, const struct packer *);

#endif
