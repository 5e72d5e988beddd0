/* SPDX-License-Identifier: MIT
 *
 * One process, one request, one answer (aside.h).
 *
 * Its end without an answer is tried again, as a page's reading is; not so a limit that was passed,
 * an error that it names, or an answer that is none.
 */
#include "aside.h"
#include "airlock.h"
#include "base/log.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_line(void *arg);
static void on_end(void *arg);

static enum rc start(struct aside *a, struct err *err)
{
	struct document *d = a->slot->document;
	const struct limits *limits = &d->pipeline.limits;
	char *program = xasprintf("%s/cloister-decode", install_program_dir());
	char *mode = xasprintf("--%s", a->kind->name);
	const char *argv[] = {program, d->run->sandbox_flag, mode, NULL};
	struct child_fd page = {-1, DECODE_DOCUMENT_FD};
	struct child_spec spec = {.name = a->kind->name,
				  .argv = argv,
				  .fds = &page,
				  .n_fds = a->kind->with_page,
				  .max_line = a->kind->answer_max(limits) + ERR_TEXT_MAX};
	enum rc rc = RC_OK;

	if (a->kind->with_page) {
		page.from = openat(d->run->scratch.fd, a->slot->reading.page,
				   O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (page.from < 0)
			rc = err_errno(err, RC_RETRY, "system", "open the page's picture");
	}
	if (rc == RC_OK)
		rc = child_start(&a->child, &d->run->loop, &spec, on_line, on_end, a, err);
	if (page.from >= 0)
		close(page.from);
	free(mode);
	free(program);
	if (rc != RC_OK)
		return rc;
	a->tries++;
	a->deadline = loop_now() + (double)limits->page_seconds;
	child_limit_cpu(&a->child, (unsigned)limits->page_cpu_seconds);
	child_tell(&a->child, a->kind->request(a));
	child_close_in(&a->child);
	return RC_OK;
}

void aside_release(struct aside *a)
{
	if (!a)
		return;
	child_kill(&a->child);
	json_decref(a->record);
	json_decref(a->draft);
	free(a);
}

/* Hand the page on. missing: why something is, or without a reason. */
static void finish(struct aside *a, const struct err *missing)
{
	struct document_slot *slot = a->slot;
	const struct aside_kind *kind = a->kind;
	json_t *record = a->record;

	if (*missing->reason) {
		log_warn("document=\"%s\" page=%u reason=%s: %s", slot->document->token.result,
			 slot->page, missing->reason, missing->text);
		document_flag(record, missing);
	}
	a->record = NULL;
	slot->aside = NULL;
	aside_release(a);
	kind->next(slot, record);
}

static void lose(struct aside *a, const struct err *why, bool again)
{
	struct err err;

	child_kill(&a->child);
	if (!again || a->tries >= TRIES_OF_A_PAGE)
		finish(a, why);
	else if (start(a, &err) != RC_OK)
		document_wait(a->slot->document, err.text);
}

/* true: it has said something, and a is gone or begins again. */
static bool take_line(struct aside *a)
{
	struct err why = {.reason = ""};
	json_t *message;
	size_t len;
	char *line;
	enum lines_status status = child_line(&a->child, &line, &len);

	if (status == LINES_AGAIN || status == LINES_EOF)
		return false; /* its end says why */
	if (status == LINES_ERROR && errno != EMSGSIZE) {
		err_errno(&why, RC_RETRY, "system", "%s: read", a->kind->doing);
		child_kill(&a->child);
		document_wait(a->slot->document, why.text);
		return true;
	}
	message = status == LINES_ONE ? airlock_parse(line, len, &why) : NULL;
	if (airlock_take_error(json_object_get(message, "error"), &why)) {
		lose(a, &why, false);
	} else if (message && a->kind->take(a, message, &why)) {
		finish(a, &why);
	} else {
		err_set(&why, RC_FAILED, a->kind->name, "%s: the program broke the protocol",
			a->kind->doing);
		lose(a, &why, false);
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
	struct aside *a = arg;
	struct err why;
	struct buf text;
	bool again;
	int status;

	if (!child_reap(&a->child, &status) || take_line(a))
		return;
	again = !WIFSIGNALED(status) || WTERMSIG(status) != SIGXCPU;
	buf_init(&text, ERR_TEXT_MAX);
	child_describe(&a->child, status, &text);
	if (again)
		err_set(&why, RC_FAILED, a->kind->name, "%s failed: %s", a->kind->doing, text.data);
	else
		err_set(&why, RC_FAILED, "limit:page-cpu-seconds",
			"%s took more processor time than the limit allows", a->kind->doing);
	buf_release(&text);
	lose(a, &why, again);
}

void aside_begin(struct document_slot *slot, const struct aside_kind *kind, json_t *record,
		 json_t *draft)
{
	struct aside *a = xcalloc(1, sizeof(*a));
	struct err err;

	*a = (struct aside){.kind = kind, .slot = slot, .record = record, .draft = draft};
	slot->use = SLOT_ASIDE;
	slot->aside = a;
	if (start(a, &err) != RC_OK)
		document_wait(slot->document, err.text);
}

double aside_turn(struct aside *a, double now)
{
	struct err why;

	if (now < a->deadline)
		return a->deadline;
	err_set(&why, RC_FAILED, "limit:page-seconds", "%s took more than %llu seconds",
		a->kind->doing,
		(unsigned long long)a->slot->document->pipeline.limits.page_seconds);
	lose(a, &why, false);
	return now;
}
