/* SPDX-License-Identifier: MIT
 *
 * cloister.yaml: accepted twice it gives equal values, all within their ranges.
 */
#include "fuzz.h"

#include "config.h"
#include "spool.h"

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void check_config(const struct config *c, const struct config *d)
{
	CHECK(same(c->default_pipeline, d->default_pipeline) && same(c->scratch, d->scratch));
	CHECK(c->require_sandbox == d->require_sandbox);
	CHECK(c->settle_seconds == d->settle_seconds && c->lease_seconds == d->lease_seconds);
	CHECK(c->rescan_seconds == d->rescan_seconds && c->free_mebibytes == d->free_mebibytes);
	CHECK(c->scratch_mebibytes == d->scratch_mebibytes && c->jobs == d->jobs);
	CHECK(spool_pipeline_name_valid(c->default_pipeline));
	CHECK(c->lease_seconds >= 3 && c->rescan_seconds >= 1 && c->jobs <= 512);
	CHECK(!c->scratch || c->scratch[0] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int folder = fuzz_folder();
	struct config one, two;
	struct err err;
	enum rc rc;

	fuzz_write(folder, "cloister.yaml", data, size);
	rc = config_load(&one, fuzz_path, &err);
	if (rc) {
		check_err(rc, &err);
		return 0;
	}
	CHECK(config_load(&two, fuzz_path, &err) == RC_OK);
	check_config(&one, &two);
	config_release(&one);
	config_release(&two);
	return 0;
}
