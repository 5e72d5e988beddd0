/* SPDX-License-Identifier: MIT
 *
 * Names and lines: encoding is reversible, escaping and repair leave valid UTF-8 on one line, a
 * sanitised name is a safe file name, and lines come out as they went in, however they are cut.
 */
#include "fuzz.h"

#include "base/buf.h"
#include "base/lines.h"
#include "base/suggest.h"

#include <ctype.h>

#define LINE_BYTES_MAX 300

static void check_line(const struct buf *b)
{
	CHECK(!b->overflow && utf8_valid(b->data ? b->data : "", b->len));
	for (size_t i = 0; i < b->len; i++)
		CHECK((unsigned char)b->data[i] >= 0x20 && b->data[i] != 0x7f);
}

static void check_names(const char *s, size_t len)
{
	struct buf a, b;

	buf_init(&a, 8 * len + 1024);
	buf_init(&b, 8 * len + 1024);
	name_encode(&a, s, len);
	check_line(&a);
	CHECK(name_decode(&b, a.data ? a.data : "", a.len) == !memchr(s, 0, len));
	CHECK(memchr(s, 0, len) || (b.len == len && !memcmp(b.data ? b.data : "", s, len)));
	buf_clear(&a);
	name_escape(&a, s, len);
	check_line(&a);
	buf_clear(&a);
	utf8_repair(&a, s, len);
	CHECK(!a.overflow && utf8_valid(a.data ? a.data : "", a.len));
	CHECK(!utf8_valid(s, len) || (a.len == len && !memcmp(a.data ? a.data : "", s, len)));
	buf_clear(&a);
	name_sanitise(&a, s, len);
	check_line(&a);
	CHECK(a.len && a.len <= 100 && a.data[0] != '.' && !memchr(a.data, '/', a.len));
	buf_clear(&a);
	name_decode(&a, s, len);
	CHECK(a.len <= len);
	buf_release(&a);
	buf_release(&b);
}

static void check_lines(const char *s, size_t len)
{
	struct fuzz_lines expected = { s, s + len };
	enum lines_status status;
	const char *line;
	struct lines l;
	size_t n, got_len;
	char *got;
	int ends[2];

	if (len > 32768) /* of a pipe */
		return;
	CHECK(!pipe2(ends, O_CLOEXEC) && !write_full(ends[1], s, len));
	close(ends[1]);
	lines_init(&l, ends[0], LINE_BYTES_MAX);
	while ((status = lines_next(&l, &got, &got_len)) == LINES_ONE) {
		CHECK(fuzz_line(&expected, &line, &n) && n == got_len);
		CHECK(!memcmp(line, got, n) && !got[n] && n <= LINE_BYTES_MAX);
	}
	CHECK(status != LINES_AGAIN);
	if (status == LINES_EOF)
		CHECK(!fuzz_line(&expected, &line, &n) || expected.at > s + len);
	else
		CHECK(fuzz_line(&expected, &line, &n) && n >= LINE_BYTES_MAX);
	lines_release(&l);
	close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct suggestion best = { NULL, 0 };
	char *text = xmalloc(size + 1);
	uint64_t number;

	memcpy(text, data, size);
	text[size] = '\0';
	check_names(text, size);
	check_lines(text, size);
	CHECK(!parse_u64(text, 1000, &number) || (number <= 1000 && isdigit(text[0])));
	suggest(&best, text, "languages");
	CHECK(strlen(shown(text).s) < sizeof(shown(text).s));
	CHECK(utf8_valid(shown(text).s, strlen(shown(text).s)));
	free(text);
	return 0;
}
