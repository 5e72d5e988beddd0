/* SPDX-License-Identifier: MIT
 *
 * words: the known expressions by hand. Each is a list of alternatives, tried in order:
 *
 *   letters    a letter, mark or other character but a line end may lead them (" word", "(word");
 *              where letters know case (o200k), capitals then small ones, and a suffix 's, 've, ...
 *   suffix     's, 't, 're, 've, 'm, 'll, 'd by itself (where letters do not know case)
 *   digits     one, or up to three
 *   signs      a space may lead them, line ends (o200k: and '/') may follow
 *   space      up to the last line end in it; else all but the last, which leads what follows;
 *              else all
 *
 * What a backtracking matcher would do is worked out in the comments; a test compares with PCRE2.
 */
#include "tokenizer/split.h"
#include "tokenizer/unicode.h"
#include "base/num.h"

#include <string.h>

struct word_rules {
	const char *regex;
	bool cased;	      /* o200k */
	unsigned char letter; /* what a run of letters is made of */
	unsigned char digits; /* at most so many */
	bool slash;	      /* '/' may follow signs */
};

#define SUFFIX	"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES	"|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CAPITAL "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL	"[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD	"[^\\r\\n\\p{L}\\p{N}]?"

static const struct word_rules known[] = {
	/* Qwen2, 2.5, 3 */
	{SUFFIX "|" LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES, false,
	 CLASS_LETTER, 1, false},
	/* Qwen3.5 */
	{SUFFIX "|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES,
	 false, CLASS_LETTER | CLASS_MARK, 1, false},
	/* Llama 3 */
	{SUFFIX "|" LEAD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES, false,
	 CLASS_LETTER, 3, false},
	/* o200k: Phi-4 */
	{LEAD CAPITAL "*" SMALL "+" SUFFIX "?|" LEAD CAPITAL "+" SMALL "*" SUFFIX
		      "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES,
	 true, CLASS_LETTER | CLASS_MARK, 3, true},
};

const struct word_rules *words_known(const char *regex, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strlen(known[i].regex) == len && !memcmp(known[i].regex, regex, len))
			return &known[i];
	return NULL;
}

struct text {
	const char *s;
	size_t len;
	const unsigned char *class;
};

static inline unsigned char class_at(const struct text *t, size_t at, size_t *n)
{
	uint32_t c;

	*n = utf8_get(t->s + at, &c);
	return t->class[c];
}

/* End of the run of characters of `classes` (or of none of them) from `at`. */
static inline size_t run(const struct text *t, size_t at, unsigned char classes, bool in)
{
	size_t n;

	while (at < t->len && !(class_at(t, at, &n) & classes) != in)
		at += n;
	return at;
}

static bool is_line_end(char c)
{
	return c == '\r' || c == '\n';
}

/* Length of the suffix at `at`, or 0. U+017F is an s without regard to case. */
static size_t suffix(const struct text *t, size_t at)
{
	const char *s = t->s + at;
	size_t len = t->len - at;
	char a, b;

	if (len < 2 || *s != '\'')
		return 0;
	if (len >= 3 && !memcmp(s + 1, "\xc5\xbf", 2))
		return 3;
	a = s[1] | 32;
	if (s[1] & 0x80 || s[1] < 'A')
		return 0;
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	if (len < 3 || s[2] & 0x80 || s[2] < 'A')
		return 0;
	b = s[2] | 32;
	return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

#define CAPITALS (CLASS_UPPER | CLASS_OTHER | CLASS_MARK)
#define SMALLS	 (CLASS_LOWER | CLASS_OTHER | CLASS_MARK)

/*
 * CAPITAL* SMALL+ at `at`; 0: no match. When no small letter follows the capitals, the run of them
 * is given back from its end until a character that is both (a mark, a letter without case) stands
 * for SMALL+, which ends with it: what follows it was given back for not being one.
 */
static size_t capitals_smalls(const struct text *t, size_t at)
{
	size_t end = run(t, at, CAPITALS, true), n, back;

	if (end < t->len && class_at(t, end, &n) & SMALLS)
		return run(t, end, SMALLS, true);
	while (end > at) {
		back = utf8_back(t->s, end);
		if (class_at(t, back, &n) & SMALLS)
			return end;
		end = back;
	}
	return 0;
}

static size_t cased_letters(const struct text *t, size_t at)
{
	size_t n, end;
	unsigned char class = class_at(t, at, &n);
	bool leads = !(class & (CLASS_LETTER | CLASS_NUMBER)) && !is_line_end(t->s[at]);
	size_t from = leads ? at + n : at;

	end = capitals_smalls(t, from);
	if (!end && leads && class & CLASS_MARK)
		end = capitals_smalls(t, at);
	if (!end) {
		end = run(t, from, CAPITALS, true);
		if (end == from)
			return 0;
		end = run(t, end, SMALLS, true);
	}
	return end + suffix(t, end);
}

/* LEAD letter+; a mark that leads nothing is a letter itself where marks are. */
static size_t plain_letters(const struct text *t, size_t at, unsigned char letter)
{
	size_t n, end;
	unsigned char class = class_at(t, at, &n);

	if (!(class & (CLASS_LETTER | CLASS_NUMBER)) && !is_line_end(t->s[at])) {
		end = run(t, at + n, letter, true);
		if (end > at + n)
			return end;
	}
	return class & letter ? run(t, at, letter, true) : 0;
}

static size_t space(const struct text *t, size_t at)
{
	size_t end = run(t, at, CLASS_SPACE, true), last = end;

	while (last > at && !is_line_end(t->s[last - 1]))
		last--;
	if (last > at)
		return last;
	if (end < t->len) {
		last = utf8_back(t->s, end);
		if (last > at)
			return last;
	}
	return end;
}

size_t words_next(const struct word_rules *rules, const char *s, size_t at, size_t len)
{
	const struct text t = {s, len, unicode_classes()};
	unsigned char signs_not =
		CLASS_SPACE | CLASS_NUMBER | (rules->cased ? CLASS_LETTER : rules->letter);
	size_t end, n, from;
	unsigned char class;

	end = rules->cased ? cased_letters(&t, at) : suffix(&t, at);
	if (end)
		return rules->cased ? end - at : end;
	end = rules->cased ? 0 : plain_letters(&t, at, rules->letter);
	if (end)
		return end - at;
	class = class_at(&t, at, &n);
	if (class & CLASS_NUMBER) {
		end = at + n;
		for (unsigned i = 1; i < rules->digits && end < len; i++) {
			if (!(class_at(&t, end, &n) & CLASS_NUMBER))
				break;
			end += n;
		}
		return end - at;
	}
	from = s[at] == ' ' ? at + 1 : at;
	end = run(&t, from, signs_not, false);
	if (end > from) {
		while (end < len && (is_line_end(s[end]) || (rules->slash && s[end] == '/')))
			end++;
		return end - at;
	}
	return space(&t, at) - at;
}
