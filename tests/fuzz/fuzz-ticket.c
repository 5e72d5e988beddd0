/* SPDX-License-Identifier: MIT
 *
 * Tickets: what is taken from one can be applied, sets nothing that a ticket may not set, and is
 * the same when the ticket is made of what was taken.
 */
#include "fuzz.h"

#include "airlock.h"
#include "pipeline.h"

static void check_ticket(json_t *ticket)
{
	static const char *const allowed[] = { "languages", "page_segmentation", "rotate", "dpi",
					       "text_layer", "priority", "passwords", "outputs" };
	struct pipeline p;
	struct err err;
	const char *key;
	json_t *value;
	char *line;

	json_object_foreach(ticket, key, value) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
			known |= !strcmp(key, allowed[i]);
		CHECK(known && value);
	}
	pipeline_defaults(&p, "fuzz");
	CHECK(pipeline_apply_ticket(&p, ticket, &err) == RC_OK);
	CHECK(p.recogniser == RECOGNISER_TESSERACT && !p.n_command);
	pipeline_release(&p);
	line = airlock_dump(ticket);
	value = airlock_parse(line, strlen(line), &err);
	CHECK(value && json_equal(value, ticket));
	json_decref(value);
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *ticket = NULL, *again = NULL;
	struct err err;
	enum rc rc = ticket_parse("fuzz\n.cloister.yaml", data, size, &ticket, &err);

	if (rc) {
		check_err(rc, &err);
		CHECK(!strcmp(err.reason, "ticket"));
		return 0;
	}
	check_ticket(ticket);
	CHECK(ticket_parse("fuzz", data, size, &again, &err) == RC_OK && json_equal(ticket, again));
	json_decref(ticket);
	json_decref(again);
	return 0;
}
