/* SPDX-License-Identifier: MIT
 *
 * airlock: reading, writing and judging the lines that children and supervisor exchange.
 *
 * Every line that arrives may be hostile: a recogniser is any program, and a decoder may have been
 * taken over by the document it reads.  So nothing is used as it came.  A line is weighed before
 * it is parsed (values and depth, in one pass without memory), parsed strictly by jansson, and a
 * result is then rebuilt key by key: what the protocol does not name is not copied, and each
 * number and string is checked on the way.  Invariant: whatever airlock_result() returns can be
 * written into an output file without another look.
 */
#include "airlock.h"
#include "base/buf.h"
#include "base/lines.h"
#include "base/name.h"
#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32        /* arrays and objects inside each other */
#define VALUES_MAX 1000000  /* a jansson value costs some 50 to 100 bytes */
#define BLOCKS_DEPTH_MAX 8
#define REAL_DIGITS 12      /* no measure of ours is finer, and 0.1 stays 0.1 */

/* Upper bounds of the depth and the number of values in a line, strings skipped. */
static bool line_is_bounded(const char *line, size_t len)
{
	size_t depth = 0, values = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = line[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		if (c == '"')
			in_string = true;
		else if (c == '[' || c == '{')
			depth++;
		else if ((c == ']' || c == '}') && depth)
			depth--;
		if (c == ',' || c == '[' || c == '{')
			values++;
		if (depth > DEPTH_MAX || values > VALUES_MAX)
			return false;
	}
	return true;
}

json_t *airlock_parse(const char *line, size_t len, struct err *err)
{
	json_error_t why;
	json_t *obj;

	if (!line_is_bounded(line, len)) {
		err_set(err, RC_FAILED, "protocol", "line is nested too deep or holds too many values");
		return NULL;
	}
	obj = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
	if (!obj) {
		char *near = strstr(why.text, " near "); /* what follows is document text */

		if (near)
			*near = '\0';
		err_set(err, RC_FAILED, "protocol", "not JSON at byte %d: %s", why.position, why.text);
		return NULL;
	}
	if (!json_is_object(obj)) {
		json_decref(obj);
		err_set(err, RC_FAILED, "protocol", "line is not a JSON object");
		return NULL;
	}
	return obj;
}

char *airlock_dump(json_t *obj)
{
	char *line = json_dumps(obj, JSON_COMPACT | JSON_SORT_KEYS |
					     JSON_REAL_PRECISION(REAL_DIGITS));

	if (!line)
		BUG("a message cannot be written as JSON");
	return line;
}

int airlock_write(int fd, json_t *obj)
{
	char *line = airlock_dump(obj);
	size_t len = strlen(line);
	int failed;

	line[len] = '\n'; /* one write, so that a line is not torn; the NUL is not needed */
	failed = write_full(fd, line, len + 1);
	free(line);
	return failed;
}

json_t *airlock_error(const struct err *err)
{
	struct buf text;
	json_t *obj;

	buf_init(&text, 3 * ERR_TEXT_MAX);
	utf8_repair(&text, err->text, strlen(err->text));
	obj = json_pack("{s:{s:s,s:s}}", "error", "reason", err->reason, "text",
			text.data ? text.data : "");
	buf_release(&text);
	if (!obj)
		BUG("reason \"%s\" is not UTF-8", err->reason);
	return obj;
}

bool airlock_take_error(const json_t *error, struct err *err)
{
	const char *reason = json_string_value(json_object_get(error, "reason"));
	const char *text = json_string_value(json_object_get(error, "text"));

	if (!reason || !text || !*reason || !*text || strlen(reason) >= ERR_REASON_MAX ||
	    reason[strspn(reason, "abcdefghijklmnopqrstuvwxyz0123456789:-")])
		return false;
	err_set(err, RC_FAILED, reason, "%s", text);
	return true;
}

/* A page's size, the sums over its words, and where a complaint goes. */
struct check {
	double width, height;
	double confidence_sum, confidence_worst;
	size_t n_confidences;
	struct err *err;
};

static json_t *refuse(struct check *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static json_t *refuse(struct check *c, const char *format, ...)
{
	struct buf text;
	va_list ap;

	buf_init(&text, ERR_TEXT_MAX);
	va_start(ap, format);
	buf_vaddf(&text, format, ap);
	va_end(ap);
	err_set(c->err, RC_FAILED, "protocol", "result: %s", text.data ? text.data : "");
	buf_release(&text);
	return NULL;
}

/* Tab, newline and everything printable; CR LF and CR become LF. */
static json_t *clean_string(const json_t *raw)
{
	const char *s = json_string_value(raw);
	size_t len = json_string_length(raw);
	struct buf out;
	json_t *clean;

	buf_init(&out, len);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '\r') {
			if (i + 1 == len || s[i + 1] != '\n')
				buf_addc(&out, '\n');
		} else if (c == 0xc2 && i + 1 < len && (unsigned char)s[i + 1] < 0xa0) {
			i++; /* U+0080 .. U+009F */
		} else if (c == '\t' || c == '\n' || (c >= 0x20 && c != 0x7f)) {
			buf_addc(&out, (char)c);
		}
	}
	clean = json_stringn(out.data ? out.data : "", out.len);
	buf_release(&out);
	return clean;
}

/* [x0,y0,x1,y1] rounded outwards and cut to the page; NULL when nothing of it is left. */
static json_t *clean_box(const struct check *c, const json_t *raw)
{
	double v[4];

	if (json_array_size(raw) != 4)
		return NULL;
	for (size_t i = 0; i < 4; i++) {
		const json_t *n = json_array_get(raw, i);
		double limit = i % 2 ? c->height : c->width;

		if (!json_is_number(n))
			return NULL;
		v[i] = i < 2 ? floor(json_number_value(n)) : ceil(json_number_value(n));
		v[i] = fmin(fmax(v[i], 0), limit);
	}
	if (v[2] <= v[0] || v[3] <= v[1])
		return NULL;
	return json_pack("[i,i,i,i]", (int)v[0], (int)v[1], (int)v[2], (int)v[3]);
}

static void copy_box(const struct check *c, json_t *to, const json_t *from)
{
	json_t *box = clean_box(c, json_object_get(from, "box"));

	if (box)
		json_object_set_new(to, "box", box);
}

/* false when the value is there but is no share of one. */
static bool copy_confidence(struct check *c, json_t *to, const json_t *from, const char *key)
{
	const json_t *raw = json_object_get(from, key);
	double v = json_number_value(raw);

	if (!raw || json_is_null(raw))
		return true;
	if (!json_is_number(raw) || !(v >= -1e-6 && v <= 1 + 1e-6)) {
		refuse(c, "%s is not a number from 0 to 1", key);
		return false;
	}
	json_object_set_new(to, key, json_real(fmin(fmax(v, 0), 1)));
	return true;
}

static json_t *clean_word(struct check *c, const json_t *raw)
{
	const json_t *text = json_object_get(raw, "text");
	const json_t *confidence;
	json_t *word;

	if (!json_is_string(text))
		return refuse(c, "a word has no text");
	word = json_object();
	json_object_set_new(word, "text", clean_string(text));
	copy_box(c, word, raw);
	if (!copy_confidence(c, word, raw, "confidence")) {
		json_decref(word);
		return NULL;
	}
	confidence = json_object_get(word, "confidence");
	if (confidence) {
		double v = json_real_value(confidence);

		c->confidence_sum += v;
		c->confidence_worst = c->n_confidences ? fmin(c->confidence_worst, v) : v;
		c->n_confidences++;
	}
	return word;
}

static json_t *clean_array(struct check *c, const json_t *raw, const char *key,
			   json_t *(*clean)(struct check *, const json_t *))
{
	json_t *out;
	json_t *item;
	size_t i;

	if (!json_is_array(raw))
		return refuse(c, "%s is not an array", key);
	out = json_array();
	json_array_foreach(raw, i, item) {
		json_t *one = clean(c, item);

		if (!one) {
			json_decref(out);
			return NULL;
		}
		json_array_append_new(out, one);
	}
	return out;
}

static json_t *clean_line(struct check *c, const json_t *raw)
{
	const json_t *words = json_object_get(raw, "words");
	json_t *line;
	json_t *list;

	if (!json_is_object(raw))
		return refuse(c, "a line is not an object");
	list = words ? clean_array(c, words, "words", clean_word) : json_array();
	if (!list)
		return NULL;
	line = json_object();
	copy_box(c, line, raw);
	json_object_set_new(line, "words", list);
	return line;
}

/* A short word for machines, such as "stop" or "length". */
static bool is_token(const char *s, size_t len)
{
	return len && len <= 40 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

/* Blocks are the recogniser's own: any JSON, with clean strings and short plain keys. */
static json_t *clean_any(struct check *c, json_t *raw, unsigned depth)
{
	json_t *out, *item, *one;
	const char *key;
	size_t i;

	if (depth > BLOCKS_DEPTH_MAX)
		return refuse(c, "blocks are nested too deep");
	switch (json_typeof(raw)) {
	case JSON_STRING:
		return clean_string(raw);
	case JSON_ARRAY:
		out = json_array();
		json_array_foreach(raw, i, item) {
			if (!(one = clean_any(c, item, depth + 1)))
				goto fail;
			json_array_append_new(out, one);
		}
		return out;
	case JSON_OBJECT:
		out = json_object();
		json_object_foreach(raw, key, item) {
			if (!strcmp(key, "box")) {
				copy_box(c, out, raw);
				continue;
			}
			if (!is_token(key, strlen(key)))
				continue;
			if (!(one = clean_any(c, item, depth + 1)))
				goto fail;
			json_object_set_new(out, key, one);
		}
		return out;
	default:
		return json_incref(raw);
	}
fail:
	json_decref(out);
	return NULL;
}

static json_t *clean_block(struct check *c, const json_t *raw)
{
	if (!json_is_object(raw))
		return refuse(c, "a block is not an object");
	return clean_any(c, (json_t *)raw, 1);
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(word, *list))
			return true;
	return false;
}

static bool copy_text(struct check *c, json_t *out, const json_t *raw)
{
	static const char *const formats[] = { "text", "markdown", "html", NULL };
	const json_t *format = json_object_get(raw, "format");
	const json_t *text = json_object_get(raw, "text");

	if (!json_is_string(text))
		return refuse(c, "\"text\" is missing or not a string") != NULL;
	if (format && !(json_is_string(format) && is_one_of(json_string_value(format), formats)))
		return refuse(c, "\"format\" is not one of text, markdown, html") != NULL;
	json_object_set_new(out, "text", clean_string(text));
	json_object_set_new(out, "format",
			    json_string(format ? json_string_value(format) : "text"));
	return true;
}

static bool copy_arrays(struct check *c, json_t *out, const json_t *raw)
{
	const json_t *lines = json_object_get(raw, "lines");
	const json_t *blocks = json_object_get(raw, "blocks");
	json_t *list;

	if (lines && !json_is_null(lines)) {
		if (!(list = clean_array(c, lines, "lines", clean_line)))
			return false;
		json_object_set_new(out, "lines", list);
	}
	if (blocks && !json_is_null(blocks)) {
		if (!(list = clean_array(c, blocks, "blocks", clean_block)))
			return false;
		json_object_set_new(out, "blocks", list);
	}
	return true;
}

static bool is_hash(const char *s)
{
	return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* A short name in printable ASCII. */
static bool is_label(const char *s)
{
	size_t n = s ? strlen(s) : 0;

	for (size_t i = 0; i < n; i++)
		if (s[i] < ' ' || s[i] > '~')
			return false;
	return n && n <= 100;
}

/* Which adapters a page was read by. */
static void copy_names(json_t *out, const json_t *raw)
{
	json_t *names = json_array(), *name;
	size_t i;

	json_array_foreach(raw, i, name) {
		size_t len = json_string_length(name);

		if (len && len <= 4000 && json_array_size(names) < 16)
			json_array_append_new(names, clean_string(name));
	}
	if (json_array_size(names))
		json_object_set(out, "adapters", names);
	json_decref(names);
}

/* The scalars a result may have besides its text. */
static bool copy_measures(struct check *c, json_t *out, const json_t *raw)
{
	static const char *const counts[] = { "tokens", "ms", "readings" };
	const json_t *rotation = json_object_get(raw, "rotation");
	const json_t *finish = json_object_get(raw, "finish");
	json_t *temperature = json_object_get(raw, "temperature");

	if (rotation && !json_is_null(rotation)) {
		json_int_t r = json_integer_value(rotation);

		if (!json_is_integer(rotation) || (r != 0 && r != 90 && r != 180 && r != 270))
			return refuse(c, "\"rotation\" is not 0, 90, 180 or 270") != NULL;
		json_object_set_new(out, "rotation", json_integer(r));
	}
	if (finish && !json_is_null(finish)) {
		if (!is_token(json_string_value(finish) ? json_string_value(finish) : "",
			      json_string_length(finish)))
			return refuse(c, "\"finish\" is not a short word") != NULL;
		json_object_set_new(out, "finish", json_string(json_string_value(finish)));
	}
	if (json_is_number(temperature))
		json_object_set(out, "temperature", temperature);
	if (is_label(json_string_value(json_object_get(raw, "device"))))
		json_object_set(out, "device", json_object_get(raw, "device"));
	if (is_hash(json_string_value(json_object_get(raw, "prompt_sha256"))))
		json_object_set(out, "prompt_sha256", json_object_get(raw, "prompt_sha256"));
	copy_names(out, json_object_get(raw, "adapters"));
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		const json_t *n = json_object_get(raw, counts[i]);
		double v = json_number_value(n);

		if (!n || json_is_null(n))
			continue;
		if (!json_is_number(n) || !(v >= 0 && v <= 1e15))
			return refuse(c, "\"%s\" is not a count", counts[i]) != NULL;
		json_object_set_new(out, counts[i], json_integer((json_int_t)v));
	}
	return true;
}

static bool copy_confidences(struct check *c, json_t *out, const json_t *raw)
{
	if (!copy_confidence(c, out, raw, "confidence") ||
	    !copy_confidence(c, out, raw, "confidence_worst"))
		return false;
	if (!c->n_confidences)
		return true;
	if (!json_object_get(out, "confidence"))
		json_object_set_new(out, "confidence",
				    json_real(c->confidence_sum / (double)c->n_confidences));
	if (!json_object_get(out, "confidence_worst"))
		json_object_set_new(out, "confidence_worst", json_real(c->confidence_worst));
	return true;
}

/* One line for people: the recogniser's own words about its failure. */
static json_t *clean_failure(struct check *c, const json_t *raw)
{
	const json_t *error = json_object_get(raw, "error");
	struct buf text;
	json_t *out;

	if (!json_is_string(error))
		return refuse(c, "status is error, but \"error\" is not a string");
	buf_init(&text, 4 * ERR_TEXT_MAX);
	name_escape(&text, json_string_value(error),
		    min_u64(json_string_length(error), ERR_TEXT_MAX));
	out = json_object();
	json_object_set_new(out, "status", json_string("error"));
	json_object_set_new(out, "error", json_stringn(text.data ? text.data : "", text.len));
	buf_release(&text);
	return out;
}

json_t *airlock_result(json_t *raw, uint32_t width, uint32_t height, struct err *err)
{
	struct check c = { .width = width, .height = height, .err = err };
	const char *status = json_string_value(json_object_get(raw, "status"));
	json_t *out;

	if (status && !strcmp(status, "error"))
		return clean_failure(&c, raw);
	if (!status || strcmp(status, "ok"))
		return refuse(&c, "\"status\" is neither ok nor error");
	out = json_object();
	json_object_set_new(out, "status", json_string("ok"));
	if (copy_text(&c, out, raw) && copy_arrays(&c, out, raw) && copy_measures(&c, out, raw) &&
	    copy_confidences(&c, out, raw))
		return out;
	json_decref(out);
	return NULL;
}
