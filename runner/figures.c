/* SPDX-License-Identifier: MIT
 *
 * The pictures of a page: when the recogniser has marked blocks as figures, `cloister-decode
 * --figures` cuts them out while the page file still lies in its slot, one process a page.
 *
 * Invariant: the pictures are part of the page's record, so that they are there when the page is,
 * once, whatever dies in between; what they look like inside is nobody's business here.  A picture
 * that is missing is said to be: the page is flagged, with the limit or with what happened to the
 * program.
 */
#include "figures.h"
#include "base/log.h"
#include "base/num.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct figures {
	struct document_slot *slot;
	struct child child;
	unsigned tries;
	double deadline;
	json_t *record;
	json_t *figures; /* of the record, without pictures at first */
	size_t left_out; /* beyond limits.page_figures */
};

static void on_line(void *arg);
static void on_end(void *arg);

static const struct pipeline *pipeline_of(const struct figures *f)
{
	return &f->slot->document->pipeline;
}

/* Blocks with a box that are marked, no more than the limit allows. */
static void find(struct figures *f)
{
	json_t *result = json_object_get(f->record, "result");
	uint64_t most = pipeline_of(f)->limits.page_figures;
	json_t *block;
	size_t i;

	f->figures = json_array();
	json_array_foreach(json_object_get(result, "blocks"), i, block)
	{
		json_t *box = json_object_get(block, "box"), *figure;
		const char *label = json_string_value(json_object_get(block, "label"));

		if (!box || !json_is_true(json_object_get(block, "figure")))
			continue;
		if (json_array_size(f->figures) >= most) {
			f->left_out++;
			continue;
		}
		figure = json_pack("{s:i, s:O}", "block", (int)i, "box", box);
		if (label)
			json_object_set_new(figure, "label", json_string(label));
		json_array_append_new(f->figures, figure);
	}
}

static json_t *request_of(const struct figures *f)
{
	const struct reading *r = &f->slot->reading;
	json_int_t rotation = json_integer_value(json_object_get(f->record, "rotation"));
	json_t *boxes = json_array(), *figure;
	size_t i;

	json_array_foreach(f->figures, i, figure)
		json_array_append(boxes, json_object_get(figure, "box"));
	return json_pack("{s:{s:i, s:i, s:f, s:I, s:I, s:o}}", "cut", "width", (int)r->width,
			 "height", (int)r->height, "dpi", r->dpi, "rotation", rotation, "bytes",
			 (json_int_t)(pipeline_of(f)->limits.figures_mebibytes << 20), "boxes",
			 boxes);
}

static enum rc start(struct figures *f, struct err *err)
{
	struct document *d = f->slot->document;
	const struct limits *limits = &d->pipeline.limits;
	char *program = xasprintf("%s/cloister-decode", install_program_dir());
	const char *argv[] = {program, d->run->sandbox_flag, "--figures", NULL};
	int page = openat(d->run->scratch.fd, f->slot->reading.page,
			  O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct child_fd fds[] = {{page, DECODE_DOCUMENT_FD}};
	struct child_spec spec = {.name = "figures",
				  .argv = argv,
				  .fds = fds,
				  .n_fds = 1,
				  .max_line = (limits->figures_mebibytes << 20) / 3 * 4 +
					      8 * limits->page_figures + ERR_TEXT_MAX};
	enum rc rc;

	if (page < 0)
		rc = err_errno(err, RC_RETRY, "system", "open the page's picture");
	else
		rc = child_start(&f->child, &d->run->loop, &spec, on_line, on_end, f, err);
	if (page >= 0)
		close(page);
	free(program);
	if (rc != RC_OK)
		return rc;
	f->tries++;
	f->deadline = loop_now() + (double)limits->page_seconds;
	child_limit_cpu(&f->child, (unsigned)limits->page_cpu_seconds);
	child_tell(&f->child, request_of(f));
	child_close_in(&f->child);
	return RC_OK;
}

void figures_release(struct figures *f)
{
	if (!f)
		return;
	child_kill(&f->child);
	json_decref(f->record);
	json_decref(f->figures);
	free(f);
}

/* Hand the page on, with the pictures there are. why: of those that are missing, or NULL. */
static void finish(struct figures *f, const struct err *why)
{
	struct document_slot *slot = f->slot;
	json_t *record = f->record;

	for (size_t i = json_array_size(f->figures); i--;)
		if (!json_object_get(json_array_get(f->figures, i), "png"))
			json_array_remove(f->figures, i);
	if (json_array_size(f->figures))
		json_object_set(record, "figures", f->figures);
	if (why)
		document_flag(record, why);
	f->record = NULL;
	slot->figures = NULL;
	figures_release(f);
	document_page_read(slot, record);
}

static bool take_pictures(struct figures *f, const json_t *pictures)
{
	if (json_array_size(pictures) != json_array_size(f->figures))
		return false;
	for (size_t i = 0; i < json_array_size(pictures); i++) {
		json_t *picture = json_array_get(pictures, i);

		if (json_is_string(picture))
			json_object_set(json_array_get(f->figures, i), "png", picture);
		else if (!json_is_null(picture))
			return false;
	}
	return true;
}

/* Which of the two limits was passed, if one was. */
static const struct err *missing(const struct figures *f, struct err *why)
{
	size_t too_large = 0;

	for (size_t i = 0; i < json_array_size(f->figures); i++)
		too_large += !json_object_get(json_array_get(f->figures, i), "png");
	if (too_large)
		err_set(why, RC_FAILED, "limit:figures-mebibytes",
			"%zu of its pictures are not cut out: they take more than %llu MiB "
			"together",
			too_large + f->left_out,
			(unsigned long long)pipeline_of(f)->limits.figures_mebibytes);
	else if (f->left_out)
		err_set(why, RC_FAILED, "limit:page-figures",
			"%zu of its pictures are not cut out: there are more than %llu",
			f->left_out, (unsigned long long)pipeline_of(f)->limits.page_figures);
	return too_large || f->left_out ? why : NULL;
}

static void lose(struct figures *f, const struct err *why, bool again)
{
	struct err err = *why;

	child_kill(&f->child);
	if (again && f->tries < TRIES_OF_A_PAGE) {
		enum rc rc = start(f, &err);

		if (rc == RC_OK)
			return;
		document_wait(f->slot->document, err.text);
		return;
	}
	log_warn("document=\"%s\" page=%u pictures reason=%s: %s", f->slot->document->token.result,
		 f->slot->page, why->reason, why->text);
	finish(f, why);
}

/* true: it has said something, and f is gone or begins again. */
static bool take_line(struct figures *f)
{
	json_t *message;
	struct err why;
	size_t len;
	char *line;
	enum lines_status status = child_line(&f->child, &line, &len);
	bool good;

	if (status == LINES_AGAIN || status == LINES_EOF)
		return false; /* its end says why */
	message = status == LINES_ONE ? airlock_parse(line, len, &why) : NULL;
	if (airlock_take_error(json_object_get(message, "error"), &why)) {
		lose(f, &why, false);
	} else {
		good = message && take_pictures(f, json_object_get(message, "figures"));
		if (good) {
			finish(f, missing(f, &why));
		} else {
			err_set(&why, RC_FAILED, "figures",
				"the program that cuts them out broke the protocol");
			lose(f, &why, false);
		}
	}
	json_decref(message);
	return true;
}

static void on_line(void *arg)
{
	take_line(arg);
}

static void on_end(void *arg)
{
	struct figures *f = arg;
	struct err why;
	struct buf text;
	bool again;
	int status;

	if (!child_reap(&f->child, &status) || take_line(f))
		return;
	again = !WIFSIGNALED(status) || WTERMSIG(status) != SIGXCPU;
	buf_init(&text, ERR_TEXT_MAX);
	child_describe(&f->child, status, &text);
	if (again)
		err_set(&why, RC_FAILED, "figures", "its pictures could not be cut out: %s",
			text.data);
	else
		err_set(&why, RC_FAILED, "limit:page-cpu-seconds",
			"cutting its pictures out took more processor time than the limit allows");
	buf_release(&text);
	lose(f, &why, again);
}

bool figures_begin(struct document_slot *slot, json_t *record)
{
	struct document *d = slot->document;
	struct figures *f;
	struct err err;

	if (d->pipeline.figures == FIGURES_NONE || d->closed)
		return false;
	f = xcalloc(1, sizeof(*f));
	f->slot = slot;
	f->record = json_incref(record);
	find(f);
	if (!json_array_size(f->figures)) {
		figures_release(f);
		return false;
	}
	json_decref(record);
	slot->use = SLOT_CUTTING;
	slot->figures = f;
	if (start(f, &err) != RC_OK)
		document_wait(d, err.text);
	return true;
}

double figures_turn(struct figures *f, double now)
{
	struct err why;
	double deadline = f->deadline;

	if (now < deadline)
		return deadline;
	err_set(&why, RC_FAILED, "limit:page-seconds",
		"cutting its pictures out took more than %llu seconds",
		(unsigned long long)pipeline_of(f)->limits.page_seconds);
	lose(f, &why, false);
	return now;
}
