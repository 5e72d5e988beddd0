/* SPDX-License-Identifier: MIT
 *
 * vector_math: exp and what is made of it, in LANES. NaN in, NaN out.
 */
#ifndef MODELS_KERNELS_VECTOR_MATH_H
#define MODELS_KERNELS_VECTOR_MATH_H

#include "kernels/vector.h"

#include <math.h>

INLINE vf choose(vi condition, vf yes, vf no)
{
	return (vf)((condition & (vi)yes) | (~condition & (vi)no));
}

/* a where it is larger, or smaller, and else b: also where one is NaN. */
#if LANES == 16
#include <immintrin.h>

INLINE vf larger(vf a, vf b)
{
	return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}

INLINE vf smaller(vf a, vf b)
{
	return (vf)_mm512_min_ps((__m512)a, (__m512)b);
}
#else
INLINE vf larger(vf a, vf b)
{
	return choose(a > b, a, b);
}

INLINE vf smaller(vf a, vf b)
{
	return choose(a < b, a, b);
}
#endif

/*
 * e^x is 2^n e^r with |r| <= ln 2 / 2, e^r by the polynomial of Cephes: *n, and what it is
 * multiplied by. Adding 1.5 * 2^23 leaves n in the low bits. x lies between -104 and 89.
 */
INLINE vf exp_parted(vf x, vi *n)
{
	const vf round = splat(12582912.0f);
	vf shifted = x * splat(1.44269504088896341f) + round, whole = shifted - round, r, p;

	r = x - whole * splat(0.693359375f);
	r = r - whole * splat(-2.12194440e-4f);
	p = splat(1.9875691500e-4f) * r + splat(1.3981999507e-3f);
	p = p * r + splat(8.3334519073e-3f);
	p = p * r + splat(4.1665795894e-2f);
	p = p * r + splat(1.6666665459e-1f);
	p = p * r + splat(5.0000001201e-1f);
	*n = (vi)shifted - (vi)round;
	return p * (r * r) + r + splat(1.0f);
}

/* Relative error below 2e-7 where the result is normal; 0 below -104, infinity above 88.73. 2^n is
 * multiplied in two halves, so that the result may be denormal. */
INLINE vf vector_exp(vf x)
{
	vi n, half;
	vf p = exp_parted(smaller(splat(89.0f), larger(splat(-104.0f), x)), &n);

	half = n >> 1;
	return p * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
}

/* The same of what is not above 0, but 0 below -87.3, where the result would be denormal. */
INLINE vf vector_exp_below(vf x)
{
	const vf least = splat(-87.3f);
	vi n;
	vf p = exp_parted(larger(least, x), &n);

	return (vf)((vi)(p * (vf)((n + 127) << 23)) & ~(x < least));
}

/*
 * Two polynomials (Juffa, "Accurate float erf"): x P(x^2) near 0, else 1 - exp(Q(|x|)). Error below
 * 1.5 units in the last place.
 */
INLINE vf vector_erf(vf a)
{
	const vi sign_bit = (vi)splat(-0.0f);
	vf t = (vf)((vi)a & ~sign_bit), s = a * a, far, near, u;

	far = splat(-1.72853470e-5f) * t + splat(3.83197126e-4f);
	u = splat(-3.88396438e-3f) * t + splat(2.42546219e-2f);
	far = far * s + u;
	far = far * t + splat(-1.06777877e-1f);
	far = far * t + splat(-6.34846687e-1f);
	far = far * t + splat(-1.28717512e-1f);
	far = far * t - t;
	far = choose(t > splat(9.0f), splat(-104.0f),
		     far); /* the polynomial turns up again beyond */
	far = splat(1.0f) - vector_exp(far);
	far = (vf)((vi)far | ((vi)a & sign_bit));
	near = splat(-5.96761703e-4f) * s + splat(4.99119423e-3f);
	near = near * s + splat(-2.67681349e-2f);
	near = near * s + splat(1.12819925e-1f);
	near = near * s + splat(-3.76125336e-1f);
	near = near * s + splat(1.28379166e-1f);
	near = near * a + a;
	return choose(t > splat(0.927734375f), far, near);
}

#endif
