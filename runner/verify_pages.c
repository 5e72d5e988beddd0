/* SPDX-License-Identifier: MIT
 *
 * A page of which the text is known, read by the recogniser of every pipeline there is.
 *
 * The page (testpage.h) takes the way of any page: through the
 * scratch folder and the pool, to a recogniser behind its sandbox.  Letters and digits of the answer
 * must be those of the page; layout and markup may differ.  A recogniser that takes text is given that of
 * the page, and has to answer something: what, is its prompt's affair.
 */
#include "verify.h"
#include "modelfolder.h"
#include "pipeline.h"
#include "readers.h"
#include "testpage.h"
#include "base/lines.h"
#include "base/name.h"
#include "base/num.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct answer {
	bool done;
	char *text;
	struct err err;
};

static void on_read(void *arg, struct reading *r, enum rc rc, json_t *result, double seconds,
		    const struct err *why)
{
	struct answer *a = arg;
	const char *text = json_string_value(json_object_get(result, "text"));

	(void)r, (void)rc, (void)seconds;
	a->done = true;
	if (result)
		a->text = xstrdup(text ? text : "");
	else
		a->err = *why;
	json_decref(result);
}

static void turn(struct verify *v, struct pool *pool)
{
	double now = loop_now(), next = fmin(pool_turn(pool, now), now + 1);

	loop_turn(&v->loop, next <= now ? 0 : (int)ceil((next - now) * 1000));
}

/* The answer to the page, or to the text where there is one; NULL and err. */
static char *ask(struct verify *v, struct pool *pool, const struct pipeline *p, const char *page,
		 const char *text, struct err *err)
{
	struct answer answer = { .done = false };
	struct reading reading = { .text = text, .format = "text", .width = TEST_PAGE_WIDTH,
				   .height = TEST_PAGE_HEIGHT, .dpi = TEST_PAGE_DPI, .prompt = p->prompt,
				   .seconds = (unsigned)p->limits.read_seconds,
				   .max_line = p->limits.result_kibibytes << 10,
				   .done = on_read, .arg = &answer };
	struct engine *engine = pool_engine(pool, p);

	snprintf(reading.page, sizeof(reading.page), "%s", page);
	reading.params = p->recogniser == RECOGNISER_MODEL ?
				 pipeline_params(p) :
				 json_pack("{s:i, s:s}", "page_segmentation", 3, "rotate", "none");
	engine_read(engine, &reading);
	while (!answer.done && engine->state != ENGINE_BROKEN)
		turn(v, pool);
	if (!answer.done) {
		engine_forget(&reading);
		answer.err = engine->why;
	}
	json_decref(reading.params);
	*err = answer.err;
	return answer.text;
}

/* What the pipeline's recogniser says, to the page or, where it takes none, to the page's text. Where
 * another one follows, it has to have an answer, too. */
static char *read_page(struct verify *v, struct pool *pool, const struct pipeline *p, const char *page,
		       bool *is_text, struct err *err)
{
	struct readers readers = readers_of(pool, p);
	char *text, *then;

	while (readers_known(&readers, err) == ENGINE_STARTING)
		turn(v, pool);
	*is_text = readers.page->takes == TAKES_TEXT;
	if (*is_text)
		return ask(v, pool, p, page, TEST_PAGE_LINE_1 "\n" TEST_PAGE_LINE_2, err);
	if (readers_known(&readers, err) == ENGINE_BROKEN || readers_check(&readers, p, err) != RC_OK)
		return NULL;
	text = ask(v, pool, p, page, NULL, err);
	if (!text || !p->next)
		return text;
	then = ask(v, pool, p->next, page, text, err);
	if (!then)
		free(text);
	free(then);
	return then ? text : NULL;
}

char *verify_read_page(struct verify *v, const struct pipeline *p, bool *is_text, struct err *err)
{
	char name[32], *text = NULL;
	struct pool pool;
	struct slot slot;
	unsigned folder;
	struct buf page;

	if (scratch_add_folder(&v->scratch, &folder, &slot, 1, err) != RC_OK)
		return NULL;
	test_page_draw(&page);
	pool_init(&pool, &v->loop, &v->scratch, 1, v->mode, &v->launcher, v->config);
	if (scratch_reserve(&v->scratch, &slot, page.len, err) != RC_OK ||
	    pwrite(slot.fd, page.data, page.len, 0) != (ssize_t)page.len) {
		err_errno(err, RC_FAILED, "verify", "write the page to %s", v->scratch.path);
	} else {
		scratch_slot_name(folder, 0, name);
		text = read_page(v, &pool, p, name, is_text, err);
	}
	pool_release(&pool);
	scratch_drop_folder(&v->scratch, folder, &slot, 1);
	buf_release(&page);
	return text;
}

/* Letters and digits alone. */
static void add_plain(struct buf *b, const char *text)
{
	for (; *text; text++)
		if (isalnum((unsigned char)*text))
			buf_addc(b, *text);
}

/* A shipped pipeline for a model that nobody has put here is no part of this installation. */
static bool is_offer(const struct pipeline *p)
{
	const char *shipped = install_pipeline_dir();
	char *folder;
	bool is;

	if (p->recogniser != RECOGNISER_MODEL || strncmp(p->file, shipped, strlen(shipped)))
		return false;
	folder = model_folder(p->model.folder);
	is = !model_folder_exists(folder);
	free(folder);
	return is;
}

/* ---- the model of a pipeline: cloister-models reads all of it ---- */

/* Cuts the text down to its last line. */
static const char *last_line(struct buf *text)
{
	char *end;

	while (text->len && text->data[text->len - 1] == '\n')
		text->data[--text->len] = '\0';
	end = text->len ? strrchr(text->data, '\n') : NULL;
	return end ? end + 1 : text->len ? text->data : "";
}

static void check_model(struct verify *v, const struct pipeline *p, const char *name)
{
	char *program = xasprintf("%s/cloister-models", install_program_dir());
	const char *const argv[] = { program, "verify", "--", p->model.folder, NULL };
	struct child_spec spec = { .name = "cloister-models", .argv = argv, .max_line = 1 << 20 };
	struct verify_child models;
	const char *said = "";
	struct err err;
	char check[80];
	struct buf how;

	snprintf(check, sizeof(check), "model %s", name);
	buf_init(&how, ERR_TEXT_MAX);
	if (verify_child_run(v, &models, &spec, 0, &err) != RC_OK)
		buf_adds(&how, err.text);
	else if (!*(said = last_line(&models.out)) && models.status)
		child_describe(&models.child, models.status, &how);
	if (how.len)
		verify_say(v, false, check, HELD_BY_SURROUNDINGS, "%s", how.data);
	else if (models.status)
		verify_say(v, false, check, HELD_BY_SURROUNDINGS, "%.300s", said);
	else
		verify_say(v, true, check, HELD_BY_SURROUNDINGS, "every byte is as it was locked: %.300s",
			   *said ? said : p->model.folder);
	verify_child_end(&models);
	buf_release(&how);
	free(program);
}

/* The engine itself tries it, behind its sandbox, when it has said hello: with its model loaded. */
static void check_model_network(struct verify *v, const struct pipeline *p, const char *name)
{
	struct pool pool;
	char **argv, check[80];
	size_t n = 0;
	struct verify_child engine;
	struct child_spec spec = { .name = "cloister-model", .max_line = 1 << 20 };
	const char *said;
	struct err err;

	pool_init(&pool, &v->loop, &v->scratch, 1, v->mode, &v->launcher, v->config);
	argv = recogniser_argv(&pool, p, false);
	while (argv[n])
		n++;
	argv = xrealloc(argv, (n + 2) * sizeof(*argv));
	argv[n] = xstrdup("--probe-network");
	argv[n + 1] = NULL;
	spec.argv = (const char *const *)argv;
	snprintf(check, sizeof(check), "network %s", name);
	if (verify_child_run(v, &engine, &spec, 0, &err) != RC_OK)
		verify_say(v, false, check, HELD_BY_SANDBOX, "%s", err.text);
	else if (!*(said = last_line(&engine.out)))
		verify_say(v, false, check, HELD_BY_SANDBOX, "not tried: the engine did not come up");
	else if (WIFSIGNALED(engine.status) && WTERMSIG(engine.status) == SIGSYS)
		verify_say(v, true, check, HELD_BY_SANDBOX,
			   "with its model loaded the engine asks for a socket, and is killed for it");
	else
		verify_say(v, !strcmp(said, "network EAFNOSUPPORT"), check, HELD_BY_SANDBOX,
			   "with its model loaded the engine asks for a socket: %.100s", said);
	verify_child_end(&engine);
	recogniser_argv_free(argv);
	pool_release(&pool);
}

static void check_page(struct verify *v, const char *name)
{
	struct buf wanted, got;
	struct pipeline p = { 0 };
	struct err err;
	char check[80], *text = NULL;
	bool is_text = false;

	buf_init(&wanted, 1 << 20);
	buf_init(&got, 1 << 26);
	add_plain(&wanted, TEST_PAGE_LINE_1 TEST_PAGE_LINE_2);
	snprintf(check, sizeof(check), "page %s", name);
	if (spool_load_pipeline(v->spool, name, &p, &err) == RC_OK) {
		if (is_offer(&p))
			goto out;
		if (p.recogniser == RECOGNISER_MODEL) {
			check_model(v, &p, name);
			check_model_network(v, &p, name);
		}
		text = verify_read_page(v, &p, &is_text, &err);
	}
	if (!text) {
		verify_say(v, false, check, HELD_BY_SANDBOX, "not read: %s", err.text);
	} else if (is_text) {
		verify_say(v, *text != '\0', check, HELD_BY_SANDBOX, "takes text, and answers to \""
			   TEST_PAGE_TEXT "\": \"%.100s\"", text);
	} else {
		add_plain(&got, text);
		if (got.len && !strcmp(got.data, wanted.data))
			verify_say(v, true, check, HELD_BY_SANDBOX, "reads \"" TEST_PAGE_TEXT "\", as it says%s%s%s",
				   p.next ? "; " : "", p.next ? p.next->name : "",
				   p.next ? " answers" : "");
		else
			verify_say(v, false, check, HELD_BY_SANDBOX, "reads \"%.100s\", but it says \"" TEST_PAGE_TEXT "\"",
				   text);
	}
out:
	free(text);
	pipeline_release(&p);
	buf_release(&wanted);
	buf_release(&got);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void verify_pages(struct verify *v)
{
	json_t *names = spool_pipeline_names(v->spool), *value;
	const char *name, **sorted;
	size_t n = 0;

	sorted = xcalloc(json_object_size(names) + 1, sizeof(*sorted));
	json_object_foreach(names, name, value)
		sorted[n++] = name;
	qsort(sorted, n, sizeof(*sorted), by_name);
	for (size_t i = 0; i < n; i++)
		check_page(v, sorted[i]);
	if (!n)
		verify_say(v, false, "page", HELD_BY_SANDBOX, "there is no pipeline in %s/pipelines or %s",
			   v->spool->path, install_pipeline_dir());
	free(sorted);
	json_decref(names);
}
