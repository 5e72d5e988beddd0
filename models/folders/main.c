/* SPDX-License-Identifier: MIT
 *
 * cloister-models: `cloister models ACTION`, a program of its own, so that what runs a spool never
 * has the libraries of archives and weights in its memory.
 */
#include "base/log.h"
#include "base/name.h"
#include "base/num.h"
#include "folders/folders.h"
#include "kernels/cpu.h"
#include "modelfolder.h"
#include "base/suggest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_MAX (32u << 20)

static const struct {
	const char *name;
	int (*run)(const struct folders_options *);
	int min, max; /* arguments; max -1: any number */
	const char *needs;
} actions[] = {
	{"plan", folders_plan, 0, -1, ""},
	{"list", folders_list, 0, -1, ""},
	{"lock", folders_lock, 1, -1, "the folder of a model"},
	{"verify", folders_verify, 1, -1, "the folder of a model"},
	{"diff", folders_diff, 1, -1, "the folder of a model"},
	{"pack", folders_pack, 1, 1, "the folder of one model"},
	{"unpack", folders_unpack, 1, 1, "one archive"},
};

char *folders_display(const char *text)
{
	struct buf b;

	buf_init(&b, 4 * strlen(text));
	name_escape(&b, text, strlen(text));
	return buf_detach(&b);
}

void folders_say(const struct folders_options *o, const char *format, ...)
{
	char *raw = NULL, *line;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&raw, format, ap) < 0)
		die(EX_BUG, "out of memory");
	va_end(ap);
	line = folders_display(raw);
	fflush(stdout);
	fprintf(stderr, "cloister models %s: %s\n", o->action, line);
	free(line);
	free(raw);
}

void folders_print_json(json_t *json)
{
	char *line = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	if (!line)
		BUG("JSON cannot be packed");
	puts(line);
	free(line);
	json_decref(json);
}

const char *folders_root(void)
{
	const char *root = getenv("CLOISTER_MODELS");

	return root && *root ? root : "/models";
}

/* The one revision of a folder of a Hugging Face cache; NULL when it is none, or has several. */
static char *only_snapshot(const char *folder, unsigned *n)
{
	char *snapshots = xasprintf("%s/snapshots", folder), *found = NULL;
	DIR *dir = opendir(snapshots);

	*n = 0;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (e->d_name[0] == '.' || ++*n > 1)
			continue;
		found = xasprintf("%s/%s", snapshots, e->d_name);
	}
	if (dir)
		closedir(dir);
	free(snapshots);
	return found;
}

char *folders_path(const char *path)
{
	char *copy = xstrdup(path), *slash, *base;
	size_t n = strlen(copy);

	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	base = slash ? slash + 1 : copy;
	if (!strcmp(base, ".") || !strcmp(base, "..")) {
		char *real = realpath(copy, NULL);

		if (real) {
			free(copy);
			copy = real;
		}
	}
	return copy;
}

char *folders_find(const char *name, struct err *err)
{
	struct stat st;
	char *folder, *snapshot;
	unsigned n;

	folder = !stat(name, &st) && S_ISDIR(st.st_mode) ? folders_path(name) : model_folder(name);
	if (stat(folder, &st) || !S_ISDIR(st.st_mode)) {
		err_set(err, RC_FAILED, "model", "%.200s: neither a folder nor a model in %.200s",
			name, folders_root());
		free(folder);
		return NULL;
	}
	snapshot = only_snapshot(folder, &n);
	if (n > 1)
		err_set(err, RC_FAILED, "model", "%.300s has %u revisions: name one of them",
			folder, n);
	if (!n)
		return folder;
	free(folder);
	if (n == 1)
		return snapshot;
	free(snapshot);
	return NULL;
}

static void enter(enum sandbox_kind kind, const char *folder, int write_fd)
{
	char *blobs = folder ? xasprintf("%s/../../blobs", folder) : NULL;
	const char *read[] = {folder, blobs, NULL};
	/* What was open already, standard output perhaps, may be written to the full. */
	struct sandbox_rules rules = {.read = folder ? read : NULL,
				      .write_fd = write_fd,
				      .file_bytes = 1ull << 50,
				      .open_files = 256};

	sandbox_enter_or_die(kind, &rules, sandbox_mode_of(false));
	free(blobs);
}

/* All that comes out of the pipe, or NULL. */
static char *read_pipe(int fd, size_t *len)
{
	struct buf b;
	char block[65536];
	ssize_t n;

	buf_init(&b, TEXT_MAX);
	while ((n = read(fd, block, sizeof(block))) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			buf_add(&b, block, (size_t)n);
	if (n < 0 || b.overflow) {
		buf_release(&b);
		return NULL;
	}
	*len = b.len;
	return buf_detach(&b);
}

int folders_confined(const struct folders_options *o, enum sandbox_kind kind, const char *folder,
		     int write_fd, int (*act)(const struct folders_options *, void *arg, int out),
		     void *arg, char **text, size_t *len)
{
	int out[2] = {-1, -1}, status, code;
	pid_t pid;

	fflush(stdout);
	if (text && pipe2(out, O_CLOEXEC))
		die(EX_BUG, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die(EX_BUG, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter(kind, folder, write_fd);
		code = act(o, arg, out[1]);
		_exit(fflush(stdout) ? EX_SOME_FAILED : code);
	}
	if (text) {
		close(out[1]);
		*text = read_pipe(out[0], len);
		close(out[0]);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	folders_say(o, "%s: ended by signal %d (%s)", folder ? folder : "the archive",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	return EX_SOME_FAILED;
}

static int usage(const char *format, const char *word)
{
	fprintf(stderr, "cloister models: ");
	fprintf(stderr, format, word);
	fprintf(stderr, "\nTry: cloister models --help\n");
	return EX_USAGE_ERROR;
}

static int run(struct folders_options *o)
{
	struct suggestion meant = {NULL, 0};

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		suggest(&meant, o->action, actions[i].name);
		if (strcmp(actions[i].name, o->action))
			continue;
		if (o->n_args < actions[i].min ||
		    (actions[i].max >= 0 && o->n_args > actions[i].max)) {
			folders_say(o, "needs %s", actions[i].needs);
			return EX_USAGE_ERROR;
		}
		if (o->output && actions[i].run != folders_pack &&
		    actions[i].run != folders_unpack) {
			folders_say(o, "--output is for pack and unpack");
			return EX_USAGE_ERROR;
		}
		return actions[i].run(o);
	}
	if (meant.word)
		return usage("no such action; did you mean %s?", meant.word);
	return usage("%s is none of plan, list, lock, verify, diff, pack and unpack",
		     shown(o->action).s);
}

int main(int argc, char **argv)
{
	static const struct option table[] = {
		{"json", no_argument, NULL, 'j'},
		{"quiet", no_argument, NULL, 'q'},
		{"output", required_argument, NULL, 'o'},
		{"pipelines", required_argument, NULL, 'p'},
		{NULL, 0, NULL, 0},
	};
	struct folders_options o = {NULL};
	size_t n = 0;
	int c, code;

	log_init("cloister-models", LOG_INFO);
	setlocale(LC_CTYPE, "C.UTF-8"); /* names in archives */
	json_set_alloc_funcs(xmalloc, free);
	json_object_seed(0); /* reads /dev/urandom, which is out of reach later */
	cpu_level();
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (c == 'j')
			o.json = true;
		else if (c == 'q')
			o.quiet = true;
		else if (c == 'o')
			o.output = optarg;
		else if (c == 'p' && n < ARRAY_SIZE(o.pipelines) - 1)
			o.pipelines[n++] = optarg;
		else
			return EX_USAGE_ERROR;
	}
	if (optind == argc)
		return usage("what is to be done%s", "?");
	o.action = argv[optind];
	o.args = argv + optind + 1;
	o.n_args = argc - optind - 1;
	code = run(&o);
	return fflush(stdout) && code == EX_ALL_DONE ? EX_SOME_FAILED : code;
}
