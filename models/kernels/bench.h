/* SPDX-License-Identifier: MIT
 *
 * bench: the speed of the kernels beside what the machine can do, as JSON lines.
 */
#ifndef MODELS_KERNELS_BENCH_H
#define MODELS_KERNELS_BENCH_H

#include "kernels/pool.h"

#include <stdio.h>

/*
 * `rounds` times each ceiling and each shape in turn, so that a disturbance meets all alike; then
 * one line each: median and best, and the share of the ceilings' medians.
 */
enum rc kernels_bench(struct pool *, unsigned rounds, FILE *out, struct err *);

/* See compute_calls.measure. The fastest of some rounds. */
enum rc kernels_peak(struct pool *, size_t side, size_t bytes, double *copied, double *flop, struct err *);

#endif
