/* SPDX-License-Identifier: MIT
 *
 * Takes tensors by name and hands them to a device's packer.
 */
#include "weights/packer.h"

#include "weights/awq.h"

#include <stdlib.h>

enum { PARTS_MAX = 3 };

enum rc packer_linear(const struct packer *p, struct weights *w, struct linear *out, const char *name,
		      const char *const *parts, const size_t *rows, size_t count, size_t columns,
		      bool bias, struct err *err)
{
	struct matrix m[PARTS_MAX];
	float *biases[PARTS_MAX] = {NULL};
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		char *base = *parts[i] ? xasprintf("%s.%s", name, parts[i]) : xstrdup(name);
		char *tensor = xasprintf("%s.bias", base);

		rc = weights_take_linear(w, base, rows[i], columns, &m[i], err);
		if (rc == RC_OK && bias)
			rc = weights_take_f32(w, tensor, rows[i], 1, &biases[i], err);
		free(tensor);
		free(base);
	}
	if (rc == RC_OK)
		rc = p->linear(p, out, m, bias ? (const float *const *)biases : NULL, count, err);
	for (size_t i = 0; i < count; i++)
		free(biases[i]);
	return rc;
}

enum rc packer_stacked(const struct packer *p, struct weights *w, struct linear *out, const char *name,
		       const size_t *rows, size_t count, size_t columns, struct err *err)
{
	struct matrix whole, m[PARTS_MAX];
	size_t all = 0, first = 0;
	enum rc rc;

	for (size_t i = 0; i < count; i++)
		all += rows[i];
	rc = weights_take_linear(w, name, all, columns, &whole, err);
	if (rc != RC_OK)
		return rc;
	for (size_t i = 0; i < count; first += rows[i++]) {
		if (whole.number == NUMBER_INT4 && rows[i] % 8)
			return err_set(err, RC_FATAL, "model-damaged",
				       "tensor %.200s.qweight packs eight rows in a word, and %zu "
				       "belong together",
				       name, rows[i]);
		m[i] = matrix_rows(&whole, first, rows[i]);
	}
	return p->linear(p, out, m, NULL, count, err);
}

enum rc packer_stack(const struct packer *p, struct linear *out, const struct matrix *parts, size_t each,
		     size_t count, struct err *err)
{
	enum rc rc = RC_OK;

	if (p->stack)
		return p->stack(p, out, parts, each, count, err);
	for (size_t i = 0; rc == RC_OK && i < count; i++)
		rc = p->linear(p, &out[i], parts + i * each, NULL, each, err);
	return rc;
}

void packer_free_stack(const struct packer *p, struct linear *l, size_t count)
{
	if (p->free_stack && l) {
		p->free_stack(p, l, count);
		return;
	}
	for (size_t i = 0; l && i < count; i++)
		p->free_linear(p, &l[i]);
}

enum rc packer_vector(const struct packer *p, struct weights *w, vector **out, const char *name,
		      size_t rows, size_t columns, struct err *err)
{
	float *values;
	enum rc rc = weights_take_f32(w, name, rows, columns, &values, err);

	return rc == RC_OK ? p->vector(p, values, rows * columns, out, err) : rc;
}
