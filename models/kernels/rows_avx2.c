/* SPDX-License-Identifier: MIT
 *
 * rows_avx2: rows.h in 8 lanes.
 */
#ifdef __x86_64__
#pragma GCC target("avx2,fma")
#define LANES 8
#define ROWS  rows_avx2
#pragma GCC optimize("O3")
#include "kernels/rows_vector.h"
#endif
