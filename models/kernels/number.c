/* SPDX-License-Identifier: MIT
 *
 * number: the number formats, one at a time. See linear.h.
 */
#include "kernels/linear.h"

#include <string.h>

size_t number_size(enum number number)
{
	static const size_t sizes[] = {
		[NUMBER_F32] = 4,
		[NUMBER_BF16] = 2,
		[NUMBER_F16] = 2,
		[NUMBER_INT8] = 1,
	};

	return sizes[number];
}

const char *number_name(enum number number)
{
	static const char *const names[] = {
		[NUMBER_F32] = "f32",
		[NUMBER_BF16] = "bf16",
		[NUMBER_F16] = "f16",
		[NUMBER_INT8] = "int8",
	};

	return names[number];
}

bool number_of_weights(const char *name, enum number *out)
{
	static const enum number packed[] = {NUMBER_BF16, NUMBER_INT8, NUMBER_F32};

	for (size_t i = 0; i < sizeof(packed) / sizeof(*packed); i++) {
		if (strcmp(name, number_name(packed[i])) == 0) {
			*out = packed[i];
			return true;
		}
	}
	return false;
}

static float float_of(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

uint16_t bf16_from_f32(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f,
		 fraction = h & 0x3ff;

	if (exponent == 0x1f)
		return float_of(sign | 0x7f800000 | fraction << 13);
	if (exponent == 0) {
		float f = (float)fraction * 0x1p-24f;

		return sign ? -f : f;
	}
	return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

void matrix_to_f32(const struct matrix *m, size_t first, size_t count, float *out)
{
	size_t n = count * m->columns, size = number_size(m->number);
	const char *p = (const char *)m->data + first * m->columns * size;

	if (m->number == NUMBER_F32) {
		memcpy(out, p, n * size);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		uint16_t x;

		memcpy(&x, p + i * size, size);
		out[i] = m->number == NUMBER_BF16 ? bf16_to_f32(x) : f16_to_f32(x);
	}
}
