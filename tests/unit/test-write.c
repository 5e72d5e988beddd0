/* SPDX-License-Identifier: MIT
 *
 * cloister-write: every page once in every file, nothing missing silently, no half-written results.
 */
#include "written.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Five pages as they may come, finished out of order. */
static void add_five(struct written *w)
{
	written_add(w, "{\"page\":2,\"status\":\"failed\",\"reason\":\"limit:page-seconds\","
		       "\"detail\":\"took <long>\\n*very*\",\"seconds\":{\"decode\":60.1},\"tries\":2}");
	written_add(w, "{\"page\":1,\"status\":\"ok\",\"seconds\":{\"decode\":0.1,\"read\":2.2},"
		       "\"dpi\":300.0,\"native\":true,\"width\":1000,\"height\":2000,\"channels\":1,"
		       "\"ink\":0.07,\"source\":\"recogniser\",\"tries\":1,\"result\":{\"status\":\"ok\","
		       "\"format\":\"text\",\"text\":\"Hello w\\u00f6rld\\n\\n# two\\n1. three\","
		       "\"rotation\":90,\"confidence\":0.9,\"confidence_worst\":0.5,\"lines\":["
		       "{\"box\":[1,2,300,40],\"words\":[{\"text\":\"Hello\",\"box\":[1,2,100,40],"
		       "\"confidence\":0.9},{\"text\":\"w\\u00f6rld\",\"box\":[110,2,300,40],"
		       "\"confidence\":0.5}]}]}}");
	written_add(w, "{\"page\":4,\"status\":\"flagged\",\"reason\":\"suspect-blank\",\"width\":10,"
		       "\"height\":20,\"source\":\"recogniser\"}");
	written_add(w, "{\"page\":3,\"status\":\"ok\",\"source\":\"blank\",\"width\":10,\"height\":20}");
	written_add(w, "{\"page\":5,\"status\":\"ok\",\"source\":\"recogniser\",\"width\":10,"
		       "\"height\":20,\"result\":{\"status\":\"ok\",\"format\":\"markdown\","
		       "\"text\":\"# Title\\n<!-- page 4 -->\\nfour words of text\",\"confidence\":0.6}}");
	written_add(w, "{\"end\":5}");
}

static void test_text(void **state)
{
	struct written *w = *state;
	char *text;

	add_five(w);
	assert_int_equal(written_write(w, 5, "\"text.txt\""), RC_OK);
	text = written_file(w, "text.txt");
	assert_string_equal(text, "[page 1]\n"
				  "\n"
				  "Hello w\xc3\xb6rld\n"
				  "\n"
				  "# two\n"
				  "1. three\n"
				  "\f[page 2: failed, limit:page-seconds: took <long>\\x0a*very*]\n"
				  "\f[page 3: blank]\n"
				  "\f[page 4: flagged, suspect-blank]\n"
				  "\f[page 5]\n"
				  "\n"
				  "# Title\n"
				  "<!-- page 4 -->\n"
				  "four words of text\n");
	free(text);
}

static void test_markdown(void **state)
{
	struct written *w = *state;
	char *text;

	add_five(w);
	assert_int_equal(written_write(w, 5, "\"text.md\""), RC_OK);
	text = written_file(w, "text.md");
	assert_string_equal(
		text, "<!-- page 1 -->\n"
		      "\n"
		      "Hello w\xc3\xb6rld\n"
		      "\n"
		      "\\# two  \n"
		      "1\\. three\n"
		      "\n"
		      "<!-- page 2 -->\n"
		      "\n"
		      "> **Page 2: failed, limit:page-seconds: took \\<long\\>\\\\x0a\\*very\\***\n"
		      "\n"
		      "<!-- page 3 -->\n"
		      "\n"
		      "> **Page 3: blank**\n"
		      "\n"
		      "<!-- page 4 -->\n"
		      "\n"
		      "> **Page 4: flagged, suspect-blank**\n"
		      "\n"
		      "<!-- page 5 -->\n"
		      "\n"
		      "# Title\n"
		      "<!-- (page) 4 -->\n"
		      "four words of text\n");
	free(text);
}

static void test_markdown_shows_text_as_written(void **state)
{
	static const struct {
		const char *text, *markdown;
	} cases[] = {
		{ "plain, (text) 1.5 - 2!\n", "plain, (text) 1.5 - 2!\n" },
		{ "# a\n+ b\n- c\n= d\n| e\n: f\n", "\\# a  \n\\+ b  \n\\- c  \n\\= d  \n\\| e  \n\\: f\n" },
		{ "> quote\n", "\\> quote\n" },
		{ "12. a\n3) b\n1.5\n", "12\\. a  \n3\\) b  \n1\\.5\n" },
		{ "*a* _b_ `c` ~~d~~ [e](f) <g> &amp; \\h\n",
		  "\\*a\\* \\_b\\_ \\`c\\` \\~\\~d\\~\\~ \\[e\\](f) \\<g\\> \\&amp; \\\\h\n" },
		{ "    code\n\ttab\n", "&nbsp;&nbsp;&nbsp;&nbsp;code  \n&nbsp;tab\n" },
		{ "one\ntwo\n \t\nthree", "one  \ntwo\n\nthree\n" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf out;

		buf_init(&out, 4096);
		markdown_escape(&out, cases[i].text);
		assert_string_equal(out.data ? out.data : "", cases[i].markdown);
		buf_release(&out);
	}
}

static void test_manifest(void **state)
{
	struct written *w = *state;
	char *text;
	json_t *json, *page;
	int ok, flagged, failed, blank, words, pages;
	double mean, worst, dpi, page_worst;
	const char *sha256, *model, *reason;

	add_five(w);
	assert_int_equal(written_write(w, 5, "\"document.json\""), RC_OK);
	text = written_file(w, "document.json");
	json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	assert_int_equal(json_unpack(json, "{s:{s:i,s:i,s:i,s:i,s:i,s:i}, s:{s:f,s:f}, s:{s:s}, "
					   "s:{s:{s:s}}}",
				     "counts", "ok", &ok, "flagged", &flagged, "failed", &failed,
				     "blank", &blank, "words", &words, "pages", &pages,
				     "confidence", "mean", &mean, "worst", &worst, "input", "sha256",
				     &sha256, "recogniser", "model", "sha256", &model),
			 0);
	assert_int_equal(ok, 3);
	assert_int_equal(flagged, 1);
	assert_int_equal(failed, 1);
	assert_int_equal(blank, 1);
	assert_int_equal(pages, 5);
	assert_int_equal(words, 2 + 10); /* the boxes of one page, the pieces of the other */
	assert_true(mean > 0.6499 && mean < 0.6501); /* (2 * 0.9 + 10 * 0.6) / 12 */
	assert_true(worst > 0.4999 && worst < 0.5001);
	assert_string_equal(sha256, TEST_IDENTITY);
	assert_string_equal(model, TEST_IDENTITY);
	assert_int_equal(json_array_size(json_object_get(json, "pages")), 5);
	for (int i = 0; i < 5; i++) {
		page = json_array_get(json_object_get(json, "pages"), (size_t)i);
		assert_int_equal(json_integer_value(json_object_get(page, "page")), i + 1);
		assert_null(json_object_get(page, "result"));
	}
	page = json_array_get(json_object_get(json, "pages"), 0);
	assert_int_equal(json_unpack(page, "{s:f, s:{s:f}}", "dpi", &dpi, "confidence", "worst",
				     &page_worst),
			 0);
	assert_true(dpi == 300 && page_worst > 0.4999 && page_worst < 0.5001);
	assert_int_equal(json_integer_value(json_object_get(page, "rotation")), 90);
	page = json_array_get(json_object_get(json, "pages"), 1);
	assert_int_equal(json_unpack(page, "{s:s}", "reason", &reason), 0);
	assert_string_equal(reason, "limit:page-seconds");
	json_decref(json);
	free(text);
}

/* Each line is the record that the journal holds. */
static void test_pages_jsonl(void **state)
{
	struct written *w = *state;
	struct journal_index index;
	char *text, *line, *rest;
	uint32_t page = 0;

	add_five(w);
	assert_int_equal(written_write(w, 5, "\"pages.jsonl\""), RC_OK);
	assert_int_equal(journal_read(w->journal.fd, &index, 5, &w->err), RC_OK);
	text = written_file(w, "pages.jsonl");
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		json_t *written = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
		json_t *record = journal_page(w->journal.fd, &index, ++page, &w->err);

		assert_non_null(written);
		assert_true(json_equal(written, record));
		json_decref(written);
		json_decref(record);
	}
	assert_int_equal(page, 5);
	journal_index_release(&index);
	free(text);
}

static void test_empty_document(void **state)
{
	struct written *w = *state;
	char *text;
	json_t *json;

	written_add(w, "{\"end\":0}");
	assert_int_equal(written_write(w, 0, ALL_OUTPUTS), RC_OK);
	text = written_file(w, "document.json");
	json = json_loads(text, 0, NULL);
	assert_int_equal(json_array_size(json_object_get(json, "pages")), 0);
	assert_true(json_is_array(json_object_get(json, "pages")));
	json_decref(json);
	free(text);
}

#define PAGE(n) "{\"page\":" #n ",\"status\":\"ok\",\"width\":1,\"height\":1}"

static void assert_refused(void **state, const char *const *records, int pages, const char *why)
{
	struct written *w = *state;

	for (; *records; records++)
		written_add(w, *records);
	assert_int_equal(written_write(w, pages, ALL_OUTPUTS), RC_FAILED);
	assert_string_equal(w->err.reason, "journal");
	assert_non_null(strstr(w->err.text, why));
}

static void test_missing_page(void **state)
{
	static const char *const records[] = { PAGE(1), PAGE(3), "{\"end\":3}", NULL };

	assert_refused(state, records, 3, "page 2");
}

static void test_missing_last_page(void **state)
{
	static const char *const records[] = { PAGE(1), PAGE(2), "{\"end\":3}", NULL };

	assert_refused(state, records, 3, "page 3");
}

static void test_page_too_many(void **state)
{
	static const char *const records[] = { PAGE(1), PAGE(2), "{\"end\":1}", NULL };

	assert_refused(state, records, 1, "2 pages, not 1");
}

static void test_no_end(void **state)
{
	static const char *const records[] = { PAGE(1), NULL };

	assert_refused(state, records, 1, "end record");
}

static void test_other_end(void **state)
{
	static const char *const records[] = { PAGE(1), "{\"end\":2}", NULL };

	assert_refused(state, records, 1, "2 pages, not 1");
}

static void test_status_unknown(void **state)
{
	static const char *const records[] = { "{\"page\":1,\"status\":\"good\"}", "{\"end\":1}", NULL };

	assert_refused(state, records, 1, "page 1");
}

static void test_unknown_output(void **state)
{
	struct written *w = *state;

	written_add(w, "{\"end\":0}");
	assert_int_equal(written_write(w, 0, "\"../evil\""), RC_FATAL);
}

static void test_full_disk(void **state)
{
	struct written *w = *state;
	struct rlimit old, low;

	add_five(w);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = (struct rlimit){ 100, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(written_write(w, 5, ALL_OUTPUTS), RC_RETRY);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_string_equal(w->err.reason, "write-error");
	assert_non_null(strstr(w->err.text, "text.md: File too large"));
}

/* The program itself, in its sandbox. Returns its exit status; out gets what it said. */
static int run_program(struct written *w, const char *job, char *out, size_t out_size)
{
	const char *build = getenv("CLOISTER_BUILD");
	char *program = xasprintf("%s/cloister-write", build ? build : "build");
	int in[2], from[2], status;
	ssize_t n, got = 0;
	pid_t pid;

	if (access(program, X_OK)) {
		free(program);
		skip();
	}
	assert_int_equal(pipe(in) | pipe(from), 0);
	pid = fork();
	if (pid == 0) {
		int journal = fcntl(w->journal.fd, F_DUPFD, 10), folder = fcntl(w->out, F_DUPFD, 10);

		dup2(in[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		dup2(journal, WRITE_JOURNAL_FD);
		dup2(folder, WRITE_FOLDER_FD);
		close(in[1]);
		umask(077);
		execl(program, program, "--sandbox=try", (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(from[1]);
	assert_int_equal(dprintf(in[1], "%s\n", job), strlen(job) + 1);
	close(in[1]);
	while ((n = read(from[0], out + got, out_size - 1 - (size_t)got)) > 0)
		got += n;
	out[got] = '\0';
	close(from[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	free(program);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void test_program(void **state)
{
	struct written *w = *state;
	char *job = written_job(5, ALL_OUTPUTS);
	char out[1024];
	struct stat st;

	add_five(w);
	assert_int_equal(run_program(w, job, out, sizeof(out)), 0);
	assert_string_equal(out, "{\"written\":{\"blank\":1,\"confidence\":0.65,\"failed\":1,"
				 "\"flagged\":1,\"ok\":3,\"words\":12}}\n");
	assert_int_equal(fstatat(w->out, "document.hocr", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	free(job);
}

static void test_program_exit_codes(void **state)
{
	struct written *w = *state;
	char *job = written_job(7, ALL_OUTPUTS);
	char out[1024];

	add_five(w);
	assert_int_equal(run_program(w, job, out, sizeof(out)), EX_BUG);
	assert_string_equal(out, "");
	free(job);
	job = written_job(5, ALL_OUTPUTS);
	assert_int_equal(mkdirat(w->out, "text.txt", 0755), 0); /* cannot be written to */
	assert_int_equal(run_program(w, job, out, sizeof(out)), EX_WORK_REMAINS);
	assert_int_equal(unlinkat(w->out, "text.txt", AT_REMOVEDIR), 0);
	assert_string_equal(out, "");
	free(job);
	assert_int_equal(run_program(w, "{\"key\":1}", out, sizeof(out)), EX_BUG);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		WRITTEN_TEST(test_text),
		WRITTEN_TEST(test_markdown),
		cmocka_unit_test(test_markdown_shows_text_as_written),
		WRITTEN_TEST(test_manifest),
		WRITTEN_TEST(test_pages_jsonl),
		WRITTEN_TEST(test_empty_document),
		WRITTEN_TEST(test_missing_page),
		WRITTEN_TEST(test_missing_last_page),
		WRITTEN_TEST(test_page_too_many),
		WRITTEN_TEST(test_no_end),
		WRITTEN_TEST(test_other_end),
		WRITTEN_TEST(test_status_unknown),
		WRITTEN_TEST(test_unknown_output),
		WRITTEN_TEST(test_full_disk),
		WRITTEN_TEST(test_program),
		WRITTEN_TEST(test_program_exit_codes),
	};

	return cmocka_run_group_tests_name("write", tests, NULL, NULL);
}
