/* fp.c - floating point: n-body (scalar SSE2), daxpy (SSE2 and AVX2+FMA), x87. */
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "bench.h"

/* N-body: 8 bodies under softened gravity, leapfrog */

enum { BODIES = 8 };

uint64_t k_fp_nbody(uint64_t units)
{
	double p[BODIES][3], v[BODIES][3], m[BODIES], e = 0;
	uint64_t h;

	while (units--) {
		uint32_t s = 20240101;

		for (int i = 0; i < BODIES; i++) {
			m[i] = 1.0 + (xorshift32(&s) & 0xff) / 256.0;
			for (int k = 0; k < 3; k++) {
				p[i][k] = (double)(xorshift32(&s) & 0xffff) / 1024.0 - 32.0;
				v[i][k] = 0.0;
			}
		}
		for (int t = 0; t < 100; t++) {
			for (int i = 0; i < BODIES; i++)
				for (int j = i + 1; j < BODIES; j++) {
					double d[3], r2 = 0.01, f;

					for (int k = 0; k < 3; k++) {
						d[k] = p[j][k] - p[i][k];
						r2 += d[k] * d[k];
					}
					f = 0.001 / (r2 * sqrt(r2));
					for (int k = 0; k < 3; k++) {
						v[i][k] += d[k] * f * m[j];
						v[j][k] -= d[k] * f * m[i];
					}
				}
			for (int i = 0; i < BODIES; i++)
				for (int k = 0; k < 3; k++)
					p[i][k] += v[i][k];
		}
		e = 0;
		for (int i = 0; i < BODIES; i++)
			for (int k = 0; k < 3; k++)
				e += p[i][k] * m[i];
	}
	memcpy(&h, &e, sizeof h);
	return h;
}

/* Daxpy over 2 x 4096 doubles (64 KiB: stays in L2) */

enum { LEN = 4096 };
static double xs[LEN] __attribute__((aligned(64)));
static double ys[LEN] __attribute__((aligned(64)));

static void daxpy_init(void)
{
	for (int i = 0; i < LEN; i++) {
		xs[i] = i * 0.5;
		ys[i] = i * 0.25;
	}
}

static uint64_t daxpy_sum(void)
{
	double t = 0;
	uint64_t h;

	for (int i = 0; i < LEN; i++)
		t += ys[i];
	memcpy(&h, &t, sizeof h);
	return h;
}

static __attribute__((noinline)) void daxpy_sse2(double a)
{
	__m128d va = _mm_set1_pd(a);

	for (int i = 0; i < LEN; i += 4) {
		_mm_store_pd(ys + i,
			     _mm_add_pd(_mm_load_pd(ys + i), _mm_mul_pd(va, _mm_load_pd(xs + i))));
		_mm_store_pd(ys + i + 2, _mm_add_pd(_mm_load_pd(ys + i + 2),
						    _mm_mul_pd(va, _mm_load_pd(xs + i + 2))));
	}
}

static __attribute__((noinline, target("avx2,fma"))) void daxpy_avx2(double a)
{
	__m256d va = _mm256_set1_pd(a);

	for (int i = 0; i < LEN; i += 8) {
		_mm256_store_pd(ys + i, _mm256_fmadd_pd(va, _mm256_load_pd(xs + i),
							_mm256_load_pd(ys + i)));
		_mm256_store_pd(ys + i + 4, _mm256_fmadd_pd(va, _mm256_load_pd(xs + i + 4),
							    _mm256_load_pd(ys + i + 4)));
	}
}

uint64_t k_fp_daxpy_sse2(uint64_t units)
{
	while (units--) {
		daxpy_init();
		for (int i = 0; i < 100; i++)
			daxpy_sse2(i & 1 ? -0.75 : 0.75);
	}
	return daxpy_sum();
}

int have_avx2(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

uint64_t k_fp_daxpy_avx2(uint64_t units)
{
	while (units--) {
		daxpy_init();
		for (int i = 0; i < 100; i++)
			daxpy_avx2(i & 1 ? -0.75 : 0.75);
	}
	return daxpy_sum();
}

/* X87: Horner polynomial in long double */

uint64_t k_fp_x87(uint64_t units)
{
	long double y = 0;
	double d;
	uint64_t h;

	while (units--) {
		long double x = 0.001L;

		y = 0;
		for (int i = 0; i < 1000; i++) {
			long double t = 1.0L;

			for (int k = 8; k; k--)
				t = t * x / k + 1.0L;
			y += t;
			x += 0.0005L;
		}
	}
	d = (double)y;
	memcpy(&h, &d, sizeof h);
	return h;
}
