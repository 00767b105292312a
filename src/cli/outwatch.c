#include "cli/outwatch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/vm.h"

static void on_event(void *ctx, uint32_t events)
{
	struct outwatch *w = ctx;

	if (!(events & (EPOLLERR | EPOLLHUP)))
		return;
	loop_watch_del(&w->watch);
	atomic_store(&w->closed, true);
	vm_stop(w->vm);
}

void outwatch_start(struct outwatch *w, struct vm *vm, struct loop *loop)
{
	struct stat st;

	*w = (struct outwatch){.vm = vm, .fd = -1};
	if (fstat(STDOUT_FILENO, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
		return;
	w->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	/* Best effort. The end of the reader shows as an error whatever events are asked for. */
	if (w->fd >= 0 && loop_watch_add(&w->watch, loop, w->fd, EPOLLPRI, on_event, w) < 0)
		w->watch.loop = NULL;
}

void outwatch_stop(struct outwatch *w)
{
	if (w->watch.loop)
		loop_watch_del(&w->watch);
	if (w->fd > 0)
		close(w->fd);
	w->fd = -1;
}
