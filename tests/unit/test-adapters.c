/* SPDX-License-Identifier: MIT
 *
 * What a supervisor knows of the adapters beside a model: those of all pipelines that share it, what hello says
 * of each, and which of a pipeline's cannot be used.
 */
#include "adapters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char *names[][4] = {{(char *)"org/b", (char *)"/a"}, {(char *)"c", (char *)"org/b"}};

/* Borrows: nothing to release. */
static struct pipeline reads_with(unsigned which, size_t n)
{
	return (struct pipeline){.recogniser = RECOGNISER_MODEL,
				 .model = {.adapters = names[which], .n_adapters = n}};
}

static bool hello(struct adapters *a, const char *text)
{
	json_t *list = json_loads(text, JSON_DECODE_ANY, NULL);
	bool taken = adapters_take_hello(a, list);

	json_decref(list);
	return taken;
}

static void test_shared(void **state)
{
	struct pipeline one = reads_with(0, 2), two = reads_with(1, 2), none = reads_with(0, 0), other = one;
	struct adapters a = {NULL};

	(void)state;
	assert_true(adapters_cover(&a, &none));
	assert_false(adapters_cover(&a, &one));
	adapters_add(&a, &one);
	assert_false(adapters_cover(&a, &two));
	adapters_add(&a, &two);
	adapters_add(&a, &one);
	other.recogniser = RECOGNISER_COMMAND; /* whose settings of a model mean nothing */
	adapters_add(&a, &other);
	assert_int_equal(a.n, 3);
	assert_string_equal(a.v[0].name, "/a");
	assert_string_equal(a.v[1].name, "c");
	assert_string_equal(a.v[2].name, "org/b");
	assert_true(adapters_cover(&a, &one) && adapters_cover(&a, &two) && adapters_cover(&a, &none));
	adapters_release(&a);
}

static void test_limit(void **state)
{
	struct adapters a = {NULL};

	(void)state;
	for (unsigned i = 0; i < ENGINE_ADAPTERS_MAX + 5; i++) {
		char name[16], *list[] = {name};
		struct pipeline p = {.recogniser = RECOGNISER_MODEL,
				     .model = {.adapters = list, .n_adapters = 1}};

		snprintf(name, sizeof(name), "adapter-%u", i);
		adapters_add(&a, &p);
		assert_int_equal(adapters_cover(&a, &p), i < ENGINE_ADAPTERS_MAX);
	}
	assert_int_equal(a.n, ENGINE_ADAPTERS_MAX);
	adapters_release(&a);
}

static void test_hello(void **state)
{
	struct pipeline one = reads_with(0, 2), two = reads_with(1, 1), none = reads_with(0, 0);
	struct adapters a = {NULL};
	json_t *json;
	char *text;

	(void)state;
	adapters_add(&a, &one);
	adapters_add(&a, &two);
	assert_false(hello(&a, "null"));
	assert_false(hello(&a, "[]"));
	assert_false(hello(&a, "[{\"name\":\"c\",\"sha256\":\"" HASH "\"}]"));
	assert_false(hello(&a, "[{\"name\":\"/a\",\"sha256\":\"short\"},{\"name\":\"c\",\"error\":\"x\"},"
			       "{\"name\":\"org/b\",\"error\":\"x\"}]"));
	assert_true(hello(&a, "[1,{\"name\":\"x\"},{\"name\":\"c\",\"error\":\"c/adapter_config.json\\u001b: use_dora\"},"
			      "{\"name\":\"org/b\",\"sha256\":\"" HASH "\",\"lock\":\"" HASH "\"},"
			      "{\"name\":\"/a\",\"sha256\":\"" HASH "\"}]"));
	assert_null(adapters_bad(&a, &one));
	assert_null(adapters_bad(&a, &none));
	assert_string_equal(adapters_bad(&a, &two)->name, "c");
	assert_string_equal(adapters_bad(&a, &two)->why.reason, "recogniser");
	assert_non_null(strstr(adapters_bad(&a, &two)->why.text, "use_dora"));
	assert_null(strchr(adapters_bad(&a, &two)->why.text, 0x1b));

	/* In the pipeline's order. */
	json = adapters_json(&a, &one);
	text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(text, "[{\"lock\":\"" HASH "\",\"name\":\"org/b\",\"sha256\":\"" HASH "\"},"
				  "{\"name\":\"/a\",\"sha256\":\"" HASH "\"}]");
	free(text);
	json_decref(json);
	assert_null(adapters_json(&a, &none));

	/* Another process finds it mended. */
	assert_true(hello(&a, "[{\"name\":\"c\",\"sha256\":\"" HASH "\"},{\"name\":\"org/b\",\"error\":\"\"},"
			      "{\"name\":\"/a\",\"sha256\":\"" HASH "\"}]"));
	assert_null(adapters_bad(&a, &two));
	assert_string_equal(adapters_bad(&a, &one)->name, "org/b");
	adapters_release(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_hello),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
