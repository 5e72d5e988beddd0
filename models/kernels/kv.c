/* SPDX-License-Identifier: MIT
 *
 * kv: put keys and values into pages. See kv.h.
 */
#include "kernels/kv.h"

#include "kernels/rows.h"

#include <string.h>

size_t kv_page_size(const struct kv_shape *shape)
{
	return shape->heads * kv_head_size(shape);
}

static void store_f32(const struct kv_shape *shape, float *keys, float *values, unsigned slot,
		      const float *k, const float *v)
{
	for (unsigned d = 0; d < shape->dim; d++)
		keys[d * KV_PAGE + slot] = k[d];
	memcpy(values + slot * kv_columns(shape->dim), v, shape->dim * sizeof(*v));
}

static void store_bf16(const struct kv_shape *shape, uint16_t *keys, uint16_t *values,
		       unsigned slot, const float *k, const float *v)
{
	const struct rows *row = rows_of_level();
	uint16_t kb[DIM_MAX], vb[DIM_MAX];

	row->bf16(k, kb, shape->dim);
	row->bf16(v, vb, shape->dim);
	for (unsigned d = 0; d < shape->dim; d += 2)
		memcpy(keys + d * KV_PAGE + slot * 2, kb + d, 4);
	values += slot / 2 * 2 * kv_columns(shape->dim) + slot % 2;
	for (unsigned d = 0; d < shape->dim; d++)
		values[d * 2] = vb[d];
}

void kv_store_head(const struct kv_shape *shape, void *head, unsigned slot, const float *k,
		   const float *v)
{
	void *values = (char *)head + kv_keys_size(shape);

	if (shape->number == NUMBER_F32)
		store_f32(shape, head, values, slot, k, v);
	else
		store_bf16(shape, head, values, slot, k, v);
}

void kv_store(const struct kv_shape *shape, void *page, unsigned slot, const float *k,
	      const float *v)
{
	for (unsigned h = 0; h < shape->heads; h++)
		kv_store_head(shape, (char *)page + h * kv_head_size(shape), slot,
			      k + (size_t)h * shape->dim, v + (size_t)h * shape->dim);
}
