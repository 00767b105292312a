/*
 * doctor_checks.c - one function for each thing about the host that matters. None changes the host.
 */
#include "cli/doctor.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "host/run_delay.h"
#include "x86/feature.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
#define HWCAP2_FSGSBASE 2 /* Linux arch/x86: user code may use WRGSBASE */

static void set(struct finding *f, enum finding_state state, const char *why)
{
	f->state = state;
	snprintf(f->why, sizeof(f->why), "%s", why);
}

/* First line of a small file without its newline; "" when it cannot be read. */
static void read_line(const char *path, char *buf, size_t len)
{
	FILE *file = fopen(path, "re");

	buf[0] = '\0';
	if (!file)
		return;
	if (!fgets(buf, (int)len, file))
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	fclose(file);
}

/* A "Name:  123 kB" line of /proc/meminfo, in bytes; 0 when missing. */
static uint64_t meminfo(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t bytes = 0;

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			bytes = strtoull(line + strlen(name) + 1, NULL, 10) * 1024;
	fclose(file);
	return bytes;
}

static void look_kernel(struct finding *f)
{
	struct utsname u;

	if (uname(&u) < 0)
		memset(&u, 0, sizeof(u));
	snprintf(f->value, sizeof(f->value), "%.60s %.60s, %.20s", u.sysname, u.release, u.machine);
}

static void look_cpu(struct finding *f)
{
	struct host_cpu h;

	host_cpu_read(&h);
	snprintf(f->value, sizeof(f->value), "%.48s, %.12s, family %u model %u stepping %u",
		 h.brand[0] ? h.brand : "unnamed", h.vendor, h.family, h.model, h.stepping);
	if (!host_has(&h, FEAT_XSAVE))
		set(f, FINDING_PROBLEM,
		    "the CPU or its kernel lacks XSAVE, which holds the guest's "
		    "vector registers");
}

static void look_cpu_count(struct finding *f)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		snprintf(f->value, sizeof(f->value), "unknown");
	else
		snprintf(f->value, sizeof(f->value), "%d", CPU_COUNT(&cpus));
	if (CPU_COUNT(&cpus) == 1)
		set(f, FINDING_NOTE, "devices and the guest's processor share one CPU");
}

static void look_host_vm(struct finding *f)
{
	unsigned eax, ebx, ecx, edx, name[4] = {0};

	/* A bit that is always 0 on a real CPU; the leaf tells whose machine this is. */
	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & BIT(31))) {
		snprintf(f->value, sizeof(f->value), "none");
		return;
	}
	__cpuid(0x40000000, eax, name[0], name[1], name[2]);
	snprintf(f->value, sizeof(f->value), "yes (%.12s)", (const char *)name);
	set(f, FINDING_OK, "this host is a virtual machine itself, which Ringer does not mind");
}

static void look_tsc(struct finding *f)
{
	struct host_cpu h;
	uint64_t hz = host_tsc_hz();
	bool invariant;
	char clock[32];

	host_cpu_read(&h);
	invariant = host_has(&h, FEAT_INVARIANT_TSC);
	read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", clock,
		  sizeof(clock));
	snprintf(f->value, sizeof(f->value), "%.3f MHz, %s; host clock: %s", (double)hz / 1e6,
		 invariant ? "invariant" : "not declared invariant", clock[0] ? clock : "unknown");
	if (!invariant && strcmp(clock, "tsc") && strcmp(clock, "kvm-clock"))
		set(f, FINDING_NOTE,
		    "guests read this counter directly; their time may drift when the "
		    "frequency changes");
}

static void look_memory(struct finding *f)
{
	uint64_t available = meminfo("MemAvailable"), total = meminfo("MemTotal");

	snprintf(f->value, sizeof(f->value), "%llu MiB available of %llu MiB",
		 (unsigned long long)(available >> 20), (unsigned long long)(total >> 20));
	if (available < MIB(256))
		set(f, FINDING_NOTE, "little: give machines less with --memory");
}

/* Of a container, as seen from inside; a limit of a folder above shows only from outside. */
static void look_memory_limit(struct finding *f)
{
	char line[32];

	read_line("/sys/fs/cgroup/memory.max", line, sizeof(line));
	if (line[0] < '0' || line[0] > '9') {
		snprintf(f->value, sizeof(f->value), "none");
		return;
	}
	snprintf(f->value, sizeof(f->value), "%llu MiB", strtoull(line, NULL, 10) >> 20);
	set(f, FINDING_NOTE, "the control group's limit: a machine that grows past it is killed");
}

static void look_overcommit(struct finding *f)
{
	char mode[16];

	read_line("/proc/sys/vm/overcommit_memory", mode, sizeof(mode));
	snprintf(f->value, sizeof(f->value), "%s", mode[0] ? mode : "unknown");
	if (mode[0] == '2')
		set(f, FINDING_NOTE,
		    "strict accounting: a machine needs all of its --memory free at "
		    "its start");
}

static void look_thp(struct finding *f)
{
	char line[64], *open, *close;

	read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line));
	open = strchr(line, '[');
	close = open ? strchr(open, ']') : NULL;
	if (!close) {
		snprintf(f->value, sizeof(f->value), "not available");
		return;
	}
	snprintf(f->value, sizeof(f->value), "%.*s", (int)(close - open - 1), open + 1);
	if (!strncmp(open, "[never]", 7))
		set(f, FINDING_NOTE,
		    "guest memory is mapped in 4 KiB pages: slower; root can write "
		    "madvise to /sys/kernel/mm/transparent_hugepage/enabled");
}

static void look_max_map(struct finding *f)
{
	char line[32];

	read_line("/proc/sys/vm/max_map_count", line, sizeof(line));
	snprintf(f->value, sizeof(f->value), "%s", line[0] ? line : "unknown");
	if (line[0] && strtoul(line, NULL, 10) < 4096)
		set(f, FINDING_NOTE,
		    "low: raise vm.max_map_count if a machine fails to map memory");
}

/* Engines write host code and run it: a security policy can forbid that. */
static void look_exec(struct finding *f)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED) {
		p[0] = 0xc3; /* RET */
		if (mprotect(p, page, PROT_READ | PROT_EXEC) == 0) {
			((void (*)(void))p)();
			munmap(p, page);
			snprintf(f->value, sizeof(f->value), "allowed");
			return;
		}
		munmap(p, page);
	}
	snprintf(f->value, sizeof(f->value), "denied: %s", strerror(errno));
	set(f, FINDING_PROBLEM,
	    "a security policy (SELinux execmem, seccomp, systemd's "
	    "MemoryDenyWriteExecute) forbids generated code");
}

static void look_fsgsbase(struct finding *f)
{
	bool yes = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;

	snprintf(f->value, sizeof(f->value), "%s", yes ? "available" : "not available");
	if (!yes)
		set(f, FINDING_NOTE,
		    "segment bases are changed by system call (Linux 5.9 and an Ivy "
		    "Bridge or newer have the instructions)");
}

static void look_feature(struct finding *f, unsigned feature, const char *why)
{
	struct host_cpu h;
	bool yes;

	host_cpu_read(&h);
	yes = host_has(&h, feature);
	snprintf(f->value, sizeof(f->value), "%s", yes ? "available" : "not available");
	if (!yes)
		set(f, FINDING_NOTE, why);
}

static void look_bmi2(struct finding *f)
{
	look_feature(f, FEAT_BMI2,
		     "shifts that leave the guest's flags alone: without them translated code has to save "
		     "the flags more often (Haswell, Zen or newer have them)");
}

static void look_xsavec(struct finding *f)
{
	look_feature(f, FEAT_XSAVEC,
		     "the guest's vector state is saved in full where it has to be (Skylake, Zen or newer "
		     "save only what is in use)");
}

/* Not a lack: guests are offered what there is. */
static void look_avx512(struct finding *f)
{
	struct host_cpu h;

	host_cpu_read(&h);
	snprintf(f->value, sizeof(f->value), "%s",
		 host_has(&h, FEAT_AVX512F) ? "available, to guests too with --cpu x86-64-v4"
					    : "not available");
}

static void look_altstack(struct finding *f)
{
	char stack[16384];
	stack_t old,
		ss = {.ss_sp = stack, .ss_size = sizeof(stack), .ss_flags = (int)SS_AUTODISARM};
	bool yes = sigaltstack(NULL, &old) == 0 && sigaltstack(&ss, NULL) == 0;

	if (yes)
		sigaltstack(&old, NULL);
	snprintf(f->value, sizeof(f->value), "%s", yes ? "available" : "not available");
	if (!yes)
		set(f, FINDING_NOTE,
		    "Linux 4.7 or newer has it; engines that keep the guest's stack "
		    "pointer in the host's need it");
}

/* Whose count a guest's stolen time is. */
static void look_steal(struct finding *f)
{
	struct run_delay r;
	bool counted;

	run_delay_open(&r);
	counted = r.fd >= 0;
	run_delay_close(&r);
	snprintf(f->value, sizeof(f->value), "%s", counted ? "counted by the kernel" : "inferred");
	if (!counted)
		set(f, FINDING_NOTE,
		    "this kernel has no /proc/thread-self/schedstat (CONFIG_SCHED_INFO): guests see as "
		    "stolen what they neither ran nor slept");
}

/* Presence and permission only: asking it for more is the business of an engine that uses it. */
static void look_kvm(struct finding *f)
{
	int fd;

	set(f, FINDING_OK, "not used: this version has no engine for it, and needs none");
	if (access("/dev/kvm", F_OK) < 0) {
		snprintf(f->value, sizeof(f->value), "no /dev/kvm");
		return;
	}
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		snprintf(f->value, sizeof(f->value), "/dev/kvm is there, but does not open: %s",
			 strerror(errno));
	else
		snprintf(f->value, sizeof(f->value), "/dev/kvm opens");
	if (fd >= 0)
		close(fd);
}

const struct doctor_check doctor_checks[] = {
	{"Kernel", "kernel", look_kernel},
	{"CPU", "cpu", look_cpu},
	{"CPUs to run on", "cpu_count", look_cpu_count},
	{"Hypervisor below", "hypervisor", look_host_vm},
	{"Time-stamp counter", "tsc", look_tsc},
	{"Memory", "memory", look_memory},
	{"Memory limit", "memory_limit", look_memory_limit},
	{"Overcommit mode", "overcommit", look_overcommit},
	{"Huge pages (THP)", "thp", look_thp},
	{"Mappings allowed", "max_map_count", look_max_map},
	{"Generated code", "exec", look_exec},
	{"FSGSBASE", "fsgsbase", look_fsgsbase},
	{"BMI2", "bmi2", look_bmi2},
	{"XSAVEC", "xsavec", look_xsavec},
	{"AVX-512", "avx512", look_avx512},
	{"SS_AUTODISARM", "autodisarm", look_altstack},
	{"Code cache", "code_cache", doctor_code_cache},
	{"Assists", "assists", doctor_assists},
	{"Steal time", "steal_time", look_steal},
	{"KVM", "kvm", look_kvm},
	{NULL, NULL, NULL},
};
