/* SPDX-License-Identifier: MIT
 *
 * cuda-device: where the tests of models/cuda/ run: on the GPU with CUDA_DEVICE, else in the emulation. The
 * tests are the same; on a machine without a GPU those for one skip.
 *
 * In the emulation a buffer ends where a page begins that nobody may touch (with AddressSanitizer: malloc).
 */
#ifndef TESTS_CUDA_DEVICE_H
#define TESTS_CUDA_DEVICE_H

#include "kernels.h"

#include "cuda/kernels.h"
#include "kernels/linear.h"

#include <math.h>

#ifdef CUDA_DEVICE
#include <cuda_runtime_api.h>

#define DEVICE_CALL(call)                                                                   \
	do {                                                                                \
		cudaError_t error_ = (call);                                                \
		if (error_ != cudaSuccess)                                                  \
			fail_msg("%s: %s", #call, cudaGetErrorString(error_));              \
	} while (0)

static inline const char *device_missing(void)
{
	int count = 0;
	cudaError_t error = cudaGetDeviceCount(&count);

	return error != cudaSuccess ? cudaGetErrorString(error) : count == 0 ? "there is none" : NULL;
}

static inline void *device_alloc(size_t size)
{
	void *p;

	DEVICE_CALL(cudaMalloc(&p, size ? size : 1));
	return p;
}

static inline void device_free(const void *p)
{
	DEVICE_CALL(cudaFree((void *)p));
}

static inline void device_put(void *to, const void *from, size_t size)
{
	DEVICE_CALL(cudaMemcpy(to, from, size, cudaMemcpyHostToDevice));
}

static inline void device_get(void *to, const void *from, size_t size)
{
	DEVICE_CALL(cudaMemcpy(to, from, size, cudaMemcpyDeviceToHost));
}

#else
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static inline const char *device_missing(void)
{
	return NULL;
}

#ifdef __SANITIZE_ADDRESS__
static inline void *device_alloc(size_t size)
{
	void *p = NULL;

	assert_int_equal(posix_memalign(&p, 16, size), 0);
	return p;
}

static inline void device_free(const void *p)
{
	free((void *)p);
}
#else
/* The size of the mapping is in the page in front, which may not be touched either. */
static inline void *device_alloc(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (size + 15) / 16 * 16;
	size_t whole = (used + page - 1) / page * page + 2 * page;
	char *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	memcpy(p, &whole, sizeof(whole));
	assert_int_equal(mprotect(p, page, PROT_NONE), 0);
	assert_int_equal(mprotect(p + whole - page, page, PROT_NONE), 0);
	return memset(p + whole - page - used, 0xff, used); /* NaN */
}

static inline void device_free(const void *p)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), whole;
	char *start;

	if (!p)
		return;
	start = (char *)((uintptr_t)p / page * page) - page;
	assert_int_equal(mprotect(start, page, PROT_READ), 0);
	memcpy(&whole, start, sizeof(whole));
	assert_int_equal(munmap(start, whole), 0);
}
#endif

static inline void device_put(void *to, const void *from, size_t size)
{
	memcpy(to, from, size);
}

static inline void device_get(void *to, const void *from, size_t size)
{
	memcpy(to, from, size);
}

/* What the process ends with when it runs this: for what must not be done. */
static inline int status_of(void (*run)(void *), void *arg)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		run(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}
#endif

static inline void *device_copy(const void *from, size_t size)
{
	void *p = device_alloc(size);

	device_put(p, from, size);
	return p;
}

/* A copy in bf16; x becomes what that holds, so that a reference computes on the same numbers. */
static inline uint16_t *device_bf16(float *x, size_t n)
{
	uint16_t *rounded = xmalloc(n * sizeof(*rounded) + 1), *p;

	for (size_t i = 0; i < n; i++) {
		rounded[i] = bf16_from_f32(x[i]);
		x[i] = bf16_to_f32(rounded[i]);
	}
	p = device_copy(rounded, n * sizeof(*rounded));
	free(rounded);
	return p;
}

static inline void *host_copy(const void *from, size_t size)
{
	void *p = xmalloc(size + 1);

	device_get(p, from, size);
	return p;
}

static inline float *host_floats(const uint16_t *from, size_t n)
{
	uint16_t *bits = host_copy(from, n * sizeof(*bits));
	float *x = xmalloc(n * sizeof(*x) + 1);

	for (size_t i = 0; i < n; i++)
		x[i] = bf16_to_f32(bits[i]);
	free(bits);
	return x;
}

/* Each within `relative` of its own size and `absolute`. */
static inline void check_close(const char *what, const float *got, const float *wanted, size_t n, double relative,
			       double absolute)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabs((double)got[i] - wanted[i]) <= relative * fabs((double)wanted[i]) + absolute))
			fail_msg("%s, number %zu of %zu: %.9g instead of %.9g", what, i, n, got[i], wanted[i]);
}

/* The tests of a file, if there is something to run them on. */
#define DEVICE_MAIN(tests, start, stop)                                                                                    \
	int main(void)                                                                                        \
	{                                                                                                     \
		const char *missing = device_missing();                                                       \
                                                                                                              \
		cmocka_set_message_output(CM_OUTPUT_TAP);                                                     \
		if (missing) {                                                                                \
			printf("1..0 # SKIP needs an NVIDIA GPU: %s\n", missing);                             \
			return 0;                                                                             \
		}                                                                                             \
		return cmocka_run_group_tests(tests, start, stop);                                             \
	}

#endif
