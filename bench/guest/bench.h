/*
 * bench.h - shared declarations of the guest micro-benchmarks.
 *
 * Every kernel performs `units` identical units of work and returns a checksum
 * that depends only on one unit (so it is the same on every machine and for
 * every count). The driver in main.c repeats it until it has run long enough.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t (*kernel_fn)(uint64_t units);

struct bench {
	const char *name;
	kernel_fn fn;
	double scale;     /* operations in one unit, in multiples of the reported unit */
	const char *unit; /* text of the unit; a rate unless inverse is set */
	int inverse;      /* report time per operation (ns), not a rate */
	int (*supported)(void);
};

double now(void);                       /* CLOCK_MONOTONIC, seconds */
uint64_t mix64(uint64_t h, uint64_t v); /* checksum step */
void die(const char *what);

static inline uint32_t xorshift32(uint32_t *s)
{
	uint32_t x = *s;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *s = x;
}

/* integer.c */
uint64_t k_int_matrix(uint64_t), k_int_list(uint64_t), k_int_crc(uint64_t);
uint64_t k_int_state(uint64_t), k_int_mix(uint64_t), k_int_sort(uint64_t);
/* control.c */
uint64_t k_call_fib(uint64_t), k_ind_vm(uint64_t), k_ind_call(uint64_t), k_jit_smc(uint64_t);
/* memory.c */
uint64_t k_mem_chase(uint64_t), k_mem_copy(uint64_t), k_mem_rep(uint64_t), k_mem_sum(uint64_t);
/* fp.c */
uint64_t k_fp_nbody(uint64_t), k_fp_daxpy_sse2(uint64_t), k_fp_daxpy_avx2(uint64_t),
	k_fp_x87(uint64_t);
int have_avx2(void);
/* sys.c */
uint64_t k_sys_getppid(uint64_t), k_sys_pipe(uint64_t), k_sys_fault(uint64_t);
uint64_t k_sys_forkexec(uint64_t), k_sys_signal(uint64_t);
/* threads.c */
uint64_t k_mt_int1(uint64_t), k_mt_int2(uint64_t), k_mt_atomic2(uint64_t);
/* gen.c */
int gen_data(const char *path, long mib);
int gen_source(const char *path, int functions);

#endif
