/* SPDX-License-Identifier: MIT
 *
 * cloister-model bench on a GPU: a tiny shape's pages go through, and are counted.
 */
#include "cuda-device.h"

#define ON_CUDA
#include "on-compute.h"

#include "bench.h"

#include <getopt.h>
#include <jansson.h>
#include <unistd.h>

/* What it says on standard output, into a file. */
static int run(char **argv, int argc, FILE *to)
{
	int out = dup(STDOUT_FILENO), code;

	fflush(stdout);
	assert_true(dup2(fileno(to), STDOUT_FILENO) >= 0);
	optind = 1;
	code = bench_main(argc, argv, compute_open_cuda);
	fflush(stdout);
	assert_true(dup2(out, STDOUT_FILENO) >= 0);
	close(out);
	rewind(to);
	return code;
}

static double number(const json_t *line, const char *key)
{
	assert_true(json_is_number(json_object_get(line, key)));
	return json_number_value(json_object_get(line, key));
}

static json_t *next_line(FILE *from)
{
	char text[4096];
	json_t *line;

	assert_non_null(fgets(text, sizeof(text), from));
	line = json_loads(text, 0, NULL);
	assert_non_null(line);
	return line;
}

static void test_pages(void **state)
{
	enum { PAGES = 3, TOKENS = 5, SIDE = 128, PROMPT = 8 };
	char *argv[] = {(char *)"bench", (char *)"--random", (char *)"--shape", (char *)"tiny",
			(char *)"--pages", (char *)"3", (char *)"--batch", (char *)"1,2",
			(char *)"--tokens", (char *)"5", (char *)"--prompt", (char *)"8",
			(char *)"--page", (char *)"128", (char *)"--cache", (char *)"4",
			(char *)"--product", (char *)"64", (char *)"--copy", (char *)"1", *state, NULL};
	const size_t patches = SIDE / 16 * (SIDE / 16);
	FILE *to = tmpfile();
	char text[4096];

	assert_non_null(to);
	assert_int_equal(run(argv, (int)ARRAY_SIZE(argv) - (*state ? 1 : 2), to), 0);
	for (int i = 0; i < 3; i++) {
		json_t *line = next_line(to);

		assert_int_equal(strncmp(json_string_value(json_object_get(line, "device")), "cuda", 4), 0);
		if (i == 0) {
			assert_true(number(line, "copy_gb_per_s") >= 0 && number(line, "product_tflops") > 0);
		} else {
			assert_int_equal(number(line, "batch"), i);
			assert_int_equal(number(line, "patches"), patches);
			assert_int_equal(number(line, "output_tokens"), PAGES * TOKENS);
			assert_int_equal(number(line, "prompt_tokens"), PAGES * (patches / 4 + PROMPT + 1));
			/* Both have a place, and then the third. */
			assert_true(number(line, "vision_batch") == (i == 1 ? 1.0 : 1.5));
			assert_true(number(line, "vision_s") > 0 && number(line, "prefill_s") > 0 &&
				    number(line, "decode_s") > 0 && number(line, "share") > 0);
		}
		json_decref(line);
	}
	assert_null(fgets(text, sizeof(text), to));
	fclose(to);
}

/* A model opened in fp8: how far it is from bf16 comes first, and what the device can do in both. */
static void test_fp8(void **state)
{
	char *argv[] = {(char *)"bench", (char *)"--model", (char *)"samples/model", (char *)"--weights",
			(char *)"fp8", (char *)"--pages", (char *)"1", (char *)"--batch", (char *)"1",
			(char *)"--tokens", (char *)"2", (char *)"--prompt", (char *)"8", (char *)"--page",
			(char *)"64", (char *)"--cache", (char *)"4", (char *)"--product", (char *)"64",
			(char *)"--copy", (char *)"1", NULL};
	FILE *to = tmpfile();
	json_t *line;

	(void)state;
	if (compute_lacks_fp8())
		skip();
	assert_non_null(to);
	assert_int_equal(run(argv, (int)ARRAY_SIZE(argv) - 1, to), 0);
	line = next_line(to);
	assert_string_equal(json_string_value(json_object_get(line, "bench")), "accuracy");
	assert_int_equal(number(line, "tokens"), 320);
	assert_true(number(line, "divergence_nat") > 0 && number(line, "divergence_nat") < 0.02);
	assert_true(number(line, "same_token") > 0.95);
	json_decref(line);
	line = next_line(to);
	assert_true(number(line, "product_tflops") > 0 && number(line, "product_fp8_tflops") > 0);
	json_decref(line);
	line = next_line(to);
	assert_string_equal(json_string_value(json_object_get(line, "weights")), "fp8");
	assert_int_equal(number(line, "output_tokens"), 2);
	json_decref(line);
	fclose(to);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages),
					  cmocka_unit_test_prestate(test_pages, (char *)"--any-order"),
					  cmocka_unit_test(test_fp8)};

DEVICE_MAIN(tests, NULL, NULL)
