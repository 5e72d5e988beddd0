/* SPDX-License-Identifier: MIT
 *
 * null-recogniser: an airlock recogniser that reads nothing, to measure and test everything else.
 *
 *   null-recogniser [--window N] [--delay-ms N] [--serial] [--hash] [--result JSON]
 *                   [--layout HTML [--heads]]
 *
 * Each page is answered with the text "page WxH", after the delay, without a look at its pixels;
 * with --serial, "page WxH, request N of PID", so that results tell what was asked of whom; with
 * --hash, "page WxH, SHA-256 of the page file", so that results tell the pixels; with --result, what
 * stands in that object takes the place of what each result would say, its text --times over; with --layout, what cloister-model
 * makes of a model's reply for each page.  A text is answered with "PROMPT<TEXT>", and the same with --serial.
 */
#include "airlock.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/num.h"
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t number(const char *text, uint64_t max)
{
	uint64_t n;

	if (!parse_u64(text, max, &n))
		die(EX_USAGE_ERROR, "\"%s\" is not a number up to %llu", text,
		    (unsigned long long)max);
	return n;
}

static void send(json_t *message)
{
	if (airlock_write(STDOUT_FILENO, message))
		die(EX_BUG, "write: %s", strerror(errno));
	json_decref(message);
}

static void say_hello(uint64_t window)
{
	char hash[SHA256_HEX_SIZE];

	sha256_hex_of("null", 4, hash);
	send(json_pack("{s:i, s:s, s:s, s:I, s:[s], s:[s, s], s:{s:s, s:s}}", "airlock", 1, "name",
		       "null", "version", CLOISTER_VERSION, "window", (json_int_t)window, "formats",
		       "text", "takes", "page", "text", "model", "name", "none", "sha256", hash));
}

static json_t *given; /* --result */
static uint64_t times = 1;
static const char *layout;
static bool heads;

static void lay_out(json_t *result, const json_t *request)
{
	const struct output_options options = {
		OUTPUT_LAYOUT, heads, (uint32_t)json_integer_value(json_object_get(request, "width")),
		(uint32_t)json_integer_value(json_object_get(request, "height"))
	};
	struct output output;

	output_make(&output, &options, layout, strlen(layout));
	json_object_set_new(result, "format", json_string(output.format));
	json_object_set_new(result, "text", json_stringn(output.text.data, output.text.len));
	json_object_set(result, "blocks", output.blocks);
	output_release(&output);
}

static void repeat(json_t *result)
{
	const char *text = json_string_value(json_object_get(result, "text"));
	struct buf all;

	buf_init(&all, 64 << 20);
	for (uint64_t i = 0; i < times; i++)
		buf_adds(&all, text);
	json_object_set_new(result, "text", json_stringn(all.data, all.len));
	buf_release(&all);
}

static void hash_of(const char *page, char hex[SHA256_HEX_SIZE])
{
	int fd = open(page, O_RDONLY | O_CLOEXEC);
	uint64_t size;
	struct err err;

	if (fd < 0 || sha256_hex_fd(fd, hex, &size, &err))
		die(EX_BUG, "page %s cannot be read", page);
	close(fd);
}

static void describe_page(struct buf *out, json_t *request, bool hash)
{
	char hex[SHA256_HEX_SIZE];
	const char *page;
	int width, height;

	if (json_unpack(request, "{s:i, s:i, s:s}", "width", &width, "height", &height, "page", &page))
		die(EX_BUG, "not a request");
	buf_addf(out, "page %dx%d", width, height);
	if (hash) {
		hash_of(page, hex);
		buf_addf(out, ", %s", hex);
	}
}

static void answer(const char *line, size_t len, unsigned long serial, bool hash)
{
	const char *asked = NULL, *prompt = "", *format = "text";
	json_int_t id = 0;
	struct err err;
	json_t *request = airlock_parse(line, len, &err), *result;
	struct buf text;

	if (!request || json_unpack(request, "{s:I, s?s, s?s, s?s}", "id", &id, "text", &asked, "format",
				    &format, "prompt", &prompt))
		die(EX_BUG, "not a request");
	buf_init(&text, 2 * REQUEST_MAX);
	if (asked)
		buf_addf(&text, "%s<%s>", prompt, asked);
	else
		describe_page(&text, request, hash);
	if (serial)
		buf_addf(&text, ", request %lu of %d", serial, (int)getpid());
	result = json_pack("{s:I, s:s, s:s, s:s, s:s}", "id", id, "status", "ok", "format", format,
			   "text", text.data, "finish", "stop");
	if (layout && !asked)
		lay_out(result, request);
	json_object_update(result, given);
	if (times > 1)
		repeat(result);
	send(result);
	buf_release(&text);
	json_decref(request);
}

int main(int argc, char **argv)
{
	static const struct option table[] = {
		{ "window", required_argument, NULL, 'w' },
		{ "delay-ms", required_argument, NULL, 'd' },
		{ "serial", no_argument, NULL, 's' },
		{ "hash", no_argument, NULL, 'h' },
		{ "result", required_argument, NULL, 'r' },
		{ "times", required_argument, NULL, 't' },
		{ "layout", required_argument, NULL, 'l' },
		{ "heads", no_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 },
	};
	struct err err;
	uint64_t window = 4, delay = 0;
	unsigned long requests = 0;
	bool serial = false, hash = false;
	struct lines lines;
	char *line;
	size_t len;
	int c;

	log_init("null-recogniser", LOG_INFO);
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (c == 'w')
			window = number(optarg, 1024);
		else if (c == 'd')
			delay = number(optarg, 3600000);
		else if (c == 's')
			serial = true;
		else if (c == 'h')
			hash = true;
		else if (c == 't')
			times = number(optarg, 1 << 20);
		else if (c == 'l')
			layout = optarg;
		else if (c == 'k')
			heads = true;
		else if (c == 'r' && (given = airlock_parse(optarg, strlen(optarg), &err)))
			continue;
		else
			return EX_USAGE_ERROR;
	}
	say_hello(window);
	lines_init(&lines, STDIN_FILENO, REQUEST_MAX);
	while (lines_next(&lines, &line, &len) == LINES_ONE) {
		const struct timespec wait = { (time_t)(delay / 1000),
					       (long)(delay % 1000) * 1000000 };

		if (delay)
			nanosleep(&wait, NULL);
		requests++;
		answer(line, len, serial ? requests : 0, hash);
	}
	lines_release(&lines);
	json_decref(given);
	return EX_ALL_DONE;
}
