/* SPDX-License-Identifier: MIT
 *
 * What models write, turned into results: whole, broken, and mutated at random.
 */
#include "output.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MUTATIONS 4000

static const char page[] =
	"<div data-bbox=\"[0, 0, 1024, 64]\" data-label=\"Page-Header\">The Daily Tide</div>\n"
	"<div data-bbox=\"[102, 100, 512, 160]\" data-label=\"Section-Header\"><h2>High *water*</h2></div>"
	"<div data-bbox=\"100 200 900 400\" data-label=\"Text\"><p>At <b>six</b> the <i>tide</i> turns,<br>"
	"and costs $5: x<sup>2</sup> &lt; 3.</p><p>Then <math>a_1 + b</math>.</p></div>"
	"<div data-bbox=\"[100,400,900,500]\" data-label=\"List-Group\"><ul><li>one</li><li>two<ol><li>deep"
	"</li></ol></li></ul></div>"
	"<div data-bbox=\"[100,500,900,600]\" data-label=\"Table\"><table onclick=\"x()\"><tr><td colspan=\"2\""
	" style=\"a\">A &amp; B</td></tr></table></div>"
	"<div data-bbox=\"[100,600,900,700]\" data-label=\"Equation-Block\"><math display=\"block\">E = mc^2"
	"</math></div>"
	"<div data-bbox=\"[100,700,900,800]\" data-label=\"Figure\"><img alt=\"A boat\"></div>"
	"<div data-bbox=\"[100,800,900,850]\" data-label=\"Form\"><input type=\"checkbox\" checked> yes "
	"<input type=\"checkbox\"> no</div>"
	"<div data-bbox=\"[0,960,1024,1024]\" data-label=\"Page-Footer\">7</div>";

static struct output make(enum output_kind kind, bool heads, const char *reply, size_t len)
{
	struct output_options options = { kind, heads, 2048, 1024 };
	struct output o;

	output_make(&o, &options, reply, len);
	return o;
}

static void expect(enum output_kind kind, const char *reply, const char *want)
{
	struct output o = make(kind, false, reply, strlen(reply));

	assert_string_equal(o.text.data ? o.text.data : "", want);
	output_release(&o);
}

static void test_plain(void **state)
{
	struct output o = make(OUTPUT_PLAIN, false, "a\0b", 3);

	(void)state;
	assert_string_equal(o.format, "text");
	assert_string_equal(o.text.data, "ab");
	output_release(&o);
	expect(OUTPUT_MARKDOWN, "# A\n<page_number>3</page_number>\n", "# A\n<page_number>3</page_number>\n");
	expect(OUTPUT_MARKDOWN, "<think>\nWhat is it?\n</think>\n\nIt is.", "It is.");
	expect(OUTPUT_MARKDOWN, "", "");
}

static void box_is(const json_t *block, int x0, int y0, int x1, int y1)
{
	const json_t *box = json_object_get(block, "box");
	int want[] = { x0, y0, x1, y1 };

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(json_integer_value(json_array_get(box, i)), want[i]);
}

static void test_layout(void **state)
{
	struct output o = make(OUTPUT_LAYOUT, false, page, strlen(page)), with;

	(void)state;
	assert_string_equal(o.format, "markdown");
	assert_string_equal(o.text.data,
			    "## High \\*water\\*\n\n"
			    "At **six** the *tide* turns,  \nand costs \\$5: x<sup>2</sup> \\< 3.\n\n"
			    "Then $a_1 + b$.\n\n"
			    "- one\n- two\n  1. deep\n\n"
			    "<table><tbody><tr><td colspan=\"2\">A &amp; B</td></tr></tbody></table>\n\n"
			    "$$E = mc^2$$\n\n"
			    "![A boat](#block-6)\n\n"
			    "☑ yes ☐ no\n");
	assert_int_equal(json_array_size(o.blocks), 9);
	assert_string_equal(json_string_value(json_object_get(json_array_get(o.blocks, 1), "label")), "Section-Header");
	box_is(json_array_get(o.blocks, 1), 204, 100, 1024, 160);
	box_is(json_array_get(o.blocks, 2), 200, 200, 1800, 400);
	assert_string_equal(json_string_value(json_object_get(json_array_get(o.blocks, 8), "html")), "7");
	assert_null(strstr(json_string_value(json_object_get(json_array_get(o.blocks, 4), "html")), "onclick"));
	with = make(OUTPUT_LAYOUT, true, page, strlen(page));
	assert_non_null(strstr(with.text.data, "The Daily Tide"));
	assert_null(strstr(o.text.data, "The Daily Tide"));
	output_release(&with);
	output_release(&o);
}

/* Pictures are marked for the supervisor, which cuts them out, and linked from where they stand. */
static void test_figures(void **state)
{
	static const char two[] =
		"<div data-bbox=\"[0,0,512,512]\" data-label=\"Image\"><p>x</p><img alt=\"a] [b\"> <img alt=\"c\"></div>"
		"<div data-bbox=\"[0,512,512,1024]\" data-label=\"Figure\">Fig. 1</div>"
		"<div data-bbox=\"[9,9,9,9]\" data-label=\"Figure\"><img alt=\"nowhere\" src=\"http://x/\"></div>"
		"<div data-bbox=\"[0,0,9,9]\" data-label=\"Text\"><img alt=\"d\"></div>";
	static const bool figure[] = { true, true, false, false };
	struct output o = make(OUTPUT_LAYOUT, false, two, strlen(two));

	(void)state;
	assert_string_equal(o.text.data, "x\n\n![a\\] \\[b](#block-0) ![c]()\n\n"
					 "Fig. 1\n\n![](#block-1)\n\n![nowhere]()\n\n![d]()\n");
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(figure[i], json_is_true(json_object_get(json_array_get(o.blocks, i), "figure")));
	output_release(&o);
}

/* An empty line would end the table for readers of Markdown. */
static void test_table_without_empty_lines(void **state)
{
	(void)state;
	expect(OUTPUT_LAYOUT, "<div data-label=\"Table\"><table>\n\n<tr><td>a\n \n\n b</td></tr>\n</table></div>",
	       "<table>\n<tbody><tr><td>a \n b</td></tr>\n</tbody></table>\n");
}

/* Nothing that was read is lost because its markup is broken. */
static void test_broken(void **state)
{
	(void)state;
	expect(OUTPUT_LAYOUT, "no HTML at all", "no HTML at all\n");
	expect(OUTPUT_LAYOUT, "<div data-bbox=\"[1,2,3]\" data-label=\"Text\">no box", "no box\n");
	expect(OUTPUT_LAYOUT, "<div data-label=\"Text\"><p>one<div data-label=\"Text\">two</div>", "one\n\ntwo\n");
	expect(OUTPUT_LAYOUT, "before<div data-label=\"Text\">in</div>after", "before\n\nin\n\nafter\n");
	expect(OUTPUT_LAYOUT, "<div data-label=\"Text\">cut <b>short</b></div><div data-bb", "cut **short**\n");
	expect(OUTPUT_LAYOUT, "<div data-label=\"Text\"><script>x</script><blink>y</blink></div>", "y\n");
	expect(OUTPUT_LAYOUT, "", "");
}

static void test_deep(void **state)
{
	struct output o;
	struct buf deep;

	(void)state;
	buf_init(&deep, 8 << 20);
	buf_adds(&deep, "<div data-label=\"Text\">");
	for (unsigned i = 0; i < 20000; i++)
		buf_adds(&deep, i % 2 ? "<ul><li>" : "<div>");
	o = make(OUTPUT_LAYOUT, false, deep.data, deep.len);
	assert_non_null(o.blocks);
	output_release(&o);
	buf_release(&deep);
}

static unsigned next(unsigned *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Any damage gives some text, boxes on the page, and JSON. */
static void test_mutations(void **state)
{
	const char *given = getenv("CLOISTER_TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : 1;

	(void)state;
	for (unsigned i = 0; i < MUTATIONS; i++) {
		static const char bits[] = "<>/\"=[] &;divtable";
		char copy[sizeof(page)];
		size_t len = next(&seed) % sizeof(page);
		struct output o;
		json_t *block;
		size_t k;

		memcpy(copy, page, sizeof(page));
		for (unsigned n = next(&seed) % 20; n; n--)
			copy[next(&seed) % sizeof(page)] = bits[next(&seed) % (sizeof(bits) - 1)];
		o = make(OUTPUT_LAYOUT, i % 2, copy, len);
		json_array_foreach(o.blocks, k, block) {
			const json_t *box = json_object_get(block, "box");

			if (!json_is_string(json_object_get(block, "html")) ||
			    json_integer_value(json_array_get(box, 2)) > 2048 ||
			    json_integer_value(json_array_get(box, 3)) > 1024)
				fail_msg("mutation %u: a block that cannot be", i);
		}
		output_release(&o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain), cmocka_unit_test(test_layout), cmocka_unit_test(test_broken),
		cmocka_unit_test(test_figures), cmocka_unit_test(test_table_without_empty_lines),
		cmocka_unit_test(test_deep),  cmocka_unit_test(test_mutations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
