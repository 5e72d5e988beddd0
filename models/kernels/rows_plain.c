/* SPDX-License-Identifier: MIT
 *
 * rows_plain: rows.h in 4 lanes.
 */
#define LANES 4
#define ROWS  rows_plain
#pragma GCC optimize("O3")
#include "kernels/rows_vector.h"
