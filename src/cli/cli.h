/*
 * cli.h - the `ringer` command.
 *
 * One table (table.c) says what commands and options there are. Parsing, help, the manual page and
 * shell completion are generated from it: a new option is one row there and one field here, a new
 * command one row and its run function.
 */
#ifndef RINGER_CLI_CLI_H
#define RINGER_CLI_CLI_H

#include <stdio.h>

#include "base/base.h"
#include "base/err.h"

/* Exit statuses. A signal ends the process by that signal, after the terminal is restored. */
enum cli_exit {
	CLI_OK = 0,
	CLI_HOST = 1,  /* the host or the engine failed */
	CLI_USAGE = 2, /* the command line or an image is wrong */
	CLI_TRIPLE_FAULT = 3,
	CLI_NO_ANSWER = 4, /* a running machine does not answer, or does not do it in time */
};

/* Where a command's output goes. Tests put memory streams here. */
struct cli {
	FILE *out, *err;
};

/* i-th name of a list and what it means (may become NULL); NULL past the end. */
typedef const char *cli_list_fn(unsigned i, const char **text);

enum opt_kind {
	OPT_FLAG,   /* bool; takes no value */
	OPT_TEXT,   /* const char *: any text */
	OPT_FILE,   /* const char *: a path, not empty */
	OPT_SIZE,   /* uint64_t bytes: number with K, M, G or T */
	OPT_NUMBER, /* uint64_t: decimal */
	OPT_CPUS,   /* const char *: numbers and ranges, "0,2-3" */
	OPT_CHOICE, /* unsigned: position in the list */
	OPT_NAME,   /* const char *: a name of the list */
	OPT_LIST,   /* const char *: names of the list, with commas between them */
	OPT_CHR,    /* struct chr_spec: stdio, null, file:PATH */
};

struct cli_option {
	const char *name; /* without the dashes */
	char letter;      /* short form, or 0 */
	enum opt_kind kind;
	bool required;
	const char *value;          /* the value's name in help */
	const char *def;            /* default, parsed as if it were given; NULL: zero */
	const char *const *choices; /* OPT_CHOICE, OPT_NAME: NULL-terminated; or list */
	cli_list_fn *list;
	bool more; /* OPT_NAME: after a comma the value may go on, for others to check */
	bool file; /* OPT_NAME: "=FILE" may follow the name */
	/*
	 * OPT_LIST: names from this one on need + or - before them; 0: none does. A name that ends in '=' takes a
	 * number after it, at least 1.
	 */
	unsigned signed_from;
	uint64_t min, max, step; /* OPT_SIZE; without step: OPT_NUMBER */
	const char *conflicts; /* names of options, separated by spaces, that contradict this one */
	const char *needs;     /* likewise: at least one of them must be given */
	size_t offset;         /* of the field in struct cli_options */
	const char *help;
};

struct chr_spec {
	enum chr_spec_kind { CHR_SPEC_NULL, CHR_SPEC_STDIO, CHR_SPEC_FILE } kind;
	const char *path; /* CHR_SPEC_FILE */
};

/* What an engine that translates may be told. */
struct engine_options {
	uint64_t bt_cache;
	const char *assist, *stress; /* NULL: all assists, no stress */
	bool verify;
};

struct run_options {
	const char *kernel, *initrd, *append, *engine, *cpu;
	const char *name; /* NULL: one is made up */
	uint64_t memory, cpus, max_cpus, nice, halt_poll, sched_slots, sched_slice;
	unsigned sched;      /* position in sched_policies */
	const char *cpu_cap; /* "150%"; NULL: none */
	const char *pin; /* a list of host CPUs; NULL: any */
	struct chr_spec serial, debugcon;
	unsigned boot;         /* enum vm_boot */
	unsigned log;          /* enum log_level */
	unsigned triple_fault; /* 0: stop, 1: reset */
	bool debug_exit, no_reboot, json, stats;
	struct engine_options bt;
	const char *trace; /* "bt" or "bt=FILE"; NULL: nothing */
	unsigned perf;     /* enum perf_where */
	const char *symbols;
};

struct translate_options {
	const char *engine;
	struct engine_options bt;
	unsigned mode; /* 0: user, 1: kernel */
	bool run;
};

struct assists_options {
	bool json;
};

struct doctor_options {
	bool json;
};

struct insn_options {
	const char *hex;
	unsigned mode; /* enum x86_mode */
	unsigned cls;  /* enum insn_class */
	bool list, json;
};

/* What is said to a running machine. */
struct machine_options {
	bool json, quiet, counters, force;
	uint64_t timeout; /* seconds */
};

struct version_options {
	bool json;
};

struct help_options {
	bool man;
	const char *completion;
};

/* The option values of whichever command was given. */
struct cli_options {
	union {
		struct run_options run;
		struct doctor_options doctor;
		struct translate_options translate;
		struct assists_options assists;
		struct insn_options insn;
		struct machine_options machine;
		struct version_options version;
		struct help_options help;
	};
};

#define CLI_MAX_ARGS 32

struct cli_command;

/* A parsed command line. Strings belong to argv or to the table. */
struct cli_call {
	const struct cli_command *cmd;
	bool help;      /* --help: print the command's help instead */
	uint64_t given; /* bit i: the i-th option was on the command line */
	unsigned n_args;
	const char *args[CLI_MAX_ARGS];
	struct cli_options o;
};

/* More to say about a command: a titled list, for help and the manual page. */
struct cli_section {
	const char *title;
	cli_list_fn *list;
};

struct cli_command {
	const char *name;
	const char *summary;                /* one line */
	const char *args;                   /* positional arguments in help; NULL: none are taken */
	cli_list_fn *arg_list;              /* what completes them; NULL: nothing does, but for: */
	bool arg_files;                     /* file names */
	bool arg_machines;                  /* names of running machines */
	const char *description;            /* a paragraph */
	const struct cli_option *options;   /* ends with a NULL name; at most 64 */
	const struct cli_section *sections; /* ends with a NULL title; may be NULL */
	const char *const *examples;        /* NULL-terminated; may be NULL */
	/* Contradictions that the rows cannot say; may be NULL. */
	int (*check)(const struct cli_call *call, struct err *err);
	int (*run)(struct cli *cli, const struct cli_call *call); /* returns the exit status */
};

/* table.c */
extern const struct cli_command cli_commands[]; /* ends with a NULL name */
extern const struct cli_option cli_help_option; /* --help, which every command has */
const struct cli_command *cli_find_command(const char *name);
/* Index of the command's option of that name (len bytes), -1 when there is none. */
int cli_find_option(const struct cli_command *cmd, const char *name, size_t len);
/* i-th value that an option of a listed kind can have; NULL past the end. */
const char *cli_choice(const struct cli_option *opt, unsigned i, const char **text);
bool cli_given(const struct cli_call *call, const char *option);
cli_list_fn cli_command_list;

/* parse.c: argv without the program's name. -EINVAL with one line that says what to do. */
int cli_parse(struct cli_call *call, int argc, char *const *argv, struct err *err) must_check;

/* list.c: comma lists. Whether every word is one of the option's; -EINVAL. */
int list_check(const struct cli_option *opt, const char *value, struct err *err) must_check;
/* Takes the next word out of *list, cut to the buffer; false at the end. */
bool list_next(const char **list, char *word, size_t len);

/* size.c: "512M" to bytes and back. Every byte of text must belong to the size. */
int size_parse(const char *text, uint64_t *bytes) must_check; /* -EINVAL, -ERANGE */
const char *size_text(char buf[32], uint64_t bytes);          /* exact */

/*
 * cpulist.c: "0,2-3" to numbers below CLI_HOST_CPUS, as many as there is room for; out and n may be NULL. -EINVAL:
 * it is no such list.
 */
#define CLI_HOST_CPUS 1024
int cpulist_parse(const char *text, uint16_t *out, unsigned room, unsigned *n,
		  struct err *err) must_check;

/* Generators: help.c, man.c, completion.c. cmd may be NULL: all of `ringer`. */
void cli_print_help(FILE *out, const struct cli_command *cmd);
void cli_print_man(FILE *out);
int cli_print_completion(FILE *out, const char *shell); /* bash, zsh, fish */
/* "--kernel FILE", "-m, --memory SIZE" */
void cli_option_term(char *buf, size_t len, const struct cli_option *opt);
extern const char cli_about[];

/* text.c: paragraphs at most 79 columns wide. The cursor is at column `at`; ends the line. */
void text_wrap(FILE *out, unsigned indent, unsigned at, const char *text);
/* A term and what it means, in two columns. */
void text_row(FILE *out, unsigned column, const char *term, const char *text);

/* Prints "ringer: ..." as one line of printable characters, and returns status. */
int cli_fail(struct cli *cli, int status, const char *fmt, ...) printf_like(3, 4);

/* The commands. */
int cmd_run(struct cli *cli, const struct cli_call *call);
int cmd_doctor(struct cli *cli, const struct cli_call *call);
int cmd_assists(struct cli *cli, const struct cli_call *call);
int cmd_translate(struct cli *cli, const struct cli_call *call);
int cmd_insn(struct cli *cli, const struct cli_call *call);
int cmd_ps(struct cli *cli, const struct cli_call *call);
int cmd_info(struct cli *cli, const struct cli_call *call);
int cmd_pause(struct cli *cli, const struct cli_call *call);
int cmd_resume(struct cli *cli, const struct cli_call *call);
int cmd_stop(struct cli *cli, const struct cli_call *call);
int cmd_cpus(struct cli *cli, const struct cli_call *call);
int cmd_version(struct cli *cli, const struct cli_call *call);
int cmd_help(struct cli *cli, const struct cli_call *call);
int run_check(const struct cli_call *call, struct err *err);
int translate_check(const struct cli_call *call, struct err *err);
int machine_check(const struct cli_call *call, struct err *err); /* one argument */
int cpus_check(const struct cli_call *call, struct err *err);
int insn_check(const struct cli_call *call, struct err *err);
int help_check(const struct cli_call *call, struct err *err);

/* Parses and runs; returns the exit status. argv includes the program's name. */
int cli_main(struct cli *cli, int argc, char *const *argv);

#endif
