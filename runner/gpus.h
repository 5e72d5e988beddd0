/* SPDX-License-Identifier: MIT
 *
 * gpus: on which device a pipeline's model reads, and which GPUs there are for it.
 *
 * GPUs are those of $CUDA_VISIBLE_DEVICES, in its order and by its names, where it is set; else the
 * machine's, counted by their device nodes.  Each gets a process of its own.
 */
#ifndef RUNNER_GPUS_H
#define RUNNER_GPUS_H

#include "pipeline.h"

#include <stdbool.h>

struct gpu {
	char *visible; /* "CUDA_VISIBLE_DEVICES=1" */
	unsigned deaths; /* of its processes in a row, without a result */
	bool used;       /* by a process */
	bool lost;       /* its processes do not come up, or die again and again */
};

/* The GPUs of a pipeline, *n of them, the array is the caller's; none: it reads on the CPU. RC_FATAL when
 * it asks for what is not there. */
enum rc gpus_find(const struct pipeline *p, struct gpu **gpus, size_t *n, struct err *err);
void gpus_free(struct gpu *gpus, size_t n);

/* One that is free; NULL: none. */
struct gpu *gpus_take(struct gpu *gpus, size_t n);
/* Those that are not lost. */
size_t gpus_left(const struct gpu *gpus, size_t n);

#endif
