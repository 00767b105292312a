#include "cli/console.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal.h"
#include "cli/typist.h"
#include "host/tty.h"

#define CTRL_A 1

static void key_quit(struct console *c);
static void key_power(struct console *c);
static void key_size(struct console *c);
static void key_help(struct console *c);

static const struct console_key {
	uint8_t key;
	const char *name, *help;
	void (*press)(struct console *c); /* NULL: the key goes to the guest */
} keys[] = {
	{'x', "Ctrl-A x", "end the machine at once", key_quit},
	{'p', "Ctrl-A p", "press the power button", key_power},
	{'w', "Ctrl-A w", "type the command that tells the guest's shell the size of this window",
	 key_size},
	{'h', "Ctrl-A h", "print this help", key_help},
	{CTRL_A, "Ctrl-A Ctrl-A", "send Ctrl-A to the guest", NULL},
};

const char *console_key_list(unsigned i, const char **text)
{
	*text = i < ARRAY_SIZE(keys) ? keys[i].help : NULL;
	return i < ARRAY_SIZE(keys) ? keys[i].name : NULL;
}

/* To the user and not into the guest's output, which may go to a file. */
static void say(const char *line)
{
	int fd = isatty(STDERR_FILENO) ? STDERR_FILENO : STDIN_FILENO;
	char text[160];
	int n = snprintf(text, sizeof(text), "%s%s", line, terminal_eol(fd));

	if (write(fd, text, (size_t)n) < 0) {
		/* Nobody to tell. */
	}
}

static void key_quit(struct console *c)
{
	atomic_store(&c->quit, true);
	vm_stop(c->vm);
}

static void key_power(struct console *c)
{
	if (c->presser_runs)
		sem_post(&c->presses);
}

static void key_size(struct console *c)
{
	unsigned columns, rows;
	char text[64];

	if (tty_size(STDIN_FILENO, &columns, &rows))
		return;
	snprintf(text, sizeof(text), "stty rows %u cols %u\r", rows, columns);
	typist_type(c->chr, text);
}

static void key_help(struct console *c)
{
	char line[128];

	say("");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		snprintf(line, sizeof(line), "  %-14s %s", keys[i].name, keys[i].help);
		say(line);
	}
}

/* The key after Ctrl-A. Returns whether it goes to the guest. */
static bool press(struct console *c, uint8_t key)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (keys[i].key != key)
			continue;
		if (keys[i].press)
			keys[i].press(c);
		return !keys[i].press;
	}
	say("\r\n  Ctrl-A h tells which keys there are");
	return false;
}

size_t console_filter(void *ctx, uint8_t *buf, size_t len)
{
	struct console *c = ctx;
	size_t kept = 0;

	if (!c->keys || !c->vm)
		return len;
	for (size_t i = 0; i < len; i++) {
		uint8_t key = buf[i];
		bool to_guest = true;

		if (c->escaped) {
			c->escaped = false;
			to_guest = press(c, key);
		} else if (key == CTRL_A) {
			c->escaped = true;
			to_guest = false;
		}
		if (to_guest)
			buf[kept++] = key;
	}
	return kept;
}

static void *presser_main(void *ctx)
{
	struct console *c = ctx;

	for (;;) {
		while (sem_wait(&c->presses) < 0 && errno == EINTR)
			continue;
		if (atomic_load(&c->presser_stop))
			return NULL;
		vm_power_button(c->vm);
	}
}

int console_init(struct console *c, struct loop *loop, struct err *err)
{
	struct chr *stdio;
	int rc;

	memset(c, 0, sizeof(*c));
	c->keys = isatty(STDIN_FILENO);
	rc = chr_stdio_new(&stdio, loop, console_filter, c, err);
	return rc ? rc : typist_new(&c->chr, stdio, loop, err);
}

int console_start(struct console *c, struct vm *vm, struct err *err)
{
	sigset_t all, old;
	int rc;

	c->vm = vm;
	if (!c->keys)
		return 0;
	sem_init(&c->presses, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&c->presser, NULL, presser_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		sem_destroy(&c->presses);
		return err_set(err, rc, "cannot start a thread: %s", strerror(rc));
	}
	c->presser_runs = true;
	return terminal_raw(STDIN_FILENO, err);
}

void console_fini(struct console *c)
{
	if (!c->presser_runs)
		return;
	atomic_store(&c->presser_stop, true);
	sem_post(&c->presses);
	pthread_join(c->presser, NULL);
	sem_destroy(&c->presses);
	c->presser_runs = false;
}
