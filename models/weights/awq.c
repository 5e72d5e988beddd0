/* SPDX-License-Identifier: MIT
 *
 * Takes the three tensors of a matrix together. Their shapes have to agree with each other, with
 * the configuration's shape and with its group_size, which is no more to be had from the shapes
 * alone than the shapes from group_size.
 */
#include "weights/awq.h"

#include "base/log.h"
#include "weights/json_file.h"

#include <stdlib.h>
#include <string.h>

static enum rc wrong(const struct tensor *t, struct err *err, const char *why)
{
	return err_set(err, RC_FATAL, "model-damaged", "%.100s: tensor %.120s %s", t->file,
		       t->stored, why);
}

static enum rc take(struct weights *w, const char *name, const char *part, uint64_t rows,
		    uint64_t columns, bool words, const struct tensor **out, struct err *err)
{
	char *full = xasprintf("%s.%s", name, part);
	enum rc rc = weights_take_tensor(w, full, out, err);
	const struct tensor *t = *out;

	free(full);
	if (rc != RC_OK)
		return rc;
	if (t->rank != 2 || t->shape[0] != rows || t->shape[1] != columns)
		return err_set(err, RC_FATAL, "model-damaged",
			       "%.100s: tensor %.120s has %llu x %llu numbers, the configuration "
			       "wants %llu x %llu",
			       t->file, t->stored, t->rank ? (unsigned long long)t->shape[0] : 1,
			       t->rank > 1 ? (unsigned long long)t->shape[1] : 1,
			       (unsigned long long)rows, (unsigned long long)columns);
	if (words && strcmp(t->dtype, "I32") != 0)
		return wrong(t, err, "is not of dtype I32");
	return RC_OK;
}

static enum rc take_awq(struct weights *w, const struct tensor *found, const char *name,
			uint64_t group, uint64_t rows, uint64_t columns, struct matrix *out,
			struct err *err)
{
	const struct tensor *q, *zeros, *scales;

	if (group == AWQ_NONE)
		return wrong(found, err,
			     "is quantised, but config.json has no quantization_config");
	if (group == AWQ_WHOLE)
		group = columns;
	if (rows % 8)
		return wrong(found, err, "packs eight rows in a word, and there are others");
	if (!columns || columns % group)
		return wrong(found, err, "has columns that are no multiple of group_size");
	if (take(w, name, "qweight", columns, rows / 8, true, &q, err) != RC_OK ||
	    take(w, name, "qzeros", columns / group, rows / 8, true, &zeros, err) != RC_OK ||
	    take(w, name, "scales", columns / group, rows, false, &scales, err) != RC_OK)
		return RC_FATAL;
	*out = (struct matrix){.data = q->data,
			       .number = NUMBER_INT4,
			       .rows = rows,
			       .columns = columns,
			       .across = rows,
			       .zeros = zeros->data,
			       .scales = scales->data,
			       .group = group};
	return tensor_number(scales, &out->scale, err);
}

enum rc weights_take_linear(struct weights *w, const char *name, uint64_t rows, uint64_t columns,
			    struct matrix *out, struct err *err)
{
	char *plain = xasprintf("%s.weight", name), *packed = xasprintf("%s.qweight", name);
	const struct tensor *found = weights_find(w, packed);
	enum rc rc = RC_OK;

	if (found)
		rc = take_awq(w, found, name, weights_group(w), rows, columns, out, err);
	else if (strncmp(name, "text.layers.", 12) != 0 ||
		 !weights_make_up_int4(w, rows, columns, out))
		rc = weights_take(w, plain, rows, columns, out, err);
	free(plain);
	free(packed);
	return rc;
}

/* "mlp.gate" names layers.0.mlp.gate, but not layers.0.mlp.gate_proj. */
static bool names(const char *module, const char *tensor)
{
	size_t n = strlen(module);

	for (const char *at = tensor; n && (at = strstr(at, module)) != NULL; at++)
		if ((at == tensor || at[-1] == '.') && (module[n - 1] == '.' || at[n] == '.'))
			return true;
	return false;
}

static bool converted(const struct weights *w, const char *module)
{
	for (size_t i = 0; i < weights_count(w); i++) {
		const struct tensor *t = weights_at(w, i);
		const char *dot = strrchr(t->stored, '.');

		if (!dot || strcmp(dot, ".qweight") != 0 || !names(module, t->stored))
			continue;
		log_warn("config.json: modules_to_not_convert has %.100s, but %.100s has %.120s: "
			 "taken as the tensors are",
			 module, t->file, t->stored);
		return true;
	}
	return false;
}

unsigned weights_compare_awq(const struct weights *w, const char *folder)
{
	const json_t *list, *module;
	json_t *root = NULL;
	unsigned count = 0;
	struct err err;
	size_t i;

	if (weights_group(w) == AWQ_NONE ||
	    json_file_load(folder, "config.json", JSON_FILE_REQUIRED, &root, &err) != RC_OK)
		return 0;
	list = json_object_get(json_object_get(root, "quantization_config"),
			       "modules_to_not_convert");
	json_array_foreach(list, i, module) count +=
		json_is_string(module) && converted(w, json_string_value(module));
	json_decref(root);
	return count;
}
