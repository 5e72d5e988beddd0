/* SPDX-License-Identifier: MIT
 *
 * sandbox: the locks of sandbox.h, applied in the order in which they depend on each other.
 *
 * Invariant: after sandbox_enter() has returned RC_OK nothing this process or a child of it does
 * can widen what it may do.  Filters and Landlock domains only ever stack, so a child gets the
 * intersection of its own rules and its parent's.
 *
 *   1. one thread only: Landlock binds the calling thread and what it starts later
 *   2. no_new_privs, which both Landlock and seccomp ask for; not dumpable; capabilities dropped
 *   3. Landlock: every right the kernel's ABI knows is handled, the rules give some of them back
 *   4. rlimits
 *   5. seccomp, last, since it forbids all of the above
 *
 * Parsers and the writer run under allow-lists: a call that is not listed kills the process, and so
 * does a call of another architecture (int 0x80, x32).  Foreign programs, the driver of a GPU and the
 * supervisor run under a deny-list, where no list of ours could be complete: so numbers above the highest one that
 * was judged answer ENOSYS, by a second, hand-made filter, because libseccomp can only name calls.
 *
 * What the layers do not hold: Landlock does not cover stat(2), so that a parser that was taken
 * over can tell whether a file exists.  RLIMIT_NPROC counts a uid's processes and not at all for
 * root; that no parser forks rests on the filter.
 */
#include "sandbox.h"
#include "base/num.h"
#include "sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *sandbox_kind_name(enum sandbox_kind kind)
{
	static const char *const names[SANDBOX_KINDS] = {
		[SANDBOX_DECODE] = "decode",   [SANDBOX_UNPACK] = "unpack",
		[SANDBOX_TESSERACT] = "tesseract", [SANDBOX_MODEL] = "model",
		[SANDBOX_WRITE] = "write",
		[SANDBOX_COMMAND] = "command", [SANDBOX_MODEL_CUDA] = "model-cuda",
		[SANDBOX_SUPERVISOR] = "supervisor",
	};

	return names[kind];
}

/* Landlock: the kernel's interface up to ABI 7.  Debian 12's headers end at ABI 2. */

enum landlock_fs_right {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,     /* ABI 2: link or rename into another folder */
	FS_TRUNCATE = 1 << 14,  /* ABI 3 */
	FS_IOCTL_DEV = 1 << 15, /* ABI 5 */
};

#define FS_RIGHTS_READ  (FS_READ_FILE | FS_READ_DIR)
#define FS_RIGHTS_WRITE                                                                            \
	(FS_RIGHTS_READ | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |           \
	 FS_MAKE_REG | FS_REFER | FS_TRUNCATE)
/* The supervisor moves what was dropped to failed/, links and FIFOs too: a rename asks for the
 * right to make one. */
#define FS_RIGHTS_MOVE     (FS_RIGHTS_WRITE | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM)
#define FS_RIGHTS_OF_FILES                                                                         \
	(FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

#define LANDLOCK_VERSION      1u /* flag of landlock_create_ruleset */
#define LANDLOCK_PATH_BENEATH 1
#define NET_ALL               3u /* bind and connect of TCP, ABI 4 */
#define SCOPE_ALL             3u /* abstract AF_UNIX sockets and signals, ABI 6 */

struct ruleset_attr {
	uint64_t handled_fs;
	uint64_t handled_net; /* ABI 4 */
	uint64_t scoped;      /* ABI 6 */
};

struct path_beneath_attr {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

/* CLOISTER_TEST_LANDLOCK_ABI lets the tests play an older kernel; it can only lower the ABI. */
int sandbox_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
	const char *pretend = getenv("CLOISTER_TEST_LANDLOCK_ABI");
	uint64_t lower;

	if (abi <= 0)
		return 0;
	if (pretend && parse_u64(pretend, (uint64_t)abi, &lower))
		abi = (long)lower;
	return (int)abi;
}

static uint64_t handled_fs(int abi)
{
	static const uint64_t rights[] = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff};

	return rights[abi < (int)ARRAY_SIZE(rights) ? abi : (int)ARRAY_SIZE(rights) - 1];
}

static enum rc allow_fd(int ruleset, int fd, uint64_t rights, uint64_t handled, const char *name,
			struct err *err)
{
	struct path_beneath_attr rule = {.parent_fd = fd};
	struct stat st;

	if (fstat(fd, &st))
		return err_errno(err, RC_FATAL, "sandbox", "stat %s", name);
	if (!S_ISDIR(st.st_mode))
		rights &= FS_RIGHTS_OF_FILES;
	if (S_ISCHR(st.st_mode) && (rights & FS_WRITE_FILE))
		rights |= FS_IOCTL_DEV; /* a device that is named itself, such as a GPU's */
	rule.allowed = rights & handled;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_BENEATH, &rule, 0))
		return err_errno(err, RC_FATAL, "sandbox", "Landlock rule for %s", name);
	return RC_OK;
}

static enum rc allow_paths(int ruleset, const char *const *paths, uint64_t rights, uint64_t handled,
			   struct err *err)
{
	enum rc rc = RC_OK;

	for (; paths && *paths && rc == RC_OK; paths++) {
		int fd = open(*paths, O_PATH | O_CLOEXEC);

		if (fd < 0) {
			if (errno == ENOENT || errno == ENOTDIR)
				continue;
			return err_errno(err, RC_FATAL, "sandbox", "open %s", *paths);
		}
		rc = allow_fd(ruleset, fd, rights, handled, *paths, err);
		close(fd);
	}
	return rc;
}

static enum rc landlock_enter(unsigned kind, int abi, const struct sandbox_rules *rules,
			      struct err *err)
{
	uint64_t writing = kind & SUPERVISOR ? FS_RIGHTS_MOVE : FS_RIGHTS_WRITE;
	uint64_t handled = handled_fs(abi);
	struct ruleset_attr attr = {handled, abi >= 4 ? NET_ALL : 0, abi >= 6 ? SCOPE_ALL : 0};
	size_t size = abi >= 6 ? sizeof(attr) : abi >= 4 ? 16 : 8;
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	enum rc rc = RC_OK;

	if (ruleset < 0)
		return err_errno(err, RC_FATAL, "sandbox", "create a Landlock ruleset");
	rc = allow_paths(ruleset, rules->read, FS_RIGHTS_READ, handled, err);
	if (rc == RC_OK)
		rc = allow_paths(ruleset, rules->execute, FS_RIGHTS_READ | FS_EXECUTE, handled,
				 err);
	if (rc == RC_OK)
		rc = allow_paths(ruleset, rules->write, writing, handled, err);
	if (rc == RC_OK)
		rc = allow_paths(ruleset, rules->change, FS_RIGHTS_READ | FS_WRITE_FILE, handled,
				 err);
	if (rc == RC_OK)
		rc = allow_paths(ruleset, rules->remove, FS_REMOVE_DIR, handled, err);
	if (rc == RC_OK && rules->write_fd >= 0)
		rc = allow_fd(ruleset, rules->write_fd, writing, handled, "the output folder", err);
	if (rc == RC_OK && syscall(SYS_landlock_restrict_self, ruleset, 0))
		rc = err_errno(err, RC_FATAL, "sandbox", "enter Landlock");
	close(ruleset);
	return rc;
}

/* Add one rule; a call that this architecture does not have needs none. */
static int add(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned n,
	       const struct scmp_arg_cmp *arg)
{
	int r = seccomp_rule_add_array(ctx, action, nr, n, arg);

	return r == -EDOM ? 0 : r;
}

static int add_table(scmp_filter_ctx ctx, const struct rule *rules, size_t n, unsigned kind)
{
	int r = 0;

	for (size_t i = 0; i < n && !r; i++)
		if (rules[i].kinds & kind)
			r = add(ctx, rules[i].action, rules[i].nr, rules[i].n, rules[i].arg);
	return r;
}

static int add_signal_rules(scmp_filter_ctx ctx, unsigned kind, int abi)
{
	struct scmp_arg_cmp self = INT(0, getpid()), others = NOT(0, (uint32_t)getpid());
	int r = 0;

	/* abort() is to end in SIGABRT: a crash is not to be taken for a breach. */
	if (kind & LISTED)
		return add(ctx, ALLOW, SCMP_SYS(tgkill), 1, &self);
	if (!(kind & FOREIGN) || abi >= 6)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(signals) && !r; i++)
		r = add(ctx, REFUSE(EPERM), signals[i], 1, &others);
	return r ? r : add(ctx, REFUSE(EPERM), SCMP_SYS(pidfd_send_signal), 0, NULL);
}

static int add_rules(scmp_filter_ctx ctx, unsigned kind, int abi)
{
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	for (size_t i = 0; i < ARRAY_SIZE(allowed) && !r; i++)
		if (allowed[i].kinds & kind)
			r = add(ctx, ALLOW, allowed[i].nr, 0, NULL);
	if (!r)
		r = add_table(ctx, rules_by_argument, ARRAY_SIZE(rules_by_argument), kind);
	if (!r && abi < 3)
		r = add_table(ctx, rules_before_truncate, ARRAY_SIZE(rules_before_truncate), kind);
	for (size_t i = 0; i < ARRAY_SIZE(denied) && !r; i++)
		if (denied[i].kinds & kind)
			r = add(ctx, REFUSE(EPERM), denied[i].nr, 0, NULL);
	return r ? r : add_signal_rules(ctx, kind, abi);
}

/* Linux 5.17's set_mempolicy_home_node.  Numbers from 424 on are the same on every architecture.
 * Whoever raises this has judged the calls between for the lists above. */
#define HIGHEST_JUDGED_CALL 450
#define X32_BIT             0x40000000u

/* Calls of another architecture pass here: the other filter kills them. */
static int refuse_unknown_calls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, seccomp_arch_native(), 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, HIGHEST_JUDGED_CALL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_SIZE(code), code};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) ? -errno : 0;
}

static enum rc seccomp_enter(unsigned kind, int abi, struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(kind & LISTED ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ALLOW);
	int r = ctx ? 0 : -ENOMEM;

	if (!r)
		r = add_rules(ctx, kind, abi);
	if (!r && !(kind & LISTED))
		r = refuse_unknown_calls();
	if (!r)
		r = seccomp_load(ctx);
	if (r == -ENOMEM)
		out_of_memory("making the system call filter");
	if (ctx)
		seccomp_release(ctx);
	errno = -r;
	return r ? err_errno(err, RC_FATAL, "sandbox", "load the system call filter") : RC_OK;
}

/* Capabilities.  Parsers need none.  The engine opens a model, which may be another user's, behind its locks.  The
 * supervisor, when it is root, works in spools that belong
 * to others; a foreign recogniser run by root reads models that do. */

static uint64_t capabilities_kept(unsigned kind)
{
#define CAP(name) (1ull << (name))
	uint64_t files = CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH);

	if (kind & PARSERS)
		return 0;
	if (kind & (MODEL | CUDA))
		return CAP(CAP_DAC_READ_SEARCH);
	if (kind & (WRITE | COMMAND))
		return files;
	return files | CAP(CAP_FOWNER) | CAP(CAP_CHOWN) | CAP(CAP_FSETID) | CAP(CAP_LEASE) |
	       CAP(CAP_KILL) | CAP(CAP_SETPCAP);
#undef CAP
}

/* Keep only these capabilities, also across exec by root.  Nothing to do for who has none. */
static int drop_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {{0}};

	if (syscall(SYS_capget, &head, caps))
		return -1;
	if (!caps[0].permitted && !caps[1].permitted)
		return 0;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap) && errno != EPERM)
			return -1;
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
		caps[i].permitted &= (uint32_t)(keep >> (32 * i));
		caps[i].effective &= caps[i].permitted;
		caps[i].inheritable = 0;
	}
	return (int)syscall(SYS_capset, &head, caps);
}

static int limit(int resource, uint64_t value)
{
	struct rlimit now, want = {value, value};

	if (getrlimit(resource, &now))
		return -1;
	want.rlim_cur = want.rlim_max = min_u64(value, now.rlim_max);
	return setrlimit(resource, &want);
}

static enum rc limits_enter(unsigned kind, const struct sandbox_rules *rules, struct err *err)
{
	if (limit(RLIMIT_CORE, 0) || (kind & PARSERS && limit(RLIMIT_NPROC, 0)) ||
	    ((rules->file_bytes || kind & (PARSERS | MODEL)) && limit(RLIMIT_FSIZE, rules->file_bytes)) ||
	    (rules->open_files && limit(RLIMIT_NOFILE, rules->open_files)) ||
	    (rules->memory_bytes && limit(RLIMIT_AS, rules->memory_bytes)))
		return err_errno(err, RC_FATAL, "sandbox", "set resource limits");
	return RC_OK;
}

/* A folder has a link for itself, one from its parent, and one from each folder in it. */
static bool single_threaded(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) || st.st_nlink == 3;
}

static enum rc enter(unsigned kind, const struct sandbox_rules *rules, bool require,
		     struct sandbox_state *state, struct err *err)
{
	int abi = sandbox_landlock_abi();
	enum rc rc;

	if (!single_threaded())
		return err_set(err, RC_FATAL, "sandbox", "a thread was started before the sandbox");
	if (kind == SUPERVISOR && abi == 1)
		abi = 0; /* ABI 1 forbids every rename from one folder into another */
	if (require && !abi)
		return err_set(err, RC_FATAL, "sandbox",
			       "this kernel has no Landlock (Linux 5.19 or later has it, unless "
			       "it is switched off)");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_errno(err, RC_FATAL, "sandbox", "set no_new_privs");
	state->no_new_privs = true;
	if ((kind & LISTED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) ||
	    drop_capabilities(capabilities_kept(kind)))
		return err_errno(err, RC_FATAL, "sandbox", "drop privileges");
	if (abi) {
		rc = landlock_enter(kind, abi, rules, err);
		if (rc == RC_OK)
			state->landlock_abi = abi;
		else if (require)
			return rc;
	}
	rc = limits_enter(kind, rules, err);
	if (rc != RC_OK)
		return rc;
	rc = seccomp_enter(kind, state->landlock_abi, err);
	state->seccomp = rc == RC_OK;
	return require ? rc : RC_OK;
}

enum rc sandbox_enter(enum sandbox_kind kind, const struct sandbox_rules *rules, bool require,
		      struct sandbox_state *state, struct err *err)
{
	struct sandbox_state scratch;

	if (!state)
		state = &scratch;
	*state = (struct sandbox_state){0};
#ifdef __SANITIZE_ADDRESS__
	(void)rules, (void)require, (void)err, (void)kind, (void)enter;
	return RC_OK; /* AddressSanitizer's own calls and address space fit into no sandbox */
#else
	return enter(BIT(kind), rules, require, state, err);
#endif
}

/* Network namespace. */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Somebody made an empty one before us: podman --network none, systemd's PrivateNetwork=. */
static bool only_loopback(void)
{
	FILE *devices = fopen("/proc/self/net/dev", "re");
	char line[512];
	bool only = devices != NULL;

	for (int n = 0; devices && fgets(line, sizeof(line), devices); n++)
		if (n >= 2 && strncmp(line + strspn(line, " "), "lo:", 3))
			only = false;
	if (devices)
		fclose(devices);
	return only;
}

enum rc sandbox_leave_network(struct err *err)
{
	char uid_map[64], gid_map[64];
	unsigned uid = geteuid(), gid = getegid();

	if (!unshare(CLONE_NEWNET) || only_loopback())
		return RC_OK;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return err_errno(err, RC_RETRY, "sandbox", "make an empty network namespace");
	snprintf(uid_map, sizeof(uid_map), "%u %u 1\n", uid, uid);
	snprintf(gid_map, sizeof(gid_map), "%u %u 1\n", gid, gid);
	/* Half made, the user namespace would leave us without a name. */
	if (write_text("/proc/self/uid_map", uid_map) ||
	    write_text("/proc/self/setgroups", "deny") ||
	    write_text("/proc/self/gid_map", gid_map) || drop_capabilities(0))
		return err_errno(err, RC_FATAL, "sandbox", "map the user into its own namespace");
	return RC_OK;
}

void sandbox_close_from(int first, const int *keep, size_t n_keep)
{
	unsigned from = (unsigned)first, most = (unsigned)sysconf(_SC_OPEN_MAX);

	for (;;) {
		unsigned next = ~0u;

		for (size_t i = 0; i < n_keep; i++)
			if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		if (next > from && syscall(SYS_close_range, from, next - 1, 0))
			for (unsigned fd = from; fd < next && fd < most; fd++)
				close((int)fd);
		if (next == ~0u)
			return;
		from = next + 1;
	}
}
