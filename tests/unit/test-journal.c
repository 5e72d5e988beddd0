/* SPDX-License-Identifier: MIT
 *
 * journal: what was appended is read back, in page order, up to where a crash tore it.
 */
#include "journal.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/lines.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define IDENTITY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MAX_PAGES 1000

struct place {
	char folder[64];
	int dirfd;
	struct journal journal;
};

static int set_up(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	struct err err;

	snprintf(p->folder, sizeof(p->folder), "/tmp/test-journal-XXXXXX");
	assert_non_null(mkdtemp(p->folder));
	p->dirfd = open(p->folder, O_RDONLY | O_DIRECTORY);
	assert_int_equal(journal_create(&p->journal, p->dirfd, "KEY", IDENTITY, &err), RC_OK);
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;

	journal_close(&p->journal);
	unlinkat(p->dirfd, JOURNAL_NAME, 0);
	close(p->dirfd);
	rmdir(p->folder);
	free(p);
	return 0;
}

static void append(struct place *p, int page, const char *text)
{
	json_t *record = json_pack("{s:i, s:s}", "page", page, "text", text);
	struct err err;

	assert_int_equal(journal_append(&p->journal, record, &err), RC_OK);
	json_decref(record);
}

static void append_end(struct place *p, int pages)
{
	json_t *record = json_pack("{s:i}", "end", pages);
	struct err err;

	assert_int_equal(journal_append(&p->journal, record, &err), RC_OK);
	json_decref(record);
}

static void assert_page(struct place *p, const struct journal_index *index, uint32_t page,
			const char *text)
{
	struct err err;
	json_t *record = journal_page(p->journal.fd, index, page, &err);

	assert_non_null(record);
	assert_int_equal(json_integer_value(json_object_get(record, "page")), page);
	assert_string_equal(json_string_value(json_object_get(record, "text")), text);
	json_decref(record);
}

static void test_round_trip(void **state)
{
	struct place *p = *state;
	struct journal_index index;
	struct err err;

	append(p, 3, "drei \xe2\x82\xac\n\"");
	append(p, 1, "eins");
	append(p, 2, "zwei");
	append_end(p, 3);
	assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_OK);
	assert_string_equal(index.key, "KEY");
	assert_string_equal(index.identity, IDENTITY);
	assert_int_equal(index.n_pages, 3);
	assert_true(index.ended);
	assert_int_equal(index.end_pages, 3);
	assert_page(p, &index, 1, "eins");
	assert_page(p, &index, 2, "zwei");
	assert_page(p, &index, 3, "drei \xe2\x82\xac\n\"");
	journal_index_release(&index);
}

static void test_gap_and_no_end(void **state)
{
	struct place *p = *state;
	struct journal_index index;
	struct err err;

	append(p, 4, "vier");
	assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_OK);
	assert_false(index.ended);
	assert_int_equal(index.n_pages, 4);
	assert_null(journal_page(p->journal.fd, &index, 2, &err));
	assert_string_equal(err.reason, "journal");
	assert_null(journal_page(p->journal.fd, &index, 5, &err));
	assert_null(journal_page(p->journal.fd, &index, 0, &err));
	assert_page(p, &index, 4, "vier");
	journal_index_release(&index);
}

static void test_later_record_wins(void **state)
{
	struct place *p = *state;
	struct journal_index index;
	struct err err;

	append(p, 1, "first");
	append(p, 1, "second");
	assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_OK);
	assert_page(p, &index, 1, "second");
	journal_index_release(&index);
}

/* A power cut may tear the last record anywhere: cut the file at every length. */
static void test_torn_at_every_byte(void **state)
{
	struct place *p = *state;
	off_t head = lseek(p->journal.fd, 0, SEEK_END), first, second;
	struct journal_index index;
	struct err err;

	append(p, 1, "one");
	first = lseek(p->journal.fd, 0, SEEK_END);
	append(p, 2, "two");
	second = lseek(p->journal.fd, 0, SEEK_END);
	for (off_t size = second; size >= 0; size--) {
		uint32_t pages = size < first ? 0 : size < second ? 1 : 2;

		assert_int_equal(ftruncate(p->journal.fd, size), 0);
		if (size < head) {
			assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err),
					 RC_FAILED);
			continue;
		}
		assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_OK);
		assert_int_equal(index.n_pages, pages);
		journal_index_release(&index);
	}
}

/* ... or leave any byte wrong: what comes after it is not believed. */
static void test_every_byte_wrong(void **state)
{
	struct place *p = *state;
	off_t first = lseek(p->journal.fd, 0, SEEK_END), end;
	struct journal_index index;
	struct err err;

	append(p, 1, "one");
	end = lseek(p->journal.fd, 0, SEEK_END);
	append(p, 2, "two");
	for (off_t at = first; at < end; at++) {
		char byte, wrong;

		assert_int_equal(pread(p->journal.fd, &byte, 1, at), 1);
		wrong = byte ^ 1;
		assert_int_equal(pwrite(p->journal.fd, &wrong, 1, at), 1);
		assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_OK);
		assert_int_equal(index.n_pages, 0);
		journal_index_release(&index);
		assert_int_equal(pwrite(p->journal.fd, &byte, 1, at), 1);
	}
	assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_OK);
	assert_int_equal(index.n_pages, 2);
	journal_index_release(&index);
}

static void add_raw(struct place *p, const char *json)
{
	struct buf line;

	buf_init(&line, 4096);
	buf_addf(&line, "%08x %s\n", crc32c(0, json, strlen(json)), json);
	assert_int_equal(write_full(p->journal.fd, line.data, line.len), 0);
	buf_release(&line);
}

/* A good checksum does not make a good record; none of these may take the reader down. */
static void test_records_that_do_not_belong(void **state)
{
	static const char *const odd[] = {
		"{\"page\":0}",	      "{\"page\":1001}", "{\"page\":-1}", "{\"page\":\"1\"}",
		"{\"end\":-1}",	      "{\"end\":1001}",	 "[1]",		  "{}",
		"{\"page\":1,\"page\":2}", "nonsense",	 "\"page\"",
	};
	struct place *p = *state;
	off_t head = lseek(p->journal.fd, 0, SEEK_END);
	struct journal_index index;
	struct err err;

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		assert_int_equal(ftruncate(p->journal.fd, head), 0);
		lseek(p->journal.fd, 0, SEEK_END);
		add_raw(p, odd[i]);
		append(p, 1, "after it");
		assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_OK);
		assert_int_equal(index.n_pages, 0);
		assert_false(index.ended);
		journal_index_release(&index);
	}
}

static void test_head_must_fit(void **state)
{
	static const char *const odd[] = {
		"{\"page\":1}",
		"{\"journal\":2,\"key\":\"K\",\"identity\":\"" IDENTITY "\"}",
		"{\"journal\":1,\"key\":\"K\",\"identity\":\"short\"}",
		"{\"journal\":1,\"identity\":\"" IDENTITY "\"}",
	};
	struct place *p = *state;
	struct journal_index index;
	struct err err;

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		assert_int_equal(ftruncate(p->journal.fd, 0), 0);
		lseek(p->journal.fd, 0, SEEK_SET);
		add_raw(p, odd[i]);
		assert_int_equal(journal_read(p->journal.fd, &index, MAX_PAGES, &err), RC_FAILED);
		assert_string_equal(err.reason, "journal");
	}
}

static void test_only_one_makes_it(void **state)
{
	struct place *p = *state;
	struct journal other;
	struct err err;

	assert_int_equal(journal_create(&other, p->dirfd, "KEY", IDENTITY, &err), RC_RETRY);
}

/* A full disk: the part of a record that was written is cut off, and the next one fits again. */
static void test_disk_full(void **state)
{
	struct place *p = *state;
	struct rlimit old, low;
	char text[4096];
	json_t *record;
	off_t size;
	struct err err;

	append(p, 1, "one");
	size = lseek(p->journal.fd, 0, SEEK_END);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	record = json_pack("{s:i, s:s}", "page", 2, "text", text);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = (struct rlimit){ (rlim_t)size + 100, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(journal_append(&p->journal, record, &err), RC_RETRY);
	assert_int_equal(lseek(p->journal.fd, 0, SEEK_END), size);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(journal_append(&p->journal, record, &err), RC_OK);
	json_decref(record);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_gap_and_no_end),
		TEST(test_later_record_wins),
		TEST(test_torn_at_every_byte),
		TEST(test_every_byte_wrong),
		TEST(test_records_that_do_not_belong),
		TEST(test_head_must_fit),
		TEST(test_only_one_makes_it),
		TEST(test_disk_full),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
