/* The command line: parsing by the table, its mistakes, and that what is generated is complete. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "cli/cli.h"
#include "cli/console.h"
#include "cli/engine_options.h"
#include "cli/machine.h"
#include "cli/run.h"
#include "cli/typist.h"

/* Runs `ringer ARGS` (split at '|') and keeps what it prints. */
struct output {
	int status;
	char *out, *err;
};

static int split(char *line, char **argv, int max)
{
	int n = 0;

	for (char *p = line; p && n < max; n++) {
		argv[n] = p;
		p = strchr(p, '|');
		if (p)
			*p++ = '\0';
	}
	return n;
}

static void ringer(struct output *o, const char *args)
{
	char line[512], *argv[40] = {"ringer"};
	size_t out_len, err_len;
	struct cli cli;
	int n = 0;

	snprintf(line, sizeof(line), "%s", args);
	if (*args)
		n = split(line, argv + 1, 39);
	cli.out = open_memstream(&o->out, &out_len);
	cli.err = open_memstream(&o->err, &err_len);
	o->status = cli_main(&cli, n + 1, argv);
	fclose(cli.out);
	fclose(cli.err);
}

static void output_free(struct output *o)
{
	free(o->out);
	free(o->err);
}

static int parse(struct cli_call *call, const char *args, struct err *err)
{
	static char line[512]; /* call points into it */
	char *argv[40];
	int n;

	snprintf(line, sizeof(line), "%s", args);
	n = split(line, argv, 40);
	return cli_parse(call, n, argv, err);
}

static void bad_lines_are_refused(void **state)
{
	static const struct {
		const char *args, *says;
	} cases[] = {
		{"", "no command given"},
		{"rnu", "did you mean 'run'?"},
		{"frobnicate", "unknown command 'frobnicate'; see 'ringer help'"},
		{"run", "--kernel FILE is missing"},
		{"run|vmlinux", "did you mean '--kernel vmlinux'?"},
		{"run|--kernel|k|extra", "unexpected 'extra'"},
		{"run|--kernal|k", "did you mean '--kernel'?"},
		{"run|--kernal=k", "did you mean '--kernel'?"},
		{"run|-z", "unknown option '-z'"},
		{"run|--", "--kernel FILE is missing"},
		{"run|--kernel", "--kernel needs a value: --kernel FILE"},
		{"run|--kernel|", "the file name is empty"},
		{"run|--kernel|--initrd|i", "needs a value before '--initrd'"},
		{"run|--kernel|k|--kernel|k", "given twice"},
		{"run|--kernel|k|-m|1G|--memory|2G", "given twice"},
		{"run|--kernel|k|--cpus|0", "between 1 and 64"},
		{"run|--kernel|k|--cpus|65", "between 1 and 64"},
		{"run|--kernel|k|--cpus|99999999999999999999999", "between 1 and 64"},
		{"run|--kernel|k|--cpus|2x", "no number"},
		{"run|--kernel|k|--cpus=", "no number"},
		{"run|--kernel|k|--cpus|4|--max-cpus|3", "at most so many"},
		{"run|--kernel|k|--cpus|2|--verify", "more than one processor"},
		{"run|--kernel|k|--max-cpus|2|--verify", "more than one processor"},
		{"run|--kernel|k|--name|", "'' is no name"},
		{"run|--kernel|k|--name|a/b", "'a/b' is no name"},
		{"run|--kernel|k|--name|-a", "'-a' is no name"},
		{"ps|web", "unexpected 'web'"},
		{"ps|--json|--quiet", "contradict each other"},
		{"info", "which machine?"},
		{"pause|a|b", "unexpected 'b'; give one machine"},
		{"stop|a|--timeout|0", "between 1 and 86400"},
		{"stop|--forec|a", "did you mean '--force'?"},
		{"pause|a|--force", "unknown option '--force'"},
		{"cpus|a|two", "'two' is no number of processors"},
		{"cpus|a|+", "'+' is no number of processors"},
		{"cpus|a|1|2", "unexpected '2'"},
		{"cpus|a|12345", "'12345' is no number"},
		{"run|--kernel|k|--nice|20", "between 0 and 19"},
		{"run|--kernel|k|--pin|", "no list of processors"},
		{"run|--kernel|k|--pin|0,", "no list of processors"},
		{"run|--kernel|k|--pin|3-1", "no list of processors"},
		{"run|--kernel|k|--pin|1-", "no list of processors"},
		{"run|--kernel|k|--pin|-1", "no list of processors"},
		{"run|--kernel|k|--pin|0 1", "no list of processors"},
		{"run|--kernel|k|--pin|1024", "no list of processors"},
		{"run|--kernel|k|--pin|0-99999999999999999999", "no list of processors"},
		{"run|--kernel|k|-m|512", "did you mean 512M?"},
		{"run|--kernel|k|-m|", "'' is no size"},
		{"run|--kernel|k|-m|-5M", "'-5M' is no size"},
		{"run|--kernel|k|-m|5Q", "'5Q' is no size"},
		{"run|--kernel|k|-m|5MM", "'5MM' is no size"},
		{"run|--kernel|k|-m|1M", "too small; at least 2M"},
		{"run|--kernel|k|-m|0", "too small; at least 2M"},
		{"run|--kernel|k|-m|65G", "too large; at most 64G"},
		{"run|--kernel|k|-m|18446744073709551616", "too large; at most 64G"},
		{"run|--kernel|k|-m|17179869185G", "too large; at most 64G"},
		{"run|--kernel|k|-m|2097153", "no multiple of 4K"},
		{"run|--kernel|k|--engine|intrep", "did you mean 'interp'?"},
		{"run|--kernel|k|--engine|kvmm", "it is one of auto, "},
		{"run|--kernel|k|--cpu|hots", "did you mean 'host'?"},
		{"run|--kernel|k|--cpu|hots,+avx", "did you mean 'host'?"},
		{"run|--kernel|k|--serial|stdoi", "did you mean 'stdio'?"},
		{"run|--kernel|k|--serial|file:", "'file:' needs a path"},
		{"run|--kernel|k|--serial|tty", "stdio, null, file:PATH"},
		{"run|--kernel|k|--boot|linx", "did you mean 'linux'?"},
		{"run|--kernel|k|--log|loud", "error, warn, info, debug"},
		{"run|--kernel|k|--stats=yes", "--stats takes no value"},
		{"run|--kernel|k|--json", "--json contradicts --serial stdio"},
		{"run|--kernel|k|--json|--serial|null|--debugcon|stdio",
		 "--json contradicts --debugcon"},
		{"run|--kernel|k|--serial|file:a|--debugcon|file:a", "both write 'a'"},
		{"run|--kernel|k|--bt-cache|1K", "too small; at least 1M"},
		{"run|--kernel|k|--bt-cache|2G", "too large; at most 1G"},
		{"run|--kernel|k|--assist|-sycall", "did you mean '-syscall'?"},
		{"run|--kernel|k|--assist|none,+chian", "did you mean '+chain'?"},
		{"run|--kernel|k|--assist|syscall", "write '+syscall' or '-syscall'"},
		{"run|--kernel|k|--assist|+none", "'none' takes no sign"},
		{"run|--kernel|k|--assist|", "the list is empty"},
		{"run|--kernel|k|--assist|-iret,,-if", "unknown word ''; it is one of none, all"},
		{"run|--kernel|k|--stress|pol", "did you mean 'poll'?"},
		{"run|--kernel|k|--stress|flush", "needs a number from 1"},
		{"run|--kernel|k|--stress|flush=0", "needs a number from 1"},
		{"run|--kernel|k|--stress|flush=4294967296", "needs a number from 1"},
		{"run|--kernel|k|--stress|flush=-1", "needs a number from 1"},
		{"run|--kernel|k|--stress|flush=1x", "needs a number from 1"},
		{"run|--kernel|k|--trace|tb", "did you mean 'bt'?"},
		{"run|--kernel|k|--trace|bt=", "'bt=' needs a file name"},
		{"run|--kernel|k|--trace|sched", "needs a file: --trace sched=FILE"},
		{"run|--kernel|k|--sched|lph", "did you mean 'lhp'?"},
		{"run|--kernel|k|--sched-slots|65", "between 1 and 64"},
		{"run|--kernel|k|--cpu-cap|0", "no share of processors"},
		{"run|--kernel|k|--cpu-cap|-5", "no share of processors"},
		{"run|--kernel|k|--cpu-cap|50%%", "no share of processors"},
		{"run|--kernel|k|--cpu-cap|6401%", "no share of processors"},
		{"run|--kernel|k|--cpu-cap|99999999999999999999", "no share of processors"},
		{"run|--kernel|k|--perf|mpa", "did you mean 'map'?"},
		{"run|--kernel|k|--symbols|f", "only goes with --trace or --perf"},
		{"run|--kernel|k|--engine|interp|--verify", "means nothing to engine interp"},
		{"run|--kernel|k|--engine|interp|--assist|-if", "means nothing to engine interp"},
		{"run|--kernel|k|--engine|interp|--bt-cache|8M", "means nothing to engine interp"},
		{"run|--kernel|k|--engine|interp|--perf|map", "means nothing to engine interp"},
		{"assists|now", "unexpected 'now'"},
		{"insn", "ringer insn"},
		{"insn|popf|--hex|9d", "hex"},
		{"insn|--hex|9d|--list", "contradict each other"},
		{"insn|--list|--mode|32", "contradict each other"},
		{"insn|nop|--class|privileged", "--class only goes with --list"},
		{"insn|--list|--class|privilegd", "did you mean 'privileged'?"},
		{"insn|nop|--mode|33", "32"},
		{"version|now", "unexpected 'now'"},
		{"doctor|--jsno", "did you mean '--json'?"},
		{"help|rnu", "did you mean 'run'?"},
		{"help|run|doctor", "give one command"},
		{"help|run|--man", "contradicts"},
		{"help|--man|--completion|bash", "contradict each other"},
		{"help|--completion|tcsh", "unknown value 'tcsh'"},
		{"run|--kernel|/nonexistent/kernel|--serial|null", "/nonexistent/kernel"},
		{"run|--kernel|/dev/null|--serial|file:/nonexistent/dir/x", "/nonexistent/dir/x"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct output o;

		ringer(&o, cases[i].args);
		if (o.status != CLI_USAGE || !strstr(o.err, cases[i].says) ||
		    strncmp(o.err, "ringer: ", 8) ||
		    strchr(o.err, '\n') != o.err + strlen(o.err) - 1 || o.out[0])
			fail_msg("ringer %s: status %d, says: %s%s", cases[i].args, o.status, o.err,
				 o.out);
		output_free(&o);
	}
}

static void control_characters_stay_on_one_line(void **state)
{
	struct output o;

	ringer(&o, "run|--kernel|k|--boot|a\nb\033[31m");
	assert_int_equal(o.status, CLI_USAGE);
	assert_ptr_equal(strchr(o.err, '\n'), o.err + strlen(o.err) - 1);
	assert_null(strchr(o.err, '\033'));
	output_free(&o);
}

static void defaults_are_set(void **state)
{
	struct cli_call c;
	const struct run_options *r = &c.o.run;

	assert_int_equal(parse(&c, "run|--kernel|k", NULL), 0);
	assert_string_equal(r->kernel, "k");
	assert_null(r->initrd);
	assert_null(r->append);
	assert_int_equal(r->memory, MIB(512));
	assert_string_equal(r->engine, "auto");
	assert_string_equal(r->cpu, "default");
	assert_int_equal(r->serial.kind, CHR_SPEC_STDIO);
	assert_int_equal(r->debugcon.kind, CHR_SPEC_NULL);
	assert_int_equal(r->boot, VM_BOOT_AUTO);
	assert_int_equal(r->log, LOG_WARN);
	assert_int_equal(r->triple_fault, 0);
	assert_false(r->debug_exit || r->no_reboot || r->json || r->stats);
}

static void values_are_taken_in_every_form(void **state)
{
	struct cli_call c;
	const struct run_options *r = &c.o.run;

	assert_int_equal(parse(&c,
			       "run|--kernel=a=b|-m64M|--append|-x --foo|--initrd=i|--serial=null|"
			       "--debugcon|file:/tmp/a:b|--cpu=x86-64-v2,+aes|--boot=original|"
			       "--log=debug|--triple-fault|reset|--no-reboot|--debug-exit|--stats|"
			       "--json|--engine|interp",
			       NULL),
			 0);
	assert_string_equal(r->kernel, "a=b");
	assert_string_equal(r->append, "-x --foo");
	assert_string_equal(r->initrd, "i");
	assert_int_equal(r->memory, MIB(64));
	assert_int_equal(r->serial.kind, CHR_SPEC_NULL);
	assert_int_equal(r->debugcon.kind, CHR_SPEC_FILE);
	assert_string_equal(r->debugcon.path, "/tmp/a:b");
	assert_string_equal(r->cpu, "x86-64-v2,+aes");
	assert_int_equal(r->boot, VM_BOOT_LINUX_ORIGINAL);
	assert_int_equal(r->log, LOG_DEBUG);
	assert_int_equal(r->triple_fault, 1);
	assert_true(r->debug_exit && r->no_reboot && r->json && r->stats);
	assert_string_equal(r->engine, "interp");

	assert_int_equal(parse(&c, "run|-m|4G|--append=--json|--kernel|--|--boot=multiboot", NULL),
			 0);
	assert_int_equal(r->memory, GIB(4));
	assert_string_equal(r->append, "--json");
	assert_string_equal(r->kernel, "--");
	assert_false(r->json);
	assert_int_equal(r->boot, VM_BOOT_MULTIBOOT);

	assert_int_equal(parse(&c, "insn|--mode=16|--|mov|-x", NULL), 0);
	assert_int_equal(c.n_args, 2);
	assert_string_equal(c.args[1], "-x");
	assert_int_equal(c.o.insn.mode, X86_MODE_16);
}

static void fill(struct engine_config *c, const char *args)
{
	struct cli_call call;
	struct err err = {""};

	if (parse(&call, args, &err))
		fail_msg("%s: %s", args, err.text);
	memset(c, 0, sizeof(*c));
	engine_options_fill(&call.o.run.bt, c);
}

static void engine_options_are_taken(void **state)
{
	struct engine_config c;

	fill(&c, "run|--kernel|k");
	assert_int_equal(c.cache_bytes, ENGINE_CACHE_DEFAULT);
	assert_int_equal(c.assists_off, 0);
	assert_false(c.verify || c.stress.one_insn || c.stress.slow_memory || c.stress.poll);
	assert_int_equal(c.stress.flush_blocks, 0);
	fill(&c, "run|--kernel|k|--bt-cache|1M|--assist|-syscall,-iret,+syscall|--verify");
	assert_int_equal(c.cache_bytes, MIB(1));
	assert_int_equal(c.assists_off, BIT(ASSIST_IRET));
	assert_true(c.verify);
	fill(&c, "run|--kernel|k|--assist|none,+chain|--stress|poll,flush=100");
	assert_int_equal(c.assists_off, (BIT(ASSIST_COUNT) - 1) & ~BIT(ASSIST_CHAIN));
	assert_true(c.stress.poll);
	assert_false(c.stress.one_insn || c.stress.slow_memory);
	assert_int_equal(c.stress.flush_blocks, 100);
	fill(&c, "run|--kernel|k|--assist|none,all|--stress|one-insn,slow-memory");
	assert_int_equal(c.assists_off, 0);
	assert_true(c.stress.one_insn && c.stress.slow_memory && !c.stress.poll);
}

static void assists_are_listed(void **state)
{
	struct output o;
	cJSON *j;

	ringer(&o, "assists");
	assert_int_equal(o.status, CLI_OK);
	for (unsigned i = 0; i < ASSIST_COUNT; i++)
		assert_non_null(strstr(o.out, engine_assists[i].name));
	output_free(&o);
	ringer(&o, "assists|--json");
	j = cJSON_Parse(o.out);
	assert_int_equal(cJSON_GetArraySize(j), ASSIST_COUNT);
	cJSON_Delete(j);
	output_free(&o);
}

static void sizes_are_checked(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t bytes;
	} cases[] = {
		{"0", 0, 0},
		{"1", 0, 1},
		{"1k", 0, KIB(1)},
		{"1K", 0, KIB(1)},
		{"3M", 0, MIB(3)},
		{"3MiB", 0, MIB(3)},
		{"3MB", 0, MIB(3)},
		{"2T", 0, GIB(2048)},
		{"18446744073709551615", 0, UINT64_MAX},
		{"16777215T", 0, GIB(1024) * 16777215},
		{"18446744073709551616", -ERANGE, 0},
		{"16777216T", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"M", -EINVAL, 0},
		{" 1M", -EINVAL, 0},
		{"1M ", -EINVAL, 0},
		{"1.5G", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1B", -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t bytes = 0;
		int rc = size_parse(cases[i].text, &bytes);

		if (rc != cases[i].rc || bytes != cases[i].bytes)
			fail_msg("'%s': %d, %llu", cases[i].text, rc, (unsigned long long)bytes);
	}
}

static void help_names_every_command_and_option(void **state)
{
	struct output all;

	ringer(&all, "help");
	assert_int_equal(all.status, CLI_OK);
	/* One line for each command. */
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		struct output o, same;
		char args[64];

		assert_non_null(strstr(all.out, c->name));
		assert_non_null(strstr(all.out, c->summary));
		snprintf(args, sizeof(args), "help|%s", c->name);
		ringer(&o, args);
		snprintf(args, sizeof(args), "%s|--help", c->name);
		ringer(&same, args);
		assert_int_equal(o.status, CLI_OK);
		assert_int_equal(same.status, CLI_OK);
		assert_string_equal(o.out, same.out);
		for (const struct cli_option *opt = c->options; opt->name; opt++) {
			char term[64];

			cli_option_term(term, sizeof(term), opt);
			if (!strstr(o.out, term))
				fail_msg("help %s does not mention %s", c->name, term);
		}
		output_free(&same);
		output_free(&o);
	}
	output_free(&all);
}

/* Help is for terminals of 80 columns. */
static void help_is_narrow(void **state)
{
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		struct output o;
		char args[64], *examples;

		snprintf(args, sizeof(args), "help|%s", c->name);
		ringer(&o, args);
		examples = strstr(o.out, "\nExamples:");
		if (examples)
			*examples = '\0';
		for (char *line = strtok(o.out, "\n"); line; line = strtok(NULL, "\n"))
			if (strlen(line) > 79)
				fail_msg("help %s: too wide: %s", c->name, line);
		output_free(&o);
	}
}

/* The option's name with its dashes escaped as roff wants it. */
static void roff_name(char *buf, size_t len, const char *name)
{
	size_t at = (size_t)snprintf(buf, len, "\\fB\\-\\-");

	for (; *name && at + 3 < len; name++)
		at += (size_t)snprintf(buf + at, len - at, "%s%c", *name == '-' ? "\\" : "", *name);
	snprintf(buf + at, len - at, "\\fR");
}

static void generated_texts_are_complete(void **state)
{
	static const struct {
		const char *args, *prefix;
	} texts[] = {{"help|--man", NULL},
		     {"help|--completion|bash", "--"},
		     {"help|--completion|zsh", "--"},
		     {"help|--completion|fish", "-l "}};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct output o;

		ringer(&o, texts[i].args);
		assert_int_equal(o.status, CLI_OK);
		for (const struct cli_command *c = cli_commands; c->name; c++) {
			assert_non_null(strstr(o.out, c->name));
			for (const struct cli_option *opt = c->options; opt->name; opt++) {
				char want[96];

				if (texts[i].prefix)
					snprintf(want, sizeof(want), "%s%s", texts[i].prefix,
						 opt->name);
				else
					roff_name(want, sizeof(want), opt->name);
				if (!strstr(o.out, want))
					fail_msg("%s lacks %s of %s", texts[i].args, want, c->name);
			}
		}
		output_free(&o);
	}
}

/* A row must not contradict itself: names that it refers to exist, defaults parse. */
static void table_is_sound(void **state)
{
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		unsigned n = 0;

		for (const struct cli_option *o = c->options; o->name; o++, n++) {
			bool flag = o->kind == OPT_FLAG;
			bool listed = o->kind == OPT_CHOICE || o->kind == OPT_NAME ||
				      o->kind == OPT_LIST;
			char names[128];

			assert_int_equal(flag, !o->value);
			assert_int_equal(listed, o->choices || o->list);
			assert_non_null(o->help);
			assert_int_equal(cli_find_option(c, o->name, strlen(o->name)), n);
			snprintf(names, sizeof(names), "%s %s", o->conflicts ? o->conflicts : "",
				 o->needs ? o->needs : "");
			for (char *w = strtok(names, " "); w; w = strtok(NULL, " "))
				assert_true(cli_find_option(c, w, strlen(w)) >= 0);
			if (o->kind == OPT_SIZE || o->kind == OPT_NUMBER)
				assert_true(o->min < o->max);
		}
		assert_true(n < 64);
	}
}

static void cpu_lists(void **state)
{
	uint16_t cpu[4];
	struct err err;
	unsigned n;

	assert_int_equal(cpulist_parse("7", cpu, 4, &n, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(cpu[0], 7);
	assert_int_equal(cpulist_parse("5,0-1,5", cpu, 4, &n, &err), 0);
	assert_int_equal(n, 4);
	assert_memory_equal(cpu, ((uint16_t[]){5, 0, 1, 5}), sizeof(cpu));
	/* No further than there is room. */
	assert_int_equal(cpulist_parse("0-1023", cpu, 4, &n, &err), 0);
	assert_int_equal(n, 4);
	assert_memory_equal(cpu, ((uint16_t[]){0, 1, 2, 3}), sizeof(cpu));
}

static void exit_statuses(void **state)
{
	static const struct {
		struct vm_result r;
		int status;
	} cases[] = {
		{{.end = VM_END_POWEROFF}, 0},
		{{.end = VM_END_RESET}, 0},
		{{.end = VM_END_STOPPED}, 0},
		{{.end = VM_END_TRIPLE_FAULT}, 3},
		{{.end = VM_END_ERROR}, 1},
		{{.end = VM_END_DEBUG_EXIT, .value = 0}, 1},
		{{.end = VM_END_DEBUG_EXIT, .value = 5}, 11},
		{{.end = VM_END_DEBUG_EXIT, .value = 0xffffffff}, 255},
		{{.end = VM_END_DEBUG_EXIT, .value = 0x180}, 1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(run_status(&cases[i].r), cases[i].status);
	assert_int_equal(run_setup_status(-EINVAL), 2);
	assert_int_equal(run_setup_status(-ENOEXEC), 2);
	assert_int_equal(run_setup_status(-EFBIG), 2);
	assert_int_equal(run_setup_status(-ENOENT), 2);
	assert_int_equal(run_setup_status(-EACCES), 2);
	assert_int_equal(run_setup_status(-ENOMEM), 1);
	assert_int_equal(run_setup_status(-EMFILE), 1);
}

static void machines_in_words(void **state)
{
	char text[48];

	assert_string_equal(machine_state_word(text, "Running"), "running");
	assert_string_equal(machine_uptime(text, 0.9), "0:00:00");
	assert_string_equal(machine_uptime(text, 3661), "1:01:01");
	assert_string_equal(machine_uptime(text, 2 * 86400 + 59), "2d 0:00:59");
	assert_string_equal(machine_uptime(text, -1), "0:00:00");
	assert_string_equal(machine_uptime(text, 1e300), "0:00:00");
	assert_int_equal(machine_status(-ENOENT), CLI_USAGE);
	assert_int_equal(machine_status(-ETIMEDOUT), CLI_NO_ANSWER);
	assert_int_equal(machine_status(-EPIPE), CLI_HOST);
}

static void json_is_json(void **state)
{
	static const char *const lines[] = {"version|--json", "doctor|--json", "insn|popf|--json",
					    "insn|--hex|0f 01 d0|--json", "insn|--list|--json"};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct output o;
		cJSON *j;

		ringer(&o, lines[i]);
		j = cJSON_Parse(o.out);
		if (!j)
			fail_msg("ringer %s prints no JSON: %s%s", lines[i], o.out, o.err);
		cJSON_Delete(j);
		output_free(&o);
	}
}

/* Keys: what reaches the guest, and that none of ours is taken where input is no terminal. */
static void escape_keys(void **state)
{
	struct console c = {.keys = true, .vm = (struct vm *)&c};
	uint8_t buf[] = {'a', 1, 1, 'b', 1}, rest[] = {1, 'c', 1, '?', 'd'};

	assert_int_equal(console_filter(&c, buf, sizeof(buf)), 3);
	assert_memory_equal(buf, ((uint8_t[]){'a', 1, 'b'}), 3);
	/* Ctrl-A was the last key of one read, its second key is the first of the next. */
	assert_int_equal(console_filter(&c, rest, sizeof(rest)), 3);
	assert_memory_equal(rest, ((uint8_t[]){1, 'c', 'd'}), 3);

	c.keys = false;
	memcpy(buf, ((uint8_t[]){1, 'x', 1, 1, 'h'}), 5);
	assert_int_equal(console_filter(&c, buf, 5), 5);
	assert_memory_equal(buf, ((uint8_t[]){1, 'x', 1, 1, 'h'}), 5);
}

/* A frontend that takes four bytes at a time. */
struct port {
	struct chr *chr;
	char got[128];
	size_t n;
};

static void port_receive(void *ctx, const uint8_t *data, size_t len)
{
	struct port *p = ctx;

	assert_true(len <= 4);
	memcpy(p->got + p->n, data, len);
	p->n += len;
}

static void typed_text_arrives_in_pieces(void **state)
{
	struct port p = {.n = 0};
	struct loop *loop;
	struct chr *inner;

	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(chr_buffer_new(&inner, NULL), 0);
	assert_int_equal(typist_new(&p.chr, inner, loop, NULL), 0);
	p.chr->receive = port_receive;
	p.chr->receive_ctx = &p;
	assert_int_equal(loop_start(loop, NULL), 0);
	loop_lock(loop);
	chr_set_room(p.chr, 4);
	typist_type(p.chr, "stty rows 50");
	/* Keyed in while text is being typed: comes after it. */
	chr_buffer_input(inner, (const uint8_t *)"xy", 2);
	loop_unlock(loop);
	for (int i = 0; i < 2000; i++) {
		size_t n;

		loop_lock(loop);
		n = p.n;
		chr_set_room(p.chr, 4);
		loop_unlock(loop);
		if (n == 14)
			break;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	loop_stop(loop);
	assert_int_equal(p.n, 14);
	assert_memory_equal(p.got, "stty rows 50xy", 14);
	chr_free(p.chr);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_lines_are_refused),
		cmocka_unit_test(control_characters_stay_on_one_line),
		cmocka_unit_test(defaults_are_set),
		cmocka_unit_test(values_are_taken_in_every_form),
		cmocka_unit_test(engine_options_are_taken),
		cmocka_unit_test(assists_are_listed),
		cmocka_unit_test(sizes_are_checked),
		cmocka_unit_test(help_names_every_command_and_option),
		cmocka_unit_test(help_is_narrow),
		cmocka_unit_test(generated_texts_are_complete),
		cmocka_unit_test(table_is_sound),
		cmocka_unit_test(cpu_lists), cmocka_unit_test(exit_statuses),
		cmocka_unit_test(machines_in_words),
		cmocka_unit_test(json_is_json),
		cmocka_unit_test(escape_keys),
		cmocka_unit_test(typed_text_arrives_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
