/* SPDX-License-Identifier: MIT
 *
 * product_plain: the product in C for any CPU, four lanes at a time (what every x86-64 and Arm
 * has).
 */
#define LANES	4
#define ROWS	2
#define BLOCKS	1
#define DEPTH	8
#define PRODUCT product_plain
#pragma GCC optimize("O3")
#include "kernels/product_vector.h"
