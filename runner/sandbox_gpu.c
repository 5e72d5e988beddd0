/* SPDX-License-Identifier: MIT
 *
 * sandbox_gpu: what NVIDIA's driver in a process asks of the system.
 *
 * The driver's library is closed, and what it calls changes with its version, so its process has a
 * deny-list.  What it must be let do is known from reports of sandboxes that forgot it:
 *
 *   - open the nodes below /dev for reading and writing, and ioctl() them (NVIDIA/OpenShell#710);
 *   - name its threads: 570 and later take it for a broken system, error 304, when
 *     /proc/self/task/ID/comm cannot be written (nolabs-ai/nono#673, #924);
 *   - read /proc/driver/nvidia and nvidia-uvm, and the machine's layout in /proc and /sys (the same);
 *   - memfd_create() (NVIDIA/OpenShell#1696), and memory that is written and executed;
 *   - a socket of AF_UNIX in sequenced packets, bound to a name of its own (snapd's interface
 *     `opengl`): sandbox_calls.h leaves that one kind open, with nobody to connect to.
 *
 * It may not make device nodes, load modules or start the program that would: the nodes have to be
 * there.  All GPUs' nodes are open to it, also those that CUDA_VISIBLE_DEVICES hides: the driver
 * looks at each before it picks, and its numbers need not be the nodes'.
 */
#include "sandbox_gpu.h"
#include "base/num.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_MAX  64

static const char *dev(void)
{
	const char *given = getenv("CLOISTER_TEST_DEV");

	return given ? given : "/dev";
}

/* nvidia0 is a GPU; nvidiactl, nvidia-uvm, nvidia-uvm-tools and nvidia-modeset are not; nvidia-caps is
 * a folder. */
static bool is_gpu(const char *name)
{
	size_t prefix = strlen("nvidia");

	if (strncmp(name, "nvidia", prefix) || !name[prefix])
		return false;
	for (name += prefix; isdigit((unsigned char)*name); name++)
		;
	return !*name;
}

unsigned gpu_count(void)
{
	DIR *d = opendir(dev());
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d)) != NULL)
		n += is_gpu(e->d_name);
	if (d)
		closedir(d);
	return n;
}

char **gpu_nodes(void)
{
	char **nodes = xcalloc(GPU_NODES_MAX + 1, sizeof(*nodes));
	DIR *d = opendir(dev());
	struct dirent *e;
	size_t n = 0;

	while (d && n < GPU_NODES_MAX && (e = readdir(d)) != NULL)
		if (!strncmp(e->d_name, "nvidia", 6) && strncmp(e->d_name, "nvidia-caps", 11)) /* folders */
			nodes[n++] = xasprintf("%s/%s", dev(), e->d_name);
	if (d)
		closedir(d);
	return nodes;
}

void gpu_nodes_free(char **nodes)
{
	for (size_t i = 0; nodes[i]; i++)
		free(nodes[i]);
	free(nodes);
}

enum rc sandbox_enter_cuda(const char *const *read, bool require, struct sandbox_state *state,
			   struct err *err)
{
	static const char *const system[] = {
		/* libraries that are looked for by name */
		"/usr/lib", "/usr/lib64", "/usr/local", "/lib", "/lib64", "/etc/ld.so.cache",
		/* how the driver is set up */
		"/usr/share/nvidia", "/etc/nvidia", "/dev/nvidia-caps", "/proc/driver/nvidia",
		"/proc/driver/nvidia-uvm", "/proc/driver/nvidia-caps", "/proc/devices", "/proc/modules",
		"/proc/sys/vm",
		/* the machine */
		"/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/version", "/sys/devices",
		"/sys/bus/pci", "/sys/module", "/sys/kernel/mm", "/dev/null", "/dev/zero", "/dev/urandom",
	};
	static const char *const names[] = {"/proc/self/task", NULL};
	const char *all[ARRAY_SIZE(system) + READ_MAX + 1];
	char **nodes = gpu_nodes();
	struct sandbox_rules rules = {
		.read = all, .write = (const char *const *)nodes, .change = names, .write_fd = -1,
		.open_files = 1024,
	};
	size_t n = 0;
	enum rc rc;

	for (; n < ARRAY_SIZE(system); n++)
		all[n] = system[n];
	while (read && *read && n < ARRAY_SIZE(all) - 1)
		all[n++] = *read++;
	all[n] = NULL;
	/* A rule holds for the folder as the kernel has it in memory now. One that is not in use may be
	 * dropped and made anew, without the rule: it stays open as long as we live. */
	(void)!open(names[0], O_PATH | O_CLOEXEC);
	rc = sandbox_enter(SANDBOX_MODEL_CUDA, &rules, require, state, err);
	gpu_nodes_free(nodes);
	return rc;
}
