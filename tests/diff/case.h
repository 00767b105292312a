/*
 * case.h - a differential test case, its result, and the interfaces between the generator, the side
 * that runs cases on the host CPU, and the side that runs them on an engine.
 *
 * A case is a starting state and some code. Everything in it follows from (seed, number), so a case
 * can be replayed alone. Both sides map the same pages at the same linear addresses:
 *
 *   code (RWX), then nothing; data: RW, RW, read-only, nothing around; stack: RW, RW, nothing
 * around; high data above 4 GiB: RW, read-only.
 */
#ifndef RINGER_DIFF_CASE_H
#define RINGER_DIFF_CASE_H

#include <stdio.h>

#include "base/base.h"
#include "layout.h"
#include "x86/cpuid.h"
#include "x86/insn.h"
#include "x86/x86.h"

#define DIFF_PAGE 4096u
#define DIFF_DATA 0x2134f000ULL
#define DIFF_STACK 0x335d2000ULL
#define DIFF_HIGH 0x6f550bad2000ULL
#define DIFF_FS32_BASE (DIFF_DATA + 0x400)
#define DIFF_GS32_BASE (DIFF_STACK + 0x800)

/* The pages that the two sides compare. */
enum {
	ARENA_DATA,
	ARENA_DATA2,
	ARENA_RO,
	ARENA_STACK,
	ARENA_STACK2,
	ARENA_HIGH,
	ARENA_HIGH_RO,
	ARENA_PAGES
};
#define ARENA_SIZE (ARENA_PAGES * DIFF_PAGE)

struct arena_page {
	uint64_t va;
	bool ro;
};
extern const struct arena_page arena_page[ARENA_PAGES];

enum {
	DIFF_TEMPLATES = 8,
	DIFF_IMAGES = 64,
	DIFF_IMAGE_SIZE = 2752,
	DIFF_BATCH = 256,
	DIFF_CODE_MAX = 1600, /* with the exit jump */
	DIFF_CASE_CODE = 1536
};

/* Laid out as struct fpu_state is: an FXSAVE64 image for x87 and MXCSR, vector and mask registers
 * whole. */
struct diff_fpu {
	_Alignas(64) uint8_t fx[512];
	_Alignas(64) uint8_t zmm[32][64];
	uint64_t k[8];
};

struct diff_poke {
	uint64_t addr, value;
	uint32_t len;
};

enum diff_kind {
	DIFF_FORM,     /* one instruction */
	DIFF_MUTATED,  /* one instruction with damaged bytes */
	DIFF_SEQUENCE, /* a few, with skips and LOOP; in 32-bit mode too */
	DIFF_BLOCK,    /* 2 to 24, straight on */
	DIFF_LOOP,     /* blocks that jump to, call and return to each other */
	DIFF_KINDS
};

/* Mismatch classes a case may be excused for; see compare.c. */
enum {
	CASE_INVALID = 1 << 0, /* the decoder calls the bytes invalid */
	CASE_IMAGE =
		1
		<< 1, /* makes several accesses in an order of its own: state images, IRET, CALL */
	CASE_XSAVE =
		1 << 2, /* writes an XSAVE image: XSTATE_BV follows what the CPU tracks as in use */
};

struct diff_case {
	uint64_t number;
	uint32_t form;
	uint8_t kind, mode; /* enum diff_kind; enum x86_mode */
	uint8_t template, flags;
	uint16_t code_len;
	uint8_t code[DIFF_CASE_CODE];       /* without the exit jump */
	uint8_t pinned[DIFF_CASE_CODE / 8]; /* bytes (a bit each) that the shrinker must leave */
	bool with_exit;    /* false: the code runs up to the end of the mapped code */
	uint32_t code_off; /* from DIFF_CODE */
	uint64_t gpr[16], rflags, fs_base, gs_base;
	uint32_t undefined; /* flags that the code leaves undefined */
	uint32_t npokes;
	struct diff_poke poke[24];
	bool smc;               /* writes to its own code */
	bool warm;              /* the engine runs it twice; the second run counts */
	uint32_t image;         /* XSAVE image to put at image_addr; DIFF_IMAGES: none */
	uint64_t image_addr;    /* also where a CASE_XSAVE instruction writes; 0: not known */
	ZydisMnemonic mnemonic; /* of the (first) instruction under test */
	struct diff_fpu fpu;
};

enum diff_outcome {
	OUT_NONE,    /* did not run */
	OUT_EXIT,    /* reached the exit */
	OUT_FAULT,   /* an exception: vector, error, cr2 */
	OUT_TIMEOUT, /* still running after the time or instruction budget */
	OUT_BROKEN,  /* the side itself failed */
};

enum { DIFF_DIRTY_MAX = 96 };

struct diff_line {
	uint32_t index; /* arena offset / 64 */
	uint8_t data[64];
};

struct diff_result {
	uint8_t outcome, vector;
	uint16_t cs, ss, ds, es, fs, gs;
	uint32_t error;
	uint64_t cr2, rip, rflags, gpr[16], fs_base, gs_base;
	struct diff_fpu fpu;
	uint32_t ndirty; /* lines that differ from the template; those past DIFF_DIRTY_MAX only
			    count */
	struct diff_line dirty[DIFF_DIRTY_MAX];
	char why[160]; /* OUT_BROKEN */
};

/* Shared between the harness and the child that runs cases natively. */
struct diff_shared {
	uint8_t template[DIFF_TEMPLATES][ARENA_SIZE]; /* read-only pages are the same in all */
	uint8_t image[DIFF_IMAGES][DIFF_IMAGE_SIZE];
	struct cpu_model model;
	bool x87_pointers;         /* FOP, FIP and FDP may differ: they are counted */
	uint32_t count;            /* of cases in this batch */
	_Atomic uint32_t progress; /* the case being run */
	struct diff_case cases[DIFF_BATCH];
	struct diff_result native[DIFF_BATCH];
};

/* Puts the pokes and the image of a case into the pages; bytes off the writable pages are left out.
 */
void case_poke(const struct diff_shared *sh, const struct diff_case *c,
	       uint8_t *pages[ARENA_PAGES]);
/* Code with its exit jump as it lies at DIFF_CODE + code_off. Returns the length. */
size_t case_code(const struct diff_case *c, uint8_t buf[DIFF_CODE_MAX]);
/* Lists what differs between the pages and the template. */
void case_collect(const struct diff_shared *sh, const struct diff_case *c,
		  uint8_t *pages[ARENA_PAGES], struct diff_result *r);

/* XSAVE standard format to and from struct diff_fpu; components absent from XSTATE_BV take initial
 * values. */
void fpu_to_xsave(const struct xstate_layout *x, const struct diff_fpu *f, uint8_t *image);
void fpu_from_xsave(const struct xstate_layout *x, const uint8_t *image, uint64_t xstate_bv,
		    struct diff_fpu *f);

/* native.c: the child. */
struct native;
int native_start(struct native **out, struct diff_shared *sh) must_check;
/* Starts running the batch; native_wait() returns when it is done. A child that died is replaced.
 */
int native_submit(struct native *n) must_check;
int native_wait(struct native *n) must_check;
void native_stop(struct native *n);
uint64_t native_crashes(const struct native *n);

/* engine_side.c. */
struct engine_side;
int engine_side_new(struct engine_side **out, const char *engine, const struct diff_shared *sh,
		    struct err *err) must_check;
void engine_side_free(struct engine_side *e);
void engine_side_run(struct engine_side *e, const struct diff_case *c, struct diff_result *r);

/* compare.c: whether results agree; writes the differences to out when it is not NULL. */
struct diff_verdict {
	bool mismatch;
	bool undefined;    /* they differ in undefined flags alone */
	bool excused;      /* ... in what excuse.c allows alone */
	bool x87_pointers; /* ... in FOP, FIP or FDP, which this run allows */
	bool dead_flags;   /* ... in flags at a fault that the code would have overwritten unread */
	char field[32];    /* the first that differs */
	ZydisMnemonic mnemonic; /* of a mismatch: the instruction that faulted, or the first one */
};
struct diff_verdict case_compare(const struct diff_shared *sh, const struct diff_case *c,
				 const struct diff_result *a, const struct diff_result *b,
				 FILE *out);
extern const char *const gpr_name[16];
/* The first byte of a dirty line; a field of an FXSAVE image. */
uint64_t line_va(uint32_t index);
uint64_t fpu_field(const uint8_t *fx, unsigned at, unsigned len);
/* excuse.c: overwrites what the implementation may choose in the engine's result b with the native
 * a. */
struct diff_excuse {
	ZydisMnemonic mnemonic; /* to blame for what still differs */
	bool whole;             /* the rest cannot be compared */
	uint64_t free_at;       /* memory that may hold anything */
	unsigned free_len;
};
struct diff_excuse case_excuse(const struct diff_case *c, const struct diff_result *a,
			       struct diff_result *b);
/* dead_flags.c: the status flags that the code overwrites from rip on before anything reads them.
 */
uint32_t dead_flags(const struct diff_case *c, uint64_t rip);
/* print.c */
void case_print(const struct diff_case *c, FILE *out);
void result_print(const struct diff_result *r, const char *who, FILE *out);
/* Disassembles the code of a case, one line an instruction; with shrunk, NOPs are left out. */
void case_disassemble(const struct diff_case *c, bool shrunk, FILE *out);
/* Start, native and engine registers side by side. */
void results_print(const struct diff_case *c, const struct diff_result *a,
		   const struct diff_result *b, FILE *out);

#endif
