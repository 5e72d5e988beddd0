/* SPDX-License-Identifier: MIT
 *
 * cloister ocr: one shot, with a spool of its own that is gone afterwards.
 *
 * Document number N of the command line becomes in/PIPELINE/N/NAME of a temporary spool, so that what
 * comes out of it, members of archives too, is found by N.  A child process runs the supervisor on
 * that spool; this one waits for it, passes signals on, takes the results out and removes the spool
 * whatever became of the child.  With -o the spool lies in DIR: results get there by a rename.
 */
#include "base/buf.h"
#include "base/log.h"
#include "copy.h"
#include "durable.h"
#include "ocr.h"
#include "pipeline.h"
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- going in ---- */

static enum rc write_text(int dir, const char *name, const char *text, struct err *err)
{
	return durable_write(dir, name, text, strlen(text), false, err);
}

/* Options of the command line, as the ticket of a document; NULL when there are none. */
static char *ticket_text(const struct options *o)
{
	struct buf b;

	buf_init(&b, 65536);
	if (o->languages) {
		buf_adds(&b, "languages: [");
		for (const char *p = o->languages; *p; p++) {
			if (*p == '+')
				buf_adds(&b, ", ");
			else
				buf_addc(&b, *p);
		}
		buf_adds(&b, "]\n");
	}
	if (!o->output)
		buf_addf(&b, "outputs: [%s]\n", o->json ? "pages.jsonl" : "text.txt");
	return buf_detach(&b);
}

/* Put document number n into the spool. */
static enum rc take_in(const struct ocr *ocr, int n, const char *ticket, struct err *err)
{
	const char *file = ocr->o->args[n];
	char *folder = xasprintf("in/%s/%d", ocr->pipeline, n + 1);
	char *ticket_name = xasprintf("%s" TICKET_SUFFIX, ocr_name(file));
	bool standard_input = !strcmp(file, "-");
	int from = standard_input ? STDIN_FILENO : copy_open(AT_FDCWD, file, true, err);
	int dir = from < 0 ? -1 : durable_mkdirs(ocr->root, folder, err);
	int to = -1;
	enum rc rc = RC_FAILED;

	if (dir < 0)
		goto out;
	if (*ticket && write_text(dir, ticket_name, ticket, err) != RC_OK)
		goto out;
	to = openat(dir, ocr_name(file), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0) {
		err_errno(err, rc, "write-error", "copy it to %s", ocr->path);
		goto out;
	}
	rc = standard_input ? copy_stream(from, to, err) : copy_data(from, to, err);
out:
	if (to >= 0)
		close(to);
	if (dir >= 0)
		close(dir);
	if (from >= 0 && !standard_input)
		close(from);
	free(ticket_name);
	free(folder);
	return rc;
}

static enum rc copy_pipeline(struct ocr *ocr, const char *file, const char *name, struct err *err)
{
	char *base = xasprintf("%s.yaml", name);
	int from = copy_open(AT_FDCWD, file, true, err), dir = -1, to = -1;
	enum rc rc = RC_FAILED;

	if (from >= 0)
		dir = durable_mkdirs(ocr->root, "pipelines", err);
	if (dir >= 0)
		to = openat(dir, base, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to >= 0)
		rc = copy_data(from, to, err);
	else if (dir >= 0)
		err_errno(err, rc, "write-error", "copy it to %s", ocr->path);
	if (to >= 0)
		close(to);
	if (dir >= 0)
		close(dir);
	if (from >= 0)
		close(from);
	free(base);
	return rc;
}

/* The one that follows is looked for beside it, too. What is wrong with either is told when they are used. */
static enum rc copy_followed(struct ocr *ocr, const char *given, size_t folder, struct err *err)
{
	char *copy = xasprintf("%s/pipelines/%s.yaml", ocr->path, ocr->pipeline), *beside = NULL;
	struct pipeline p = { 0 };
	enum rc rc = RC_OK;

	if (pipeline_load(&p, ocr->pipeline, copy, err) == RC_OK && p.then &&
	    spool_pipeline_name_valid(p.then) && strcmp(p.then, ocr->pipeline)) {
		beside = xasprintf("%.*s%s.yaml", (int)folder, given, p.then);
		if (!access(beside, F_OK))
			rc = copy_pipeline(ocr, beside, p.then, err);
	}
	pipeline_release(&p);
	free(beside);
	free(copy);
	return rc;
}

/* A pipeline given as a file is copied into the spool; one given by name is found like any other. */
static enum rc take_pipeline(struct ocr *ocr, struct err *err)
{
	const char *given = ocr->o->pipeline ? ocr->o->pipeline : "tesseract";
	const char *slash = strrchr(given, '/');
	const char *base = slash ? slash + 1 : given;
	size_t n = strlen(base);
	enum rc rc;

	if (n <= 5 || strcmp(base + n - 5, ".yaml")) {
		ocr->pipeline = xstrdup(given);
		return RC_OK;
	}
	ocr->pipeline = xstrndup(base, n - 5);
	rc = copy_pipeline(ocr, given, ocr->pipeline, err);
	return rc == RC_OK ? copy_followed(ocr, given, (size_t)(base - given), err) : rc;
}

/* Make the temporary spool with everything in it. The exit code, or -1 to go on. */
static int fill_spool(struct ocr *ocr, int *taken)
{
	const struct options *o = ocr->o;
	char *ticket = ticket_text(o);
	struct pipeline pipeline = { 0 };
	struct spool spool;
	struct err err;
	int code = -1;

	*taken = 0;
	if (write_text(ocr->root, "cloister.yaml", "settle_seconds: 0\n", &err) != RC_OK ||
	    spool_open(&spool, ocr->path, true, &err) != RC_OK) {
		complain(o, "%s", err.text);
		free(ticket);
		return EX_SOME_FAILED;
	}
	if (take_pipeline(ocr, &err) != RC_OK) {
		complain(o, "%s: %s", o->pipeline, err.text);
		code = EX_CONFIGURATION;
	} else if (spool_load_pipeline(&spool, ocr->pipeline, &pipeline, &err) != RC_OK) {
		complain(o, "%s", err.text);
		code = EX_CONFIGURATION;
	}
	for (int i = 0; code < 0 && i < o->n_args; i++) {
		if (take_in(ocr, i, ticket, &err) == RC_OK) {
			++*taken;
			continue;
		}
		complain(o, "%s: %s", o->args[i], err.text);
		ocr->some_failed = true;
	}
	pipeline_release(&pipeline);
	spool_close(&spool);
	free(ticket);
	return code;
}

/* ---- running ---- */

static int run_supervisor(const struct ocr *ocr)
{
	struct run_options run = { .once = true, .jobs = (unsigned)ocr->o->jobs, .quiet = true };
	struct config config;
	struct spool spool;
	struct err err;

	/* What becomes of each document is told below; the log would say it twice. */
	log_init("cloister", ocr->o->verbose ? LOG_DEBUG : LOG_ERROR);
	if (config_load(&config, ocr->path, &err) != RC_OK ||
	    spool_open(&spool, ocr->path, true, &err) != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	return supervisor_run(&spool, &config, &run);
}

/* Wait for the child. A signal from the terminal has reached it too; others are passed on. */
static int wait_for(pid_t child, const sigset_t *signals)
{
	for (;;) {
		siginfo_t info;
		int status;
		pid_t done = waitpid(child, &status, WNOHANG);

		if (done == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (sigwaitinfo(signals, &info) < 0 || info.si_signo == SIGCHLD)
			continue;
		if (info.si_code <= 0 || info.si_signo == SIGHUP || info.si_signo == SIGQUIT)
			kill(child, info.si_signo == SIGINT ? SIGINT : SIGTERM);
	}
}

static int run_child(const struct ocr *ocr, const sigset_t *signals, const sigset_t *before)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0) {
		complain(ocr->o, "fork: %s", strerror(errno));
		return EX_SOME_FAILED;
	}
	if (!child) {
		pid_t parent = getppid();

		prctl(PR_SET_PDEATHSIG, SIGTERM);
		signal(SIGPIPE, SIG_DFL);
		sigprocmask(SIG_SETMASK, before, NULL);
		if (parent != getppid())
			_exit(EX_WORK_REMAINS);
		_exit(run_supervisor(ocr));
	}
	return wait_for(child, signals);
}

/* mkdir -p; whether it worked, opening the folder tells. */
static void make_parents(const char *path)
{
	char *copy = xstrdup(path);

	for (char *p = copy + 1; *copy && *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(copy, 0755);
		*p = '/';
	}
	mkdir(copy, 0755);
	free(copy);
}

/* A private folder for the spool: in DIR with -o, else where temporary files go. */
static bool make_folder(struct ocr *ocr)
{
	const char *tmp = getenv("TMPDIR");
	const char *where = ocr->o->output ? ocr->o->output : tmp && *tmp ? tmp : "/tmp";

	if (ocr->o->output) {
		make_parents(where);
		ocr->output = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (ocr->output < 0) {
			complain(ocr->o, "%s: %s", where, strerror(errno));
			return false;
		}
	}
	ocr->path = xasprintf("%s/.cloister-ocr-XXXXXX", where);
	if (mkdtemp(ocr->path))
		ocr->root = open(ocr->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ocr->root < 0)
		complain(ocr->o, "make a folder in %s: %s", where, strerror(errno));
	return ocr->root >= 0;
}

int cmd_ocr(const struct options *o)
{
	struct ocr ocr = { .o = o, .root = -1, .output = -1 };
	sigset_t signals, before;
	int taken = 0;
	int code;

	/* From here on a signal waits until the spool can be removed. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGQUIT);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &before);
	signal(SIGPIPE, SIG_IGN); /* `cloister ocr ... | head` must not leave the spool behind */
	if (!make_folder(&ocr)) {
		free(ocr.path);
		return EX_SOME_FAILED;
	}
	code = fill_spool(&ocr, &taken);
	if (code < 0) {
		code = taken ? run_child(&ocr, &signals, &before) : EX_SOME_FAILED;
		ocr_take_out(&ocr);
	}
	if (code == EX_ALL_DONE && ocr.some_failed)
		code = EX_SOME_FAILED;
	durable_remove_tree(AT_FDCWD, ocr.path);
	if (ocr.output >= 0)
		close(ocr.output);
	close(ocr.root);
	free(ocr.pipeline);
	free(ocr.path);
	return code;
}
