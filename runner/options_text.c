/* SPDX-License-Identifier: MIT
 *
 * What the table of commands says to people and shells: --help as plain text of 80 columns, the
 * manual page as mdoc(7), completion as a bash function. Texts are paragraphs separated by an empty
 * line; lines that start with two spaces are kept as they stand.
 */
#include "base/num.h"
#include "options_table.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define WIDTH       80
#define HELP_COLUMN 26

/* Exit codes, for help's overview and the manual. */
static const struct {
	const char *code, *meaning;
} exit_codes[] = {
	{ "0", "all done" },
	{ "1", "done, but some documents failed or are flagged" },
	{ "2", "the command line is wrong" },
	{ "70", "a bug in cloister" },
	{ "75", "work remains: start it again" },
	{ "78", "the configuration is wrong" },
	{ "128+N", "ended by signal N" },
};

static const struct {
	const char *name, *meaning;
} variables[] = {
	{ "CLOISTER_SPOOL", "The spool, where no --spool is given." },
	{ "CLOISTER_MODELS", "Folder of the models, instead of /models." },
	{ "CLOISTER_PIPELINES", "Folder of the shipped pipelines, instead of the installed one." },
	{ "CLOISTER_LIBEXEC", "Folder of the programs that cloister starts, likewise." },
	{ "TMPDIR", "Where ocr makes its temporary spool." },
};

static const struct {
	const char *path, *meaning;
} files[] = {
	{ "SPOOL/in/PIPELINE/", "Documents are dropped here, in sub-folders if you like." },
	{ "SPOOL/in/PIPELINE/NAME.cloister.yaml", "Ticket: options for the document NAME alone." },
	{ "SPOOL/out/PIPELINE/NAME/", "The result of a document." },
	{ "SPOOL/failed/PIPELINE/NAME",
	  "A document that could not be read; NAME.why.json beside it tells why." },
	{ "SPOOL/done/PIPELINE/NAME", "The original of a result." },
	{ "SPOOL/pipelines/NAME.yaml", "Your own pipelines." },
	{ "SPOOL/cloister.yaml", "Settings of the spool." },
	{ "MODEL/cloister.lock", "What models lock has written: SHA-256 of every file." },
	{ "SPOOL/state/status.json", "What status reads." },
	{ "SPOOL/state/cloister.prom", "The same as a Prometheus text file." },
};

/* Append text, wrapped, every line but the first indented; `column` is where we are. */
static void wrap(struct buf *out, const char *text, size_t indent, size_t column)
{
	bool first = true;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (!first && column + 1 + n > WIDTH) {
			buf_addf(out, "\n%*s", (int)indent, "");
			column = indent;
		} else if (!first) {
			buf_addc(out, ' ');
			column++;
		}
		buf_add(out, text, n);
		column += n;
		text += n;
		text += strspn(text, " ");
		first = false;
	}
	buf_addc(out, '\n');
}

/* Call `line` for each paragraph and each line of an example; `example` tells which. */
static void each_line(struct buf *out, const char *text,
		      void (*line)(struct buf *out, const char *text, bool example))
{
	while (*text) {
		size_t n = strcspn(text, "\n");
		struct buf one;

		buf_init(&one, 1 << 16);
		buf_add(&one, text, n);
		line(out, one.data, !strncmp(one.data, "  ", 2));
		buf_release(&one);
		text += n + (text[n] == '\n');
	}
}

static void help_line(struct buf *out, const char *text, bool example)
{
	if (example)
		buf_addf(out, "%s\n", text);
	else
		wrap(out, text, 0, 0);
}

static void help_entry(struct buf *out, const char *term, const char *text)
{
	if (strlen(term) > HELP_COLUMN - 4)
		buf_addf(out, "  %s\n%*s", term, HELP_COLUMN, "");
	else
		buf_addf(out, "  %-*s", HELP_COLUMN - 2, term);
	wrap(out, text, HELP_COLUMN, HELP_COLUMN);
}

static void help_options(struct buf *out, const struct command *command)
{
	const struct option_spec *spec = NULL;
	char term[80];

	while ((spec = option_next(command, spec))) {
		char letter[5] = "    ";

		if (spec->hidden)
			continue;
		if (spec->letter)
			snprintf(letter, sizeof(letter), "-%c, ", spec->letter);
		snprintf(term, sizeof(term), "%s--%s%s%s", letter, spec->name,
			 spec->value ? " " : "", spec->value ? spec->value : "");
		help_entry(out, term, spec->help);
	}
}

static void help_overview(struct buf *out)
{
	buf_adds(out, "Usage: cloister COMMAND [OPTION]... [ARGUMENT]...\n"
		      "Reads documents: files go into a spool, their text comes out of it.\n\n"
		      "Commands:\n");
	for (const struct command *c = commands; c->name; c++)
		help_entry(out, c->name, c->summary);
	buf_adds(out, "\nOptions:\n");
	help_options(out, NULL);
	buf_adds(out, "\nExit status:\n");
	for (size_t i = 0; i < ARRAY_SIZE(exit_codes); i++)
		buf_addf(out, "  %-6s %s\n", exit_codes[i].code, exit_codes[i].meaning);
	buf_adds(out, "\nMore about a command: cloister COMMAND --help. All of it: man cloister.\n");
}

void options_help(struct buf *out, const struct command *command)
{
	if (!command) {
		help_overview(out);
		return;
	}
	buf_addf(out, "Usage: cloister %s [OPTION]...%s%s\n", command->name,
		 *command->args ? " " : "", command->args);
	buf_addf(out, "%c%s.\n", toupper((unsigned char)command->summary[0]), command->summary + 1);
	if (command->text) {
		buf_addc(out, '\n');
		each_line(out, command->text, help_line);
	}
	buf_adds(out, "\nOptions:\n");
	help_options(out, command);
}

/* One character of text for mdoc; what troff would take for markup is escaped. */
static void man_char(struct buf *out, const char *text)
{
	if (*text == '\\')
		buf_adds(out, "\\e");
	else if (*text == '-')
		buf_adds(out, text[1] == '-' || isalnum((unsigned char)text[1]) ? "\\-" : "-");
	else if (*text == '~')
		buf_adds(out, "\\(ti");
	else
		buf_addc(out, *text);
}

/* Text in lines of at most WIDTH; a sentence ends its line, so that troff sees it. */
static void man_text(struct buf *out, const char *text)
{
	size_t column = 0;

	for (bool ended = false; *text;) {
		size_t n = strcspn(text, " ");

		if (column && (ended || column + 1 + n > WIDTH - 8)) {
			buf_addc(out, '\n');
			column = 0;
		} else if (column) {
			buf_addc(out, ' ');
		}
		if (!column && (*text == '.' || *text == '\''))
			buf_adds(out, "\\&");
		for (size_t i = 0; i < n; i++)
			man_char(out, text + i);
		column += n + 1;
		ended = text[n - 1] == '.' && isupper((unsigned char)text[n + (text[n] == ' ')]);
		text += n;
		text += strspn(text, " ");
	}
	buf_addc(out, '\n');
}

/* Take `end` off the end of the text, if it is there. */
static bool take_off(struct buf *out, const char *end)
{
	size_t n = strlen(end);

	if (out->len < n || strcmp(out->data + out->len - n, end))
		return false;
	out->len -= n;
	out->data[out->len] = '\0';
	return true;
}

static void man_line(struct buf *out, const char *text, bool example)
{
	if (example) {
		/* One display for all lines of an example; it makes its own distance. */
		if (!take_off(out, ".Ed\n")) {
			take_off(out, ".Pp\n");
			buf_adds(out, ".Bd -literal -offset indent\n");
		}
		for (text += 2; *text; text++)
			man_char(out, text);
		buf_adds(out, "\n.Ed\n");
	} else if (*text) {
		man_text(out, text);
	} else {
		buf_adds(out, ".Pp\n");
	}
}

static void man_args(struct buf *out, const char *args)
{
	const char *word = args;

	while (*word) {
		size_t n = strcspn(word, " ");
		bool optional = word[0] == '[';
		bool many = n > 3 && !strncmp(word + n - 3, "...", 3);
		size_t name = n - (many ? 3 : 0) - (optional ? 2 : 0);

		if (*word == '|')
			buf_adds(out, " |");
		else if (!strncmp(word, "--", 2))
			buf_addf(out, " Fl -%.*s", (int)n - 2, word + 2);
		else
			buf_addf(out, " %s%s %.*s%s", optional ? "Op " : "",
				 islower((unsigned char)word[optional]) ? "Cm" : "Ar", (int)name,
				 word + optional, many ? " ..." : "");
		word += n;
		word += strspn(word, " ");
	}
}

static void man_synopsis(struct buf *out, const struct command *command)
{
	buf_addf(out, ".Nm\n.Cm %s\n", command->name);
	for (const struct option_spec *spec = command->options; spec->name; spec++) {
		if (spec->hidden || strstr(command->args, spec->name))
			continue;
		if (spec->letter)
			buf_addf(out, ".Op Fl %c", spec->letter);
		else
			buf_addf(out, ".Op Fl -%s", spec->name);
		if (spec->value)
			buf_addf(out, " Ar %s", spec->value);
		buf_addc(out, '\n');
	}
	if (*command->args) {
		struct buf args;

		buf_init(&args, 1024);
		man_args(&args, command->args);
		buf_addf(out, ".%s\n", args.data + 1);
		buf_release(&args);
	}
}

/* A phrase of the table as a sentence. */
static void man_sentence(struct buf *out, const char *phrase)
{
	struct buf sentence;

	buf_init(&sentence, 4096);
	buf_addf(&sentence, "%c%s.", toupper((unsigned char)phrase[0]), phrase + 1);
	man_text(out, sentence.data);
	buf_release(&sentence);
}

static void man_option(struct buf *out, const struct option_spec *spec)
{
	buf_adds(out, ".It ");
	if (spec->letter)
		buf_addf(out, "Fl %c%s%s , ", spec->letter, spec->value ? " Ar " : "",
			 spec->value ? spec->value : "");
	buf_addf(out, "Fl -%s%s%s\n", spec->name, spec->value ? " Ar " : "",
		 spec->value ? spec->value : "");
	man_sentence(out, spec->help);
}

static void man_command(struct buf *out, const struct command *command)
{
	bool any = false;

	buf_addf(out, ".Ss cloister %s\n", command->name);
	man_sentence(out, command->summary);
	if (command->text) {
		buf_adds(out, ".Pp\n");
		each_line(out, command->text, man_line);
	}
	for (const struct option_spec *spec = command->options; spec->name; spec++) {
		if (spec->hidden)
			continue;
		if (!any)
			buf_adds(out, ".Bl -tag -width indent\n");
		any = true;
		man_option(out, spec);
	}
	if (any)
		buf_adds(out, ".El\n");
}

static void man_tail(struct buf *out)
{
	buf_adds(out, ".Sh ENVIRONMENT\n.Bl -tag -width CLOISTER_PIPELINES\n");
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		buf_addf(out, ".It Ev %s\n", variables[i].name);
		man_text(out, variables[i].meaning);
	}
	buf_adds(out, ".El\n.Sh FILES\n.Bl -tag -width indent\n");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		buf_addf(out, ".It Pa %s\n", files[i].path);
		man_text(out, files[i].meaning);
	}
	buf_adds(out, ".El\n.Sh EXIT STATUS\n.Bl -tag -width indent\n");
	for (size_t i = 0; i < ARRAY_SIZE(exit_codes); i++)
		buf_addf(out, ".It %s\n%c%s.\n", exit_codes[i].code,
			 toupper((unsigned char)exit_codes[i].meaning[0]), exit_codes[i].meaning + 1);
	buf_adds(out, ".El\n.Sh EXAMPLES\nRead one document and see its text:\n.Pp\n"
		      ".Dl cloister ocr scan.pdf\n.Pp\n"
		      "Work through a folder of scans by the morning:\n"
		      ".Bd -literal -offset indent\n"
		      "cloister run night \\-\\-once\n"
		      "cloister submit \\-\\-spool night \\-r scans\n"
		      "cloister run night \\-\\-once \\-\\-until 06:00\n.Ed\n.Pp\n"
		      "See what failed, mend it, and try again:\n"
		      ".Bd -literal -offset indent\n"
		      "cloister ls \\-\\-spool night \\-\\-state failed\n"
		      "cloister retry \\-\\-spool night \\-\\-all\n.Ed\n"
		      ".Sh SEE ALSO\n.Xr pdftotext 1 ,\n.Xr tesseract 1 ,\n.Xr cloister-airlock 7\n");
}

void options_man(struct buf *out)
{
	buf_adds(out, ".\\\" SPDX-License-Identifier: MIT\n"
		      ".\\\" Made from the table of commands by: cloister help --man\n"
		      ".Dd November 21, 2026\n.Dt CLOISTER 1\n.Os\n"
		      ".Sh NAME\n.Nm cloister\n.Nd read documents: files into a spool, text out of it\n"
		      ".Sh SYNOPSIS\n");
	for (const struct command *c = commands; c->name; c++)
		man_synopsis(out, c);
	buf_adds(out, ".Sh DESCRIPTION\n.Nm\n"
		      "turns scanned and other documents into text, offline.\n"
		      "Documents are dropped into a spool, a folder, and processed as the folder's\n"
		      "pipeline says; each ends as a result folder or beside the reason why not.\n"
		      "A run may be ended in any way at any time; the next one goes on where it was.\n"
		      ".Pp\nEvery command takes these options, where they have a meaning:\n"
		      ".Bl -tag -width indent\n");
	for (const struct option_spec *spec = common_options; spec->name; spec++)
		man_option(out, spec);
	buf_adds(out, ".El\n.Sh COMMANDS\n");
	for (const struct command *c = commands; c->name; c++)
		man_command(out, c);
	man_tail(out);
}

static void bash_words(struct buf *out, const struct command *command)
{
	const struct option_spec *spec = NULL;
	const char *space = "";

	while ((spec = option_next(command, spec))) {
		if (spec->hidden)
			continue;
		buf_addf(out, "%s--%s", space, spec->name);
		space = " ";
		if (spec->letter)
			buf_addf(out, " -%c", spec->letter);
	}
}

/* What completes the value of an option, as a compgen argument; NULL: nothing does. */
static const char *bash_action(const struct option_spec *spec, char *words, size_t size)
{
	switch (spec->type) {
	case OPTION_FOLDER:
		return "-d";
	case OPTION_FILE:
		return "-f";
	case OPTION_CHOICE:
		snprintf(words, size, "-W '%s'", spec->choices);
		return words;
	default:
		return NULL;
	}
}

/* One case of the function: what may follow the word before the cursor, then what stands alone. */
static void bash_command(struct buf *out, const struct command *command)
{
	static const char *const args[] = { [ARGS_NONE] = "-W ''",
					    [ARGS_FILES] = "-f",
					    [ARGS_FOLDER] = "-d",
					    [ARGS_COMMANDS] = "-W \"$commands\"",
					    [ARGS_SHELLS] = "-W bash",
					    [ARGS_MODELS] = "-f -W 'plan list lock verify diff "
							    "pack unpack'" };
	const struct option_spec *spec = NULL;
	char words[256];

	buf_addf(out, "\t%s)\n\t\tcase $before in\n", command->name);
	while ((spec = option_next(command, spec))) {
		const char *action = bash_action(spec, words, sizeof(words));

		if (spec->type == OPTION_FLAG || spec->hidden)
			continue;
		buf_addf(out, "\t\t--%s", spec->name);
		if (spec->letter)
			buf_addf(out, " | -%c", spec->letter);
		buf_addf(out, ") action=(%s) ;;\n", action ? action : "-W ''");
	}
	buf_adds(out, "\t\t*)\n\t\t\toptions='");
	bash_words(out, command);
	buf_addf(out, "'\n\t\t\taction=(%s)\n\t\t\t;;\n\t\tesac\n\t\t;;\n", args[command->complete]);
}

void options_bash(struct buf *out)
{
	buf_adds(out, "# bash completion for cloister, made by: cloister completion bash\n"
		      "_cloister()\n{\n"
		      "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
		      "\tlocal options='' action=(-W '')\n\tlocal commands='");
	for (const struct command *c = commands; c->name; c++)
		buf_addf(out, "%s%s", c == commands ? "" : " ", c->name);
	buf_adds(out, "'\n\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
		      "\t\toptions='");
	bash_words(out, NULL);
	buf_adds(out, "'\n\t\taction=(-W \"$commands\")\n"
		      "\telse\n\tcase ${COMP_WORDS[1]} in\n");
	for (const struct command *c = commands; c->name; c++)
		bash_command(out, c);
	buf_adds(out, "\tesac\n\tfi\n"
		      "\tif [[ $word == -* ]]; then\n\t\taction=(-W \"$options\")\n\tfi\n"
		      "\tmapfile -t COMPREPLY < <(compgen \"${action[@]}\" -- \"$word\")\n"
		      "}\ncomplete -o filenames -F _cloister cloister\n");
}
