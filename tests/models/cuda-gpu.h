/* SPDX-License-Identifier: MIT
 *
 * cuda-gpu: what tests can set and ask of the GPU that is none.
 */
#ifndef TESTS_CUDA_GPU_H
#define TESTS_CUDA_GPU_H

#include "cuda/gpu.h"

/* Bytes that it has, that are taken now, and that were taken at most; rounded as allocations are. */
extern size_t emulated_room, emulated_asked, emulated_peak;

/* Records of steps: there is room for so many; how many there are; how often one was done, and the longest. */
extern size_t emulated_graphs_max, emulated_graphs, emulated_replays, emulated_longest;

/* Products asked for, by their kind, and rows in them; what a record does again is not counted. */
extern size_t emulated_products[GPU_ANY + 1], emulated_rows[GPU_ANY + 1];

/* Whether it has products of fp8. */
extern bool emulated_fp8;

#endif
