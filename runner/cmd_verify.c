/* SPDX-License-Identifier: MIT
 *
 * cloister verify: does isolation hold here?  Every promise is put to the test, none is read from a
 * configuration.
 *
 * A child process makes the checks and gives its rights away on the way, as a run does; this one waits
 * and removes the folder that forbidden acts were tried on.
 */
#include "commands.h"
#include "probe.h"
#include "supervisor.h"
#include "verify.h"
#include "base/log.h"
#include "base/name.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void verify_say(struct verify *v, bool passed, const char *check, const char *held_by,
		const char *format, ...)
{
	struct buf raw, clean;
	va_list ap;

	va_start(ap, format);
	buf_init(&raw, 1 << 16);
	buf_vaddf(&raw, format, ap);
	va_end(ap);
	buf_init(&clean, 1 << 18);
	name_escape(&clean, raw.data, raw.len);
	json_array_append_new(v->checks, json_pack("{s:s, s:b, s:s, s:s}", "check", check, "passed",
						   passed, "held_by", held_by, "reason", clean.data));
	v->failed |= !passed;
	if (!v->o->json && (!v->o->quiet || !passed))
		printf("%-20s %-5s %-13s %s\n", check, passed ? "pass" : "FAIL", held_by, clean.data);
	fflush(stdout);
	buf_release(&raw);
	buf_release(&clean);
}

/* Exit code. */
static int make_checks(struct verify *v)
{
	char *fallback = xasprintf("%s/state/tmp", v->spool->path);
	struct err err;

	if (!v->o->json && !v->o->quiet)
		printf("%-20s %-5s %-13s %s\n", "CHECK", "", "HELD BY", "FOUND");
	verify_read_only(v);
	verify_spool(v);
	verify_family_listeners(v);
	verify_control(v);
	if (launcher_start(&v->launcher, v->config, &err) != RC_OK)
		die(EX_BUG, "%s", err.text);
	loop_init(&v->loop);
	verify_network(v);
	if (scratch_open(&v->scratch, v->config->scratch, fallback,
			 v->config->scratch_mebibytes << 20, &err) != RC_OK) {
		verify_say(v, false, "scratch", HELD_BY_SURROUNDINGS, "%s", err.text);
	} else {
		verify_supervisor(v);
		verify_programs(v);
		verify_pages(v);
	}
	launcher_stop(&v->launcher);
	scratch_close(&v->scratch);
	loop_release(&v->loop);
	free(fallback);
	if (v->o->json)
		print_json(json_pack("{s:b, s:O}", "passed", !v->failed, "checks", v->checks));
	else if (!v->o->quiet)
		puts(v->failed ? "FAIL: not all of it holds" : "pass: all of it holds");
	json_decref(v->checks);
	json_decref(v->control);
	return v->failed ? EX_SOME_FAILED : EX_ALL_DONE;
}

/* Where a file can be made that no rule of a sandbox gives access to. */
static char *make_tree(struct err *err)
{
	const char *given = getenv("TMPDIR");
	const char *const places[] = { "/dev/shm", given ? given : "/tmp", "/var/tmp" };

	for (size_t i = 0; i < 3; i++) {
		char *tree = xasprintf("%s/cloister-verify-XXXXXX", places[i]);

		if (mkdtemp(tree) && probe_tree_make(tree, err) == RC_OK)
			return tree;
		err_errno(err, RC_FAILED, "verify", "make a folder in %s", places[i]);
		rmdir(tree);
		free(tree);
	}
	return NULL;
}

/* Interrupts are the child's: what they end is this process's to clean up. */
static int in_child(struct verify *v)
{
	pid_t self = getpid(), pid;
	int status;

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGPIPE, SIG_IGN);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		v->outside = self;
		status = make_checks(v);
		exit(fflush(stdout) ? EX_SOME_FAILED : status);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return EX_BUG;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int cmd_verify(const struct options *o)
{
	struct config config;
	struct spool spool;
	struct verify v = { .o = o, .spool = &spool, .config = &config };
	struct err err;
	char *tree;
	int code;

	if (o->probe)
		return verify_foreign_probe(o->probe);
	code = open_spool(o, &spool, &config);
	if (code)
		return code;
	tree = make_tree(&err);
	if (tree) {
		v.tree = tree;
		v.mode = sandbox_mode_of(config.require_sandbox);
		v.scratch = (struct scratch)SCRATCH_CLOSED;
		v.checks = json_array();
		code = in_child(&v);
		json_decref(v.checks);
		probe_tree_remove(tree);
	} else {
		complain(o, "%s", err.text);
		code = EX_SOME_FAILED;
	}
	free(tree);
	spool_close(&spool);
	config_release(&config);
	return code;
}
