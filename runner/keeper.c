/* SPDX-License-Identifier: MIT
 *
 * The keeper's loop (keeper.h).  It shares nothing with the program but standard error, and is in no
 * process group of its.
 */
#include "keeper.h"
#include "sandbox.h"
#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_END_SECONDS 60

extern char **environ;

/* Children of this process, those it was left included. /proc/PID/stat is "PID (NAME) STATE PARENT ...", and
 * a name may have brackets. */
static void kill_children(void)
{
	DIR *dir = opendir("/proc");
	pid_t self = getpid();

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[300], stat[512], *name_end;
		int pid = atoi(e->d_name), parent = 0;
		FILE *f;

		if (pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		f = fopen(path, "re");
		if (!f)
			continue;
		name_end = fgets(stat, sizeof(stat), f) ? strrchr(stat, ')') : NULL;
		if (name_end && sscanf(name_end + 1, " %*c %d", &parent) == 1 && parent == self)
			kill(pid, SIGKILL);
		fclose(f);
	}
	if (dir)
		closedir(dir);
}

void keeper_forget_environment(void)
{
	for (char **variable = environ; variable && *variable; variable++)
		memset(*variable, 0, strlen(*variable));
	environ = NULL;
}

/* Until there is nothing left: what a child leaves behind when it dies is ours in the next round. */
static void kill_all(pid_t program, int *status)
{
	int one;
	pid_t pid;

	for (;;) {
		kill_children();
		pid = waitpid(-1, &one, 0);
		if (pid == program)
			*status = one;
		if (pid < 0 && errno == ECHILD)
			return;
	}
}

/* A command that is given some time. */
static void run_at_end(const char *const *argv, pid_t program, int *status)
{
	pid_t pid = fork(), done;
	int one;

	if (!pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		alarm(AT_END_SECONDS);
		dup2(2, 1);
		execvpe(argv[0], (char *const *)argv, environ);
		dprintf(2, "start %s: %s\n", argv[0], strerror(errno));
		_exit(EX_BUG);
	}
	while (pid > 0 && (done = waitpid(-1, &one, 0)) != pid) {
		if (done == program)
			*status = one;
		if (done < 0 && errno != EINTR)
			break;
	}
}

/* true when the program has ended by itself. */
static bool wait_for_end(pid_t program, int leash, int signals, int *status)
{
	struct pollfd fds[] = { { .fd = leash, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	struct signalfd_siginfo info;
	int one;
	pid_t pid;

	/* First of all who has ended already: before signals were held back, nobody was told. */
	for (;;) {
		while ((pid = waitpid(-1, &one, WNOHANG)) > 0)
			if (pid == program) {
				*status = one;
				return true;
			}
		if (fds[0].revents)
			return false;
		if (poll(fds, 2, -1) < 0)
			fds[0].revents = fds[1].revents = 0;
		if (fds[1].revents)
			(void)!read(signals, &info, sizeof(info));
	}
}

static void end_as(int status)
{
	const struct rlimit none = { 0, 0 };
	sigset_t mask;

	if (WIFSIGNALED(status)) {
		setrlimit(RLIMIT_CORE, &none);
		sigfillset(&mask);
		sigdelset(&mask, WTERMSIG(status));
		sigprocmask(SIG_SETMASK, &mask, NULL);
		signal(WTERMSIG(status), SIG_DFL);
		kill(getpid(), WTERMSIG(status));
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EX_BUG);
}

void keeper_split(int leash, const char *const *at_end, int report)
{
	int status = SIGKILL, keep[] = { 2, leash, report, -1 };
	pid_t self = getpid(), program;
	sigset_t all;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	program = fork();
	if (!program) {
		prctl(PR_SET_CHILD_SUBREAPER, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(EX_WORK_REMAINS);
		setpgid(0, 0);
		close(leash);
		if (report >= 0)
			close(report);
		return;
	}
	prctl(PR_SET_NAME, "cloister-keeper");
	prctl(PR_SET_PDEATHSIG, 0);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	keep[3] = signalfd(-1, &all, SFD_NONBLOCK);
	sandbox_close_from(0, keep, 4);
	if (!at_end)
		keeper_forget_environment();
	if (program > 0 && keep[3] >= 0)
		wait_for_end(program, leash, keep[3], &status);
	if (at_end)
		run_at_end(at_end, program, &status);
	kill_all(program, &status);
	if (at_end) { /* again, for what was only just being made, or being removed by what was killed */
		run_at_end(at_end, program, &status);
		kill_all(program, &status);
	}
	if (report >= 0)
		(void)!write(report, &status, sizeof(status));
	end_as(status);
}
