/* SPDX-License-Identifier: MIT
 *
 * The network that programs of a run find: which devices, whether anything can be reached, and
 * whether anybody listens.
 *
 * The attempts are made without a filter on system calls, in the namespace that a run has: they tell
 * of the network itself.  That programs cannot even make a socket is the sandbox's matter
 * (verify_programs.c).  Addresses are those set aside for documentation; a name server is sent one
 * question, about a name that cannot exist.
 */
#include "verify.h"
#include "base/buf.h"
#include "base/num.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS     1000
#define NAME_SERVERS  3
#define LISTENERS_MAX 4096
#define DNS_PORT      53

/* ---- who listens ---- */

/* Tables of the kernel in which every line, or every one in this state, is an open door. */
static const struct {
	const char *name;
	size_t state_column, inode_column;
	const char *state; /* NULL: any */
	bool network;
} tables[] = {
	{ "tcp", 3, 9, "0A", true },   { "tcp6", 3, 9, "0A", true },
	{ "udp", 3, 9, NULL, true },   { "udp6", 3, 9, NULL, true },
	{ "udplite", 3, 9, NULL, true }, { "udplite6", 3, 9, NULL, true },
	{ "raw", 3, 9, NULL, true },   { "raw6", 3, 9, NULL, true },
	{ "packet", 3, 8, NULL, true }, { "unix", 3, 6, "00010000", false },
};

struct listeners {
	unsigned long inodes[LISTENERS_MAX];
	size_t n;
	struct buf names; /* "tcp, udp" */
};

static const char *column(const char *line, size_t n, size_t *len)
{
	for (;;) {
		line += strspn(line, " \n");
		*len = strcspn(line, " \n");
		if (!n--)
			return line;
		line += *len;
	}
}

static void add_listener(struct listeners *l, size_t table, const char *line)
{
	const char *wanted = tables[table].state, *state;
	size_t len;

	state = column(line, tables[table].state_column, &len);
	if (l->n == LISTENERS_MAX ||
	    (wanted && (len != strlen(wanted) || strncmp(state, wanted, len))))
		return;
	l->inodes[l->n++] = strtoul(column(line, tables[table].inode_column, &len), NULL, 10);
	if (!l->names.len || !strstr(l->names.data, tables[table].name))
		buf_addf(&l->names, "%s%s", l->names.len ? ", " : "", tables[table].name);
}

/* Open doors in the network namespace of a process; local ones too unless `network_only`. */
static void find_listeners(struct listeners *l, const char *pid, bool network_only)
{
	buf_init(&l->names, 4096);
	l->n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		char path[64], line[512];
		FILE *f;

		if (network_only && !tables[i].network)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/net/%s", pid, tables[i].name);
		f = fopen(path, "re");
		for (int n = 0; f && fgets(line, sizeof(line), f); n++)
			if (n)
				add_listener(l, i, line);
		if (f)
			fclose(f);
	}
}

/* How many of these sockets a process has open; -1: we may not look. */
static int count_owned(const char *pid, const struct listeners *l)
{
	char path[512], target[64];
	struct dirent *e;
	int owned = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -1;
	while ((e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
		unsigned long inode;

		target[n < 0 ? 0 : n] = '\0';
		if (sscanf(target, "socket:[%lu]", &inode) != 1)
			continue;
		for (size_t i = 0; i < l->n; i++)
			owned += l->inodes[i] == inode;
	}
	closedir(dir);
	return owned;
}

struct process {
	int pid, parent;
	char name[20];
	bool family;
};

/* false: there is no such process any more. */
static bool read_process(const char *pid, struct process *p)
{
	char path[64], line[1024], *name, *end;
	FILE *f;
	bool good = false;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f) && (name = strchr(line, '(')) &&
	    (end = strrchr(line, ')'))) {
		*end = '\0';
		snprintf(p->name, sizeof(p->name), "%s", name + 1);
		p->pid = (int)strtol(pid, NULL, 10);
		good = sscanf(end + 1, " %*c %d", &p->parent) == 1;
	}
	if (f)
		fclose(f);
	p->family = good && !strncmp(p->name, "cloister", strlen("cloister")) &&
		    p->pid != getpid() && p->pid != getppid();
	return good;
}

/* Processes whose name begins with cloister, and whatever they have started. */
static struct process *find_family(size_t *n)
{
	struct process *list = NULL;
	DIR *dir = opendir("/proc");
	bool more = true;

	*n = 0;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		struct process p;

		if (!isdigit((unsigned char)e->d_name[0]) || !read_process(e->d_name, &p))
			continue;
		list = xrealloc(list, (*n + 1) * sizeof(*list));
		list[(*n)++] = p;
	}
	if (dir)
		closedir(dir);
	while (more) {
		more = false;
		for (size_t i = 0; i < *n; i++)
			for (size_t k = 0; k < *n && !list[i].family; k++)
				if (list[k].family && list[k].pid == list[i].parent)
					list[i].family = more = true;
	}
	return list;
}

void verify_family_listeners(struct verify *v)
{
	static struct listeners l;
	size_t n, seen = 0;
	struct process *list = find_family(&n);
	struct buf bad;

	buf_init(&bad, 1 << 16);
	for (size_t i = 0; i < n; i++) {
		char pid[16];
		int owned;

		if (!list[i].family)
			continue;
		seen++;
		snprintf(pid, sizeof(pid), "%d", list[i].pid);
		find_listeners(&l, pid, false);
		owned = l.n ? count_owned(pid, &l) : 0;
		buf_release(&l.names);
		if (owned)
			buf_addf(&bad, "%s%s[%d] %s", bad.len ? ", " : "", list[i].name, list[i].pid,
				 owned < 0 ? "cannot be looked into" : "listens");
	}
	free(list);
	if (bad.len)
		verify_say(v, false, "own listeners", HELD_BY_SANDBOX, "%s", bad.data);
	else
		verify_say(v, true, "own listeners", HELD_BY_SANDBOX,
			   "%zu running processes of cloister and their children, none listens", seen);
	buf_release(&bad);
}

/* ---- what can be reached ---- */

static void check_devices(struct verify *v, const char *why)
{
	FILE *f = fopen("/proc/self/net/dev", "re");
	struct buf devices;
	char line[512];

	buf_init(&devices, 4096);
	for (int n = 0; f && fgets(line, sizeof(line), f); n++) {
		char *name = line + strspn(line, " ");

		name[strcspn(name, ":")] = '\0';
		if (n >= 2 && strcmp(name, "lo"))
			buf_addf(&devices, "%s%s", devices.len ? ", " : "", name);
	}
	if (!f)
		verify_say(v, false, "interfaces", HELD_BY_SURROUNDINGS, "/proc/self/net/dev: %s",
			   strerror(errno));
	else if (devices.len)
		verify_say(v, false, "interfaces", HELD_BY_SURROUNDINGS,
			   "%s: %s; start it in a container without a network", devices.data, why);
	else
		verify_say(v, true, "interfaces",
			   v->own_network ? HELD_BY_NAMESPACE : HELD_BY_SURROUNDINGS,
			   v->own_network ? "none but lo, in an empty network namespace that cloister makes itself"
			       : "none but lo, all around");
	if (f)
		fclose(f);
	buf_release(&devices);
}

static socklen_t address(struct sockaddr_storage *to, const char *text, int port)
{
	struct sockaddr_in *a = (struct sockaddr_in *)to;
	struct sockaddr_in6 *b = (struct sockaddr_in6 *)to;

	*to = (struct sockaddr_storage){ 0 };
	if (inet_pton(AF_INET, text, &a->sin_addr) == 1) {
		a->sin_family = AF_INET;
		a->sin_port = htons((uint16_t)port);
		return sizeof(*a);
	}
	if (inet_pton(AF_INET6, text, &b->sin6_addr) == 1) {
		b->sin6_family = AF_INET6;
		b->sin6_port = htons((uint16_t)port);
		return sizeof(*b);
	}
	return 0;
}

/* 0: a connection could be begun; else why not. */
static int try_to_connect(const char *text)
{
	struct sockaddr_storage to;
	socklen_t len = address(&to, text, 80);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		return errno;
	if (connect(fd, (struct sockaddr *)&to, len) && errno != EINPROGRESS)
		error = errno;
	close(fd);
	return error;
}

static void say_reached(struct verify *v, const char *check, bool reached, const struct buf *said)
{
	verify_say(v, !reached, check, v->own_network ? HELD_BY_NAMESPACE : HELD_BY_SURROUNDINGS,
		   "%s", said->data);
}

static void check_connect(struct verify *v)
{
	static const char *const places[] = { "192.0.2.1", "2001:db8::1" };
	struct buf said;
	bool open = false;

	buf_init(&said, 4096);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		int error = try_to_connect(places[i]);

		buf_addf(&said, "%s%s: %s", i ? "; " : "", places[i],
			 error ? strerror(error) : "a connection could be begun");
		open |= !error;
	}
	say_reached(v, "connect", open, &said);
	buf_release(&said);
}

static size_t name_servers(char servers[NAME_SERVERS][64])
{
	FILE *f = fopen("/etc/resolv.conf", "re");
	char line[256];
	size_t n = 0;

	while (f && n < NAME_SERVERS && fgets(line, sizeof(line), f))
		n += sscanf(line, "nameserver %63s", servers[n]) == 1;
	if (f)
		fclose(f);
	if (!n) /* what the C library takes then */
		strcpy(servers[n++], "127.0.0.1");
	return n;
}

/* 0: a question could be sent, and nobody said that there is no such door; else why not. */
static int try_to_ask(const char *server)
{
	/* The A record of cloister.invalid, which RFC 2606 keeps from existing. */
	static const char question[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
				       "\x08" "cloister" "\x07" "invalid" "\x00\x00\x01\x00\x01";
	struct sockaddr_storage to;
	socklen_t len = address(&to, server, DNS_PORT);
	int fd = len ? socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
	struct pollfd answer = { .fd = fd, .events = POLLIN };
	int error = 0;
	char byte;

	if (fd < 0)
		return len ? errno : EINVAL;
	if (connect(fd, (struct sockaddr *)&to, len) ||
	    send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) < 0 ||
	    (poll(&answer, 1, ANSWER_MS) > 0 && recv(fd, &byte, 1, 0) < 0))
		error = errno;
	close(fd);
	return error;
}

static void check_names(struct verify *v)
{
	char servers[NAME_SERVERS][64];
	size_t n = name_servers(servers);
	struct buf said;
	bool open = false;

	buf_init(&said, 4096);
	for (size_t i = 0; i < n; i++) {
		int error = try_to_ask(servers[i]);

		buf_addf(&said, "%s%s: %s", i ? "; " : "", servers[i],
			 error ? strerror(error) : "a question could be sent");
		open |= !error;
	}
	say_reached(v, "DNS", open, &said);
	buf_release(&said);
}

static void check_listeners(struct verify *v)
{
	static struct listeners l;

	find_listeners(&l, "self", true);
	if (l.n)
		verify_say(v, false, "listeners", HELD_BY_SURROUNDINGS,
			   "%zu sockets wait for somebody (%s) where the programs run", l.n,
			   l.names.data);
	else
		verify_say(v, true, "listeners",
			   v->own_network ? HELD_BY_NAMESPACE : HELD_BY_SURROUNDINGS,
			   "no socket waits for anybody where the programs run");
	buf_release(&l.names);
}

static void own_namespace(char *name, size_t size)
{
	ssize_t n = readlink("/proc/self/ns/net", name, size - 1);

	name[n < 0 ? 0 : n] = '\0';
}

void verify_network(struct verify *v)
{
	char before[64], after[64];
	struct err err = { .text = "" };

	own_namespace(before, sizeof(before));
	sandbox_leave_network(&err);
	own_namespace(after, sizeof(after));
	v->own_network = strcmp(before, after) != 0;
	check_devices(v, err.text);
	check_connect(v);
	check_names(v);
	check_listeners(v);
}
