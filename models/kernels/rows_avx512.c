/* SPDX-License-Identifier: MIT
 *
 * rows_avx512: rows.h in 16 lanes.
 */
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#define LANES 16
#define ROWS  rows_avx512
#pragma GCC optimize("O3")
#include "kernels/rows_vector.h"
#endif
