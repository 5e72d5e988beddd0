/* SPDX-License-Identifier: MIT
 *
 * Pipeline files: one that is accepted says the same when read twice, and when it has gone through
 * the JSON that children get.
 */
#include "fuzz.h"

#include "airlock.h"
#include "pipeline.h"

static char *dump(const struct pipeline *p)
{
	json_t *json = pipeline_json(p, true);
	char *text = airlock_dump(json);

	json_decref(json);
	return text;
}

static void check_same(const struct pipeline *a, const struct pipeline *b)
{
	char hash_a[SHA256_HEX_SIZE], hash_b[SHA256_HEX_SIZE];
	char *one = dump(a), *two = dump(b);

	pipeline_hash(a, hash_a);
	pipeline_hash(b, hash_b);
	CHECK(!strcmp(one, two) && !strcmp(hash_a, hash_b));
	free(one);
	free(two);
}

static void check_accepted(const struct pipeline *p, const char *path)
{
	struct pipeline again, child;
	struct err err;
	json_t *json = pipeline_json(p, true);

	CHECK(p->n_languages && p->dpi >= 50 && p->dpi <= 1200 && p->priority <= 9);
	CHECK(p->blank_ink >= 0 && p->blank_ink <= 1);
	CHECK(p->limits.page_side_pixels <= 32767 && p->limits.archive_ratio);
	CHECK(pipeline_load(&again, "fuzz", path, &err) == RC_OK);
	check_same(p, &again);
	CHECK(pipeline_from_json(&child, json, &err) == RC_OK);
	check_same(p, &child);
	pipeline_release(&again);
	pipeline_release(&child);
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = fuzz_file(data, size);
	struct pipeline p;
	struct err err;
	char path[32];
	enum rc rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = pipeline_load(&p, "fuzz", path, &err);
	if (rc)
		check_err(rc, &err);
	else
		check_accepted(&p, path);
	pipeline_release(&p);
	close(fd);
	return 0;
}
