/* SPDX-License-Identifier: MIT
 *
 * An adapter's two files, its configuration up to a line of "---": what is let through has a rank and a scale,
 * every projection of it is found, and A and B lie inside the file with the shapes that were asked for. An error
 * names the file.
 */
#include "fuzz.h"

#include "adapter.h"

#include <math.h>

enum { LAYERS = 3, HIDDEN = 8 };

static void touch(const struct matrix *m, size_t rows, size_t columns)
{
	float *values = xmalloc((rows * columns + 1) * sizeof(*values));

	CHECK(m->rows == rows && m->columns == columns);
	matrix_to_f32(m, 0, rows, values);
	free(values);
}

static void check_adapter(struct adapter *a)
{
	static const char *const modules[] = {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"};
	unsigned rank = adapter_rank(a);
	struct err err;
	enum rc rc = RC_OK;

	CHECK(rank >= 1 && rank <= 4096 && isfinite(adapter_scale(a)) && adapter_scale(a) >= 0);
	for (unsigned i = 0; rc == RC_OK && i < LAYERS * ARRAY_SIZE(modules); i++) {
		struct matrix low, high;
		bool there;

		rc = adapter_take(a, i / ARRAY_SIZE(modules), modules[i % ARRAY_SIZE(modules)], HIDDEN, HIDDEN,
				  &low, &high, &there, &err);
		if (rc == RC_OK && there) {
			touch(&low, rank, HIDDEN);
			touch(&high, HIDDEN, rank);
		}
	}
	if (rc == RC_OK)
		rc = adapter_all_taken(a, &err);
	if (rc)
		check_err(rc, &err);
	adapter_close(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data, *end = at + size, *stop = memmem(at, size, "---\n", 4);
	int folder = fuzz_folder();
	struct adapter *a;
	struct err err;
	enum rc rc;

	fuzz_write(folder, "adapter_config.json", at, (size_t)((stop ? stop : end) - at));
	at = stop ? stop + 4 : end;
	fuzz_write(folder, "adapter_model.safetensors", at, (size_t)(end - at));
	rc = adapter_open(&a, fuzz_path, &err);
	if (rc == RC_OK) {
		check_adapter(a);
		return 0;
	}
	check_err(rc, &err);
	CHECK(rc == RC_FATAL && !a && strstr(err.text, "adapter_"));
	return 0;
}
