/* SPDX-License-Identifier: MIT
 *
 * What a model wrote about a page, as layout HTML: text and blocks are UTF-8, boxes lie on the
 * page, and no tag, attribute or address comes through but those that stand for content.
 */
#include "fuzz.h"

#include "html.c"
#include "output.h"

#include <ctype.h>

enum { WIDTH = 1000, HEIGHT = 700 };

/* The length of a word of tags or attributes. */
static size_t word(const char *s, const char *const *list, size_t n)
{
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");

	for (size_t i = 0; i < n; i++)
		if (strlen(list[i]) == len && !memcmp(list[i], s, len))
			return len;
	return 0;
}

/* A tag behind its "<"; returns what follows its ">". */
static const char *check_tag(const char *s)
{
	bool end = *s == '/';
	size_t len;

	CHECK((len = word(s += end, tags, ARRAY_SIZE(tags))));
	for (s += len; !end && *s == ' '; s++) {
		CHECK((len = word(++s, attributes, ARRAY_SIZE(attributes))));
		s += len;
		CHECK(s[0] == '=' && s[1] == '"');
		CHECK((s = strchr(s + 2, '"')));
	}
	CHECK(*s == '>');
	return s + 1;
}

/* Text has no "<" of its own, so each begins a tag that is written here. */
static void check_html(const char *s)
{
	while ((s = strchr(s, '<')))
		s = check_tag(s + 1);
}

/* A paragraph of Markdown: what could be a tag is one of ours, and no link leads anywhere. */
static void check_paragraph(const char *s, const char *end)
{
	bool raw = end - s > 7 && !memcmp(s, "<table>", 7);

	for (; s < end; s++) {
		if (*s == '\\' && !raw && s[1] != '<')
			s++; /* a block of HTML begins at a line's tag, and has no escapes */
		else if (*s == '<' && (isalpha((unsigned char)s[1]) || strchr("/!?", s[1])))
			s = check_tag(s + 1) - 1;
		else if (*s == ']' && s[1] == '(' && !raw)
			CHECK(s[2] == ')');
	}
}

/* Paragraphs are parted by empty lines, code between fences has an empty line before it. */
static void check_markdown(const char *s)
{
	while (*s) {
		size_t fence = strspn(s, "`");
		const char *end = strstr(s, "\n\n");

		if (fence >= 3) {
			char *close = xasprintf("\n%.*s\n", (int)fence, s);

			CHECK((end = strstr(s, close)));
			CHECK(strspn(end + 1, "`") == fence);
			s = end + strlen(close);
			free(close);
		} else {
			end = end ? end : s + strlen(s);
			check_paragraph(s, end);
			s = end;
		}
		s += strspn(s, "\n");
	}
}

static void check_blocks(json_t *blocks)
{
	json_t *block, *box;
	size_t i;

	json_array_foreach(blocks, i, block)
	{
		const json_t *html = json_object_get(block, "html");
		json_int_t v[4];

		CHECK(json_is_string(html) && json_is_string(json_object_get(block, "label")));
		CHECK(strlen(json_string_value(html)) == json_string_length(html));
		check_html(json_string_value(html));
		if (!(box = json_object_get(block, "box")))
			continue;
		CHECK(json_array_size(box) == 4);
		for (size_t k = 0; k < 4; k++)
			v[k] = json_integer_value(json_array_get(box, k));
		CHECK(0 <= v[0] && v[0] < v[2] && v[2] <= WIDTH);
		CHECK(0 <= v[1] && v[1] < v[3] && v[3] <= HEIGHT);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* What the tokenizer decodes is UTF-8. */
	if (!utf8_valid((const char *)data, size))
		return 0;
	for (unsigned way = 0; way < 2 * OUTPUT_KINDS; way++) {
		struct output_options options = {way / 2, way % 2, WIDTH, HEIGHT};
		struct output out;

		output_make(&out, &options, (const char *)data, size);
		CHECK(!out.text.len || utf8_valid(out.text.data, out.text.len));
		CHECK(!out.text.len || !memchr(out.text.data, 0, out.text.len));
		CHECK((out.blocks != NULL) == (options.kind == OUTPUT_LAYOUT));
		if (options.kind == OUTPUT_LAYOUT && out.text.len)
			check_markdown(out.text.data);
		check_blocks(out.blocks);
		output_release(&out);
	}
	return 0;
}
