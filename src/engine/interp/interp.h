/* interp.h - the reference interpreter: every mode, every instruction. The oracle for other engines. */
#ifndef RINGER_ENGINE_INTERP_INTERP_H
#define RINGER_ENGINE_INTERP_INTERP_H

#include "cpu/engine.h"

extern const struct engine_ops interp_engine;

#endif
