#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_msg(const struct log *log, enum log_level level, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (!log || !log->sink || level > log->level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log->sink(log->ctx, level, line);
}
