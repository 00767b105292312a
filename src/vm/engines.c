/*
 * engines.c - the engines built in, the best first: "auto" is the first that works on this host.
 * Leaving one out means leaving out its line and its library.
 */
#include "vm/vm.h"

#include "engine/bt/bt.h"
#include "engine/interp/engine.h"

const struct engine_ops *const vm_engines[] = {&bt_engine, &interp_engine, NULL};
