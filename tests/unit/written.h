/* SPDX-License-Identifier: MIT
 *
 * written: what the tests of the writer share.  A test appends records to a journal, has them
 * written, and looks at the files.
 */
#ifndef TESTS_WRITTEN_H
#define TESTS_WRITTEN_H

#include "journal.h"
#include "write.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST_IDENTITY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ALL_OUTPUTS                                                                                \
	"\"text.md\",\"text.txt\",\"document.json\",\"pages.jsonl\",\"document.hocr\""

struct written {
	char folder[64];
	int dirfd;   /* holds the journal */
	int out;     /* the result folder */
	struct journal journal;
	struct totals totals;
	struct err err;
};

static inline int written_set_up(void **state)
{
	struct written *w = xcalloc(1, sizeof(*w));

	snprintf(w->folder, sizeof(w->folder), "/tmp/test-write-XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	w->dirfd = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(w->dirfd, "out", 0755), 0);
	w->out = openat(w->dirfd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(journal_create(&w->journal, w->dirfd, "KEY", TEST_IDENTITY, &w->err),
			 RC_OK);
	*state = w;
	return 0;
}

static inline int written_tear_down(void **state)
{
	static const char *const names[] = { "text.md",	      "text.txt",	    "document.json",
					     "pages.jsonl",   "document.hocr",	    "document.html",
					     "figures/0001-1.png", "figures/0001-2.png",
					     "figures/0001-3.png" };
	struct written *w = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		unlinkat(w->out, names[i], 0);
	unlinkat(w->out, "figures", AT_REMOVEDIR);
	close(w->out);
	journal_close(&w->journal);
	unlinkat(w->dirfd, JOURNAL_NAME, 0);
	unlinkat(w->dirfd, "out", AT_REMOVEDIR);
	close(w->dirfd);
	assert_int_equal(rmdir(w->folder), 0);
	free(w);
	return 0;
}

static inline void written_add(struct written *w, const char *record)
{
	json_error_t why;
	json_t *json = json_loads(record, 0, &why);

	if (!json)
		fail_msg("%s: %s", why.text, record);
	assert_int_equal(journal_append(&w->journal, json, &w->err), RC_OK);
	json_decref(json);
}

/* The caller frees it. */
static inline char *written_job(int pages, const char *outputs)
{
	return xasprintf("{\"key\":\"KEY\",\"identity\":\"" TEST_IDENTITY "\",\"name\":\"a <b> & "
			 "\\\"c\\\".pdf\",\"path\":\"in/a%%0Ab.pdf\",\"input\":{\"sha256\":\"" TEST_IDENTITY
			 "\",\"bytes\":12345},\"pipeline\":{\"name\":\"default\",\"hash\":\"" TEST_IDENTITY
			 "\",\"settings\":{\"dpi\":300}},\"recogniser\":{\"name\":\"tesseract\","
			 "\"version\":\"5.3.0\",\"model\":{\"name\":\"eng\",\"sha256\":\"" TEST_IDENTITY
			 "\"}},\"cloister\":\"0.1.0\",\"kind\":\"pdf\",\"pages\":%d,\"outputs\":[%s],"
			 "\"started\":\"2026-11-21T20:00:00Z\",\"finished\":\"2026-11-21T20:01:00Z\","
			 "\"attempt\":1,\"seconds\":60.5}",
			 pages, outputs);
}

static inline enum rc written_write(struct written *w, int pages, const char *outputs)
{
	char *line = written_job(pages, outputs);
	struct job job;
	enum rc rc = job_parse(&job, line, strlen(line), &w->err);

	if (rc == RC_OK) {
		rc = write_document(&job, w->journal.fd, w->out, &w->totals, &w->err);
		job_release(&job);
	}
	free(line);
	return rc;
}

/* The whole file; the caller frees it. */
static inline char *written_file(struct written *w, const char *name)
{
	int fd = openat(w->out, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	text = xcalloc(1, (size_t)st.st_size + 1);
	assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
	close(fd);
	return text;
}

#define WRITTEN_TEST(name)                                                                         \
	cmocka_unit_test_setup_teardown(name, written_set_up, written_tear_down)

#endif
