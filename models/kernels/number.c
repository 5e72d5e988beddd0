/* SPDX-License-Identifier: MIT
 *
 * number: the number formats, one at a time. See linear.h.
 */
#include "kernels/linear.h"

#include <string.h>

size_t number_size(enum number number)
{
	static const size_t sizes[] = {
		[NUMBER_F32] = 4,  [NUMBER_BF16] = 2, [NUMBER_F16] = 2,
		[NUMBER_INT8] = 1, [NUMBER_E4M3] = 1, [NUMBER_INT4] = 0,
	};

	return sizes[number];
}

const char *number_name(enum number number)
{
	static const char *const names[] = {
		[NUMBER_F32] = "f32",	[NUMBER_BF16] = "bf16", [NUMBER_F16] = "f16",
		[NUMBER_INT8] = "int8", [NUMBER_E4M3] = "fp8", [NUMBER_INT4] = "int4",
	};

	return names[number];
}

bool number_of_weights(const char *name, enum number *out)
{
	static const enum number packed[] = {NUMBER_BF16, NUMBER_INT8, NUMBER_E4M3, NUMBER_F32};

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

static float number_at(const char *p, enum number number)
{
	uint16_t half;
	float f;

	if (number == NUMBER_F32) {
		memcpy(&f, p, sizeof(f));
		return f;
	}
	memcpy(&half, p, sizeof(half));
	return number == NUMBER_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
}

static void turned_to_f32(const struct matrix *m, size_t first, size_t count, float *out)
{
	size_t size = number_size(m->number);
	const char *p = (const char *)m->data + first * size;

	for (size_t k = 0; k < m->columns; k++, p += m->across * size)
		for (size_t i = 0; i < count; i++)
			out[i * m->columns + k] = number_at(p + i * size, m->number);
}

static uint32_t word_at(const void *p, size_t i)
{
	uint32_t word;

	memcpy(&word, (const char *)p + i * sizeof(word), sizeof(word));
	return word;
}

static void int4_to_f32(const struct matrix *m, size_t first, size_t count, float *out)
{
	size_t words = m->across / 8;

	for (size_t k = 0; k < m->columns; k++) {
		size_t group = k / m->group;

		for (size_t i = 0; i < count; i++) {
			size_t row = first + i;
			unsigned shift = 4 * nibble_of(row);
			int q = (int)(word_at(m->data, k * words + row / 8) >> shift & 15),
			    zero = (int)(word_at(m->zeros, group * words + row / 8) >> shift & 15);

			out[i * m->columns + k] =
				(float)(q - zero) *
				number_at((const char *)m->scales +
						  (group * m->across + row) * number_size(m->scale),
					  m->scale);
		}
	}
}

struct matrix matrix_rows(const struct matrix *m, size_t first, size_t count)
{
	struct matrix part = *m;

	part.rows = count;
	if (m->number == NUMBER_INT4) {
		part.data = (const char *)m->data + first / 8 * sizeof(uint32_t);
		part.zeros = (const char *)m->zeros + first / 8 * sizeof(uint32_t);
		part.scales = (const char *)m->scales + first * number_size(m->scale);
	} else {
		part.data = (const char *)m->data +
			    first * (m->across ? 1 : m->columns) * number_size(m->number);
	}
	return part;
}

bool matrices_are_int4(const struct matrix *m, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (m[i].number != NUMBER_INT4 || m[i].group != m->group)
			return false;
	return true;
}

void matrix_to_f32(const struct matrix *m, size_t first, size_t count, float *out)
{
	size_t n = count * m->columns, size = number_size(m->number);
	const char *p = (const char *)m->data + first * m->columns * size;

	if (m->number == NUMBER_INT4) {
		int4_to_f32(m, first, count, out);
		return;
	}
	if (m->across) {
		turned_to_f32(m, first, count, out);
		return;
	}
	if (m->number == NUMBER_F32) {
		memcpy(out, p, n * size);
		return;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = number_at(p + i * size, m->number);
}
