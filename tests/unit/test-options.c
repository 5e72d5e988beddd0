/* SPDX-License-Identifier: MIT
 *
 * The command line: values are checked, mistakes are named with what was meant, and help, manual and
 * completion mention every option of the table.
 */
#include "base/err.h"
#include "options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct options o;
static const struct command *command;
static char said[8192]; /* on standard output and error, of the last parse() */

/* Split `line` at spaces, parse it, catch what is printed. */
static int parse(const char *line)
{
	static char copy[1024];
	static char *argv[32];
	FILE *catch = tmpfile();
	int out = dup(1), err = dup(2);
	int argc = 0;
	int code;
	size_t n;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *rest = copy, *word; (word = strsep(&rest, " "));)
		argv[argc++] = word;
	argv[argc] = NULL;
	fflush(stdout);
	dup2(fileno(catch), 1);
	dup2(fileno(catch), 2);
	code = options_parse(argc, argv, &command, &o);
	fflush(stdout);
	dup2(out, 1);
	dup2(err, 2);
	close(out);
	close(err);
	rewind(catch);
	n = fread(said, 1, sizeof(said) - 1, catch);
	said[n] = '\0';
	fclose(catch);
	return code;
}

static void assert_says(const char *what)
{
	if (!strstr(said, what))
		fail_msg("\"%s\" is not in: %s", what, said);
}

static void test_values(void **state)
{
	(void)state;
	assert_int_equal(parse("cloister run spool --once -j 4 --until 06:30"), -1);
	assert_string_equal(o.command, "run");
	assert_true(o.once);
	assert_int_equal(o.jobs, 4);
	assert_string_equal(o.until, "06:30");
	assert_int_equal(o.n_args, 1);
	assert_string_equal(o.args[0], "spool");
	assert_null(o.args[1]);

	assert_int_equal(parse("cloister submit a.pdf --priority=0 -P letters --spool s b.pdf -- -c"),
			 -1);
	assert_true(o.priority_given);
	assert_int_equal(o.priority, 0);
	assert_string_equal(o.pipeline, "letters");
	assert_string_equal(o.spool, "s");
	assert_int_equal(o.n_args, 3);
	assert_string_equal(o.args[2], "-c");

	assert_int_equal(parse("cloister ls -qs failed --json"), -1);
	assert_true(o.quiet && o.json && !o.verbose && !o.priority_given);
	assert_string_equal(o.state, "failed");
	assert_int_equal(parse("cloister ocr -"), -1);
	assert_string_equal(o.args[0], "-");
}

static void test_spool_from_environment(void **state)
{
	(void)state;
	setenv("CLOISTER_SPOOL", "from-env", 1);
	assert_int_equal(parse("cloister status"), -1);
	assert_string_equal(o.spool, "from-env");
	assert_int_equal(parse("cloister status --spool given"), -1);
	assert_string_equal(o.spool, "given");
	setenv("CLOISTER_SPOOL", "", 1);
	assert_int_equal(parse("cloister status"), -1);
	assert_null(o.spool);
	unsetenv("CLOISTER_SPOOL");
}

static void test_bad_values(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "cloister run s -j 0", "number from 1 to 512" },
		{ "cloister run s -j 513", "number from 1 to 512" },
		{ "cloister run s -j 4x", "4x" },
		{ "cloister run s -j -1", "-1" },
		{ "cloister run s --jobs", "needs a value" },
		{ "cloister run s -j", "needs a value" },
		{ "cloister run s --once=yes", "takes no value" },
		{ "cloister run s --until 24:00", "HH:MM" },
		{ "cloister run s --until 6:30", "HH:MM" },
		{ "cloister run s --until 12:60", "HH:MM" },
		{ "cloister run s --until 12:3:", "HH:MM" },
		{ "cloister submit f -p 10", "0 to 9" },
		{ "cloister submit f --spool=", "must not be empty" },
		{ "cloister ls -s faild", "did you mean failed?" },
		{ "cloister ls -s xyzzy", "must be one of waiting" },
		{ "cloister status -v -q", "exclude" },
		{ "cloister submit", "needs FILE" },
		{ "cloister run a b", "unexpected argument b" },
		{ "cloister status extra", "unexpected argument extra" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (parse(cases[i].line) != EX_USAGE_ERROR)
			fail_msg("%s: exit code is not 2", cases[i].line);
		assert_says(cases[i].says);
		assert_says("Try: cloister");
	}
}

static void test_what_was_meant(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{ "cloister sumbit x", "did you mean submit?" },
		{ "cloister statsu", "did you mean status?" },
		{ "cloister xyzzy", "unknown command xyzzy\n" },
		{ "cloister run s --onec", "did you mean --once?" },
		{ "cloister submit s --priorty=3", "did you mean --priority?" },
		{ "cloister run s -z", "unknown option -z" },
		{ "cloister run s --json", "unknown option --json" },
		{ "cloister --once run s", "options follow the command" },
		{ "cloister run\033[2J", "run\\x1b[2J" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (parse(cases[i].line) != EX_USAGE_ERROR)
			fail_msg("%s: exit code is not 2", cases[i].line);
		assert_says(cases[i].says);
		assert_null(strchr(said, '\033'));
	}
}

static void test_help_ends(void **state)
{
	(void)state;
	assert_int_equal(parse("cloister --help"), 0);
	assert_says("Commands:");
	assert_int_equal(parse("cloister run --help --nonsense"), 0);
	assert_says("Usage: cloister run [OPTION]... [SPOOL]");
	assert_int_equal(parse("cloister ls --version"), 0);
	assert_says("cloister " CLOISTER_VERSION "\n");
	assert_int_equal(parse("cloister"), EX_USAGE_ERROR);
	assert_says("Usage:");
}

/* Whatever the table has, all three texts have. */
static void test_texts_are_complete(void **state)
{
	struct buf help, man, bash;
	char word[80];

	(void)state;
	buf_init(&man, 1 << 20);
	buf_init(&bash, 1 << 20);
	options_man(&man);
	options_bash(&bash);
	for (const struct command *c = commands; c->name; c++) {
		buf_init(&help, 1 << 20);
		options_help(&help, c);
		snprintf(word, sizeof(word), ".Ss cloister %s\n", c->name);
		assert_non_null(strstr(man.data, word));
		snprintf(word, sizeof(word), "\t%s)\n", c->name);
		assert_non_null(strstr(bash.data, word));
		for (const struct option_spec *s = c->options; s->name; s++) {
			bool wanted = !s->hidden;

			snprintf(word, sizeof(word), "--%s", s->name);
			assert_int_equal(!!strstr(help.data, word), wanted);
			assert_int_equal(!!strstr(bash.data, word), wanted);
			snprintf(word, sizeof(word), "Fl -%s", s->name);
			assert_int_equal(!!strstr(man.data, word), wanted);
		}
		for (const char *line = help.data; line; line = strchr(line, '\n')) {
			line += *line == '\n';
			assert_true(strcspn(line, "\n") <= 80);
		}
		buf_release(&help);
	}
	buf_release(&man);
	buf_release(&bash);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_spool_from_environment),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_what_was_meant),
		cmocka_unit_test(test_help_ends),
		cmocka_unit_test(test_texts_are_complete),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	unsetenv("CLOISTER_SPOOL");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
