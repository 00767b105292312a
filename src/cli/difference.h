/* difference.h - what --verify found, for people. */
#ifndef RINGER_CLI_DIFFERENCE_H
#define RINGER_CLI_DIFFERENCE_H

#include "cpu/engine.h"

/* engine_config.report: both states and the block's code, guest and host side by side, on standard error. */
void difference_report(void *ctx, const struct engine_block *b, const char *text);

#endif
