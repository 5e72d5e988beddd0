/* SPDX-License-Identifier: MIT
 *
 * Requests to cloister-model, a line each: what is let through is within the ranges that generation
 * can work with, names adapters that are there, each once, and a page whose file then is looked for in the
 * page folder alone.
 */
#include "fuzz.h"

#include "serve/adapters.c"
#include "serve/job.c"
#include "serve/sight.c"

static void check_job(const struct job *job, const struct sight_page *page)
{
	const struct sampling *s = &job->sampling;

	CHECK(s->temperature >= 0 && s->temperature <= 100 && job->temperature == s->temperature);
	CHECK(s->top_p >= 0 && s->top_p <= 1 && s->min_p >= 0 && s->min_p <= 1);
	CHECK(s->repetition_penalty >= 0.1 && s->repetition_penalty <= 10);
	CHECK(job->most >= 1 && job->retries >= 0 && job->retries <= 100);
	CHECK(page->most_pixels <= INT64_MAX && page->enlarge <= ENLARGE_MAX);
	CHECK(job->output.kind < OUTPUT_KINDS && s->top_k <= INT32_MAX);
	CHECK(page->width == job->output.width && page->height == job->output.height);
	CHECK(!page->path || (page->width >= 1 && page->height >= 1));
}

static void check_adapters(const struct job *job)
{
	static struct served_adapter adapters[] = {
		{.name = "org/a"}, {.name = "b", .number = 1}, {.name = "bad", .why = {.reason = "adapter", .text = "bad"}}};
	static const struct server server = {.adapters = adapters, .adapter_count = 3};
	struct adapted adapted;
	struct err err;
	json_t *names;
	enum rc rc = adapters_find(&server, json_object_get(json_object_get(job->json, "params"), "adapters"),
				   &adapted, &err);

	if (rc) {
		check_err(rc, &err);
		return;
	}
	CHECK(adapted.count <= 2 && adapted.number[0] < 2 && adapted.number[1] < 2);
	CHECK(adapted.count < 2 || adapted.number[0] != adapted.number[1]);
	names = adapters_names(&server, &adapted);
	CHECK(json_array_size(names) == adapted.count);
	json_decref(names);
}

static void check_page(const struct job *job, const char *path)
{
	int folder = fuzz_folder();
	struct picture picture;
	struct err err;
	enum rc rc;

	fuzz_write(folder, "page.pnm", "P5\n2 1\n255\n\1\2", 13);
	rc = picture_load(&picture, folder, fuzz_path, path, job->output.width, job->output.height,
			  &err);
	if (rc) {
		check_err(rc, &err);
		return;
	}
	CHECK(picture.width == 2 && picture.height == 1 && picture.channels == 1);
	CHECK(job->output.width == 2 && job->output.height == 1);
	picture_release(&picture);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_lines lines = {(const char *)data, (const char *)data + size};
	const char *line;
	size_t len;

	while (fuzz_line(&lines, &line, &len)) {
		struct job *job = job_new(1, line, len);
		struct sight_page page = {0};
		struct err err;
		enum rc rc = RC_FAILED;

		CHECK(job_number(job) == 1);
		if (!job->json)
			check_err(rc, &job->why);
		else if ((rc = parse(job, &page, &err)))
			check_err(rc, &err);
		else
			check_job(job, &page);
		if (!rc)
			check_adapters(job);
		if (!rc && page.path)
			check_page(job, page.path);
		job_free(job);
	}
	return 0;
}
