/* SPDX-License-Identifier: MIT
 *
 * pdf_text: the text layer of a page, and whether to believe it (text_layer: prefer).
 *
 * A born-digital page carries its text; recognising it again only adds errors.  But a layer may
 * lie: fonts whose codes mean nothing, the hidden layer of a poor OCR program, a watermark over a
 * scan.  Believing a wrong layer loses the page silently, recognising a good one costs seconds:
 * so each test below can only refuse, and the first that does is recorded as the decision, with
 * all figures, in page->evidence.
 *
 *   no-text            fewer than 32 letters and digits
 *   not-examined       the page's objects could not be read in full
 *   hidden-text        part of the text is not painted, or lies beneath a whole-page image
 *   images             more than a tenth of the page lies under images, which may hold text
 *   annotations        forms and notes show text that is not in the layer
 *   drawings           more shapes than characters: letters may be among them
 *   fonts-unmapped     a font without a way from its codes to characters
 *   bad-characters     more than 1 in 200 is U+FFFD, private use, unassigned or a control
 *   implausible        Latin text without a natural share of vowels, spaces and letters
 *   outside            a twentieth of the characters lies off the page
 *
 * Words and lines come from the positions poppler gives to the characters: its text has a newline
 * after each line, white space parts words.
 */
#include "pdf_parts.h"

#include "base/num.h"

#include <math.h>
#include <string.h>

#define LETTERS_MIN   32
#define IMAGE_COVER   0.10
#define BAD_SHARE     0.005
#define OUTSIDE_SHARE 0.05
#define TEXT_MAX      (4 << 20) /* bytes */
#define PLAUSIBLE_MIN 100       /* Latin letters, for shares to mean something */

struct layer {
	char *text; /* UTF-8 */
	PopplerRectangle *boxes;
	guint n_boxes;
	unsigned long characters, letters, latin, vowels, digits, spaces, bad, outside;
	double area; /* of the characters' boxes, in square points */
	bool mismatch; /* as many boxes as characters are expected */
};

static bool is_bad(gunichar c)
{
	GUnicodeType type = g_unichar_type(c);

	return c == 0xfffd || (c < 0x20 && c != '\t' && c != '\n' && c != '\f') ||
	       type == G_UNICODE_PRIVATE_USE || type == G_UNICODE_UNASSIGNED ||
	       type == G_UNICODE_SURROGATE || (c >= 0x7f && c < 0xa0);
}

static bool is_latin(gunichar c)
{
	return g_unichar_isalpha(c) && g_unichar_get_script(c) == G_UNICODE_SCRIPT_LATIN;
}

/* With its accents taken off. */
static bool is_vowel(gunichar c)
{
	gunichar base[G_UNICHAR_MAX_DECOMPOSITION_LENGTH];

	g_unichar_fully_decompose(g_unichar_tolower(c), FALSE, base, G_N_ELEMENTS(base));
	return base[0] < 0x80 ? base[0] && strchr("aeiouy", (int)base[0]) != NULL :
				base[0] == 0xe6 || base[0] == 0xf8 || base[0] == 0x153;
}

static void layer_count(struct layer *l, double width, double height)
{
	guint i = 0;

	for (const char *p = l->text; *p; p = g_utf8_next_char(p), i++) {
		gunichar c = g_utf8_get_char(p);

		if (i < l->n_boxes) {
			const PopplerRectangle *b = &l->boxes[i];

			l->area += fabs((b->x2 - b->x1) * (b->y2 - b->y1));
			l->outside += b->x2 < 0 || b->y2 < 0 || b->x1 > width || b->y1 > height;
		}
		l->characters++;
		if (g_unichar_isspace(c)) {
			l->spaces++;
			continue;
		}
		l->bad += is_bad(c);
		l->digits += g_unichar_isdigit(c);
		if (!g_unichar_isalpha(c))
			continue;
		l->letters++;
		if (is_latin(c)) {
			l->latin++;
			l->vowels += is_vowel(c);
		}
	}
	l->mismatch = i != l->n_boxes;
}

/* Vowels are 35-50 % of the letters in the languages of Europe; random codes have 23 %. Words are
 * seldom longer than 12 letters on average. Tables of figures are spared by PLAUSIBLE_MIN. */
static bool is_plausible(const struct layer *l)
{
	double seen = (double)(l->characters - l->spaces);

	if (l->latin < PLAUSIBLE_MIN || l->latin * 2 < l->letters)
		return (double)(l->letters + l->digits) > 0.5 * seen;
	return (double)l->vowels > 0.28 * (double)l->latin &&
	       (double)l->vowels < 0.60 * (double)l->latin &&
	       (double)l->spaces > 0.07 * (double)l->latin &&
	       (double)(l->letters + l->digits) > 0.6 * seen;
}

static const char *decide(const struct layer *l, const struct pdf_facts *f)
{
	if (l->letters + l->digits < LETTERS_MIN)
		return "no-text";
	if (!f->known || l->mismatch)
		return "not-examined";
	if (f->counts.hidden > 0)
		return "hidden-text";
	if (f->image_cover > IMAGE_COVER)
		return "images";
	if (f->annotations > 0)
		return "annotations";
	if (f->counts.paths > l->characters)
		return "drawings";
	if (f->fonts_unmapped > 0)
		return "fonts-unmapped";
	if ((double)l->bad > BAD_SHARE * (double)l->characters)
		return "bad-characters";
	if (!is_plausible(l))
		return "implausible";
	if ((double)l->outside > OUTSIDE_SHARE * (double)l->characters)
		return "outside";
	return "taken";
}

static json_t *evidence(const struct layer *l, const struct pdf_facts *f, const char *decision,
			double page_area)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:f, s:f, s:I, s:I, s:i, s:i, s:i, s:I}",
			 "decision", decision, "characters", (json_int_t)l->characters, "letters",
			 (json_int_t)l->letters, "latin", (json_int_t)l->latin, "vowels",
			 (json_int_t)l->vowels, "digits", (json_int_t)l->digits, "spaces",
			 (json_int_t)l->spaces, "bad_characters", (json_int_t)l->bad,
			 "text_cover", l->area / page_area, "image_cover", f->image_cover,
			 "strings_painted", (json_int_t)f->counts.shown, "strings_hidden",
			 (json_int_t)f->counts.hidden, "annotations", (int)f->annotations, "fonts",
			 (int)f->fonts, "fonts_unmapped", (int)f->fonts_unmapped, "shapes", (json_int_t)f->counts.paths);
}

struct extent {
	double x0, y0, x1, y1;
};

static void extend(struct extent *e, const struct extent *by)
{
	e->x0 = fmin(e->x0, by->x0);
	e->y0 = fmin(e->y0, by->y0);
	e->x1 = fmax(e->x1, by->x1);
	e->y1 = fmax(e->y1, by->y1);
}

static const struct extent nothing = { INFINITY, INFINITY, -INFINITY, -INFINITY };

/* Whole pixels of the page, at least one wide and high. */
static json_t *pixel_box(const struct extent *e, const struct page *page)
{
	int x0 = (int)fmin(fmax(floor(e->x0), 0), page->width - 1.0);
	int y0 = (int)fmin(fmax(floor(e->y0), 0), page->height - 1.0);
	int x1 = (int)fmin(fmax(ceil(e->x1), x0 + 1.0), page->width);
	int y1 = (int)fmin(fmax(ceil(e->y1), y0 + 1.0), page->height);

	return json_pack("[i, i, i, i]", x0, y0, x1, y1);
}

struct builder {
	const struct page *page;
	json_t *lines, *words;
	struct extent line, word;
	const char *start; /* of the word, NULL between words */
};

static void end_word(struct builder *b, const char *end)
{
	if (!b->start)
		return;
	json_array_append_new(b->words,
			      json_pack("{s:s%, s:o}", "text", b->start, (size_t)(end - b->start),
					"box", pixel_box(&b->word, b->page)));
	extend(&b->line, &b->word);
	b->start = NULL;
}

static void end_line(struct builder *b)
{
	if (json_array_size(b->words) > 0)
		json_array_append_new(b->lines,
				      json_pack("{s:o, s:o}", "box", pixel_box(&b->line, b->page),
						"words", b->words));
	else
		json_decref(b->words);
	b->words = json_array();
	b->line = nothing;
}

static json_t *layer_lines(const struct layer *l, double scale, const struct page *page)
{
	struct builder b = { .page = page, .lines = json_array(), .words = json_array(),
			     .line = nothing };
	const char *p = l->text;

	for (guint i = 0; *p; p = g_utf8_next_char(p), i++) {
		gunichar c = g_utf8_get_char(p);
		const PopplerRectangle *r = &l->boxes[i];
		struct extent box = { fmin(r->x1, r->x2) * scale, fmin(r->y1, r->y2) * scale,
				      fmax(r->x1, r->x2) * scale, fmax(r->y1, r->y2) * scale };

		if (g_unichar_isspace(c)) {
			end_word(&b, p);
			if (c == '\n' || c == '\f')
				end_line(&b);
			continue;
		}
		if (!b.start) {
			b.start = p;
			b.word = nothing;
		}
		extend(&b.word, &box);
	}
	end_word(&b, p);
	end_line(&b);
	json_decref(b.words);
	return b.lines;
}

void text_layer_take(PopplerPage *pp, const struct pdf_facts *facts, double scale,
		     struct page *page)
{
	struct layer l = { .text = poppler_page_get_text(pp) };
	const char *decision = "not-examined";
	double width, height;

	poppler_page_get_size(pp, &width, &height);
	if (l.text && strlen(l.text) <= TEXT_MAX && g_utf8_validate(l.text, -1, NULL)) {
		if (!poppler_page_get_text_layout(pp, &l.boxes, &l.n_boxes))
			l.n_boxes = 0;
		layer_count(&l, width, height);
		decision = decide(&l, facts);
	}
	page->evidence = evidence(&l, facts, decision, width * height);
	if (strcmp(decision, "taken") == 0)
		page->result = json_pack("{s:s, s:s, s:s, s:o, s:s}", "status", "ok", "format",
					 "text", "text", l.text, "lines",
					 layer_lines(&l, scale, page), "finish", "stop");
	g_free(l.text);
	g_free(l.boxes);
}
