/* SPDX-License-Identifier: MIT
 *
 * What cloister check --recogniser asks, in the order of its report (conform.h).
 *
 * Nothing is asked that a run would not ask, but with the oddest values that it may have.
 */
#include "airlock.h"
#include "conform.h"
#include "testpage.h"
#include "base/name.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROMPT_MAX     32768 /* of a pipeline */
#define IDLE_SECONDS   2.0
#define SETTLE_SECONDS 0.3
#define FAR_ID	       ((1ull << 53) - 1)

static enum verdict fail(struct err *why, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static enum verdict fail(struct err *why, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	err_vset(why, RC_FAILED, "protocol", format, ap);
	va_end(ap);
	return FAIL;
}

static enum verdict pass(struct err *why, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static enum verdict pass(struct err *why, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	err_vset(why, RC_OK, "found", format, ap);
	va_end(ap);
	return PASS;
}

/* A question that it has to answer well: about the page of lines where it takes pages, else their
 * text. */
static struct asked *ask_plain(struct conform *c)
{
	if (c->takes & TAKES_PAGE)
		return conform_ask(c, PAGE_LINES, NULL, NULL);
	return conform_ask(c, PAGE_LINES, TEST_PAGE_LINE_1 "\n" TEST_PAGE_LINE_2, "text");
}

/* Its text, which the caller frees; NULL: the answer is an error or wrong. */
static char *text_of(const struct asked *a, struct err *why)
{
	json_t *result = conform_result(a, why);
	char *text = result ? xstrdup(json_string_value(json_object_get(result, "text"))) : NULL;

	json_decref(result);
	return text;
}

/* Send one, wait for its answer, and as text_of(). */
static char *answer_to(struct conform *c, struct asked *a, struct err *why)
{
	conform_send(c, a);
	return conform_await(c) ? text_of(a, why) : NULL;
}

/* Send one, and wait for a good answer. */
static enum verdict wants_ok(struct conform *c, struct asked *a, struct err *why)
{
	char *text = answer_to(c, a, why);

	if (!text)
		return FAIL;
	pass(why, "answered, %zu bytes", strlen(text));
	free(text);
	return PASS;
}

/* It goes on: another request is answered well. */
static bool goes_on(struct conform *c, const char *what, struct err *why)
{
	struct err error = {.text = ""};
	char *text;

	text = answer_to(c, ask_plain(c), &error);
	free(text);
	if (!text)
		fail(why, "%s: the request after it is not answered well: %s", what, error.text);
	return text;
}

enum answer { WRONG, ERROR, OK };

/* Send one, and wait for an answer of either kind. */
static enum answer kind_of_answer(struct conform *c, struct asked *a, struct err *why)
{
	json_t *result;

	conform_send(c, a);
	if (!conform_await(c))
		return WRONG;
	result = conform_result(a, why);
	json_decref(result);
	return result ? OK : strcmp(why->reason, "protocol") ? ERROR : WRONG;
}

/* An answer of either kind, and that it goes on after it. */
static enum verdict wants_any(struct conform *c, struct asked *a, struct err *why)
{
	enum answer answer = kind_of_answer(c, a, why);

	if (answer == WRONG)
		return FAIL;
	if (answer == OK)
		pass(why, "answered");
	return goes_on(c, "it answers", why) ? PASS : FAIL;
}

/* An error, and that it goes on after it. */
static enum verdict wants_error(struct conform *c, struct asked *a, const char *what,
				struct err *why)
{
	enum answer answer = kind_of_answer(c, a, why);

	if (answer == OK)
		return fail(why, "%s: it answers ok, and the document's text would be wrong", what);
	return answer == ERROR && goes_on(c, what, why) ? PASS : FAIL;
}

/* ---- the hello ---- */

static bool is_word_list(const json_t *list, const char *const *words)
{
	json_t *item;
	size_t i;

	if (!json_is_array(list))
		return false;
	json_array_foreach(list, i, item)
	{
		const char *word = json_string_value(item);
		const char *const *known = words;

		while (word && *known && strcmp(word, *known))
			known++;
		if (!word || !*known)
			return false;
	}
	return true;
}

static enum verdict check_hello(struct conform *c, struct err *why)
{
	static const char *const formats[] = {"text", "markdown", "html", NULL};
	static const char *const kinds[] = {"page", "text", NULL};
	const json_t *window = json_object_get(c->hello, "window");
	const json_t *model = json_object_get(c->hello, "model");
	const json_t *sha256 = json_object_get(model, "sha256");
	const char *name = json_string_value(json_object_get(c->hello, "name"));
	const char *version = json_string_value(json_object_get(c->hello, "version"));
	const char *hash = json_string_value(sha256);
	const char *list[] = {"formats", "takes"};

	if (json_integer_value(json_object_get(c->hello, "airlock")) != 1)
		fail(why, "the first line has no \"airlock\":1");
	else if (!name || !*name || strlen(name) > 63)
		fail(why, "\"name\" is not a string of 1 to 63 bytes");
	else if (!version || strlen(version) > 63)
		fail(why, "\"version\" is not a string of up to 63 bytes");
	else if (window && (!json_is_integer(window) || json_integer_value(window) < 1 ||
			    json_integer_value(window) > 1024))
		fail(why, "\"window\" is not a whole number from 1 to 1024");
	else if (model && !json_is_object(model))
		fail(why, "\"model\" is not an object");
	else if (sha256 && (!hash || strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64))
		fail(why, "\"sha256\" of the model is not 64 hexadecimal digits in lower case");
	else if (!c->takes)
		fail(why, "\"takes\" has neither page nor text");
	else
		pass(why, "%s %s, window %u, takes %s%s%s", name, version, c->window,
		     c->takes & TAKES_PAGE ? "pages" : "",
		     c->takes == (TAKES_PAGE | TAKES_TEXT) ? " and " : "",
		     c->takes & TAKES_TEXT ? "texts" : "");
	for (size_t i = 0; i < 2 && !strcmp(why->reason, "found"); i++) {
		const json_t *given = json_object_get(c->hello, list[i]);

		if (given && !is_word_list(given, i ? kinds : formats))
			fail(why, "\"%s\" is not a list of the words that it may have", list[i]);
	}
	return strcmp(why->reason, "found") ? FAIL : PASS;
}

/* ---- pages and texts ---- */

static enum verdict check_page(struct conform *c, struct err *why)
{
	char *text = answer_to(c, ask_plain(c), why);

	if (!text)
		return FAIL;
	free(c->text);
	c->text = text;
	return pass(why, "answered \"%.100s\"", text);
}

static enum verdict check_text(struct conform *c, struct err *why)
{
	struct asked *a =
		conform_ask(c, PAGE_LINES, TEST_PAGE_LINE_1 "\n" TEST_PAGE_LINE_2, "text");

	return wants_ok(c, a, why);
}

static enum verdict check_same(struct conform *c, struct err *why)
{
	char *text = answer_to(c, ask_plain(c), why);

	if (!text)
		return FAIL;
	c->same = c->text && !strcmp(text, c->text);
	if (!c->same)
		fail(why, "the same request is answered by another text: \"%.100s\"", text);
	else
		pass(why, "the same request is answered by the same text");
	free(text);
	return c->same ? PASS : FAIL;
}

static enum verdict check_colour(struct conform *c, struct err *why)
{
	return wants_ok(c, conform_ask(c, PAGE_COLOUR, NULL, NULL), why);
}

static enum verdict check_blank(struct conform *c, struct err *why)
{
	return wants_ok(c, conform_ask(c, PAGE_BLANK, NULL, NULL), why);
}

static enum verdict check_dot(struct conform *c, struct err *why)
{
	return wants_any(c, conform_ask(c, PAGE_DOT, NULL, NULL), why);
}

static enum verdict check_huge(struct conform *c, struct err *why)
{
	if (!c->have[PAGE_HUGE]) {
		err_set(why, RC_OK, "room", "no room for a page of %u x %u pixels in %s",
			c->width[PAGE_HUGE], c->height[PAGE_HUGE], c->scratch.path);
		return NOT_TRIED;
	}
	return wants_any(c, conform_ask(c, PAGE_HUGE, NULL, NULL), why);
}

static enum verdict check_missing(struct conform *c, struct err *why)
{
	return wants_error(c, conform_ask(c, PAGE_MISSING, NULL, NULL),
			   "the page's file is missing", why);
}

static enum verdict check_cut(struct conform *c, struct err *why)
{
	return wants_error(c, conform_ask(c, PAGE_CUT, NULL, NULL), "the page's file is cut short",
			   why);
}

static enum verdict check_long_text(struct conform *c, struct err *why)
{
	struct buf text;
	enum verdict verdict;
	struct asked *a;

	buf_init(&text, REQUEST_TEXT_MAX);
	while (text.len + 8 < REQUEST_TEXT_MAX)
		buf_adds(&text, text.len % 80 < 70 ? "mill \"" : "wait\n");
	a = conform_ask(c, PAGE_LINES, text.data, "markdown");
	verdict = wants_any(c, a, why);
	buf_release(&text);
	return verdict;
}

static enum verdict check_empty_text(struct conform *c, struct err *why)
{
	return wants_any(c, conform_ask(c, PAGE_LINES, "", "html"), why);
}

/* ---- requests ---- */

static enum verdict check_unknown_keys(struct conform *c, struct err *why)
{
	struct asked *a = ask_plain(c);

	a->more = json_pack("{s:{s:[i, n, b, {}], s:s}, s:f, s:n}", "a-key-of-tomorrow", "list", 1,
			    1, "text", "x", "zoom", 1.5, "none");
	json_object_set_new(a->reading.params, "a_parameter_of_tomorrow", json_true());
	return wants_ok(c, a, why);
}

static enum verdict
with_prompt(struct conform *c, const char *prompt,
	    enum verdict (*wants)(struct conform *, struct asked *, struct err *), struct err *why)
{
	struct asked *a = ask_plain(c);

	a->reading.prompt = prompt;
	return wants(c, a, why);
}

static enum verdict check_unicode(struct conform *c, struct err *why)
{
	return with_prompt(
		c,
		"Straße, Ελλάδα, Москва, 東京, עברית, العربية, हिन्दी; e\u0301 \ufeff \u202e "
		"\u2028 \U0001f5c4\ufe0f \U0001f468\u200d\U0001f467 \U0010fffd \ufffd",
		wants_ok, why);
}

static enum verdict check_controls(struct conform *c, struct err *why)
{
	/* DEL, NEL, CSI, and what would be a line of its own. */
	static const char end[] = "\x7f\xc2\x85\xc2\x9b\r\n{\"id\":98}\n";
	char prompt[200] = "Tab\t quote\" back\\slash \\u0041 \\n {\"id\":99} ";
	size_t n = strlen(prompt);

	for (char k = 1; k < 0x20; k++)
		prompt[n++] = k;
	memcpy(prompt + n, end, sizeof(end));
	return with_prompt(c, prompt, wants_ok, why);
}

static enum verdict check_long_prompt(struct conform *c, struct err *why)
{
	char *prompt = xmalloc(PROMPT_MAX + 1);
	enum verdict verdict;

	/* Of which each byte takes two or six in a line. */
	for (size_t i = 0; i < PROMPT_MAX; i++)
		prompt[i] = "\"\\a\x01"[i % 4];
	prompt[PROMPT_MAX] = '\0';
	verdict = with_prompt(c, prompt, wants_any, why); /* it may be too long for a model */
	free(prompt);
	return verdict;
}

static enum verdict check_no_prompt(struct conform *c, struct err *why)
{
	return with_prompt(c, NULL, wants_any, why); /* a model may have to have one */
}

/* As many as it wants, pages that differ in turn, in the order in which their files do not lie.
 * Each answer must be that of its own question. */
static enum verdict check_window(struct conform *c, struct err *why)
{
	size_t n = min_u64(c->window, ASKED_MAX);
	bool pages = c->takes & TAKES_PAGE;

	if (n < 2) {
		err_set(why, RC_OK, "window", "it wants one request at a time");
		return NOT_TRIED;
	}
	for (size_t i = 0; i < n; i++) {
		if (pages)
			conform_ask(c, i % 2 ? PAGE_LINES : PAGE_BLANK, NULL, NULL);
		else
			conform_ask(c, PAGE_LINES,
				    i % 2 ? TEST_PAGE_LINE_1 "\n" TEST_PAGE_LINE_2 : "AMEN",
				    "text");
	}
	for (size_t i = 0; i < n; i++)
		conform_send(c, &c->asked[i]);
	if (!conform_await(c))
		return FAIL;
	conform_wait(c, SETTLE_SECONDS); /* for a second answer */
	for (size_t i = 0; i < n; i++) {
		char *text = text_of(&c->asked[i], why);
		bool right = text && (i % 2 == 0 || !c->same || !strcmp(text, c->text));

		if (text && !right)
			fail(why, "beside others the page of lines gets another text: \"%.100s\"",
			     text);
		free(text);
		if (!right)
			return FAIL;
	}
	return pass(why, "%zu requests at a time, each answered once%s", n,
		    c->same ? " and as if alone" : "");
}

static enum verdict check_again(struct conform *c, struct err *why)
{
	struct asked *a = ask_plain(c);
	uint64_t id = a->reading.id;

	if (wants_ok(c, a, why) != PASS)
		return FAIL;
	conform_clear(c);
	a = ask_plain(c);
	a->reading.id = id;
	if (wants_ok(c, a, why) != PASS)
		return FAIL;
	conform_clear(c);
	a = ask_plain(c);
	a->reading.id = FAR_ID;
	if (wants_ok(c, a, why) != PASS)
		return FAIL;
	return pass(why, "an id that is used again, and id %llu", (unsigned long long)FAR_ID);
}

static enum verdict check_idle(struct conform *c, struct err *why)
{
	conform_wait(c, IDLE_SECONDS);
	if (c->broken || wants_ok(c, ask_plain(c), why) != PASS)
		return FAIL;
	return pass(why, "silent for %.0f seconds, then answered", IDLE_SECONDS);
}

/* ---- the end ---- */

/* With a request at work, and half of another one. */
static enum verdict check_end(struct conform *c, struct err *why)
{
	static const char half[] = "{\"id\":77,\"page\":\"";
	struct asked *a = ask_plain(c);
	enum verdict verdict = PASS;
	bool answered;

	conform_send(c, a);
	/* What does not fit into the pipe at once is no half line. */
	if (write(c->child.in, half, sizeof(half) - 1) < 0)
		return fail(why, "it does not read its standard input");
	c->closed = true;
	child_close_in(&c->child);
	conform_wait(c, c->seconds);
	answered = a->result != NULL;
	if (!c->ended && !c->broken)
		verdict = fail(why, "it does not end within %.0f seconds", c->seconds);
	else if (c->ended && !(WIFEXITED(c->status) && !WEXITSTATUS(c->status))) {
		struct buf how;

		buf_init(&how, ERR_TEXT_MAX);
		child_describe(&c->child, c->status, &how);
		verdict = fail(why, "%s, not 0", how.data);
		buf_release(&how);
	} else {
		pass(why, "ended with 0, %s",
		     answered ? "and answered before" : "the last request left unanswered");
	}
	if (!c->broken)
		conform_stop(c);
	return verdict;
}

const struct conform_check conform_checks[] = {
	{"hello", check_hello, 0, true},
	{"first request", check_page, 0, true},
	{"same again", check_same, 0, false},
	{"colour page", check_colour, TAKES_PAGE, false},
	{"blank page", check_blank, TAKES_PAGE, false},
	{"page of one pixel", check_dot, TAKES_PAGE, false},
	{"huge page", check_huge, TAKES_PAGE, false},
	{"page missing", check_missing, TAKES_PAGE, false},
	{"page cut short", check_cut, TAKES_PAGE, false},
	{"text", check_text, TAKES_TEXT, false},
	{"empty text", check_empty_text, TAKES_TEXT, false},
	{"long text", check_long_text, TAKES_TEXT, false},
	{"unknown keys", check_unknown_keys, 0, false},
	{"unicode", check_unicode, 0, false},
	{"control characters", check_controls, 0, false},
	{"long prompt", check_long_prompt, 0, false},
	{"no prompt", check_no_prompt, 0, false},
	{"window", check_window, 0, false},
	{"ids", check_again, 0, false},
	{"idle", check_idle, 0, false},
	{"end of input", check_end, 0, false},
	{NULL, NULL, 0, false},
};
