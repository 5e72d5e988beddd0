/* SPDX-License-Identifier: MIT
 *
 * cpu: which instructions the kernels use, found out once at run time.
 *
 * CLOISTER_CPU=plain|avx2|avx512|avx512-bf16|amx lowers the level (never raises it).
 */
#ifndef MODELS_KERNELS_CPU_H
#define MODELS_KERNELS_CPU_H

enum cpu_level {
	CPU_PLAIN,	 /* C alone: the reference */
	CPU_AVX2,	 /* with FMA */
	CPU_AVX512,	 /* F, BW, DQ, VL */
	CPU_AVX512_BF16, /* and VDPBF16PS */
	CPU_AMX,	 /* and AMX-BF16; the kernel has granted the tile state */
	CPU_LEVELS,
};

/* Call it before threads start: the grant of the tile state is theirs from then on. */
enum cpu_level cpu_level(void);

/* For tests and bench: compute at this level from now on. It is for the caller to know that it can.
 */
void cpu_level_set(enum cpu_level);

const char *cpu_level_name(enum cpu_level);

#endif
