/* SPDX-License-Identifier: MIT
 *
 * rows: which ones to use. See rows.h.
 */
#include "kernels/rows.h"

#include "kernels/cpu.h"

const struct rows *rows_of_level(void)
{
#ifdef __x86_64__
	if (cpu_level() >= CPU_AVX512)
		return &rows_avx512;
	if (cpu_level() >= CPU_AVX2)
		return &rows_avx2;
#endif
	return &rows_plain;
}
