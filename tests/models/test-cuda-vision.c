/* SPDX-License-Identifier: MIT
 *
 * The GPU's part of a vision tower against the CPU's: positions and rotation within rounding, attention within
 * segments within 2^-7 of values below 1 (rounding of the weights and of the result); and a token the same bits
 * in tiles of both sizes and whatever segments are beside its own.
 */
#include "cuda-device.h"

#include "kernels/attention.h"
#include "kernels/ops.h"

static struct pool *pool;

/* Of page 1, 6 x 4 patches, and page 2, one patch of 1 x 1. */
enum { PATCHES = 25 };

static struct cuda_patch *patches_make(struct cuda_patch *patches)
{
	for (uint16_t i = 0; i < PATCHES - 1; i++)
		patches[i] = (struct cuda_patch){ i / 4, i % 4, 6, 4 };
	patches[PATCHES - 1] = (struct cuda_patch){ 0, 0, 1, 1 };
	return device_copy(patches, PATCHES * sizeof(*patches));
}

/* A coordinate on a grid of `side` whose corners are the page's, and what is there between four numbers. */
static double between(const float *table, unsigned side, size_t width, size_t column, const struct cuda_patch *p)
{
	double y = p->rows > 1 ? (double)p->row * (side - 1) / (p->rows - 1) : 0;
	double x = p->columns > 1 ? (double)p->column * (side - 1) / (p->columns - 1) : 0;
	unsigned top = (unsigned)floor(y + 1e-6), left = (unsigned)floor(x + 1e-6);
	double down = y - top, across = x - left, sum = 0;

	for (unsigned i = 0; i < 4; i++) {
		double weight = (i / 2 ? down : 1 - down) * (i % 2 ? across : 1 - across);
		size_t at = ((size_t)min_u64(top + i / 2, side - 1) * side + min_u64(left + i % 2, side - 1)) * width;

		sum += weight * (double)table[at + column];
	}
	return sum;
}

static void test_patches(void **state)
{
	enum { SIDE = 7 };
	static const size_t widths[] = { 8, 72, 1152 };
	struct cuda_patch patches[PATCHES], *on_device = patches_make(patches);

	(void)state;
	for (size_t w = 0; w < 2 * ARRAY_SIZE(widths); w++) {
		size_t n = widths[w / 2];
		bool stretched = w % 2;
		float *embed = random_floats(PATCHES * n), *bias = random_floats(n), *table = random_floats(SIDE * SIDE * n);
		uint16_t *e = device_bf16(embed, PATCHES * n), *b = device_bf16(bias, n);
		uint16_t *t = device_bf16(table, SIDE * SIDE * n);
		float *x = device_alloc(PATCHES * n * 4), *got, *wanted = xcalloc(PATCHES * n, 4);

		for (size_t i = 0; i < PATCHES * n; i++)
			wanted[i] = embed[i] + bias[i % n] +
				    (stretched ? (float)between(table, SIDE, n, i % n, &patches[i / n]) : 0);
		assert_int_equal(cuda_patches(NULL, e, b, stretched ? t : NULL, SIDE, on_device, x, PATCHES, n), 0);
		got = host_copy(x, PATCHES * n * 4);
		check_close("patches", got, wanted, PATCHES * n, 0, 2e-6);
		free(embed), free(bias), free(table), free(got), free(wanted);
		device_free(e), device_free(b), device_free(t), device_free(x);
	}
	device_free(on_device);
}

static void test_rotate(void **state)
{
	static const unsigned dims[] = { 64, 72, 80, 8 };
	enum { HEADS = 3 };
	struct cuda_patch patches[PATCHES], *on_device = patches_make(patches);

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(dims); i++) {
		unsigned dim = dims[i / 2], quarter = dim / 4, half = dim / 2;
		size_t width = 3 * HEADS * dim;
		float *x = random_floats(PATCHES * width), *bias = random_floats(width), *inverse = random_floats(quarter);
		float *cosine = xcalloc(PATCHES * half, 4), *sine = xcalloc(PATCHES * half, 4), *got;
		float *c = device_alloc(PATCHES * half * 4), *s = device_alloc(PATCHES * half * 4);
		float *inverse_on_device = device_copy(inverse, quarter * 4);
		uint16_t *xd = device_bf16(x, PATCHES * width), *b = device_bf16(bias, width);

		for (size_t k = 0; k < PATCHES * half; k++) {
			const struct cuda_patch *p = &patches[k / half];
			float angle = (float)(k % half < quarter ? p->row : p->column) * inverse[k % half % quarter];

			cosine[k] = cosf(angle);
			sine[k] = sinf(angle);
		}
		assert_int_equal(cuda_vision_angles(NULL, on_device, PATCHES, inverse_on_device, quarter, c, s), 0);
		got = host_copy(c, PATCHES * half * 4);
		check_close("cosine", got, cosine, PATCHES * half, 0, 2e-7);
		free(got);
		got = host_copy(s, PATCHES * half * 4);
		check_close("sine", got, sine, PATCHES * half, 0, 2e-7);
		free(got);
		for (size_t k = 0; i % 2 && k < PATCHES * width; k++)
			x[k] += bias[k % width];
		rope(pool, x, cosine, sine, PATCHES, width, 2 * HEADS, dim, dim);
		assert_int_equal(cuda_vision_rotate(NULL, xd, i % 2 ? b : NULL, c, s, PATCHES, HEADS, dim), 0);
		got = host_floats(xd, PATCHES * width);
		check_close("rotate", got, x, PATCHES * width, 0x1p-8, 1e-6);
		free(x), free(bias), free(inverse), free(cosine), free(sine), free(got);
		device_free(c), device_free(s), device_free(inverse_on_device), device_free(xd), device_free(b);
	}
	device_free(on_device);
}

static void attend(const uint16_t *qkv, uint16_t *out, unsigned heads, unsigned dim, const uint32_t *segments,
		   size_t count, unsigned tile_rows)
{
	size_t most = segments[count] / tile_rows + count, n;
	struct cuda_tile *tiles = xcalloc(most, sizeof(*tiles)), *on_device;

	n = cuda_segment_tiles(segments, count, tile_rows, tiles);
	assert_true(n <= most);
	on_device = device_copy(tiles, n * sizeof(*tiles));
	assert_int_equal(cuda_attention_segments(NULL, qkv, out, heads, dim, 1 / sqrtf((float)dim), on_device, n,
						 tile_rows), 0);
	device_free(on_device);
	free(tiles);
}

static void check_segments(unsigned heads, unsigned dim, const uint32_t *segments, size_t count)
{
	size_t tokens = segments[count], width = (size_t)heads * dim, last = segments[count - 1];
	uint32_t only[2] = { 0, (uint32_t)(tokens - last) };
	float *qkv = random_floats(tokens * 3 * width), *wanted = xcalloc(tokens * width, 4), *got;
	size_t *offsets = xcalloc(count + 1, sizeof(*offsets));
	uint16_t *x, *out = device_alloc(tokens * width * 2), *again = device_alloc(tokens * width * 2);
	void *first, *second;
	struct err err;

	for (size_t i = 0; i < tokens * 3 * width; i++)
		qkv[i] *= i / width % 3 == 2 ? 1 : 3;
	x = device_bf16(qkv, tokens * 3 * width);
	for (size_t i = 0; i <= count; i++)
		offsets[i] = segments[i];
	assert_int_equal(attention_segments(pool, heads, dim, NUMBER_BF16, 1 / sqrtf((float)dim), qkv, qkv + width,
					    qkv + 2 * width, 3 * width, wanted, width, offsets, count, &err), RC_OK);
	attend(x, out, heads, dim, segments, count, CUDA_SEGMENT_TILE);
	got = host_floats(out, tokens * width);
	check_close("segments", got, wanted, tokens * width, 0x1p-7, 0x1p-8);
	first = host_copy(out, tokens * width * 2);
	attend(x, again, heads, dim, segments, count, CUDA_SEGMENT_TILE_SHORT);
	second = host_copy(again, tokens * width * 2);
	assert_memory_equal(first, second, tokens * width * 2);
	free(second);
	/* The last segment alone. */
	attend(x + last * 3 * width, again, heads, dim, only, 1, CUDA_SEGMENT_TILE);
	second = host_copy(again, only[1] * width * 2);
	assert_memory_equal((char *)first + last * width * 2, second, only[1] * width * 2);
	free(qkv), free(wanted), free(got), free(offsets), free(first), free(second);
	device_free(x), device_free(out), device_free(again);
}

static void test_segments(void **state)
{
	static const uint32_t windows[] = { 0, 64, 128, 128, 144, 208, 209, 257 }, one[] = { 0, 195 }, least[] = { 0, 1 };
	static const unsigned dims[] = { 64, 72, 80, 128, 16 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(dims); i++) {
		check_segments(2, dims[i], windows, ARRAY_SIZE(windows) - 1);
		check_segments(1, dims[i], one, 1);
		check_segments(3, dims[i], least, 1);
	}
	assert_int_equal(cuda_attention_segments(NULL, NULL, NULL, 1, 60, 1, NULL, 1, CUDA_SEGMENT_TILE), CUDA_INVALID);
	assert_int_equal(cuda_attention_segments(NULL, NULL, NULL, 1, 64, 1, NULL, 1, 96), CUDA_INVALID);
	assert_int_equal(cuda_attention_segments(NULL, NULL, NULL, 1, 136, 1, NULL, 1, CUDA_SEGMENT_TILE), CUDA_INVALID);
}

#ifndef CUDA_DEVICE
/* A segment of 50 tokens where there are *arg. */
static void attend_50(void *arg)
{
	static const uint32_t segments[] = { 0, 50 };
	uint16_t *qkv = device_alloc(*(size_t *)arg * 3 * 64 * 2), *out = device_alloc(50 * 64 * 2);

	attend(qkv, out, 1, 64, segments, 1, CUDA_SEGMENT_TILE);
}

static void test_out_of_range(void **state)
{
	size_t tokens = 50;

	(void)state;
	assert_int_equal(status_of(attend_50, &tokens), 0);
	tokens--;
	assert_int_not_equal(status_of(attend_50, &tokens), 0);
}
#endif

static int start(void **state)
{
	(void)state;
	pool = test_pool(1);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	pool_close(pool);
	return 0;
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_patches), cmocka_unit_test(test_rotate), cmocka_unit_test(test_segments),
#ifndef CUDA_DEVICE
	cmocka_unit_test(test_out_of_range),
#endif
};

DEVICE_MAIN(tests, start, stop)
