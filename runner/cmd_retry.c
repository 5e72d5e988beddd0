/* SPDX-License-Identifier: MIT
 *
 * cloister retry: drop failed documents in again.
 *
 * Ticket first, then the document, both never replacing; the reason goes last.  Interrupted between
 * any two steps, the document is in failed/ with its reason or in in/ to be admitted.  Where the
 * document itself stays in in/, the reason is all that goes.
 */
#include "commands.h"
#include "durable.h"
#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct retry {
	const struct options *o;
	const struct spool *spool;
};

static bool is_there(int dirfd, const char *name)
{
	return !faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW);
}

/* Move NAME and its ticket from one open folder to another. */
static enum rc move_back(int from, int to, const char *name, struct err *err)
{
	char *ticket = xasprintf("%s" TICKET_SUFFIX, name);
	bool has_ticket = is_there(from, ticket);
	struct err ignored;
	enum rc rc = RC_OK;

	if (is_there(to, name) || is_there(to, ticket))
		rc = err_set(err, RC_FAILED, "exists", "in/ has a document of this name again");
	if (rc == RC_OK && has_ticket)
		rc = durable_move(from, ticket, to, ticket, err);
	if (rc == RC_OK) {
		rc = durable_move(from, name, to, name, err);
		if (rc != RC_OK && has_ticket)
			durable_move(to, ticket, from, ticket, &ignored);
	}
	if (rc == RC_OK)
		durable_sync(to, "in");
	free(ticket);
	return rc;
}

/* The document is not beside its reason: does it stay in in/? */
static enum rc look_in_in(const struct retry *r, int from, const char *why, struct err *err)
{
	char *file = kept_file(from, why);
	enum rc rc = RC_OK;

	if (!file)
		rc = err_set(err, RC_FAILED, "vanished",
			     "only the reason is there, the document is not");
	else if (!is_there(r->spool->in, file))
		rc = err_set(err, RC_FAILED, "vanished", "the original is gone from in/ as well");
	free(file);
	return rc;
}

static enum rc retry_document(const struct retry *r, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char *folder = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
	char *why = xasprintf("%s" WHY_SUFFIX, name);
	int from = openat(r->spool->failed, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int to = -1;
	enum rc rc = RC_FAILED;

	if (from < 0) {
		err_errno(err, rc, "vanished", "open its folder");
		goto out;
	}
	if (!is_there(from, name)) {
		rc = look_in_in(r, from, why, err);
	} else {
		to = durable_mkdirs(r->spool->in, slash ? folder : "", err);
		if (to >= 0)
			rc = move_back(from, to, name, err);
	}
	if (rc != RC_OK)
		goto out;
	unlinkat(from, why, 0);
	durable_sync(from, "failed");
out:
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	free(why);
	free(folder);
	return rc;
}

static bool retry(const struct listed *d, void *arg)
{
	const struct retry *r = arg;
	struct err err;
	char *path;

	if (retry_document(r, d->path, &err) != RC_OK) {
		complain(r->o, "%s: %s", d->path, err.text);
		return false;
	}
	path = display(d->path);
	if (!r->o->quiet)
		printf("%s -> in/%s\n", path, path);
	free(path);
	return true;
}

int cmd_retry(const struct options *o)
{
	struct survey survey;
	struct config config;
	struct spool spool;
	struct retry r = { .o = o, .spool = &spool };
	struct err err;
	int code;

	if (o->all == !!o->n_args) {
		complain(o, "give either documents or --all");
		return EX_USAGE_ERROR;
	}
	code = open_spool(o, &spool, &config);
	if (code)
		return code;
	if (survey_take(&survey, &spool, config.default_pipeline,
			o->all ? SURVEY_FAILED : SURVEY_ALL, &err) != RC_OK) {
		complain(o, "%s", err.text);
		code = EX_SOME_FAILED;
	} else if (o->all) {
		for (size_t i = 0; i < survey.n; i++)
			if (!retry(&survey.documents[i], &r))
				code = EX_SOME_FAILED;
	} else {
		code = for_each_named(o, &survey, 1u << DOCUMENT_FAILED, "tried again", retry, &r);
	}
	survey_release(&survey);
	spool_close(&spool);
	config_release(&config);
	return code;
}
