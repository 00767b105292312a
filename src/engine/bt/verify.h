/* verify.h - lock-step verification (--verify): verify.c has the theory, verify_text.c the report. */
#ifndef RINGER_ENGINE_BT_VERIFY_H
#define RINGER_ENGINE_BT_VERIFY_H

#include "engine/bt/translate.h"

/* What an instruction writes to memory. */
enum verify_write { WRITES_NOTHING, WRITES_OPERAND, WRITES_BITS, WRITES_STACK, WRITES_STRING };

struct verify_insn {
	struct cpu_op op;
	uint8_t live;    /* status flags that are wanted before it */
	uint8_t write;   /* enum verify_write */
	bool special;    /* C code that both engines share executes it, once */
};

/* What is known of a translated block. */
struct verify_block {
	unsigned n;
	uint32_t runs;   /* of it that were verified */
	bool fpu;        /* it may touch x87 or vector state */
	struct verify_insn insn[];
};

/* Registers of the vCPU up to its extended state. */
#define VERIFY_REGS offsetof(struct vcpu, fpu_live)

struct verify_image {
	_Alignas(64) uint8_t regs[VERIFY_REGS];
	struct fpu_state fpu;
	uint32_t mxcsr;
};

/* Why the interpreter went no further. */
enum verify_end {
	END_LIMIT,   /* it was told to */
	END_LEFT,    /* a jump out of the block */
	END_SPECIAL, /* before an instruction that is not compared, or that writes to code */
	END_FAULT,   /* the next instruction faults */
	END_DEVICE,  /* the next instruction would access a device */
	END_FULL,    /* too much is written to take back: nothing is compared */
};

/* A block that has run so often in lock-step does so only every so many times from then on. */
#define VERIFY_OFTEN 2000u
#define VERIFY_SAMPLE 64u

#define VERIFY_SPANS 4096u
#define VERIFY_BYTES KIB(256)

/* Guest memory that the interpreter wrote. */
struct verify_span {
	uint64_t gpa;
	uint32_t len, at; /* in old[] and mine[] */
};

struct verify {
	struct verify_block **block; /* by id */
	uint64_t n_ids;
	/* The segment that is being verified: instructions of a block from `from` on. */
	bool active;
	uint32_t id;
	unsigned from;
	struct verify_image start, mine, theirs; /* mine: the interpreter's; theirs: the translation's */
	unsigned done;            /* instructions that the interpreter executed */
	enum verify_end end;
	struct cpu_event event;   /* of END_FAULT */
	unsigned n_spans;
	uint32_t n_bytes;
	struct verify_span span[VERIFY_SPANS];
	uint8_t old[VERIFY_BYTES], my_bytes[VERIFY_BYTES], their_bytes[VERIFY_BYTES];
	char text[16384];         /* the report */
};

/* A register that is compared. */
struct verify_field {
	const char *name;
	uint16_t at, size; /* in struct vcpu */
};
extern const struct verify_field verify_fields[];
extern const unsigned verify_field_count;

/* verify_text.c: fills text, and calls engine_config.report. what: in which way they differ */
void verify_report(struct bt *bt, const struct block *b, unsigned done, const char *what);

#endif
