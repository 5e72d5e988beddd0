/* SPDX-License-Identifier: MIT
 *
 * product_avx2: the product in 8 lanes, with FMA.
 */
#ifdef __x86_64__
#pragma GCC target("avx2,fma")
#define LANES	8
#define ROWS	4
#define BLOCKS	1
#define DEPTH	8
#define PRODUCT product_avx2
#pragma GCC optimize("O3")
#include "kernels/product_vector.h"
#endif
