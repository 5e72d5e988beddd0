/* SPDX-License-Identifier: MIT
 *
 * The sandbox of each kind of process, tried from inside (probe.h).
 *
 * Every program of the family is started as a run starts it, by a supervisor that is locked already,
 * and does what it must not.  A kind passes when every act is refused and at least one of these works
 * without a sandbox in this place: otherwise nothing would have been shown.  The foreign recogniser is
 * this very program (`cloister verify --probe`), started by the pool like any other, which answers its
 * page with what came of its acts.
 */
#include "verify.h"
#include "airlock.h"
#include "pipeline.h"
#include "probe.h"
#include "supervisor.h"
#include "base/lines.h"
#include "base/name.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_SECONDS 120.0

extern char **environ;

/* {"ACT":"OUTCOME"} from a probe's lines. */
static json_t *outcomes(const char *lines)
{
	json_t *found = json_object();

	while (*lines) {
		size_t len = strcspn(lines, "\n"), act = strcspn(lines, " \n");

		if (act < len)
			json_object_setn_new(found, lines, act,
					     json_stringn(lines + act + 1, len - act - 1));
		lines += len + (lines[len] == '\n');
	}
	return found;
}

void verify_control(struct verify *v)
{
	struct buf out;
	struct err err;

	buf_init(&out, 1 << 16);
	if (probe_run(v->tree, v->outside, NULL, NULL, &out, &err) != RC_OK)
		die(EX_BUG, "%s", err.text);
	v->control = outcomes(out.data);
	buf_release(&out);
	/* Some acts have succeeded, and left their traces. */
	if (probe_tree_make(v->tree, &err) != RC_OK)
		die(EX_BUG, "%s", err.text);
}

static void judge(struct verify *v, enum sandbox_kind kind, const char *lines,
		  const char *descriptors)
{
	char check[64];
	json_t *found = outcomes(lines), *without;
	const char *act, *open = json_string_value(json_object_get(found, "descriptors"));
	size_t refused = 0, shown = 0, tried = 0;
	struct buf bad;

	snprintf(check, sizeof(check), "sandbox %s", sandbox_kind_name(kind));
	buf_init(&bad, 1 << 16);
	json_object_del(v->control, "descriptors");
	json_object_foreach(v->control, act, without) {
		const char *outcome = json_string_value(json_object_get(found, act));

		if (probe_permits(kind, act))
			continue;
		tried++;
		if (outcome && probe_refused(kind, outcome)) {
			refused++;
			shown += strcmp(outcome, json_string_value(without)) != 0;
		} else {
			buf_addf(&bad, "%s%s (%s)", bad.len ? ", " : "", act,
				 outcome ? outcome : "not tried");
		}
	}
	if (bad.len)
		verify_say(v, false, check, HELD_BY_SANDBOX, "not refused: %s", bad.data);
	else if (!shown)
		verify_say(v, false, check, HELD_BY_SANDBOX,
			   "nothing is shown: all %zu acts are refused without it too", tried);
	else if (descriptors && (!open || strcmp(open, descriptors)))
		verify_say(v, false, check, HELD_BY_SANDBOX, "descriptors %s are open, not %s", open,
			   descriptors);
	else
		verify_say(v, true, check, HELD_BY_SANDBOX,
			   "%zu forbidden acts refused, %zu of them by nothing else%s%s", refused, shown,
			   descriptors ? "; open: descriptors " : "", descriptors ? descriptors : "");
	buf_release(&bad);
	json_decref(found);
}

static void not_tried(struct verify *v, enum sandbox_kind kind, const char *why)
{
	char check[64];

	snprintf(check, sizeof(check), "sandbox %s", sandbox_kind_name(kind));
	verify_say(v, false, check, HELD_BY_SANDBOX, "%s", why);
}

void verify_supervisor(struct verify *v)
{
	struct buf out;
	struct err err;

	buf_init(&out, 1 << 16);
	if (v->mode == SANDBOX_OFF)
		not_tried(v, SANDBOX_SUPERVISOR, "this build has none: AddressSanitizer excludes it");
	else if (supervisor_lock_down(v->spool->path, v->scratch.top, v->config->require_sandbox,
				      &err) != RC_OK ||
		 probe_run(v->tree, v->outside, NULL, NULL, &out, &err) != RC_OK)
		not_tried(v, SANDBOX_SUPERVISOR, err.text);
	else
		judge(v, SANDBOX_SUPERVISOR, out.data, NULL);
	buf_release(&out);
}

/* ---- our own programs ---- */

static void on_line(void *arg)
{
	struct verify_child *c = arg;
	char *line;
	size_t len;

	while (child_line(&c->child, &line, &len) == LINES_ONE)
		buf_addf(&c->out, "%s\n", line);
}

static void on_end(void *arg)
{
	struct verify_child *c = arg;

	if (!child_reap(&c->child, &c->status))
		return;
	on_line(c);
	c->ended = true;
}

enum rc verify_child_run(struct verify *v, struct verify_child *c, const struct child_spec *spec,
			 unsigned seconds, struct err *err)
{
	double until = seconds ? loop_now() + seconds : INFINITY;
	enum rc rc;

	*c = (struct verify_child){ .ended = false };
	buf_init(&c->out, 1 << 20);
	rc = child_start(&c->child, &v->loop, spec, on_line, on_end, c, err);
	while (rc == RC_OK && !c->ended && loop_now() < until)
		loop_turn(&v->loop, 1000);
	return rc;
}

void verify_child_end(struct verify_child *c)
{
	child_kill(&c->child);
	buf_release(&c->out);
}

static void try_program(struct verify *v, enum sandbox_kind kind, const char *const *argv,
			const struct child_fd *fds, size_t n_fds, const char *descriptors)
{
	struct child_spec spec = { .name = argv[0], .argv = argv, .fds = fds, .n_fds = n_fds,
				   .max_line = 4096 };
	struct verify_child p;
	struct buf how;
	struct err err;

	buf_init(&how, ERR_TEXT_MAX);
	if (verify_child_run(v, &p, &spec, PROBE_SECONDS, &err) != RC_OK)
		not_tried(v, kind, err.text);
	else if (!p.ended)
		not_tried(v, kind, "its program does not come to an end");
	else if (p.status)
		child_describe(&p.child, p.status, &how);
	else
		judge(v, kind, p.out.data ? p.out.data : "", descriptors);
	if (how.len)
		not_tried(v, kind, how.data);
	verify_child_end(&p);
	buf_release(&how);
}

static void try_programs(struct verify *v)
{
	const char *dir = install_program_dir(), *flag = sandbox_mode_option(v->mode);
	char *decode = xasprintf("%s/cloister-decode", dir);
	char *write = xasprintf("%s/cloister-write", dir);
	char *tesseract = xasprintf("%s/cloister-tesseract", dir);
	char *model = xasprintf("%s/cloister-model", dir);
	char *cuda = xasprintf("%s/cloister-model-cuda", dir);
	int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const struct child_fd document[] = { { nothing, DECODE_DOCUMENT_FD },
					     { nothing, DECODE_SLOT_FD } };
	const struct child_fd folder[] = { { nothing, 3 }, { v->scratch.fd, 4 } };
	const char *const probe[] = { "--probe", v->tree };

	try_program(v, SANDBOX_DECODE, (const char *[]){ decode, flag, probe[0], probe[1], NULL },
		    document, 2, "0 1 2 3 4");
	try_program(v, SANDBOX_UNPACK,
		    (const char *[]){ decode, "--unpack", flag, probe[0], probe[1], NULL }, document,
		    1, "0 1 2 3");
	try_program(v, SANDBOX_TESSERACT,
		    (const char *[]){ tesseract, "--pages", v->scratch.path, flag, probe[0], probe[1],
				      NULL },
		    NULL, 0, "0 1 2 3");
	try_program(v, SANDBOX_MODEL,
		    (const char *[]){ model, "--pages", v->scratch.path, flag, probe[0], probe[1], NULL },
		    NULL, 0, "0 1 2 3");
	if (!access(cuda, X_OK)) /* there is one where it was built with the toolkit for GPUs */
		try_program(v, SANDBOX_MODEL_CUDA,
			    (const char *[]){ cuda, "--pages", v->scratch.path, flag, probe[0], probe[1],
					      NULL },
			    NULL, 0, "0 1 2 3");
	try_program(v, SANDBOX_WRITE, (const char *[]){ write, flag, probe[0], probe[1], NULL },
		    folder, 2, "0 1 2 3 4");
	if (nothing >= 0)
		close(nothing);
	free(decode);
	free(write);
	free(tesseract);
	free(model);
	free(cuda);
}

/* ---- somebody else's ---- */

/* The foreign recogniser: for its page, what came of its acts, and its environment. */
int verify_foreign_probe(const char *dir)
{
	json_t *hello = json_pack("{s:i, s:s, s:s, s:i, s:[s], s:{}}", "airlock", 1, "name", "probe",
				  "version", CLOISTER_VERSION, "window", 1, "formats", "text", "model");
	struct lines lines;
	struct buf out;
	struct err err = { .text = "" };
	json_t *request, *answer;
	char *line;
	size_t len;

	airlock_write(STDOUT_FILENO, hello);
	json_decref(hello);
	lines_init(&lines, STDIN_FILENO, REQUEST_MAX);
	if (lines_next(&lines, &line, &len) != LINES_ONE)
		return EX_ALL_DONE;
	request = airlock_parse(line, len, &err);
	buf_init(&out, 1 << 20);
	if (!request || probe_run(dir, getppid(), NULL, NULL, &out, &err) != RC_OK)
		die(EX_BUG, "%s", err.text);
	for (char **e = environ; *e; e++)
		buf_addf(&out, "env %s\n", *e);
	answer = json_pack("{s:O, s:s, s:s, s:s, s:s}", "id", json_object_get(request, "id"),
			   "status", "ok", "format", "text", "text", out.data, "finish", "stop");
	if (!answer || airlock_write(STDOUT_FILENO, answer))
		die(EX_BUG, "the answer cannot be sent");
	json_decref(answer);
	json_decref(request);
	buf_release(&out);
	lines_release(&lines);
	return EX_ALL_DONE;
}

static bool has_line(const char *text, const char *prefix, const char *line)
{
	char *whole = xasprintf("\n%s%s", prefix, line);
	const char *at = strcasestr(text, whole);
	bool found = at != NULL;

	free(whole);
	return found;
}

static void judge_environment(struct verify *v, const char *text)
{
	size_t n = 0;

	if (has_line(text, "env ", "http_proxy=") || has_line(text, "env ", "https_proxy=") ||
	    has_line(text, "env ", "all_proxy=")) {
		verify_say(v, false, "offline", HELD_BY_SANDBOX, "a foreign recogniser is told a proxy");
		return;
	}
	for (; child_offline[n]; n++) {
		if (has_line(text, "env ", child_offline[n]))
			continue;
		verify_say(v, false, "offline", HELD_BY_SANDBOX,
			   "a foreign recogniser is not told %s", child_offline[n]);
		return;
	}
	verify_say(v, true, "offline", HELD_BY_SANDBOX,
		   "a foreign recogniser finds %s and %zu more in its environment, and no proxy",
		   child_offline[0], n - 1);
}

static void try_foreign(struct verify *v)
{
	char program[4096];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	char *command[] = { program, (char *)"verify", (char *)"--probe", (char *)v->tree, NULL };
	struct pipeline p;
	struct err err;
	bool is_text;
	char *text;

	program[n < 0 ? 0 : n] = '\0';
	pipeline_defaults(&p, "probe");
	p.recogniser = RECOGNISER_COMMAND;
	p.command = command;
	p.n_command = 4;
	text = verify_read_page(v, &p, &is_text, &err);
	if (text) {
		judge(v, SANDBOX_COMMAND, text, "0 1 2");
		judge_environment(v, text);
	} else {
		not_tried(v, SANDBOX_COMMAND, err.text);
		verify_say(v, false, "offline", HELD_BY_SANDBOX, "no foreign recogniser could be tried");
	}
	free(text);
	p.command = NULL;
	p.n_command = 0;
	pipeline_release(&p);
}

void verify_programs(struct verify *v)
{
	try_programs(v);
	try_foreign(v);
}
