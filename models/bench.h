/* SPDX-License-Identifier: MIT
 *
 * bench: how fast a model reads and writes here, beside what the machine can do.
 */
#ifndef MODELS_BENCH_H
#define MODELS_BENCH_H

/* cloister-model bench: argv[0] is "bench". JSON lines on standard output; returns an exit code. */
int bench_main(int argc, char **argv);

#endif
