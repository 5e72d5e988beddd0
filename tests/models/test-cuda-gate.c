/* SPDX-License-Identifier: MIT
 *
 * The gate before fp8 weights: its figures by hand, the sample model, which passes it, and the same with weights
 * that e4m3 loses beside an outlier, which does not. An outlier's column is one that norms make 0: bf16 does not
 * see it at all.
 */
#define ON_CUDA

#include "engine.h"
#include "gate.h"
#include "on-compute.h"

#ifndef CUDA_DEVICE
#include "cuda-gpu.h"
#endif

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { LAYERS = 4, HIDDEN = 192, WIDE = 384, COLUMN = 77 };

static char folder[] = "/tmp/cloister-gate-XXXXXX";
static const char *const files[] = {"config.json", "generation_config.json", "preprocessor_config.json",
				    "tokenizer.json", "tokenizer_config.json"};
static const struct compute_options fp8 = {.weights = NUMBER_E4M3, .sequences = 48, .cache_size = 8 << 20};

static void test_figures(void **state)
{
	static const float p[] = {logf(0.5f), logf(0.25f), logf(0.25f)},
			   q[] = {logf(0.25f) + 7, logf(0.5f) + 7, logf(0.25f) + 7};
	struct gate_sums sums = {0};
	struct gate_figures f;
	struct err err;

	(void)state;
	gate_add(&sums, p, p, 3);
	assert_int_equal(gate_judge(&sums, &f, &err), RC_OK);
	assert_int_equal(f.tokens, 1);
	assert_true(f.divergence == 0 && f.agreement == 1);
	/* 0.5 log 2 - 0.25 log 2 */
	gate_add(&sums, p, q, 3);
	assert_int_equal(gate_judge(&sums, &f, &err), RC_FATAL);
	assert_string_equal(err.reason, "accuracy");
	assert_non_null(strstr(err.text, "over 2 tokens"));
	assert_non_null(strstr(err.text, "0.0866 nat"));
	assert_non_null(strstr(err.text, "50.0 %"));
	assert_true(fabs(f.divergence - 0.125 * log(2)) < 1e-7 && f.agreement == 0.5);
}

static void test_bounds(void **state)
{
	struct gate_sums sums = {1000, (size_t)(1000 * GATE_AGREEMENT), 1000 * GATE_DIVERGENCE}, more;
	struct gate_figures f;
	struct err err;

	(void)state;
	assert_int_equal(gate_judge(&sums, &f, &err), RC_OK);
	more = sums;
	more.divergence *= 1.001;
	assert_int_equal(gate_judge(&more, &f, &err), RC_FATAL);
	more = sums;
	more.same--;
	assert_int_equal(gate_judge(&more, &f, &err), RC_FATAL);
	more = sums;
	more.divergence = NAN;
	assert_int_equal(gate_judge(&more, &f, &err), RC_FATAL);
}

/* --- Models --- */

static char *read_file(const char *from, const char *name, size_t *size)
{
	char *path = xasprintf("%s/%s", from, name), *data;
	FILE *f = fopen(path, "rb");

	assert_non_null(f);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	*size = (size_t)ftell(f);
	rewind(f);
	data = xmalloc(*size);
	assert_int_equal(fread(data, 1, *size, f), *size);
	fclose(f);
	free(path);
	return data;
}

static void write_file(const char *name, const char *data, size_t size)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
	free(path);
}

/* A bf16 tensor within model.safetensors. */
static uint16_t *tensor(char *data, const json_t *header, unsigned layer, const char *name, size_t *n)
{
	char *full = xasprintf("model.language_model.layers.%u.%s.weight", layer, name);
	const json_t *ends = json_object_get(json_object_get(header, full), "data_offsets");
	json_int_t first = json_integer_value(json_array_get(ends, 0)),
		   end = json_integer_value(json_array_get(ends, 1));
	uint64_t length;

	assert_true(end > first);
	memcpy(&length, data, sizeof(length));
	*n = (size_t)(end - first) / sizeof(uint16_t);
	free(full);
	return (uint16_t *)(void *)(data + sizeof(length) + length + first);
}

/* The sample model, in whose layers a column of what reads from `norm` is `outlier`, and is multiplied by 0. */
static void make_model(float outlier)
{
	static const char *const norms[] = {"input_layernorm", "post_attention_layernorm"},
				 *const readers[2][3] = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
							 {"mlp.gate_proj", "mlp.up_proj", NULL}};
	size_t size, n;
	char *data = read_file("samples/model", "model.safetensors", &size);
	uint64_t length;
	json_t *header;

	memcpy(&length, data, sizeof(length));
	header = json_loadb(data + sizeof(length), length, 0, NULL);
	assert_non_null(header);
	for (unsigned k = 0; k < 2 * LAYERS; k++) {
		tensor(data, header, k / 2, norms[k % 2], &n)[COLUMN] = 0;
		assert_int_equal(n, HIDDEN);
		for (unsigned i = 0; i < 3 && readers[k % 2][i]; i++) {
			uint16_t *w = tensor(data, header, k / 2, readers[k % 2][i], &n);

			for (size_t row = 0; outlier != 0 && row < n / HIDDEN; row++)
				w[row * HIDDEN + COLUMN] = bf16_from_f32(outlier);
		}
	}
	write_file("model.safetensors", data, size);
	json_decref(header);
	free(data);
}

static enum rc open_made(float outlier, struct gate_figures *f, struct err *err)
{
	struct model m;
	enum rc rc;

	make_model(outlier);
	rc = gate_open(&m, folder, COMPUTE_OPEN, &fp8, NULL, f, err);
	if (rc == RC_OK)
		model_close(&m);
	print_message("# outlier %g: over %zu tokens mean divergence %.4f nat, the same token at %.1f %%\n", outlier,
		      f->tokens, f->divergence, 100 * f->agreement);
	return rc;
}

static void test_passes(void **state)
{
	struct gate_figures f;
	struct err err;

	(void)state;
	if (open_made(0, &f, &err) != RC_OK)
		fail_msg("%s", err.text);
	assert_int_equal(f.tokens, GATE_READ + GATE_WRITTEN);
	assert_true(f.divergence > 0 && f.divergence < GATE_DIVERGENCE / 2);
}

/* An adapter that changes nothing, of one projection. */
static void make_adapter(void)
{
	static const char config[] = "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 4, "
				     "\"target_modules\": [\"down_proj\"], \"layers_to_transform\": [0]}";
	static const char name[] = "base_model.model.model.language_model.layers.0.mlp.down_proj.lora_";
	size_t a = 4 * WIDE * sizeof(float), b = HIDDEN * 4 * sizeof(float);
	char *header = xasprintf("{\"%sA.weight\": {\"dtype\": \"F32\", \"shape\": [4, %d], \"data_offsets\": [0, "
				 "%zu]}, \"%sB.weight\": {\"dtype\": \"F32\", \"shape\": [%d, 4], "
				 "\"data_offsets\": [%zu, %zu]}}",
				 name, WIDE, a, name, HIDDEN, a, a + b);
	uint64_t length = strlen(header);
	char *all = xcalloc(sizeof(length) + length + a + b, 1);

	memcpy(all, &length, sizeof(length));
	memcpy(all + sizeof(length), header, length);
	write_file("adapter_model.safetensors", all, sizeof(length) + length + a + b);
	write_file("adapter_config.json", config, strlen(config));
	free(all);
	free(header);
}

/* What the gate ran on is given back: an adapter comes before the cache, and the cache behind it. */
static void test_adapter_behind(void **state)
{
	const struct engine_options options = {.sequences = 1};
	struct gate_figures f;
	struct engine *e;
	struct model m;
	struct err err;

	(void)state;
	make_model(0);
	make_adapter();
	if (gate_open(&m, folder, COMPUTE_OPEN, &fp8, NULL, &f, &err) != RC_OK ||
	    model_adapt(&m, folder, &err) != RC_OK || engine_open(&e, &m, &options, &err) != RC_OK)
		fail_msg("%s", err.text);
	engine_close(e);
	model_close(&m);
}

static void test_ruined(void **state)
{
	struct gate_figures f;
	char figures[64];
	struct err err;

	(void)state;
	assert_int_equal(open_made(*(const float *)*state, &f, &err), RC_FATAL);
	assert_string_equal(err.reason, "accuracy");
	assert_false(f.divergence <= GATE_DIVERGENCE);
	snprintf(figures, sizeof(figures), "over %zu tokens the mean divergence from bf16 is %.4f nat", f.tokens,
		 f.divergence);
	assert_non_null(strstr(err.text, figures));
#ifndef CUDA_DEVICE
	assert_int_equal(emulated_asked, 0);
#endif
}

/* Other weights are not compared with anything, and a device without fp8 says so before it loads anything. */
static void test_others(void **state)
{
	struct compute_options bf16 = fp8;
	struct gate_figures f;
	struct model m;
	struct err err;

	(void)state;
	bf16.weights = NUMBER_BF16;
	assert_int_equal(gate_open(&m, folder, COMPUTE_OPEN, &bf16, NULL, &f, &err), RC_OK);
	assert_int_equal(f.tokens, 0);
	model_close(&m);
	assert_int_equal(gate_open(&m, folder, compute_open_cpu, &fp8, NULL, &f, &err), RC_FATAL);
	assert_string_equal(err.text, "weights are fp8 on a GPU alone");
#ifndef CUDA_DEVICE
	emulated_fp8 = false;
	emulated_peak = 0;
	assert_int_equal(gate_open(&m, folder, COMPUTE_OPEN, &fp8, NULL, &f, &err), RC_FATAL);
	assert_string_equal(err.reason, "gpu");
	assert_int_equal(emulated_peak, 0);
	emulated_fp8 = true;
#endif
}

#ifndef CUDA_DEVICE
/* Both models have to fit, one after the other: the error says which did not. */
static void test_memory(void **state)
{
	size_t all = emulated_room;
	struct gate_figures f;
	struct model m;
	struct err err;

	(void)state;
	emulated_room = (size_t)100 << 20;
	assert_int_equal(gate_open(&m, folder, COMPUTE_OPEN, &fp8, NULL, &f, &err), RC_FATAL);
	assert_string_equal(err.reason, "memory");
	assert_non_null(strstr(err.text, "in bf16, which fp8 weights are held against: "));
	emulated_room = all;
}
#endif

static int setup(void **state)
{
	size_t size;

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char *data = read_file("samples/model", files[i], &size);

		write_file(files[i], data, size);
		free(data);
	}
	make_model(0);
	return 0;
}

static void remove_file(const char *name)
{
	char *path = xasprintf("%s/%s", folder, name);

	unlink(path);
	free(path);
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		remove_file(files[i]);
	remove_file("model.safetensors");
	remove_file("adapter_model.safetensors");
	remove_file("adapter_config.json");
	return rmdir(folder);
}

int main(void)
{
	static float outlier = 1e6f, nothing = NAN;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_passes),
		cmocka_unit_test(test_adapter_behind),
		cmocka_unit_test_prestate(test_ruined, &outlier),
		cmocka_unit_test_prestate(test_ruined, &nothing),
		cmocka_unit_test(test_others),
#ifndef CUDA_DEVICE
		cmocka_unit_test(test_memory),
#endif
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (compute_lacks_fp8()) {
		printf("1..0 # SKIP %s\n", compute_lacks_fp8());
		return 0;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
