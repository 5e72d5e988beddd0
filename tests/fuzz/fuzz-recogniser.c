/* SPDX-License-Identifier: MIT
 *
 * What a recogniser says to the supervisor, from its hello on, line by line: each page is answered
 * at most once, with a clean result or with a reason, and a name cannot leave its field.
 */
#include "fuzz.h"

#include "recogniser.c"

#define PAGES    4
#define LINE_MAX_BYTES 4096

static void on_done(void *arg, struct reading *r, enum rc rc, json_t *result, double seconds,
		    const struct err *why)
{
	unsigned *answers = arg;

	(void)r, (void)seconds;
	CHECK(++*answers == 1);
	CHECK((rc == RC_OK) == (result != NULL));
	if (result) {
		check_strings(result);
		CHECK(!strcmp(json_string_value(json_object_get(result, "status")), "ok"));
		CHECK(json_is_string(json_object_get(result, "text")));
	} else {
		check_err(rc, why);
	}
	json_decref(result);
}

static void check_name(const char *name, size_t size)
{
	CHECK(memchr(name, 0, size) && utf8_valid(name, strlen(name)));
}

static void check_engine(const struct engine *e)
{
	check_name(e->name, sizeof(e->name));
	check_name(e->version, sizeof(e->version));
	check_name(e->model_name, sizeof(e->model_name));
	check_name(e->model_sha256, sizeof(e->model_sha256));
	CHECK(e->window >= 1 && e->window <= WINDOW_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_lines lines = { (const char *)data, (const char *)data + size };
	const char *argv[] = { "recogniser", NULL };
	struct pool pool = { .jobs = 1 };
	struct engine engine = { .pool = &pool, .argv = argv, .in_flight = PAGES };
	struct process process = { .engine = &engine, .n_flight = PAGES };
	unsigned answers[PAGES] = { 0 }, sum = 0;
	struct reading readings[PAGES];
	const char *line;
	struct err err;
	size_t len;
	bool good = true;

	for (size_t i = 0; i < PAGES; i++) {
		readings[i] = (struct reading){ .width = 100, .height = 100, .id = i + 1,
						.max_line = LINE_MAX_BYTES, .done = on_done,
						.arg = &answers[i], .next = process.flight };
		process.flight = &readings[i];
	}
	while (good && fuzz_line(&lines, &line, &len)) {
		json_t *message = airlock_parse(line, len, &err);

		if (process.ready)
			good = message && take_result(&process, message, len);
		else if ((good = message && take_hello(&process, message)))
			check_engine(&engine);
		json_decref(message);
	}
	for (size_t i = 0; i < PAGES; i++)
		sum += answers[i];
	CHECK(process.n_flight + sum == PAGES && engine.in_flight == process.n_flight);
	return 0;
}
