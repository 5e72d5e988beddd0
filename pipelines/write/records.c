/* SPDX-License-Identifier: MIT
 *
 * records: pages.jsonl, everything that is known of each page, a page a line, in page order.
 */
#include "write.h"

#include <stdlib.h>
#include <string.h>

static void page(struct sink *sink, const struct leaf *leaf, struct buf *kept)
{
	json_t *record = json_copy(leaf->record);
	char *line;

	(void)kept;
	json_object_del(record, "html"); /* document.html has it */
	line = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(6));
	json_decref(record);
	if (!line)
		BUG("page %u cannot be dumped", leaf->page);
	sink_adds(sink, line);
	sink_adds(sink, "\n");
	free(line);
}

const struct output output_pages_jsonl = { .name = "pages.jsonl", .page = page };
