/* SPDX-License-Identifier: MIT
 *
 * foreign: how a recogniser is started; for one that is not ours, what is put around it.
 *
 *   sandbox  ours (SANDBOX_COMMAND), in a process that the supervisor started
 *   podman,  a container without a network, root read-only, no capabilities; its client is started by the
 *   docker   launcher, which is not locked, because no sandbox of ours lets one make a container
 *   none     started by the launcher, in an empty network namespace, and otherwise free
 *
 * In each of them it reads the pages and the paths of `reads` and can write to one folder of its own, which is
 * memory and goes when it ends; and all that it has started goes with it (keeper.h).
 */
#include "recogniser.h"
#include "sandbox_gpu.h"
#include "base/num.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define WORDS_MAX     512
#define PROCESSES_MAX "1024"
#define MAX_LINE      (64u << 20)

/* A list of words, each of them ours to free. */
struct words {
	char *v[WORDS_MAX];
	size_t n;
};

static void add(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct words *w, const char *format, ...)
{
	va_list ap;

	if (w->n + 1 >= WORDS_MAX)
		BUG("too many words for a command");
	va_start(ap, format);
	if (vasprintf(&w->v[w->n++], format, ap) < 0)
		out_of_memory("making a command");
	va_end(ap);
}

static void words_release(struct words *w)
{
	while (w->n)
		free(w->v[--w->n]);
}

static const char *const *as_argv(const struct words *w)
{
	return (const char *const *)w->v;
}

static bool has_gpus(const struct foreign_settings *w)
{
	return w->gpus && strcmp(w->gpus, "none");
}

enum rc recogniser_allowed(const struct pool *pool, const struct pipeline *p, struct err *err)
{
	static const char *const words[] = { [WRAP_PODMAN] = "podman", [WRAP_DOCKER] = "docker",
					     [WRAP_NONE] = "none" };
	enum foreign_wrap wrap = p->foreign.wrap;
	bool unwrapped = wrap == WRAP_NONE;

	if (p->recogniser != RECOGNISER_COMMAND || wrap == WRAP_SANDBOX ||
	    (unwrapped ? pool->allow_unwrapped : pool->allow_containers))
		return RC_OK;
	return err_set(err, RC_FAILED, "recogniser",
		       "%s: wrap: %s needs allow_%s: true in the spool's cloister.yaml", p->file,
		       words[wrap], unwrapped ? "unwrapped" : "containers");
}

/* What it finds in its environment besides what all have. */
static void add_env(struct words *env, const struct foreign_settings *w, const char *private)
{
	if (private) {
		add(env, "TMPDIR=%s", private);
		add(env, "HOME=%s", private);
	}
	add(env, "OMP_THREAD_LIMIT"); /* PyTorch computes nonsense with it */
	if (!has_gpus(w))
		add(env, "CUDA_VISIBLE_DEVICES=");
	else if (strcmp(w->gpus, "all"))
		add(env, "CUDA_VISIBLE_DEVICES=%s", w->gpus);
}

static void add_gpus(struct words *argv, const struct foreign_settings *w, bool podman)
{
	if (!has_gpus(w))
		return;
	if (!podman) {
		add(argv, "--gpus");
		if (strcmp(w->gpus, "all"))
			add(argv, "\"device=%s\"", w->gpus);
		else
			add(argv, "all");
	} else {
		for (const char *n = w->gpus; *n; n += strcspn(n, ",") + (strchr(n, ',') != NULL)) {
			add(argv, "--device");
			add(argv, "nvidia.com/gpu=%.*s", (int)strcspn(n, ","), n);
		}
	}
}

static void container_argv(struct words *argv, struct words *at_end, const struct pipeline *p,
			   const char *pages)
{
	const struct foreign_settings *w = &p->foreign;
	bool podman = w->wrap == WRAP_PODMAN;
	const char *client = podman ? "podman" : "docker";
	static const char *const locks[] = {
		"run", "--rm", "--interactive", "--pull=never", "--network=none", "--read-only",
		"--cap-drop=all", "--security-opt=no-new-privileges", "--log-driver=none",
		"--pids-limit=" PROCESSES_MAX,
	};
	uint64_t number = 0;
	struct words env = { .n = 0 };

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		BUG("no random numbers");
	add(argv, "%s", client);
	for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
		add(argv, "%s", locks[i]);
	if (podman)
		add(argv, "--read-only-tmpfs=false");
	add(argv, "--name=cloister-%016llx", (unsigned long long)number);
	if (w->memory_mebibytes) {
		add(argv, "--memory=%llum", (unsigned long long)w->memory_mebibytes);
		add(argv, "--memory-swap=%llum", (unsigned long long)w->memory_mebibytes);
	}
	if (w->temporary_mebibytes)
		add(argv, "--tmpfs=/tmp:rw,nosuid,nodev,mode=1777,size=%llum",
		    (unsigned long long)w->temporary_mebibytes);
	add_gpus(argv, w, podman);
	add(argv, "--volume=%s:%s:ro", pages, pages);
	for (size_t i = 0; i < w->n_reads; i++)
		add(argv, "--volume=%s:%s:ro", w->reads[i], w->reads[i]);
	add(argv, "--workdir=%s", pages);
	for (size_t i = 0; child_offline[i]; i++)
		add(argv, "--env=%s", child_offline[i]);
	add_env(&env, w, w->temporary_mebibytes ? "/tmp" : NULL);
	for (size_t i = 0; i < env.n; i++)
		if (strchr(env.v[i], '='))
			add(argv, "--env=%s", env.v[i]);
	words_release(&env);
	add(argv, "--entrypoint=%s", p->command[0]);
	add(argv, "%s", w->image);
	for (size_t i = 1; i < p->n_command; i++)
		add(argv, "%s", p->command[i]);

	add(at_end, "%s", client);
	add(at_end, "rm");
	add(at_end, "--force");
	if (podman) {
		add(at_end, "--ignore");
		add(at_end, "--time=0");
	}
	add(at_end, "cloister-%016llx", (unsigned long long)number);
}

/* Paths for the sandbox: ours, and the pipeline's. */
static void add_readable(struct words *read, const struct pipeline *p, const char *pages)
{
	static const char *const ours[] = {
		"/dev/null",	     "/dev/zero",	   "/dev/urandom",
		"/proc",	     "/sys/devices/system/cpu", "/etc/alternatives",
		"/etc/fonts",	     "/etc/ld.so.cache",   "/etc/localtime",
		"/etc/mime.types",   "/etc/passwd",
	};

	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		add(read, "%s", ours[i]);
	add(read, "%s", pages);
	for (size_t i = 0; i < p->foreign.n_reads; i++)
		add(read, "%s", p->foreign.reads[i]);
}

/* Cuts the path down; NULL stays NULL. */
static char *folder_of(char *path)
{
	char *slash = path ? strrchr(path, '/') : NULL;

	if (slash && slash != path)
		*slash = '\0';
	return path;
}

static enum rc start_sandboxed(struct child *child, const struct pool *pool, const struct pipeline *p,
			       struct child_spec *spec, const char *private, loop_handler *on_line,
			       loop_handler *on_end, void *arg, struct err *err)
{
	const char *execute[] = { "/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", NULL, NULL, NULL };
	const char *write[2 + GPU_NODES_MAX + 1] = { "/dev/null" };
	static const char *const processes[] = { "/proc", NULL };
	size_t n_write = 1;
	char **nodes = has_gpus(&p->foreign) ? gpu_nodes() : NULL;
	struct sandbox_rules rules = { .execute = execute, .write = write, .write_fd = -1 };
	char *program_dir = folder_of(xstrdup(spec->argv[0]));
	char *real_dir = folder_of(realpath(spec->argv[0], NULL));
	struct words read = { .n = 0 };
	enum rc rc;

	execute[6] = program_dir;
	execute[7] = real_dir; /* of a virtual environment's Python, for example */
	add_readable(&read, p, pool->scratch->path);
	if (private)
		write[n_write++] = private;
	for (size_t i = 0; nodes && nodes[i]; i++)
		write[n_write++] = nodes[i];
	if (nodes && nodes[0] && geteuid()) /* the driver names its threads there; root's /proc has /proc/sys */
		rules.change = processes;
	rules.read = as_argv(&read);
	spec->rules = &rules;
	rc = child_start(child, pool->loop, spec, on_line, on_end, arg, err);
	if (nodes)
		gpu_nodes_free(nodes);
	words_release(&read);
	free(program_dir);
	free(real_dir);
	return rc;
}

static enum rc start_launched(struct child *child, const struct pool *pool, const struct pipeline *p,
			      struct child_spec *spec, loop_handler *on_line, loop_handler *on_end,
			      void *arg, struct err *err)
{
	struct launch launch = { .launcher = pool->launcher,
				 .memory_bytes = p->foreign.memory_mebibytes << 20 };
	struct words argv = { .n = 0 }, at_end = { .n = 0 };
	enum rc rc;

	if (p->foreign.wrap != WRAP_NONE) {
		container_argv(&argv, &at_end, p, pool->scratch->path);
		spec->argv = as_argv(&argv);
		launch.own_env = true;
		launch.at_end = as_argv(&at_end);
	}
	spec->launch = &launch;
	rc = child_start(child, pool->loop, spec, on_line, on_end, arg, err);
	words_release(&argv);
	words_release(&at_end);
	return rc;
}

enum rc recogniser_start(struct child *child, struct pool *pool, const struct pipeline *p,
			 const char *const *argv, const char *const *gpu, char **private,
			 loop_handler *on_line,
			 loop_handler *on_end, void *arg, struct err *err)
{
	struct child_spec spec = { .name = "recogniser",
				   .argv = argv,
				   .max_line = MAX_LINE,
				   .cwd = pool->scratch->path,
				   .require_sandbox = pool->sandbox == SANDBOX_ON };
	const struct foreign_settings *w = &p->foreign;
	struct words env = { .n = 0 };
	enum rc rc;

	*private = NULL;
	spec.env = gpu;
	if (p->recogniser != RECOGNISER_COMMAND)
		return child_start(child, pool->loop, &spec, on_line, on_end, arg, err);
	if (recogniser_allowed(pool, p, err) != RC_OK)
		return RC_FAILED;
	if (w->temporary_mebibytes && (w->wrap == WRAP_SANDBOX || w->wrap == WRAP_NONE)) {
		*private = scratch_add_private(pool->scratch, err);
		if (!*private)
			return RC_RETRY;
	}
	add_env(&env, w, *private);
	spec.env = as_argv(&env);
	spec.leashed = true;
	spec.data_bytes = w->memory_mebibytes << 20;
	if (w->wrap != WRAP_SANDBOX)
		rc = start_launched(child, pool, p, &spec, on_line, on_end, arg, err);
	else if (pool->sandbox != SANDBOX_OFF)
		rc = start_sandboxed(child, pool, p, &spec, *private, on_line, on_end, arg, err);
	else
		rc = child_start(child, pool->loop, &spec, on_line, on_end, arg, err);
	words_release(&env);
	if (rc != RC_OK) {
		scratch_drop_private(pool->scratch, *private);
		*private = NULL;
	}
	return rc;
}
