/*
 * run.c - `ringer run`: a machine from options to exit status.
 *
 * Order matters: signals are caught before the engine installs its own handlers, the terminal
 * becomes raw when everything that can fail has not, and results are printed when the guest's last
 * output is out and the terminal is the user's again.
 */
#include "cli/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/codelog.h"
#include "cli/console.h"
#include "cli/engine_options.h"
#include "cli/difference.h"
#include "cli/firstout.h"
#include "cli/json.h"
#include "cli/outwatch.h"
#include "cli/progress.h"
#include "cli/relay.h"
#include "cli/schedtrace.h"
#include "cli/stats.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "control/control.h"
#include "control/place.h"

struct run {
	struct cli *cli;
	const struct cli_call *call;
	const struct run_options *o;
	struct loop *loop;
	struct vm *vm;
	struct control *control; /* NULL: there is none */
	struct console console;
	struct outwatch outwatch;
	struct progress progress;
	struct codelog codelog;
	struct schedtrace schedtrace;
	bool logs_code;
	struct stats stats;
	struct vm_stats figures; /* at the end */
};

static bool same_file(const struct chr_spec *a, const struct chr_spec *b)
{
	return a->kind == CHR_SPEC_FILE && b->kind == CHR_SPEC_FILE && !strcmp(a->path, b->path);
}

/* "150%" or "150"; 0: none given. */
static int parse_cap(const char *text, unsigned *percent, struct err *err)
{
	unsigned long n;
	char *end;

	*percent = 0;
	if (!text)
		return 0;
	n = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
	if (!n || n > VM_CPUS_MAX * 100 || strcmp(end, *end == '%' ? "%" : ""))
		return err_set(err, EINVAL, "run: --cpu-cap: '%.32s' is no share of processors; write it like 50%% or "
			       "150%%, up to %d%%", text, VM_CPUS_MAX * 100);
	*percent = (unsigned)n;
	return 0;
}

int run_check(const struct cli_call *call, struct err *err)
{
	const struct run_options *o = &call->o.run;
	unsigned percent;

	if (o->name && place_check_name(o->name, err)) {
		err_prefix(err, "run: --name");
		return -EINVAL;
	}
	if (same_file(&o->serial, &o->debugcon))
		return err_set(err, EINVAL,
			       "run: --serial and --debugcon contradict each other: both "
			       "write '%.128s'; give each its own file",
			       o->serial.path);
	if (o->trace && !strcmp(o->trace, "sched"))
		return err_set(err, EINVAL, "run: --trace sched needs a file: --trace sched=FILE");
	if (o->max_cpus && o->max_cpus < o->cpus)
		return err_set(err, EINVAL,
			       "run: --max-cpus %llu contradicts --cpus %llu: at most so many "
			       "processors, and already more",
			       (unsigned long long)o->max_cpus, (unsigned long long)o->cpus);
	if (o->bt.verify && (o->cpus > 1 || o->max_cpus > 1))
		return err_set(err, EINVAL,
			       "run: --verify contradicts more than one processor: each block is "
			       "executed twice, and others would see both");
	if (o->json && o->serial.kind == CHR_SPEC_STDIO)
		return err_set(err, EINVAL,
			       "run: --json contradicts --serial stdio: the result goes to "
			       "standard output; add --serial file:PATH or --serial null");
	if (o->json && o->debugcon.kind == CHR_SPEC_STDIO)
		return err_set(err, EINVAL,
			       "run: --json contradicts --debugcon stdio: the result goes "
			       "to standard output; use --debugcon file:PATH");
	return parse_cap(o->cpu_cap, &percent, err);
}

int run_status(const struct vm_result *r)
{
	switch (r->end) {
	case VM_END_POWEROFF:
	case VM_END_RESET:
	case VM_END_STOPPED:
		return CLI_OK;
	case VM_END_DEBUG_EXIT:
		return (int)((r->value << 1 | 1) & 0xff);
	case VM_END_TRIPLE_FAULT:
		return CLI_TRIPLE_FAULT;
	case VM_END_ERROR:
		break;
	}
	return CLI_HOST;
}

const char *run_end_name(enum vm_end end)
{
	static const char *const names[] = {"poweroff",     "reset",   "debug-exit",
					    "triple-fault", "stopped", "error"};

	return (unsigned)end < ARRAY_SIZE(names) ? names[end] : "unknown";
}

int run_setup_status(int rc)
{
	static const int usage[] = {EINVAL, ENOEXEC, EFBIG,   ENOENT, EACCES,
				    EPERM,  EEXIST, EISDIR,  ENOTDIR, ELOOP,  ENAMETOOLONG};

	for (size_t i = 0; i < ARRAY_SIZE(usage); i++)
		if (rc == -usage[i])
			return CLI_USAGE;
	return CLI_HOST;
}

/* Any thread; one write() per line, so that lines do not mix. */
static void log_line(void *ctx, enum log_level level, const char *line)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	char text[640];
	int n = snprintf(text, sizeof(text), "ringer: %s: %.512s%s", names[level], line,
			 terminal_eol(STDERR_FILENO));

	if (write(STDERR_FILENO, text, (size_t)n) < 0) {
		/* Nobody to tell. */
	}
}

static int open_chr(struct run *r, const struct chr_spec *spec, struct chr **out, struct err *err)
{
	switch (spec->kind) {
	case CHR_SPEC_FILE:
		return chr_file_new(out, spec->path, err);
	case CHR_SPEC_STDIO:
		return chr_stdio_new(out, r->loop, NULL, NULL, err);
	case CHR_SPEC_NULL:
		break;
	}
	return chr_null_new(out, err);
}

/* The serial port's first byte is timed. */
static int note_first_output(struct run *r, struct vm_config *config, struct err *err)
{
	int rc = firstout_new(&config->serial, config->serial, &r->stats.first_ns, err);

	if (rc)
		chr_free(config->debugcon);
	return rc;
}

/* Both backends, or none. */
static int open_backends(struct run *r, struct vm_config *config, struct err *err)
{
	const struct run_options *o = r->o;
	bool console = o->serial.kind == CHR_SPEC_STDIO;
	int rc;

	if (console) {
		rc = console_init(&r->console, r->loop, err);
		config->serial = rc ? NULL : r->console.chr;
	} else {
		rc = open_chr(r, &o->serial, &config->serial, err);
	}
	if (rc)
		return rc;
	/* Standard output has one writer, so that lines of both keep their order. */
	if (console && o->debugcon.kind == CHR_SPEC_STDIO)
		rc = relay_new(&config->debugcon, config->serial, err);
	else if (o->debugcon.kind != CHR_SPEC_NULL)
		rc = open_chr(r, &o->debugcon, &config->debugcon, err);
	if (rc)
		chr_free(config->serial);
	if (!rc)
		rc = note_first_output(r, config, err);
	return rc;
}

static bool traces_sched(const struct run_options *o)
{
	return o->trace && !strncmp(o->trace, "sched", 5);
}

/* --trace sched */
static int trace_sched(struct run *r, struct err *err)
{
	return traces_sched(r->o) ? schedtrace_open(&r->schedtrace, strchr(r->o->trace, '=') + 1, err) : 0;
}

/* --trace bt and --perf. */
static int log_code(struct run *r, struct engine_config *config, struct err *err)
{
	const struct run_options *o = r->o;
	bool blocks = o->trace && !traces_sched(o);
	const char *file = blocks ? strchr(o->trace, '=') : NULL;
	const struct codelog_config c = {
		.trace = file ? file + 1 : blocks ? "" : NULL,
		.perf = o->perf,
		.symbols = o->symbols,
		.kernel = o->kernel,
	};
	int rc;

	if (!c.trace && !c.perf)
		return 0;
	rc = codelog_open(&r->codelog, &c, err);
	if (rc)
		return rc;
	r->logs_code = true;
	config->translated = codelog_block;
	config->ctx = &r->codelog;
	return 0;
}

/* A name that was made up: without it a machine runs as well. */
static int do_without_control(struct run *r, struct err *err)
{
	fprintf(r->cli->err, "ringer: warning: no control socket: %s\n", err->text);
	control_free(r->control);
	r->control = NULL;
	return 0;
}

static int take_name(struct run *r, struct err *err)
{
	char name[32];
	int rc;

	if (!r->o->name)
		control_default_name(name, sizeof(name));
	rc = control_open(&r->control, r->o->name ? r->o->name : name, err);
	return rc && !r->o->name ? do_without_control(r, err) : rc;
}

static int start_control(struct run *r, struct err *err)
{
	const struct control_config config = {
		.version = ringer_version,
		.kernel = r->o->kernel,
		.initrd = r->o->initrd,
		.cmdline = r->o->append,
	};

	int rc = r->control ? control_start(r->control, r->vm, &config, err) : 0;

	return rc && !r->o->name ? do_without_control(r, err) : rc;
}

static int make_machine(struct run *r, struct err *err)
{
	const struct run_options *o = r->o;
	struct vm_config config = {
		.kernel = o->kernel,
		.initrd = o->initrd,
		.cmdline = o->append,
		.ram = o->memory,
		.cpus = (unsigned)o->cpus,
		.max_cpus = (unsigned)o->max_cpus,
		.nice = (unsigned)o->nice,
		.halt_poll = (unsigned)o->halt_poll,
		.sched = sched_policies[o->sched]->name,
		.sched_slots = (unsigned)o->sched_slots,
		.sched_slice_ns = o->sched_slice * 1000,
		.engine = o->engine,
		.cpu = o->cpu,
		.boot = (enum vm_boot)o->boot,
		.debug_exit = o->debug_exit,
		.reset_on_triple_fault = o->triple_fault == 1,
		.no_reboot = o->no_reboot,
		.log = {.sink = log_line, .level = (enum log_level)o->log},
		.progress = progress_show,
		.progress_ctx = &r->progress,
	};
	const struct engine_ops *engine;
	int rc = engine_options_check(r->call, o->engine, &engine, err);

	if (!rc)
		rc = parse_cap(o->cpu_cap, &config.cpu_cap, err);
	engine_options_fill(&o->bt, &config.engine_config);
	config.engine_config.report = difference_report;
	if (!rc && o->pin)
		rc = cpulist_parse(o->pin, config.pin, ARRAY_SIZE(config.pin), &config.n_pins, err);
	if (!rc)
		rc = take_name(r, err);
	if (!rc)
		rc = log_code(r, &config.engine_config, err);
	if (!rc)
		rc = trace_sched(r, err);
	if (!rc)
		rc = loop_new(&r->loop, err);
	if (!rc)
		rc = open_backends(r, &config, err);
	if (rc)
		return rc;
	progress_init(&r->progress, r->cli->err);
	rc = vm_new(&r->vm, &config, r->loop, err);
	progress_end(&r->progress);
	return rc;
}

static bool uses_stdio(const struct run_options *o)
{
	return o->serial.kind == CHR_SPEC_STDIO || o->debugcon.kind == CHR_SPEC_STDIO;
}

static void stop_machine(void *ctx)
{
	vm_stop(ctx);
}

static int start(struct run *r, struct err *err)
{
	int rc = 0;

	signals_on_stop(stop_machine, r->vm);
	if (r->o->serial.kind == CHR_SPEC_STDIO)
		rc = console_start(&r->console, r->vm, err);
	if (uses_stdio(r->o))
		outwatch_start(&r->outwatch, r->vm, r->loop);
	if (!rc)
		rc = loop_start(r->loop, err);
	if (!rc)
		rc = stats_start(&r->stats, r->vm, err);
	if (!rc)
		rc = schedtrace_start(&r->schedtrace, r->vm, err);
	return rc ? rc : start_control(r, err);
}

/*
 * In this order: no callback runs any more, the guest's last output is written, the terminal is
 * restored.
 */
static void finish(struct run *r)
{
	struct err err = {""};

	if (r->loop)
		loop_stop(r->loop);
	console_fini(&r->console);
	stats_fini(&r->stats);
	if (schedtrace_close(&r->schedtrace, &err))
		cli_fail(r->cli, CLI_HOST, "%s", err.text);
	outwatch_stop(&r->outwatch);
	signals_on_stop(NULL, NULL);
	control_free(r->control);
	if (r->vm)
		vm_free(r->vm);
	loop_free(r->loop);
	if (r->logs_code && codelog_close(&r->codelog, &err))
		cli_fail(r->cli, CLI_HOST, "%s", err.text);
	terminal_restore();
}

static int print_json(struct run *r, const struct vm_result *res, int status)
{
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "end", run_end_name(res->end));
	cJSON_AddNumberToObject(j, "status", status);
	if (res->end == VM_END_DEBUG_EXIT)
		cJSON_AddNumberToObject(j, "value", res->value);
	cJSON_AddStringToObject(j, "reason", res->reason);
	if (r->stats.counts_insns)
		cJSON_AddNumberToObject(j, "instructions", (double)res->insns);
	else
		cJSON_AddNullToObject(j, "instructions");
	cJSON_AddNumberToObject(j, "seconds", (double)(r->stats.end_ns - r->stats.run_ns) / 1e9);
	cJSON_AddNumberToObject(j, "resets", res->resets);
	if (res->dump[0])
		cJSON_AddStringToObject(j, "registers", res->dump);
	if (r->o->stats)
		cJSON_AddItemToObject(j, "stats", stats_json(&r->stats, &r->figures));
	return json_print(r->cli, j);
}

static int report(struct run *r, const struct vm_result *res)
{
	struct cli *cli = r->cli;
	int status = run_status(res), rc = CLI_OK;

	if (res->end == VM_END_STOPPED && atomic_load(&r->outwatch.closed))
		status = cli_fail(cli, CLI_HOST,
				  "standard output was closed by its reader: the machine "
				  "is stopped");
	if (res->end == VM_END_TRIPLE_FAULT || res->end == VM_END_ERROR) {
		cli_fail(cli, status, "%s", res->reason);
		fputs(res->dump, cli->err);
	} else if (atomic_load(&r->console.quit)) {
		/* The shell's prompt belongs on a line of its own. */
		fputs("\nringer: ended by Ctrl-A x\n", cli->err);
	}
	if (r->o->json)
		rc = print_json(r, res, status);
	else if (r->o->stats)
		stats_print(&r->stats, &r->figures, cli->err);
	return rc ? rc : status;
}

int cmd_run(struct cli *cli, const struct cli_call *call)
{
	struct run r = {.cli = cli, .call = call, .o = &call->o.run};
	struct vm_result res = {.end = VM_END_ERROR};
	struct err err = {""};
	int status = CLI_HOST, rc = signals_catch(&err);

	stats_init(&r.stats, r.o->json);
	if (!rc && (rc = make_machine(&r, &err)))
		status = run_setup_status(rc);
	if (!rc)
		rc = start(&r, &err);
	if (!rc) {
		vm_run(r.vm, &res);
		r.stats.end_ns = host_now_ns();
		vm_stats(r.vm, &r.figures);
		if (r.control)
			control_ended(r.control, run_end_name(res.end), res.reason);
	}
	finish(&r);
	status = rc ? cli_fail(cli, status, "%s", err.text) : report(&r, &res);
	if (signals_caught()) {
		fflush(NULL);
		signals_die(signals_caught());
	}
	return status;
}
