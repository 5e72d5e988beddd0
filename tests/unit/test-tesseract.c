/* SPDX-License-Identifier: MIT
 *
 * cloister-tesseract: page files are not trusted, turned pages are found, boxes lie on the page as
 * it came, and what is read does not depend on what was read before.
 */
#include "tess.h"

#include <errno.h>
#include <fcntl.h>
#include <leptonica/allheaders.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DPI 300 /* of leptonica's letters */

static const char prose[] =
	"The brown fox went to the market early in the morning and bought a basket of apples. "
	"Nobody had told him that the road was closed, so he walked along the river instead. "
	"When he came home in the evening the lamps were lit and dinner stood on the table.";
static const char letter[] =
	"Dear reader, this page was printed to be read by a machine. It holds nothing of value. "
	"Please keep it in a dry place, and do not fold the corners. With kind regards, the printer.";

/* Text in leptonica's own letters, black on white, as a page. */
static struct picture printed(const char *text, uint32_t channels)
{
	L_BMF *font = bmfCreate(NULL, 10);
	PIX *page = pixCreate(1500, 900, 8);
	struct picture image = { .channels = channels };
	l_int32 overflow = 0;

	pixSetAll(page);
	assert_int_equal(pixSetTextblock(page, font, text, 0, 120, 160, 1250, 0, &overflow), 0);
	assert_int_equal(overflow, 0);
	image.width = (uint32_t)pixGetWidth(page);
	image.height = (uint32_t)pixGetHeight(page);
	image.pixels = xmalloc((size_t)image.width * image.height * channels);
	for (uint32_t y = 0; y < image.height; y++) {
		for (uint32_t x = 0; x < image.width; x++) {
			l_uint32 value;

			pixGetPixel(page, (l_int32)x, (l_int32)y, &value);
			memset(image.pixels + ((size_t)y * image.width + x) * channels, (int)value,
			       channels);
		}
	}
	pixDestroy(&page);
	bmfDestroy(&font);
	return image;
}

static int open_reader(void **state)
{
	struct reader *reader = xcalloc(1, sizeof(*reader));
	struct err err = { .text = "" };
	const char *folder = tessdata_folder(&err);

	if (!folder || reader_open(reader, folder, "eng", &err) != RC_OK) {
		print_error("%s\n", err.text);
		return -1;
	}
	*state = reader;
	return 0;
}

static int close_reader(void **state)
{
	reader_close(*state);
	free(*state);
	return 0;
}

static struct reading read_image(struct reader *reader, const struct picture *image, bool rotate)
{
	const struct read_options options = { PSM_AUTO, DPI, rotate };
	struct reading reading;
	struct err err;

	assert_int_equal(reader_read(reader, image, &options, &reading, &err), RC_OK);
	return reading;
}

static void test_reads_text(void **state)
{
	for (uint32_t channels = 1; channels <= 3; channels += 2) {
		struct picture page = printed(prose, channels);
		struct reading r = read_image(*state, &page, true);
		json_t *result = reading_result(&r);

		assert_non_null(strstr(r.text.data, "market early in the morning"));
		assert_non_null(strstr(r.text.data, "dinner stood on the table."));
		assert_int_equal(r.rotation, 0);
		assert_int_equal(r.words, 50);
		assert_true(r.confidence > 0.85 && r.worst <= r.confidence);
		assert_true(json_array_size(json_object_get(result, "lines")) >= 3);
		assert_true(json_real_value(json_object_get(result, "confidence")) > 0.85);
		json_decref(result);
		reading_release(&r);
		picture_release(&page);
	}
}

/* The first word's box, looked up by its text. */
static void find_word(const struct reading *r, const char *text, int box[4])
{
	json_t *line, *word;
	size_t i, k;

	json_array_foreach(r->lines, i, line) {
		json_array_foreach(json_object_get(line, "words"), k, word) {
			if (strcmp(json_string_value(json_object_get(word, "text")), text))
				continue;
			assert_int_equal(json_unpack(json_object_get(word, "box"), "[iiii]", &box[0],
						     &box[1], &box[2], &box[3]),
					 0);
			return;
		}
	}
	fail_msg("\"%s\" was not read", text);
}

/* All four ways up give the same text, and boxes that frame the same ink. */
static void test_turned_pages(void **state)
{
	struct picture upright = printed(prose, 1);
	struct reading expected = read_image(*state, &upright, true);
	struct err err;
	int box[4];

	find_word(&expected, "market", box);
	for (unsigned degrees = 90; degrees < 360; degrees += 90) {
		struct picture turned, back;
		struct reading r;
		int found[4], same[4];

		assert_int_equal(image_turn(&upright, degrees, &turned, &err), RC_OK);
		r = read_image(*state, &turned, true);
		assert_int_equal(r.rotation, 360 - degrees);
		assert_string_equal(r.text.data, expected.text.data);
		find_word(&r, "market", found);
		/* Turning the page by the rotation found turns its boxes onto those of upright. */
		memcpy(same, box, sizeof(same));
		box_unturn(same, r.rotation, turned.width, turned.height);
		assert_memory_equal(found, same, sizeof(same));
		assert_int_equal(image_turn(&turned, r.rotation, &back, &err), RC_OK);
		assert_memory_equal(back.pixels, upright.pixels,
				    (size_t)upright.width * upright.height);
		reading_release(&r);
		picture_release(&turned);
		picture_release(&back);
	}
	reading_release(&expected);
	picture_release(&upright);
}

static char *repeated(const char *text, unsigned times)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	while (times--)
		buf_addf(&out, "%s ", text);
	return out.data;
}

/* Pages with enough letters are known before they are read, black on white and white on black. */
static void test_look_finds_the_way_up(void **state)
{
	char *dense = repeated(prose, 3);
	struct picture upright = printed(dense, 1);
	struct err err;

	(void)state;
	for (unsigned inverted = 0; inverted < 2; inverted++) {
		assert_int_equal(look_for_turn(&upright, DPI), 0);
		assert_int_equal(look_for_turn(&upright, 0), 0);
		for (unsigned degrees = 90; degrees < 360; degrees += 90) {
			struct picture turned;

			assert_int_equal(image_turn(&upright, degrees, &turned, &err), RC_OK);
			assert_int_equal(look_for_turn(&turned, DPI), 360 - degrees);
			picture_release(&turned);
		}
		for (size_t i = 0; i < (size_t)upright.width * upright.height; i++)
			upright.pixels[i] = 255 - upright.pixels[i];
	}
	picture_release(&upright);
	free(dense);
}

static void test_look_is_not_sure(void **state)
{
	static const char *const texts[] = { ".", "Exit", "1 2 3 4 5 6 7 8 9 0" };
	static const uint32_t sizes[][2] = { { 1, 1 }, { 1, 5000 }, { 30000, 2 } };
	static uint8_t pixels[60000];
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct picture page = printed(texts[i], 3), turned;

		assert_int_equal(image_turn(&page, 180, &turned, &err), RC_OK);
		assert_int_equal(look_for_turn(&page, DPI), 0);
		assert_int_equal(look_for_turn(&turned, DPI), 0);
		picture_release(&page);
		picture_release(&turned);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		const struct picture page = { sizes[i][0], sizes[i][1], 1, pixels };

		assert_int_equal(look_for_turn(&page, 0), 0);
		assert_int_equal(look_for_turn(&page, 2400), 0);
	}
}

/* Where the letters' shapes mislead, the page is still read as it lies. */
static void test_wrong_look_turns_no_page(void **state)
{
	char *hanging = repeated("gypsy agony copper gauge happy papaya prong eagerness granary "
				 "pygmy sappy orange groggy poppy apron quay", 7);
	struct picture page = printed(hanging, 1);
	struct reading r;

	assert_int_equal(look_for_turn(&page, DPI), 180);
	r = read_image(*state, &page, true);
	assert_int_equal(r.rotation, 0);
	reading_release(&r);
	picture_release(&page);
	free(hanging);
}

static void test_rotation_only_on_request(void **state)
{
	struct picture upright = printed(prose, 1), turned;
	struct reading r;
	struct err err;

	assert_int_equal(image_turn(&upright, 180, &turned, &err), RC_OK);
	r = read_image(*state, &turned, false);
	assert_int_equal(r.rotation, 0);
	assert_null(strstr(r.text.data, "market"));
	reading_release(&r);
	picture_release(&turned);
	picture_release(&upright);
}

static void test_empty_page(void **state)
{
	struct picture page = { 800, 600, 1, xmalloc(800 * 600) };
	struct reading r;
	json_t *result;

	memset(page.pixels, 255, 800 * 600);
	r = read_image(*state, &page, true);
	result = reading_result(&r);
	assert_string_equal(json_string_value(json_object_get(result, "text")), "");
	assert_string_equal(json_string_value(json_object_get(result, "status")), "ok");
	assert_int_equal(json_array_size(json_object_get(result, "lines")), 0);
	assert_null(json_object_get(result, "confidence"));
	json_decref(result);
	reading_release(&r);
	picture_release(&page);
}

/* A, B, A turned, A: whatever came before, A reads as A. */
static void test_order_does_not_matter(void **state)
{
	struct picture a = printed(prose, 1), b = printed(letter, 3), turned;
	const struct picture *const order[] = { &a, &b, &turned, &a, &b, &b, &a };
	json_t *expected[3] = { NULL };
	struct err err;

	assert_int_equal(image_turn(&a, 180, &turned, &err), RC_OK);
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++) {
		struct reading r = read_image(*state, order[i], true);
		json_t *result = reading_result(&r);
		size_t which = order[i] == &a ? 0 : order[i] == &b ? 1 : 2;

		if (!expected[which])
			expected[which] = json_incref(result);
		assert_true(json_equal(result, expected[which]));
		json_decref(result);
		reading_release(&r);
	}
	for (size_t i = 0; i < 3; i++)
		json_decref(expected[i]);
	picture_release(&a);
	picture_release(&b);
	picture_release(&turned);
}

static void test_turn_by_hand(void **state)
{
	static uint8_t pixels[] = { 1, 2, 3, 4, 5, 6 }; /* 1 2 3 over 4 5 6 */
	static const uint8_t by_90[] = { 4, 1, 5, 2, 6, 3 }, by_180[] = { 6, 5, 4, 3, 2, 1 },
			     by_270[] = { 3, 6, 2, 5, 1, 4 };
	static uint8_t rgb[] = { 1, 2, 3, 4, 5, 6 }; /* two pixels */
	static const uint8_t rgb_180[] = { 4, 5, 6, 1, 2, 3 };
	const struct picture grey = { 3, 2, 1, pixels }, colour = { 2, 1, 3, rgb };
	const uint8_t *const expected[] = { by_90, by_180, by_270 };
	struct picture out;
	struct err err;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(image_turn(&grey, 90 * (i + 1), &out, &err), RC_OK);
		assert_int_equal(out.width, i == 1 ? 3 : 2);
		assert_memory_equal(out.pixels, expected[i], 6);
		picture_release(&out);
	}
	for (unsigned degrees = 90; degrees < 360; degrees += 90) {
		assert_int_equal(image_turn(&colour, degrees, &out, &err), RC_OK);
		assert_memory_equal(out.pixels, degrees == 90 ? rgb : rgb_180, 6);
		picture_release(&out);
	}
}

/* Boxes against pixels: paint a box on the page, turn it, find the paint, turn the box back. */
static void test_boxes_turn_like_pixels(void **state)
{
	enum { W = 7, H = 5 };
	uint8_t pixels[W * H] = { 0 };
	const struct picture page = { W, H, 1, pixels };
	const int painted[4] = { 1, 2, 4, 4 };
	struct err err;

	(void)state;
	for (int y = painted[1]; y < painted[3]; y++)
		memset(pixels + y * W + painted[0], 1, (size_t)(painted[2] - painted[0]));
	for (unsigned degrees = 0; degrees < 360; degrees += 90) {
		int box[4] = { 99, 99, 0, 0 };
		struct picture turned;

		assert_int_equal(image_turn(&page, degrees, &turned, &err), RC_OK);
		for (int i = 0; i < W * H; i++) {
			int x = i % (int)turned.width, y = i / (int)turned.width;

			if (!turned.pixels[i])
				continue;
			box[0] = x < box[0] ? x : box[0];
			box[1] = y < box[1] ? y : box[1];
			box[2] = x + 1 > box[2] ? x + 1 : box[2];
			box[3] = y + 1 > box[3] ? y + 1 : box[3];
		}
		box_unturn(box, degrees, W, H);
		assert_memory_equal(box, painted, sizeof(painted));
		picture_release(&turned);
	}
}

/* The page shrunk to a third: small letters at 100 dpi. */
static struct picture shrunk(const struct picture *page)
{
	struct picture small = { page->width / 3, page->height / 3, 1,
			       xmalloc((size_t)page->width * page->height) };

	for (uint32_t y = 0; y < small.height; y++) {
		for (uint32_t x = 0; x < small.width; x++) {
			unsigned sum = 0;

			for (uint32_t i = 0; i < 9; i++)
				sum += page->pixels[(y * 3 + i / 3) * page->width + x * 3 + i % 3];
			small.pixels[y * small.width + x] = (uint8_t)(sum / 9);
		}
	}
	return small;
}

/* What is read, and where it stands on the page that came; turned, too. */
static void test_coarse_page_is_enlarged(void **state)
{
	struct picture page = printed(prose, 1), small = shrunk(&page), turned;
	const struct read_options options = { PSM_AUTO, 100, true };
	struct reading fine = read_image(*state, &page, true), r;
	int expected[4], found[4];
	struct err err;

	find_word(&fine, "market", expected);
	for (unsigned degrees = 0; degrees < 360; degrees += 180) {
		if (degrees)
			assert_int_equal(image_turn(&small, degrees, &turned, &err), RC_OK);
		assert_int_equal(reader_read(*state, degrees ? &turned : &small, &options, &r, &err),
				 RC_OK);
		assert_int_equal(r.rotation, degrees);
		assert_string_equal(r.text.data, fine.text.data);
		find_word(&r, "market", found);
		box_unturn(found, degrees, small.width, small.height);
		for (size_t i = 0; i < 4; i++)
			assert_true(abs(found[i] - expected[i] / 3) <= 2);
		reading_release(&r);
	}
	reading_release(&fine);
	picture_release(&turned);
	picture_release(&small);
	picture_release(&page);
}

/* A page that would have 12 million pixels and more has no small letters, whatever resolution it
 * claims: it is read as it is. */
static void test_large_page_is_not_enlarged(void **state)
{
	const struct read_options claimed = { PSM_AUTO, 72, false };
	struct picture page = printed(prose, 1);
	struct reading direct, r;
	json_t *expected, *result;
	struct err err;

	assert_int_equal(reader_recognise(*state, &page, 0, &claimed, &direct, &err), RC_OK);
	assert_int_equal(reader_read(*state, &page, &claimed, &r, &err), RC_OK);
	expected = reading_result(&direct);
	result = reading_result(&r);
	assert_true(json_equal(result, expected));
	json_decref(expected);
	json_decref(result);
	reading_release(&direct);
	reading_release(&r);
	picture_release(&page);
}

static void test_boxes_shrink_outwards(void **state)
{
	struct reading r = { .width = 300, .height = 200 };
	json_t *expected;

	(void)state;
	r.lines = json_pack("[{s:[iiii], s:[{s:[iiii]}, {s:[iiii]}]}]", "box", 0, 0, 300, 200, "words",
			    "box", 3, 2, 6, 4, "box", 4, 3, 7, 5);
	reading_shrink(&r, 100, 100);
	assert_int_equal(r.width, 100);
	assert_int_equal(r.height, 100);
	expected = json_pack("[{s:[iiii], s:[{s:[iiii]}, {s:[iiii]}]}]", "box", 0, 0, 100, 100, "words",
			     "box", 1, 1, 2, 2, "box", 1, 1, 3, 3);
	assert_true(json_equal(r.lines, expected));
	json_decref(expected);
	json_decref(r.lines);
}

struct page_folder {
	char path[64];
	int fd;
};

static int make_folder(void **state)
{
	struct page_folder *f = xcalloc(1, sizeof(*f));

	snprintf(f->path, sizeof(f->path), "/tmp/test-tesseract-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->fd, "slot", 0755), 0);
	*state = f;
	return 0;
}

static int remove_folder(void **state)
{
	static const char *const names[] = { "slot/1.pnm", "good.pnm", "file-link", "slot/link",
					     "fifo", "outside" };
	struct page_folder *f = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		unlinkat(f->fd, names[i], 0);
	unlinkat(f->fd, "slot", AT_REMOVEDIR);
	close(f->fd);
	assert_int_equal(rmdir(f->path), 0);
	free(f);
	return 0;
}

static void put_file(struct page_folder *f, const char *name, const char *content, size_t len)
{
	int fd = openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, len), len);
	close(fd);
}
#define PUT(f, name, content) put_file((f), (name), (content), sizeof(content) - 1)

static enum rc load(struct page_folder *f, const char *path, uint32_t width, uint32_t height)
{
	struct picture image;
	struct err err;
	enum rc rc = picture_load(&image, f->fd, f->path, path, width, height, &err);

	if (rc == RC_OK)
		picture_release(&image);
	else
		assert_string_not_equal(err.text, "");
	return rc;
}

static void test_page_files(void **state)
{
	struct page_folder *f = *state;
	char absolute[200];
	struct picture image;
	struct err err;

	PUT(f, "slot/1.pnm", "P6\n2 1\n255\nabcdef");
	PUT(f, "good.pnm", "P5\n2 3\n255\nabcdefROOM TO SPARE");
	assert_int_equal(picture_load(&image, f->fd, f->path, "slot/1.pnm", 2, 1, &err), RC_OK);
	assert_int_equal(image.channels, 3);
	assert_memory_equal(image.pixels, "abcdef", 6);
	picture_release(&image);
	snprintf(absolute, sizeof(absolute), "%s//good.pnm", f->path);
	assert_int_equal(picture_load(&image, f->fd, f->path, absolute, 2, 3, &err), RC_OK);
	assert_int_equal(image.channels, 1);
	picture_release(&image);
	/* Not the size that was agreed on: */
	assert_int_equal(load(f, "good.pnm", 3, 2), RC_FAILED);
	assert_int_equal(load(f, "good.pnm", 2, 1), RC_FAILED);
	assert_int_equal(load(f, "good.pnm", 2, 30), RC_FAILED);
	assert_int_equal(load(f, "good.pnm", 65536, 65536), RC_FAILED);
	PUT(f, "good.pnm", "P5\n2 3\n255\nabcde"); /* a pixel short */
	assert_int_equal(load(f, "good.pnm", 2, 3), RC_FAILED);
	PUT(f, "good.pnm", "P5\n40000 60000\n255\n");
	assert_int_equal(load(f, "good.pnm", 40000, 60000), RC_FAILED);
	PUT(f, "good.pnm", "");
	assert_int_equal(load(f, "good.pnm", 2, 3), RC_FAILED);
	PUT(f, "good.pnm", "P4\n2 3\n255\nabcdef");
	assert_int_equal(load(f, "good.pnm", 2, 3), RC_FAILED);
	PUT(f, "good.pnm", "P5\n2 3\n65535\nabcdefabcdef");
	assert_int_equal(load(f, "good.pnm", 2, 3), RC_FAILED);
}

static void test_page_paths(void **state)
{
	static const char *const bad[] = { "",	      ".",	     "..",	   "../x",  "slot/../good.pnm",
					   "/etc/passwd", "slot",	     "slot/",	   "file-link", "slot/link",
					   "fifo",    "missing",     "outside/good.pnm", "//" };
	struct page_folder *f = *state;
	char beside[200];

	PUT(f, "good.pnm", "P5\n2 3\n255\nabcdef");
	assert_int_equal(symlinkat("good.pnm", f->fd, "file-link"), 0);
	assert_int_equal(symlinkat("../good.pnm", f->fd, "slot/link"), 0);
	assert_int_equal(symlinkat(".", f->fd, "outside"), 0);
	assert_int_equal(mkfifoat(f->fd, "fifo", 0644), 0);
	assert_int_equal(load(f, "good.pnm", 2, 3), RC_OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(load(f, bad[i], 2, 3), RC_FAILED);
	snprintf(beside, sizeof(beside), "%s-beside/good.pnm", f->path);
	assert_int_equal(load(f, beside, 2, 3), RC_FAILED);
}

static void test_languages(void **state)
{
	static const char *const odd[] = { "", "+", "eng+", "+eng", "../eng", "/etc/eng", "eng;", "a.b" };
	struct err err;
	const char *folder = tessdata_folder(&err);

	(void)state;
	assert_non_null(folder);
	assert_int_equal(tessdata_check(folder, "eng", &err), RC_OK);
	assert_int_equal(tessdata_check(folder, "eng+xyz", &err), RC_FATAL);
	assert_non_null(strstr(err.text, "\"xyz\" is missing"));
	assert_non_null(strstr(err.text, "xyz.traineddata"));
	assert_non_null(strstr(err.text, "eng, "));
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		assert_int_equal(tessdata_check(folder, odd[i], &err), RC_FATAL);
}

/* The model's hash is that of its files, one after the other. */
static void test_model_hash(void **state)
{
	static const char *const names[] = { "eng", "osd" };
	struct sha256_ctx ctx;
	char hex[SHA256_HEX_SIZE];
	struct err err;
	const char *folder = tessdata_folder(&err);

	sha256_init(&ctx);
	for (size_t i = 0; i < 2; i++) {
		char *path = xasprintf("%s/%s.traineddata", folder, names[i]);
		FILE *file = fopen(path, "rb");
		uint8_t chunk[4096];
		size_t n;

		assert_non_null(file);
		while ((n = fread(chunk, 1, sizeof(chunk), file)))
			sha256_update(&ctx, n, chunk);
		fclose(file);
		free(path);
	}
	sha256_hex(&ctx, hex);
	assert_string_equal(((struct reader *)*state)->hash, hex);
}

/* Requests as one string, answers as another; the program's exit status. */
static int run_program(const char *folder, const char *languages, const char *requests, char *out,
		       size_t size)
{
	const char *build = getenv("CLOISTER_BUILD");
	char *program = xasprintf("%s/cloister-tesseract", build ? build : "build");
	int in[2], from[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (access(program, X_OK)) {
		free(program);
		skip();
	}
	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(from, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		unsetenv("OMP_THREAD_LIMIT");
		execl(program, program, "--sandbox=try", "--pages", folder, "--languages", languages,
		      (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(from[1]);
	assert_int_equal(write(in[1], requests, strlen(requests)), strlen(requests));
	close(in[1]);
	while ((n = read(from[0], out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(from[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	free(program);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static json_t *next_answer(char **lines)
{
	char *line = strsep(lines, "\n");
	json_t *json = line ? json_loads(line, JSON_REJECT_DUPLICATES, NULL) : NULL;

	assert_non_null(json);
	return json;
}

static void expect_answer(char **lines, json_int_t id, const char *status, const char *text)
{
	json_t *json = next_answer(lines);
	const char *said = json_string_value(
		json_object_get(json, strcmp(status, "ok") ? "error" : "text"));

	assert_int_equal(json_integer_value(json_object_get(json, "id")), id);
	assert_string_equal(json_string_value(json_object_get(json, "status")), status);
	assert_non_null(said);
	assert_non_null(strstr(said, text));
	json_decref(json);
}

/* The protocol from outside, in the sandbox: bad requests fail alone, a turned page is read. */
static void test_program(void **state)
{
	struct page_folder *f = *state;
	struct picture upright = printed(prose, 1), page;
	size_t size = 256 * 1024;
	char *out = xmalloc(size), *lines = out, *requests, head[64], path[128];
	json_t *hello;
	struct err err;
	FILE *file;

	assert_int_equal(image_turn(&upright, 180, &page, &err), RC_OK);
	snprintf(head, sizeof(head), "P5\n%u %u\n255\n", page.width, page.height);
	snprintf(path, sizeof(path), "%s/good.pnm", f->path);
	file = fopen(path, "wb");
	fwrite(head, 1, strlen(head), file);
	fwrite(page.pixels, 1, (size_t)page.width * page.height, file);
	fclose(file);
	requests = xasprintf("not JSON\n"
			     "{\"id\":2,\"page\":\"../x\",\"width\":1,\"height\":1}\n"
			     "{\"id\":3,\"page\":\"good.pnm\",\"width\":1}\n"
			     "{\"id\":4,\"page\":\"good.pnm\",\"width\":%u,\"height\":%u,\"params\":"
			     "{\"page_segmentation\":0}}\n"
			     "{\"id\":5,\"page\":\"good.pnm\",\"width\":%u,\"height\":%u,\"dpi\":300.4,"
			     "\"params\":{\"page_segmentation\":3,\"rotate\":\"auto\"},\"new\":1}\n",
			     page.width, page.height, page.width, page.height);
	assert_int_equal(run_program(f->path, "eng", requests, out, size), 0);
	hello = next_answer(&lines);
	assert_int_equal(json_integer_value(json_object_get(hello, "airlock")), 1);
	assert_string_equal(json_string_value(json_object_get(hello, "name")), "tesseract");
	json_decref(hello);
	expect_answer(&lines, 0, "error", "not JSON");
	expect_answer(&lines, 2, "error", "open page");
	expect_answer(&lines, 3, "error", "height");
	expect_answer(&lines, 4, "error", "page_segmentation");
	expect_answer(&lines, 5, "ok", "market early in the morning");
	assert_string_equal(lines, "");
	assert_int_equal(run_program(f->path, "eng+xyz", "", out, size), EX_CONFIGURATION);
	assert_string_equal(out, "");
	free(requests);
	free(out);
	picture_release(&upright);
	picture_release(&page);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
#define IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_text),
		cmocka_unit_test(test_turned_pages),
		cmocka_unit_test(test_look_finds_the_way_up),
		cmocka_unit_test(test_look_is_not_sure),
		cmocka_unit_test(test_wrong_look_turns_no_page),
		cmocka_unit_test(test_rotation_only_on_request),
		cmocka_unit_test(test_coarse_page_is_enlarged),
		cmocka_unit_test(test_large_page_is_not_enlarged),
		cmocka_unit_test(test_boxes_shrink_outwards),
		cmocka_unit_test(test_empty_page),
		cmocka_unit_test(test_order_does_not_matter),
		cmocka_unit_test(test_model_hash),
		cmocka_unit_test(test_turn_by_hand),
		cmocka_unit_test(test_boxes_turn_like_pixels),
		cmocka_unit_test(test_languages),
		IN_FOLDER(test_page_files),
		IN_FOLDER(test_page_paths),
		IN_FOLDER(test_program),
	};

	return cmocka_run_group_tests_name("tesseract", tests, open_reader, close_reader);
}
