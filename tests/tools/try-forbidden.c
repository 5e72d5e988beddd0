/* SPDX-License-Identifier: MIT
 *
 * try-forbidden: enter a sandbox and try what it should refuse.
 *
 *   try-forbidden KIND DIR ACT...   KIND: none (the control), decode, unpack, tesseract, write,
 *                                   model-cuda, command, supervisor, supervisor-cuda
 *                                   (where there are GPUs); an ACT "all" stands for every act
 *
 * Each act is tried in a process of its own, which prepares what it needs, enters the sandbox and
 * then acts on its parent, on DIR or on the kernel.  For each the parent prints one line,
 * "ACT OUTCOME": ok, the name of an errno, the name of the signal it died of, or "setup" when it
 * never came as far as the act.
 *
 * DIR holds allowed/file (readable), outside/secret (not), and own/ (writable for the kinds that
 * write).  Acts are chosen to do no harm where they succeed.  Arguments that the kernel itself
 * would refuse are used where success would do harm: then reaching the kernel shows in another
 * errno than the sandbox's.
 */
#include "base/num.h"
#include "forbidden-acts.h"
#include "probe_acts.h"
#include "sandbox.h"
#include "sandbox_gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define SETUP_FAILED 255
#define NR_CACHESTAT 451 /* Linux 6.5: above what the deny-lists have judged */

/* What acts use; made before the sandbox is entered. */
static struct {
	int dir_fd;
	int pipe[2];
	int own_fd;    /* DIR/own, as the writer gets it */
	int file_fd;   /* an open file of 4096 bytes, such as a page slot */
	int secret_fd; /* open in the parent only */
	int stream, datagram, unix_pair[2];
	int listener; /* bound to loopback and listening */
	int parent_pidfd, net_ns;
	char *page; /* one writable page of memory */
	char abstract[64];
} t;

/* Network */

/* Datagrams by another name, for AF_UNIX. */
static int socketpair_raw(void)
{
	int pair[2];

	return socketpair(AF_UNIX, SOCK_RAW, 0, pair);
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int connect_open_inet(void)
{
	struct sockaddr_in a = loopback(9);

	return connect(t.datagram, (struct sockaddr *)&a, sizeof(a));
}

/* Needs a route: in an empty network namespace not even the loopback device is up. */
static int new_datagram(void)
{
	struct sockaddr_in a = loopback(9);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static int sendto_open_inet(void)
{
	struct sockaddr_in a = loopback(9);

	return call(sendto(t.datagram, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&a, sizeof(a)));
}

static int bind_open_inet(void)
{
	struct sockaddr_in a = loopback(0);

	return bind(t.stream, (struct sockaddr *)&a, sizeof(a));
}

static int connect_unix(const struct sockaddr_un *a, size_t len)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	return fd < 0 ? -1 : connect(fd, (const struct sockaddr *)a, (socklen_t)len);
}

static int connect_unix_path(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", in_dir("outside/server"));
	return connect_unix(&a, sizeof(a));
}

static int connect_unix_abstract(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path + 1, t.abstract, strlen(t.abstract));
	return connect_unix(&a, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(t.abstract));
}

static int look_up_name(void)
{
	struct addrinfo *info = NULL, hints = {.ai_socktype = SOCK_STREAM};
	int r = getaddrinfo("localhost", "80", &hints, &info);

	/* A look-up in files alone is no network; what it may not do is to open a socket, which it
	 * does to sort more than one address. */
	if (!r)
		freeaddrinfo(info);
	errno = r == EAI_SYSTEM ? errno : EAFNOSUPPORT;
	return r ? -1 : 0;
}

/* Files: reading */

static int open_old_call(void)
{
#ifdef SYS_open
	return read_one((int)syscall(SYS_open, in_dir("outside/secret"), O_RDONLY));
#else
	return openat2_outside();
#endif
}

static int open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return call(open(path, O_RDONLY));
}

static int proc_parent_fd(void)
{
	char name[32];

	snprintf(name, sizeof(name), "fd/%d", t.secret_fd);
	return open_proc(acts_on.other, name);
}

static int handle_to(void)
{
	char handle[256] = {0};
	int mount_id;

	*(unsigned *)handle = 128;
	return call(syscall(SYS_name_to_handle_at, AT_FDCWD, in_dir("outside"), handle, &mount_id,
			    0));
}

static int open_handle(void)
{
	char handle[32] = {0};

	return call(syscall(SYS_open_by_handle_at, t.dir_fd, handle, O_RDONLY));
}

/* Files: writing */

/* Processes */

static int execat_true(void)
{
	char *const argv[] = {(char *)"true", NULL}, *const envp[] = {NULL};

	syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, envp, 0);
	return -1;
}

static int do_vfork(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(0);
	return reap(pid);
}

static int do_clone3(void)
{
	uint64_t args[11] = {[4] = SIGCHLD};

	return reap((pid_t)syscall(SYS_clone3, args, sizeof(args)));
}

static int clone_namespace(long flag)
{
	return reap((pid_t)syscall(SYS_clone, flag | SIGCHLD, 0, 0, 0, 0));
}

static void *nothing(void *argument)
{
	return argument;
}

static void *wait_for_ever(void *argument)
{
	pause();
	return argument;
}

static int start_thread(void)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, nothing, NULL);

	errno = r;
	return r ? -1 : pthread_join(thread, NULL);
}

/* As the C library names a thread that is not the calling one. */
static int name_thread(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int)gettid());
	fd = open(path, O_RDWR);
	return fd < 0 ? -1 : call(write(fd, "reader", 6));
}

static int limit_parent(void)
{
	struct rlimit limit;

	return prlimit(acts_on.other, RLIMIT_CPU, NULL, &limit);
}

static int schedule_parent(void)
{
	struct sched_param param = {0};

	return sched_setscheduler(acts_on.other, SCHED_OTHER, &param);
}

static int pin_parent(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	return sched_setaffinity(acts_on.other, sizeof(set), &set);
}

/* The kernel */

static int raise_limit(void)
{
	struct rlimit limit = {1, 1};

	return setrlimit(RLIMIT_CORE, &limit);
}

static int x86_ldt(void)
{
#ifdef SYS_modify_ldt
	return call(syscall(SYS_modify_ldt, 0, NULL, 0));
#else
	return 0;
#endif
}

static int x86_ioperm(void)
{
#ifdef SYS_ioperm
	return call(syscall(SYS_ioperm, 0x80, 1, 0));
#else
	return 0;
#endif
}

/* Another architecture's getppid */
static int call_int80(void)
{
#ifdef __x86_64__
	long r = 64; /* getppid of i386 */

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	if (r < 0)
		errno = (int)-r;
	return r < 0 ? -1 : 0;
#else
	return 0;
#endif
}

/* Memory */

static int map_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? -1 : 0;
}


/* What must go on working */

static int allocate(void)
{
	size_t size = 64u << 20;
	char *p = malloc(size);

	if (!p)
		return -1;
	memset(p, 1, size);
	p = realloc(p, 2 * size);
	free(p);
	return p ? 0 : -1;
}

static int allocate_too_much(void)
{
	void *volatile p = malloc((size_t)2 << 30);

	return p ? 0 : -1;
}

static int open_many(void)
{
	for (int i = 0; i < 100; i++)
		if (open(in_dir("allowed/file"), O_RDONLY) < 0)
			return -1;
	return 0;
}

static int map_slot(void)
{
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, t.file_fd, 0);

	if (p == MAP_FAILED)
		return -1;
	p[0] = 'P';
	return munmap(p, 4096);
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The C library asks how much memory there is before it sorts more than a kilobyte. */
static int sort(void)
{
	int numbers[5000];

	for (int i = 0; i < 5000; i++)
		numbers[i] = (i * 7919) % 5000;
	qsort(numbers, 5000, sizeof(int), compare_ints);
	return numbers[4999] == 4999 ? 0 : -1;
}

static int create_own(void)
{
	int fd = openat(t.own_fd, "new", O_CREAT | O_WRONLY | O_TRUNC | O_NOFOLLOW, 0644);

	if (fd < 0 || write(fd, "x", 1) != 1 || fsync(fd) || close(fd))
		return -1;
	return fsync(t.own_fd);
}

static int free_twice(void)
{
	void *volatile p = malloc(100);

	free(p);
	free(p);
	return 0;
}

/* Refused, but not killed for: fontconfig asks it. */
static int read_own_link(void)
{
	char target[64];

	return call(readlink("/proc/self/exe", target, sizeof(target)));
}

static int ioctl_device(void)
{
	int fd = open("/dev/zero", O_RDONLY), queued;

	return fd < 0 ? -1 : ioctl(fd, TIOCOUTQ, &queued);
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (!pid) {
		alarm(5);
		pause();
		_exit(0);
	}
	return pid;
}

static int end(pid_t pid, int result)
{
	int saved = errno;

	if (pid < 0 || kill(pid, SIGKILL) || waitpid(pid, NULL, 0) != pid)
		return -1;
	errno = saved;
	return result;
}

static int kill_child(void)
{
	return end(sleeper(), 0);
}

static int limit_child(void)
{
	struct rlimit limit = {60, 60};
	pid_t pid = sleeper();

	return end(pid, pid < 0 ? -1 : prlimit(pid, RLIMIT_CPU, &limit, NULL));
}

/* The table, and how an act is tried */

#define ENTRY(name, expression)                                                                    \
	static int act_##name(void)                                                                \
	{                                                                                          \
		return (expression) < 0 ? -1 : 0;                                                  \
	}
PROBE_ACTS(ENTRY)
ACTS(ENTRY)

static const struct {
	const char *name;
	int (*act)(void);
} acts[] = {
#define ROW(name, expression) {#name, act_##name},
	PROBE_ACTS(ROW)
	ACTS(ROW)
};

static void make_file(const char *name, const char *content, mode_t mode)
{
	int fd = open(in_dir(name), O_CREAT | O_WRONLY | O_TRUNC | O_NOFOLLOW, mode);
	ssize_t len = (ssize_t)strlen(content);

	if (fd < 0 || write(fd, content, (size_t)len) != len || close(fd))
		_exit(SETUP_FAILED);
}

/* DIR as every act wants to find it, whatever the one before has done. */
static void make_tree(void)
{
	static const char *const folders[] = {"allowed", "outside", "outside/empty", "own",
					      "own/sub"};
	static const char *const files[] = {"allowed/file", "outside/secret", "outside/victim",
					    "outside/doomed", "own/mine"};
	static const char *const stale[] = {
		"allowed/new", "outside/new",  "outside/linked", "outside/pointer", "outside/fifo",
		"outside/mine", "outside/victim2", "own/stolen", "own/victim",      "own/yours",
		"own/new",     "own/sub/mine",   "own/sub/link",
	};

	rmdir(in_dir("outside/folder"));
	rmdir(in_dir("own/folder"));
	for (size_t i = 0; i < ARRAY_SIZE(stale); i++)
		unlink(in_dir(stale[i]));
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (mkdir(in_dir(folders[i]), 0755) && errno != EEXIST)
			_exit(SETUP_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		make_file(files[i], "content\n", 0644);
	make_file("outside/program", "#!/bin/sh\nexit 0\n", 0755);
	if (symlink("../outside/secret", in_dir("allowed/link")) && errno != EEXIST)
		_exit(SETUP_FAILED);
	if (symlink("nowhere", in_dir("own/link")) && errno != EEXIST)
		_exit(SETUP_FAILED);
}

/* In the child, before it enters. */
static void prepare(void)
{
	struct sockaddr_in a = loopback(0);

	close(t.secret_fd);
	acts_on.other = getppid();
	t.dir_fd = open(acts_on.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t.own_fd = open(in_dir("own"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t.file_fd = open(in_dir("slot"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	t.stream = socket(AF_INET, SOCK_STREAM, 0);
	t.datagram = socket(AF_INET, SOCK_DGRAM, 0);
	t.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	t.parent_pidfd = (int)syscall(SYS_pidfd_open, acts_on.other, 0);
	t.net_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	t.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t.dir_fd < 0 || t.own_fd < 0 || t.file_fd < 0 || ftruncate(t.file_fd, 4096) ||
	    t.stream < 0 || t.datagram < 0 || t.listener < 0 || t.parent_pidfd < 0 ||
	    t.net_ns < 0 || t.page == MAP_FAILED || pipe(t.pipe) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, t.unix_pair) ||
	    bind(t.listener, (struct sockaddr *)&a, sizeof(a)) || listen(t.listener, 1))
		_exit(SETUP_FAILED);
}

static void enter(const char *kind_name)
{
	static const char *const processes[] = {"/proc", NULL};
	const char *allowed = in_dir("allowed"), *own = in_dir("own");
	const char *const read_paths[] = {allowed, NULL};
	const char *const read_device[] = {allowed, "/dev/zero", NULL};
	const char *const read_nodes[] = {getenv("CLOISTER_TEST_DEV"), NULL};
	const char *const write_paths[] = {own, NULL};
	const char *write_more[] = {own, allowed, "/dev/null", NULL, NULL};
	const char *const execute[] = {"/bin", "/usr/bin", "/usr/lib", "/lib", "/lib64", NULL};
	struct sandbox_rules rules = {.write_fd = -1, .open_files = 64};
	enum sandbox_kind kind = 0;
	struct sandbox_state state;
	struct err err;
	enum rc rc;

	if (!strcmp(kind_name, "supervisor-cuda")) {
		rules.change = processes;
		rules.read = read_nodes;
		write_more[3] = "/dev/zero"; /* that the node is a link to */
		kind_name = "supervisor";
	}
	while (kind < SANDBOX_KINDS && strcmp(kind_name, sandbox_kind_name(kind)))
		kind++;
	switch (kind) {
	case SANDBOX_DECODE:
	case SANDBOX_TESSERACT:
	case SANDBOX_MODEL:
		rules.read = read_paths;
		rules.memory_bytes = 1u << 30;
		break;
	case SANDBOX_WRITE:
		rules.write_fd = t.own_fd;
		break;
	case SANDBOX_COMMAND:
		rules.read = read_device;
		rules.execute = execute;
		rules.write = write_paths;
		break;
	case SANDBOX_SUPERVISOR:
		rules.write = write_more;
		rules.execute = execute;
		break;
	case SANDBOX_UNPACK:
	case SANDBOX_MODEL_CUDA:
		break;
	case SANDBOX_KINDS:
		fprintf(stderr, "no such kind: %s\n", kind_name);
		_exit(SETUP_FAILED);
	}
	rc = kind == SANDBOX_MODEL_CUDA ? sandbox_enter_cuda(read_paths, true, &state, &err)
					: sandbox_enter(kind, &rules, true, &state, &err);
	if (rc != RC_OK || !state.seccomp) {
		fprintf(stderr, "cannot enter %s: %s\n", kind_name, err.text);
		_exit(SETUP_FAILED);
	}
}

static void start_sleeping_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, wait_for_ever, NULL))
		_exit(SETUP_FAILED);
}

/* "none", a kind, "no-network" or "threads", or several joined by '+', entered in this order. */
static void enter_all(const char *kinds)
{
	char one[32];
	struct err err;

	for (size_t len; *kinds; kinds += len + (kinds[len] == '+')) {
		len = strcspn(kinds, "+");
		snprintf(one, sizeof(one), "%.*s", (int)len, kinds);
		if (!strcmp(one, "threads")) {
			start_sleeping_thread();
		} else if (!strcmp(one, "no-network")) {
			if (sandbox_leave_network(&err) != RC_OK) {
				fprintf(stderr, "%s\n", err.text);
				_exit(SETUP_FAILED);
			}
		} else if (strcmp(one, "none")) {
			enter(one);
		}
	}
}

static void show_fields(pid_t pid, const char *file, const char *const *fields)
{
	char line[256], path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		for (const char *const *field = fields; *field; field++)
			if (!strncmp(line, *field, strlen(*field)))
				printf("%s %s", file, line);
	if (f)
		fclose(f);
}

/* What the kernel says of a sandboxed process's layers and limits. */
static void show_status(const char *kinds)
{
	static const char *const layers[] = {"NoNewPrivs:", "Seccomp:", "CapEff:", "CapBnd:", NULL};
	static const char *const limits[] = {"Max file size", "Max processes", "Max core",
					     "Max open files", "Max address space", NULL};
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) || (pid = fork()) < 0)
		exit(SETUP_FAILED);
	if (!pid) {
		prepare();
		enter_all(kinds);
		if (write(ready[1], "x", 1) != 1 || read_one(t.pipe[0]))
			_exit(SETUP_FAILED);
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		exit(SETUP_FAILED);
	show_fields(pid, "status", layers);
	show_fields(pid, "limits", limits);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void try_act(const char *kinds, const char *name, int (*act)(void))
{
	char text[32] = "ok";
	int status;
	pid_t pid;

	make_tree();
	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct rlimit core = {0, 0};

		setrlimit(RLIMIT_CORE, &core);
		alarm(20);
		prepare();
		enter_all(kinds);
		errno = 0;
		_exit(act() < 0 ? errno : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		exit(SETUP_FAILED);
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "SIG%s", sigabbrev_np(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == SETUP_FAILED)
		snprintf(text, sizeof(text), "setup");
	else if (WEXITSTATUS(status))
		snprintf(text, sizeof(text), "%s", strerrorname_np(WEXITSTATUS(status)));
	printf("%s %s\n", name, text);
}

static void serve_unix(void)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX}, name = {.sun_family = AF_UNIX};
	int a = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int b = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(path.sun_path, sizeof(path.sun_path), "%s", in_dir("outside/server"));
	unlink(path.sun_path);
	snprintf(t.abstract, sizeof(t.abstract), "cloister-try-%d", getpid());
	memcpy(name.sun_path + 1, t.abstract, strlen(t.abstract));
	if (a < 0 || b < 0 || bind(a, (struct sockaddr *)&path, sizeof(path)) || listen(a, 500) ||
	    bind(b, (struct sockaddr *)&name,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(t.abstract))) ||
	    listen(b, 500))
		exit(SETUP_FAILED);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: try-forbidden KIND DIR ACT...\n");
		return EX_USAGE_ERROR;
	}
#ifdef __SANITIZE_ADDRESS__
	printf("sanitized build: no sandbox\n");
	return 0;
#endif
	acts_on.dir = argv[2];
	make_tree();
	serve_unix();
	t.secret_fd = open(in_dir("outside/secret"), O_RDONLY | O_CLOEXEC);
	for (int i = 3; i < argc; i++) {
		bool all = !strcmp(argv[i], "all"), found = all;

		if (!strcmp(argv[i], "status")) {
			show_status(argv[1]);
			continue;
		}
		for (size_t n = 0; n < ARRAY_SIZE(acts); n++)
			if (all || !strcmp(argv[i], acts[n].name)) {
				try_act(argv[1], acts[n].name, acts[n].act);
				found = true;
			}
		if (!found) {
			fprintf(stderr, "no such act: %s\n", argv[i]);
			return EX_USAGE_ERROR;
		}
	}
	return 0;
}
