/* SPDX-License-Identifier: MIT
 *
 * sandbox_calls: which system calls each kind of process may make; the tables of sandbox.c, which
 * alone includes them.
 *
 * What is allowed was asked for by some document (tests/sandbox/needed-calls.t runs them all), or its
 * line says why it is here all the same.
 *
 * Integer arguments are compared as the kernel sees them, in their low 32 bits: what stands in the
 * upper half of the register must not decide.  Where that cannot be said (a value that must NOT
 * differ), the comparison errs on the side of refusing.
 */
#ifndef RUNNER_SANDBOX_CALLS_H
#define RUNNER_SANDBOX_CALLS_H

#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define BIT(kind)  (1u << (kind))
#define DECODE     BIT(SANDBOX_DECODE)
#define UNPACK     BIT(SANDBOX_UNPACK)
#define TESSERACT  BIT(SANDBOX_TESSERACT)
#define MODEL      BIT(SANDBOX_MODEL)
#define WRITE      BIT(SANDBOX_WRITE)
#define COMMAND    BIT(SANDBOX_COMMAND)
#define CUDA       BIT(SANDBOX_MODEL_CUDA)
#define SUPERVISOR BIT(SANDBOX_SUPERVISOR)
#define PARSERS    (DECODE | UNPACK | TESSERACT)
#define LISTED     (PARSERS | MODEL | WRITE) /* allow-list */
#define FOREIGN    (COMMAND | CUDA)
#define OPEN_ENDED (FOREIGN | SUPERVISOR) /* deny-list */

#define INT_MASK            0xffffffffu
#define MASKED(n, m, value) {(n), SCMP_CMP_MASKED_EQ, (m), (value)}
#define INT(n, value)       MASKED(n, INT_MASK, (uint32_t)(value))
#define NOT(n, value)       {(n), SCMP_CMP_NE, (value), 0}

/* Allow-lists. */
static const struct {
	int nr;
	unsigned kinds;
} allowed[] = {
	{SCMP_SYS(read), LISTED},
	{SCMP_SYS(write), LISTED},
	{SCMP_SYS(pread64), LISTED},
	{SCMP_SYS(lseek), LISTED},
	{SCMP_SYS(close), LISTED},
	{SCMP_SYS(fstat), LISTED}, /* other versions of the C library ask so */
	{SCMP_SYS(newfstatat), LISTED},
	{SCMP_SYS(munmap), LISTED},
	{SCMP_SYS(mremap), LISTED}, /* realloc() of large blocks */
	{SCMP_SYS(madvise), LISTED},
	{SCMP_SYS(brk), LISTED},
	{SCMP_SYS(futex), LISTED},
	{SCMP_SYS(exit_group), LISTED},
	{SCMP_SYS(rt_sigprocmask), LISTED}, /* abort() */
	{SCMP_SYS(clock_gettime), LISTED}, /* clocks that the vDSO cannot read */
	{SCMP_SYS(gettimeofday), LISTED}, /* likewise */
	{SCMP_SYS(getrandom), LISTED},
	{SCMP_SYS(restart_syscall), LISTED}, /* the kernel's own, after SIGSTOP in a timed wait */
	{SCMP_SYS(writev), LISTED}, /* the C library's last words */
	{SCMP_SYS(getpid), LISTED}, /* abort() */
	{SCMP_SYS(gettid), LISTED}, /* abort() */
	{SCMP_SYS(sysinfo), LISTED}, /* qsort() of more than a kilobyte */
	{SCMP_SYS(getdents64), DECODE | TESSERACT | MODEL},
	{SCMP_SYS(fsync), WRITE},
	{SCMP_SYS(mkdirat), WRITE}, /* figures/, in the one folder it may write to */
	{SCMP_SYS(poll), MODEL},
	{SCMP_SYS(sched_getaffinity), MODEL},
	{SCMP_SYS(rt_sigaction), MODEL}, /* the first pthread_create() */
	{SCMP_SYS(set_robust_list), MODEL}, /* a thread that starts */
	{SCMP_SYS(rseq), MODEL}, /* likewise */
	{SCMP_SYS(exit), MODEL}, /* one that ends */
};

/* Files without a name, or open without a right to anything. */
#define OPEN_HIDDEN     ((O_TMPFILE & ~O_DIRECTORY) | O_PATH)
#define OPEN_CHANGING   (O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | OPEN_HIDDEN)
#define OPEN_TRUNCATING (O_TRUNC | O_ACCMODE)
#ifdef __s390x__
#define CLONE_FLAGS_ARGUMENT 1
#else
#define CLONE_FLAGS_ARGUMENT 0
#endif
#define CLONE_NEW                                                                                  \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
	 CLONE_NEWNET)

/* Rules that look at arguments, or answer with an error; a call may have several, any of which
 * applies. */
struct rule {
	unsigned kinds;
	uint32_t action;
	int nr;
	unsigned n;
	struct scmp_arg_cmp arg[2];
};

#define ALLOW       SCMP_ACT_ALLOW
#define REFUSE(err) SCMP_ACT_ERRNO(err)

static const struct rule rules_by_argument[] = {
	/* Files open for reading only; for the writer also new ones, within what Landlock gives. */
	{DECODE | TESSERACT | MODEL, ALLOW, SCMP_SYS(openat), 1, {MASKED(2, OPEN_CHANGING, O_RDONLY)}},
	{WRITE, ALLOW, SCMP_SYS(openat), 1, {MASKED(2, OPEN_HIDDEN | O_TRUNC, 0)}},
	{WRITE, ALLOW, SCMP_SYS(openat), 1,
	 {MASKED(2, OPEN_HIDDEN | OPEN_TRUNCATING, O_TRUNC | O_WRONLY)}},
	/* iconv looks for its modules at the first name that is not UTF-8: there are none. */
	{UNPACK, REFUSE(ENOENT), SCMP_SYS(openat), 0, {}},
	/* No memory that can be executed but what was mapped before. */
	{LISTED, ALLOW, SCMP_SYS(mmap), 1, {MASKED(2, PROT_EXEC, 0)}},
	{LISTED, ALLOW, SCMP_SYS(mprotect), 1, {MASKED(2, PROT_EXEC, 0)}}, /* malloc, out of brk */
	/* The tokenizer's regular expressions go without machine code of their own. */
	{MODEL, REFUSE(EACCES), SCMP_SYS(mmap), 1, {MASKED(2, PROT_EXEC, PROT_EXEC)}},
	/* Threads, which start behind the locks as Landlock wants it; no processes, no namespaces.
	 * The C library asks for clone3 first. */
	{MODEL, ALLOW, SCMP_SYS(clone), 1,
	 {MASKED(CLONE_FLAGS_ARGUMENT, CLONE_THREAD | CLONE_NEW, CLONE_THREAD)}},
	{MODEL, REFUSE(ENOSYS), SCMP_SYS(clone3), 0, {}},
	/* No F_SETOWN (a signal to anybody), F_SETFL, F_SETLEASE, F_NOTIFY. */
	{LISTED, ALLOW, SCMP_SYS(fcntl), 1, {INT(1, F_SETFD)}},
	{LISTED, ALLOW, SCMP_SYS(fcntl), 1, {INT(1, F_GETFL)}},
	{LISTED, ALLOW, SCMP_SYS(fcntl), 1, {INT(1, F_DUPFD_CLOEXEC)}},
	/* Questions that libraries can do without an answer to: fontconfig asks where the program
	 * lies, stdio whether it writes to a terminal. */
	{LISTED, REFUSE(EACCES), SCMP_SYS(readlink), 0, {}},
	{LISTED, REFUSE(EACCES), SCMP_SYS(readlinkat), 0, {}},
	{LISTED, REFUSE(ENOTTY), SCMP_SYS(ioctl), 0, {}},

	/* Sockets: a pair that nobody else can reach (event loops), and the one kind that CUDA's
	 * driver binds for itself, which without connect, accept or an address to send to reaches
	 * nobody either.  Not datagrams, even in pairs: those can be sent to a third one.  By the
	 * bits of the type: stream 001, datagram 010 and 011 (raw), sequenced packets 101. */
	{OPEN_ENDED, REFUSE(EAFNOSUPPORT), SCMP_SYS(socket), 1, {NOT(0, AF_UNIX)}},
	{OPEN_ENDED, REFUSE(EAFNOSUPPORT), SCMP_SYS(socket), 1, {MASKED(1, 1, 0)}},
	{OPEN_ENDED, REFUSE(EAFNOSUPPORT), SCMP_SYS(socket), 1, {MASKED(1, 4, 0)}},
	{OPEN_ENDED, REFUSE(EAFNOSUPPORT), SCMP_SYS(socketpair), 1, {NOT(0, AF_UNIX)}},
	{OPEN_ENDED, REFUSE(EAFNOSUPPORT), SCMP_SYS(socketpair), 1, {MASKED(1, 1, 0)}},
	{OPEN_ENDED, REFUSE(EAFNOSUPPORT), SCMP_SYS(socketpair), 1, {MASKED(1, 2, 2)}},
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(sendto), 1, {NOT(4, 0)}},
	/* No new namespaces.  clone3's flags lie in memory, out of a filter's sight; with ENOSYS
	 * the C library goes back to clone. */
	{OPEN_ENDED, REFUSE(ENOSYS), SCMP_SYS(clone3), 0, {}},
#define NO_CLONE(flag)                                                                             \
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(clone), 1, {MASKED(CLONE_FLAGS_ARGUMENT, flag, flag)}}
	NO_CLONE(CLONE_NEWNS),
	NO_CLONE(CLONE_NEWCGROUP),
	NO_CLONE(CLONE_NEWUTS),
	NO_CLONE(CLONE_NEWIPC),
	NO_CLONE(CLONE_NEWUSER),
	NO_CLONE(CLONE_NEWPID),
	NO_CLONE(CLONE_NEWNET),
	/* Nobody else's terminal, signals or limits. */
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(ioctl), 1, {INT(1, TIOCSTI)}},
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(ioctl), 1, {INT(1, TIOCLINUX)}},
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(ioctl), 1, {INT(1, FIOSETOWN)}},
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(ioctl), 1, {INT(1, SIOCSPGRP)}},
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(fcntl), 1, {INT(1, F_SETOWN)}},
	{OPEN_ENDED, REFUSE(EPERM), SCMP_SYS(fcntl), 1, {INT(1, F_SETOWN_EX)}},
	{FOREIGN, REFUSE(EPERM), SCMP_SYS(prlimit64), 1, {NOT(0, 0)}},
	/* Not of a GPU's driver: it places its threads, and names them by their numbers. */
	{COMMAND, REFUSE(EPERM), SCMP_SYS(sched_setaffinity), 1, {NOT(0, 0)}},
	/* The driver's threads, but no processes, which its helper programs would be. */
	{CUDA, REFUSE(EPERM), SCMP_SYS(clone), 1, {MASKED(CLONE_FLAGS_ARGUMENT, CLONE_THREAD, 0)}},
};

/* Deny-lists: refused with EPERM. */
static const struct {
	int nr;
	unsigned kinds;
} denied[] = {
	/* network */
	{SCMP_SYS(connect), OPEN_ENDED},
	{SCMP_SYS(accept), OPEN_ENDED},
	{SCMP_SYS(accept4), OPEN_ENDED},
	{SCMP_SYS(io_uring_setup), OPEN_ENDED},
	{SCMP_SYS(io_uring_enter), OPEN_ENDED},
	{SCMP_SYS(io_uring_register), OPEN_ENDED},
	/* other processes */
	{SCMP_SYS(ptrace), OPEN_ENDED},
	{SCMP_SYS(process_vm_readv), OPEN_ENDED},
	{SCMP_SYS(process_vm_writev), OPEN_ENDED},
	{SCMP_SYS(process_madvise), OPEN_ENDED},
	{SCMP_SYS(process_mrelease), OPEN_ENDED},
	{SCMP_SYS(pidfd_getfd), OPEN_ENDED},
	{SCMP_SYS(kcmp), OPEN_ENDED},
	{SCMP_SYS(move_pages), OPEN_ENDED},
	{SCMP_SYS(migrate_pages), OPEN_ENDED},
	{SCMP_SYS(setpriority), FOREIGN},
	{SCMP_SYS(ioprio_set), FOREIGN},
	{SCMP_SYS(sched_setscheduler), FOREIGN},
	{SCMP_SYS(sched_setparam), FOREIGN},
	{SCMP_SYS(sched_setattr), FOREIGN},
	{SCMP_SYS(fork), CUDA},
	{SCMP_SYS(vfork), CUDA},
	{SCMP_SYS(execve), CUDA},
	{SCMP_SYS(execveat), CUDA},
	/* what Landlock does not see: mode, owner, times and attributes of files */
	{SCMP_SYS(chmod), FOREIGN},
	{SCMP_SYS(fchmod), FOREIGN},
	{SCMP_SYS(fchmodat), FOREIGN},
	{SCMP_SYS(chown), FOREIGN},
	{SCMP_SYS(fchown), FOREIGN},
	{SCMP_SYS(lchown), FOREIGN},
	{SCMP_SYS(fchownat), FOREIGN},
	{SCMP_SYS(utime), FOREIGN},
	{SCMP_SYS(utimes), FOREIGN},
	{SCMP_SYS(futimesat), FOREIGN},
	{SCMP_SYS(utimensat), FOREIGN},
	{SCMP_SYS(setxattr), FOREIGN},
	{SCMP_SYS(lsetxattr), FOREIGN},
	{SCMP_SYS(fsetxattr), FOREIGN},
	{SCMP_SYS(removexattr), FOREIGN},
	{SCMP_SYS(lremovexattr), FOREIGN},
	{SCMP_SYS(fremovexattr), FOREIGN},
	{SCMP_SYS(open_by_handle_at), OPEN_ENDED},
	{SCMP_SYS(name_to_handle_at), OPEN_ENDED},
	{SCMP_SYS(fanotify_init), OPEN_ENDED},
	/* namespaces and mounts */
	{SCMP_SYS(unshare), OPEN_ENDED},
	{SCMP_SYS(setns), OPEN_ENDED},
	{SCMP_SYS(mount), OPEN_ENDED},
	{SCMP_SYS(umount2), OPEN_ENDED},
	{SCMP_SYS(pivot_root), OPEN_ENDED},
	{SCMP_SYS(chroot), OPEN_ENDED},
	{SCMP_SYS(open_tree), OPEN_ENDED},
	{SCMP_SYS(move_mount), OPEN_ENDED},
	{SCMP_SYS(fsopen), OPEN_ENDED},
	{SCMP_SYS(fsconfig), OPEN_ENDED},
	{SCMP_SYS(fsmount), OPEN_ENDED},
	{SCMP_SYS(fspick), OPEN_ENDED},
	{SCMP_SYS(mount_setattr), OPEN_ENDED},
	{SCMP_SYS(quotactl), OPEN_ENDED},
	{SCMP_SYS(quotactl_fd), OPEN_ENDED},
	/* the kernel itself */
	{SCMP_SYS(bpf), OPEN_ENDED},
	{SCMP_SYS(perf_event_open), OPEN_ENDED},
	{SCMP_SYS(userfaultfd), OPEN_ENDED},
	{SCMP_SYS(add_key), OPEN_ENDED},
	{SCMP_SYS(request_key), OPEN_ENDED},
	{SCMP_SYS(keyctl), OPEN_ENDED},
	{SCMP_SYS(init_module), OPEN_ENDED},
	{SCMP_SYS(finit_module), OPEN_ENDED},
	{SCMP_SYS(delete_module), OPEN_ENDED},
	{SCMP_SYS(kexec_load), OPEN_ENDED},
	{SCMP_SYS(kexec_file_load), OPEN_ENDED},
	{SCMP_SYS(reboot), OPEN_ENDED},
	{SCMP_SYS(swapon), OPEN_ENDED},
	{SCMP_SYS(swapoff), OPEN_ENDED},
	{SCMP_SYS(acct), OPEN_ENDED},
	{SCMP_SYS(syslog), OPEN_ENDED},
	{SCMP_SYS(iopl), OPEN_ENDED},
	{SCMP_SYS(ioperm), OPEN_ENDED},
	{SCMP_SYS(modify_ldt), OPEN_ENDED},
	{SCMP_SYS(personality), OPEN_ENDED},
	{SCMP_SYS(uselib), OPEN_ENDED},
	{SCMP_SYS(lookup_dcookie), OPEN_ENDED},
	{SCMP_SYS(vhangup), OPEN_ENDED},
	{SCMP_SYS(sethostname), OPEN_ENDED},
	{SCMP_SYS(setdomainname), OPEN_ENDED},
	{SCMP_SYS(settimeofday), OPEN_ENDED},
	{SCMP_SYS(clock_settime), OPEN_ENDED},
	{SCMP_SYS(clock_adjtime), OPEN_ENDED},
	{SCMP_SYS(adjtimex), OPEN_ENDED},
};

/* What the filter has to hold for foreign programs where Landlock is too old to. */

/* Signals, which ABI 6 keeps inside: only to oneself. */
static const int signals[] = {
	SCMP_SYS(kill),
	SCMP_SYS(tkill),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigqueueinfo),
	SCMP_SYS(rt_tgsigqueueinfo),
};

/* Truncation, which is a right of its own from ABI 3 on, and until then asks for none when the
 * file is open for reading. openat2's flags are out of a filter's sight. */
static const struct rule rules_before_truncate[] = {
	{FOREIGN, REFUSE(EPERM), SCMP_SYS(truncate), 0, {}},
	{FOREIGN, REFUSE(ENOSYS), SCMP_SYS(openat2), 0, {}},
	{FOREIGN, REFUSE(EPERM), SCMP_SYS(open), 1, {MASKED(1, OPEN_TRUNCATING, O_TRUNC)}},
	{FOREIGN, REFUSE(EPERM), SCMP_SYS(openat), 1, {MASKED(2, OPEN_TRUNCATING, O_TRUNC)}},
};

#endif
