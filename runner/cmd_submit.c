/* SPDX-License-Identifier: MIT
 *
 * cloister submit: put copies of documents into the drop box.
 *
 * A copy is written under a hidden name in the folder it goes to, synced, and renamed to its own
 * name, never replacing one that is there; its ticket, if it has one, is in place before it.  So
 * the spool admits it whole, with its options, or not at all.
 */
#include "commands.h"
#include "copy.h"
#include "durable.h"
#include "pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_MAX 9999 /* report~2.pdf .. report~9999.pdf */

struct submit {
	const struct options *o;
	struct spool spool;
	char *pipeline;
	bool some_failed;
};

/* The hidden name that a copy is written under. */
static void part_name(char name[64])
{
	static unsigned count;

	snprintf(name, 64, ".submit-%d-%u.part", (int)getpid(), count++);
}

/* Copy an open file into dir under a hidden name, synced. */
static enum rc copy_in(int from, int dir, char part[64], struct err *err)
{
	enum rc rc;
	int to;

	part_name(part);
	to = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (to < 0)
		return err_errno(err, RC_FAILED, "write-error", "create a file in the spool");
	rc = copy_data(from, to, err);
	if (rc == RC_OK)
		durable_sync(to, "the copy");
	close(to);
	if (rc != RC_OK)
		unlinkat(dir, part, 0);
	return rc;
}

static enum rc write_priority(const struct submit *s, int dir, char part[64], struct err *err)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "priority: %u\n", (unsigned)s->o->priority);

	part_name(part);
	return durable_write(dir, part, text, (size_t)n, true, err);
}

/* The options of a document: --priority, or the ticket that lies beside it. part is "" without. */
static enum rc make_ticket(const struct submit *s, const char *file, int dir, char part[64],
			   struct err *err)
{
	char *beside = xasprintf("%s" TICKET_SUFFIX, file);
	enum rc rc = RC_OK;
	int fd = -1;

	part[0] = '\0';
	if (!access(beside, F_OK)) {
		fd = copy_open(AT_FDCWD, beside, true, err);
		if (fd < 0)
			rc = RC_FAILED;
		else if (s->o->priority_given)
			rc = err_set(err, RC_FAILED, "ticket",
				     "has a ticket beside it; write the priority there");
		else
			rc = copy_in(fd, dir, part, err);
	} else if (s->o->priority_given) {
		rc = write_priority(s, dir, part, err);
	}
	if (fd >= 0)
		close(fd);
	free(beside);
	return rc;
}

/* report.pdf, report~2.pdf, report~3.pdf ... */
static char *numbered(const char *name, unsigned n)
{
	const char *dot = strrchr(name, '.');

	if (n == 1)
		return xstrdup(name);
	if (!dot || dot == name)
		dot = name + strlen(name);
	return xasprintf("%.*s~%u%s", (int)(dot - name), name, n, dot);
}

/* Give ticket and document this name. RC_RETRY, reason "exists", when it is taken. */
static enum rc place(int dir, const char *document, const char *ticket, const char *name,
		     struct err *err)
{
	char *ticket_name = xasprintf("%s" TICKET_SUFFIX, name);
	enum rc rc = RC_OK;
	struct err ignored;

	/* A ticket that waits for a document of this name is not meant for ours. */
	if (!faccessat(dir, ticket_name, F_OK, AT_SYMLINK_NOFOLLOW))
		rc = err_set(err, RC_RETRY, "exists", "%s exists", ticket_name);
	if (rc == RC_OK && *ticket)
		rc = durable_move(dir, ticket, dir, ticket_name, err);
	if (rc == RC_OK) {
		rc = durable_move(dir, document, dir, name, err);
		if (rc != RC_OK && *ticket &&
		    durable_replace(dir, ticket_name, dir, ticket, &ignored) != RC_OK)
			unlinkat(dir, ticket_name, 0);
	}
	free(ticket_name);
	return rc;
}

/* Place the parts under the first name that is free; *name is the caller's to free. */
static enum rc place_somewhere(int dir, const char *document, const char *ticket,
			       const char *wanted, char **name, struct err *err)
{
	enum rc rc = RC_FAILED;

	for (unsigned n = 1; n <= NAMES_MAX; n++) {
		*name = numbered(wanted, n);
		rc = place(dir, document, ticket, *name, err);
		if (rc == RC_OK)
			return rc;
		free(*name);
		*name = NULL;
		if (strcmp(err->reason, "exists"))
			return rc;
	}
	return rc;
}

static void tell(const struct submit *s, const char *file, const char *folder, const char *name)
{
	char *path = xasprintf("%s/%s", folder, name);
	char *from = display(file);
	char *to = display(path);

	if (s->o->json)
		print_json(json_pack("{s:s, s:s}", "file", from, "path", to));
	else if (!s->o->quiet)
		printf("%s -> in/%s\n", from, to);
	free(path);
	free(from);
	free(to);
}

/* Submit one file into in/FOLDER. */
static enum rc submit_file(const struct submit *s, const char *file, const char *folder,
			   bool follow, struct err *err)
{
	const char *slash = strrchr(file, '/');
	const char *wanted = slash ? slash + 1 : file;
	char document[64] = "", ticket[64] = "";
	char *name = NULL;
	int dir = -1;
	int from = -1;
	enum rc rc = RC_FAILED;

	if (spool_ignores(wanted))
		return err_set(err, RC_FAILED, "ignored-name",
			       "a spool passes files of such names over; rename it");
	from = copy_open(AT_FDCWD, file, follow, err);
	if (from < 0)
		goto out;
	dir = durable_mkdirs(s->spool.in, folder, err);
	if (dir < 0)
		goto out;
	rc = make_ticket(s, file, dir, ticket, err);
	if (rc == RC_OK)
		rc = copy_in(from, dir, document, err);
	if (rc == RC_OK)
		rc = place_somewhere(dir, document, ticket, wanted, &name, err);
	if (rc == RC_OK) {
		durable_sync(dir, folder);
		tell(s, file, folder, name);
	} else {
		if (*ticket)
			unlinkat(dir, ticket, 0);
		if (*document)
			unlinkat(dir, document, 0);
	}
out:
	if (from >= 0)
		close(from);
	if (dir >= 0)
		close(dir);
	free(name);
	return rc;
}

static void submit_or_complain(struct submit *s, const char *file, const char *folder, bool follow)
{
	struct err err;

	if (submit_file(s, file, folder, follow, &err) == RC_OK)
		return;
	complain(s->o, "%s: %s", file, err.text);
	s->some_failed = true;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool is_ticket(const char *name)
{
	size_t n = strlen(name), m = strlen(TICKET_SUFFIX);

	return n > m && !strcmp(name + n - m, TICKET_SUFFIX);
}

/* The folder of a file met on the walk: that of the pipeline, then where it was beneath `top`. */
static char *folder_of(const struct submit *s, const char *top, const FTSENT *entry)
{
	const char *start = strrchr(top, '/') ? strrchr(top, '/') + 1 : top;
	const char *path = entry->fts_path + (start - top);
	const char *slash = strrchr(path, '/');

	if (!strcmp(start, ".") || !strcmp(start, "..") || !*start)
		path += strlen(start) + (path[strlen(start)] == '/');
	if (!slash || slash <= path)
		return xstrdup(s->pipeline);
	return xasprintf("%s/%.*s", s->pipeline, (int)(slash - path), path);
}

/* The spool may lie in the folder that is submitted: it must not eat itself. */
static bool is_spool(const struct submit *s, const struct stat *st)
{
	struct stat spool;

	return !fstat(s->spool.root, &spool) && spool.st_dev == st->st_dev &&
	       spool.st_ino == st->st_ino;
}

static void submit_tree(struct submit *s, char *top)
{
	char *roots[] = { top, NULL };
	FTS *walk;

	for (size_t n = strlen(top); n > 1 && top[n - 1] == '/';)
		top[--n] = '\0';
	walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_COMFOLLOW, by_name);
	if (!walk)
		BUG("fts_open: %s", strerror(errno));
	for (FTSENT *e; (e = fts_read(walk));) {
		char *folder;

		if (e->fts_info == FTS_D &&
		    ((e->fts_level > 0 && e->fts_name[0] == '.') || is_spool(s, e->fts_statp)))
			fts_set(walk, e, FTS_SKIP);
		if (e->fts_info == FTS_D || e->fts_info == FTS_DP)
			continue;
		if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS) {
			complain(s->o, "%s: %s", e->fts_path, strerror(e->fts_errno));
			s->some_failed = true;
			continue;
		}
		/* A ticket goes with its document; hidden files are not documents. */
		if (is_ticket(e->fts_name) || e->fts_name[0] == '.')
			continue;
		folder = folder_of(s, top, e);
		submit_or_complain(s, e->fts_path, folder, false);
		free(folder);
	}
	fts_close(walk);
}

static bool is_folder(const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int cmd_submit(const struct options *o)
{
	struct submit s = { .o = o };
	struct pipeline pipeline = { 0 };
	struct config config;
	struct err err;
	int code = open_spool(o, &s.spool, &config);

	if (code)
		return code;
	s.pipeline = xstrdup(o->pipeline ? o->pipeline : config.default_pipeline);
	if (spool_load_pipeline(&s.spool, s.pipeline, &pipeline, &err) != RC_OK) {
		complain(o, "%s", err.text);
		code = EX_CONFIGURATION;
		goto out;
	}
	for (int i = 0; i < o->n_args; i++) {
		char *file = o->args[i];

		if (!is_folder(file)) {
			submit_or_complain(&s, file, s.pipeline, true);
		} else if (o->recursive) {
			submit_tree(&s, file);
		} else {
			complain(o, "%s: is a folder; -r submits what is in it", file);
			s.some_failed = true;
		}
	}
	code = s.some_failed ? EX_SOME_FAILED : EX_ALL_DONE;
out:
	pipeline_release(&pipeline);
	free(s.pipeline);
	spool_close(&s.spool);
	config_release(&config);
	return code;
}
