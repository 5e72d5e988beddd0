/* SPDX-License-Identifier: MIT
 *
 * e4m3: what a code stands for, written down another way than in models/cuda/: sign, 4 bits of exponent, 3 of
 * mantissa, no infinities.
 */
#ifndef TESTS_E4M3_H
#define TESTS_E4M3_H

#include <math.h>
#include <stdint.h>

static inline float e4m3_to_f32(uint8_t code)
{
	int exponent = code >> 3 & 15, mantissa = code & 7;
	float size = exponent ? ldexpf(1 + (float)mantissa / 8, exponent - 7) : ldexpf((float)mantissa, -9);

	if ((code & 0x7f) == 0x7f)
		return NAN;
	return code & 0x80 ? -size : size;
}

#endif
