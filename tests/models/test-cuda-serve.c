/* SPDX-License-Identifier: MIT
 *
 * cloister-model on a GPU: pages that come together go through the tower together, those that are taken in one by
 * one go alone, and the answers are the same, of what is wrong with some of them as well.
 */
#include "cuda-device.h"

#include "serve/eyes.h"
#include "serve/serve.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define MODEL "samples/model"

enum { REQUESTS = 12, MISSING = 3, TEXT = 5, REFUSED = 8 };

static char folder[] = "/tmp/cloister-pages-XXXXXX";

/* What the tower was asked for: calls go through here. */
static const struct compute_calls *device;
static unsigned passes, pages, most, refused;

static size_t look(struct compute *c, const struct view *views, size_t count, struct err *err)
{
	size_t n = 0;

	/* There is no room for the page that has a single row of tokens. */
	if (views[0].rows == 2) {
		refused++;
		err_set(err, RC_FAILED, "memory", "no room");
		return 0;
	}
	while (n < count && views[n].rows != 2)
		n++;
	n = device->look(c, views, n, err);
	passes++;
	pages += (unsigned)n;
	most = (unsigned)max_u64(most, n);
	return n;
}

static unsigned width_of(int i)
{
	return 64 + 16 * (unsigned)(i * 5 % 7);
}

static unsigned height_of(int i)
{
	return i == REFUSED ? 16 : 32 + 16 * (unsigned)(i % 3);
}

static void write_pages(void)
{
	for (int i = 0; i < REQUESTS; i++) {
		char *name = xasprintf("%s/%d.pnm", folder, i);
		FILE *f = fopen(name, "wb");
		unsigned width = width_of(i), height = height_of(i);

		assert_non_null(f);
		fprintf(f, "P5\n%u %u\n255\n", width, height);
		for (unsigned k = 0; k < width * height; k++)
			fputc((int)(random_bits() % 256), f);
		fclose(f);
		free(name);
	}
}

static void remove_pages(void)
{
	for (int i = 0; i < REQUESTS; i++) {
		char *name = xasprintf("%s/%d.pnm", folder, i);

		unlink(name);
		free(name);
	}
	rmdir(folder);
}

static void write_requests(FILE *to)
{
	for (int i = 0; i < REQUESTS; i++)
		fprintf(to,
			"{\"id\": %d, \"%s\": \"%d.pnm\", \"width\": %u, \"height\": %u, \"prompt\": \"Read the text.\", "
			"\"params\": {\"tokens\": %d, \"retries\": 0}}\n",
			i, i == TEXT ? "text" : "page", i == MISSING ? 77 : i, width_of(i), height_of(i), 12 + 3 * i % 7);
}

static int redirect(FILE *f, int to)
{
	int before = dup(to);

	fflush(NULL);
	rewind(f);
	assert_true(before >= 0 && dup2(fileno(f), to) == to);
	return before;
}

static void restore(int before, int to)
{
	fflush(NULL);
	assert_true(dup2(before, to) == to);
	close(before);
}

static void open_server(struct server *s, unsigned eyes)
{
	struct compute_options device_options = {.weights = NUMBER_BF16, .sequences = 3, .cache_size = 4 << 20};
	struct engine_options options = {.sequences = 3};
	static struct compute_calls calls;
	struct err err;

	*s = (struct server){.folder = MODEL, .page_folder = folder, .sequences = 3};
	s->pages = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (pool_open(&s->pool, 1, &err) != RC_OK ||
	    model_open(&s->model, MODEL, compute_open_cuda, &device_options, s->pool, &err) != RC_OK ||
	    tokenizer_open(&s->tokenizer, MODEL, &err) != RC_OK ||
	    chat_open(&s->chat, MODEL, &s->model.config, s->tokenizer, &err) != RC_OK)
		fail_msg("%s", err.text);
	options.vocab = (unsigned)tokenizer_size(s->tokenizer);
	if (engine_open(&s->engine, &s->model, &options, &err) != RC_OK ||
	    eyes_open(&s->eyes, s, eyes, &err) != RC_OK)
		fail_msg("%s", err.text);
	s->cache_tokens = engine_load(s->engine).blocks * KV_PAGE;
	device = s->model.compute->calls;
	calls = *device;
	calls.look = look;
	s->model.compute->calls = &calls;
	passes = pages = most = refused = 0;
}

static void close_server(struct server *s)
{
	eyes_close(s->eyes);
	engine_close(s->engine);
	chat_release(&s->chat);
	tokenizer_free(s->tokenizer);
	model_close(&s->model);
	pool_close(s->pool);
	close(s->pages);
}

/* Answers by their ids, without what differs from run to run. */
static void serve_all(unsigned eyes, json_t *answers[REQUESTS])
{
	FILE *in = tmpfile(), *out = tmpfile();
	struct server s;
	int before[2], code;
	char *line = NULL;
	size_t size = 0;

	open_server(&s, eyes);
	write_requests(in);
	before[0] = redirect(in, STDIN_FILENO);
	before[1] = redirect(out, STDOUT_FILENO);
	code = serve(&s);
	restore(before[0], STDIN_FILENO);
	restore(before[1], STDOUT_FILENO);
	close_server(&s);
	assert_int_equal(code, 0);
	rewind(out);
	while (getline(&line, &size, out) > 0) {
		json_t *answer = json_loads(line, 0, NULL);
		json_int_t id = json_integer_value(json_object_get(answer, "id"));

		assert_in_range(id, 0, REQUESTS - 1);
		assert_null(answers[id]);
		json_object_del(answer, "ms");
		answers[id] = answer;
	}
	free(line);
	fclose(in);
	fclose(out);
}

static void test_company_changes_nothing(void **state)
{
	json_t *alone[REQUESTS] = {NULL}, *beside[REQUESTS] = {NULL};

	(void)state;
	assert_non_null(mkdtemp(folder));
	write_pages();
	serve_all(0, alone);
	assert_int_equal(passes, REQUESTS - 3);
	assert_int_equal(refused, 1);
	assert_int_equal(most, 1);
	serve_all(4, beside);
	assert_int_equal(pages, REQUESTS - 3);
	assert_int_equal(refused, 1);
	print_message("# %u pages in %u passes, %u in the largest\n", pages, passes, most);
	assert_true(most > 1 && passes < pages);
	for (int i = 0; i < REQUESTS; i++) {
		const char *status = json_string_value(json_object_get(alone[i], "status"));
		bool wrong = i == MISSING || i == REFUSED;

		assert_non_null(status);
		assert_string_equal(status, wrong ? "error" : "ok");
		if (!json_equal(alone[i], beside[i]))
			fail_msg("request %d: %s, and alone %s", i, json_dumps(beside[i], JSON_SORT_KEYS),
				 json_dumps(alone[i], JSON_SORT_KEYS));
		json_decref(alone[i]);
		json_decref(beside[i]);
	}
	remove_pages();
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_company_changes_nothing)};

DEVICE_MAIN(tests, NULL, NULL)
