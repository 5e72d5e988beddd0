/* SPDX-License-Identifier: MIT
 *
 * kill-at: run a command and SIGKILL one process of its family at its K-th system call.
 *
 *   kill-at [--stop] TARGET CALLS K COMMAND [ARGUMENT...]
 *
 * TARGET tells the process: "self" is the command; "fork" its first child, up to where it becomes
 * another program; PROGRAM, or PROGRAM+ARGUMENT, the first process that becomes a program of this
 * name (and has this argument).
 *
 * CALLS is "all", or the names of the system calls that are counted, with commas; an openat(2) that may make or
 * empty a file goes by the name of creat.  The process is
 * stopped at the entry of every call, and killed before call K of these does anything: K = 1 to the
 * last of "all" leaves the family in every state that it can be in between two calls.  With K = 0
 * nothing is killed and the name of each call is written.  All other processes run free.
 *
 * With --stop it is not killed but stopped, by SIGSTOP after call K; whoever runs us may let it go on.
 *
 * Standard output: the names of calls; then "killed NAME" or "stopped NAME" at the time, and "ended" at
 * the end.
 * Exit code: that of the command (128+n: by signal n).
 */
#include "base/err.h"
#include "base/log.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | \
		 PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

struct family {
	const char *target, *wanted; /* the arguments TARGET and CALLS */
	uint64_t at;                 /* K */
	bool stop;
	uint64_t calls; /* of the victim, so far */
	pid_t command;
	pid_t victim; /* 0: not met yet */
	bool over;    /* no longer of interest */
};

/* ESRCH: it was killed meanwhile, by its parent say; waitpid() will tell. */
static void request(enum __ptrace_request what, pid_t pid, int signal_number)
{
	if (ptrace(what, pid, NULL, (void *)(intptr_t)signal_number) && errno != ESRCH)
		die(EX_BUG, "ptrace: %s", strerror(errno));
}

/* Is pid, which has just become another program, the one that is meant? */
static bool is_target(pid_t pid, const char *target)
{
	size_t length = strcspn(target, "+"), end;
	char path[64], text[65536];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	end = strlen(text);
	if (end <= length || text[end - length - 1] != '/' ||
	    strncmp(text + end - length, target, length))
		return false;
	for (char *p = text + end + 1; target[length] && p < text + n; p += strlen(p) + 1)
		if (!strcmp(p, target + length + 1))
			return true;
	return !target[length];
}

static bool is_counted(const char *wanted, const char *name)
{
	size_t length = strlen(name);

	for (const char *p = wanted; *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == length && !strncmp(p, name, length))
			return true;
	return !strcmp(wanted, "all");
}

static char *name_of(const struct __ptrace_syscall_info *info)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)info->entry.nr);

	if (name && !strcmp(name, "openat") && info->entry.args[2] & (O_CREAT | O_TRUNC)) {
		free(name);
		name = strdup("creat");
	}
	return name;
}

static void on_call(struct family *f)
{
	struct __ptrace_syscall_info info;
	char *name;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, f->victim, sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	name = name_of(&info);
	if (name && is_counted(f->wanted, name)) {
		f->calls++;
		if (!f->at)
			printf("%s\n", name);
		if (f->calls == f->at) {
			kill(f->victim, f->stop ? SIGSTOP : SIGKILL);
			f->over = true;
			printf("%s %s\n", f->stop ? "stopped" : "killed", name);
			fflush(stdout);
		}
	}
	free(name);
}

static void on_exec(struct family *f, pid_t pid)
{
	if (pid == f->victim)
		f->over = true; /* "fork": what follows is another kind */
	else if (!f->victim && (!strcmp(f->target, "self") ? pid == f->command
							   : is_target(pid, f->target)))
		f->victim = pid;
}

static void on_fork(struct family *f, pid_t pid)
{
	unsigned long child;

	if (pid == f->victim && !strcmp(f->target, "fork"))
		f->over = true; /* what follows is a keeper */
	if (!f->victim && pid == f->command && !strcmp(f->target, "fork") &&
	    !ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child))
		f->victim = (pid_t)child;
}

/* A process has stopped: note what it is at, and let it go on. */
static void on_stop(struct family *f, pid_t pid, int status)
{
	int signal_number = WSTOPSIG(status), event = status >> 16;

	if (event == PTRACE_EVENT_STOP && signal_number != SIGTRAP) {
		request(PTRACE_LISTEN, pid, 0); /* stopped by SIGSTOP: it stays so */
		return;
	}
	if (event == PTRACE_EVENT_EXEC)
		on_exec(f, pid);
	else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
		 event == PTRACE_EVENT_CLONE)
		on_fork(f, pid);
	else if (signal_number == (SIGTRAP | 0x80) && pid == f->victim)
		on_call(f);
	if (event || signal_number == (SIGTRAP | 0x80))
		signal_number = 0;
	if (pid == f->victim && !f->over)
		request(PTRACE_SYSCALL, pid, signal_number);
	else if (pid == f->command || !f->victim)
		request(PTRACE_CONT, pid, signal_number);
	else
		request(PTRACE_DETACH, pid, signal_number);
}

/* The command waits for us to be ready to see its execve. */
static pid_t begin(char **argv)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC))
		die(EX_BUG, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die(EX_BUG, "fork: %s", strerror(errno));
	if (pid == 0) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			_exit(EX_BUG);
		execv(argv[0], argv);
		die(EX_CONFIGURATION, "%s: %s", argv[0], strerror(errno));
	}
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS))
		die(EX_CONFIGURATION, "may not trace: %s", strerror(errno));
	if (write(ready[1], "", 1) != 1)
		die(EX_BUG, "pipe: %s", strerror(errno));
	close(ready[0]);
	close(ready[1]);
	return pid;
}

int main(int argc, char **argv)
{
	struct family f = { 0 };
	int status, code = EX_BUG;
	pid_t pid;

	log_init("kill-at", LOG_INFO);
	if (argc > 1 && !strcmp(argv[1], "--stop")) {
		f.stop = true;
		argv++;
		argc--;
	}
	if (argc < 5 || !parse_u64(argv[3], UINT32_MAX, &f.at))
		die(EX_USAGE_ERROR, "usage: kill-at [--stop] TARGET CALLS K COMMAND [ARGUMENT...]");
	f.target = argv[1];
	f.wanted = argv[2];
	f.command = begin(argv + 4);
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid > 0 && WIFSTOPPED(status))
			on_stop(&f, pid, status);
		else if (pid == f.command)
			code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
	printf("ended\n");
	return code;
}
