/*
 * light.h - code that leaves the vector and x87 registers alone.
 *
 * An engine may keep the guest's x87, SSE, AVX and AVX-512 state in the hardware while C code runs, if that code is
 * light: the libraries with light_args in their meson.build are compiled for general registers only, their memcpy()
 * and its kin are string_gpr.c's, and what else they call is on the list of tools/check-light.py, with a reason.
 */
#ifndef RINGER_BASE_LIGHT_H
#define RINGER_BASE_LIGHT_H

#include <stdbool.h>

/* False in sanitizer builds, whose runtime is called from everywhere: there no C code may find live state. */
extern const bool light_code;

#endif
