/* SPDX-License-Identifier: MIT
 *
 * Archives, good and hostile, through unpack_main() in a child behind its sandbox.
 */
#include "airlock.h"
#include "base/buf.h"
#include "base/num.h"
#include "decode.h"
#include "sandbox.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- archives ---- */

struct file {
	const char *path;
	const char *data; /* NULL: `zeros` bytes of zeros */
	size_t zeros;
	unsigned type;    /* AE_IFREG when 0 */
	const char *link;
};

struct shape {
	int (*format)(struct archive *);
	int (*filter)(struct archive *);
	const char *options, *password;
};

static void write_entry(struct archive *a, const struct file *f)
{
	static const char zeros[1 << 16];
	struct archive_entry *e = archive_entry_new();
	size_t size = f->data ? strlen(f->data) : f->zeros;

	archive_entry_copy_pathname(e, f->path);
	archive_entry_set_filetype(e, f->type ? f->type : AE_IFREG);
	archive_entry_set_perm(e, 0644);
	if (f->link && f->type == AE_IFLNK)
		archive_entry_copy_symlink(e, f->link);
	else if (f->link)
		archive_entry_copy_hardlink(e, f->link);
	if (!f->link && !f->type)
		archive_entry_set_size(e, (la_int64_t)size);
	assert_true(archive_write_header(a, e) >= ARCHIVE_WARN);
	for (size_t done = 0; !f->link && !f->type && done < size;) {
		size_t n = f->data ? size : min_u64(size - done, sizeof(zeros));

		assert_true(archive_write_data(a, f->data ? f->data : zeros, n) == (la_ssize_t)n);
		done += n;
	}
	archive_entry_free(e);
}

/* A memfd that holds the archive. Caller closes. */
static int make_archive(const struct shape *shape, const struct file *files, size_t n)
{
	struct archive *a = archive_write_new();
	int fd = memfd_create("archive", 0);

	assert_int_equal(shape->format(a), ARCHIVE_OK);
	if (shape->filter)
		assert_int_equal(shape->filter(a), ARCHIVE_OK);
	archive_write_set_bytes_in_last_block(a, 1);
	if (shape->options)
		assert_int_equal(archive_write_set_options(a, shape->options), ARCHIVE_OK);
	if (shape->password)
		assert_int_equal(archive_write_set_passphrase(a, shape->password), ARCHIVE_OK);
	assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
	for (size_t i = 0; i < n; i++)
		write_entry(a, &files[i]);
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
	return fd;
}

static const struct shape tar = { archive_write_set_format_pax_restricted, NULL, NULL, NULL };
static const struct shape tar_gz = { archive_write_set_format_pax_restricted,
				     archive_write_add_filter_gzip, NULL, NULL };
static const struct shape zip = { archive_write_set_format_zip, NULL, NULL, NULL };
static const struct shape stored_zip = { archive_write_set_format_zip, NULL,
					 "zip:compression=store", NULL };
static const struct shape raw_gz = { archive_write_set_format_raw, archive_write_add_filter_gzip,
				     NULL, NULL };

/* ---- one run ---- */

static int exit_code;
static size_t memory_headroom; /* bytes the child may still ask for, 0: as many as it likes */

static void limit_memory(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	struct rlimit limit;

	if (!f || fscanf(f, "%llu", &pages) != 1)
		_exit(99);
	fclose(f);
	limit.rlim_cur = limit.rlim_max = pages * 4096 + memory_headroom;
	if (setrlimit(RLIMIT_AS, &limit))
		_exit(99);
}

static void child(int archive, int out, const char *name, const struct pipeline *p)
{
	const struct sandbox_rules rules = { .write_fd = -1 };
	struct err err;

	int null = open("/dev/null", O_WRONLY); /* a log file would pass RLIMIT_FSIZE */

	signal(SIGPIPE, SIG_IGN);
	dup2(out, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	dup2(archive, DECODE_DOCUMENT_FD);
	sandbox_close_from(DECODE_DOCUMENT_FD + 1, NULL, 0);
	setlocale(LC_CTYPE, "C.UTF-8");
	if (memory_headroom)
		limit_memory();
	if (sandbox_enter(SANDBOX_UNPACK, &rules, false, NULL, &err))
		_exit(98);
	_exit(unpack_main(name, p));
}

static void read_all(int fd, struct buf *all)
{
	char block[65536];
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) > 0)
		buf_add(all, block, (size_t)n);
	assert_int_equal(n, 0);
}

/* A frame as a word or two: "M path", "E size", "S path reason", "X members" or "X reason". */
static void describe(struct buf *out, char type, const char *payload, size_t len, size_t data)
{
	json_t *obj = json_loadb(payload, len, 0, NULL);
	json_t *error = json_object_get(obj, "error");

	assert_non_null(obj);
	switch (type) {
	case 'M':
		buf_addf(out, "M %s, ", json_string_value(json_object_get(obj, "path")));
		break;
	case 'E':
		assert_int_equal(json_integer_value(json_object_get(obj, "size")), data);
		buf_addf(out, "E %zu, ", data);
		break;
	case 'S':
		buf_addf(out, "S %s %s, ", json_string_value(json_object_get(obj, "path")),
			 json_string_value(json_object_get(obj, "reason")));
		break;
	case 'X':
		if (error)
			buf_addf(out, "X %s", json_string_value(json_object_get(error, "reason")));
		else
			buf_addf(out, "X %d",
				 (int)json_integer_value(json_object_get(obj, "members")));
		break;
	default:
		fail_msg("frame of type 0x%02x", (unsigned char)type);
	}
	json_decref(obj);
}

/* What came out, in words; `data` gets the members' bytes one after the other if not NULL. */
static char *unpack(int archive, const char *name, const struct pipeline *p, struct buf *data)
{
	struct buf all, words;
	size_t member = 0;
	int fds[2], status;
	char last = 0;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	assert_true(lseek(archive, 0, SEEK_SET) == 0);
	pid = fork();
	if (!pid)
		child(archive, fds[1], name, p);
	close(fds[1]);
	buf_init(&all, 1u << 30);
	buf_init(&words, 1 << 20);
	read_all(fds[0], &all);
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status))
		fail_msg("unpack died of signal %d", WTERMSIG(status));
	exit_code = WEXITSTATUS(status);
	for (size_t i = 0; i < all.len;) {
		const unsigned char *head = (const unsigned char *)all.data + i;
		size_t len;

		assert_true(all.len - i >= 5);
		len = head[1] | head[2] << 8 | head[3] << 16 | (size_t)head[4] << 24;
		assert_true(len <= UNPACK_DATA_MAX && all.len - i - 5 >= len);
		last = (char)head[0];
		if (last == 'M')
			member = 0;
		if (last == 'D') {
			member += len;
			if (data)
				buf_add(data, head + 5, len);
		} else {
			describe(&words, last, (const char *)head + 5, len, member);
		}
		i += 5 + len;
	}
	assert_int_equal(last, 'X'); /* always there, always last */
	buf_release(&all);
	return buf_detach(&words);
}

static void check(const struct shape *shape, const struct file *files, size_t n,
		  const struct pipeline *p, const char *want)
{
	int fd = make_archive(shape, files, n);
	char *got = unpack(fd, "scan.bin", p, NULL);

	assert_string_equal(got, want);
	assert_int_equal(exit_code, 0);
	free(got);
	close(fd);
}

#define CHECK(shape, files, p, want) check(shape, files, ARRAY_SIZE(files), p, want)

/* ---- tests ---- */

static int set_up(void **state)
{
	struct pipeline *p = malloc(sizeof(*p));

	pipeline_defaults(p, "p");
	*state = p;
	memory_headroom = 0;
	return 0;
}

static int tear_down(void **state)
{
	pipeline_release(*state);
	free(*state);
	return 0;
}

static void test_formats(void **state)
{
	static const struct file files[] = {
		{ .path = "a.pdf", .data = "hello" },
		{ .path = "sub/b \xc3\xbc.pdf", .data = "" },
	};
	static const struct shape shapes[] = {
		{ archive_write_set_format_pax_restricted, NULL, NULL, NULL },
		{ archive_write_set_format_ustar, archive_write_add_filter_gzip, NULL, NULL },
		{ archive_write_set_format_gnutar, archive_write_add_filter_bzip2, NULL, NULL },
		{ archive_write_set_format_pax, archive_write_add_filter_xz, NULL, NULL },
		{ archive_write_set_format_pax, archive_write_add_filter_zstd, NULL, NULL },
		{ archive_write_set_format_zip, NULL, NULL, NULL },
		{ archive_write_set_format_7zip, NULL, NULL, NULL },
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct buf data;
		int fd = make_archive(&shapes[i], files, ARRAY_SIZE(files));
		char *got;

		buf_init(&data, 1000);
		got = unpack(fd, "x", *state, &data);
		/* 7-Zip's writer puts empty files last, as they are here. */
		assert_string_equal(got, "M a.pdf, E 5, M sub/b%20\xc3\xbc.pdf, E 0, X 2");
		assert_string_equal(data.data, "hello");
		buf_release(&data);
		free(got);
		close(fd);
	}
}

static void test_hostile_names(void **state)
{
	static const struct file files[] = {
		{ .path = "../../evil", .data = "1" },	 { .path = "/etc/passwd", .data = "2" },
		{ .path = "a\nb\x1b[2J.pdf", .data = "3" }, { .path = "caf\xe9.pdf", .data = "4" },
		{ .path = "100%/\xe2\x80\xae" "fdp.exe", .data = "5" },
	};

	CHECK(&tar, files, *state,
	      "M ../../evil, E 1, M /etc/passwd, E 1, M a%0Ab%1B%5B2J.pdf, E 1, M caf%E9.pdf, E 1, "
	      "M 100%25/%E2%80%AEfdp.exe, E 1, X 5");
	/* Here the fourth is marked as UTF-8, which it is not: libarchive has no name for it. */
	CHECK(&zip, files, *state,
	      "M ../../evil, E 1, M /etc/passwd, E 1, M a%0Ab%1B%5B2J.pdf, E 1, M , E 1, "
	      "M 100%25/%E2%80%AEfdp.exe, E 1, X 5");
}

static void test_not_files(void **state)
{
	static const struct file files[] = {
		{ .path = "dir/", .type = AE_IFDIR },
		{ .path = "real", .data = "abc" },
		{ .path = "soft", .type = AE_IFLNK, .link = "/etc/passwd" },
		{ .path = "hard", .link = "real" },
		{ .path = "fifo", .type = AE_IFIFO },
		{ .path = "tty", .type = AE_IFCHR },
		{ .path = "disk", .type = AE_IFBLK },
		{ .path = "last", .data = "z" },
	};

	CHECK(&tar, files, *state,
	      "M real, E 3, S soft not-a-regular-file, S hard not-a-regular-file, "
	      "S fifo not-a-regular-file, S tty not-a-regular-file, S disk not-a-regular-file, "
	      "M last, E 1, X 7");
}

static void test_ignored_names(void **state)
{
	static const struct file files[] = {
		{ .path = "__MACOSX/._a.pdf", .data = "x" },
		{ .path = "d/__MACOSX/._a.pdf", .data = "x" },
		{ .path = ".DS_Store", .data = "x" },
		{ .path = "d/thumbs.DB", .data = "x" },
		{ .path = "desktop.ini", .data = "x" },
		{ .path = "my__MACOSX/a.pdf", .data = "x" },
	};

	CHECK(&zip, files, *state,
	      "S __MACOSX/._a.pdf ignored-name, S d/__MACOSX/._a.pdf ignored-name, "
	      "S .DS_Store ignored-name, S d/thumbs.DB ignored-name, S desktop.ini ignored-name, "
	      "M my__MACOSX/a.pdf, E 1, X 6");
}

static void test_plain_compressed_file(void **state)
{
	static const struct file files[] = { { .path = "x", .data = "%PDF-1.4 hello" } };
	static const char *const names[][2] = {
		{ "report.pdf.gz", "M report.pdf, E 14, X 1" },
		{ "/in/a b.PDF.GZ", "M a%20b.PDF, E 14, X 1" },
		{ "report", "M report, E 14, X 1" },
		{ ".gz", "M .gz, E 14, X 1" },
	};
	int fd = make_archive(&raw_gz, files, 1);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *got = unpack(fd, names[i][0], *state, NULL);

		assert_string_equal(got, names[i][1]);
		free(got);
	}
	close(fd);
}

/* "raw" takes anything; what no filter has touched is not ours. */
static void test_not_an_archive(void **state)
{
	int fd = memfd_create("x", 0);
	char *got;

	assert_int_equal(write(fd, "just some text, not an archive at all", 37), 37);
	got = unpack(fd, "x", *state, NULL);
	assert_string_equal(got, "X damaged");
	free(got);
	close(fd);
}

static void test_empty_archive(void **state)
{
	static const struct file files[] = { { .path = "dir/", .type = AE_IFDIR } };

	CHECK(&tar, files, *state, "X empty");
	CHECK(&zip, files, *state, "X empty");
}

static void test_limit_members(void **state)
{
	static const struct file files[] = {
		{ .path = "a", .data = "1" }, { .path = "b/", .type = AE_IFDIR },
		{ .path = "c", .data = "3" }, { .path = "d", .data = "4" },
	};
	struct pipeline *p = *state;

	p->limits.archive_members = 4;
	CHECK(&tar, files, p, "M a, E 1, M c, E 1, M d, E 1, X 3");
	p->limits.archive_members = 3; /* folders count: there may be millions of them */
	CHECK(&tar, files, p, "M a, E 1, M c, E 1, X limit:archive-members");
}

static void test_limit_mebibytes(void **state)
{
	static const struct file files[] = {
		{ .path = "a", .zeros = 1 << 19 }, { .path = "b", .zeros = 1 << 19 },
		{ .path = "c", .data = "x" },
	};
	struct pipeline *p = *state;

	p->limits.archive_mebibytes = 1;
	CHECK(&tar, files, p, "M a, E 524288, M b, E 524288, X limit:archive-mebibytes");
	p->limits.archive_mebibytes = 2;
	CHECK(&tar, files, p, "M a, E 524288, M b, E 524288, M c, E 1, X 3");
}

static void test_limit_ratio(void **state)
{
	static const struct file small[] = { { .path = "a", .zeros = 9 << 20 } };
	static const struct file large[] = { { .path = "a", .zeros = 40 << 20 } };
	static const struct file hidden[] = { { .path = "Thumbs.db", .zeros = 40 << 20 },
					      { .path = "b", .data = "x" } };
	struct pipeline *p = *state;

	CHECK(&tar_gz, small, p, "M a, E 9437184, X 1"); /* 10 MiB are free */
	CHECK(&tar_gz, large, p, "M a, X limit:archive-ratio");
	CHECK(&zip, large, p, "M a, X limit:archive-ratio");
	CHECK(&tar_gz, hidden, p, "S Thumbs.db ignored-name, X limit:archive-ratio");
	p->limits.archive_ratio = 2000;
	CHECK(&tar_gz, large, p, "M a, E 41943040, X 1");
}

/* The decompressor's own memory: xz -9 asks for 64 MiB. */
static void test_limit_memory(void **state)
{
	static const struct shape xz9 = { archive_write_set_format_ustar,
					  archive_write_add_filter_xz, "xz:compression-level=9", NULL };
	static const struct file files[] = { { .path = "a", .zeros = 100 } };

#ifdef __SANITIZE_ADDRESS__
	(void)xz9, (void)files, (void)state; /* oom.c's allocator is not in such a build */
#else
	memory_headroom = 16 << 20;
	CHECK(&xz9, files, *state, "X limit:memory-mebibytes");
	memory_headroom = 128 << 20;
	CHECK(&xz9, files, *state, "M a, E 100, X 1");
#endif
}

static void test_encrypted(void **state)
{
	static const struct file files[] = { { .path = "a.pdf", .data = "hello" },
					     { .path = "b.pdf", .data = "hello hello hello" } };
	static const char *const options[] = { "zip:encryption=traditional", "zip:encryption=aes256" };
	static char *const passwords[] = { (char *)"", (char *)"wrong", (char *)"s3cret" };
	struct pipeline *p = *state;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		struct shape shape = { archive_write_set_format_zip, NULL, options[i], "s3cret" };

		CHECK(&shape, files, p, "S a.pdf encrypted, S b.pdf encrypted, X encrypted");
		p->passwords = (char **)passwords;
		p->n_passwords = 3;
		CHECK(&shape, files, p, "M a.pdf, E 5, M b.pdf, E 17, X 2");
		p->passwords = NULL;
		p->n_passwords = 0;
	}
}

/* 7-Zip with an encrypted list of members. */
static void test_encrypted_7zip(void **state)
{
	static const unsigned char bytes[] = {
		0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c, 0x00, 0x04, 0x1e, 0x70, 0xa4, 0x32, 0x80, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x2e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0xf5, 0xf6, 0xdf, 0xa1, 0x5f, 0x64, 0xc6, 0xbd, 0x76, 0x74, 0x18, 0x71, 0xfc, 0x66,
		0xcd, 0x53, 0x10, 0x08, 0x6b, 0xe2, 0xbf, 0x63, 0x70, 0x3f, 0x19, 0xc2, 0x69, 0x8c,
		0x38, 0xfd, 0xd0, 0x95, 0xe3, 0x6f, 0xc4, 0x95, 0xec, 0xa3, 0x6d, 0x29, 0xd7, 0x66,
		0xea, 0x61, 0x55, 0x7c, 0x5f, 0x84, 0xee, 0xf3, 0x5c, 0xa0, 0x0b, 0x2f, 0xf8, 0x17,
		0xff, 0x54, 0xb1, 0x1a, 0x08, 0x82, 0x8f, 0x8d, 0x35, 0x6c, 0x77, 0x90, 0x2d, 0x39,
		0x01, 0x88, 0x93, 0x56, 0x36, 0x47, 0x58, 0xf1, 0xa5, 0x7c, 0xb1, 0x15, 0xa1, 0xc8,
		0x12, 0x03, 0x78, 0x26, 0x68, 0x03, 0xb5, 0x80, 0xc0, 0x3b, 0x5c, 0x19, 0x51, 0x52,
		0x99, 0x40, 0x38, 0xe3, 0x1d, 0x4d, 0xe0, 0xfc, 0x51, 0x7a, 0x64, 0xfa, 0x55, 0x57,
		0xf3, 0xee, 0x56, 0x54, 0x83, 0x2f, 0x91, 0x2b, 0x53, 0x31, 0xc8, 0x07, 0xaa, 0x0a,
		0x32, 0x15, 0xdd, 0xed, 0x96, 0xd3, 0x17, 0x06, 0x10, 0x01, 0x09, 0x70, 0x00, 0x07,
		0x0b, 0x01, 0x00, 0x01, 0x24, 0x06, 0xf1, 0x07, 0x01, 0x12, 0x53, 0x0f, 0xce, 0x19,
		0x1a, 0x0c, 0x3b, 0xfd, 0x09, 0x80, 0x38, 0xfa, 0x88, 0x17, 0x04, 0xd9, 0x64, 0x95,
		0x0c, 0x62, 0x0a, 0x01, 0x42, 0x16, 0x1b, 0xc5, 0x00, 0x00,
	};
	int fd = memfd_create("x", 0);
	char *got;

	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	got = unpack(fd, "x", *state, NULL);
	assert_string_equal(got, "X encrypted");
	free(got);
	close(fd);
}

static void flip(int fd, off_t at)
{
	unsigned char c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0xff;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

static void test_damaged(void **state)
{
	static const struct file files[] = { { .path = "a", .data = "AAAAAAAAAAAAAAAA" },
					     { .path = "b", .data = "BBBBBBBBBBBBBBBB" },
					     { .path = "big", .zeros = 300000 },
					     { .path = "c", .data = "CCCCCCCCCCCCCCCC" } };
	int fd = make_archive(&stored_zip, files, ARRAY_SIZE(files));
	off_t size = lseek(fd, 0, SEEK_END);
	char *bytes = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	off_t b, c;
	char *got;

	assert_true(bytes != MAP_FAILED);
	b = (char *)memmem(bytes, (size_t)size, "BBBB", 4) - bytes;
	c = (char *)memmem(bytes, (size_t)size, "CCCC", 4) - bytes;
	munmap(bytes, (size_t)size);
	/* Wrong checksums: what was announced is taken back, and the next is read. */
	flip(fd, b);
	flip(fd, c - 1000);
	got = unpack(fd, "x", *state, NULL);
	assert_string_equal(got, "M a, E 16, S b damaged, M big, S big damaged, M c, E 16, X 4");
	free(got);
	flip(fd, b);
	assert_int_equal(ftruncate(fd, c - 1000), 0); /* and no list of members at the end */
	got = unpack(fd, "x", *state, NULL);
	assert_string_equal(got, "M a, E 16, M b, E 16, M big, S big damaged, X damaged");
	free(got);
	close(fd);
}

static void test_closed_reader(void **state)
{
	static const struct file files[] = { { .path = "a", .zeros = 1 << 20 } };
	int fd = make_archive(&tar, files, 1), fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	pid = fork();
	if (!pid)
		child(fd, fds[1], "x", *state);
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EX_WORK_REMAINS);
	close(fd);
}

/* Whatever the bytes are: frames that parse, an X at the end, exit 0, no breach of the sandbox. */
static void test_mutations(void **state)
{
	static const struct file files[] = { { .path = "a", .data = "AAAAAAAAAAAAAAAA" },
					     { .path = "d/\xe9", .data = "BBBB" },
					     { .path = "s", .type = AE_IFLNK, .link = "a" },
					     { .path = "c", .zeros = 5000 } };
	static const struct shape shapes[] = {
		{ archive_write_set_format_zip, NULL, NULL, NULL },
		{ archive_write_set_format_7zip, NULL, NULL, NULL },
		{ archive_write_set_format_pax_restricted, archive_write_add_filter_zstd, NULL, NULL },
		{ archive_write_set_format_gnutar, NULL, NULL, NULL },
	};
	unsigned seed = 1;

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		int fd = make_archive(&shapes[i], files, ARRAY_SIZE(files));
		off_t size = lseek(fd, 0, SEEK_END);

		for (int round = 0; round < 60; round++) {
			off_t at[3];

			for (size_t k = 0; k < 3; k++) {
				seed = seed * 1103515245 + 12345;
				at[k] = (off_t)((seed >> 4) % (unsigned)size);
				flip(fd, at[k]);
			}
			free(unpack(fd, "x", *state, NULL));
			assert_int_equal(exit_code, 0);
			for (size_t k = 0; k < 3; k++)
				flip(fd, at[k]);
		}
		close(fd);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		TEST(test_formats),
		TEST(test_hostile_names),
		TEST(test_not_files),
		TEST(test_ignored_names),
		TEST(test_plain_compressed_file),
		TEST(test_not_an_archive),
		TEST(test_empty_archive),
		TEST(test_limit_members),
		TEST(test_limit_mebibytes),
		TEST(test_limit_ratio),
		TEST(test_limit_memory),
		TEST(test_encrypted),
		TEST(test_encrypted_7zip),
		TEST(test_damaged),
		TEST(test_closed_reader),
		TEST(test_mutations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
