#include "cli/progress.h"

#include <unistd.h>

#include "host/loop.h"

#define QUIET_NS 1000000000ull
#define EVERY_NS 100000000ull

void progress_init(struct progress *p, FILE *out)
{
	int fd = fileno(out); /* -1 for a stream in memory */

	*p = (struct progress){.out = out, .start_ns = host_now_ns()};
	p->terminal = fd >= 0 && isatty(fd);
}

void progress_show(void *ctx, const char *what, double fraction)
{
	struct progress *p = ctx;
	uint64_t now;

	if (!p->terminal)
		return;
	now = host_now_ns();
	if (now - p->start_ns < QUIET_NS || now - p->shown_ns < EVERY_NS)
		return;
	p->shown_ns = now;
	fprintf(p->out, "\rringer: %.60s %3.0f%%\033[K", what,
		fraction < 0   ? 0.0
		: fraction > 1 ? 100.0
			       : fraction * 100);
	fflush(p->out);
}

void progress_end(struct progress *p)
{
	if (!p->shown_ns)
		return;
	fputs("\r\033[K", p->out);
	fflush(p->out);
	p->shown_ns = 0;
}
