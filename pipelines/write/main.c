/* SPDX-License-Identifier: MIT
 *
 * cloister-write: writes the result folder of one document.
 *
 * Descriptor 3 is the journal of the attempt, descriptor 4 the empty folder to write into, standard
 * input brings one job line (job.c).  What recognisers said is hostile, so the sandbox is entered
 * before the journal is read: from then on this process can reach its folder and nothing else.
 *
 *   exit 0    written and synced; one line on standard output:
 *             {"written":{"ok":..,"flagged":..,"failed":..,"blank":..,"words":..,"confidence":..}}
 *   exit 70   job or journal do not fit together
 *   exit 75   the folder cannot be written to: disk full, quota
 */
#include "airlock.h"
#include "probe.h"
#include "sandbox.h"
#include "write.h"
#include "base/lines.h"
#include "base/log.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
	"usage: cloister-write [--sandbox on|try|off] 3<JOURNAL 4<FOLDER <JOB\n"
	"\n"
	"Writes the result folder of one document; started by cloister.\n"
	"\n"
	"  --sandbox MODE  on: refuse to run without (default); try: what the kernel has; off\n"
	"  --probe DIR     try what the sandbox refuses, as `cloister verify` wants it\n"
	"  --version, --help\n";

struct options {
	enum sandbox_mode sandbox;
	const char *probe;
};

static void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option table[] = {
		{ "sandbox", required_argument, NULL, 's' },
		{ "probe", required_argument, NULL, 'p' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*o = (struct options){ .sandbox = SANDBOX_ON };
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 's':
			o->sandbox = sandbox_mode_parse(optarg);
			break;
		case 'p':
			o->probe = optarg;
			break;
		case 'v':
			printf("cloister-write %s\n", CLOISTER_VERSION);
			exit(EX_ALL_DONE);
		case 'h':
			fputs(usage, stdout);
			exit(EX_ALL_DONE);
		default:
			exit(EX_USAGE_ERROR);
		}
	}
	if (optind < argc)
		die(EX_USAGE_ERROR, "unexpected argument \"%s\"", argv[optind]);
}

static void read_job(struct job *job)
{
	struct lines lines;
	struct err err;
	char *line;
	size_t len;

	lines_init(&lines, STDIN_FILENO, WRITE_JOB_MAX);
	if (lines_next(&lines, &line, &len) != LINES_ONE)
		die(EX_BUG, "there is no job on standard input");
	if (job_parse(job, line, len, &err) != RC_OK)
		die(EX_BUG, "%s", err.text);
	lines_release(&lines);
}

static void enter_sandbox(const void *options)
{
	const struct options *o = options;
	const struct sandbox_rules rules = { .write_fd = WRITE_FOLDER_FD, .open_files = 32 };

	sandbox_enter_or_die(SANDBOX_WRITE, &rules, o->sandbox);
}

static void report(const struct totals *totals)
{
	json_t *written = totals_json(totals), *line;
	double confidence = totals_confidence(totals);

	if (confidence >= 0)
		json_object_set_new(written, "confidence", json_real(confidence));
	line = json_pack("{s:o}", "written", written);
	if (airlock_write(STDOUT_FILENO, line))
		die(EX_BUG, "write report: %s", strerror(errno));
	json_decref(line);
}

int main(int argc, char **argv)
{
	struct options o;
	struct totals totals;
	struct job job;
	struct err err;
	enum rc rc;

	log_init("cloister-write", LOG_INFO);
	json_set_alloc_funcs(xmalloc, free); /* a value that is missing must not go unnoticed */
	options_parse(&o, argc, argv);
	if (o.probe)
		return probe_main(o.probe, enter_sandbox, &o);
	umask(022); /* result files are 0644 */
	read_job(&job);
	enter_sandbox(&o);
	rc = write_document(&job, WRITE_JOURNAL_FD, WRITE_FOLDER_FD, &totals, &err);
	if (rc != RC_OK)
		die(rc == RC_RETRY ? EX_WORK_REMAINS : EX_BUG, "%s", err.text);
	report(&totals);
	job_release(&job);
	return EX_ALL_DONE;
}
