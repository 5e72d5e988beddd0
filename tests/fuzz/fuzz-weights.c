/* SPDX-License-Identifier: MIT
 *
 * A safetensors file, and the index of a model in two shards (input that begins with "{"): every
 * tensor let through lies inside the file, is as long as its shape says, and is found by its name;
 * and so do the numbers of a matrix of 4 bits.
 */
#include "fuzz.h"

#include "weights/safetensors.c"

#include "weights/awq.h"

/* Two bf16 numbers and four bytes; what the index may say rightly of them. */
static const char first[] =
	"{\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
static const char second[] =
	"{\"lm_head.weight\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]}}";

static void write_shard(int folder, const char *name, const char *header)
{
	char file[256] = {(char)strlen(header)};
	size_t len = strlen(header);

	memcpy(file + 8, header, len);
	fuzz_write(folder, name, file, 8 + len + 4);
}

static void check_tensor(const struct weights *w, const struct tensor *t)
{
	const struct shard *s = w->shards;
	size_t size = 1;

	while (strcmp(s->name, t->file))
		CHECK(++s < w->shards + w->shard_count);
	CHECK(t->rank <= TENSOR_RANK_MAX && t->dtype);
	for (unsigned i = 0; i < t->rank; i++)
		CHECK(checked_mul(size, t->shape[i], &size));
	CHECK(size == 0 ? t->size == 0 : t->size % size == 0);
	CHECK((const char *)t->data >= (const char *)s->map);
	CHECK(t->size <= s->size - (size_t)((const char *)t->data - (const char *)s->map));
	CHECK(weights_find(w, t->name) == t);
}

/* The matrix of a tensor NAME.qweight, read to its last number. */
static void check_int4(struct weights *w, const struct tensor *t)
{
	const char *dot = strrchr(t->name, '.');
	uint64_t columns = t->rank ? t->shape[0] : 1, rows = t->rank > 1 ? t->shape[1] * 8 : 8;
	struct matrix m;
	struct err err;
	float *values;
	char *name;

	if (!dot || strcmp(dot, ".qweight"))
		return;
	name = xasprintf("%.*s", (int)(dot - t->name), t->name);
	weights_set_group(w, rows % 16 ? 32 : AWQ_WHOLE);
	if (weights_take_linear(w, name, rows, columns, &m, &err) == RC_OK) {
		CHECK(m.number == NUMBER_INT4 && rows * columns == t->size * 2);
		values = xmalloc((rows * columns + 1) * sizeof(*values));
		matrix_to_f32(&m, 0, rows, values);
		free(values);
	}
	free(name);
}

static void check_weights(struct weights *w)
{
	struct err err;

	for (size_t i = 0; i < weights_count(w); i++) {
		const struct tensor *t = &w->entries[i].tensor;
		uint64_t rest = 1;
		float *values = NULL;

		check_tensor(w, t);
		check_int4(w, t);
		for (unsigned k = 1; k < t->rank; k++)
			rest *= t->shape[k];
		if (t->rank &&
		    weights_take_f32(w, t->name, t->shape[0], rest, &values, &err) == RC_OK)
			CHECK(w->entries[i].taken);
		free(values);
		CHECK(weights_take_f32(w, t->name, t->rank ? t->shape[0] + 1 : 1, 1, &values,
				       &err) == RC_FATAL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool index = size && *data == '{';
	int folder = fuzz_folder();
	struct weights *w;
	struct err err;
	enum rc rc;

	if (index) {
		write_shard(folder, "one.safetensors", first);
		write_shard(folder, "two.safetensors", second);
		fuzz_write(folder, "model.safetensors.index.json", data, size);
		rc = weights_open(&w, fuzz_path, &err);
	} else {
		fuzz_write(folder, "model.safetensors", data, size);
		rc = weights_open_file(&w, fuzz_path, "model.safetensors", &err);
	}
	if (rc) {
		check_err(rc, &err);
		CHECK(!w && (index || strstr(err.text, "model.safetensors")));
		return 0;
	}
	check_weights(w);
	weights_close(w);
	return 0;
}
