/* SPDX-License-Identifier: MIT
 *
 * cuda/replay: steps that are like an earlier one are taken from a record (a CUDA graph): hundreds of
 * launches become one.
 *
 * Alike are steps with the same key: the same kernels over the same memory, for so many rows and keys at most.
 * Numbers of rows and of keys are rounded up, so that there are few keys. A key's first step is done as it is
 * (kernels are loaded, products find theirs), its second is recorded, and from then on the record is done.
 */
#ifndef MODELS_CUDA_REPLAY_H
#define MODELS_CUDA_REPLAY_H

#include "cuda/gpu.h"

struct replay_key {
	unsigned flight, limit; /* whose logits; tokens that can be chosen */
	size_t rows, keys, tiles; /* tiles: of rows with adapters */
};

struct replays;

struct replays *replays_new(struct gpu *);
void replays_free(struct replays *);
/* Memory that steps use has moved. */
void replays_forget(struct replays *);

/* `n` rounded up, but never above `most`: 1, 2, 4, 8, then steps of 16 rows; keys to twice as many each time,
 * and so tiles, of which there may be none. */
size_t replay_rows(size_t n, size_t most);
size_t replay_keys(size_t n, size_t most);
size_t replay_tiles(size_t n, size_t most);

/* run(arg) asks the GPU for kernels and products alone, the same for the same key. Where memory runs short it
 * is not recorded. */
void replay(struct replays *, const struct replay_key *, void (*run)(void *arg), void *arg);

#endif
