/* SPDX-License-Identifier: MIT
 *
 * What adapters add to a product on the GPU, against sums in fp64 over the same bf16 numbers: A's part within
 * its own rounding, then B's of what A gave within one rounding of the result; in the order of the adapters; and
 * each row the same bits whatever tile it is in.
 */
#include "cuda-device.h"

enum { ADAPTERS = 6, PLACES = 2, ROWS = 90, MARK = 0x4049 };

/* One adapter's part of one place, on the host. */
struct part {
	float *a, *b; /* [rank][in], [out][rank] */
};

struct addition {
	struct part part[CUDA_PARTS_MAX];
	struct cuda_addition there;
};

struct bench {
	size_t in, out;
	struct addition addition[ADAPTERS][PLACES];
	struct cuda_addition *places[ADAPTERS]; /* on the device */
	struct cuda_adaptation p;
	float *x, *y;
	uint16_t *x_there;
	/* Of each row; fewer than CUDA_ADAPTED_MAX end with ADAPTERS. */
	unsigned adapters[ROWS][CUDA_ADAPTED_MAX];
};

/* A third each; some adapters leave some of them as they are. */
static struct addition make_addition(size_t in, size_t out, unsigned rank, unsigned which)
{
	size_t third = out / 3 / 8 * 8, first[] = {0, third, 2 * third}, size[] = {third, third, out - 2 * third};
	struct addition l = {.there = {.rank = rank, .scale = 0.25f + random_float() / 8}};
	float *a;

	for (unsigned i = 0; i < CUDA_PARTS_MAX; i++) {
		if (!(which >> i & 1) || !size[i])
			continue;
		l.there.first[l.there.parts] = (uint32_t)first[i];
		l.there.out[l.there.parts] = (uint32_t)size[i];
		l.part[l.there.parts].b = random_floats(size[i] * rank);
		l.there.b[l.there.parts] = device_bf16(l.part[l.there.parts].b, size[i] * rank);
		l.there.parts++;
	}
	a = random_floats(l.there.parts * rank * in + 1);
	l.there.a = device_bf16(a, l.there.parts * rank * in);
	for (unsigned i = 0; i < l.there.parts; i++)
		l.part[i].a = memcpy(xmalloc(rank * in * sizeof(float)), a + i * rank * in,
				     rank * in * sizeof(float));
	free(a);
	return l;
}

static void free_addition(struct addition *l)
{
	for (unsigned i = 0; i < l->there.parts; i++) {
		free(l->part[i].a), free(l->part[i].b);
		device_free(l->there.b[i]);
	}
	device_free(l->there.a);
}

/* Place 1 is the one that is computed. Every adapter does another thing there, the last nothing. */
static struct bench make_bench(size_t in, size_t out)
{
	static const unsigned ranks[ADAPTERS] = {8, 16, 24, 40, 64, 8}, which[ADAPTERS] = {7, 5, 2, 7, 4, 0};
	struct bench b = {.in = in, .out = out};

	for (unsigned k = 0; k < ADAPTERS; k++) {
		struct cuda_addition there[PLACES];

		for (unsigned i = 0; i < PLACES; i++) {
			b.addition[k][i] = make_addition(in, out, ranks[k], i ? which[k] : 1);
			there[i] = b.addition[k][i].there;
		}
		b.places[k] = device_copy(there, sizeof(there));
		b.p.width = b.p.width < there[1].parts * there[1].rank ? there[1].parts * there[1].rank : b.p.width;
	}
	b.x = random_floats(ROWS * in);
	b.y = random_floats(ROWS * out);
	b.x_there = device_bf16(b.x, ROWS * in);
	for (unsigned i = 0; i < ROWS; i++) {
		unsigned n = i % (CUDA_ADAPTED_MAX + 1), start = (unsigned)(random_bits() % 3);

		/* Whole tiles of the same ones, and many others. */
		if (i >= 40 && i < 75)
			n = 2, start = 0;
		for (unsigned k = 0; k < CUDA_ADAPTED_MAX; k++)
			b.adapters[i][k] = k < n ? (start + k * 5) % ADAPTERS : ADAPTERS;
	}
	b.p.place = 1;
	b.p.most = CUDA_ADAPTED_MAX;
	b.p.in = in;
	b.p.out = out;
	b.p.x = b.x_there;
	return b;
}

static void free_bench(struct bench *b)
{
	for (unsigned k = 0; k < ADAPTERS; k++) {
		for (unsigned i = 0; i < PLACES; i++)
			free_addition(&b->addition[k][i]);
		device_free(b->places[k]);
	}
	free(b->x), free(b->y);
	device_free(b->x_there);
}

static struct cuda_adapted *find_tile(struct cuda_adapted *tiles, size_t *count, const struct bench *b,
				      const unsigned *adapters)
{
	struct cuda_adapted want = {.adapters = 0};

	for (; want.adapters < CUDA_ADAPTED_MAX && adapters[want.adapters] < ADAPTERS; want.adapters++)
		want.adapter[want.adapters] = b->places[adapters[want.adapters]];
	for (size_t i = 0; i < *count; i++)
		if (tiles[i].rows < CUDA_ADAPTED_ROWS &&
		    !memcmp(tiles[i].adapter, want.adapter, sizeof(want.adapter)))
			return &tiles[i];
	tiles[*count] = want;
	return &tiles[(*count)++];
}

/* y and low of some rows, [ROWS][out] and [ROWS][most][width]; what nobody writes of them is MARK. */
static void run(struct bench *b, const unsigned *rows, size_t n, uint16_t **y, uint16_t **low)
{
	size_t count = 0, lows = ROWS * b->p.most * b->p.width;
	struct cuda_adapted tiles[ROWS + 1] = {{.rows = 0}}, *there;

	/* One of them only fills up. */
	for (size_t i = 0; i < n; i++) {
		struct cuda_adapted *tile;

		if (b->adapters[rows[i]][0] == ADAPTERS)
			continue;
		tile = find_tile(tiles, &count, b, b->adapters[rows[i]]);
		tile->row[tile->rows++] = rows[i];
	}
	memset(&tiles[count++], 0, sizeof(*tiles));
	there = device_copy(tiles, count * sizeof(*tiles));
	*low = xmalloc(lows * sizeof(**low));
	for (size_t i = 0; i < lows; i++)
		(*low)[i] = MARK;
	b->p.tiles = there;
	b->p.low = device_copy(*low, lows * sizeof(**low));
	b->p.y = device_bf16(b->y, ROWS * b->out);
	assert_int_equal(cuda_adapt(NULL, &b->p, count), 0);
	free(*low);
	*y = host_copy(b->p.y, ROWS * b->out * sizeof(**y));
	*low = host_copy(b->p.low, lows * sizeof(**low));
	device_free(there), device_free(b->p.low), device_free(b->p.y);
}

static void check_low(const struct bench *b, const struct addition *l, const float *x, const uint16_t *low)
{
	for (size_t i = 0; i < l->there.parts * l->there.rank; i++) {
		const float *a = l->part[i / l->there.rank].a + i % l->there.rank * b->in;
		double sum = 0, size = 0;
		float got = bf16_to_f32(low[i]);

		for (size_t k = 0; k < b->in; k++) {
			sum += (double)x[k] * a[k];
			size += fabs((double)x[k] * a[k]);
		}
		sum *= l->there.scale;
		if (!(fabs(got - sum) <= 0x1p-8 * fabs(sum) + 1e-6 * size))
			fail_msg("%zu x %zu: %zu of A x: %g, not %g", b->out, b->in, i, got, sum);
	}
	for (size_t i = l->there.parts * l->there.rank; i < b->p.width; i++)
		assert_int_equal(low[i], MARK);
}

static double high(const struct addition *l, const uint16_t *low, size_t column, double *size)
{
	unsigned rank = l->there.rank;
	double sum = 0;

	for (unsigned i = 0; i < l->there.parts; i++) {
		size_t at = column - l->there.first[i];

		if (column < l->there.first[i] || at >= l->there.out[i])
			continue;
		for (unsigned k = 0; k < rank; k++) {
			double part = (double)bf16_to_f32(low[i * rank + k]) * l->part[i].b[at * rank + k];

			sum += part;
			*size += fabs(part);
		}
	}
	return sum;
}

static void check_row(const struct bench *b, size_t i, const uint16_t *y, const uint16_t *low)
{
	const unsigned *adapters = b->adapters[i];

	for (unsigned k = 0; k < CUDA_ADAPTED_MAX && adapters[k] < ADAPTERS; k++)
		check_low(b, &b->addition[adapters[k]][1], b->x + i * b->in, low + k * b->p.width);
	for (size_t c = 0; c < b->out; c++) {
		float got = bf16_to_f32(y[c]), before = b->y[i * b->out + c];
		double sum = before, size = 0;

		for (unsigned k = 0; k < CUDA_ADAPTED_MAX && adapters[k] < ADAPTERS; k++)
			sum += high(&b->addition[adapters[k]][1], low + k * b->p.width, c, &size);
		if (size == 0 ? got != before : !(fabs(got - sum) <= 0x1p-8 * fabs(sum) + 1e-6 * size))
			fail_msg("%zu x %zu: row %zu, column %zu: %g, not %g", b->out, b->in, i, c, got, sum);
	}
}

static void check(size_t in, size_t out)
{
	struct bench b = make_bench(in, out);
	unsigned all[ROWS], some[ROWS];
	uint16_t *y, *low, *y_some, *low_some;

	for (unsigned i = 0; i < ROWS; i++)
		all[i] = i;
	run(&b, all, ROWS, &y, &low);
	for (size_t i = 0; i < ROWS; i++)
		check_row(&b, i, y + i * out, low + i * b.p.most * b.p.width);
	/* A few, beside others and in another order. */
	for (size_t first = 0, n; first < ROWS; first += n) {
		n = 1 + random_bits() % 30;
		n = n < ROWS - first ? n : ROWS - first;
		for (size_t i = 0; i < n; i++)
			some[i] = (unsigned)(first + n - 1 - i);
		run(&b, some, n, &y_some, &low_some);
		assert_memory_equal(y_some + first * out, y + first * out, n * out * sizeof(*y));
		for (size_t i = 0; i < ROWS * out; i++)
			if (i / out < first || i / out >= first + n)
				assert_int_equal(y_some[i], bf16_from_f32(b.y[i]));
		free(y_some), free(low_some);
	}
	free(y), free(low);
	free_bench(&b);
}

static void test_shapes(void **state)
{
	(void)state;
	check(8, 8);
	check(40, 24);
	check(264, 136);
	check(1024, 264);
	check(72, 2048);
}

/* Numbers so large that an order shows: of 2^25, 1 and -2^25 the 1 is lost, or is not. */
static void test_order(void **state)
{
	static const float parts[] = {0x1p25f, 1, -0x1p25f};
	static const unsigned orders[][3] = {{0, 1, 2}, {0, 2, 1}, {2, 0, 1}};
	static const float wanted[] = {0, 1, 1};
	float ones[64] = {0}, x[8] = {1};
	uint16_t *x_there = device_bf16(x, 8), *a, *y = device_alloc(8 * 2), *low = device_alloc(3 * 8 * 2);
	struct cuda_addition l[3], *there[3];

	(void)state;
	ones[0] = 1;
	a = device_bf16(ones, 64);
	for (unsigned i = 0; i < 3; i++) {
		float b[64] = {0};

		for (unsigned c = 0; c < 8; c++)
			b[c * 8] = parts[i];
		l[i] = (struct cuda_addition){.a = a, .b = {device_bf16(b, 64)}, .out = {8}, .parts = 1, .rank = 8,
					      .scale = 1};
		there[i] = device_copy(&l[i], sizeof(l[i]));
	}
	for (unsigned o = 0; o < 3; o++) {
		struct cuda_adapted tile = {.adapters = 3, .rows = 1}, *tiles;
		struct cuda_adaptation p = {.most = 3, .in = 8, .out = 8, .width = 8, .x = x_there, .low = low, .y = y};
		float zeros[8] = {0}, *got;

		for (unsigned k = 0; k < 3; k++)
			tile.adapter[k] = there[orders[o][k]];
		p.tiles = tiles = device_copy(&tile, sizeof(tile));
		device_put(y, zeros, 8 * 2);
		assert_int_equal(cuda_adapt(NULL, &p, 1), 0);
		got = host_floats(y, 8);
		for (unsigned c = 0; c < 8; c++)
			assert_true(got[c] == wanted[o]);
		free(got);
		device_free(tiles);
	}
	for (unsigned i = 0; i < 3; i++)
		device_free(l[i].b[0]), device_free(there[i]);
	device_free(x_there), device_free(a), device_free(y), device_free(low);
}

static void test_refused(void **state)
{
	static const struct cuda_adaptation odd[] = {
		{.most = 1, .in = 12, .out = 8, .width = 8},
		{.most = 1, .in = 8, .out = 12, .width = 8},
		{.most = 1, .in = 8, .out = 8, .width = 4},
		{.most = CUDA_ADAPTED_MAX + 1, .in = 8, .out = 8, .width = 8},
	};
	struct cuda_adaptation none = {.most = 1, .in = 8, .out = 8};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		assert_int_equal(cuda_adapt(NULL, &odd[i], 1), CUDA_INVALID);
	assert_int_equal(cuda_adapt(NULL, &none, 1), 0);
	none.width = 8;
	assert_int_equal(cuda_adapt(NULL, &none, 0), 0);
}

static const struct CMUnitTest tests[] = { cmocka_unit_test(test_shapes), cmocka_unit_test(test_order),
					   cmocka_unit_test(test_refused) };

DEVICE_MAIN(tests, NULL, NULL)
