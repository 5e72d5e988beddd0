/* SPDX-License-Identifier: MIT
 *
 * cuda/device: the GPU as a device of compute.h. device.c holds weights, cache and calls together,
 * language.c runs the language model, adapters.c what adapters add to it, tower.c the vision tower. Private to this
 * folder.
 */
#ifndef MODELS_CUDA_DEVICE_H
#define MODELS_CUDA_DEVICE_H

#include "compute.h"
#include "cuda/gpu.h"
#include "cuda/memory.h"
#include "cuda/replay.h"
#include "text_adapter.h"
#include "text_weights.h"
#include "vision_tower.h"

enum {
	CUDA_ROWS = 4096,     /* of a step */
	CUDA_FLIGHTS = 2,     /* steps under way */
	CUDA_LOOKS = 2,	      /* and passes of the tower */
	CUDA_PATCHES = 16384, /* of pages in one pass, unless one alone has more */
	CUDA_SEQUENCES = 64,  /* unless somebody says another number */
	CUDA_ROWS_FEW = GPU_FEW_MOST,  /* of an H100: from 263 on a product's operations take longer than its weights */
	CUDA_BUFFERS_MAX = 96,
	CUDA_PINNED_MAX = 32,
};

/* Memory of the GPU for steps or pages: announced (cuda_need()) before weights are loaded, taken behind
 * them, and never again. */
struct cuda_buffer {
	void *data;
	size_t size;
};

/* Memory of the host that the GPU reaches by itself. */
struct cuda_pinned {
	void **at; /* where its address is to go */
	size_t size;
};

struct cuda_packer {
	struct packer packer;
	struct gpu *gpu;
	struct memory_plan *plan; /* not NULL: nothing is loaded, it is only said how much it would be, */
	enum memory_part part;	  /* here */
	enum number number;	  /* of linear(): BF16 or E4M3 */
};

struct language;
struct tower;
struct cuda_adapters;

struct cuda {
	struct compute compute;
	struct gpu *gpu, *eye; /* eye: the tower's stream, where there is one */
	struct cuda_packer packer, layers; /* layers: of the language model */
	struct model_config config;
	struct text_weights text;
	struct vision *vision; /* weights alone; NULL: text alone */
	struct language *language;
	struct tower *tower;
	struct cuda_adapters *adapters; /* NULL: there are none */
	struct memory_plan plan;
	struct memory_cache cache; /* what is wanted of it */
	size_t room;		   /* bytes that were free before anything was loaded */
	struct cuda_buffer *buffers[CUDA_BUFFERS_MAX];
	size_t buffer_count;
	void *pinned[CUDA_PINNED_MAX];
	size_t pinned_count;
	struct cuda_kv kv; /* of layer 0; the others follow, each a page's size further */
	size_t page_size;
	uint32_t spare_block; /* behind those of the cache */
	struct replays *replays;
	bool any_order; /* compute_options.any_order */
	size_t picks; /* rows of a step whose logits can be asked for: a sequence's last, and guesses */
};

/* `count` pieces of `size` bytes will be needed in the buffer. */
void cuda_need(struct cuda *, struct cuda_buffer *, enum memory_part, size_t count, size_t size);

/* So many bytes of the buffer are used: no more than were announced. */
void cuda_announced(const struct cuda_buffer *, size_t size);

/* All of them, until the device is closed. RC_FATAL: it is not to be had. */
enum rc cuda_pin(struct cuda *, const struct cuda_pinned *, size_t count, struct err *);

/* A matrix as bf16, padded with zeros to [rows][width]. */
void cuda_write_part(struct gpu *, uint16_t *to, const struct matrix *, size_t rows, size_t width);

/* A product with packed weights of bf16, without its bias. */
void cuda_multiply(struct gpu *, enum gpu_rows, const struct linear *, const uint16_t *x, size_t n,
		   void *y, bool wide);

/* RC_FATAL: there is no room for so many bytes of weights. */
enum rc cuda_full(const struct gpu *, size_t size, struct err *);

/* The experts whose first is this. */
struct cuda_experts cuda_experts_of(const struct linear *);

/* The bias of packed weights, bf16 in the GPU's memory, or NULL. */
static inline const uint16_t *cuda_bias_of(const struct linear *l)
{
	return (const uint16_t *)(const void *)l->bias;
}

static inline size_t cuda_round(size_t n)
{
	return (n + 7) / 8 * 8;
}

static inline size_t cuda_round_fp8(size_t n)
{
	return (n + 15) / 16 * 16;
}

/* language.c. plan: announces what it needs, from the shapes of the weights and the options; open: when
 * all that is there (RC_FATAL: the host has no memory for the GPU to reach). */
void language_plan(struct cuda *);
enum rc language_open(struct cuda *, struct err *);
void language_close(struct cuda *);
void language_begin(struct cuda *, const struct text_row *, size_t count);
void language_end(struct cuda *);

/* adapters.c. add: see compute_calls.adapt; reserve: what steps need for all that were added. */
enum rc cuda_adapters_add(struct cuda *, struct adapter *, struct err *);
enum rc cuda_adapters_reserve(struct cuda *, struct err *);
void cuda_adapters_close(struct cuda *);
/* Which of a step's rows go by which adapters, to the GPU. Returns how many tiles they make; in a step that
 * repeats it is a round number. */
size_t cuda_adapters_send(struct cuda *, unsigned flight, const struct text_row *const *rows, size_t n,
			  bool repeats);
/* What they add to y, the product of w and x. */
void cuda_adapters_apply(struct cuda *, size_t tiles, unsigned layer, enum text_linear, const struct linear *w,
			 const void *x, void *y);

/* tower.c, as language.c. Features lie in the host's memory, as bf16. */
void tower_plan(struct cuda *);
enum rc tower_open(struct cuda *, struct err *);
void tower_close(struct cuda *);
void *tower_pack(const struct cuda *, float *patches, unsigned rows, unsigned columns);
size_t tower_look(struct cuda *, const struct view *, size_t count, struct err *);
bool tower_seen(struct cuda *, struct features *, bool wait);

/* measure.c: see compute_calls.measure. */
enum rc cuda_measure(struct cuda *, size_t side, size_t bytes, struct compute_peak *, struct err *);

#endif
