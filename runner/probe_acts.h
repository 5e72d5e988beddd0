/* SPDX-License-Identifier: MIT
 *
 * probe_acts: what a locked process must be refused, X(NAME, EXPRESSION); for probe.c and for
 * tests/tools/try-forbidden.c, which knows many more.
 *
 * An expression is negative with errno when it was refused.  Acts do no harm where they succeed: they
 * touch only the folder of probe_tree_make(), send no signal, and give the kernel arguments that it
 * would refuse by itself, with another errno, where success would change something.
 */
#ifndef RUNNER_PROBE_ACTS_H
#define RUNNER_PROBE_ACTS_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	const char *dir; /* holds outside/, which no rule gives access to */
	pid_t other;     /* a process that is none of its business */
} acts_on;

static const char *in_dir(const char *name)
{
	static char path[2][4096];
	static unsigned turn;
	char *p = path[turn++ % 2];

	snprintf(p, sizeof(path[0]), "%s/%s", acts_on.dir, name);
	return p;
}

static int call(long result)
{
	return result < 0 ? -1 : 0;
}

static int read_one(int fd)
{
	char byte;

	return fd < 0 ? -1 : read(fd, &byte, 1) < 0 ? -1 : 0;
}

static int try_socket(int family, int type)
{
	return call(socket(family, type, 0));
}

static int socketpair_dgram(void)
{
	int pair[2];

	return socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
}

/* Refused before the kernel sees that there is no such descriptor. */
static int to_name_server(int (*act)(int fd, const struct sockaddr *to, socklen_t len))
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(53),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return act(-1, (struct sockaddr *)&to, sizeof(to));
}

static int send_one(int fd, const struct sockaddr *to, socklen_t len)
{
	return call(sendto(fd, "x", 1, MSG_NOSIGNAL, to, len));
}

static int uring_setup(void)
{
	char params[120] = {0};

	return call(syscall(SYS_io_uring_setup, 4, params));
}

static int openat2_outside(void)
{
	uint64_t how[3] = {O_RDONLY, 0, 0};

	return read_one((int)syscall(SYS_openat2, AT_FDCWD, in_dir("outside/secret"), how,
				     sizeof(how)));
}

/* O_PATH itself is outside Landlock's sight; what matters is that it cannot be made readable. */
static int open_path_reopen(void)
{
	int fd = open(in_dir("outside/secret"), O_PATH);
	char path[64];

	if (fd < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return read_one(open(path, O_RDONLY));
}

static int proc_self_root(void)
{
	char path[4200];

	snprintf(path, sizeof(path), "/proc/self/root%s", in_dir("outside/secret"));
	return read_one(open(path, O_RDONLY));
}

static int try_open(const char *name, int flags)
{
	return call(open(in_dir(name), flags, 0600));
}

static int exec_true(void)
{
	char *const argv[] = {(char *)"true", NULL}, *const envp[] = {NULL};

	execve("/bin/true", argv, envp);
	return -1;
}

static int exec_outside(void)
{
	char *const argv[] = {(char *)"true", NULL}, *const envp[] = {NULL};

	execve(in_dir("outside/program"), argv, envp);
	return -1;
}

static int reap(pid_t pid)
{
	if (!pid)
		_exit(0);
	return pid < 0 || waitpid(pid, NULL, 0) < 0 ? -1 : 0;
}

static int vm_call(long nr)
{
	static char target; /* at the same address in the parent */
	char byte = 0;
	struct iovec here = {&byte, 1}, there = {&target, 1};

	return call(syscall(nr, acts_on.other, &here, 1, &there, 1, 0));
}

static int do_perf(void)
{
	uint32_t attr[32] = {1 /* software */, sizeof(attr), 1 /* task clock */};

	return call(syscall(SYS_perf_event_open, attr, 0, -1, -1, 0));
}

#define PROBE_ACTS(X)                                                                              \
	X(socket_inet, try_socket(AF_INET, SOCK_STREAM)) \
	X(socket_inet_dgram, try_socket(AF_INET, SOCK_DGRAM)) \
	X(socket_inet6, try_socket(AF_INET6, SOCK_DGRAM)) \
	X(socket_netlink, try_socket(AF_NETLINK, SOCK_RAW)) \
	X(socket_packet, try_socket(AF_PACKET, SOCK_RAW)) \
	X(socket_vsock, try_socket(AF_VSOCK, SOCK_STREAM)) \
	X(socket_unix_dgram, try_socket(AF_UNIX, SOCK_DGRAM)) \
	X(socketpair_dgram, socketpair_dgram()) \
	X(connect_closed, to_name_server(connect)) \
	X(sendto_closed, to_name_server(send_one)) \
	X(uring_setup, uring_setup()) \
	X(open_outside, read_one(open(in_dir("outside/secret"), O_RDONLY))) \
	X(list_outside, open(in_dir("outside"), O_RDONLY | O_DIRECTORY)) \
	X(openat2_outside, openat2_outside()) \
	X(open_path_reopen, open_path_reopen()) \
	X(proc_self_root, proc_self_root()) \
	X(create_outside, try_open("outside/new", O_CREAT | O_WRONLY)) \
	X(tmpfile_outside, try_open("outside", O_TMPFILE | O_RDWR)) \
	X(truncate_outside, truncate(in_dir("outside/victim"), 0)) \
	X(unlink_outside, unlink(in_dir("outside/doomed"))) \
	X(link_outside, link(in_dir("outside/secret"), in_dir("outside/linked"))) \
	X(symlink_outside, symlink("secret", in_dir("outside/pointer"))) \
	X(rename_outside, rename(in_dir("outside/victim"), in_dir("outside/victim2"))) \
	X(exec_true, exec_true()) \
	X(exec_outside, exec_outside()) \
	X(libc_fork, reap(fork())) \
	X(kill_parent, kill(acts_on.other, 0)) \
	X(tgkill_parent, syscall(SYS_tgkill, acts_on.other, acts_on.other, 0)) \
	X(ptrace_parent, ptrace(PTRACE_SEIZE, acts_on.other, NULL, NULL)) \
	X(vm_read_parent, vm_call(SYS_process_vm_readv)) \
	X(unshare_user, unshare(CLONE_NEWUSER)) \
	X(unshare_net, unshare(CLONE_NEWNET)) \
	X(unshare_mount, unshare(CLONE_NEWNS)) \
	X(mount, syscall(SYS_mount, "none", in_dir("outside"), "no-such-type", 0, NULL)) \
	X(chroot, chroot("/")) \
	X(bpf, syscall(SYS_bpf, 0, NULL, 0)) \
	X(perf, do_perf()) \
	X(userfaultfd, syscall(SYS_userfaultfd, O_CLOEXEC)) \
	X(keyctl, syscall(SYS_keyctl, 0, -3 /* session */, 0))

#endif
