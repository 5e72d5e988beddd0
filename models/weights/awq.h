/* SPDX-License-Identifier: MIT
 *
 * awq: matrices of 4 bits a number, as AutoAWQ saves them in its version "gemm": instead of
 * NAME.weight
 *
 *   NAME.qweight I32 [columns][rows / 8]		NAME.qzeros I32 [columns / group][rows / 8]
 *   NAME.scales  F16, BF16 or F32 [columns / group][rows]
 *
 * Which matrices are saved so is for the tensors to say, and how for quantization_config of
 * config.json.
 */
#ifndef MODELS_WEIGHTS_AWQ_H
#define MODELS_WEIGHTS_AWQ_H

#include "weights/safetensors.h"

/* NAME.weight as weights_take() has it, or the three of AWQ. RC_FATAL names the tensor that is
 * wrong. */
enum rc weights_take_linear(struct weights *, const char *name, uint64_t rows, uint64_t columns,
			    struct matrix *, struct err *);

/* A line in the log for each of quantization_config's modules_to_not_convert that was converted all
 * the same: the tensors win. Returns how many there are. */
unsigned weights_compare_awq(const struct weights *, const char *folder);

#endif
