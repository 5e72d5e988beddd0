/* SPDX-License-Identifier: MIT
 *
 * wrong-recogniser: keeps to cloister-airlock(7) in all but one point, to test who looks for that.
 *
 *   wrong-recogniser [FAULT]
 *
 * It answers for a page how dark it is, and for a text how long.  The faults stand in the table
 * below; without one it is right.
 */
#include "airlock.h"
#include "picture.h"
#include "base/buf.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/num.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW 4

static const char *const faults[] = {
	"loads",	  /* none: it says hello first, and loads then */
	"no-hello",	  /* says nothing */
	"no-json",	  /* a hello that is not JSON */
	"early-end",	  /* ends before its hello */
	"never-ready",	  /* loads for ever */
	"early-answer",	  /* answers while it says that it loads */
	"old-version",	  /* "airlock":0 */
	"wide-window",	  /* a window of 2000 */
	"short-hash",	  /* a sha256 of 8 digits */
	"odd-takes",	  /* takes speech */
	"chatter",	  /* a line for people on standard output */
	"silent",	  /* no answer to anything */
	"changing",	  /* each answer is another */
	"grey-only",	  /* dies of colour */
	"no-blanks",	  /* an error for a blank page */
	"divides",	  /* dies of a page of one pixel */
	"small",	  /* dies of a large page */
	"missing-ok",	  /* an empty text for a page that is not there */
	"missing-dies",	  /* dies of it */
	"cut-ok",	  /* an empty text for a page that is cut short */
	"pages-only",	  /* says that it takes texts, and answers them by errors */
	"empty-dies",	  /* dies of an empty text */
	"long-text-lost", /* no answer to a long text */
	"strict",	  /* an error for a key that it does not know */
	"latin-1",	  /* writes back the prompt, without what is not Latin-1, as that */
	"echo",		  /* writes back the prompt, unquoted */
	"short-lines",	  /* reads 8,192 bytes a line */
	"prompt-needed",  /* dies without a prompt */
	"mixed",	  /* gives two answers each other's id, where it can */
	"one-of-all",	  /* forgets all requests but the first that wait */
	"twice",	  /* answers twice, where several wait */
	"once-an-id",	  /* no answer to an id that it has seen */
	"float-ids",	  /* reads ids as single-precision numbers */
	"impatient",	  /* ends when there is nothing to do for a second */
	"talks-idle",	  /* says something then */
	"stays",	  /* does not end with its input */
	"ends-with-1",	  /* ends with 1 */
	"half-line",	  /* takes half a line for a request, and dies of it */
	"bad-confidence", /* a confidence of 95 */
	"no-text",	  /* a result without text */
	"too-long",	  /* an answer that does not end */
	NULL,
};

static const char *fault = "";
static json_int_t seen[256];
static unsigned n_seen, n_answers;

static bool has(const char *which)
{
	return !strcmp(fault, which);
}

static void say(const char *bytes)
{
	if (write_full(STDOUT_FILENO, bytes, strlen(bytes)))
		_exit(EX_BUG);
}

static void die_of_it(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void say_hello(void)
{
	bool loads = has("loads") || has("never-ready") || has("early-answer");

	if (has("early-end"))
		die(EX_CONFIGURATION, "there is no model");
	if (has("no-hello"))
		for (;;)
			pause();
	if (has("no-json"))
		say("loading the model ...\n");
	printf("{%s\"airlock\":%d,\"name\":\"wrong\",\"version\":\"1\",\"window\":%d,\"formats\":["
	       "\"text\"],"
	       "\"takes\":[\"page\",\"text\"%s],\"model\":{\"name\":\"none\",\"sha256\":\"%s\"}}\n",
	       loads ? "\"loading\":true," : "", !has("old-version"), has("wide-window") ? 2000 : WINDOW,
	       has("odd-takes") ? ",\"speech\"" : "",
	       has("short-hash")
		       ? "01234567"
		       : "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	fflush(stdout);
	if (has("loads"))
		say("{\"ready\":true}\n");
	if (has("early-answer"))
		say("{\"id\":1,\"status\":\"ok\",\"text\":\"\"}\n");
	if (has("never-ready"))
		for (;;)
			pause();
}

/* How dark it is, or why it cannot be told. */
static enum rc look(json_t *request, struct buf *text, struct err *err)
{
	const char *page = json_string_value(json_object_get(request, "page"));
	json_int_t width = json_integer_value(json_object_get(request, "width"));
	json_int_t height = json_integer_value(json_object_get(request, "height"));
	int here = open(".", O_RDONLY | O_DIRECTORY);
	struct picture picture;
	uint64_t dark = 0;
	bool empty;
	size_t n;
	enum rc rc;

	if (has("divides") && width == 1)
		die_of_it();
	if (has("small") && width * height > 10000000)
		die_of_it();
	rc = picture_load(&picture, here, ".", page, (uint32_t)width, (uint32_t)height, err);
	close(here);
	if (rc != RC_OK) {
		if (has("missing-dies") && strstr(err->text, "No such file"))
			die_of_it();
		return strstr(err->text, "No such file") ? (has("missing-ok") ? RC_OK : rc)
		       : has("cut-ok")			 ? RC_OK
							 : rc;
	}
	n = (size_t)picture.width * picture.height * picture.channels;
	for (size_t i = 0; i < n; i++)
		dark += 255 - picture.pixels[i];
	if (has("grey-only") && picture.channels == 3)
		die_of_it();
	empty = !dark && picture.channels == 1 && width == 900;
	picture_release(&picture);
	if (has("no-blanks") && empty)
		return err_set(err, RC_FAILED, "empty", "there is nothing on it");
	buf_addf(text, "dark by %llu", (unsigned long long)dark);
	return RC_OK;
}

static enum rc work(json_t *request, struct buf *text, struct err *err)
{
	const char *asked = json_string_value(json_object_get(request, "text"));
	const char *prompt = json_string_value(json_object_get(request, "prompt"));
	enum rc rc = RC_OK;

	if (has("prompt-needed") && !prompt)
		die_of_it();
	if (has("strict") && json_object_get(request, "a-key-of-tomorrow"))
		return err_set(err, RC_FAILED, "key", "what is that?");
	if (asked && has("pages-only"))
		return err_set(err, RC_FAILED, "text", "that is a text");
	if (asked && !*asked && has("empty-dies"))
		die_of_it();
	if (asked)
		buf_addf(text, "%zu bytes", strlen(asked));
	else
		rc = look(request, text, err);
	if (prompt && has("latin-1"))
		for (const char *p = prompt; *p; p++)
			if ((unsigned char)*p == 0xc3)
				buf_addc(text, (char)(p[1] + 0x40));
	if (prompt && has("echo"))
		buf_adds(text, prompt);
	if (has("changing"))
		buf_addf(text, ", answer %u", ++n_answers);
	return rc;
}

static void send(json_int_t id, enum rc rc, const struct buf *text, const struct err *err)
{
	const char *said = text->data ? text->data : "";

	if (has("float-ids"))
		id = (json_int_t)(float)id;
	if (has("chatter"))
		say("reading a page\n");
	if (has("too-long"))
		for (;;)
			say("{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{"
			    "{{{{{{");
	if (rc != RC_OK)
		printf("{\"id\":%lld,\"status\":\"error\",\"error\":\"%s\"}\n", (long long)id,
		       err->text);
	else if (has("no-text"))
		printf("{\"id\":%lld,\"status\":\"ok\"}\n", (long long)id);
	else
		printf("{\"id\":%lld,\"status\":\"ok\",\"confidence\":%s,\"text\":\"%s\"}\n",
		       (long long)id, has("bad-confidence") ? "95" : "0.95", said);
	fflush(stdout);
}

static bool was_seen(json_int_t id)
{
	for (unsigned i = 0; i < n_seen; i++)
		if (seen[i] == id)
			return true;
	if (n_seen < ARRAY_SIZE(seen))
		seen[n_seen++] = id;
	return false;
}

static void answer(char *const *line, size_t n)
{
	struct buf text[WINDOW];
	struct err err[WINDOW];
	json_int_t id[WINDOW];
	enum rc rc[WINDOW];

	for (size_t i = 0; i < n; i++) {
		json_t *request = airlock_parse(line[i], strlen(line[i]), &err[i]);
		const char *asked = json_string_value(json_object_get(request, "text"));

		if (!request)
			die_of_it();
		id[i] = json_integer_value(json_object_get(request, "id"));
		buf_init(&text[i], 1 << 20);
		rc[i] = work(request, &text[i], &err[i]);
		if (has("silent") || (has("once-an-id") && was_seen(id[i])) ||
		    (has("long-text-lost") && asked && strlen(asked) > 100000))
			id[i] = 0;
		json_decref(request);
	}
	if (has("mixed") && n > 1) {
		json_int_t first = id[0];

		id[0] = id[1];
		id[1] = first;
	}
	for (size_t i = 0; i < (has("one-of-all") ? 1 : n); i++)
		if (id[i])
			send(id[i], rc[i], &text[i], &err[i]);
	if (has("twice") && n > 1)
		send(id[0], rc[0], &text[0], &err[0]);
	for (size_t i = 0; i < n; i++)
		buf_release(&text[i]);
}

static void when_idle(int number)
{
	(void)number;
	if (has("impatient"))
		_exit(0);
	say("{\"id\":1,\"status\":\"error\",\"error\":\"I am still here\"}\n");
}

/* All that wait, up to the window; then their answers. */
static void serve(void)
{
	char *line[WINDOW], *next;
	struct lines lines;
	enum lines_status status;
	size_t n = 0, len;

	lines_init(&lines, STDIN_FILENO, has("short-lines") ? 8192 : REQUEST_MAX);
	for (;;) {
		if (has("impatient") || has("talks-idle"))
			alarm(n ? 0 : 1);
		fcntl(STDIN_FILENO, F_SETFL, n ? O_NONBLOCK : 0);
		status = lines_next(&lines, &next, &len);
		alarm(0);
		if (status == LINES_ONE) {
			line[n++] = xstrdup(next);
			if (n < WINDOW) {
				usleep(20000); /* for others to come */
				continue;
			}
		}
		answer(line, n);
		while (n)
			free(line[--n]);
		if (status == LINES_ERROR)
			die(EX_BUG, "a line is too long");
		if (status == LINES_EOF)
			break;
	}
	if (has("half-line") && lines.in.len)
		die_of_it();
	lines_release(&lines);
}

int main(int argc, char **argv)
{
	size_t i = 0;

	log_init("wrong-recogniser", LOG_INFO);
	if (argc > 1)
		fault = argv[1];
	while (*fault && faults[i] && strcmp(fault, faults[i]))
		i++;
	if (argc > 2 || (*fault && !faults[i]))
		die(EX_USAGE_ERROR, "there is no such fault");
	signal(SIGALRM, when_idle);
	say_hello();
	serve();
	if (has("stays"))
		for (;;)
			pause();
	return has("ends-with-1") ? 1 : EX_ALL_DONE;
}
