/* SPDX-License-Identifier: MIT
 *
 * The way out of `cloister ocr`: document number N of the command line is found by N beneath out/ and
 * failed/ of the temporary spool, with the members of an archive in sub-folders.
 */
#include "copy.h"
#include "durable.h"
#include "ocr.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_MAX  9999
#define NAME_BYTES 200 /* leaves room for .cloister.yaml and ~N */

const char *ocr_name(const char *file)
{
	const char *slash = strrchr(file, '/');
	const char *name = slash ? slash + 1 : file;

	if (!strcmp(file, "-"))
		return "stdin";
	return spool_ignores(name) || strlen(name) > NAME_BYTES || !*name ? "document" : name;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* What a result is called: the file of the command line, and the path of a member inside it. */
static char *label_of(const char *file, const char *path_in_spool, const char *name)
{
	size_t n = strlen(name);
	bool member = !strncmp(path_in_spool, name, n) && path_in_spool[n] == '/';
	char *raw = xasprintf("%s%s", file, member ? path_in_spool + n : "");
	char *label = display(raw);

	free(raw);
	return label;
}

static enum rc print_file(struct ocr *ocr, const char *file, const char *label, bool heading,
			  struct err *err)
{
	int fd = copy_open(AT_FDCWD, file, false, err);
	enum rc rc;

	if (fd < 0)
		return RC_FAILED;
	if (heading)
		printf("%s==> %s <==\n", ocr->printed ? "\n" : "", label);
	ocr->printed++;
	fflush(stdout);
	rc = copy_stream(fd, STDOUT_FILENO, err);
	close(fd);
	return rc;
}

/* Print what came of document n: the text of each result folder beneath out/PIPELINE/N. */
static void print_results(struct ocr *ocr, int n, unsigned *found)
{
	char *top = xasprintf("%s/out/%s/%d", ocr->path, ocr->pipeline, n + 1);
	const char *wanted = ocr->o->json ? "pages.jsonl" : "text.txt";
	char *roots[] = { top, NULL };
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);

	if (!walk)
		BUG("fts_open: %s", strerror(errno));
	for (FTSENT *e; (e = fts_read(walk));) {
		struct err err;
		char *path, *label;
		bool heading;

		if (e->fts_info != FTS_F || strcmp(e->fts_name, wanted))
			continue;
		path = xstrndup(e->fts_path + strlen(top) + 1,
			       strlen(e->fts_path) - strlen(top) - strlen(wanted) - 2);
		label = label_of(ocr->o->args[n], path, ocr_name(ocr->o->args[n]));
		heading = !ocr->o->json && (ocr->o->n_args > 1 || strchr(path, '/'));
		++*found;
		if (!ocr->no_output && print_file(ocr, e->fts_path, label, heading, &err) != RC_OK) {
			complain(ocr->o, "%s: %s", label, err.text);
			ocr->some_failed = true;
			ocr->no_output = !strcmp(err.reason, "write-error");
		}
		free(label);
		free(path);
	}
	fts_close(walk);
	free(top);
}

/* Move the result folder of document n to DIR, under a name that is free there. */
static void move_results(struct ocr *ocr, int n, unsigned *found)
{
	const char *file = ocr->o->args[n];
	const char *slash = strrchr(file, '/');
	const char *wanted = !strcmp(file, "-") ? "stdin" : slash ? slash + 1 : file;
	char *from = xasprintf("out/%s/%d/%s", ocr->pipeline, n + 1, ocr_name(file));
	struct stat st;
	struct err err;
	enum rc rc = RC_FAILED;

	if (fstatat(ocr->root, from, &st, AT_SYMLINK_NOFOLLOW)) {
		free(from);
		return;
	}
	++*found;
	for (unsigned i = 1; i <= NAMES_MAX; i++) {
		char *name = i == 1 ? xstrdup(wanted) : xasprintf("%s~%u", wanted, i);
		char *line;

		/* An empty folder would be replaced without a word. */
		rc = !fstatat(ocr->output, name, &st, AT_SYMLINK_NOFOLLOW)
			     ? err_set(&err, RC_RETRY, "exists", "%s exists", name)
			     : durable_move(ocr->root, from, ocr->output, name, &err);
		if (rc == RC_OK && !ocr->o->quiet) {
			char *raw = xasprintf("%s -> %s/%s", file, ocr->o->output, name);

			line = display(raw);
			puts(line);
			free(line);
			free(raw);
		}
		free(name);
		if (rc == RC_OK || strcmp(err.reason, "exists"))
			break;
	}
	if (rc == RC_OK) {
		durable_sync(ocr->output, ocr->o->output);
	} else {
		complain(ocr->o, "%s: %s", file, err.text);
		ocr->some_failed = true;
	}
	free(from);
}

/* Say why document n, or members of it, could not be read. */
static void tell_failures(struct ocr *ocr, int n, unsigned *found)
{
	char *top = xasprintf("%s/failed/%s/%d", ocr->path, ocr->pipeline, n + 1);
	size_t suffix = strlen(WHY_SUFFIX);
	char *roots[] = { top, NULL };
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);

	if (!walk)
		BUG("fts_open: %s", strerror(errno));
	for (FTSENT *e; (e = fts_read(walk));) {
		const char *text;
		char *path, *label;
		json_t *why;

		if (e->fts_info != FTS_F || e->fts_namelen <= suffix ||
		    strcmp(e->fts_name + e->fts_namelen - suffix, WHY_SUFFIX))
			continue;
		why = read_json(AT_FDCWD, e->fts_path);
		text = json_string_value(json_object_get(why, "text"));
		path = xstrndup(e->fts_path + strlen(top) + 1,
			       strlen(e->fts_path) - strlen(top) - 1 - suffix);
		label = label_of(ocr->o->args[n], path, ocr_name(ocr->o->args[n]));
		fprintf(stderr, "cloister ocr: %s: %s\n", label, text ? text : "failed");
		++*found;
		ocr->some_failed = true;
		free(label);
		free(path);
		json_decref(why);
	}
	fts_close(walk);
	free(top);
}

static bool was_taken(const struct ocr *ocr, int n)
{
	char *folder = xasprintf("in/%s/%d", ocr->pipeline, n + 1);
	bool there = !faccessat(ocr->root, folder, F_OK, AT_SYMLINK_NOFOLLOW);

	free(folder);
	return there;
}

void ocr_take_out(struct ocr *ocr)
{
	for (int i = 0; i < ocr->o->n_args; i++) {
		unsigned found = 0;

		if (!was_taken(ocr, i))
			continue;
		if (ocr->output >= 0)
			move_results(ocr, i, &found);
		else
			print_results(ocr, i, &found);
		fflush(stdout);
		tell_failures(ocr, i, &found);
		if (!found) {
			complain(ocr->o, "%s: was not finished", ocr->o->args[i]);
			ocr->some_failed = true;
		}
	}
}
