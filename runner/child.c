/* SPDX-License-Identifier: MIT */
#include "child.h"
#include "airlock.h"
#include "keeper.h"
#include "launcher.h"
#include "base/log.h"
#include "base/name.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNSENT_MAX (64u << 20)
#define TAIL_MAX   2048
#define PIPE_BYTES (256 << 10)
/* Above every descriptor of a child, so that placing one never overwrites another. */
#define FD_PARK 200

/* Environment that a child may inherit; all else is fixed. */
static const char *const inherited[] = { "TESSDATA_PREFIX", "CLOISTER_MODELS", "CLOISTER_TEST_FSYNC",
					 "CLOISTER_TEST_LANDLOCK_ABI",
					 "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES",
#if defined(__SANITIZE_ADDRESS__)
					 "ASAN_OPTIONS",
					 "LSAN_OPTIONS",
#endif
};
static const char *const fixed_env[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC",
				   "OMP_THREAD_LIMIT=1",   "HOME=/nonexistent" };
/* Without them a library waits for answers that cannot come, or counts its users. */
const char *const child_offline[] = { "HF_HUB_OFFLINE=1",	  "TRANSFORMERS_OFFLINE=1",
				      "HF_DATASETS_OFFLINE=1",	  "HF_HUB_DISABLE_TELEMETRY=1",
				      "VLLM_NO_USAGE_STATS=1",	  "DO_NOT_TRACK=1",
				      "WANDB_MODE=offline",	  "PIP_NO_INDEX=1",
				      NULL };

/* What is said again wins. */
static void set_env(char **env, size_t *n, const char *variable)
{
	size_t len = strcspn(variable, "=");

	for (size_t i = 0; i < *n; i++)
		if (!strncmp(env[i], variable, len) && env[i][len] == '=')
			env[i--] = env[--*n];
	if (variable[len] && *n + 1 < CHILD_ENV_MAX)
		env[(*n)++] = (char *)variable;
}

void child_env(char **env, const char *const *more)
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fixed_env); i++)
		env[n++] = (char *)fixed_env[i];
	for (size_t i = 0; child_offline[i]; i++)
		env[n++] = (char *)child_offline[i];
	for (size_t i = 0; i < ARRAY_SIZE(inherited); i++) {
		const char *value = getenv(inherited[i]);

		if (value)
			env[n++] = xasprintf("%s=%s", inherited[i], value);
	}
	for (; more && *more; more++)
		set_env(env, &n, *more);
	env[n] = NULL;
}

/* In the child, between fork and exec: place descriptors, drop the rest, and become the program. */
static void __attribute__((noreturn)) become(const struct child_spec *spec, const int std[3],
					     int leash, pid_t parent)
{
	char *env[CHILD_ENV_MAX];
	int keep[3 + 128], parked[128];
	size_t n = 0;
	sigset_t none;
	struct err err;

	if (leash < 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EX_WORK_REMAINS);
	setpgid(0, 0);
	if (spec->launch)
		launcher_proxy(spec->launch, spec, std, leash);
	if (leash >= 0)
		keeper_split(leash, NULL, -1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	for (size_t i = 0; i < spec->n_fds; i++)
		parked[i] = fcntl(spec->fds[i].from, F_DUPFD, FD_PARK);
	for (int i = 0; i < 3; i++) {
		int p = fcntl(std[i], F_DUPFD, FD_PARK);

		if (p < 0 || dup2(p, i) < 0)
			_exit(EX_BUG);
		keep[n++] = i;
	}
	for (size_t i = 0; i < spec->n_fds; i++) {
		if (parked[i] < 0 || dup2(parked[i], spec->fds[i].to) < 0)
			_exit(EX_BUG);
		keep[n++] = spec->fds[i].to;
	}
	sandbox_close_from(3, keep, n);
	if (spec->priority)
		(void)!nice(spec->priority);
	if (spec->data_bytes) {
		const struct rlimit data = { spec->data_bytes, spec->data_bytes };

		if (setrlimit(RLIMIT_DATA, &data))
			_exit(EX_BUG);
	}
	umask(022);
	if (chdir(spec->cwd ? spec->cwd : "/"))
		_exit(EX_BUG);
	child_env(env, spec->env);
	if (spec->rules && sandbox_enter(SANDBOX_COMMAND, spec->rules, spec->require_sandbox, NULL,
					 &err) != RC_OK) {
		dprintf(2, "%s\n", err.text);
		_exit(EX_CONFIGURATION);
	}
	execve(spec->argv[0], (char *const *)spec->argv, env);
	dprintf(2, "start %s: %s\n", spec->argv[0], strerror(errno));
	_exit(errno == ENOENT || errno == EACCES ? EX_CONFIGURATION : EX_BUG);
}

static void keep_tail(struct child *c, const char *data, size_t len)
{
	if (len > TAIL_MAX) {
		data += len - TAIL_MAX;
		len = TAIL_MAX;
	}
	if (c->tail.len + len > TAIL_MAX)
		buf_consume(&c->tail, c->tail.len + len - TAIL_MAX);
	buf_add(&c->tail, data, len);
}

/* Standard error is read to the end even past its limit, so that a child that floods it does not
 * block; what is over the limit is thrown away. */
static void on_stderr(void *arg)
{
	struct child *c = arg;
	char chunk[4096];
	ssize_t n = read(c->err, chunk, sizeof(chunk));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		loop_unwatch(c->loop, c->err);
		close(c->err);
		c->err = -1;
		return;
	}
	c->err_bytes += (size_t)n;
	keep_tail(c, chunk, (size_t)n);
	if (log_level() >= LOG_DEBUG && c->err_bytes <= CHILD_STDERR_MAX)
		log_debug("%s[%d] says: %.*s", c->name, (int)c->pid, (int)n, chunk);
}

static bool nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && !fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

enum rc child_start(struct child *c, struct loop *loop, const struct child_spec *spec,
		    loop_handler *on_line, loop_handler *on_exit, void *arg, struct err *err)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, error[2] = { -1, -1 }, leash[2] = { -1, -1 };
	pid_t parent = getpid();
	enum rc rc = RC_OK;

	*c = (struct child){ .name = spec->name, .pidfd = -1, .in = -1, .out = -1, .err = -1,
			     .leash = -1, .loop = loop };
	buf_init(&c->unsent, UNSENT_MAX);
	if (spec->n_fds > 128)
		BUG("%zu descriptors for %s", spec->n_fds, spec->name);
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(error, O_CLOEXEC) ||
	    ((spec->leashed || spec->launch) && pipe2(leash, O_CLOEXEC)) ||
	    !nonblocking(in[1]) || !nonblocking(out[0]) || !nonblocking(error[0])) {
		rc = err_errno(err, RC_RETRY, "system", "make a pipe for %s", spec->name);
		goto out;
	}
	c->pid = fork();
	if (c->pid == 0)
		become(spec, (int[]){ in[0], out[1], error[1] }, leash[0], parent);
	if (c->pid < 0) {
		c->pid = 0;
		rc = err_errno(err, RC_RETRY, "system", "start %s", spec->name);
		goto out;
	}
	setpgid(c->pid, c->pid);
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0) {
		rc = err_errno(err, RC_RETRY, "system", "watch %s", spec->name);
		if (leash[1] >= 0)
			close(leash[1]); /* its keeper ends then */
		else
			kill(c->pid, SIGKILL);
		leash[1] = -1;
		waitpid(c->pid, NULL, 0);
		c->pid = 0;
		goto out;
	}
	fcntl(c->pidfd, F_SETFD, FD_CLOEXEC);
	c->in = in[1];
	c->out = out[0];
	c->err = error[0];
	c->leash = leash[1];
	c->kept = c->leash >= 0;
	fcntl(c->in, F_SETPIPE_SZ, PIPE_BYTES); /* as many requests as fit */
	in[1] = out[0] = error[0] = leash[1] = -1;
	lines_init(&c->lines, c->out, spec->max_line);
	buf_init(&c->tail, TAIL_MAX);
	loop_watch(loop, c->err, on_stderr, c);
	loop_watch(loop, c->out, on_line, arg);
	loop_watch(loop, c->pidfd, on_exit, arg);
out:
	for (int i = 0; i < 2; i++) {
		if (in[i] >= 0)
			close(in[i]);
		if (out[i] >= 0)
			close(out[i]);
		if (error[i] >= 0)
			close(error[i]);
		if (leash[i] >= 0)
			close(leash[i]);
	}
	return rc;
}

/* With all that it started: by its keeper, which ends when nothing of it is left. */
static void kill_now(struct child *c)
{
	if (c->leash >= 0) {
		(void)!write(c->leash, "", 1); /* should it not be the last end, or close() fail */
		close(c->leash);
		c->leash = -1;
	} else if (c->pid && !c->kept) {
		kill(-c->pid, SIGKILL);
		kill(c->pid, SIGKILL);
	}
}

enum lines_status child_line(struct child *c, char **line, size_t *len)
{
	enum lines_status status = lines_next(&c->lines, line, len);
	int error = errno;

	if (status == LINES_EOF || status == LINES_ERROR)
		loop_unwatch(c->loop, c->out);
	if (status == LINES_ERROR)
		kill_now(c);
	errno = error;
	return status;
}

/* Is there room for the whole line, or nothing in the pipe? What is in a pipe lies in whole pages, of
 * which the first and the last may be used in part. */
static bool has_room(const struct child *c, size_t len)
{
	int unread, size = fcntl(c->in, F_GETPIPE_SZ);

	if (ioctl(c->in, FIONREAD, &unread))
		return false;
	return !unread || (size >= 0 && (size_t)unread + len + 2 * PIPE_BUF <= (size_t)size);
}

/* Write what there is room for; the rest follows. A child that has closed its end gets no more: that
 * it ends is seen elsewhere. */
static void push(void *arg)
{
	struct child *c = arg;

	while (c->unsent.len) {
		ssize_t n = write(c->in, c->unsent.data, c->unsent.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && errno != EPIPE)
			kill_now(c); /* it would wait for what never arrives */
		buf_consume(&c->unsent, n < 0 ? c->unsent.len : (size_t)n);
	}
	if (c->unsent.len && !c->waits)
		loop_watch_room(c->loop, c->in, push, c);
	else if (!c->unsent.len && c->waits)
		loop_unwatch(c->loop, c->in);
	c->waits = c->unsent.len > 0;
	if (c->closing)
		child_close_in(c);
}

void child_tell(struct child *c, json_t *json)
{
	char *text = airlock_dump(json);

	if (c->in >= 0) {
		buf_add(&c->unsent, text, strlen(text));
		buf_addc(&c->unsent, '\n');
		if (c->unsent.overflow)
			kill_now(c);
		push(c);
	}
	free(text);
	json_decref(json);
}

bool child_send(struct child *c, json_t *json)
{
	char *text = airlock_dump(json);
	size_t len = strlen(text) + 1;
	bool room = c->in >= 0 && !c->unsent.len && has_room(c, len);

	free(text);
	if (room)
		child_tell(c, json);
	else
		json_decref(json);
	return room;
}

void child_close_in(struct child *c)
{
	c->closing = c->unsent.len > 0;
	if (c->in < 0 || c->closing)
		return;
	close(c->in);
	c->in = -1;
}

void child_pause(struct child *c)
{
	loop_unwatch(c->loop, c->out);
}

void child_resume(struct child *c, loop_handler *on_line, void *arg)
{
	if (c->out >= 0)
		loop_watch(c->loop, c->out, on_line, arg);
}

bool child_reap(struct child *c, int *status)
{
	if (!c->pid || waitpid(c->pid, status, WNOHANG) != c->pid)
		return false;
	/* Whatever it started dies with it. */
	if (!c->kept)
		kill(-c->pid, SIGKILL);
	c->pid = 0;
	loop_unwatch(c->loop, c->pidfd);
	while (c->err >= 0) {
		size_t before = c->err_bytes;

		on_stderr(c);
		if (c->err_bytes == before)
			break;
	}
	return true;
}

void child_kill(struct child *c)
{
	if (!c->loop)
		return;
	loop_unwatch(c->loop, c->pidfd);
	kill_now(c);
	if (c->pid)
		loop_bury(c->loop, c->pid, c->pidfd);
	else if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->out >= 0) {
		loop_unwatch(c->loop, c->out);
		close(c->out);
	}
	if (c->err >= 0) {
		loop_unwatch(c->loop, c->err);
		close(c->err);
	}
	if (c->waits)
		loop_unwatch(c->loop, c->in);
	buf_release(&c->unsent);
	child_close_in(c);
	lines_release(&c->lines);
	buf_release(&c->tail);
	*c = (struct child){ .pidfd = -1, .in = -1, .out = -1, .err = -1, .leash = -1 };
}

void child_limit_cpu(const struct child *c, unsigned seconds)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	struct timespec used;
	clockid_t clock;

	if (!c->pid || clock_getcpuclockid(c->pid, &clock) || clock_gettime(clock, &used))
		return;
	limit.rlim_cur = (rlim_t)used.tv_sec + 1 + seconds;
	prlimit(c->pid, RLIMIT_CPU, &limit, NULL);
}

void child_describe(const struct child *c, int status, struct buf *out)
{
	size_t end = c->tail.len, begin;

	if (WIFSIGNALED(status))
		buf_addf(out, "%s ended by signal %d (%s)", c->name, WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		buf_addf(out, "%s ended with exit code %d", c->name, WEXITSTATUS(status));
	while (end && c->tail.data[end - 1] == '\n')
		end--;
	begin = end;
	while (begin && c->tail.data[begin - 1] != '\n' && end - begin < 300)
		begin--;
	if (end > begin) {
		buf_adds(out, ": ");
		utf8_repair(out, c->tail.data + begin, end - begin);
	}
}
