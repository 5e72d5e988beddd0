/* SPDX-License-Identifier: MIT
 *
 * The launcher's loop, and what stands for its programs (launcher.h).
 *
 * An order is one message on a SOCK_SEQPACKET socket, with five descriptors: the program's 0, 1 and 2, a socket
 * between the proxy and the keeper, and a memory file with {"argv":[..],"env":[..],"cwd":..,"at_end":[..]}.
 * The keeper's leash is that socket: the proxy shuts its end down, or dies.  The keeper answers with the wait
 * status and closes it.
 */
#include "launcher.h"
#include "airlock.h"
#include "child.h"
#include "config.h"
#include "keeper.h"
#include "sandbox.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDER_FDS 5
#define ORDER_MAX (4u << 20)

extern char **environ;

static json_t *strings(const char *const *list)
{
	json_t *array = json_array();

	for (; list && *list; list++)
		json_array_append_new(array, json_string(*list));
	return array;
}

static const char **take_strings(const json_t *array)
{
	size_t n = json_array_size(array);
	const char **list = xcalloc(n + 1, sizeof(*list));

	for (size_t i = 0; i < n; i++)
		list[i] = json_string_value(json_array_get(array, i));
	return list;
}

/* ---- the launcher's side ---- */

/* The keeper's process, and then the program's. */
static void __attribute__((noreturn)) launch(const int fds[ORDER_FDS])
{
	struct stat st;
	json_t *order;
	const char **argv, **at_end;
	const char *cwd;
	struct rlimit memory;
	sigset_t none;
	char *text;
	struct err err;

	signal(SIGCHLD, SIG_DFL);
	if (fstat(fds[4], &st) || st.st_size > ORDER_MAX)
		_exit(EX_BUG);
	text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fds[4], 0);
	order = text == MAP_FAILED ? NULL : json_loadb(text, (size_t)st.st_size, 0, NULL);
	argv = take_strings(json_object_get(order, "argv"));
	at_end = take_strings(json_object_get(order, "at_end"));
	cwd = json_string_value(json_object_get(order, "cwd"));
	if (!argv[0] || dup2(fds[2], 2) < 0)
		_exit(EX_BUG);
	keeper_split(fds[3], at_end[0] ? at_end : NULL, fds[3]);
	for (int i = 0; i < 2; i++)
		if (dup2(fds[i], i) < 0)
			_exit(EX_BUG);
	sandbox_close_from(3, NULL, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	umask(022);
	if (json_is_true(json_object_get(order, "own_env"))) {
		if (chdir("/"))
			_exit(EX_BUG);
		execvpe(argv[0], (char *const *)argv, environ);
	} else {
		memory.rlim_cur = memory.rlim_max =
			(rlim_t)json_integer_value(json_object_get(order, "memory"));
		if ((memory.rlim_cur && setrlimit(RLIMIT_DATA, &memory)) || (cwd && chdir(cwd)))
			_exit(EX_BUG);
		if (sandbox_leave_network(&err) != RC_OK) {
			dprintf(2, "%s\n", err.text);
			_exit(EX_CONFIGURATION);
		}
		execve(argv[0], (char *const *)argv,
		       (char *const *)take_strings(json_object_get(order, "env")));
	}
	dprintf(2, "start %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT || errno == EACCES ? EX_CONFIGURATION : EX_BUG);
}

/* false: there will be no more. */
static bool take_order(int from, int fds[ORDER_FDS])
{
	char byte;
	union {
		char room[CMSG_SPACE(ORDER_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	for (size_t i = 0; i < ORDER_FDS; i++)
		fds[i] = -1;
	if (head && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(ORDER_FDS * sizeof(int)))
		memcpy(fds, CMSG_DATA(head), ORDER_FDS * sizeof(int));
	return n > 0 || (n < 0 && errno == EINTR);
}

static void __attribute__((noreturn)) serve(int from)
{
	const int keep[] = { from };
	char *manager = getenv("NOTIFY_SOCKET"); /* is told by the supervisor alone */
	int fds[ORDER_FDS];

	prctl(PR_SET_NAME, "cloister-launch");
	prctl(PR_SET_PDEATHSIG, 0);
	setpgid(0, 0);
	signal(SIGCHLD, SIG_IGN); /* nobody waits for a keeper: it reports to its proxy */
	sandbox_close_from(3, keep, 1);
	if (manager) {
		memset(manager, 0, strlen(manager));
		unsetenv("NOTIFY_SOCKET");
	}
	while (take_order(from, fds)) {
		if (fds[4] >= 0 && !fork())
			launch(fds);
		for (size_t i = 0; i < ORDER_FDS; i++)
			if (fds[i] >= 0)
				close(fds[i]);
	}
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	_exit(EX_ALL_DONE);
}

enum rc launcher_start(struct launcher *l, const struct config *config, struct err *err)
{
	int fds[2];

	*l = (struct launcher)LAUNCHER_NONE;
	if (!config->allow_containers && !config->allow_unwrapped)
		return RC_OK;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return err_errno(err, RC_FATAL, "system", "make a socket for the launcher");
	fflush(NULL);
	l->pid = fork();
	if (!l->pid)
		serve(fds[1]);
	close(fds[1]);
	l->fd = fds[0];
	if (l->pid > 0)
		return RC_OK;
	close(l->fd);
	l->fd = -1;
	return err_errno(err, RC_FATAL, "system", "start the launcher");
}

void launcher_stop(struct launcher *l)
{
	if (l->fd < 0)
		return;
	close(l->fd);
	while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
		;
	*l = (struct launcher)LAUNCHER_NONE;
}

/* ---- the supervisor's side ---- */

static bool send_order(int to, const int fds[ORDER_FDS])
{
	union {
		char room[CMSG_SPACE(ORDER_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec data = { (char *)"!", 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(ORDER_FDS * sizeof(int));
	memcpy(CMSG_DATA(head), fds, ORDER_FDS * sizeof(int));
	return sendmsg(to, &message, MSG_NOSIGNAL) == 1;
}

/* Until the keeper has told how it ended, or is dead. */
static int wait_for_status(int keeper, int leash)
{
	struct pollfd fds[] = { { .fd = keeper, .events = POLLIN }, { .fd = leash, .events = POLLIN } };
	int status = SIGKILL;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents) {
			if (read(keeper, &status, sizeof(status)) != sizeof(status))
				status = SIGKILL;
			return status;
		}
		if (fds[1].revents) {
			shutdown(keeper, SHUT_WR);
			fds[1].fd = -1;
		}
	}
}

void launcher_proxy(const struct launch *how, const struct child_spec *spec, const int std[3], int leash)
{
	char *env[CHILD_ENV_MAX];
	int pair[2], memory = memfd_create("order", MFD_CLOEXEC), status, keep[] = { 2, leash, -1 };
	const struct rlimit none = { 0, 0 };
	json_t *order;

	prctl(PR_SET_NAME, "cloister-proxy");
	dup2(std[2], 2);
	child_env(env, spec->env);
	order = json_pack("{s:o, s:o, s:o, s:s*, s:b, s:I}", "argv", strings(spec->argv), "at_end",
			  strings(how->at_end), "env", strings((const char *const *)env), "cwd", spec->cwd,
			  "own_env", how->own_env, "memory", (json_int_t)how->memory_bytes);
	if (memory < 0 || !order || airlock_write(memory, order) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ||
	    !send_order(how->launcher->fd, (int[]){ std[0], std[1], std[2], pair[1], memory })) {
		dprintf(2, "the launcher cannot be reached: %s\n", strerror(errno));
		_exit(EX_BUG);
	}
	keep[2] = pair[0];
	keeper_forget_environment();
	sandbox_close_from(0, keep, 3);
	status = wait_for_status(pair[0], leash);
	if (WIFSIGNALED(status)) {
		setrlimit(RLIMIT_CORE, &none);
		signal(WTERMSIG(status), SIG_DFL);
		kill(getpid(), WTERMSIG(status));
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EX_BUG);
}
