/* SPDX-License-Identifier: MIT
 *
 * Archives through `cloister-decode --unpack`: the frames are well formed, members begin and end
 * in turn, what is announced is what came, the limits hold, and X is the last one.
 */
#include "fuzz.h"

#include "airlock.h"
#include "decode.h"

#include <locale.h>

#define MEMBERS_MAX 20

struct seen {
	bool inside, ended;
	uint64_t bytes, total, ordinal;
};

static void check_frame(struct seen *s, char type, const uint8_t *payload, size_t len)
{
	json_t *json = NULL;
	struct err err;

	CHECK(!s->ended);
	if (type != 'D') {
		json = airlock_parse((const char *)payload, len, &err);
		CHECK(json);
		check_strings(json);
	}
	switch (type) {
	case 'M':
		CHECK(!s->inside && json_is_string(json_object_get(json, "path")));
		CHECK((uint64_t)json_integer_value(json_object_get(json, "ordinal")) == ++s->ordinal);
		s->inside = true;
		s->bytes = 0;
		break;
	case 'D':
		CHECK(s->inside && len);
		s->bytes += len;
		s->total += len;
		break;
	case 'E':
		CHECK(s->inside);
		CHECK((uint64_t)json_integer_value(json_object_get(json, "size")) == s->bytes);
		s->inside = false;
		break;
	case 'S':
		s->ordinal += !s->inside;
		CHECK((uint64_t)json_integer_value(json_object_get(json, "ordinal")) == s->ordinal);
		CHECK(json_is_string(json_object_get(json, "reason")));
		s->inside = false;
		break;
	case 'X':
		s->ended = true;
		break;
	default:
		CHECK(!"a type of frame");
	}
	json_decref(json);
}

static void check_frames(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *all = xmalloc((size_t)size + 1);
	struct seen seen = { 0 };

	CHECK(pread(fd, all, (size_t)size, 0) == size);
	for (size_t at = 0, len; at < (size_t)size; at += 5 + len) {
		CHECK((size_t)size - at >= 5);
		len = all[at + 1] | (size_t)all[at + 2] << 8 | (size_t)all[at + 3] << 16 |
		      (size_t)all[at + 4] << 24;
		CHECK(len <= UNPACK_DATA_MAX && len <= (size_t)size - at - 5);
		check_frame(&seen, (char)all[at], all + at + 5, len);
	}
	CHECK(seen.ended && seen.ordinal <= MEMBERS_MAX && seen.total <= 2 << 20);
	free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int out = -1;
	struct pipeline p;
	int fd, keep, document;

	if (out < 0) {
		setlocale(LC_CTYPE, "C.UTF-8");
		while ((fd = open("/dev/null", O_RDWR)) <= DECODE_DOCUMENT_FD)
			CHECK(fd >= 0); /* the document's number stays ours */
		out = memfd_create("frames", MFD_CLOEXEC);
	}
	pipeline_defaults(&p, "fuzz");
	p.limits.archive_members = MEMBERS_MAX;
	p.limits.archive_mebibytes = 1;
	document = fuzz_file(data, size);
	CHECK(dup2(document, DECODE_DOCUMENT_FD) == DECODE_DOCUMENT_FD && !ftruncate(out, 0));
	lseek(out, 0, SEEK_SET);
	keep = dup(STDOUT_FILENO);
	dup2(out, STDOUT_FILENO);
	CHECK(unpack_main("fuzz.gz", &p) == EX_ALL_DONE);
	dup2(keep, STDOUT_FILENO);
	check_frames(out);
	close(keep);
	close(document);
	pipeline_release(&p);
	return 0;
}
