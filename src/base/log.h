/*
 * log.h - messages about a running machine, for its owner to read.
 *
 * A log belongs to one machine (there is no global one). The sink is called with one finished line
 * without newline, from any thread; it must be thread-safe and must not call back into the machine.
 */
#ifndef RINGER_BASE_LOG_H
#define RINGER_BASE_LOG_H

#include "base/base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
	void (*sink)(void *ctx, enum log_level level, const char *line);
	void *ctx;
	enum log_level level; /* messages above this level are dropped before formatting */
};

/* log may be NULL: the message is dropped. */
void log_msg(const struct log *log, enum log_level level, const char *fmt, ...) printf_like(3, 4);

#define log_error(log, ...) log_msg(log, LOG_ERROR, __VA_ARGS__)
#define log_warn(log, ...) log_msg(log, LOG_WARN, __VA_ARGS__)
#define log_info(log, ...) log_msg(log, LOG_INFO, __VA_ARGS__)
#define log_debug(log, ...) log_msg(log, LOG_DEBUG, __VA_ARGS__)

#endif
