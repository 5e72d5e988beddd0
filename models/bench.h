/* SPDX-License-Identifier: MIT
 *
 * bench: how fast a model reads and writes here, beside what the machine can do.
 */
#ifndef MODELS_BENCH_H
#define MODELS_BENCH_H

#include "compute.h"

/* cloister-model bench: argv[0] is "bench"; where models are opened. JSON lines on standard output; returns an exit code. */
int bench_main(int argc, char **argv, compute_opener *);

#endif
