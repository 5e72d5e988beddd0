/* SPDX-License-Identifier: MIT
 *
 * pdf_content: the few operators of a content stream (PDF 32000-1, annex A) that tell where
 * images lie and whether text is painted.
 *
 * This is no renderer: poppler is. It answers "is this page one scanned image, and at which
 * scale?", for which the current matrix, the text rendering mode and the XObject names suffice.
 * Invariant: one pass over the bytes, constant memory; whatever is malformed is skipped, and what
 * cannot be followed (nesting beyond the stack) sets `inexact`, so that the caller renders the
 * page the plain way.
 */
#include "pdf_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STATE_DEPTH 64
#define OPERANDS    6
#define NAME_MAX_   128

static const char WHITE[] = "\0\t\n\f\r ";
static const char DELIMITERS[] = "()<>[]{}/%";

struct lexer {
	const unsigned char *p, *end;
};

enum token { TOKEN_END, TOKEN_NUMBER, TOKEN_NAME, TOKEN_WORD, TOKEN_OTHER };

struct interpreter {
	struct lexer in;
	struct content_sink *sink;
	struct content_state state, stack[STATE_DEPTH];
	unsigned long depth; /* of q, also beyond the stack */
	double operand[OPERANDS];
	unsigned operands;
	char name[NAME_MAX_]; /* last name operand, with slash */
	char word[NAME_MAX_];
	double number;
};

struct matrix matrix_multiply(const struct matrix *m, const struct matrix *n)
{
	return (struct matrix){
		.a = m->a * n->a + m->b * n->c,
		.b = m->a * n->b + m->b * n->d,
		.c = m->c * n->a + m->d * n->c,
		.d = m->c * n->b + m->d * n->d,
		.e = m->e * n->a + m->f * n->c + n->e,
		.f = m->e * n->b + m->f * n->d + n->f,
	};
}

struct box box_transform(const struct box *b, const struct matrix *m)
{
	double x[4] = { b->x0, b->x1, b->x0, b->x1 };
	double y[4] = { b->y0, b->y0, b->y1, b->y1 };
	struct box out = { INFINITY, INFINITY, -INFINITY, -INFINITY };

	for (int i = 0; i < 4; i++) {
		double tx = m->a * x[i] + m->c * y[i] + m->e;
		double ty = m->b * x[i] + m->d * y[i] + m->f;

		out.x0 = fmin(out.x0, tx);
		out.y0 = fmin(out.y0, ty);
		out.x1 = fmax(out.x1, tx);
		out.y1 = fmax(out.y1, ty);
	}
	return out;
}

double box_area(const struct box *b)
{
	return b->x1 > b->x0 && b->y1 > b->y0 ? (b->x1 - b->x0) * (b->y1 - b->y0) : 0;
}

struct box box_intersect(const struct box *a, const struct box *b)
{
	return (struct box){ fmax(a->x0, b->x0), fmax(a->y0, b->y0), fmin(a->x1, b->x1),
			     fmin(a->y1, b->y1) };
}

static bool is_white(int c)
{
	return memchr(WHITE, c, sizeof(WHITE) - 1) != NULL;
}

static bool is_regular(int c)
{
	return !is_white(c) && !memchr(DELIMITERS, c, sizeof(DELIMITERS) - 1);
}

static void skip_string(struct lexer *in)
{
	unsigned depth = 1;

	while (in->p < in->end && depth > 0) {
		int c = *in->p++;

		if (c == '\\' && in->p < in->end)
			in->p++;
		else if (c == '(')
			depth++;
		else if (c == ')')
			depth--;
	}
}

static void skip_past(struct lexer *in, int c)
{
	const unsigned char *hit = memchr(in->p, c, (size_t)(in->end - in->p));

	in->p = hit ? hit + 1 : in->end;
}

/* #xx of a name is left as it is unless it decodes to one byte: qpdf's keys are decoded. */
static void take_name(struct interpreter *in)
{
	struct lexer *l = &in->in;
	size_t n = 0;

	in->name[n++] = '/';
	while (l->p < l->end && is_regular(*l->p)) {
		int c = *l->p++;

		if (c == '#' && l->end - l->p >= 2 && g_ascii_isxdigit(l->p[0]) &&
		    g_ascii_isxdigit(l->p[1])) {
			c = g_ascii_xdigit_value((char)l->p[0]) * 16 +
			    g_ascii_xdigit_value((char)l->p[1]);
			l->p += 2;
		}
		if (n < sizeof(in->name) - 1)
			in->name[n++] = (char)c;
	}
	in->name[n] = '\0';
}

static enum token take_word(struct interpreter *in)
{
	struct lexer *l = &in->in;
	size_t n = 0;
	char *end;

	while (l->p < l->end && is_regular(*l->p)) {
		if (n < sizeof(in->word) - 1)
			in->word[n++] = (char)*l->p;
		l->p++;
	}
	in->word[n] = '\0';
	if (!strchr("+-.0123456789", in->word[0]))
		return TOKEN_WORD;
	in->number = g_ascii_strtod(in->word, &end);
	if (end == in->word || !isfinite(in->number))
		in->number = 0;
	return TOKEN_NUMBER;
}

static enum token next_token(struct interpreter *in)
{
	struct lexer *l = &in->in;

	for (;;) {
		while (l->p < l->end && is_white(*l->p))
			l->p++;
		if (l->p == l->end)
			return TOKEN_END;
		if (is_regular(*l->p))
			return take_word(in);
		switch (*l->p++) {
		case '%':
			while (l->p < l->end && *l->p != '\n' && *l->p != '\r')
				l->p++;
			break;
		case '/':
			take_name(in);
			return TOKEN_NAME;
		case '(':
			skip_string(l);
			return TOKEN_OTHER;
		case '<':
			if (l->p < l->end && *l->p == '<')
				l->p++;
			else
				skip_past(l, '>');
			return TOKEN_OTHER;
		default:
			return TOKEN_OTHER;
		}
	}
}

/* After BI: keys up to ID, then data up to an EI that stands alone. */
static void inline_image(struct interpreter *in)
{
	struct lexer *l = &in->in;
	double width = 0, height = 0;
	enum token t;

	for (;;) {
		double *value = NULL;

		t = next_token(in);
		if (t == TOKEN_END || (t == TOKEN_WORD && strcmp(in->word, "ID") == 0))
			break;
		if (t != TOKEN_NAME)
			continue;
		if (strcmp(in->name, "/W") == 0 || strcmp(in->name, "/Width") == 0)
			value = &width;
		else if (strcmp(in->name, "/H") == 0 || strcmp(in->name, "/Height") == 0)
			value = &height;
		if (value && next_token(in) == TOKEN_NUMBER)
			*value = in->number;
	}
	in->sink->draw_inline(in->sink->ctx, width, height, &in->state);
	for (; l->end - l->p >= 4; l->p++) {
		if (l->p[1] == 'E' && l->p[2] == 'I' && is_white(l->p[0]) && is_white(l->p[3]))
			break;
	}
	l->p = l->end - l->p >= 4 ? l->p + 3 : l->end;
}

static void save(struct interpreter *in)
{
	if (in->depth < STATE_DEPTH)
		in->stack[in->depth] = in->state;
	else
		in->sink->counts.inexact = true;
	in->depth++;
}

static void restore(struct interpreter *in)
{
	if (in->depth == 0)
		return;
	if (--in->depth < STATE_DEPTH)
		in->state = in->stack[in->depth];
}

static void transform(struct interpreter *in)
{
	const double *o = in->operand;
	struct matrix m = { o[0], o[1], o[2], o[3], o[4], o[5] };

	if (in->operands >= 6)
		in->state.ctm = matrix_multiply(&m, &in->state.ctm);
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++) {
		if (strcmp(word, *list) == 0)
			return true;
	}
	return false;
}

static void operator(struct interpreter *in)
{
	static const char *const show[] = { "Tj", "TJ", "'", "\"", NULL };
	static const char *const paint[] = { "f", "F",	"f*", "B",  "B*", "b",
					     "b*", "S", "s",  "sh", NULL };
	static const char *const other[] = { "W", "W*", "gs", "BDC", NULL };
	struct content_sink *sink = in->sink;
	const char *word = in->word;

	if (strcmp(word, "q") == 0)
		save(in);
	else if (strcmp(word, "Q") == 0)
		restore(in);
	else if (strcmp(word, "cm") == 0)
		transform(in);
	else if (strcmp(word, "Tr") == 0 && in->operands > 0)
		in->state.text_mode = (int)fmin(fmax(in->operand[in->operands - 1], 0), 7);
	else if (strcmp(word, "Do") == 0 && in->name[0])
		sink->draw(sink->ctx, in->name, &in->state);
	else if (strcmp(word, "BI") == 0)
		inline_image(in);
	else if (is_one_of(word, paint))
		sink->counts.paths++;
	else if (is_one_of(word, other))
		sink->counts.others++;
	else if (!is_one_of(word, show))
		return;
	else if (in->state.text_mode == 3 || in->state.text_mode == 7)
		sink->counts.hidden++;
	else
		sink->counts.shown++;
}

void content_run(struct content_sink *sink, const unsigned char *data, size_t len,
		 const struct content_state *start)
{
	struct interpreter in = { .in = { data, data + len }, .sink = sink, .state = *start };
	enum token t;

	while ((t = next_token(&in)) != TOKEN_END) {
		if (t == TOKEN_NUMBER) {
			if (in.operands == OPERANDS) {
				memmove(in.operand, in.operand + 1, sizeof(in.operand) - sizeof(double));
				in.operands--;
			}
			in.operand[in.operands++] = in.number;
		} else if (t == TOKEN_WORD) {
			operator(&in);
			in.operands = 0;
			in.name[0] = '\0';
		}
	}
}
