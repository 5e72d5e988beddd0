/* SPDX-License-Identifier: MIT */
#include "images.h"

#include "base/num.h"

#include <tiffio.h>

#define W 70
#define H 53

struct spec {
	uint16_t photometric, bits, samples, compression, planar;
	bool tiled, subsampled;
	uint16_t extra; /* type of the last sample, where samples says there is one */
	uint16_t orientation, unit;
	float xres, yres;
	uint32_t rows_per_strip, width, height;
	const char *mode; /* "w", big-endian "wb", BigTIFF "w8" ... */
	uint32_t subfile;
	unsigned pages;
};

/* An image of noise would not compress, one of nothing would not tell; values of full scale. */
static unsigned value(const struct spec *s, uint32_t x, uint32_t y, unsigned c)
{
	unsigned max = s->bits == 16 ? 65535 : (1u << s->bits) - 1;
	unsigned v = s->compression == COMPRESSION_JPEG ? 20 + x + y + 30 * c : test_value(x, y, c);

	return (v * max + 127) / 255;
}

static void put_row(const struct spec *s, uint8_t *to, uint32_t x0, uint32_t y, uint32_t n,
		    unsigned first, unsigned samples)
{
	memset(to, 0, (size_t)n * samples * 2 + 1);
	for (size_t i = 0; i < (size_t)n * samples; i++) {
		uint32_t x = (uint32_t)min_u64(x0 + i / samples, s->width - 1);
		unsigned v = value(s, x, (uint32_t)min_u64(y, s->height - 1),
				   first + (unsigned)(i % samples));

		if (s->bits == 16)
			memcpy(to + 2 * i, &(uint16_t){ (uint16_t)v }, 2);
		else
			to[i * s->bits / 8] |= (uint8_t)(v << (8 - s->bits - i * s->bits % 8));
	}
}

static void write_pixels(TIFF *tiff, const struct spec *s)
{
	uint8_t *buffer = calloc(1, (size_t)(s->width + 64) * s->samples * 2 * 64 + 64);
	unsigned planes = s->planar == PLANARCONFIG_SEPARATE ? s->samples : 1;
	unsigned each = s->samples / planes;

	for (unsigned p = 0; p < planes; p++) {
		if (!s->tiled) {
			for (uint32_t y = 0; y < s->height; y++) {
				put_row(s, buffer, 0, y, s->width, p, each);
				assert_int_equal(TIFFWriteScanline(tiff, buffer, y, (uint16_t)p), 1);
			}
			continue;
		}
		for (uint32_t y = 0; y < s->height; y += 32)
			for (uint32_t x = 0; x < s->width; x += 32) {
				for (uint32_t i = 0; i < 32; i++)
					put_row(s, buffer + i * (size_t)TIFFTileRowSize(tiff), x,
						y + i, 32, p, each);
				assert_true(TIFFWriteTile(tiff, buffer, x, y, 0, (uint16_t)p) > 0);
			}
	}
	free(buffer);
}

static void write_page(TIFF *tiff, const struct spec *s)
{
	uint16_t map[3][65536];

	TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, s->width);
	TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, s->height);
	TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, s->bits);
	TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, s->samples);
	TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, s->photometric);
	TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, s->planar);
	TIFFSetField(tiff, TIFFTAG_COMPRESSION, s->compression);
	TIFFSetField(tiff, TIFFTAG_ORIENTATION, s->orientation);
	if (s->compression == COMPRESSION_JPEG) {
		TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
		TIFFSetField(tiff, TIFFTAG_JPEGQUALITY, 98);
		if (s->photometric == PHOTOMETRIC_YCBCR)
			TIFFSetField(tiff, TIFFTAG_YCBCRSUBSAMPLING, s->subsampled ? 2 : 1,
				     s->subsampled ? 2 : 1);
	}
	if (s->tiled) {
		TIFFSetField(tiff, TIFFTAG_TILEWIDTH, 32);
		TIFFSetField(tiff, TIFFTAG_TILELENGTH, 32);
	} else {
		TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, s->rows_per_strip);
	}
	if (s->xres > 0) {
		TIFFSetField(tiff, TIFFTAG_XRESOLUTION, s->xres);
		TIFFSetField(tiff, TIFFTAG_YRESOLUTION, s->yres);
		TIFFSetField(tiff, TIFFTAG_RESOLUTIONUNIT, s->unit);
	}
	if (s->extra != 0xffff)
		TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, 1, &s->extra);
	if (s->subfile)
		TIFFSetField(tiff, TIFFTAG_SUBFILETYPE, s->subfile);
	if (s->photometric == PHOTOMETRIC_PALETTE) {
		for (unsigned i = 0; i < 1u << s->bits; i++) {
			map[0][i] = (uint16_t)(i * 257);
			map[1][i] = (uint16_t)((255 - i) * 257);
			map[2][i] = (uint16_t)(i / 2 * 257);
		}
		TIFFSetField(tiff, TIFFTAG_COLORMAP, map[0], map[1], map[2]);
	}
	write_pixels(tiff, s);
	assert_int_equal(TIFFWriteDirectory(tiff), 1);
}

static struct spec complete(struct spec s)
{
	s.width = s.width ? s.width : W;
	s.height = s.height ? s.height : H;
	s.bits = s.bits ? s.bits : 8;
	s.samples = s.samples ? s.samples : 1;
	s.compression = s.compression ? s.compression : COMPRESSION_NONE;
	s.planar = s.planar ? s.planar : PLANARCONFIG_CONTIG;
	s.orientation = s.orientation ? s.orientation : 1;
	s.rows_per_strip = s.rows_per_strip ? s.rows_per_strip : 16;
	s.unit = s.unit ? s.unit : RESUNIT_INCH;
	return s;
}

/* Several specs, a page each. */
static struct bytes make_pages(const struct spec *specs, unsigned n, const char *mode)
{
	int fd = memfd_create("tiff", 0);
	TIFF *tiff = TIFFFdOpen(dup(fd), "test", mode ? mode : "w");
	struct bytes out;

	assert_non_null(tiff);
	for (unsigned i = 0; i < n; i++) {
		struct spec s = complete(specs[i]);

		write_page(tiff, &s);
	}
	TIFFClose(tiff);
	out.len = (size_t)lseek(fd, 0, SEEK_END);
	out.data = malloc(out.len);
	assert_int_equal(pread(fd, out.data, out.len, 0), (ssize_t)out.len);
	close(fd);
	return out;
}

#define NO_EXTRA .extra = 0xffff

static struct bytes make_tiff(struct spec s)
{
	return make_pages(&s, 1, s.mode);
}

static int full(const struct spec *s, uint32_t x, uint32_t y, unsigned c)
{
	unsigned max = s->bits == 16 ? 65535 : (1u << s->bits) - 1;

	return (int)((value(s, x, y, c) * 255u + max / 2) / max);
}

/* What the pixel should be, from the definition of the photometric interpretation. */
static void should_be(const struct spec *s, uint32_t x, uint32_t y, int rgb[3])
{
	int v[4];

	for (unsigned c = 0; c < 4; c++)
		v[c] = full(s, x, y, c);
	switch (s->photometric) {
	case PHOTOMETRIC_MINISWHITE:
		rgb[0] = rgb[1] = rgb[2] = 255 - v[0];
		break;
	case PHOTOMETRIC_MINISBLACK:
		rgb[0] = rgb[1] = rgb[2] = v[0];
		break;
	case PHOTOMETRIC_PALETTE:
		rgb[0] = (int)value(s, x, y, 0);
		rgb[1] = 255 - rgb[0];
		rgb[2] = rgb[0] / 2;
		break;
	case PHOTOMETRIC_SEPARATED:
		for (int c = 0; c < 3; c++)
			rgb[c] = ((255 - v[c]) * (255 - v[3]) + 127) / 255;
		break;
	default:
		memcpy(rgb, v, 3 * sizeof(*rgb));
	}
	for (int c = 0; c < 3; c++) {
		int a = s->samples == 2 ? v[1] : v[3];

		if (s->extra == EXTRASAMPLE_UNASSALPHA)
			rgb[c] = (rgb[c] * a + 255 * (255 - a) + 127) / 255;
		else if (s->extra == EXTRASAMPLE_ASSOCALPHA)
			rgb[c] = rgb[c] + 255 - a > 255 ? 255 : rgb[c] + 255 - a;
	}
}

static void check(struct spec spec)
{
	struct spec s = complete(spec);
	struct bytes file = make_tiff(spec);
	struct decoded d = decode_page(&tiff_decoder, file, 0);
	unsigned channels = s.photometric <= PHOTOMETRIC_MINISBLACK ? 1 : 3;
	int tolerance = s.compression == COMPRESSION_JPEG ? 6 : 1;

	if (s.bits == 1 && s.photometric == PHOTOMETRIC_SEPARATED)
		channels = 1; /* the test picture in 1-bit ink is black */
	assert_page(&d, W, H, channels);
	for (uint32_t y = 0; y < H; y++)
		for (uint32_t x = 0; x < W; x++) {
			int rgb[3];

			should_be(&s, x, y, rgb);
			for (unsigned c = 0; c < 3; c++)
				assert_near(pixel(&d, x, y)[c % channels], rgb[c], tolerance);
		}
	decoded_release(&d);
	free(file.data);
}

static const struct {
	uint16_t photometric, samples, extra;
} colourings[] = {
	{ PHOTOMETRIC_MINISWHITE, 1, 0xffff },
	{ PHOTOMETRIC_MINISBLACK, 1, 0xffff },
	{ PHOTOMETRIC_RGB, 3, 0xffff },
	{ PHOTOMETRIC_SEPARATED, 4, 0xffff },
	{ PHOTOMETRIC_MINISBLACK, 2, EXTRASAMPLE_UNASSALPHA },
	{ PHOTOMETRIC_RGB, 4, EXTRASAMPLE_UNASSALPHA },
	{ PHOTOMETRIC_RGB, 4, EXTRASAMPLE_ASSOCALPHA },
	{ PHOTOMETRIC_RGB, 4, EXTRASAMPLE_UNSPECIFIED },
};

/* Every colouring x 1, 2, 4, 8, 16 bits x strips, tiles x chunky, planar. */
static void test_samples(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(colourings); i++)
		for (uint16_t bits = 1; bits <= 16; bits *= 2)
			for (int how = 0; how < 4; how++)
				check((struct spec){ .photometric = colourings[i].photometric,
						     .samples = colourings[i].samples,
						     .extra = colourings[i].extra, .bits = bits,
						     .tiled = how & 1, .compression = COMPRESSION_LZW,
						     .planar = how & 2 ? PLANARCONFIG_SEPARATE :
									 PLANARCONFIG_CONTIG,
						     .mode = i & 1 ? "wb" : "wl" });
	for (uint16_t bits = 1; bits <= 8; bits *= 2)
		for (int tiled = 0; tiled < 2; tiled++)
			check((struct spec){ .photometric = PHOTOMETRIC_PALETTE, .bits = bits,
					     .tiled = tiled, NO_EXTRA });
}

static void test_compressions(void **state)
{
	static const uint16_t all[] = { COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_PACKBITS,
					COMPRESSION_ADOBE_DEFLATE, COMPRESSION_DEFLATE };
	static const uint16_t fax[] = { COMPRESSION_CCITTRLE, COMPRESSION_CCITTFAX3,
					COMPRESSION_CCITTFAX4 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		for (int how = 0; how < 4; how++)
			check((struct spec){ .photometric = PHOTOMETRIC_RGB, .samples = 3, NO_EXTRA,
					     .compression = all[i], .tiled = how & 1,
					     .mode = how & 2 ? "w8" : "w" });
	for (size_t i = 0; i < ARRAY_SIZE(fax); i++)
		for (uint16_t photometric = 0; photometric < 2; photometric++)
			for (int how = 0; how < 3; how++)
				check((struct spec){ .photometric = photometric, .bits = 1, NO_EXTRA,
						     .compression = fax[i], .tiled = how == 2 && i,
						     .rows_per_strip = how ? 1000 : 7 });
}

static void test_jpeg(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++)
		check((struct spec){ .photometric = i & 1 ? PHOTOMETRIC_YCBCR : PHOTOMETRIC_RGB,
				     .samples = 3, NO_EXTRA, .compression = COMPRESSION_JPEG,
				     .tiled = i & 2, .subsampled = i & 4 });
	check((struct spec){ .photometric = PHOTOMETRIC_MINISBLACK, NO_EXTRA,
			     .compression = COMPRESSION_JPEG });
	check((struct spec){ .photometric = PHOTOMETRIC_SEPARATED, .samples = 4, NO_EXTRA,
			     .compression = COMPRESSION_JPEG });
}

/* What is left to libtiff's RGBA reader: YCbCr without JPEG. */
static void test_exotic(void **state)
{
	struct spec s = { .photometric = PHOTOMETRIC_YCBCR, .samples = 3, NO_EXTRA,
			  .orientation = 3 };
	struct bytes file;
	struct decoded d;

	(void)state;
	s.width = 64; /* subsampled 2 x 2 by default: blocks of 4 Y, Cb, Cr */
	s.height = 48;
	file = make_tiff(s);
	d = decode_page(&tiff_decoder, file, 0);
	assert_page(&d, 64, 48, 3);
	decoded_release(&d);
	free(file.data);
}

static void test_orientations(void **state)
{
	(void)state;
	for (uint16_t o = 1; o <= 8; o++) {
		struct spec s = complete((struct spec){ .photometric = PHOTOMETRIC_MINISBLACK,
							NO_EXTRA, .orientation = o });
		struct bytes file = make_tiff(s);
		struct decoded d = decode_page(&tiff_decoder, file, 0);
		bool right = o == 2 || o == 3 || o == 6 || o == 7;
		bool bottom = o == 3 || o == 4 || o == 7 || o == 8;
		uint32_t w = o >= 5 ? H : W, h = o >= 5 ? W : H;

		assert_page(&d, w, h, 1);
		for (uint32_t i = 0; i < 20; i++) { /* along the first stored row */
			uint32_t x = o >= 5 ? 0 : i, y = o >= 5 ? i : 0;

			assert_int_equal(*pixel(&d, right ? w - 1 - x : x, bottom ? h - 1 - y : y),
					 test_value(i, 0, 0));
		}
		decoded_release(&d);
		free(file.data);
	}
}

static void test_resolution(void **state)
{
	struct spec s = { .photometric = 1, NO_EXTRA, .xres = 118.11f, .yres = 118.11f,
			  .unit = RESUNIT_CENTIMETER };
	struct bytes file = make_tiff(s);
	struct decoded d = decode_page(&tiff_decoder, file, 0);

	(void)state;
	assert_true(d.page.dpi > 299.9 && d.page.dpi < 300.1);
	decoded_release(&d);
	free(file.data);
	s.unit = RESUNIT_NONE;
	file = make_tiff(s);
	d = decode_page(&tiff_decoder, file, 0);
	assert_true(d.page.dpi == 0);
	decoded_release(&d);
	free(file.data);

	s = (struct spec){ .photometric = 0, .bits = 1, NO_EXTRA, .xres = 204, .yres = 98,
			   .compression = COMPRESSION_CCITTFAX3, .orientation = 8 };
	file = make_tiff(s);
	d = decode_page(&tiff_decoder, file, 0);
	assert_page(&d, 110, W, 1); /* 53 * 204 / 98, turned */
	assert_true(d.page.dpi == 204);
	assert_false(d.page.native);
	decoded_release(&d);
	free(file.data);
}

static void test_pages(void **state)
{
	struct spec s[60];
	struct bytes file;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		s[i] = (struct spec){ .photometric = i % 2, .bits = i % 3 ? 8 : 1, NO_EXTRA };
		s[i].width = 20 + i;
	}
	file = make_pages(s, 60, "w");
	for (unsigned i = 0; i < 60; i += 7) {
		struct decoded d = decode_page(&tiff_decoder, file, 59 - i);

		assert_int_equal(d.pages, 60);
		assert_page(&d, 20 + 59 - i, H, 1);
		decoded_release(&d);
	}
	free(file.data);
}

/* One document kept open, pages asked for in any order and again. */
static void test_any_order(void **state)
{
	struct spec s[3] = { { .photometric = 2, .samples = 3, NO_EXTRA },
			     { .photometric = 0, .bits = 1, NO_EXTRA,
			       .compression = COMPRESSION_CCITTFAX4 },
			     { .photometric = 6, .samples = 3, NO_EXTRA,
			       .compression = COMPRESSION_JPEG } };
	static const uint32_t order[] = { 2, 0, 1, 1, 2, 2, 0 };
	struct bytes file = make_pages(s, 3, "w");
	struct pipeline p = test_pipeline();
	struct document *doc;
	uint32_t pages;
	struct err err;
	int fd = file_of(file.data, file.len);

	(void)state;
	assert_int_equal(tiff_decoder.open(&doc, fd, &p, &pages, &err), RC_OK);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		uint8_t *pixels = malloc(W * H * 3);
		struct raster r = { W, H, 3, pixels };
		struct page page = { 0 };

		assert_int_equal(tiff_decoder.measure(doc, order[i], &page, &err), RC_OK);
		assert_int_equal(tiff_decoder.render(doc, order[i], &page, &r, &err), RC_OK);
		assert_int_equal(r.channels, order[i] == 1 ? 1 : 3);
		page_release(&page);
		free(pixels);
	}
	tiff_decoder.close(doc);
	close(fd);
	free(file.data);
}

static void test_thumbnails(void **state)
{
	struct spec s[3] = { { .photometric = 1, NO_EXTRA, .subfile = FILETYPE_REDUCEDIMAGE },
			     { .photometric = 1, NO_EXTRA, .subfile = FILETYPE_PAGE },
			     { .photometric = 1, NO_EXTRA, .subfile = FILETYPE_REDUCEDIMAGE } };
	struct bytes file;
	struct decoded d;

	(void)state;
	s[0].width = 10;
	s[1].width = 90;
	s[2].width = 11;
	file = make_pages(s, 3, "w");
	d = decode_page(&tiff_decoder, file, 0);
	assert_int_equal(d.pages, 1);
	assert_page(&d, 90, H, 1);
	decoded_release(&d);
	free(file.data);
	file = make_pages(s, 1, "w8");
	d = decode_page(&tiff_decoder, file, 0);
	assert_page(&d, 10, H, 1);
	decoded_release(&d);
	free(file.data);
}

/* Where the n-th pointer to a directory lies, in a little-endian classic file. */
static size_t pointer_at(struct bytes file, unsigned n)
{
	size_t at = 4;
	uint32_t offset;
	uint16_t count;

	while (n--) {
		memcpy(&offset, file.data + at, 4);
		memcpy(&count, file.data + offset, 2);
		at = offset + 2 + 12 * (size_t)count;
	}
	return at;
}

static void test_circles(void **state)
{
	struct spec s[9];

	(void)state;
	for (unsigned i = 0; i < 9; i++)
		s[i] = (struct spec){ .photometric = 1, NO_EXTRA };
	for (unsigned last = 1; last <= 9; last++)
		for (unsigned back = 0; back < last; back++) {
			struct bytes file = make_pages(s, 9, "wl");
			struct decoded d;

			memcpy(file.data + pointer_at(file, last),
			       file.data + pointer_at(file, back), 4);
			d = decode_page(&tiff_decoder, file, 0);
			assert_reason(&d, "damaged");
			free(file.data);
		}
}

/* The chain leaves the file: what is there is read, one page more fails. */
static void test_broken_chain(void **state)
{
	struct spec s[3] = { { .photometric = 1, NO_EXTRA }, { .photometric = 1, NO_EXTRA },
			     { .photometric = 1, NO_EXTRA } };
	struct bytes file = make_pages(s, 3, "wl");
	struct decoded d;

	(void)state;
	memset(file.data + pointer_at(file, 2), 0x7f, 4);
	d = decode_page(&tiff_decoder, file, 1);
	assert_int_equal(d.pages, 3);
	assert_page(&d, W, H, 1);
	decoded_release(&d);
	d = decode_page(&tiff_decoder, file, 2);
	assert_reason(&d, "damaged");
	memset(file.data + 4, 0x7f, 4);
	d = decode_page(&tiff_decoder, file, 0);
	assert_reason(&d, "damaged");
	memset(file.data + 4, 0, 4);
	d = decode_page(&tiff_decoder, file, 0);
	assert_reason(&d, "no-pages");
	free(file.data);
}

static void test_too_many_pages(void **state)
{
	struct spec s = { .photometric = 1, NO_EXTRA };
	struct spec many[102];
	struct bytes file;
	struct decoded d;

	(void)state;
	for (unsigned i = 0; i < 102; i++)
		many[i] = s;
	file = make_pages(many, 101, "w");
	d = decode_page(&tiff_decoder, file, 0);
	assert_reason(&d, "limit:document-pages");
	free(file.data);
}

/* Set a tag of the first directory (type SHORT or LONG, one value). */
static void set_tag(struct bytes file, uint16_t tag, uint32_t v)
{
	uint32_t offset;
	uint16_t count, is, type;

	memcpy(&offset, file.data + 4, 4);
	memcpy(&count, file.data + offset, 2);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *entry = file.data + offset + 2 + 12 * (size_t)i;

		memcpy(&is, entry, 2);
		memcpy(&type, entry + 2, 2);
		if (is == tag)
			memcpy(entry + 8, &v, type == 3 ? 2 : 4);
	}
}

static void test_liars(void **state)
{
	static const struct {
		uint16_t tag;
		uint32_t value;
		const char *reason;
	} lies[] = {
		{ TIFFTAG_IMAGEWIDTH, 0, "damaged" },
		{ TIFFTAG_IMAGELENGTH, 0, "damaged" },
		{ TIFFTAG_COMPRESSION, COMPRESSION_OJPEG, "unsupported" },
		{ TIFFTAG_COMPRESSION, COMPRESSION_JBIG, "unsupported" },
		{ TIFFTAG_COMPRESSION, 4711, "unsupported" },
		{ TIFFTAG_COMPRESSION, COMPRESSION_LZW, "damaged" },
		{ TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE, "damaged" },
		{ TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_LOGLUV, "unsupported" },
		{ TIFFTAG_BITSPERSAMPLE, 12, "unsupported" },
		{ TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_IEEEFP, "unsupported" },
	};
	struct pipeline p = test_pipeline();
	struct decoded d;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct bytes file = make_tiff((struct spec){ .photometric = 1, NO_EXTRA,
							     .mode = "wl" });

		set_tag(file, lies[i].tag, lies[i].value);
		d = decode_page(&tiff_decoder, file, 0);
		if (lies[i].tag == TIFFTAG_SAMPLEFORMAT) { /* not written: uint is the default */
			assert_int_equal(d.rc, RC_OK);
			decoded_release(&d);
		} else {
			if (strcmp(d.err.reason, lies[i].reason))
				fail_msg("tag %u = %u: %s %s", lies[i].tag, lies[i].value,
					 d.err.reason, d.err.text);
			assert_reason(&d, lies[i].reason);
		}
		free(file.data);
	}
	for (int i = 0; i < 2; i++) {
		struct bytes file = make_tiff((struct spec){ .photometric = 1, NO_EXTRA,
							     .mode = "wl", .width = 100000,
							     .height = 20 });

		if (i)
			set_tag(file, TIFFTAG_IMAGEWIDTH, 0xfffffff0);
		else
			p.limits.image_megapixels = 1;
		d = decode_with(&tiff_decoder, file.data, file.len, 0, &p);
		assert_reason(&d, "limit:image-megapixels");
		free(file.data);
	}
}

/* A page with a broken strip fails, its neighbours do not. */
static void test_broken_page(void **state)
{
	static const uint16_t all[] = { COMPRESSION_LZW, COMPRESSION_ADOBE_DEFLATE,
					COMPRESSION_CCITTFAX4, COMPRESSION_JPEG };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(all); k++) {
		struct spec s = { .photometric = 1, NO_EXTRA, .compression = all[k],
				  .bits = all[k] == COMPRESSION_CCITTFAX4 ? 1 : 8 };
		struct spec three[3] = { s, s, s };
		struct bytes file = make_pages(three, 3, "wl");
		uint32_t second;

		memcpy(&second, file.data + pointer_at(file, 1), 4);
		/* The last pixels of a page lie before its directory. */
		for (uint32_t i = second - 60; i < second; i++)
			file.data[i] = all[k] != COMPRESSION_JPEG ? (uint8_t)(i * 157 ^ i >> 1) :
				       i % 2 ? 0xd9 : 0xff;
		for (uint32_t i = 0; i < 3; i++) {
			struct decoded d = decode_page(&tiff_decoder, file, i);

			if (i == 1) {
				if (!d.rc)
					fail_msg("compression %u", all[k]);
				assert_reason(&d, "damaged");
				continue;
			}
			assert_page(&d, W, H, 1);
			decoded_release(&d);
		}
		free(file.data);
	}
}

static void test_truncated(void **state)
{
	static const uint16_t all[] = { COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_PACKBITS,
					COMPRESSION_ADOBE_DEFLATE, COMPRESSION_CCITTFAX3,
					COMPRESSION_CCITTFAX4, COMPRESSION_JPEG };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		bool fax = all[i] == COMPRESSION_CCITTFAX3 || all[i] == COMPRESSION_CCITTFAX4;
		struct spec s = { .photometric = 1, NO_EXTRA, .compression = all[i],
				  .bits = fax ? 1 : 8, .rows_per_strip = i & 1 ? 1000 : 16 };
		struct spec two[2] = { s, s };
		struct bytes file = make_pages(two, 2, "w");

		check_truncated(&tiff_decoder, file, 1);
		free(file.data);
	}
}

static void test_mutated(void **state)
{
	struct spec s[] = {
		{ .photometric = 2, .samples = 4, .extra = EXTRASAMPLE_UNASSALPHA,
		  .compression = COMPRESSION_LZW, .tiled = true },
		{ .photometric = 0, .bits = 1, NO_EXTRA, .compression = COMPRESSION_CCITTFAX4 },
		{ .photometric = 6, .samples = 3, NO_EXTRA, .compression = COMPRESSION_JPEG },
		{ .photometric = 2, .samples = 3, NO_EXTRA, .planar = PLANARCONFIG_SEPARATE,
		  .bits = 16 },
		{ .photometric = 3, .bits = 4, NO_EXTRA, .mode = "w8" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(s); i++) {
		struct bytes file = make_tiff(s[i]);

		check_mutated(&tiff_decoder, file, 200 + (uint32_t)i, 200);
		free(file.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_compressions),
		cmocka_unit_test(test_jpeg),
		cmocka_unit_test(test_exotic),
		cmocka_unit_test(test_orientations),
		cmocka_unit_test(test_resolution),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_thumbnails),
		cmocka_unit_test(test_circles),
		cmocka_unit_test(test_broken_chain),
		cmocka_unit_test(test_too_many_pages),
		cmocka_unit_test(test_liars),
		cmocka_unit_test(test_broken_page),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_mutated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
