/* SPDX-License-Identifier: MIT
 *
 * Journals: as they lie on a disk after a crash, and with checksums put right, so that what is
 * behind them is reached too.  A journal that is read and written again is the same.
 */
#include "fuzz.h"

#include "base/buf.h"
#include "base/hash.h"
#include "journal.h"

#define PAGES_MAX 1000

static void write_again(int fd, const struct journal_index *index)
{
	struct journal copy = { fuzz_file("", 0), 0 };
	struct journal_index again;
	struct err err;
	json_t *head = json_pack("{s:i,s:s,s:s}", "journal", 1, "key", index->key, "identity",
				 index->identity);

	CHECK(head && journal_append(&copy, head, &err) == RC_OK);
	for (uint32_t n = 1; n <= index->n_pages; n++) {
		json_t *page = index->pages[n - 1].offset ? journal_page(fd, index, n, &err) : NULL;

		CHECK(!page == !index->pages[n - 1].offset);
		CHECK(!page || json_integer_value(json_object_get(page, "page")) == n);
		CHECK(!page || journal_append(&copy, page, &err) == RC_OK);
		json_decref(page);
	}
	CHECK(journal_read(copy.fd, &again, PAGES_MAX, &err) == RC_OK);
	CHECK(!strcmp(again.key, index->key) && !strcmp(again.identity, index->identity));
	CHECK(again.n_pages == index->n_pages);
	for (uint32_t n = 1; n <= index->n_pages; n++) {
		json_t *one = index->pages[n - 1].offset ? journal_page(fd, index, n, &err) : NULL;
		json_t *two = again.pages[n - 1].offset ? journal_page(copy.fd, &again, n, &err) : NULL;

		CHECK(one ? json_equal(one, two) : !two);
		json_decref(one);
		json_decref(two);
	}
	json_decref(head);
	journal_index_release(&again);
	journal_close(&copy);
}

static void read_journal(const void *data, size_t size)
{
	int fd = fuzz_file(data, size);
	struct journal_index index;
	struct err err;
	enum rc rc = journal_read(fd, &index, PAGES_MAX, &err);

	CHECK(index.n_pages <= PAGES_MAX && index.end_pages <= PAGES_MAX);
	if (rc)
		check_err(rc, &err);
	else
		write_again(fd, &index);
	journal_index_release(&index);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_lines lines = { (const char *)data, (const char *)data + size };
	struct buf right;
	const char *line;
	size_t len;

	read_journal(data, size);
	buf_init(&right, 4 * size + 4096);
	while (fuzz_line(&lines, &line, &len)) {
		if (len <= 9)
			continue;
		buf_addf(&right, "%08x ", crc32c(0, line + 9, len - 9));
		buf_add(&right, line + 9, len - 9);
		buf_addc(&right, '\n');
	}
	read_journal(right.data ? right.data : "", right.len);
	buf_release(&right);
	return 0;
}
