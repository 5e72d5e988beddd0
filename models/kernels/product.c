/* SPDX-License-Identifier: MIT
 *
 * product: which one to use. See product.h.
 */
#include "kernels/product.h"

const struct product *product(void)
{
	static const struct product *const products[CPU_LEVELS] = {
		[CPU_PLAIN] = &product_plain,
#ifdef __x86_64__
		[CPU_AVX2] = &product_avx2,
		[CPU_AVX512] = &product_avx512,
		[CPU_AVX512_BF16] = &product_avx512_bf16,
		[CPU_AMX] = &product_amx,
#endif
	};

	return products[cpu_level()];
}
