/* SPDX-License-Identifier: MIT
 *
 * fuzz: what the harnesses share.  A harness is LLVMFuzzerTestOneInput() for one parser, with the
 * checks that must hold of whatever it lets through.  libFuzzer drives it in `make fuzz`; linked
 * with replay.c it runs over the files of tests/fuzz/corpus/NAME, so that what was once found
 * stays mended.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "base/err.h"
#include "base/name.h"
#include "base/num.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(holds)                                                                               \
	do {                                                                                       \
		if (!(holds)) {                                                                    \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds); \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* A file of these bytes that only its owner may write. The caller closes it. */
static inline int fuzz_file(const void *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	CHECK(fd >= 0 && !fchmod(fd, 0600));
	CHECK(pwrite(fd, data, size, 0) == (ssize_t)size);
	return fd;
}

static char fuzz_path[64];

static inline void fuzz_remove_folder(void)
{
	int folder = open(fuzz_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = folder < 0 ? NULL : fdopendir(folder);

	for (struct dirent *e; dir && (e = readdir(dir));)
		unlinkat(folder, e->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(fuzz_path);
}

/* A folder of this process, at fuzz_path; always the same one, gone when the process ends well. */
static inline int fuzz_folder(void)
{
	static int folder = -1;

	if (folder >= 0)
		return folder;
	snprintf(fuzz_path, sizeof(fuzz_path), "%s/cloister-fuzz-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	CHECK(mkdtemp(fuzz_path) && !atexit(fuzz_remove_folder));
	folder = open(fuzz_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return folder;
}

static inline void fuzz_write(int folder, const char *name, const void *data, size_t size)
{
	int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

/* Fit for why.json, for a log line and for scripts. */
static inline void check_err(enum rc rc, const struct err *err)
{
	const char *known = "abcdefghijklmnopqrstuvwxyz0123456789:-";

	CHECK(rc == RC_FAILED || rc == RC_FATAL);
	CHECK(memchr(err->reason, 0, ERR_REASON_MAX) && memchr(err->text, 0, ERR_TEXT_MAX));
	CHECK(*err->reason && strspn(err->reason, known) == strlen(err->reason));
	CHECK(*err->text && !strpbrk(err->text, "\n\r\033"));
}

/* Every string of it is UTF-8 without control characters but tab and newline. */
static inline void check_strings(json_t *value)
{
	const char *key, *s;
	json_t *item;
	size_t i;

	json_object_foreach(value, key, item)
		check_strings(item);
	json_array_foreach(value, i, item)
		check_strings(item);
	if (!(s = json_string_value(value)))
		return;
	CHECK(utf8_valid(s, json_string_length(value)));
	CHECK(strlen(s) == json_string_length(value));
	for (; *s; s++)
		CHECK((unsigned char)*s >= 0x20 || *s == '\t' || *s == '\n');
}

/* The next line of data, without its newline; false at the end. */
struct fuzz_lines {
	const char *at, *end;
};

static inline bool fuzz_line(struct fuzz_lines *all, const char **line, size_t *len)
{
	const char *stop;

	if (all->at >= all->end)
		return false;
	stop = memchr(all->at, '\n', (size_t)(all->end - all->at));
	stop = stop ? stop : all->end;
	*line = all->at;
	*len = (size_t)(stop - all->at);
	all->at = stop + 1;
	return true;
}

#endif
