/* SPDX-License-Identifier: MIT
 *
 * options: from the table (commands.c) to struct options, by way of getopt_long.
 *
 * Every value is checked here, by its type in the table, before a command sees it. A usage error is
 * two lines on standard error and exit code 2: what is wrong, with what was probably meant, and
 * where help is.
 */
#include "options.h"
#include "base/err.h"
#include "base/name.h"
#include "base/num.h"
#include "base/suggest.h"
#include "options_table.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32
#define HELP_BYTES  (1 << 20)
#define LONG_VALUE  256 /* getopt's value for table entry i is LONG_VALUE + i */

const struct option_spec common_options[] = {
	[COMMON_SPOOL] = { "spool", 0, OPTION_FOLDER, "DIR", "the spool (default: $CLOISTER_SPOOL)",
			   .offset = offsetof(struct options, spool) },
	[COMMON_JSON] = { "json", 0, OPTION_FLAG, NULL, "print JSON",
			  .offset = offsetof(struct options, json) },
	[COMMON_VERBOSE] = { "verbose", 'v', OPTION_FLAG, NULL, "log more",
			     .offset = offsetof(struct options, verbose) },
	[COMMON_QUIET] = { "quiet", 'q', OPTION_FLAG, NULL, "log and print only what went wrong",
			   .offset = offsetof(struct options, quiet) },
	[COMMON_HELP] = { "help", 'h', OPTION_FLAG, NULL, "explain and end",
			  .offset = offsetof(struct options, help) },
	[COMMON_VERSION] = { "version", 0, OPTION_FLAG, NULL, "print the version and end",
			     .offset = offsetof(struct options, version) },
	[COMMON_OPTIONS] = { NULL },
};

const struct option_spec *option_next(const struct command *command, const struct option_spec *last)
{
	const struct option_spec *next;

	if (!command)
		next = last ? last + 1 : &common_options[COMMON_HELP];
	else
		next = last ? last + 1 : command->options;
	if (command && !next->name && next != &common_options[COMMON_OPTIONS])
		next = common_options;
	if (command && next == &common_options[COMMON_SPOOL] && command->no_spool)
		next++;
	if (command && next == &common_options[COMMON_JSON] && command->no_json)
		next++;
	return next->name ? next : NULL;
}

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static int usage(const struct command *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Says what is wrong; the value is the exit code. */
static int usage(const struct command *command, const char *format, ...)
{
	struct buf raw, line;
	const char *space = command ? " " : "";
	const char *name = command ? command->name : "";
	va_list ap;

	buf_init(&raw, 8192);
	buf_init(&line, 4 * 8192);
	va_start(ap, format);
	buf_vaddf(&raw, format, ap);
	va_end(ap);
	if (!raw.overflow)
		name_escape(&line, raw.data, raw.len);
	fprintf(stderr, "cloister%s%s: %s\n", space, name,
		raw.overflow ? "argument too long" : line.data);
	fprintf(stderr, "Try: cloister%s%s --help\n", space, name);
	buf_release(&raw);
	buf_release(&line);
	return EX_USAGE_ERROR;
}

static int unknown_option(const struct command *command, const char *word)
{
	struct suggestion meant = { NULL, 0 };
	const struct option_spec *spec = NULL;
	char bare[64];

	snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(word, "="), word);
	while (!strncmp(bare, "--", 2) && (spec = option_next(command, spec)))
		if (!spec->hidden)
			suggest(&meant, bare + 2, spec->name);
	if (meant.word)
		return usage(command, "unknown option %s; did you mean --%s?", word, meant.word);
	return usage(command, "unknown option %s", word);
}

static bool time_valid(const char *s)
{
	return strlen(s) == 5 && s[2] == ':' && strspn(s, "0123456789:") == 5 && s[0] != ':' &&
	       s[1] != ':' && s[3] != ':' && s[4] != ':' && memcmp(s, "24", 2) < 0 && s[3] < '6';
}

/* Is `word` one of the words of `list`? */
static bool choice_valid(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; *p;) {
		size_t len = strcspn(p, " ");

		if (len == n && !memcmp(p, word, n))
			return true;
		p += len + (p[len] == ' ');
	}
	return false;
}

static int bad_choice(const struct command *command, const struct option_spec *spec,
		      const char *value)
{
	struct suggestion meant = { NULL, 0 };
	char *list = xstrdup(spec->choices);
	char *rest = list;
	int code;

	for (char *word; (word = strsep(&rest, " "));)
		suggest(&meant, value, word);
	if (meant.word)
		code = usage(command, "--%s %s: did you mean %s?", spec->name, value, meant.word);
	else
		code = usage(command, "--%s %s: must be one of %s", spec->name, value, spec->choices);
	free(list);
	return code;
}

/* Store an option that was given. -1, or the exit code. */
static int store(const struct command *command, const struct option_spec *spec, const char *value,
		 struct options *options)
{
	char *target = (char *)options + spec->offset;

	if (spec->given)
		*(bool *)((char *)options + spec->given) = true;
	switch (spec->type) {
	case OPTION_FLAG:
		*(bool *)target = true;
		return -1;
	case OPTION_NUMBER:
		if (!parse_u64(value, spec->max, (uint64_t *)target) ||
		    *(uint64_t *)target < spec->min)
			return usage(command, "--%s %s: must be a number from %llu to %llu",
				     spec->name, value, (unsigned long long)spec->min,
				     (unsigned long long)spec->max);
		return -1;
	case OPTION_TIME:
		if (!time_valid(value))
			return usage(command, "--%s %s: must be a time of day, HH:MM", spec->name,
				     value);
		break;
	case OPTION_CHOICE:
		if (!choice_valid(spec->choices, value))
			return bad_choice(command, spec, value);
		break;
	case OPTION_TEXT:
	case OPTION_FOLDER:
	case OPTION_FILE:
		if (!*value)
			return usage(command, "--%s: must not be empty", spec->name);
		break;
	}
	*(const char **)target = value;
	return -1;
}

/* getopt's view of a command's table. */
struct getopt_table {
	const struct option_spec *specs[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1];
	char letters[2 * OPTIONS_MAX + 2];
};

static void getopt_table_fill(struct getopt_table *t, const struct command *command)
{
	const struct option_spec *spec = NULL;
	size_t n = 0;
	size_t k = 0;

	*t = (struct getopt_table){ 0 };
	t->letters[k++] = ':'; /* tell a missing value from an unknown option */
	while ((spec = option_next(command, spec))) {
		if (n == OPTIONS_MAX)
			BUG("too many options");
		t->longs[n] = (struct option){ .name = spec->name,
					       .has_arg = spec->type == OPTION_FLAG
								  ? no_argument
								  : required_argument,
					       .val = LONG_VALUE + (int)n };
		t->specs[n++] = spec;
		if (spec->letter) {
			t->letters[k++] = spec->letter;
			if (spec->type != OPTION_FLAG)
				t->letters[k++] = ':';
		}
	}
}

static const struct option_spec *spec_of(const struct getopt_table *t, int value)
{
	if (value >= LONG_VALUE)
		return t->specs[value - LONG_VALUE];
	for (size_t i = 0; i < OPTIONS_MAX && t->specs[i]; i++)
		if (t->specs[i]->letter == value)
			return t->specs[i];
	BUG("getopt returned %d", value);
}

/* What getopt did not like. optopt is 0 for an unknown or ambiguous long option. */
static int getopt_error(const struct command *command, const struct getopt_table *t, int c,
			const char *word)
{
	char letter[3] = { '-', (char)optopt, '\0' };

	if (c == ':')
		return usage(command, "--%s: needs a value, %s", spec_of(t, optopt)->name,
			     spec_of(t, optopt)->value);
	if (optopt >= LONG_VALUE)
		return usage(command, "--%s: takes no value", spec_of(t, optopt)->name);
	return unknown_option(command, optopt ? letter : word);
}

static int print_help(const struct command *command)
{
	struct buf out;

	buf_init(&out, HELP_BYTES);
	options_help(&out, command);
	fwrite(out.data, 1, out.len, stdout);
	buf_release(&out);
	return EX_ALL_DONE;
}

static int print_version(void)
{
	puts("cloister " CLOISTER_VERSION);
	return EX_ALL_DONE;
}

const char *command_suggest(const char *name)
{
	struct suggestion meant = { NULL, 0 };

	for (const struct command *c = commands; c->name; c++)
		suggest(&meant, name, c->name);
	return meant.word;
}

/* The first word is not a command: only --help and --version have a meaning. */
static int parse_without_command(int argc, char **argv)
{
	const char *meant;
	struct buf out;

	if (argc < 2) {
		buf_init(&out, HELP_BYTES);
		options_help(&out, NULL);
		fwrite(out.data, 1, out.len, stderr);
		buf_release(&out);
		return EX_USAGE_ERROR;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return print_help(NULL);
	if (!strcmp(argv[1], "--version"))
		return print_version();
	if (argv[1][0] == '-')
		return usage(NULL, "%s: options follow the command", argv[1]);
	meant = command_suggest(argv[1]);
	if (meant)
		return usage(NULL, "unknown command %s; did you mean %s?", argv[1], meant);
	return usage(NULL, "unknown command %s", argv[1]);
}

static int check_args(const struct command *command, const struct options *options)
{
	if (options->n_args < command->min_args)
		return usage(command, "needs %s", command->args);
	if (command->max_args >= 0 && options->n_args > command->max_args)
		return usage(command, "unexpected argument %s", options->args[command->max_args]);
	if (options->verbose && options->quiet)
		return usage(command, "--verbose and --quiet exclude each other");
	return -1;
}

/* Where in argv what is no longer ours begins: after an option that is the last; else argc. */
static int rest_begins(const struct command *command, int argc, char **argv)
{
	for (int i = 2; i < argc && strcmp(argv[i], "--"); i++)
		for (const struct option_spec *s = command->options; s->name; s++)
			if (s->last && !strncmp(argv[i], "--", 2) && !strcmp(argv[i] + 2, s->name))
				return i + 1 + (i + 1 < argc && !strcmp(argv[i + 1], "--"));
	return argc;
}

int options_parse(int argc, char **argv, const struct command **command, struct options *options)
{
	struct getopt_table table;
	int code = -1;
	int c, n_rest;
	char **rest;

	*options = (struct options){ 0 };
	*command = argc > 1 ? command_find(argv[1]) : NULL;
	if (!*command)
		return parse_without_command(argc, argv);
	options->command = (*command)->name;
	getopt_table_fill(&table, *command);
	n_rest = rest_begins(*command, argc, argv);
	rest = argv + n_rest;
	n_rest = argc - n_rest;
	argc -= n_rest;
	opterr = 0;
	optind = 0; /* glibc: start anew */
	while (code < 0 &&
	       (c = getopt_long(argc - 1, argv + 1, table.letters, table.longs, NULL)) != -1) {
		if (c == '?' || c == ':')
			code = getopt_error(*command, &table, c, argv[optind]);
		else
			code = store(*command, spec_of(&table, c), optarg, options);
		if (code < 0 && options->help)
			return print_help(*command);
		if (code < 0 && options->version)
			return print_version();
	}
	if (code >= 0)
		return code;
	options->args = argv + 1 + optind;
	options->n_args = argc - 1 - optind;
	if (n_rest && options->n_args)
		return usage(*command, "unexpected argument %s", options->args[0]);
	if (n_rest) {
		options->args = rest;
		options->n_args = n_rest;
	}
	if (!options->spool)
		options->spool = getenv("CLOISTER_SPOOL");
	if (options->spool && !*options->spool)
		options->spool = NULL;
	return check_args(*command, options);
}
