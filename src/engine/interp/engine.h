/* engine.h - the interpreter as an engine of its own: the oracle for the others. */
#ifndef RINGER_ENGINE_INTERP_ENGINE_H
#define RINGER_ENGINE_INTERP_ENGINE_H

#include "cpu/engine.h"

extern const struct engine_ops interp_engine;

#endif
