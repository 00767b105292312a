/* host_cpu.c - the CPU this process runs on: identity, usable features, TSC frequency. */
#include "x86/cpuid.h"
#include "x86/feature.h"
#include "x86/x86.h"

#include <string.h>
#include <time.h>
#include <x86intrin.h>

static struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs r;

	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

/* Leaves past the last one answer with junk on Intel; here they answer zero. */
static struct cpuid_regs leaf_or_zero(uint32_t leaf, uint32_t subleaf)
{
	if (cpuid(leaf & 0xffff0000u, 0).eax < leaf)
		return (struct cpuid_regs){ 0 };
	return cpuid(leaf, subleaf);
}

static uint64_t host_xcr0(const uint32_t *features)
{
	uint32_t lo, hi;

	if (!(features[CPUID_1_ECX] & BIT(FEAT_OSXSAVE % 32)))
		return XCR0_X87 | XCR0_SSE;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static void clear(uint32_t *features, uint16_t f)
{
	features[f / 32] &= ~(1u << f % 32);
}

/* Instructions on registers that the host's kernel does not save would fault, whatever CPUID says. */
static void mask_by_xcr0(uint32_t *features)
{
	static const uint64_t avx = XCR0_SSE | XCR0_AVX;
	static const uint64_t avx512 = avx | XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM;
	uint64_t xcr0 = host_xcr0(features);

	if ((xcr0 & avx) != avx) {
		clear(features, FEAT_AVX); /* the rest follows from dependencies */
		clear(features, FEAT_AVX2);
	}
	if ((xcr0 & avx512) != avx512)
		clear(features, FEAT_AVX512F);
}

static void read_identity(struct host_cpu *h)
{
	struct cpuid_regs r = cpuid(0, 0), v = leaf_or_zero(1, 0);

	memcpy(h->vendor, &r.ebx, 4);
	memcpy(h->vendor + 4, &r.edx, 4);
	memcpy(h->vendor + 8, &r.ecx, 4);
	h->family = v.eax >> 8 & 15;
	h->model = v.eax >> 4 & 15;
	h->stepping = v.eax & 15;
	if (h->family == 6 || h->family == 15)
		h->model |= v.eax >> 12 & 0xf0;
	if (h->family == 15)
		h->family += v.eax >> 20 & 0xff;
	for (unsigned i = 0; i < 3; i++) {
		r = leaf_or_zero(0x80000002u + i, 0);
		memcpy(h->brand + i * 16, &r, 16);
	}
}

void host_cpu_read(struct host_cpu *h)
{
	struct cpuid_regs r;

	memset(h, 0, sizeof(*h));
	read_identity(h);
	r = leaf_or_zero(1, 0);
	h->features[CPUID_1_ECX] = r.ecx;
	h->features[CPUID_1_EDX] = r.edx;
	r = leaf_or_zero(7, 0);
	h->features[CPUID_7_EBX] = r.ebx;
	h->features[CPUID_7_ECX] = r.ecx;
	h->features[CPUID_7_EDX] = r.edx;
	if (r.eax >= 1)
		h->features[CPUID_7_1_EAX] = cpuid(7, 1).eax;
	h->features[CPUID_D_1_EAX] = leaf_or_zero(0xd, 1).eax;
	r = leaf_or_zero(0x80000001u, 0);
	h->features[CPUID_80000001_ECX] = r.ecx;
	h->features[CPUID_80000001_EDX] = r.edx;
	h->features[CPUID_80000007_EDX] = leaf_or_zero(0x80000007u, 0).edx;
	r = leaf_or_zero(0x80000008u, 0);
	h->features[CPUID_80000008_EBX] = r.ebx;
	h->phys_bits = r.eax ? (uint8_t)r.eax : 36;
	r = leaf_or_zero(0x80000021u, 0);
	h->features[CPUID_80000021_EAX] = r.eax;
	h->features[CPUID_80000021_ECX] = r.ecx;
	mask_by_xcr0(h->features);
}

void host_xstate(unsigned component, uint32_t *offset, uint32_t *size)
{
	struct cpuid_regs r = leaf_or_zero(0xd, component);

	*size = r.eax;
	*offset = r.ebx;
}

static uint64_t raw_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A pair of clock and TSC read together: of several tries, the one with the least between the TSC reads. */
static void sample(uint64_t *ns, uint64_t *tsc)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 16; i++) {
		uint64_t before = __rdtsc(), now = raw_ns(), after = __rdtsc();

		if (after - before < best) {
			best = after - before;
			*ns = now;
			*tsc = before + best / 2;
		}
	}
}

static uint64_t measure_tsc(void)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	uint64_t ns0 = 0, ns1 = 0, tsc0 = 0, tsc1 = 0;

	sample(&ns0, &tsc0);
	nanosleep(&pause, NULL); /* cut short by a signal, it only measures less */
	do {
		sample(&ns1, &tsc1);
	} while (ns1 - ns0 < 5000000);
	return (uint64_t)((unsigned __int128)(tsc1 - tsc0) * 1000000000u / (ns1 - ns0));
}

uint64_t host_tsc_hz(void)
{
	struct cpuid_regs r = leaf_or_zero(0x15, 0);

	/* EBX/EAX: TSC counts per crystal clock; ECX: the crystal's Hz (SDM vol. 3, 19.7.3). */
	if (r.eax && r.ebx && r.ecx)
		return (uint64_t)r.ecx * r.ebx / r.eax;
	if (leaf_or_zero(1, 0).ecx & BIT(FEAT_HYPERVISOR % 32)) {
		r = leaf_or_zero(0x40000010u, 0);
		if (r.eax)
			return (uint64_t)r.eax * 1000;
	}
	return measure_tsc();
}
