/* SPDX-License-Identifier: MIT
 *
 * The tests of attention over the AMX kernels, on a CPU that may have none: the tiles are emulated, and
 * the product_amx defined here takes the place of the library's.
 */
#define TILE_EMULATED
#include "kernels/product_amx.c"
#include "test-kernels-attention.c"
