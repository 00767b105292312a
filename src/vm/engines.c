/* engines.c - the engines built in. Leaving one out means leaving out its line and its library. */
#include "vm/vm.h"

#include "engine/bt/bt.h"
#include "engine/interp/engine.h"

const struct engine_ops *const vm_engines[] = {&interp_engine, &bt_engine, NULL};
