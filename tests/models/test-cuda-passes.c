/* SPDX-License-Identifier: MIT
 *
 * Pages that go through the tower in one pass: each gives the bits that it gives alone, in any company and at any
 * place in it, with windows (Qwen2.5-VL) and deepstack (Qwen3-VL); and a pass takes as many as it should.
 */
#include "cuda-device.h"

#include "model.h"

/* What a pass holds: CUDA_PATCHES of cuda/device.h. */
enum { MOST = 16384, PAGES = 8 };

/* In tokens: odd ones, a single one, less than a window and several of them, long and thin. */
static const unsigned sizes[PAGES][2] = {{3, 5}, {1, 1}, {9, 4}, {1, 7}, {5, 3}, {2, 2}, {13, 1}, {5, 6}};

struct look_page {
	unsigned rows, columns; /* patches */
	void *packed;
	struct features alone, beside;
};

static struct look_page page_make(const struct model *m, unsigned down, unsigned across)
{
	const struct vision_config *v = &m->config.vision;
	struct look_page p = {.rows = down * v->merge, .columns = across * v->merge};
	size_t n = (size_t)p.rows * p.columns * 3 * v->temporal * v->patch * v->patch;

	p.packed = m->compute->calls->pack(m->compute, random_floats(n), p.rows, p.columns);
	return p;
}

static struct view view_of(struct look_page *p, struct features *to)
{
	return (struct view){p->packed, p->rows, p->columns, to};
}

static void page_free(const struct model *m, struct look_page *p)
{
	m->compute->calls->forget(m->compute, &p->alone);
	free(p->packed);
}

static void check_same(const struct model *m, const struct look_page *p)
{
	const struct vision_config *v = &m->config.vision;
	size_t size = (size_t)p->rows * p->columns / v->merge / v->merge * v->out * sizeof(uint16_t);

	assert_int_equal(p->beside.ticket, 0);
	assert_memory_equal(p->beside.embeddings, p->alone.embeddings, size);
	for (unsigned d = 0; d < v->deepstacks; d++)
		assert_memory_equal(p->beside.deepstack[d], p->alone.deepstack[d], size);
}

/* Pages first, first + step, ... of all, in one pass. */
static void check_company(const struct model *m, struct look_page *pages, unsigned first, unsigned step, unsigned count)
{
	struct compute *c = m->compute;
	struct view views[PAGES] = {{0}};
	struct err err;

	for (unsigned i = 0; i < count; i++) {
		struct look_page *p = &pages[(first + i * step) % PAGES];

		views[i] = view_of(p, &p->beside);
	}
	assert_int_equal(c->calls->look(c, views, count, &err), count);
	for (unsigned i = count; i--;)
		assert_true(c->calls->seen(c, views[i].features, true));
	for (unsigned i = 0; i < count; i++) {
		struct look_page *p = &pages[(first + i * step) % PAGES];

		check_same(m, p);
		c->calls->forget(c, &p->beside);
	}
}

static void open_model(struct model *m, const char *folder)
{
	struct compute_options options = {.weights = NUMBER_BF16, .sequences = 1, .cache_size = 1 << 20};
	struct err err;

	if (model_open(m, folder, compute_open_cuda, &options, NULL, &err) != RC_OK)
		fail_msg("%s", err.text);
}

static void test_same_in_company(void **state)
{
	struct look_page pages[PAGES];
	struct model m;
	struct err err;

	open_model(&m, *state);
	for (unsigned k = 0; k < PAGES; k++) {
		struct look_page *p = &pages[k];
		struct view view;

		*p = page_make(&m, sizes[k][0], sizes[k][1]);
		view = view_of(p, &p->alone);
		assert_int_equal(m.compute->calls->look(m.compute, &view, 1, &err), 1);
		assert_true(m.compute->calls->seen(m.compute, &p->alone, true));
	}
	check_company(&m, pages, 0, 1, PAGES);
	check_company(&m, pages, 5, 3, PAGES - 2);
	check_company(&m, pages, 7, PAGES - 1, 5); /* backwards */
	check_company(&m, pages, 6, 4, 2);
	for (unsigned k = 0; k < PAGES; k++)
		page_free(&m, &pages[k]);
	model_close(&m);
}

/* How many of `count` pages a pass takes; all are forgotten. */
static size_t taken(const struct model *m, struct look_page *const *pages, size_t count, struct err *err)
{
	struct compute *c = m->compute;
	struct view *views = xcalloc(count, sizeof(*views));
	size_t n;

	for (size_t i = 0; i < count; i++)
		views[i] = view_of(pages[i], xcalloc(1, sizeof(struct features)));
	n = c->calls->look(c, views, count, err);
	for (size_t i = 0; i < count; i++) {
		if (i < n)
			c->calls->forget(c, views[i].features);
		free(views[i].features);
	}
	free(views);
	return n;
}

static void test_as_many_as_fit(void **state)
{
	enum { SMALL = 64, COUNT = MOST / SMALL + 2 };
	struct look_page small, large, *pages[COUNT];
	struct model m;
	struct err err;

	open_model(&m, *state);
	small = page_make(&m, 4, SMALL / 4 / 4); /* a token is four patches */
	large = page_make(&m, 1, MOST / 4 + 1);
	for (size_t i = 0; i < COUNT; i++)
		pages[i] = &small;
	assert_int_equal(taken(&m, pages, COUNT, &err), COUNT - 2);

	/* One that is too large ends a pass, and is refused when it comes first. */
	pages[2] = &large;
	assert_int_equal(taken(&m, pages, COUNT, &err), 2);
	pages[0] = &large;
	assert_int_equal(taken(&m, pages, COUNT, &err), 0);
	assert_string_equal(err.reason, "memory");
	assert_non_null(strstr(err.text, "16388 patches: there is room for 16384"));
	pages[0] = &small;
	assert_int_equal(taken(&m, pages, COUNT, &err), 2);
	free(small.packed), free(large.packed);
	model_close(&m);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_prestate(test_same_in_company, (char *)"tests/golden/models/qwen2.5-vl"),
	cmocka_unit_test_prestate(test_same_in_company, (char *)"tests/golden/models/qwen3-vl"),
	cmocka_unit_test_prestate(test_as_many_as_fit, (char *)"tests/golden/models/qwen3-vl-moe-awq"),
};

DEVICE_MAIN(tests, NULL, NULL)
