/* SPDX-License-Identifier: MIT
 *
 * Tokens: the first line is a file name, the rest a token's content.  A name that parses is spelt
 * by its parts; a token that is read and written again is the same.
 */
#include "fuzz.h"

#include "spool.h"

#define KEY "20261121T201500.123456-0123456789abcdef-0123456789abcdef"

static void parse_name(const char *name)
{
	char key[KEY_SIZE], again[NAME_MAX];
	unsigned attempt;
	uint64_t path;

	if (!token_name_parse(name, key, &attempt, &path))
		return;
	CHECK(strlen(key) == KEY_SIZE - 1 && attempt <= ATTEMPTS_MAX);
	snprintf(again, sizeof(again), "%s.a%u", key, attempt);
	/* but for zeros before the number */
	CHECK(!strncmp(name, again, KEY_SIZE + 1));
	CHECK(strtoul(name + KEY_SIZE + 1, NULL, 10) == attempt);
	snprintf(again, sizeof(again), "%016llx", (unsigned long long)path);
	CHECK(!strncmp(name + 40, again, 16));
}

static void check_same(const struct token *a, const struct token *b)
{
	CHECK(!strcmp(a->key, b->key) && a->attempt == b->attempt && a->priority == b->priority);
	CHECK(!strcmp(a->pipeline, b->pipeline) && a->source == b->source);
	CHECK(!strcmp(a->file, b->file) && !strcmp(a->result, b->result));
	CHECK(!strcmp(a->sha256, b->sha256) && !strcmp(a->identity, b->identity));
	CHECK(a->bytes == b->bytes && a->mtime_ns == b->mtime_ns);
	CHECK(a->ticket ? json_equal(a->ticket, b->ticket) : !b->ticket);
	CHECK(a->archive ? json_equal(a->archive, b->archive) : !b->archive);
	CHECK(a->failures ? json_equal(a->failures, b->failures) : !b->failures);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_lines lines = { (const char *)data, (const char *)data + size };
	static const char name[] = KEY ".a1";
	int folder = fuzz_folder();
	struct token one, two;
	const char *line = "";
	size_t len = 0;
	struct err err;
	char *first;
	enum rc rc;

	setenv("CLOISTER_TEST_FSYNC", "off", 1);
	fuzz_line(&lines, &line, &len);
	first = xmalloc(len + 1);
	memcpy(first, line, len);
	first[len] = '\0';
	parse_name(first);
	free(first);

	len = lines.at < lines.end ? (size_t)(lines.end - lines.at) : 0;
	fuzz_write(folder, name, len ? lines.at : "", len);
	rc = token_read(folder, name, &one, &err);
	if (rc) {
		check_err(rc, &err);
		CHECK(!strcmp(err.reason, "token"));
		return 0;
	}
	CHECK(one.priority < PRIORITIES && *one.file && *one.result);
	CHECK(token_write(folder, &one, &err) == RC_OK);
	CHECK(token_read(folder, name, &two, &err) == RC_OK);
	check_same(&one, &two);
	token_release(&one);
	token_release(&two);
	return 0;
}
