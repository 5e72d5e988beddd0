/* SPDX-License-Identifier: MIT
 *
 * document.hocr: well-formed, structured as hOCR 1.2 asks, with the recogniser's boxes and no other.
 *
 * The rules of the format are checked by a second implementation: Python's XML parser and a few
 * lines that know the specification's nesting, properties and ids.
 */
#include "written.h"

#include <sys/wait.h>

static const char checker[] =
	"import re, sys, xml.etree.ElementTree as ET\n"
	"X = '{http://www.w3.org/1999/xhtml}'\n"
	"root = ET.parse(sys.argv[1]).getroot()\n"
	"assert root.tag == X + 'html', root.tag\n"
	"metas = {m.get('name'): m.get('content') for m in root.iter(X + 'meta')}\n"
	"assert metas['ocr-system'], metas\n"
	"capabilities = metas['ocr-capabilities'].split()\n"
	"within = {'ocr_page': None, 'ocr_carea': 'ocr_page', 'ocr_par': 'ocr_carea',\n"
	"          'ocr_line': 'ocr_par', 'ocrx_word': 'ocr_line'}\n"
	"ids, pages = set(), []\n"
	"def properties(e):\n"
	"    p = {}\n"
	"    for part in filter(None, (e.get('title') or '').split(';')):\n"
	"        name, *values = part.split()\n"
	"        assert name not in p, part\n"
	"        p[name] = [float(v) for v in values]\n"
	"    if 'bbox' in p:\n"
	"        b = p['bbox']\n"
	"        assert len(b) == 4 and 0 <= b[0] <= b[2] and 0 <= b[1] <= b[3], b\n"
	"        assert all(v == int(v) for v in b), b\n"
	"    if 'x_wconf' in p:\n"
	"        assert 0 <= p['x_wconf'][0] <= 100, p\n"
	"        assert 'ocrp_wconf' in capabilities\n"
	"    return p\n"
	"def inside(inner, outer):\n"
	"    return outer is None or inner is None or (\n"
	"        outer[0] <= inner[0] and outer[1] <= inner[1] and\n"
	"        inner[2] <= outer[2] and inner[3] <= outer[3])\n"
	"def walk(e, parent, box):\n"
	"    kind = e.get('class')\n"
	"    if kind:\n"
	"        assert kind in capabilities and within[kind] == parent, (kind, parent)\n"
	"        assert e.get('id') and e.get('id') not in ids, e.get('id')\n"
	"        ids.add(e.get('id'))\n"
	"        p = properties(e)\n"
	"        assert inside(p.get('bbox'), box), (kind, p, box)\n"
	"        box = p.get('bbox', box)\n"
	"        if kind == 'ocr_page':\n"
	"            assert p['ppageno'] == [len(pages)], p\n"
	"            pages.append(e)\n"
	"        if kind == 'ocrx_word':\n"
	"            assert 'bbox' in p and ''.join(e.itertext()).strip()\n"
	"        parent = kind\n"
	"    for child in e:\n"
	"        walk(child, parent, box)\n"
	"walk(root.find(X + 'body'), None, None)\n"
	"assert len(pages) == int(metas['ocr-number-of-pages']), len(pages)\n"
	"count = lambda k: sum(1 for e in root.iter() if e.get('class') == k)\n"
	"print(*[count(k) for k in ('ocr_page', 'ocr_carea', 'ocr_line', 'ocrx_word')])\n";

/* What the checker counts: pages, areas, lines, words; "" when it finds fault. */
static void check(struct written *w, char *counts, size_t size)
{
	char *file = xasprintf("%s/out/document.hocr", w->folder);
	int from[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(from), 0);
	pid = fork();
	if (pid == 0) {
		dup2(from[1], STDOUT_FILENO);
		execlp("python3", "python3", "-c", checker, file, (char *)NULL);
		_exit(127);
	}
	close(from[1]);
	while ((n = read(from[0], counts + len, size - 1 - len)) > 0)
		len += (size_t)n;
	close(from[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	counts[len && status == 0 ? len - 1 : 0] = '\0';
	free(file);
}

static const char turned_page[] =
	"{\"page\":1,\"status\":\"ok\",\"dpi\":299.6,\"width\":1000,\"height\":2000,\"result\":{"
	"\"status\":\"ok\",\"format\":\"text\",\"text\":\"One <two>\\nthree\\n\\nfour & five\","
	"\"rotation\":90,\"lines\":["
	"{\"box\":[10,20,310,40],\"words\":["
	"{\"text\":\"One\",\"box\":[10,20,100,40],\"confidence\":0.976},"
	"{\"text\":\"<two>\",\"box\":[110,22,310,38],\"confidence\":1}]},"
	"{\"box\":[10,50,90,70],\"words\":[{\"text\":\"three\",\"box\":[10,50,90,72],\"confidence\":0}]},"
	"{\"box\":[12,200,400,240],\"words\":["
	"{\"text\":\"four\",\"box\":[12,200,100,240]},{\"text\":\"&\",\"box\":[110,200,120,240]},"
	"{\"text\":\"five\",\"box\":[130,200,400,240]}]}]}}";

static void test_lines_and_words(void **state)
{
	struct written *w = *state;
	char counts[64], *text;

	written_add(w, turned_page);
	written_add(w, "{\"end\":1}");
	assert_int_equal(written_write(w, 1, "\"document.hocr\""), RC_OK);
	check(w, counts, sizeof(counts));
	assert_string_equal(counts, "1 2 3 6"); /* two paragraphs */
	text = written_file(w, "document.hocr");
	assert_non_null(strstr(text, "<div class=\"ocr_page\" id=\"page_1\" title=\"bbox 0 0 1000 2000; "
				     "ppageno 0; scan_res 300 300\">"));
	assert_non_null(strstr(text, "<div class=\"ocr_carea\" id=\"block_1_1\" "
				     "title=\"bbox 10 20 310 72\">"));
	assert_non_null(strstr(text, "title=\"bbox 10 50 90 72; textangle 90\">"));
	assert_non_null(strstr(text, "title=\"bbox 10 20 100 40; x_wconf 98\">One</span>"));
	assert_non_null(strstr(text, "title=\"bbox 110 22 310 38; x_wconf 100\">&lt;two&gt;</span>"));
	assert_non_null(strstr(text, "title=\"bbox 110 200 120 240\">&amp;</span>"));
	assert_non_null(strstr(text, "<title>a &lt;b&gt; &amp; &quot;c&quot;.pdf</title>"));
	assert_non_null(strstr(text, "content=\"cloister 0.1.0, tesseract 5.3.0\""));
	free(text);
}

/* Text that does not fit its lines: one paragraph, all words. */
static void test_lines_without_matching_text(void **state)
{
	struct written *w = *state;
	char counts[64];

	written_add(w, "{\"page\":1,\"status\":\"ok\",\"width\":99,\"height\":99,\"result\":{"
		       "\"text\":\"a\\n\\nb\\n\\nc\",\"lines\":["
		       "{\"box\":[1,1,9,9],\"words\":[{\"text\":\"a\",\"box\":[1,1,9,9]}]},"
		       "{\"words\":[{\"text\":\"b\"}]}]}}");
	written_add(w, "{\"end\":1}");
	assert_int_equal(written_write(w, 1, "\"document.hocr\""), RC_OK);
	check(w, counts, sizeof(counts));
	assert_string_equal(counts, "1 1 2 1"); /* a word without a box is text, not ocrx_word */
}

static void test_blocks_get_no_invented_words(void **state)
{
	struct written *w = *state;
	char counts[64], *text;

	written_add(w, "{\"page\":1,\"status\":\"ok\",\"width\":99,\"height\":99,\"result\":{"
		       "\"format\":\"markdown\",\"text\":\"# A\\n\\nb c\",\"blocks\":["
		       "{\"box\":[1,2,30,4],\"text\":\"# A\"},{\"box\":[1,10,30,40],\"text\":\"b <c>\"},"
		       "{\"box\":[1,50,30,60]}]}}");
	written_add(w, "{\"page\":2,\"status\":\"ok\",\"width\":99,\"height\":99,\"result\":{"
		       "\"format\":\"markdown\",\"text\":\"only text\"}}");
	written_add(w, "{\"page\":3,\"status\":\"failed\",\"reason\":\"x\"}");
	written_add(w, "{\"end\":3}");
	assert_int_equal(written_write(w, 3, "\"document.hocr\""), RC_OK);
	check(w, counts, sizeof(counts));
	assert_string_equal(counts, "3 3 0 0");
	text = written_file(w, "document.hocr");
	assert_non_null(strstr(text, "id=\"block_1_2\" title=\"bbox 1 10 30 40\">"));
	assert_non_null(strstr(text, "b &lt;c&gt;"));
	assert_non_null(strstr(text, "id=\"block_2_1\">")); /* its box is not known */
	free(text);
}

/* The checker is no use if it never finds fault. */
static void test_checker_has_teeth(void **state)
{
	struct written *w = *state;
	char counts[64];

	written_add(w, "{\"page\":1,\"status\":\"ok\",\"width\":99,\"height\":99,\"result\":{\"text\":\"a\","
		       "\"lines\":[{\"box\":[1,1,9,9],\"words\":[{\"text\":\"a\",\"box\":[1,1,500,9]}]}]}}");
	written_add(w, "{\"end\":1}");
	assert_int_equal(written_write(w, 1, "\"document.hocr\""), RC_OK);
	check(w, counts, sizeof(counts));
	assert_string_equal(counts, ""); /* a word outside the page */
}

static void test_escape(void **state)
{
	static const struct {
		const char *text, *xml;
	} cases[] = {
		{ "<a href=\"x\">&amp;</a>", "&lt;a href=&quot;x&quot;&gt;&amp;amp;&lt;/a&gt;" },
		{ "tab\tline\nend", "tab\tline\nend" },
		{ "\x01" "a\x1b[2Jb\rc", "a[2Jbc" },
		{ "\xef\xbf\xbe" "x\xef\xbf\xbf", "x" },	     /* U+FFFE, U+FFFF */
		{ "\xef\xbf\xbd \xef\xbe\xbe", "\xef\xbf\xbd \xef\xbe\xbe" }, /* their neighbours */
		{ "caf\xe9 \xed\xa0\x80.", "caf ." },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf out;

		buf_init(&out, 4096);
		xml_escape(&out, cases[i].text);
		assert_string_equal(out.data ? out.data : "", cases[i].xml);
		buf_release(&out);
	}
}

/* Every code point that JSON can carry, as text, stays XML. */
static void test_any_text_is_well_formed(void **state)
{
	struct written *w = *state;
	json_t *record = json_pack("{s:i, s:s, s:i, s:i, s:{s:s, s:[{s:[i,i,i,i], s:[]}]}}", "page", 1,
				   "status", "ok", "width", 9, "height", 9, "result", "text", "x",
				   "lines", "box", 0, 0, 9, 9, "words");
	json_t *words = json_object_get(json_array_get(json_object_get(json_object_get(record, "result"),
								      "lines"),
						      0),
					"words");
	char counts[64];

	for (unsigned c = 1; c < 0x11000; c += c < 0x300 || c > 0xfff0 ? 1 : 0x101) {
		char utf8[5] = { 0 };

		if (c >= 0xd800 && c < 0xe000)
			continue;
		if (c < 0x80)
			utf8[0] = (char)c;
		else if (c < 0x800)
			memcpy(utf8, (char[]){ (char)(0xc0 | c >> 6), (char)(0x80 | (c & 63)) }, 2);
		else if (c < 0x10000)
			memcpy(utf8, (char[]){ (char)(0xe0 | c >> 12), (char)(0x80 | (c >> 6 & 63)),
					       (char)(0x80 | (c & 63)) }, 3);
		else
			memcpy(utf8, (char[]){ (char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 63)),
					       (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63)) }, 4);
		json_array_append_new(words, json_pack("{s:o, s:[i,i,i,i]}", "text",
						       json_pack("s++", "<", utf8, ">"), "box", 1, 1, 2,
						       2));
	}
	assert_int_equal(journal_append(&w->journal, record, &w->err), RC_OK);
	json_decref(record);
	written_add(w, "{\"end\":1}");
	assert_int_equal(written_write(w, 1, "\"document.hocr\""), RC_OK);
	check(w, counts, sizeof(counts));
	assert_int_equal(strncmp(counts, "1 1 1 ", 6), 0);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		WRITTEN_TEST(test_lines_and_words),
		WRITTEN_TEST(test_lines_without_matching_text),
		WRITTEN_TEST(test_blocks_get_no_invented_words),
		WRITTEN_TEST(test_checker_has_teeth),
		cmocka_unit_test(test_escape),
		WRITTEN_TEST(test_any_text_is_well_formed),
	};

	return cmocka_run_group_tests_name("hocr", tests, NULL, NULL);
}
