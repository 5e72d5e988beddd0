/* SPDX-License-Identifier: MIT
 *
 * cuda-gpu: what tests can set and ask of the GPU that is none.
 */
#ifndef TESTS_CUDA_GPU_H
#define TESTS_CUDA_GPU_H

#include "cuda/gpu.h"

/* Bytes that it has, that are taken now, and that were taken at most; rounded as allocations are. */
extern size_t emulated_room, emulated_asked, emulated_peak;

#endif
