/* SPDX-License-Identifier: MIT
 *
 * pattern: a regular expression of a tokenizer file, written for Oniguruma, run by PCRE2.
 *
 * The two agree on most of what such expressions use. What they do not agree on is put in words
 * that leave no choice, or refused by name:
 *
 *   \s            the White_Space of Unicode, in numbers: PCRE2 counts U+180E as well
 *   \p{..}, \d    with what Unicode 15 and 16 added, in numbers: PCRE2 may be older
 *   (?i:..)       letters of ASCII alone, without the pairs that Oniguruma matches to a ligature
 *   \w \b \h ^ $ (?i) (?m) {,n} {n}+ && [[:..:]] back references, names: refused
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "tokenizer/split.h"
#include "tokenizer/unicode.h"
#include "base/buf.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_MAX 16384
#define MATCH_LIMIT 100000000u
#define STACK_MIN   65536
#define STACK_MAX   (32u << 20)

#define WHITE_SPACE                                                                                \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"         \
	"\\x{202f}\\x{205f}\\x{3000}"

struct pattern {
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	const char *place;
};

struct translation {
	const char *s, *end;
	struct buf out;
	bool in_class;
	unsigned depth, insensitive; /* open groups; the one that is (?i:, or 0 */
	char previous;		     /* the letter before, in (?i: */
	const char *refused;
};

static bool refuse(struct translation *t, const char *what)
{
	t->refused = what;
	return false;
}

static void set(struct translation *t, bool negative, const char *name, size_t len,
		const char *numbers)
{
	if (!t->in_class)
		buf_adds(&t->out, negative ? "[^" : "[");
	if (len) {
		buf_addf(&t->out, "\\p{%.*s}", (int)len, name);
		unicode_newer(&t->out, name, len);
	}
	buf_adds(&t->out, numbers);
	if (!t->in_class)
		buf_addc(&t->out, ']');
}

static bool property(struct translation *t, bool negative)
{
	static const char known[] = " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po"
				    " S Sm Sc Sk So Z Zs Zl Zp ";
	const char *close = memchr(t->s, '}', (size_t)(t->end - t->s));
	char name[6];
	size_t len;

	if (t->s == t->end || *t->s != '{' || !close)
		return refuse(t, "\\p without braces");
	t->s++;
	if (*t->s == '^') {
		negative = !negative;
		t->s++;
	}
	len = (size_t)(close - t->s);
	if (len < 1 || len > 2)
		return refuse(t, "\\p of anything but a general category");
	snprintf(name, sizeof(name), " %.*s ", (int)len, t->s);
	if (!strstr(known, name))
		return refuse(t, "\\p of anything but a general category");
	if (negative && t->in_class)
		return refuse(t, "\\P in brackets");
	set(t, negative, t->s, len, "");
	t->s = close + 1;
	return true;
}

static bool code_point(struct translation *t, bool braces)
{
	char digits[9] = "";
	size_t len = 0;

	if (braces && (t->s == t->end || *t->s++ != '{'))
		return refuse(t, "\\x without braces");
	while (len < (braces ? 8u : 4u) && t->s < t->end && isxdigit((unsigned char)*t->s))
		digits[len++] = *t->s++;
	if (braces ? !len || t->s == t->end || *t->s++ != '}' : len != 4)
		return refuse(t, "a number that is not hexadecimal");
	buf_addf(&t->out, "\\x{%s}", digits);
	return true;
}

static bool escape(struct translation *t)
{
	char c;

	if (t->s == t->end)
		return refuse(t, "a backslash at the end");
	c = *t->s++;
	switch (c) {
	case 'p':
	case 'P':
		return property(t, c == 'P');
	case 's':
	case 'd':
		set(t, false, "Nd", c == 'd' ? 2 : 0, c == 's' ? WHITE_SPACE : "");
		return true;
	case 'S':
	case 'D':
		if (t->in_class)
			return refuse(t, "\\S or \\D in brackets");
		set(t, true, "Nd", c == 'D' ? 2 : 0, c == 'S' ? WHITE_SPACE : "");
		return true;
	case 'x':
	case 'u':
		return code_point(t, c == 'x');
	case 'v':
		buf_adds(&t->out, "\\x{b}");
		return true;
	}
	if (!ispunct((unsigned char)c) && !strchr("rntf", c))
		return refuse(t, "an escape that is not known");
	buf_addf(&t->out, "\\%c", c);
	return true;
}

static bool group(struct translation *t)
{
	static const char *const known[] = {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:"};

	t->depth++;
	if (t->s == t->end || *t->s != '?') {
		buf_adds(&t->out, "(?:");
		return true;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		size_t len = strlen(known[i]);

		if ((size_t)(t->end - t->s) < len || memcmp(t->s, known[i], len))
			continue;
		if (!strcmp(known[i], "?i:") && !t->insensitive)
			t->insensitive = t->depth;
		buf_addf(&t->out, "(%s", known[i]);
		t->s += len;
		return true;
	}
	return refuse(t, "a group that is not known");
}

/* A '{' was read: {n}, {n,}, {n,m} and nothing behind them. */
static bool interval(struct translation *t)
{
	buf_addc(&t->out, '{');
	if (t->s == t->end || !isdigit((unsigned char)*t->s))
		return refuse(t, "'{' without a number");
	while (t->s < t->end && (isdigit((unsigned char)*t->s) || *t->s == ','))
		buf_addc(&t->out, *t->s++);
	if (t->s == t->end || *t->s++ != '}')
		return refuse(t, "'{' without '}'");
	buf_addc(&t->out, '}');
	if (t->s < t->end && strchr("+?*{", *t->s))
		return refuse(t, "'}' with another repeat behind");
	return true;
}

static bool literal(struct translation *t, char c)
{
	if (t->insensitive) {
		static const char pairs[] = " ss ff fi fl st ";
		char pair[5] = {' ', t->previous, (char)tolower((unsigned char)c), ' ', 0};

		if (c & 0x80)
			return refuse(t, "(?i: with a letter that is not of ASCII");
		if (t->previous && strstr(pairs, pair))
			return refuse(t, "(?i: with letters that make a ligature");
		t->previous = pair[2];
	}
	if (ispunct((unsigned char)c) && !(t->in_class && c == '-'))
		buf_addc(&t->out, '\\');
	buf_addc(&t->out, c);
	return true;
}

static bool bracket(struct translation *t, char c)
{
	if (c == '[')
		return refuse(t, "brackets in brackets");
	if (c == '&' && t->s < t->end && *t->s == '&')
		return refuse(t, "'&&' in brackets");
	if (c != ']')
		return c == '\\' ? escape(t) : literal(t, c);
	t->in_class = false;
	buf_addc(&t->out, c);
	return true;
}

static bool token(struct translation *t)
{
	char c = *t->s++;
	char previous = t->previous;

	if (t->in_class)
		return bracket(t, c);
	t->previous = 0;
	switch (c) {
	case '\\':
		return escape(t);
	case '[':
		t->in_class = true;
		buf_addc(&t->out, c);
		if (t->s < t->end && *t->s == '^')
			buf_addc(&t->out, *t->s++);
		return t->s == t->end || *t->s != ']' || refuse(t, "']' first in brackets");
	case '(':
		return group(t);
	case ')':
		if (t->insensitive == t->depth)
			t->insensitive = 0;
		t->depth -= t->depth > 0;
		buf_addc(&t->out, c);
		return true;
	case '{':
		return interval(t);
	case '^':
	case '$':
		return refuse(t, "'^' or '$'");
	case '|':
	case '.':
	case '*':
	case '+':
	case '?':
		buf_addc(&t->out, c);
		return true;
	}
	t->previous = previous;
	return literal(t, c);
}

static enum rc compile(struct pattern *p, const struct buf *text, struct err *err)
{
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	PCRE2_UCHAR message[128];
	PCRE2_SIZE offset;
	int error;

	if (!context)
		return err_set(err, RC_FATAL, "tokenizer", "%s: no memory", p->place);
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	p->code = pcre2_compile((PCRE2_SPTR)text->data, text->len,
				PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C |
					PCRE2_NO_AUTO_CAPTURE,
				&error, &offset, context);
	pcre2_compile_context_free(context);
	if (!p->code) {
		pcre2_get_error_message(error, message, sizeof(message));
		return err_set(err, RC_FATAL, "tokenizer", "%s: %s", p->place, (char *)message);
	}
	/* Where there is no JIT (a sandbox without executable memory), PCRE2 interprets. */
	pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
	p->data = pcre2_match_data_create(1, NULL);
	p->context = pcre2_match_context_create(NULL);
	p->stack = pcre2_jit_stack_create(STACK_MIN, STACK_MAX, NULL);
	if (!p->data || !p->context)
		return err_set(err, RC_FATAL, "tokenizer", "%s: no memory", p->place);
	pcre2_set_match_limit(p->context, MATCH_LIMIT);
	if (p->stack)
		pcre2_jit_stack_assign(p->context, NULL, p->stack);
	return RC_OK;
}

enum rc pattern_new(struct pattern **out, const char *regex, size_t len, const char *place,
		    struct err *err)
{
	struct translation t = {.s = regex, .end = regex + len};
	struct pattern *p = xcalloc(1, sizeof(*p));
	enum rc rc = RC_OK;

	p->place = place;
	buf_init(&t.out, 1 << 20);
	if (len > PATTERN_MAX)
		refuse(&t, "more than 16384 bytes");
	if (memchr(regex, 0, len))
		refuse(&t, "NUL");
	while (!t.refused && t.s < t.end)
		token(&t);
	if (t.refused)
		rc = err_set(err, RC_FATAL, "tokenizer",
			     "%s: %s is not supported (byte %zu of the expression)", place,
			     t.refused, (size_t)(t.s - regex));
	else if (t.out.overflow)
		rc = err_set(err, RC_FATAL, "tokenizer", "%s: too large", place);
	else
		rc = compile(p, &t.out, err);
	buf_release(&t.out);
	if (rc) {
		pattern_free(p);
		p = NULL;
	}
	*out = p;
	return rc;
}

void pattern_free(struct pattern *p)
{
	if (!p)
		return;
	pcre2_jit_stack_free(p->stack);
	pcre2_match_context_free(p->context);
	pcre2_match_data_free(p->data);
	pcre2_code_free(p->code);
	free(p);
}

enum rc pattern_find(struct pattern *p, const char *s, size_t len, size_t from, size_t *start,
		     size_t *stop, bool *found, struct err *err)
{
	PCRE2_UCHAR message[128];
	const PCRE2_SIZE *offsets;
	int rc = pcre2_match(p->code, (PCRE2_SPTR)s, len, from, PCRE2_NO_UTF_CHECK, p->data,
			     p->context);

	*found = rc >= 0;
	if (rc == PCRE2_ERROR_NOMATCH)
		return RC_OK;
	if (rc < 0) {
		pcre2_get_error_message(rc, message, sizeof(message));
		return err_set(err, RC_FAILED, "tokenizer", "%s: %s", p->place, (char *)message);
	}
	offsets = pcre2_get_ovector_pointer(p->data);
	*start = offsets[0];
	*stop = offsets[1];
	return RC_OK;
}
