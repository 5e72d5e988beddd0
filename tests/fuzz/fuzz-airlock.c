/* SPDX-License-Identifier: MIT
 *
 * Lines of the airlock protocol, and what becomes of a result: clean strings, boxes on the page,
 * confidences from 0 to 1; and a result that was judged once is judged the same again.
 */
#include "fuzz.h"

#include "airlock.h"

#define WIDTH  2000
#define HEIGHT 3000

static void check_boxes(json_t *value)
{
	json_t *box = json_object_get(value, "box"), *item;
	const char *key;
	size_t i;

	if (box) {
		json_int_t v[4];

		CHECK(json_array_size(box) == 4);
		for (i = 0; i < 4; i++)
			v[i] = json_integer_value(json_array_get(box, i));
		CHECK(0 <= v[0] && v[0] < v[2] && v[2] <= WIDTH);
		CHECK(0 <= v[1] && v[1] < v[3] && v[3] <= HEIGHT);
	}
	json_object_foreach(value, key, item)
		check_boxes(item);
	json_array_foreach(value, i, item)
		check_boxes(item);
}

static void check_share(const json_t *from, const char *key)
{
	const json_t *v = json_object_get(from, key);

	CHECK(!v || (json_number_value(v) >= 0 && json_number_value(v) <= 1));
}

static void check_result(json_t *result)
{
	json_t *again, *line, *word;
	char *one, *two;
	struct err err;
	size_t i, k;

	check_strings(result);
	check_boxes(result);
	check_share(result, "confidence");
	check_share(result, "confidence_worst");
	json_array_foreach(json_object_get(result, "lines"), i, line)
		json_array_foreach(json_object_get(line, "words"), k, word)
			check_share(word, "confidence");
	if (strcmp(json_string_value(json_object_get(result, "status")), "ok"))
		return; /* what a failure says is escaped, each time */
	again = airlock_result(result, WIDTH, HEIGHT, &err);
	CHECK(again);
	one = airlock_dump(result);
	two = airlock_dump(again);
	CHECK(!strcmp(one, two));
	free(one);
	free(two);
	json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;
	json_t *line = airlock_parse((const char *)data, size, &err);
	json_t *result, *again;
	char *one, *two;

	if (!line) {
		check_err(RC_FAILED, &err);
		return 0;
	}
	result = airlock_result(line, WIDTH, HEIGHT, &err);
	if (result)
		check_result(result);
	else
		check_err(RC_FAILED, &err);
	json_decref(result);

	/* What is written can be read, and is then the same. */
	one = airlock_dump(line);
	CHECK(!strchr(one, '\n'));
	again = airlock_parse(one, strlen(one), &err);
	CHECK(again);
	two = airlock_dump(again);
	CHECK(!strcmp(one, two));
	free(one);
	free(two);
	json_decref(again);
	json_decref(line);
	return 0;
}
