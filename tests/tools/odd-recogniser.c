/* SPDX-License-Identifier: MIT
 *
 * odd-recogniser: an airlock recogniser that misbehaves in one way, to test who has to live with
 * it.
 *
 *   odd-recogniser --mode MODE
 *
 *   crash         dies of SIGSEGV at the first page
 *   hang          never answers
 *   garbage       answers with a line that is not JSON
 *   huge-line     answers with a line that does not end before 256 MiB
 *   long-line     answers for its second page with a whole line of 100 KB, else with the number of
 *                 pages it has answered for
 *   bad-utf8      answers with text that is not UTF-8
 *   wrong-id      answers for a page that it was not asked for
 *   error         answers that it could not read the page
 *   length, repetition  answers with a text that ended for that reason
 *   empty         answers with no text
 *   exit-after=N  reads N pages well, then exits 0 in the middle of its work
 *   slow-start    takes two seconds to say hello, then reads well
 *   no-hello      never says hello
 *   good          reads well, as the modes above do where they do not say otherwise
 */
#include "airlock.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/num.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HUGE_LINE (256u << 20)

static void say(const char *bytes)
{
	if (write_full(STDOUT_FILENO, bytes, strlen(bytes)))
		_exit(EX_BUG);
}

static void say_ok(json_int_t id, const char *text)
{
	char line[256];

	snprintf(line, sizeof(line),
		 "{\"id\":%lld,\"status\":\"ok\",\"format\":\"text\",\"text\":\"%s\"}\n",
		 (long long)id, text);
	say(line);
}

static void hang(void)
{
	for (;;)
		pause();
}

static void say_huge_line(void)
{
	static char chunk[65536];

	memset(chunk, 'x', sizeof(chunk));
	say("{\"id\":1,\"status\":\"ok\",\"text\":\"");
	for (size_t done = 0; done < HUGE_LINE; done += sizeof(chunk))
		if (write_full(STDOUT_FILENO, chunk, sizeof(chunk)))
			_exit(EX_BUG);
	say("\"}\n");
}

static void say_long_line(json_int_t id, unsigned nth)
{
	static char text[100000];
	char *line;

	if (nth == 2)
		memset(text, 'x', sizeof(text) - 1);
	else
		snprintf(text, sizeof(text), "answer %u", nth);
	line = xasprintf("{\"id\":%lld,\"status\":\"ok\",\"text\":\"%s\"}\n", (long long)id, text);
	say(line);
	free(line);
}

/* SIGSEGV even where a handler or a core limit would make a difference to a real fault. */
static void crash(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void answer(const char *mode, json_int_t id, unsigned nth)
{
	if (!strcmp(mode, "crash"))
		crash();
	else if (!strcmp(mode, "hang"))
		hang();
	else if (!strcmp(mode, "garbage"))
		say("\x1b[2J}{ not JSON\n");
	else if (!strcmp(mode, "huge-line"))
		say_huge_line();
	else if (!strcmp(mode, "long-line"))
		say_long_line(id, nth);
	else if (!strcmp(mode, "bad-utf8"))
		say_ok(id, "caf\xe9 \xed\xa0\x80");
	else if (!strcmp(mode, "wrong-id"))
		say_ok(id + 1000000, "of another page");
	else if (!strcmp(mode, "error")) {
		char line[128];

		snprintf(line, sizeof(line),
			 "{\"id\":%lld,\"status\":\"error\",\"error\":\"cannot read this page\"}\n",
			 (long long)id);
		say(line);
	} else if (!strcmp(mode, "length") || !strcmp(mode, "repetition")) {
		char line[128];

		snprintf(line, sizeof(line),
			 "{\"id\":%lld,\"status\":\"ok\",\"text\":\"and so on\",\"finish\":\"%s\"}\n",
			 (long long)id, mode);
		say(line);
	} else {
		say_ok(id, strcmp(mode, "empty") ? "read well" : " ");
	}
}

static bool mode_is_known(const char *mode)
{
	static const char *const modes[] = { "crash",	  "hang",     "garbage",  "huge-line",
					     "long-line", "bad-utf8", "wrong-id", "error",
					     "length",	  "repetition", "empty",
					     "slow-start", "no-hello", "good" };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (!strcmp(mode, modes[i]))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static const struct option table[] = { { "mode", required_argument, NULL, 'm' },
					       { NULL, 0, NULL, 0 } };
	static const char exit_after[] = "exit-after=";
	const char *mode = "";
	uint64_t left = UINT64_MAX;
	unsigned nth = 0;
	struct lines lines;
	char *line;
	size_t len;
	int c;

	log_init("odd-recogniser", LOG_INFO);
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (c != 'm')
			return EX_USAGE_ERROR;
		mode = optarg;
	}
	if (strncmp(mode, exit_after, strlen(exit_after)) ? !mode_is_known(mode) :
	    !parse_u64(mode + strlen(exit_after), 1000000, &left))
		die(EX_USAGE_ERROR, "unknown mode \"%s\"", mode);
	if (!strcmp(mode, "slow-start"))
		sleep(2);
	if (!strcmp(mode, "no-hello"))
		hang();
	say("{\"airlock\":1,\"name\":\"odd\",\"version\":\"1\",\"window\":1,\"formats\":[\"text\"],"
	    "\"takes\":[\"page\",\"text\"],"
	    "\"model\":{\"name\":\"odd\",\"sha256\":"
	    "\"0000000000000000000000000000000000000000000000000000000000000000\"}}\n");
	lines_init(&lines, STDIN_FILENO, REQUEST_MAX);
	while (left-- && lines_next(&lines, &line, &len) == LINES_ONE) {
		struct err err;
		json_t *request = airlock_parse(line, len, &err);

		answer(mode, json_integer_value(json_object_get(request, "id")), ++nth);
		json_decref(request);
	}
	lines_release(&lines);
	return EX_ALL_DONE;
}
