/* SPDX-License-Identifier: MIT
 *
 * The tests of linear over the AMX kernels, on a CPU that may have none: the tiles are emulated, and
 * the product_amx defined here takes the place of the library's.
 */
#define TILE_EMULATED
#include "kernels/product_amx.c"
#include "test-kernels-linear.c"
