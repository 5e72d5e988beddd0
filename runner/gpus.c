/* SPDX-License-Identifier: MIT */
#include "gpus.h"
#include "sandbox_gpu.h"
#include "spool.h"
#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GPUS_MAX 64

static bool program_exists(void)
{
	char *program = xasprintf("%s/cloister-model-cuda", install_program_dir());
	bool exists = !access(program, X_OK);

	free(program);
	return exists;
}

static void add(struct gpu *gpus, size_t *n, const char *name, size_t len)
{
	if (*n < GPUS_MAX)
		gpus[(*n)++].visible = xasprintf("CUDA_VISIBLE_DEVICES=%.*s", (int)len, name);
}

/* As CUDA takes the list: up to the first that is none, such as -1. */
static size_t find(struct gpu *gpus)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	unsigned count = gpu_count();
	size_t n = 0, len;
	char number[16];

	for (unsigned i = 0; !visible && i < count; i++) {
		snprintf(number, sizeof(number), "%u", i);
		add(gpus, &n, number, strlen(number));
	}
	for (; count && visible && *visible; visible += len + (visible[len] == ',')) {
		visible += strspn(visible, " ");
		len = strcspn(visible, ",");
		if (!len || *visible == '-')
			break;
		add(gpus, &n, visible, len);
	}
	return n;
}

static enum rc refuse(const struct pipeline *p, struct err *err, size_t found)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");

	if (!program_exists())
		return err_set(err, RC_FATAL, "gpu",
			       "%s asks for device: cuda, but there is no %s/cloister-model-cuda: it is built "
			       "where the CUDA toolkit is", p->file, install_program_dir());
	if (!gpu_count())
		return err_set(err, RC_FATAL, "gpu",
			       "%s asks for device: cuda, but there is no /dev/nvidia0: no NVIDIA GPU, or its "
			       "driver is not loaded, or the container was not given it", p->file);
	if (!found)
		return err_set(err, RC_FATAL, "gpu",
			       "%s asks for device: cuda, but CUDA_VISIBLE_DEVICES=%.100s shows none", p->file,
			       visible ? visible : "");
	return err_set(err, RC_FATAL, "gpu", "%s asks for gpus: %llu, but there %s %zu", p->file,
		       (unsigned long long)p->model.gpus, found == 1 ? "is" : "are", found);
}

enum rc gpus_find(const struct pipeline *p, struct gpu **gpus, size_t *n, struct err *err)
{
	const struct model_settings *m = &p->model;
	struct gpu all[GPUS_MAX] = { { 0 } };
	size_t found, used;
	enum rc rc = RC_OK;

	*gpus = NULL;
	*n = 0;
	if (p->recogniser != RECOGNISER_MODEL || m->device == DEVICE_CPU)
		return RC_OK;
	/* It computes in bf16 alone. */
	if (m->device == DEVICE_AUTO && (m->weights != MODEL_BF16 || !program_exists()))
		return RC_OK;
	found = used = find(all);
	if (m->device == DEVICE_CUDA || found)
		if (!found || found < m->gpus || !program_exists()) {
			rc = refuse(p, err, found);
			used = 0;
		}
	if (m->gpus && used > m->gpus)
		used = m->gpus;
	for (size_t i = used; i < found; i++)
		free(all[i].visible);
	*n = used;
	if (used) {
		*gpus = xcalloc(used, sizeof(**gpus));
		memcpy(*gpus, all, used * sizeof(**gpus));
	}
	return rc;
}

void gpus_free(struct gpu *gpus, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(gpus[i].visible);
	free(gpus);
}

struct gpu *gpus_take(struct gpu *gpus, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!gpus[i].used && !gpus[i].lost)
			return &gpus[i];
	return NULL;
}

size_t gpus_left(const struct gpu *gpus, size_t n)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++)
		left += !gpus[i].lost;
	return left;
}
