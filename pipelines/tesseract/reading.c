/* SPDX-License-Identifier: MIT
 *
 * reading: what Tesseract found on a page, as text and as lines of words with boxes.
 *
 * One walk over the words makes both, so the lines of the text are the lines of the boxes: a line
 * of text for each, words joined by a space, an empty line between paragraphs.  Tesseract gives
 * pictures as words of white space; they are left out.
 */
#include "tess.h"
#include "base/name.h"
#include "base/num.h"

#include <math.h>
#include <string.h>

#define TEXT_MAX (64u << 20)

void box_unturn(int box[4], unsigned rotation, uint32_t width, uint32_t height)
{
	int w = (int)width, h = (int)height;
	int x0 = box[0], y0 = box[1], x1 = box[2], y1 = box[3];
	const int by_90[4] = { y0, h - x1, y1, h - x0 };
	const int by_180[4] = { w - x1, h - y1, w - x0, h - y0 };
	const int by_270[4] = { w - y1, x0, w - y0, x1 };
	const int *unturned = rotation == 90 ? by_90 : rotation == 180 ? by_180 : by_270;

	if (rotation)
		memcpy(box, unturned, 4 * sizeof(*box));
}

static void find_box(const TessPageIterator *it, TessPageIteratorLevel level, int box[4])
{
	if (!TessPageIteratorBoundingBox(it, level, &box[0], &box[1], &box[2], &box[3]))
		memset(box, 0, 4 * sizeof(*box));
}

/* In the coordinates of the page before it was turned. */
static json_t *box_json(const struct reading *r, const int turned[4])
{
	int box[4] = { turned[0], turned[1], turned[2], turned[3] };

	box_unturn(box, r->rotation, r->width, r->height);
	return json_pack("[iiii]", box[0], box[1], box[2], box[3]);
}

/* A word of three letters is wider than high, unless it runs up or down. */
static bool is_sideways(const int box[4], size_t letters)
{
	return letters >= 3 && box[3] - box[1] > box[2] - box[0];
}

static bool is_white(const char *s)
{
	return !s || !s[strspn(s, " \t\r\n")];
}

static size_t letters_of(const char *s, size_t len)
{
	size_t letters = 0;

	for (size_t i = 0; i < len; i++)
		letters += ((unsigned char)s[i] & 0xc0) != 0x80;
	return letters;
}

/* Four decimals are more than the confidence is worth, and keep results short. */
static double rounded(double value)
{
	return round(value * 1e4) / 1e4;
}

static void take_word(struct reading *r, const TessResultIterator *words,
		      const TessPageIterator *it, json_t *into, const char *text)
{
	double confidence = TessResultIteratorConfidence(words, RIL_WORD) / 100.0;
	size_t start = r->text.len, letters;
	int box[4];

	if (!(confidence >= 0)) /* nor NaN */
		confidence = 0;
	if (confidence > 1)
		confidence = 1;
	utf8_repair(&r->text, text, strlen(text));
	if (r->text.overflow)
		return;
	letters = letters_of(r->text.data + start, r->text.len - start);
	find_box(it, RIL_WORD, box);
	json_array_append_new(into, json_pack("{s:o, s:o, s:f}", "text",
					      json_stringn(r->text.data + start,
							   r->text.len - start),
					      "box", box_json(r, box), "confidence",
					      rounded(confidence)));
	if (!r->words || confidence < r->worst)
		r->worst = confidence;
	r->confidence += confidence;
	r->words++;
	r->letters += letters;
	if (is_sideways(box, letters))
		r->sideways += letters;
	r->certain += confidence * (double)letters;
}

static json_t *new_line(struct reading *r, const TessPageIterator *it)
{
	json_t *line;
	int box[4];

	find_box(it, RIL_TEXTLINE, box);
	line = json_pack("{s:o, s:[]}", "box", box_json(r, box), "words");
	json_array_append_new(r->lines, line);
	return json_object_get(line, "words");
}

static void take_all(struct reading *r, TessResultIterator *words)
{
	const TessPageIterator *it = TessResultIteratorGetPageIteratorConst(words);
	bool line_starts = true, paragraph_starts = true;
	json_t *line = NULL;

	do {
		char *text = TessResultIteratorGetUTF8Text(words, RIL_WORD);

		line_starts |= TessPageIteratorIsAtBeginningOf(it, RIL_TEXTLINE);
		paragraph_starts |= TessPageIteratorIsAtBeginningOf(it, RIL_PARA);
		if (!is_white(text)) {
			if (r->words)
				buf_adds(&r->text,
					 paragraph_starts ? "\n\n" : line_starts ? "\n" : " ");
			if (line_starts || paragraph_starts)
				line = new_line(r, it);
			take_word(r, words, it, line, text);
			line_starts = paragraph_starts = false;
		}
		TessDeleteText(text);
	} while (!r->text.overflow && TessResultIteratorNext(words, RIL_WORD));
}

void reading_take(struct reading *r, TessBaseAPI *api, unsigned rotation, uint32_t width,
		  uint32_t height)
{
	TessResultIterator *words = TessBaseAPIGetIterator(api);

	*r = (struct reading){ .rotation = rotation, .width = width, .height = height };
	r->lines = json_array();
	buf_init(&r->text, TEXT_MAX);
	if (words) {
		take_all(r, words);
		TessResultIteratorDelete(words);
	}
	if (r->words)
		r->confidence /= r->words;
}

/* Outwards to whole pixels, so that a box still frames its ink. */
static void shrink_box(json_t *box, const uint64_t from[2], const uint64_t to[2])
{
	for (size_t i = 0; i < 4; i++) {
		uint64_t at = (uint64_t)json_integer_value(json_array_get(box, i));
		uint64_t up = i < 2 ? 0 : from[i % 2] - 1;

		json_array_set_new(box, i,
				   json_integer((json_int_t)((at * to[i % 2] + up) / from[i % 2])));
	}
}

void reading_shrink(struct reading *r, uint32_t width, uint32_t height)
{
	const uint64_t from[2] = { r->width, r->height }, to[2] = { width, height };
	json_t *line, *word;
	size_t i, j;

	json_array_foreach(r->lines, i, line) {
		shrink_box(json_object_get(line, "box"), from, to);
		json_array_foreach(json_object_get(line, "words"), j, word)
			shrink_box(json_object_get(word, "box"), from, to);
	}
	r->width = width;
	r->height = height;
}

json_t *reading_result(const struct reading *r)
{
	json_t *result = json_pack("{s:s, s:s, s:o, s:O, s:i, s:s}", "status", "ok", "format",
				   "text", "text",
				   json_stringn(r->text.data ? r->text.data : "", r->text.len),
				   "lines", r->lines, "rotation", (int)r->rotation, "finish",
				   "stop");

	if (r->words) {
		json_object_set_new(result, "confidence", json_real(rounded(r->confidence)));
		json_object_set_new(result, "confidence_worst", json_real(rounded(r->worst)));
	}
	return result;
}

void reading_release(struct reading *r)
{
	json_decref(r->lines);
	buf_release(&r->text);
	*r = (struct reading){ 0 };
}
