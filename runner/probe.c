/* SPDX-License-Identifier: MIT
 *
 * probe: one process an act, because parsers do not outlive the first one.
 *
 * Invariant: the outcome is what the kernel did, never what a configuration says.  An act that ends
 * in any other way than by a sandbox's refusal has got through, also when the kernel then found
 * another reason to decline.
 */
#include "probe.h"
#include "probe_acts.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/num.h"

#include <sys/resource.h>
#include <sys/stat.h>

#define ACT_SECONDS     20
#define DESCRIPTORS_MAX 1024

#define ENTRY(name, expression)                                                                    \
	static int act_##name(void)                                                                \
	{                                                                                          \
		return (expression) < 0 ? -1 : 0;                                                  \
	}
PROBE_ACTS(ENTRY)

static const struct {
	const char *name;
	int (*act)(void);
} acts[] = {
#define ROW(name, expression) { #name, act_##name },
	PROBE_ACTS(ROW)
};

/* What is no breach. The supervisor reads documents, starts programs and ends them; a foreign
 * program may start others, in the same sandbox. */
static const struct {
	enum sandbox_kind kind;
	const char *act;
} permitted[] = {
	{ SANDBOX_COMMAND, "exec_true" },
	{ SANDBOX_COMMAND, "libc_fork" },
	{ SANDBOX_SUPERVISOR, "exec_true" },
	{ SANDBOX_SUPERVISOR, "exec_outside" },
	{ SANDBOX_SUPERVISOR, "libc_fork" },
	{ SANDBOX_SUPERVISOR, "kill_parent" },
	{ SANDBOX_SUPERVISOR, "tgkill_parent" },
	{ SANDBOX_SUPERVISOR, "open_outside" },
	{ SANDBOX_SUPERVISOR, "list_outside" },
	{ SANDBOX_SUPERVISOR, "openat2_outside" },
	{ SANDBOX_SUPERVISOR, "open_path_reopen" },
	{ SANDBOX_SUPERVISOR, "proc_self_root" },
};

bool probe_permits(enum sandbox_kind kind, const char *act)
{
	for (size_t i = 0; i < ARRAY_SIZE(permitted); i++)
		if (permitted[i].kind == kind && !strcmp(permitted[i].act, act))
			return true;
	return false;
}

bool probe_refused(enum sandbox_kind kind, const char *outcome)
{
	static const char *const refusals[] = { "SIGSYS", "EPERM",  "EACCES",
						"EXDEV",  "ENOSYS", "EAFNOSUPPORT" };

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		if (!strcmp(outcome, refusals[i]))
			return true;
	return kind == SANDBOX_UNPACK && !strcmp(outcome, "ENOENT");
}

static const char *const tree_files[] = { "outside/secret", "outside/victim", "outside/doomed",
					  "outside/program" };
static const char *const tree_traces[] = { "outside/new", "outside/linked", "outside/pointer",
					   "outside/victim2" };

enum rc probe_tree_make(const char *dir, struct err *err)
{
	acts_on.dir = dir;
	if ((mkdir(dir, 0755) && errno != EEXIST) ||
	    (mkdir(in_dir("outside"), 0755) && errno != EEXIST))
		return err_errno(err, RC_FAILED, "verify", "make %s", dir);
	for (size_t i = 0; i < ARRAY_SIZE(tree_traces); i++)
		unlink(in_dir(tree_traces[i]));
	for (size_t i = 0; i < ARRAY_SIZE(tree_files); i++) {
		static const char text[] = "#!/bin/true\n";
		int fd = open(in_dir(tree_files[i]),
			      O_CREAT | O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0755);
		bool good = fd >= 0 && !write_full(fd, text, strlen(text));

		if (fd >= 0)
			close(fd);
		if (!good)
			return err_errno(err, RC_FAILED, "verify", "write in %s", dir);
	}
	return RC_OK;
}

void probe_tree_remove(const char *dir)
{
	acts_on.dir = dir;
	for (size_t i = 0; i < ARRAY_SIZE(tree_traces); i++)
		unlink(in_dir(tree_traces[i]));
	for (size_t i = 0; i < ARRAY_SIZE(tree_files); i++)
		unlink(in_dir(tree_files[i]));
	rmdir(in_dir("outside"));
	rmdir(dir);
}

static void __attribute__((noreturn)) act_in_child(int (*act)(void), probe_enter *enter,
						   const void *arg)
{
	struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	alarm(ACT_SECONDS);
	if (enter)
		enter(arg);
	errno = 0;
	_exit(act() < 0 ? errno : 0);
}

enum rc probe_run(const char *dir, int other, probe_enter *enter, const void *arg, struct buf *out,
		  struct err *err)
{
	acts_on.dir = dir;
	acts_on.other = other;
	buf_adds(out, "descriptors");
	for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			buf_addf(out, " %d", fd);
	buf_addc(out, '\n');
	for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
		int status, code;
		pid_t pid = fork();

		if (!pid)
			act_in_child(acts[i].act, enter, arg);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return err_errno(err, RC_FAILED, "verify", "start a process");
		code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
		if (code == EX_CONFIGURATION)
			return err_set(err, RC_FAILED, "sandbox", "the sandbox cannot be entered");
		if (WIFSIGNALED(status))
			buf_addf(out, "%s SIG%s\n", acts[i].name, sigabbrev_np(WTERMSIG(status)));
		else
			buf_addf(out, "%s %s\n", acts[i].name, code ? strerrorname_np(code) : "ok");
	}
	return RC_OK;
}

void probe_network(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *outcome = fd < 0 ? strerrorname_np(errno) : "ok";
	char line[64];
	int n = snprintf(line, sizeof(line), "network %s\n", outcome ? outcome : "?");

	(void)!write_full(STDOUT_FILENO, line, (size_t)n);
	_exit(EX_ALL_DONE);
}

int probe_main(const char *dir, probe_enter *enter, const void *arg)
{
	int code = EX_ALL_DONE;
	struct buf out;
	struct err err;

	buf_init(&out, 1 << 16);
	if (probe_run(dir, getppid(), enter, arg, &out, &err) != RC_OK)
		code = EX_CONFIGURATION;
	else if (write_full(STDOUT_FILENO, out.data, out.len))
		code = EX_BUG;
	buf_release(&out);
	return code;
}
