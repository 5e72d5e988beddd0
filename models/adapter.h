/* SPDX-License-Identifier: MIT
 *
 * adapter: LoRA weights beside a model, a folder as PEFT saves it: adapter_config.json and
 * adapter_model.safetensors.
 *
 * A projection W that is adapted computes W x + scale * B (A x), with A [rank][in], B [out][rank]
 * and scale alpha / rank, or alpha / sqrt(rank) with use_rslora.
 *
 * Invariant: nothing of an adapter is left out in silence. A field of the configuration that would
 * change what is computed and is not implemented, a tensor that belongs to no projection of the
 * model, and a projection that the configuration names and the file lacks are errors that name file
 * and field.
 */
#ifndef MODELS_ADAPTER_H
#define MODELS_ADAPTER_H

#include "base/err.h"
#include "kernels/linear.h"

#include <stdbool.h>
#include <stddef.h>

struct adapter;

/* Both files, checked as far as that goes without the model. RC_FATAL. */
enum rc adapter_open(struct adapter **, const char *folder, struct err *);
void adapter_close(struct adapter *);

unsigned adapter_rank(const struct adapter *);
float adapter_scale(const struct adapter *);

/*
 * A and B of `module` ("self_attn.q_proj") in a layer, where they lie in the mapped file; *there is
 * false when it is not adapted. RC_FATAL when their shapes are not those of [out][in], or when they
 * should be there.
 */
enum rc adapter_take(struct adapter *, unsigned layer, const char *module, size_t out, size_t in,
		     struct matrix *a, struct matrix *b, bool *there, struct err *);

/* RC_FATAL naming the first projection that nobody took: the model has none that is called so. */
enum rc adapter_all_taken(const struct adapter *, struct err *);

#endif
