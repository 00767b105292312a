/* bt.h - the binary translator, as an engine. Theory of operation: internal.h. */
#ifndef RINGER_ENGINE_BT_BT_H
#define RINGER_ENGINE_BT_BT_H

#include "cpu/engine.h"

extern const struct engine_ops bt_engine;

#endif
