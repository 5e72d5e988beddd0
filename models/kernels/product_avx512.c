/* SPDX-License-Identifier: MIT
 *
 * product_avx512: the product in 16 lanes, bf16 by way of fp32.
 */
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#define LANES	16
#define ROWS	5
#define BLOCKS	4
#define DEPTH	8
#define PRODUCT product_avx512
#pragma GCC optimize("O3")
#include "kernels/product_vector.h"
#endif
