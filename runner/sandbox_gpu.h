/* SPDX-License-Identifier: MIT
 *
 * sandbox_gpu: NVIDIA's GPUs as the system shows them, and the locks of a process that uses one.
 *
 * Nothing here calls CUDA: GPUs are counted by their device nodes, so the supervisor can do it.
 * $CLOISTER_TEST_DEV stands in for /dev, so that tests can play a machine with GPUs.
 */
#ifndef RUNNER_SANDBOX_GPU_H
#define RUNNER_SANDBOX_GPU_H

#include "sandbox.h"

/* How many nvidia0, nvidia1, ... there are. */
unsigned gpu_count(void);

#define GPU_NODES_MAX 256

/* Paths of all device nodes of the driver: nvidia0, ..., nvidiactl, nvidia-uvm. NULL-terminated; the
 * caller frees each and the array. */
char **gpu_nodes(void);
void gpu_nodes_free(char **nodes);

/* sandbox_enter(SANDBOX_MODEL_CUDA) with what CUDA needs, and leave to read beneath `read`
 * (NULL-terminated). To be called before CUDA starts. */
enum rc sandbox_enter_cuda(const char *const *read, bool require, struct sandbox_state *state,
			   struct err *err);

#endif
