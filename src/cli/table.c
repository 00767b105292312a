/* table.c - every command and option of `ringer`. Nothing else in this folder lists them. */
#include "cli/cli.h"

#include <string.h>

#include "cli/console.h"
#include "cli/engine_options.h"
#include "vm/sched_core.h"
#include "vm/vm.h"
#include "x86/cpuid.h"
#include "x86/insn.h"

#define IN(command, field) .offset = offsetof(struct cli_options, command.field)
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define END                                                                                        \
	{                                                                                          \
		.name = NULL                                                                       \
	}

static const char *engine_names(unsigned i, const char **text)
{
	if (!i) {
		*text = "the best one that works here";
		return "auto";
	}
	for (unsigned e = 0; vm_engines[e]; e++) {
		if (e == i - 1) {
			*text = vm_engines[e]->description;
			return vm_engines[e]->name;
		}
	}
	return NULL;
}

static const char *class_names(unsigned i, const char **text)
{
	*text = NULL;
	return i <= INSN_BEHAVIOUR_SENSITIVE ? insn_class_name((enum insn_class)i) : NULL;
}

static const char *policy_names(unsigned i, const char **text)
{
	*text = sched_policies[i] ? sched_policies[i]->text : NULL;
	return sched_policies[i] ? sched_policies[i]->name : NULL; /* callers stop at the first NULL */
}

static const char *run_statuses(unsigned i, const char **text)
{
	static const char *const rows[][2] = {
		{"0", "the guest powered off, reset under --no-reboot, or Ctrl-A x ended it"},
		{"1", "the host or the engine failed"},
		{"2", "the command line, the configuration or an image is wrong"},
		{"3", "a triple fault stopped the machine; the registers are on standard error"},
		{"odd", "with --debug-exit: the guest's value times two plus one, modulo 256"},
		{"signal",
		 "a signal that ends Ringer ends it by that signal, the terminal restored"},
	};

	*text = i < ARRAY_SIZE(rows) ? rows[i][1] : NULL;
	return i < ARRAY_SIZE(rows) ? rows[i][0] : NULL;
}

/* The default as text: ENGINE_CACHE_DEFAULT. */
#define CACHE_DEFAULT "64M"
_Static_assert(ENGINE_CACHE_DEFAULT == MIB(64), "CACHE_DEFAULT says otherwise");

/* What every command has that runs an engine. */
#define ENGINE_OPTIONS(command)                                                                    \
	{"engine", 0, OPT_NAME, .value = "NAME", .def = "auto", .list = engine_names,              \
	 IN(command, engine), .help = "What executes the guest's instructions."},                  \
	{"bt-cache", 0, OPT_SIZE, .value = "SIZE", .def = CACHE_DEFAULT, .min = ENGINE_CACHE_MIN,  \
	 .max = ENGINE_CACHE_MAX, .step = KIB(4), IN(command, bt.bt_cache),                        \
	 .help = "Translated code that is kept for each processor: 1M to 1G."},                    \
	{"assist", 0, OPT_LIST, .value = "LIST", .list = assist_words,                             \
	 .signed_from = ASSIST_WORDS_SIGNED, IN(command, bt.assist),                               \
	 .help = "What the translator does by itself. -NAME switches one assist off, +NAME on, "   \
		 "later words win. 'ringer assists' explains them."},                              \
	{"stress", 0, OPT_LIST, .value = "LIST", .list = stress_words, IN(command, bt.stress),     \
	 .help = "Make the translator's rare paths common, for tests. flush= takes a number of "   \
		 "blocks."},                                                                       \
	{"verify", 0, OPT_FLAG, IN(command, bt.verify),                                            \
	 .help = "Run each block in lock-step with the interpreter, and stop at the first "        \
		 "difference. Slow."}

static const struct cli_option run_options[] = {
	{"kernel", 0, OPT_FILE, true, "FILE", IN(run, kernel),
	 .help = "What to boot: a Linux bzImage or vmlinux, or an ELF image for PVH or multiboot "
		 "1."},
	{"initrd", 0, OPT_FILE, .value = "FILE", IN(run, initrd),
	 .help = "Initial RAM disk, given to the kernel as it is."},
	{"append", 0, OPT_TEXT, .value = "TEXT", IN(run, append),
	 .help = "Kernel command line. \"console=ttyS0\" makes Linux use the serial port."},
	{"memory", 'm', OPT_SIZE, .value = "SIZE", .def = "512M", .min = MIB(2), .max = GIB(64),
	 .step = KIB(4), IN(run, memory),
	 .help = "Guest memory, with a suffix K, M or G: 2M to 64G. It is taken from the host as "
		 "the guest touches it."},
	{"cpus", 0, OPT_NUMBER, .value = "N", .def = "1", .min = 1, .max = VM_CPUS_MAX,
	 IN(run, cpus),
	 .help = "Processors that the guest has: 1 to 64, also more than the host has."},
	{"max-cpus", 0, OPT_NUMBER, .value = "N", .min = 1, .max = VM_CPUS_MAX, IN(run, max_cpus),
	 .help = "Processors that it can get while it runs. By default as many as --cpus says."},
	{"pin", 0, OPT_CPUS, .value = "LIST", IN(run, pin),
	 .help = "Host CPUs, e.g. 0,2-3: each processor of the guest runs on one of them alone, in "
		 "this order and again from the first. By default the host decides."},
	{"nice", 0, OPT_NUMBER, .value = "N", .def = "0", .min = 0, .max = 19, IN(run, nice),
	 .help = "Run the guest's processors at a priority so much lower: 0 to 19. What the host "
		 "does for the machine otherwise, input and output, keeps its own."},
	{"halt-poll", 0, OPT_NUMBER, .value = "MICROSECONDS", .def = "20", .min = 0, .max = 1000,
	 IN(run, halt_poll),
	 .help = "How long a processor that halts may look out for its next interrupt before it "
		 "sleeps, where that has turned out to help: 0 (never) to 1000."},
	{"sched", 0, OPT_CHOICE, .value = "POLICY", .def = "fair", .list = policy_names, IN(run, sched),
	 .help = "Which of the guest's processors run when it has more than the host. All but fair let so many run "
		 "at a time as the machine has host CPUs, and change them every few milliseconds."},
	{"sched-slots", 0, OPT_NUMBER, .value = "N", .min = 1, .max = VM_CPUS_MAX, IN(run, sched_slots),
	 .help = "How many run at a time under a policy other than fair. Default: the host CPUs of --pin, or all."},
	{"sched-slice", 0, OPT_NUMBER, .value = "MICROSECONDS", .def = "4000", .min = 100, .max = 1000000,
	 IN(run, sched_slice),
	 .help = "How long one runs while others wait, under a policy other than fair."},
	{"cpu-cap", 0, OPT_TEXT, .value = "PERCENT", IN(run, cpu_cap),
	 .help = "Processor time that the guest's processors together may use, in each tenth of a second: 50% is half "
		 "of a host CPU, 150% one and a half. Waiting in HLT is free."},
	ENGINE_OPTIONS(run),
	{"cpu", 0, OPT_NAME, .value = "MODEL", .def = "default", .list = cpu_model_name,
	 IN(run, cpu), .more = true,
	 .help = "CPU model that the guest sees. It never offers what the host's CPU lacks. "
		 "Features can be added and taken away: host,-avx512f,+rdrand; doctor lists them."},
	{"serial", 0, OPT_CHR, .value = "WHERE", .def = "stdio", IN(run, serial),
	 .help = "The first serial port (COM1, ttyS0). With stdio on a terminal, keys go to the "
		 "guest; Ctrl-A h tells how to get out."},
	{"boot", 0, OPT_CHOICE, .value = "HOW", .def = "auto",
	 .choices = LIST("auto", "linux", "original", "pvh", "multiboot"), IN(run, boot),
	 .help = "Boot protocol. auto goes by the kind of the file; original lets a bzImage unpack "
		 "itself in the guest."},
	{"debugcon", 0, OPT_CHR, .value = "WHERE", .def = "null", IN(run, debugcon),
	 .help = "Debug console, port 0xe9: output only. With stdio it may share standard output "
		 "with the serial port."},
	{"debug-exit", 0, OPT_FLAG, IN(run, debug_exit),
	 .help = "Offer port 0xf4: a value that the guest writes there ends the machine."},
	{"triple-fault", 0, OPT_CHOICE, .value = "WHAT", .def = "stop",
	 .choices = LIST("stop", "reset"), IN(run, triple_fault),
	 .help = "Stop with a register dump, or reset as a PC does."},
	{"no-reboot", 0, OPT_FLAG, IN(run, no_reboot),
	 .help = "End the machine when the guest resets it."},
	{"name", 0, OPT_TEXT, .value = "NAME", IN(run, name),
	 .help = "Name of the machine, by which 'ringer ps' and its kin know it while it runs: up to "
		 "40 letters, digits, '.', '_' and '-'. Default: ringer- and the process's number."},
	{"log", 0, OPT_CHOICE, .value = "LEVEL", .def = "warn",
	 .choices = LIST("error", "warn", "info", "debug"), IN(run, log),
	 .help = "Least important message about the machine to print on standard error."},
	{"json", 0, OPT_FLAG, IN(run, json),
	 .help = "Print how the machine ended as a JSON object on standard output, which must then "
		 "be free: no stdio for --serial or --debugcon."},
	{"stats", 0, OPT_FLAG, IN(run, stats),
	 .help = "Print figures about time, instructions and the engine at the end: a table on "
		 "standard error, or with --json part of the object. SIGUSR1 has the same printed "
		 "on standard error at any time."},
	{"trace", 0, OPT_NAME, .value = "WHAT[=FILE]", .choices = LIST("bt", "sched"), .file = true,
	 IN(run, trace),
	 .help = "bt: write every block that is translated to FILE, by default standard error; guest "
		 "and host code stand side by side. sched: write to FILE what each processor of the guest "
		 "does when, as trace events for Chrome, Perfetto and tools/trace-svg.py."},
	{"perf", 0, OPT_CHOICE, .value = "WHERE", .def = "off",
	 .choices = LIST("off", "map", "jitdump", "both"), IN(run, perf),
	 .help = "Name translated code for Linux perf. /tmp/perf-PID.map is enough for 'perf "
		 "report'; jit-PID.dump in the working directory, for 'perf record -k mono' and "
		 "'perf inject --jit', also has the code."},
	{"symbols", 0, OPT_FILE, .value = "FILE", .needs = "trace perf", IN(run, symbols),
	 .help = "Names of the guest kernel's functions for --trace and --perf: a System.map or an "
		 "ELF file. By default the symbols of --kernel, if it has any."},
	END,
};

static const struct cli_section run_sections[] = {
	{"Keys on the terminal", console_key_list},
	{"Exit status", run_statuses},
	{NULL, NULL},
};

static const struct cli_option doctor_options[] = {
	{"json", 0, OPT_FLAG, IN(doctor, json), .help = "Print a JSON object."},
	END,
};

static const struct cli_option assists_options[] = {
	{"json", 0, OPT_FLAG, IN(assists, json), .help = "Print a JSON array."},
	END,
};

static const struct cli_option translate_options[] = {
	ENGINE_OPTIONS(translate),
	{"mode", 0, OPT_CHOICE, .value = "MODE", .def = "user", .choices = LIST("user", "kernel"),
	 IN(translate, mode), .help = "Privilege that the function has."},
	{"run", 0, OPT_FLAG, IN(translate, run),
	 .help = "Then call the function with the integers given, print what it returns, the order "
		 "in which its blocks were translated, and what the engine counted."},
	END,
};

static const struct cli_option insn_options[] = {
	{"hex", 0, OPT_TEXT, .value = "BYTES", .conflicts = "list", IN(insn, hex),
	 .help = "Machine code in hexadecimal instead of text, e.g. 9d or \"0f 01 d0\"."},
	{"mode", 0, OPT_CHOICE, .value = "BITS", .def = "64", .choices = LIST("16", "32", "64"),
	 .conflicts = "list", IN(insn, mode), .help = "Code size in which to encode or decode."},
	{"list", 0, OPT_FLAG, IN(insn, list),
	 .help = "Print the instruction table: class, and treatment by each engine."},
	{"class", 0, OPT_CHOICE, .value = "CLASS", .list = class_names, .needs = "list",
	 IN(insn, cls), .help = "Only the instructions of that class."},
	{"json", 0, OPT_FLAG, IN(insn, json), .help = "Print JSON."},
	END,
};

#define MACHINE_JSON {"json", 0, OPT_FLAG, IN(machine, json), .help = "Print JSON."}

static const struct cli_option ps_options[] = {
	MACHINE_JSON,
	{"quiet", 'q', OPT_FLAG, .conflicts = "json", IN(machine, quiet),
	 .help = "Print the names alone, and ask no machine."},
	END,
};

static const struct cli_option info_options[] = {
	MACHINE_JSON,
	{"counters", 0, OPT_FLAG, IN(machine, counters),
	 .help = "Also print what the machine has counted since it began."},
	END,
};

static const struct cli_option machine_options[] = {
	MACHINE_JSON,
	END,
};

static const struct cli_option stop_options[] = {
	{"force", 0, OPT_FLAG, IN(machine, force),
	 .help = "End the machine at once, as if its plug were pulled; one that does not answer is "
		 "killed."},
	{"timeout", 0, OPT_NUMBER, .value = "SECONDS", .def = "60", .min = 1, .max = 86400,
	 IN(machine, timeout), .help = "How long to wait for the guest to power off."},
	MACHINE_JSON,
	END,
};

static const struct cli_option cpus_options[] = {
	{"timeout", 0, OPT_NUMBER, .value = "SECONDS", .def = "10", .min = 1, .max = 86400,
	 IN(machine, timeout),
	 .help = "How long to wait for the guest to let go of processors, or to take them."},
	MACHINE_JSON,
	END,
};

static const char *machine_statuses(unsigned i, const char **text)
{
	static const char *const rows[][2] = {
		{"0", "done"},
		{"1", "the host failed, or the machine refused"},
		{"2", "the command line is wrong, or there is no such machine"},
		{"4", "the machine does not answer, or its guest has not done it in time"},
	};

	*text = i < ARRAY_SIZE(rows) ? rows[i][1] : NULL;
	return i < ARRAY_SIZE(rows) ? rows[i][0] : NULL;
}

static const struct cli_section machine_sections[] = {
	{"Exit status", machine_statuses},
	{NULL, NULL},
};

static const struct cli_option version_options[] = {
	{"json", 0, OPT_FLAG, IN(version, json), .help = "Print a JSON object."},
	END,
};

static const struct cli_option help_options[] = {
	{"man", 0, OPT_FLAG, .conflicts = "completion", IN(help, man),
	 .help = "Print the manual page, in roff."},
	{"completion", 0, OPT_NAME, .value = "SHELL", .choices = LIST("bash", "zsh", "fish"),
	 IN(help, completion), .help = "Print the completion script for a shell."},
	END,
};

const struct cli_option cli_help_option = {
	"help",
	'h',
	OPT_FLAG,
	.help = "Print this help.",
};

const struct cli_command cli_commands[] = {
	{"run", "start a machine and run it to its end",
	 .description =
		 "Boots a kernel in a new machine and runs it until the guest powers off. The "
		 "serial port is the guest's console; a terminal is put into raw mode for it and "
		 "restored however the machine ends. Input from a pipe or a file goes to the guest "
		 "as it is; at its end the machine runs on.",
	 .options = run_options, .sections = run_sections,
	 .examples = LIST(
		 "ringer run --kernel vmlinuz --initrd initrd.img --append console=ttyS0",
		 "ringer run --kernel vmlinux -m 4G --serial file:guest.log --no-reboot --json"),
	 .check = run_check, .run = cmd_run},
	{"ps", "list the machines that run",
	 .description =
		 "Prints each of the user's machines: its name, process, state, processors, memory, "
		 "engine, and how long it has been running. A machine that does not answer within two "
		 "seconds is listed as such.",
	 .options = ps_options, .examples = LIST("ringer ps", "ringer ps --json"), .run = cmd_ps},
	{"info", "tell all about a running machine", "NAME", .arg_machines = true,
	 .description = "Prints what a machine is made of and its state.", .options = info_options,
	 .sections = machine_sections, .examples = LIST("ringer info web --counters"),
	 .check = machine_check, .run = cmd_info},
	{"pause", "let a machine's processors stand still", "NAME", .arg_machines = true,
	 .description =
		 "Stops the processors of a running machine. Its memory and devices stay as they are. "
		 "The guest's clocks go on, so that they are right after 'ringer resume'.",
	 .options = machine_options, .examples = LIST("ringer pause web"), .check = machine_check,
	 .run = cmd_pause,
	 .sections = machine_sections},
	{"resume", "let a paused machine go on", "NAME", .arg_machines = true,
	 .description = "Lets the processors of a paused machine run again.",
	 .options = machine_options, .examples = LIST("ringer resume web"), .check = machine_check,
	 .run = cmd_resume,
	 .sections = machine_sections},
	{"stop", "power a machine off", "NAME", .arg_machines = true,
	 .description =
		 "Presses a machine's power button and waits until its guest has powered off. With "
		 "--force the machine ends at once.",
	 .options = stop_options,
	 .examples = LIST("ringer stop web --timeout 120", "ringer stop web --force"),
	 .check = machine_check, .run = cmd_stop,
	 .sections = machine_sections},
	{"cpus", "say or change how many processors a machine has", "NAME [+N|-N|N]",
	 .arg_machines = true,
	 .description =
		 "Plugs processors into a running machine or out of it; without a number, says how many "
		 "there are. The guest decides when it lets one go.",
	 .options = cpus_options, .examples = LIST("ringer cpus web +1", "ringer cpus web 4"),
	 .check = cpus_check, .run = cmd_cpus,
	 .sections = machine_sections},
	{"doctor", "say what this host offers and what Ringer will use, and why",
	 .description =
		 "Checks the CPU, the kernel and the limits that Ringer depends on, and each "
		 "engine. The exit status is 0 when machines can run here, 1 when not.",
	 .options = doctor_options, .run = cmd_doctor},
	{"assists", "list what the translator does by itself",
	 .description =
		 "Prints the VM assists: the system events that the translator handles inside "
		 "translated code, and what happens when one is switched off with --assist.",
	 .options = assists_options,
	 .examples = LIST("ringer run --assist -syscall,-iret --kernel vmlinux",
			  "ringer run --assist none,+chain --kernel vmlinux"),
	 .run = cmd_assists},
	{"insn", "explain an instruction: its class, and what engines do with it", "[TEXT]",
	 .description =
		 "Prints the encoding of an instruction, its class in Popek and Goldberg's sense, "
		 "why it can or cannot be virtualized by trapping, and how each engine treats it. "
		 "TEXT is in Intel syntax.",
	 .options = insn_options,
	 .examples = LIST("ringer insn popf", "ringer insn --hex \"0f 01 d0\" --mode 64",
			  "ringer insn --list --class behaviour-sensitive"),
	 .check = insn_check, .run = cmd_insn},
	{"translate", "print how the translator translates a function", "FILE:FUNCTION [INTEGER]...",
	 .arg_files = true,
	 .description =
		 "Loads an ELF object or executable into a small guest without devices and prints the "
		 "blocks of one function, guest and host code side by side. FUNCTION must not need "
		 "what only a dynamic linker or an operating system gives.",
	 .options = translate_options,
	 .examples = LIST("ringer translate prime.o:isPrime",
			  "ringer translate prime.o:isPrime --run 97"),
	 .check = translate_check, .run = cmd_translate},
	{"version", "print the version",
	 .description = "Prints the version of Ringer and the engines built into it.",
	 .options = version_options, .run = cmd_version},
	{"help", "print help on a command, the manual page, or shell completion", "[COMMAND]",
	 .arg_list = cli_command_list,
	 .description = "Prints what the commands are, or all about one of them.",
	 .options = help_options,
	 .examples = LIST("ringer help run", "ringer help --man | man -l -",
			  "ringer help --completion bash > "
			  "~/.local/share/bash-completion/completions/ringer"),
	 .check = help_check, .run = cmd_help},
	END,
};

const struct cli_command *cli_find_command(const char *name)
{
	for (const struct cli_command *c = cli_commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

int cli_find_option(const struct cli_command *cmd, const char *name, size_t len)
{
	for (int i = 0; cmd->options[i].name; i++)
		if (strlen(cmd->options[i].name) == len && !memcmp(cmd->options[i].name, name, len))
			return i;
	return -1;
}

const char *cli_choice(const struct cli_option *opt, unsigned i, const char **text)
{
	const char *ignored;

	if (!text)
		text = &ignored;
	*text = NULL;
	if (opt->list)
		return opt->list(i, text);
	return opt->choices ? opt->choices[i] : NULL;
}

bool cli_given(const struct cli_call *call, const char *option)
{
	int i = cli_find_option(call->cmd, option, strlen(option));

	return i >= 0 && call->given >> i & 1;
}

const char *cli_command_list(unsigned i, const char **text)
{
	*text = cli_commands[i].summary;
	return cli_commands[i].name; /* callers stop at the first NULL */
}
