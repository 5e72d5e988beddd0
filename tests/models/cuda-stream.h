/* SPDX-License-Identifier: MIT
 *
 * cuda-stream: what is put on a stream of the emulated GPU, and when it is done: sometime between when it was
 * put there and when somebody waits for it, as is drawn. So memory that is changed too early, or looked at
 * too early, shows. The stream NULL, which the tests of single kernels use, does everything at once.
 */
#ifndef TESTS_CUDA_STREAM_H
#define TESTS_CUDA_STREAM_H

#include "cuda/kernels.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

cudaStream_t stream_new(void);
void stream_free(cudaStream_t);

/* run(closure), with a copy of these `size` bytes. */
void stream_put(cudaStream_t, void (*run)(void *), const void *closure, size_t size);

/* What was put on it so far, as a number for stream_wait(): what came later need not be done. */
uint64_t stream_mark(cudaStream_t);
void stream_wait(cudaStream_t, uint64_t mark);
/* It gets on with some of it; is it done? */
bool stream_try(cudaStream_t, uint64_t mark);

/* Between begin and end nothing is done: it is recorded, to be put on a stream as often as wanted. */
struct recording;
void stream_record(cudaStream_t);
struct recording *stream_recorded(cudaStream_t);
void stream_play(cudaStream_t, const struct recording *);
size_t recording_length(const struct recording *);
void recording_free(struct recording *);

#ifdef __cplusplus
}
#endif

#endif
