/* SPDX-License-Identifier: MIT
 *
 * cpu: see cpu.h.
 *
 * The tile state of AMX is large, so Linux hands it out on request only, to a whole process, and
 * threads that already run do not get it.
 */
#include "kernels/cpu.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const names[CPU_LEVELS] = {
	[CPU_PLAIN] = "plain",	 [CPU_AVX2] = "avx2",
	[CPU_AVX512] = "avx512", [CPU_AVX512_BF16] = "avx512-bf16",
	[CPU_AMX] = "amx",
};

static atomic_int chosen = -1;

#ifdef __x86_64__
#include <cpuid.h>

static bool amx_granted(void)
{
	enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
	enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
	unsigned a, b, c, d;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & AMX_BF16) || !(d & AMX_TILE))
		return false;
	return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static enum cpu_level detect(void)
{
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return CPU_PLAIN;
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
	    !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
		return CPU_AVX2;
	if (!__builtin_cpu_supports("avx512bf16"))
		return CPU_AVX512;
	return amx_granted() ? CPU_AMX : CPU_AVX512_BF16;
}
#else
static enum cpu_level detect(void)
{
	return CPU_PLAIN;
}
#endif

enum cpu_level cpu_level(void)
{
	int level = atomic_load_explicit(&chosen, memory_order_relaxed);
	const char *wanted;

	if (level >= 0)
		return (enum cpu_level)level;
	level = detect();
	wanted = getenv("CLOISTER_CPU");
	for (int i = 0; wanted && i < level; i++) {
		if (strcmp(wanted, names[i]) == 0)
			level = i;
	}
	atomic_store(&chosen, level);
	return (enum cpu_level)level;
}

void cpu_level_set(enum cpu_level level)
{
	atomic_store(&chosen, level);
}

const char *cpu_level_name(enum cpu_level level)
{
	return names[level];
}
