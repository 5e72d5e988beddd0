/* SPDX-License-Identifier: MIT
 *
 * What an unpacker that was taken over may send to the supervisor: files come into the folder of
 * members and nowhere else, each is in the list with its size, and the limits hold.
 */
#include "fuzz.h"

#include "unpacker.c"

#define INPUT_MAX   60000 /* of a pipe */
#define MEMBERS_MAX 20

void document_fail(struct document *d, const struct err *why)
{
	check_err(RC_FAILED, why);
	d->closed = true;
}

void document_try_again(struct document *d, const struct err *why)
{
	document_fail(d, why);
}

void document_wait(struct document *d, const char *what)
{
	(void)what;
	d->closed = true;
}

bool document_changed(struct document *d)
{
	(void)d;
	return false;
}

void decoder_stop(struct document *d)
{
	(void)d;
}

enum rc publish_result(struct run *run, int attempt, const struct token *t, char **final,
		       struct err *err)
{
	(void)run, (void)attempt, (void)t, (void)final;
	return err_set(err, RC_RETRY, "fuzz", "nothing is published here");
}

static void check_listed(struct document *d)
{
	struct unpacking *u = d->unpacking;
	const char *key;
	json_t *file;

	CHECK(u->total <= d->pipeline.limits.archive_mebibytes << 20);
	CHECK(json_object_size(u->files) <= MEMBERS_MAX);
	check_strings(u->files);
	json_object_foreach(u->files, key, file) {
		const char *result = json_string_value(json_object_get(file, "result"));
		struct stat st;

		CHECK(strlen(key) >= 4 && strspn(key, "0123456789") == strlen(key));
		CHECK(!strncmp(result, "in/a.zip/", 9) && !strchr(result + 9, '/'));
		CHECK(fstatat(u->members, key, &st, AT_SYMLINK_NOFOLLOW) || /* taken back since */
		      st.st_size == json_integer_value(json_object_get(file, "bytes")));
	}
	CHECK(!u->error.reason[0] || u->ended);
	if (u->error.reason[0])
		check_err(RC_FAILED, &u->error);
}

static struct unpacking *unpacking_new(int members)
{
	struct unpacking *u = xcalloc(1, sizeof(*u));

	buf_init(&u->in, FRAME_MAX + CHUNK);
	u->file = -1;
	u->members = members;
	u->files = json_object();
	u->skipped = json_array();
	return u;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct document *d = xcalloc(1, sizeof(*d));
	int folder = fuzz_folder(), ends[2];

	if (size <= INPUT_MAX) {
		setenv("CLOISTER_TEST_FSYNC", "off", 1);
		log_init("fuzz", LOG_ERROR); /* members passed over are many */
		CHECK(!pipe2(ends, O_CLOEXEC | O_NONBLOCK));
		CHECK(write(ends[1], data, size) == (ssize_t)size);
		pipeline_defaults(&d->pipeline, "fuzz");
		d->pipeline.limits.archive_members = MEMBERS_MAX;
		d->pipeline.limits.archive_mebibytes = 1;
		d->token.result = xstrdup("in/a.zip");
		d->phase = DOC_UNPACKING;
		d->decoder.out = ends[0];
		d->unpacking = unpacking_new(dup(folder));
		on_frames(d);
		check_listed(d);
		unpacking_release(d);
		pipeline_release(&d->pipeline);
		free(d->token.result);
		close(ends[0]);
		close(ends[1]);
		for (unsigned n = 1; n <= MEMBERS_MAX; n++) {
			char name[24];

			snprintf(name, sizeof(name), "%04u", n);
			unlinkat(folder, name, 0);
		}
	}
	free(d);
	return 0;
}
