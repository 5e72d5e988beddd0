/* SPDX-License-Identifier: MIT
 *
 * document.html: whatever a model writes, a browser gets text, tables and this document's own
 * pictures.
 */
#include "written.h"

#include "decode.h"
#include "html.h"
#include "safe-html.h"

static void web_of(struct buf *out, const char *format, const char *text)
{
	json_t *blocks = json_pack("[i]", 1);

	buf_init(out, 64 << 20);
	assert_true(web_render(out, format, text, blocks));
	json_decref(blocks);
}

static void expect(const char *format, const char *text, const char *want)
{
	struct buf out;

	web_of(&out, format, text);
	assert_string_equal(out.data ? out.data : "", want);
	buf_release(&out);
}

static void test_markdown(void **state)
{
	(void)state;
	expect("markdown", "# A & B\n\ntext *is* **here**  \nbroken\n",
	       "<h1>A &amp; B</h1>\n<p>text <em>is</em> <strong>here</strong><br>\nbroken</p>\n");
	expect("markdown", "costs $a_1 < b$, then\n\n$$\nE = mc^2\n$$\n",
	       "<p>costs <span class=\"math\">$a_1 &lt; b$</span>, then</p>\n"
	       "<p><span class=\"math\">$$E = mc^2 $$</span></p>\n");
	expect("markdown", "|a|b|\n|---|---|\n|1|2|\n",
	       "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n"
	       "<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n</tbody>\n</table>\n");
	expect("markdown", "<table><tr><td colspan=\"2\">x<math>y^2</math></td></tr></table>\n",
	       "<table><tbody><tr><td colspan=\"2\">x<span "
	       "class=\"math\">$y^2$</span></td></tr></tbody></table>\n");
	expect("markdown", "- [x] done\n- [ ] not\n",
	       "<ul>\n<li><input type=\"checkbox\" disabled checked>done</li>\n"
	       "<li><input type=\"checkbox\" disabled>not</li>\n</ul>\n");
	expect("markdown",
	       "[link](http://example.org/) <page_number>3</page_number> <img>A boat</img> "
	       "https://example.org\n",
	       "<p>link 3 A boat https://example.org</p>\n");
	expect("markdown", "![a](#block-1) ![b](#block-2) ![c](#block-01)",
	       "<p><img src=\"#block-1\" alt=\"a\"> <span class=\"picture\">b</span> <span "
	       "class=\"picture\">c</span></p>\n");
	expect("html", "<p>one<p title=x>two", "<p>one</p><p>two</p>");
	expect("html", "<title>T</title><body onload=x()>B<frameset><frame src=x></frameset>C",
	       "TBC");
}

static void test_hostile(void **state)
{
	static const char *const hostile[] = {
		"<script>alert(1)</script>",
		"<img src=x onerror=alert(1)>",
		"<a href=\"javascript:alert(1)\">x</a>",
		"<svg><script>alert(1)</script></svg>",
		"<svg/onload=alert(1)>",
		"<iframe src=//x></iframe>",
		"<math><mtext><img src=x onerror=alert(1)></mtext></math>",
		"<style>@import 'http://x'</style>",
		"<link rel=stylesheet href=http://x>",
		"<meta http-equiv=refresh content='0;url=http://x'>",
		"<base href=http://x><img src=#block-1>",
		"<form action=http://x><input type=image src=x></form>",
		"<object data=x></object><embed src=x>",
		"<table background=http://x><td style='a:url(x)'>",
		"<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
		"<textarea></textarea><script>x</script>",
		"<math><mi><table><mglyph><style><img src=x onerror=alert(1)>",
		"<!--><script>alert(1)</script>-->",
		"<svg></p><style><a id=\"</style><img src=1 onerror=alert(1)>\">",
		"<template><script>x</script></template>",
		"![x](javascript:alert(1)) ![y](#block-1) ![z](figures/../../etc/passwd) "
		"![w](#block-2)",
		"![x](\"onerror=alert(1)) ![\"><script>](#block-1)",
		"<img src=\"#block-1\" srcset=\"http://x 2x\">",
		"<img src=\"data:image/svg+xml,<svg onload=alert(1)>\">",
		"<plaintext><script>x",
		"<xmp><script>x</script></xmp>",
		"</section></body><script>x</script>",
		"$<script>alert(1)</script>$",
		"`<script>`",
		"&lt;script&gt;x&lt;/script&gt;",
		"<p class=\"x\" id=y>",
		"<input type=password value=\"<script>\"><button formaction=javascript:x>z",
		"<x-equation type=\"display\"><img src=x onerror=y></x-equation>",
		"<video><source onerror=x></video>",
		"<h1",
		"<",
		"",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
		static const char *const formats[] = {"markdown", "html"};

		for (size_t k = 0; k < 2; k++) {
			struct buf out;

			web_of(&out, formats[k], hostile[i]);
			if (out.data && unsafe_html(out.data))
				fail_msg("%s: %.80s", hostile[i], unsafe_html(out.data));
			buf_release(&out);
		}
	}
}

static bool none(void *arg, const char *address)
{
	(void)arg;
	(void)address;
	return false;
}

/* What is too much is refused; what is not takes no more stack than there is. */
static void test_large(void **state)
{
	static const char *const units[] = {
		"<div>", "<b>",	   "<table><tr><td>", "<p></p>", "<a><b></p>",
		"</p>",	 "<b><p>", "<ul><li>",	      "<svg>",	 "<i><b><u><p>"};
	struct buf html, out;

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		unsigned tags = 0;

		buf_init(&html, 8 << 20);
		buf_init(&out, 64 << 20);
		for (const char *p = units[i]; *p; p++)
			tags += *p == '<';
		for (unsigned n = 0; n + tags < 20000; n += tags)
			buf_adds(&html, units[i]);
		assert_true(html_clean(&out, html.data, html.len, none, NULL));
		buf_adds(&html, "<i><i><i><i><i><i><i><i><i><i>");
		buf_clear(&out);
		assert_false(html_clean(&out, html.data, html.len, none, NULL));
		assert_int_equal(out.len, 0);
		buf_release(&html);
		buf_release(&out);
	}
	buf_init(&html, 8 << 20);
	while (html.len < 5 << 20)
		buf_adds(&html, "words ");
	buf_init(&out, 64 << 20);
	assert_false(web_render(&out, "html", html.data, NULL));
	buf_release(&out);
	buf_init(&out, 100);
	assert_false(web_render(&out, "markdown", "*too* *long* *for* *what* *it* *goes* *into*\n\n"
						  "*too* *long* *for* *what* *it* *goes* *into*", NULL));
	buf_release(&out);
	buf_release(&html);
}

/* The whole file: its head, a mark for each page, what became of it, its pictures. */
static void test_document(void **state)
{
	struct written *w = *state;
	char *text;

	written_add(
		w,
		"{\"page\":1,\"status\":\"ok\",\"source\":\"recogniser\",\"width\":10,\"height\":"
		"20,"
		"\"figures\":[{\"block\":0,\"box\":[0,0,5,5],\"label\":\"Image\",\"png\":\"aGVsbG8="
		"\"},"
		"{\"block\":4,\"box\":[0,0,5,5],\"png\":\"\"},"
		"{\"block\":5,\"box\":[0,0,5,5],\"png\":\"\"}],\"html\":\"<p><img src=\\\"#block-0\\\" "
		"alt=\\\"a\\\"> <img src=\\\"#block-4\\\"></p>\","
		"\"result\":{\"status\":\"ok\",\"format\":\"markdown\",\"text\":\"![a](#block-0) "
		"![b](#block-4)"
		" ![c](#block-9) (#block-0) ![d](#block-00) src=\\\"#block-4\\\" ![e](#block-)\","
		"\"blocks\":[{\"label\":\"Image\",\"box\":[0,0,5,5],\"figure\":true}]}}");
	written_add(w, "{\"page\":2,\"status\":\"failed\",\"reason\":\"r\",\"detail\":\"<b>\"}");
	written_add(w, "{\"page\":3,\"status\":\"flagged\",\"reason\":\"html\",\"html\":null,\"result\":"
		       "{\"format\":\"markdown\",\"text\":\"*a* <b>\"}}");
	written_add(w, "{\"page\":4,\"status\":\"ok\",\"result\":{\"format\":\"text\",\"text\":\"a <b>\"}}");
	written_add(w, "{\"end\":4}");
	assert_int_equal(written_write(w, 4, "\"document.html\",\"pages.jsonl\",\"text.md\""),
			 RC_OK);
	text = written_file(w, "document.html");
	assert_non_null(strstr(text, "<title>a &lt;b&gt; &amp; &quot;c&quot;.pdf</title>"));
	assert_non_null(strstr(text, "default-src 'none'"));
	assert_non_null(strstr(text, "<section id=\"page-1\">\n<p class=\"page\">Page 1</p>\n<p>"
				     "<img src=\"figures/0001-1.png\" alt=\"a\"> <img "
				     "src=\"figures/0001-2.png\"></p>\n<p><img "
				     "src=\"figures/0001-3.png\" alt=\"\"></p>\n</section>"));
	assert_non_null(strstr(text, "<div class=\"plain\">*a* &lt;b&gt;</div>"));
	assert_non_null(strstr(text, "<div class=\"plain\">a &lt;b&gt;</div>"));
	assert_non_null(strstr(text, "<p class=\"state\">failed, r: &lt;b&gt;</p>\n\n</section>"));
	free(text);
	text = written_file(w, "text.md");
	assert_non_null(
		strstr(text, "![a](figures/0001-1.png) ![b](figures/0001-2.png) ![c]() (#block-0) "
			     "![d](figures/0001-1.png) src=\"figures/0001-2.png\" ![e](#block-)"));
	free(text);
	text = written_file(w, "figures/0001-1.png");
	assert_string_equal(text, "hello");
	free(text);
	text = written_file(w, "pages.jsonl");
	assert_null(strstr(text, "aGVsbG8"));
	assert_null(strstr(text, "\"html\":"));
	assert_non_null(strstr(
		text, "{\"block\":0,\"box\":[0,0,5,5],\"bytes\":5,\"file\":\"figures/"
		      "0001-1.png\",\"label\":\"Image\","
		      "\"sha256\":"
		      "\"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\"}"));
	free(text);
}

static void test_not_base64(void **state)
{
	struct written *w = *state;

	written_add(w, "{\"page\":1,\"status\":\"ok\",\"figures\":[{\"png\":\"a*b=\"}]}");
	written_add(w, "{\"end\":1}");
	assert_int_equal(written_write(w, 1, "\"document.html\""), RC_FAILED);
	assert_non_null(strstr(w->err.text, "picture 1 of page 1 is not base64"));
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_markdown), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_large),	 WRITTEN_TEST(test_document),
		WRITTEN_TEST(test_not_base64),
	};

	return cmocka_run_group_tests_name("web", tests, NULL, NULL);
}
