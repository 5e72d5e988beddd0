/* SPDX-License-Identifier: MIT
 *
 * Lines of the airlock protocol: what is parsed, and what of a result is kept.
 */
#include "airlock.h"
#include "base/num.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static json_t *parse(const char *line)
{
	struct err err = { "", "" };
	json_t *obj = airlock_parse(line, strlen(line), &err);

	if (!obj) {
		assert_string_equal(err.reason, "protocol");
		assert_string_not_equal(err.text, "");
	}
	return obj;
}

static void test_parse(void **state)
{
	static const char *const bad[] = {
		"", "1", "[]", "{", "{}x", "{} {}", "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}",
		"{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xc0\xaf\"}", "{\"a\":\"\\ud800\"}",
		"{\"a\":\"\\u0000\"}", "{\"a\":NaN}", "{\"a\":1e999}", "{\"a\":99999999999999999999}",
		"{'a':1}", "{\"a\":1,}", "{\"a\":\"\n\"}",
	};
	struct err err;
	json_t *obj;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse(bad[i]))
			fail_msg("taken: %s", bad[i]);
	assert_null(airlock_parse("{\"a\":1}\0x", 9, &err)); /* nothing after it, NUL or not */
	obj = parse("{\"a\":\"\\u00e9[[{{,,\\\"\",\"b\":[1,2.5,null]}");
	assert_non_null(obj);
	json_decref(obj);
}

/* A complaint must not carry the document's text into the log. */
static void test_parse_error_quotes_nothing(void **state)
{
	const char line[] = "{\"text\":\"secret\" \"more secret\"}";
	struct err err;

	(void)state;
	assert_null(airlock_parse(line, strlen(line), &err));
	assert_null(strstr(err.text, "secret"));
}

static char *repeat(const char *head, const char *unit, size_t n, const char *tail)
{
	char *out = malloc(strlen(head) + n * strlen(unit) + strlen(tail) + 1), *p = out;

	p = stpcpy(p, head);
	for (size_t i = 0; i < n; i++)
		p = stpcpy(p, unit);
	strcpy(p, tail);
	return out;
}

static void test_parse_is_bounded(void **state)
{
	char *deep = repeat("{\"a\":", "[", 100000, "");
	char *wide = repeat("{\"a\":[0", ",0", 2000000, "]}");
	char *text = repeat("{\"a\":\"", "[{,", 2000000, "\"}"); /* it is all one string */
	json_t *obj;

	(void)state;
	assert_null(parse(deep));
	assert_null(parse(wide));
	obj = parse(text);
	assert_non_null(obj);
	json_decref(obj);
	free(deep);
	free(wide);
	free(text);
}

static void test_write_and_error(void **state)
{
	struct err err;
	char got[256];
	json_t *obj;
	int fds[2];
	ssize_t n;

	(void)state;
	err_set(&err, RC_FAILED, "damaged", "caf\xe9 \"x\"\n");
	obj = airlock_error(&err);
	json_object_set_new(obj, "a", json_real(0.1));
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(airlock_write(fds[1], obj), 0);
	n = read(fds[0], got, sizeof(got) - 1);
	assert_true(n > 0);
	got[n] = '\0';
	assert_string_equal(got, "{\"a\":0.1,\"error\":{\"reason\":\"damaged\",\"text\":"
				 "\"caf\xef\xbf\xbd \\\"x\\\" \"}}\n");
	json_decref(obj);
	close(fds[0]);
	close(fds[1]);
}

/* The cleaned result on a page of 100 x 200 as a line, or "!" and the complaint. Static. */
static const char *cleaned(const char *raw)
{
	static char out[4096];
	struct err err = { "", "" };
	json_t *obj = json_loads(raw, 0, NULL);
	json_t *clean;

	assert_non_null(obj);
	clean = airlock_result(obj, 100, 200, &err);
	if (clean) {
		char *line = airlock_dump(clean);

		snprintf(out, sizeof(out), "%s", line);
		free(line);
	} else {
		assert_string_equal(err.reason, "protocol");
		snprintf(out, sizeof(out), "!%s", err.text);
	}
	json_decref(clean);
	json_decref(obj);
	return out;
}

#define OK "{\"status\":\"ok\",\"text\":\"\","

static void test_result_keeps_the_protocol(void **state)
{
	(void)state;
	assert_string_equal(
		cleaned("{\"id\":7,\"status\":\"ok\",\"format\":\"markdown\",\"text\":\"a\",\"evil\":1,"
			"\"rotation\":90,\"finish\":\"stop\",\"tokens\":5,\"ms\":12.7,"
			"\"blocks\":[{\"kind\":\"table\",\"box\":[0,0,10,10],\"html\":\"<b>\",\"a b\":1}],"
			"\"lines\":[{\"box\":[1,2,3,4],\"x\":1,\"words\":["
			"{\"text\":\"w\",\"box\":[1,2,3,4],\"confidence\":0.5,\"x\":1}]}]}"),
		"{\"blocks\":[{\"box\":[0,0,10,10],\"html\":\"<b>\",\"kind\":\"table\"}],"
		"\"confidence\":0.5,\"confidence_worst\":0.5,\"finish\":\"stop\",\"format\":\"markdown\","
		"\"lines\":[{\"box\":[1,2,3,4],\"words\":[{\"box\":[1,2,3,4],\"confidence\":0.5,"
		"\"text\":\"w\"}]}],\"ms\":12,\"rotation\":90,\"status\":\"ok\",\"text\":\"a\",\"tokens\":5}");
	assert_string_equal(cleaned("{\"status\":\"ok\",\"text\":\"x\"}"),
			    "{\"format\":\"text\",\"status\":\"ok\",\"text\":\"x\"}");
	assert_string_equal(cleaned("{\"status\":\"error\",\"error\":\"no\\nmore\",\"text\":\"x\"}"),
			    "{\"error\":\"no\\\\x0amore\",\"status\":\"error\"}");
}

static void test_result_cleans_text(void **state)
{
	(void)state;
	assert_string_equal(
		cleaned("{\"status\":\"ok\",\"text\":\"a\\tb\\r\\nc\\rd\\u0007\\u001b[1m\\u007f\\u0085\\fe\"}"),
		"{\"format\":\"text\",\"status\":\"ok\",\"text\":\"a\\tb\\nc\\nd[1me\"}");
}

/* Names of adapters: texts, not many, not without end; whatever else stands there is left out. */
static void test_result_adapters(void **state)
{
	char *many = repeat("{\"status\":\"ok\",\"text\":\"\",\"adapters\":[\"x\"", ",\"x\"", 40, "]}"),
	     *lengthy = repeat("{\"status\":\"ok\",\"text\":\"\",\"adapters\":[\"", "x", 4001, "\"]}");

	(void)state;
	assert_string_equal(cleaned("{\"status\":\"ok\",\"text\":\"\",\"adapters\":[\"a/b\\u001b\",1,{},\"\",\"c\"]}"),
			    "{\"adapters\":[\"a/b\",\"c\"],\"format\":\"text\",\"status\":\"ok\",\"text\":\"\"}");
	assert_null(strstr(cleaned("{\"status\":\"ok\",\"text\":\"\",\"adapters\":\"a\"}"), "adapters"));
	assert_null(strstr(cleaned(lengthy), "adapters"));
	assert_non_null(strstr(cleaned(many), "\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\"]"));
	free(many);
	free(lengthy);
}

static void test_result_boxes(void **state)
{
	static const struct {
		const char *raw, *clean; /* NULL: left out */
	} boxes[] = {
		{ "[0,0,100,200]", "[0,0,100,200]" }, { "[-5,-5,1000,1000]", "[0,0,100,200]" },
		{ "[1.2,1.9,2.1,3]", "[1,1,3,3]" },   { "[5,5,5,9]", NULL },
		{ "[9,5,5,9]", NULL },		      { "[100,0,120,10]", NULL },
		{ "[1,2,3]", NULL },		      { "[1,2,3,\"4\"]", NULL },
		{ "{}", NULL },			      { "[1e300,0,2e300,9]", NULL },
		{ "[-1e300,0,1e300,9]", "[0,0,100,9]" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(boxes); i++) {
		char raw[256], want[256];

		snprintf(raw, sizeof(raw), OK "\"lines\":[{\"box\":%s,\"words\":[]}]}", boxes[i].raw);
		snprintf(want, sizeof(want),
			 "{\"format\":\"text\",\"lines\":[{%s%s%s\"words\":[]}],\"status\":\"ok\",\"text\":\"\"}",
			 boxes[i].clean ? "\"box\":" : "", boxes[i].clean ? boxes[i].clean : "",
			 boxes[i].clean ? "," : "");
		assert_string_equal(cleaned(raw), want);
	}
}

static void test_result_confidence(void **state)
{
	const char *s;

	(void)state;
	s = cleaned(OK "\"lines\":[{\"words\":[{\"text\":\"a\",\"confidence\":1},"
		       "{\"text\":\"b\",\"confidence\":0.5},{\"text\":\"c\"}]}]}");
	assert_non_null(strstr(s, "\"confidence\":0.75,\"confidence_worst\":0.5,"));
	s = cleaned(OK "\"confidence\":0.9,\"lines\":[{\"words\":[{\"text\":\"a\",\"confidence\":0.1}]}]}");
	assert_non_null(strstr(s, "{\"confidence\":0.9,\"confidence_worst\":0.1,"));
	s = cleaned(OK "\"lines\":[]}"); /* nothing to compute it from */
	assert_null(strstr(s, "confidence"));
}

static void test_result_refusals(void **state)
{
	static const char *const bad[] = {
		"{}", "{\"status\":\"fine\"}", "{\"status\":\"ok\"}", "{\"status\":\"ok\",\"text\":1}",
		"{\"status\":1,\"text\":\"\"}", "{\"status\":\"error\"}",
		"{\"status\":\"error\",\"error\":{}}", OK "\"format\":\"pdf\"}", OK "\"format\":1}",
		OK "\"lines\":{}}", OK "\"lines\":[1]}", OK "\"lines\":[{\"words\":1}]}",
		OK "\"lines\":[{\"words\":[1]}]}", OK "\"lines\":[{\"words\":[{}]}]}",
		OK "\"lines\":[{\"words\":[{\"text\":\"a\",\"confidence\":96}]}]}",
		OK "\"confidence\":-1}", OK "\"confidence\":\"high\"}", OK "\"confidence_worst\":2}",
		OK "\"rotation\":45}", OK "\"rotation\":90.0}", OK "\"rotation\":\"90\"}",
		OK "\"finish\":\"two words\"}", OK "\"finish\":1}", OK "\"tokens\":-1}",
		OK "\"ms\":1e300}", OK "\"tokens\":\"5\"}", OK "\"blocks\":{}}", OK "\"blocks\":[1]}",
		OK "\"blocks\":[{\"a\":[[[[[[[[[[1]]]]]]]]]]}]}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (cleaned(bad[i])[0] != '!')
			fail_msg("taken: %s", bad[i]);
}

/* A hostile result that got through once gets through again unchanged: cleaning is complete. */
static void test_result_is_stable(void **state)
{
	const char *raw = "{\"status\":\"ok\",\"text\":\"a\\u0001\\r\",\"lines\":[{\"box\":[-1,0,5.5,9e9],"
			  "\"words\":[{\"text\":\"\\u0090\",\"confidence\":0.123456789,\"box\":[0,0,0,0]}]}]}";
	char once[4096];

	(void)state;
	snprintf(once, sizeof(once), "%s", cleaned(raw));
	assert_string_equal(cleaned(once), once);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_error_quotes_nothing),
		cmocka_unit_test(test_parse_is_bounded),
		cmocka_unit_test(test_write_and_error),
		cmocka_unit_test(test_result_keeps_the_protocol),
		cmocka_unit_test(test_result_cleans_text),
		cmocka_unit_test(test_result_adapters),
		cmocka_unit_test(test_result_boxes),
		cmocka_unit_test(test_result_confidence),
		cmocka_unit_test(test_result_refusals),
		cmocka_unit_test(test_result_is_stable),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("airlock", tests, NULL, NULL);
}
