/* SPDX-License-Identifier: MIT */
#include "images.h"

#include <openjpeg.h>

#define W 90
#define H 61

struct spec {
	unsigned components, precision;
	bool signed_samples, bare, lossy, alpha, tiled, subsampled;
	OPJ_COLOR_SPACE space;
	unsigned times; /* larger by; 0 is 1 */
};

static int value(uint32_t x, uint32_t y, unsigned c)
{
	return 20 + (int)(c * 50) + (int)x / 2 + (int)y / 2;
}

static OPJ_SIZE_T sink(void *from, OPJ_SIZE_T len, void *user)
{
	struct bytes *b = user;

	b->data = realloc(b->data, b->len + len);
	memcpy(b->data + b->len, from, len);
	b->len += len;
	return len;
}

/* The JP2 writer goes back to fill in lengths; a memfd lets it. */
static OPJ_SIZE_T on_write(void *from, OPJ_SIZE_T len, void *user)
{
	return (OPJ_SIZE_T)write(*(int *)user, from, len);
}

static OPJ_OFF_T on_skip(OPJ_OFF_T n, void *user)
{
	return lseek(*(int *)user, n, SEEK_CUR) < 0 ? -1 : n;
}

static OPJ_BOOL on_seek(OPJ_OFF_T n, void *user)
{
	return lseek(*(int *)user, n, SEEK_SET) == n;
}

static opj_image_t *make_image(const struct spec *s)
{
	unsigned times = s->times ? s->times : 1;
	opj_image_cmptparm_t parms[4] = { 0 };
	opj_image_t *image;

	for (unsigned i = 0; i < s->components; i++) {
		unsigned d = s->subsampled && (i == 1 || i == 2) ? 2 : 1;

		parms[i].dx = parms[i].dy = d;
		parms[i].w = (W * times + d - 1) / d;
		parms[i].h = (H * times + d - 1) / d;
		parms[i].prec = s->precision;
		parms[i].sgnd = s->signed_samples;
	}
	image = opj_image_create(s->components, parms, s->space);
	assert_non_null(image);
	image->x1 = W * times;
	image->y1 = H * times;
	for (unsigned i = 0; i < s->components; i++) {
		opj_image_comp_t *c = &image->comps[i];
		int max = (1 << s->precision) - 1;

		for (uint32_t y = 0; y < c->h; y++)
			for (uint32_t x = 0; x < c->w; x++)
				c->data[y * c->w + x] =
					(value(x * c->dx / times, y * c->dy / times, i) * max + 127) /
						255 -
					(s->signed_samples ? 1 << (s->precision - 1) : 0);
		c->alpha = s->alpha && i == s->components - 1;
	}
	return image;
}

static struct bytes make_jp2(struct spec s)
{
	opj_image_t *image = make_image(&s);
	opj_codec_t *codec = opj_create_compress(s.bare ? OPJ_CODEC_J2K : OPJ_CODEC_JP2);
	opj_stream_t *stream = opj_stream_create(1 << 16, OPJ_FALSE);
	int fd = memfd_create("jp2", 0);
	struct bytes out = { 0 };
	opj_cparameters_t p;
	char buffer[4096];
	ssize_t n;

	opj_set_default_encoder_parameters(&p);
	p.tcp_numlayers = 1;
	p.cp_disto_alloc = 1;
	p.tcp_rates[0] = s.lossy ? 6 : 0;
	p.irreversible = s.lossy;
	p.numresolution = 4;
	if (s.tiled) {
		p.tile_size_on = OPJ_TRUE;
		p.cp_tdx = 40;
		p.cp_tdy = 40;
	}
	opj_stream_set_user_data(stream, &fd, NULL);
	opj_stream_set_write_function(stream, on_write);
	opj_stream_set_skip_function(stream, on_skip);
	opj_stream_set_seek_function(stream, on_seek);
	assert_true(opj_setup_encoder(codec, &p, image));
	assert_true(opj_start_compress(codec, image, stream));
	assert_true(opj_encode(codec, stream));
	assert_true(opj_end_compress(codec, stream));
	opj_stream_destroy(stream);
	opj_destroy_codec(codec);
	opj_image_destroy(image);
	lseek(fd, 0, SEEK_SET);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		sink(buffer, (OPJ_SIZE_T)n, &out);
	close(fd);
	return out;
}

static struct decoded decode_spec(struct spec s)
{
	struct bytes file = make_jp2(s);
	struct decoded d = decode_page(&jp2_decoder, file, 0);

	free(file.data);
	return d;
}

static int quantised(uint32_t x, uint32_t y, unsigned c, unsigned precision)
{
	int max = (1 << precision) - 1, v = (value(x, y, c) * max + 127) / 255;

	return (v * 255 + max / 2) / max;
}

static void test_grey(void **state)
{
	(void)state;
	for (unsigned precision = 1; precision <= 16; precision++)
		for (int i = 0; i < 4; i++) {
			struct decoded d = decode_spec((struct spec){
				.components = 1, .precision = precision, .signed_samples = i & 1,
				.bare = i & 2, .space = OPJ_CLRSPC_GRAY });

			assert_page(&d, W, H, 1);
			assert_true(d.page.native);
			for (uint32_t y = 0; y < H; y++)
				for (uint32_t x = 0; x < W; x++)
					assert_near(*pixel(&d, x, y), quantised(x, y, 0, precision),
						    0);
			decoded_release(&d);
		}
}

static void test_colour(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		struct decoded d = decode_spec((struct spec){
			.components = 3, .precision = i == 7 ? 12 : 8, .bare = i & 1, .lossy = i & 2,
			.tiled = i & 4, .space = OPJ_CLRSPC_SRGB });

		assert_page(&d, W, H, 3);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++)
				assert_rgb(&d, x, y, value(x, y, 0), value(x, y, 1), value(x, y, 2),
					   i & 2 ? 6 : 0);
		decoded_release(&d);
	}
}

static void test_alpha(void **state)
{
	(void)state;
	for (unsigned n = 2; n <= 4; n += 2) {
		struct decoded d = decode_spec((struct spec){
			.components = n, .precision = 8, .alpha = true,
			.space = n == 2 ? OPJ_CLRSPC_GRAY : OPJ_CLRSPC_SRGB });
		unsigned channels = n - 1;

		assert_page(&d, W, H, channels);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++) {
				int a = value(x, y, n - 1);

				for (unsigned c = 0; c < channels; c++)
					assert_near(pixel(&d, x, y)[c],
						    (value(x, y, c) * a + 255 * (255 - a) + 127) / 255,
						    0);
			}
		decoded_release(&d);
	}
}

static int clamped(double v)
{
	return v < 0 ? 0 : v > 255 ? 255 : (int)(v + 0.5);
}

/* sYCC said by the file, and guessed from the subsampling of a bare codestream. */
static void test_ycc(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct decoded d = decode_spec((struct spec){
			.components = 3, .precision = 8, .bare = i == 2, .subsampled = i > 0,
			.space = OPJ_CLRSPC_SYCC });

		assert_page(&d, W, H, 3);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++) {
				uint32_t cx = i ? x & ~1u : x, cy = i ? y & ~1u : y;
				double l = value(x, y, 0), b = value(cx, cy, 1) - 128,
				       r = value(cx, cy, 2) - 128;

				assert_rgb(&d, x, y, clamped(l + 1.402 * r),
					   clamped(l - 0.344136 * b - 0.714136 * r),
					   clamped(l + 1.772 * b), i ? 4 : 1);
			}
		decoded_release(&d);
	}
}

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* The colour box is the last of the header box: change what it says, or put boxes behind it. */
static struct bytes with_boxes(struct bytes file, uint32_t space, const void *boxes, size_t len)
{
	uint8_t *header = memmem(file.data, file.len, "jp2h", 4);
	uint8_t *colour = memmem(file.data, file.len, "colr", 4);
	size_t at = (size_t)(colour - file.data) + 11, old;
	struct bytes out = { malloc(file.len + len), file.len + len };

	old = (size_t)header[-4] << 24 | (size_t)header[-3] << 16 | (size_t)header[-2] << 8 |
	      header[-1];
	put32(header - 4, (uint32_t)(old + len));
	if (space)
		put32(colour + 7, space);
	memcpy(out.data, file.data, at);
	if (len)
		memcpy(out.data + at, boxes, len);
	memcpy(out.data + at + len, file.data + at, file.len - at);
	free(file.data);
	return out;
}

static void test_cmyk(void **state)
{
	struct bytes file = with_boxes(make_jp2((struct spec){ .components = 4, .precision = 8,
							       .space = OPJ_CLRSPC_SRGB }),
				       12, NULL, 0);
	struct decoded d = decode_page(&jp2_decoder, file, 0);

	(void)state;
	assert_page(&d, W, H, 3);
	for (uint32_t y = 0; y < H; y++)
		for (uint32_t x = 0; x < W; x++) {
			int k = 255 - value(x, y, 3);

			for (unsigned c = 0; c < 3; c++)
				assert_near(pixel(&d, x, y)[c], (255 - value(x, y, c)) * k / 255, 1);
		}
	decoded_release(&d);
	free(file.data);
}

/* 11811 / 1 * 10^0 a metre, both ways */
static const char resolution[] = "\0\0\0\x1ares \0\0\0\x12resc\x2e\x23\0\1\x2e\x23\0\1\0\0";

static void test_resolution(void **state)
{
	struct bytes file = with_boxes(make_jp2((struct spec){ .components = 1, .precision = 8,
							       .space = OPJ_CLRSPC_GRAY }),
				       0, resolution, sizeof(resolution) - 1);
	struct decoded d = decode_page(&jp2_decoder, file, 0);

	(void)state;
	assert_page(&d, W, H, 1);
	assert_true(d.page.dpi == 300);
	decoded_release(&d);
	free(file.data);
}

static void test_palette(void **state)
{
	/* pclr: 256 entries of 3 columns, 8 bits; cmap: component 0 through columns 0, 1, 2 */
	static uint8_t boxes[8 + 6 + 256 * 3 + 8 + 12] = "\0\0\3\x0epclr\1\0\3\7\7\7";
	struct bytes file;
	struct decoded d;

	(void)state;
	for (int i = 0; i < 256; i++) {
		boxes[14 + 3 * i] = (uint8_t)i;
		boxes[15 + 3 * i] = (uint8_t)(255 - i);
		boxes[16 + 3 * i] = 77;
	}
	memcpy(boxes + 782, "\0\0\0\x14" "cmap\0\0\1\0\0\0\1\1\0\0\1\2", 20);
	file = with_boxes(make_jp2((struct spec){ .components = 1, .precision = 8,
						  .space = OPJ_CLRSPC_GRAY }),
			  16, boxes, sizeof(boxes));
	d = decode_page(&jp2_decoder, file, 0);
	assert_page(&d, W, H, 3);
	for (uint32_t y = 0; y < H; y++)
		for (uint32_t x = 0; x < W; x++)
			assert_rgb(&d, x, y, value(x, y, 0), 255 - value(x, y, 0), 77, 0);
	decoded_release(&d);
	free(file.data);
}

static void test_limits(void **state)
{
	struct bytes file = make_jp2((struct spec){ .components = 3, .precision = 8, .bare = true,
						    .space = OPJ_CLRSPC_SRGB });
	struct decoded d;

	(void)state;
	put32(file.data + 8, 60000); /* Xsiz, Ysiz and the size of a tile */
	put32(file.data + 12, 60000);
	put32(file.data + 24, 60000);
	put32(file.data + 28, 60000);
	d = decode_page(&jp2_decoder, file, 0);
	assert_reason(&d, "limit:image-megapixels");
	/* Within the limits the format does not let us prove the lie; nothing may break. */
	for (int at = 8; at <= 28; at += at == 12 ? 12 : 4)
		put32(file.data + at, 1000);
	d = decode_page(&jp2_decoder, file, 0);
	assert_int_equal(d.page.width, 1000);
	decoded_release(&d);
	free(file.data);
}

/* No memory for all of it: a lower resolution of the file, or none that fits. */
static void test_reduced(void **state)
{
	struct bytes file = with_boxes(make_jp2((struct spec){ .components = 3, .precision = 8,
							       .space = OPJ_CLRSPC_SRGB,
							       .times = 4 }),
				       0, resolution, sizeof(resolution) - 1);
	struct pipeline p = test_pipeline();
	struct decoded d;

	(void)state;
	p.limits.memory_mebibytes = 1;
	d = decode_with(&jp2_decoder, file.data, file.len, 0, &p);
	assert_page(&d, 2 * W, 2 * H, 3);
	assert_true(d.page.dpi == 150);
	assert_false(d.page.native);
	for (uint32_t y = 0; y < 2 * H; y++)
		for (uint32_t x = 0; x < 2 * W; x++)
			assert_rgb(&d, x, y, value(x / 2, y / 2, 0), value(x / 2, y / 2, 1),
				   value(x / 2, y / 2, 2), 2);
	decoded_release(&d);
	p.limits.memory_mebibytes = 0;
	d = decode_with(&jp2_decoder, file.data, file.len, 0, &p);
	assert_reason(&d, "limit:memory-mebibytes");
	free(file.data);
}

static void test_truncated(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		struct bytes file = make_jp2((struct spec){ .components = 3, .precision = 8,
							    .bare = i & 1, .lossy = i & 2,
							    .tiled = i & 4,
							    .space = OPJ_CLRSPC_SRGB });

		check_truncated(&jp2_decoder, file, 0);
		free(file.data);
	}
}

static void test_mutated(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct bytes file = make_jp2((struct spec){
			.components = i & 1 ? 4 : 3, .precision = 8, .alpha = i & 1, .tiled = i & 2,
			.subsampled = i == 2,
			.space = i == 2 ? OPJ_CLRSPC_SYCC : OPJ_CLRSPC_SRGB });

		check_mutated(&jp2_decoder, file, 300 + (uint32_t)i, 200);
		free(file.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grey),
		cmocka_unit_test(test_colour),
		cmocka_unit_test(test_alpha),
		cmocka_unit_test(test_ycc),
		cmocka_unit_test(test_cmyk),
		cmocka_unit_test(test_resolution),
		cmocka_unit_test(test_palette),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_reduced),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_mutated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
