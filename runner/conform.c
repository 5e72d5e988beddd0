/* SPDX-License-Identifier: MIT
 *
 * cloister check --recogniser: the process that is tried, and the report (conform.h).
 *
 * As in a run, it is started by a process that has left the network and is locked itself.
 */
#include "conform.h"
#include "airlock.h"
#include "commands.h"
#include "supervisor.h"
#include "testpage.h"
#include "base/log.h"
#include "base/name.h"
#include "base/num.h"
#include "base/suggest.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELLO_SECONDS 900

static void blame(struct conform *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first fault counts: what follows comes of it. */
static void blame(struct conform *c, const char *format, ...)
{
	va_list ap;

	if (c->broken)
		return;
	va_start(ap, format);
	err_vset(&c->fault, RC_FAILED, "protocol", format, ap);
	va_end(ap);
	c->broken = true;
}

static void on_end(void *arg)
{
	struct conform *c = arg;
	struct buf how;

	if (!child_reap(&c->child, &c->status))
		return;
	c->ended = true;
	if (c->closed)
		return;
	buf_init(&how, ERR_TEXT_MAX);
	child_describe(&c->child, c->status, &how);
	blame(c, "%s", how.data);
	buf_release(&how);
}

static void take_answer(struct conform *c, json_t *message)
{
	json_t *id = json_object_get(message, "id");

	for (size_t i = 0; i < c->n_asked; i++) {
		struct asked *a = &c->asked[i];

		if (!json_is_integer(id) || (uint64_t)json_integer_value(id) != a->reading.id)
			continue;
		if (a->result)
			blame(c, "it answers request %llu a second time",
			      (unsigned long long)a->reading.id);
		else
			a->result = json_incref(message);
		return;
	}
	if (json_is_integer(id))
		blame(c, "it answers request %lld, which is not out",
		      (long long)json_integer_value(id));
	else
		blame(c, "it says something without the \"id\" of a request");
}

static void on_line(void *arg)
{
	struct conform *c = arg;
	enum lines_status status;
	struct err err;
	json_t *message;
	char *line;
	size_t len;

	while ((status = child_line(&c->child, &line, &len)) == LINES_ONE && !c->broken) {
		message = airlock_parse(line, len, &err);
		if (!message) {
			struct buf start;

			buf_init(&start, 400);
			name_escape(&start, line, min_u64(len, 60));
			blame(c, "it writes a line that is no message (%s): %s", err.text,
			      start.data);
			buf_release(&start);
		} else if (c->ready) {
			take_answer(c, message);
		} else if (!c->hello) {
			c->hello = json_incref(message);
			c->ready = !json_is_true(json_object_get(message, "loading"));
		} else if (json_is_true(json_object_get(message, "ready"))) {
			c->ready = true;
		} else {
			blame(c, "it is \"loading\", and says something else than \"ready\":true next");
		}
		json_decref(message);
	}
	if (status == LINES_ERROR && errno == EMSGSIZE)
		blame(c, "it writes a line that is longer than 64 MiB");
	else if (status == LINES_ERROR)
		blame(c, "its output cannot be read: %s", strerror(errno));
}

enum rc conform_start(struct conform *c)
{
	double until = loop_now() + c->seconds;
	json_int_t window;

	conform_stop(c);
	c->broken = c->ready = c->closed = c->ended = false;
	if (recogniser_start(&c->child, &c->pool, c->pipeline, c->argv, NULL, &c->private, on_line, on_end, c,
			     &c->fault) != RC_OK) {
		c->broken = true;
		return RC_FAILED;
	}
	c->up = true;
	while (!c->ready && !c->broken && loop_now() < until)
		loop_turn(&c->loop, 100);
	if (!c->ready)
		blame(c, "it %s within %.0f seconds", c->hello ? "is not ready" : "says no hello",
		      c->seconds);
	if (c->broken)
		return RC_FAILED;
	window = json_integer_value(json_object_get(c->hello, "window"));
	c->window = window < 1 ? 1 : (unsigned)min_u64((uint64_t)window, 1024);
	c->takes = recogniser_takes(json_object_get(c->hello, "takes"));
	return RC_OK;
}

void conform_stop(struct conform *c)
{
	conform_clear(c);
	if (c->up) {
		child_kill(&c->child);
		loop_mourn(&c->loop);
		scratch_drop_private(&c->scratch, c->private);
	}
	c->up = c->ready = false;
	json_decref(c->hello);
	c->hello = NULL;
}

struct asked *conform_ask(struct conform *c, enum conform_page page, const char *text,
			  const char *format)
{
	struct asked *a = &c->asked[c->n_asked];

	if (c->n_asked++ == ASKED_MAX)
		BUG("more questions than there is room for");
	*a = (struct asked){.reading = {.text = text,
					.format = format,
					.width = text ? 0 : c->width[page],
					.height = text ? 0 : c->height[page],
					.dpi = TEST_PAGE_DPI,
					.prompt = c->pipeline->prompt ? c->pipeline->prompt
								      : "Write down all text.",
					.params = pipeline_params(c->pipeline),
					.id = c->next_id++}};
	if (!text)
		scratch_slot_name(c->folder, page, a->reading.page);
	return a;
}

void conform_send(struct conform *c, struct asked *a)
{
	json_t *request = recogniser_request(&a->reading);

	if (a->more)
		json_object_update(request, a->more);
	child_tell(&c->child, request);
}

static bool all_answered(const struct conform *c)
{
	for (size_t i = 0; i < c->n_asked; i++)
		if (!c->asked[i].result)
			return false;
	return true;
}

bool conform_await(struct conform *c)
{
	double until = loop_now() + c->seconds;

	while (!all_answered(c) && !c->broken && loop_now() < until)
		loop_turn(&c->loop, 100);
	if (!all_answered(c))
		blame(c, "no answer within %.0f seconds", c->seconds);
	return !c->broken;
}

void conform_wait(struct conform *c, double seconds)
{
	double until = loop_now() + seconds, now;

	while (!c->broken && !c->ended && (now = loop_now()) < until)
		loop_turn(&c->loop, (int)ceil(fmin(until - now, 1) * 1000));
}

void conform_clear(struct conform *c)
{
	for (size_t i = 0; i < c->n_asked; i++) {
		json_decref(c->asked[i].reading.params);
		json_decref(c->asked[i].more);
		json_decref(c->asked[i].result);
	}
	c->n_asked = 0;
}

json_t *conform_result(const struct asked *a, struct err *err)
{
	const char *status = json_string_value(json_object_get(a->result, "status"));
	json_t *result, *error;

	if (!status)
		return err_set(err, RC_FAILED, "protocol", "its answer has no \"status\""), NULL;
	result = airlock_result(a->result, a->reading.width, a->reading.height, err);
	if (!result)
		return NULL;
	error = json_object_get(result, "error");
	if (!error)
		return result;
	err_set(err, RC_FAILED, "recogniser-error", "it answers: %s", json_string_value(error));
	json_decref(result);
	return NULL;
}

/* ---- the report ---- */

static void say(struct conform *c, enum verdict verdict, const char *check, const char *text)
{
	static const char *const words[] = {[PASS] = "pass", [FAIL] = "FAIL", [NOT_TRIED] = "-"};
	char *clean = display(text);

	json_array_append_new(
		c->report,
		json_pack("{s:s, s:o, s:s}", "check", check, "passed",
			  verdict == NOT_TRIED ? json_null() : json_boolean(verdict == PASS),
			  "reason", clean));
	c->failed |= verdict == FAIL;
	if (!c->options->json && (!c->options->quiet || verdict == FAIL))
		printf("%-20s %-5s %s\n", check, words[verdict], clean);
	fflush(stdout);
	free(clean);
}

/* false: it is no use to go on. */
static bool make_check(struct conform *c, const struct conform_check *check)
{
	enum verdict verdict = FAIL;
	struct err why = {.text = ""};

	if (c->up && check->takes && !(c->takes & check->takes)) {
		say(c, NOT_TRIED, check->name,
		    check->takes == TAKES_TEXT ? "it takes no texts" : "it takes no pages");
		return true;
	}
	if (c->broken || !c->up)
		conform_start(c);
	if (!c->broken)
		verdict = check->run(c, &why);
	if (c->broken) {
		verdict = FAIL;
		why = c->fault;
	}
	conform_clear(c);
	say(c, verdict, check->name, why.text);
	return verdict == PASS || !check->needed;
}

static enum rc make_page(struct conform *c, enum conform_page page, uint32_t width, uint32_t height,
			 char kind, const struct buf *drawn, struct err *err)
{
	struct slot *slot = &c->slots[page];
	uint64_t pixels = (uint64_t)width * height * (kind == '6' ? 3 : 1);
	static char white[1 << 16];
	char head[64];
	size_t n = (size_t)snprintf(head, sizeof(head), "P%c\n%u %u\n255\n", kind, width, height);
	uint64_t size = n + pixels, at = n;

	c->width[page] = width;
	c->height[page] = height;
	if (scratch_reserve(&c->scratch, slot, size, err) != RC_OK)
		return RC_FAILED;
	memset(white, 0xff, sizeof(white));
	if (pwrite(slot->fd, head, n, 0) != (ssize_t)n)
		return err_errno(err, RC_FAILED, "system", "write a page to %s", c->scratch.path);
	while (at < size) {
		size_t len = min_u64(size - at, sizeof(white));

		if (pwrite(slot->fd, white, len, (off_t)at) != (ssize_t)len)
			return err_errno(err, RC_FAILED, "system", "write a page to %s",
					 c->scratch.path);
		at += len;
	}
	if (drawn && pwrite(slot->fd, drawn->data, drawn->len, 0) != (ssize_t)drawn->len)
		return err_errno(err, RC_FAILED, "system", "write a page to %s", c->scratch.path);
	c->have[page] = true;
	return RC_OK;
}

/* The scratch folder may be too small for the largest; that one is not tried then. */
static enum rc make_pages(struct conform *c, struct err *err)
{
	const struct limits *limits = &c->pipeline->limits;
	uint64_t side = min_u64((uint64_t)sqrt((double)limits->page_megapixels * 1e6),
				limits->page_side_pixels);
	struct buf drawn;
	enum rc rc;

	if (scratch_add_folder(&c->scratch, &c->folder, c->slots, PAGES, err) != RC_OK)
		return RC_FAILED;
	test_page_draw(&drawn);
	rc = make_page(c, PAGE_LINES, TEST_PAGE_WIDTH, TEST_PAGE_HEIGHT, '5', &drawn, err);
	if (rc == RC_OK)
		rc = make_page(c, PAGE_CUT, TEST_PAGE_WIDTH, TEST_PAGE_HEIGHT, '5', &drawn, err);
	if (rc == RC_OK)
		rc = make_page(c, PAGE_BLANK, TEST_PAGE_WIDTH, TEST_PAGE_HEIGHT, '5', NULL, err);
	if (rc == RC_OK)
		rc = make_page(c, PAGE_COLOUR, TEST_PAGE_WIDTH, TEST_PAGE_HEIGHT, '6', NULL, err);
	if (rc == RC_OK)
		rc = make_page(c, PAGE_DOT, 1, 1, '5', NULL, err);
	buf_release(&drawn);
	if (rc != RC_OK)
		return rc;
	scratch_trim(&c->scratch, &c->slots[PAGE_CUT], c->slots[PAGE_CUT].bytes / 3);
	c->width[PAGE_MISSING] = TEST_PAGE_WIDTH;
	c->height[PAGE_MISSING] = TEST_PAGE_HEIGHT;
	(void)make_page(c, PAGE_HUGE, (uint32_t)side, (uint32_t)side, '5', NULL, err);
	return RC_OK;
}

static int make_checks(struct conform *c)
{
	bool go_on = true;

	c->report = json_array();
	if (!c->options->json && !c->options->quiet)
		printf("%-20s %-5s %s\n", "CHECK", "", "FOUND");
	for (const struct conform_check *check = conform_checks; check->name; check++) {
		if (go_on)
			go_on = make_check(c, check);
		else
			say(c, NOT_TRIED, check->name, "it has to do what is above first");
	}
	conform_stop(c);
	if (c->options->json)
		print_json(json_pack("{s:b, s:O}", "passed", !c->failed, "checks", c->report));
	else if (!c->options->quiet)
		puts(c->failed ? "FAIL: it does not keep to the protocol"
			       : "pass: it keeps to the protocol");
	json_decref(c->report);
	free(c->text);
	return c->failed ? EX_SOME_FAILED : EX_ALL_DONE;
}

/* Lock this process as a run does, and make the pages. */
static enum rc set_up(struct conform *c, struct err *err)
{
	const char *given = getenv("TMPDIR");
	bool require = c->pool.sandbox == SANDBOX_ON;
	bool launches = c->pipeline->foreign.wrap != WRAP_SANDBOX;
	enum rc rc = RC_OK;

	c->launcher = (struct launcher)LAUNCHER_NONE;
	if (launches)
		rc = launcher_start(&c->launcher, &c->config, err);
	if (rc == RC_OK)
		rc = sandbox_leave_network(err);
	if (rc == RC_FATAL)
		return rc;
	if (rc != RC_OK)
		log_warn("no network namespace of its own: %s; sockets are refused all the same",
			 err->text);
	loop_init(&c->loop);
	rc = scratch_open(&c->scratch, NULL, given ? given : "/tmp", 0, err);
	if (rc == RC_OK && c->pool.sandbox != SANDBOX_OFF)
		rc = supervisor_lock_down(c->scratch.top, c->scratch.top, require, err);
	return rc == RC_OK ? make_pages(c, err) : rc;
}

static enum rc load_pipeline(const struct options *o, struct pipeline *p, struct err *err)
{
	enum rc rc = RC_OK;

	if (o->pipeline)
		rc = pipeline_load(p, "check", o->pipeline, err);
	else
		pipeline_defaults(p, "check");
	if (rc != RC_OK || !o->n_args)
		return rc;
	if (o->args[0][0] != '/' && !strchr(o->args[0], '/'))
		return err_set(err, RC_FAILED, "pipeline", "%s: give the program's path",
			       shown(o->args[0]).s);
	for (size_t i = 0; i < p->n_command; i++)
		free(p->command[i]);
	free(p->command);
	p->recogniser = RECOGNISER_COMMAND;
	p->command = xcalloc((size_t)o->n_args + 1, sizeof(*p->command));
	for (p->n_command = 0; (int)p->n_command < o->n_args; p->n_command++)
		p->command[p->n_command] = xstrdup(o->args[p->n_command]);
	if (p->command[0][0] != '/') {
		char *absolute = realpath(p->command[0], NULL);

		if (!absolute)
			return err_errno(err, RC_FAILED, "pipeline", "%s", shown(o->args[0]).s);
		free(p->command[0]);
		p->command[0] = absolute;
	}
	return RC_OK;
}

int check_recogniser(const struct options *o)
{
	struct pipeline p = {0};
	struct conform c = {.options = o, .pipeline = &p, .next_id = 1};
	int code = EX_CONFIGURATION;
	struct gpu *gpus = NULL;
	size_t n_gpus = 0;
	struct err err;
	char **argv;

	if (!o->n_args && !o->pipeline) {
		complain(o, "--recogniser needs a command, or a --pipeline that has one");
		return EX_USAGE_ERROR;
	}
	if (load_pipeline(o, &p, &err) != RC_OK || install_check(&err) != RC_OK) {
		complain(o, "%s", err.text);
		goto out;
	}
	signal(SIGPIPE, SIG_IGN);
	c.seconds = o->seconds ? (double)o->seconds
			       : fmax(HELLO_SECONDS, (double)p.limits.read_seconds);
	c.config = (struct config){ .require_lock = true, .allow_containers = true, .allow_unwrapped = true };
	pool_init(&c.pool, &c.loop, &c.scratch, 1, sandbox_mode_of(true), &c.launcher, &c.config);
	c.scratch = (struct scratch)SCRATCH_CLOSED;
	if (set_up(&c, &err) != RC_OK || gpus_find(&p, &gpus, &n_gpus, &err) != RC_OK) {
		complain(o, "%s", err.text);
	} else {
		argv = recogniser_argv(&c.pool, &p, n_gpus > 0);
		c.argv = (const char *const *)argv;
		code = make_checks(&c);
		recogniser_argv_free(argv);
	}
	gpus_free(gpus, n_gpus);
	launcher_stop(&c.launcher);
	scratch_close(&c.scratch);
	loop_release(&c.loop);
out:
	pipeline_release(&p);
	return code;
}
