/* SPDX-License-Identifier: MIT
 *
 * cpu: which instructions the kernels use, found out once at run time.
 *
 * CLOISTER_CPU=plain|avx2|avx512|amx lowers the level (never raises it), for tests and bench.
 */
#ifndef MODELS_KERNELS_CPU_H
#define MODELS_KERNELS_CPU_H

enum cpu_level {
	CPU_PLAIN,  /* C alone: the reference */
	CPU_AVX2,   /* with FMA and F16C */
	CPU_AVX512, /* F, BW, DQ, VL */
	CPU_AMX,    /* AVX512 and AMX-BF16; the kernel has granted the tile state */
};

enum cpu_level cpu_level(void);
const char *cpu_level_name(enum cpu_level);

#endif
