/* SPDX-License-Identifier: MIT
 *
 * cuda/device: the GPU as a device of compute.h. device.c holds weights, cache and calls together,
 * language.c runs the language model, tower.c the vision tower. Private to this folder.
 */
#ifndef MODELS_CUDA_DEVICE_H
#define MODELS_CUDA_DEVICE_H

#include "compute.h"
#include "cuda/gpu.h"
#include "text_weights.h"
#include "vision_tower.h"

enum {
	CUDA_ROWS = 4096,   /* of a step */
	CUDA_LOGITS = 128,  /* rows of logits at a time */
};

/* Memory of the GPU that grows when it has to. */
struct cuda_buffer {
	void *data;
	size_t size;
};

struct cuda_packer {
	struct packer packer;
	struct gpu *gpu;
};

struct language;
struct tower;

struct cuda {
	struct compute compute;
	struct gpu *gpu;
	struct cuda_packer packer;
	struct model_config config;
	struct text_weights text;
	struct vision *vision; /* weights alone; NULL: text alone */
	struct language *language;
	struct tower *tower;
	struct cuda_kv kv; /* of layer 0; the others follow, each a page's size further */
	size_t page_size;
	char *blocks;
};

/* Room for `size` bytes; what was in it is gone. Ends the process when there is none: what steps need
 * was there when the model was opened. */
void *cuda_room(struct cuda *, struct cuda_buffer *, size_t size);
void cuda_drop(struct cuda *, struct cuda_buffer *);

/* A product with packed weights, without its bias. */
void cuda_multiply(struct cuda *, enum gpu_rows, const struct linear *, const uint16_t *x, size_t n,
		   void *y, bool wide);

/* The bias of packed weights, bf16 in the GPU's memory, or NULL. */
static inline const uint16_t *cuda_bias_of(const struct linear *l)
{
	return (const uint16_t *)(const void *)l->bias;
}

static inline size_t cuda_round(size_t n)
{
	return (n + 7) / 8 * 8;
}

/* language.c. RC_FATAL when it does not fit. */
enum rc language_open(struct cuda *, struct err *);
void language_close(struct cuda *);
void language_forward(struct cuda *, const struct text_row *, size_t count);

/* tower.c. Features lie in the host's memory, as bf16. */
void tower_open(struct cuda *);
void tower_close(struct cuda *);
enum rc tower_see(struct cuda *, const float *patches, unsigned rows, unsigned columns,
		  struct features *, struct err *);

#endif
