/* doctor.h - what `ringer doctor` looks at. */
#ifndef RINGER_CLI_DOCTOR_H
#define RINGER_CLI_DOCTOR_H

#include "base/base.h"

enum finding_state {
	FINDING_OK,      /* as Ringer likes it */
	FINDING_NOTE,    /* works, but worth knowing */
	FINDING_PROBLEM, /* machines cannot run */
};

struct finding {
	enum finding_state state;
	char value[192]; /* what is there */
	char why[256];   /* what it means for Ringer, and what to do; may be "" */
};

struct doctor_check {
	const char *name; /* for people */
	const char *key;  /* for JSON */
	void (*look)(struct finding *f);
};

/* doctor_engine.c */
void doctor_code_cache(struct finding *f);
void doctor_assists(struct finding *f);

/* In the order of printing; ends with a NULL name. */
extern const struct doctor_check doctor_checks[];

#endif
