/* SPDX-License-Identifier: MIT
 *
 * cloister-decode: one document in, pages out; the process that may be taken over.
 *
 * Everything here serves one invariant: no byte of the document is parsed before the sandbox is
 * closed, and nothing is opened lazily after it.  Hence the order: arguments, the open line (from
 * the supervisor, trusted; it brings the limits), what libraries load on first use, the sandbox,
 * and only then the work of serve.c, unpack.c, figures.c, web.c or ticket.c.
 */
#include "airlock.h"
#include "base/log.h"
#include "base/num.h"
#include "decode.h"
#include "probe.h"
#include "sandbox.h"
#include "serve.h"

#include <getopt.h>
#include <locale.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TICKET_MEMORY (256ull << 20)
#define FIGURES_MEMORY (512ull << 20) /* beside the page: the pictures, three times */
#define HTML_MEMORY    (512ull << 20)
#define PDF_WITHIN    2048 /* sniff() looks no further for a PDF's first line */
#define OPEN_FILES    (DECODE_SLOT_FD + DECODE_SLOTS_MAX + 32)

struct options {
	unsigned slots;
	bool unpack, figures, html;
	const char *ticket, *probe;
	enum sandbox_mode sandbox;
};

static const char help[] =
	"Usage: cloister-decode [--slots N] [--sandbox on|try|off]\n"
	"       cloister-decode --unpack [--sandbox on|try|off]\n"
	"       cloister-decode --figures [--sandbox on|try|off]\n"
	"       cloister-decode --html [--sandbox on|try|off]\n"
	"       cloister-decode --ticket NAME [--sandbox on|try|off]\n"
	"Decode the document on descriptor 3 for `cloister`, which starts this program.\n"
	"\n"
	"  --slots N       page slots on descriptors 4 and up, 1 to 64 (default 1)\n"
	"  --unpack        write the members of an archive to standard output\n"
	"  --figures       cut pictures out of a page\n"
	"  --html          turn a page's text into HTML that is safe for a browser\n"
	"  --ticket NAME   check a document's ticket; NAME stands in messages\n"
	"  --probe DIR     try what the sandbox refuses, as `cloister verify` wants it\n"
	"  --sandbox MODE  on: refuse to work without every layer (default); try: use what the\n"
	"                  system has; off: none, for debugging\n"
	"  --help, --version\n";

static void parse_options(struct options *o, int argc, char **argv)
{
	static const struct option table[] = {
		{ "slots", required_argument, NULL, 's' },   { "unpack", no_argument, NULL, 'u' },
		{ "ticket", required_argument, NULL, 't' },  { "sandbox", required_argument, NULL, 'x' },
		{ "probe", required_argument, NULL, 'p' },   { "figures", no_argument, NULL, 'f' },
		{ "html", no_argument, NULL, 'w' },          { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t slots;
	int c;

	*o = (struct options){ .slots = 1 };
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 's':
			if (!parse_u64(optarg, DECODE_SLOTS_MAX, &slots) || !slots)
				die(EX_USAGE_ERROR, "--slots is a number from 1 to %d",
				    DECODE_SLOTS_MAX);
			o->slots = (unsigned)slots;
			break;
		case 'u':
			o->unpack = true;
			break;
		case 'f':
			o->figures = true;
			break;
		case 'w':
			o->html = true;
			break;
		case 't':
			o->ticket = optarg;
			break;
		case 'x':
			o->sandbox = sandbox_mode_parse(optarg);
			break;
		case 'p':
			o->probe = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			exit(EX_ALL_DONE);
		case 'v':
			puts("cloister-decode " CLOISTER_VERSION);
			exit(EX_ALL_DONE);
		default:
			exit(EX_USAGE_ERROR);
		}
	}
	if (optind < argc || o->unpack + o->figures + o->html + !!o->ticket > 1)
		die(EX_USAGE_ERROR, "see cloister-decode --help");
}

/* The first line: the document's name and the settings. false at end of file. */
static bool read_open_line(struct lines *in, char **name, struct pipeline *p)
{
	struct err err;
	json_t *line, *open;
	char *text;
	size_t len;

	switch (lines_next(in, &text, &len)) {
	case LINES_EOF:
		return false;
	case LINES_ONE:
		break;
	default:
		die(EX_USAGE_ERROR, "the open line cannot be read");
	}
	line = airlock_parse(text, len, &err);
	if (!line)
		die(EX_USAGE_ERROR, "open line: %s", err.text);
	open = json_object_get(line, "open");
	if (!json_is_string(json_object_get(open, "name")))
		die(EX_USAGE_ERROR, "open line: no name");
	if (pipeline_from_json(p, json_object_get(open, "pipeline"), &err))
		die(EX_USAGE_ERROR, "open line: %s", err.text);
	*name = xstrdup(json_string_value(json_object_get(open, "name")));
	json_decref(line);
	return true;
}

/* A look without parsing: fonts take a while to load, and only PDFs need them. */
static bool may_be_pdf(void)
{
	char head[PDF_WITHIN];
	ssize_t n = pread(DECODE_DOCUMENT_FD, head, sizeof(head), 0);

	return n > 0 && memmem(head, (size_t)n, "%PDF-", 5);
}

static void enter_sandbox(enum sandbox_kind kind, enum sandbox_mode mode, uint64_t memory)
{
	static const char *const read[] = {
		"/usr/share/fonts",        "/usr/local/share/fonts", "/etc/fonts",
		"/usr/share/fontconfig",   "/var/cache/fontconfig",  "/usr/share/poppler",
		"/usr/share/ghostscript/fonts", NULL,
	};
	const struct sandbox_rules rules = {
		.read = kind == SANDBOX_DECODE ? read : NULL,
		.write_fd = -1,
		.memory_bytes = memory,
		.open_files = OPEN_FILES,
	};

	sandbox_enter_or_die(kind, &rules, mode);
}

static uint64_t bytes_of_document(void)
{
	struct stat st;

	return fstat(DECODE_DOCUMENT_FD, &st) ? 0 : (uint64_t)st.st_size;
}

static void enter_for_probe(const void *options)
{
	const struct options *o = options;

	enter_sandbox(o->unpack || o->figures || o->html ? SANDBOX_UNPACK : SANDBOX_DECODE,
		      o->sandbox, TICKET_MEMORY);
}

/* The same on every machine: one arena, so that the memory limit is about memory and not about
 * address space set aside; no time zone, language or home of whoever started us. */
static void settle(void)
{
	mallopt(M_ARENA_MAX, 1);
	setenv("TZ", "UTC", 1);
	tzset();
	setenv("HOME", "/nonexistent", 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_DATA_HOME");
	unsetenv("XDG_CACHE_HOME");
	setlocale(LC_CTYPE, "C.UTF-8");
}

int main(int argc, char **argv)
{
	struct options o;
	struct pipeline p;
	struct lines in;
	char *name;
	int code;

	log_init("cloister-decode", LOG_INFO);
	parse_options(&o, argc, argv);
	sandbox_close_from(DECODE_SLOT_FD + (o.unpack || o.ticket || o.figures || o.html ? 0 : (int)o.slots),
			   NULL, 0);
	settle();
	if (o.probe)
		return probe_main(o.probe, enter_for_probe, &o);
	if (o.ticket) {
		enter_sandbox(SANDBOX_DECODE, o.sandbox, TICKET_MEMORY);
		return ticket_main(o.ticket);
	}
	if (o.figures) {
		enter_sandbox(SANDBOX_UNPACK, o.sandbox, FIGURES_MEMORY + bytes_of_document());
		return figures_main();
	}
	if (o.html) {
		enter_sandbox(SANDBOX_UNPACK, o.sandbox, HTML_MEMORY);
		return web_main();
	}
	lines_init(&in, STDIN_FILENO, REQUEST_MAX);
	if (!read_open_line(&in, &name, &p))
		return EX_ALL_DONE;
	if (!o.unpack && may_be_pdf())
		pdf_warm_up();
	enter_sandbox(o.unpack ? SANDBOX_UNPACK : SANDBOX_DECODE, o.sandbox,
		      p.limits.memory_mebibytes << 20);
	code = o.unpack ? unpack_main(name, &p) : serve(&in, &p, o.slots);
	free(name);
	pipeline_release(&p);
	lines_release(&in);
	return code;
}
