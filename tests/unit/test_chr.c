/*
 * Character backends and the terminal. The tests of standard input and output put pipes, files and
 * pseudo-terminals in the place of descriptors 0 and 1; the teardown puts the real ones back.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/chr.h"
#include "host/tty.h"

struct world {
	struct loop *loop;
	struct chr *c;
	int saved[2];
	int in[2], out[2]; /* [1] writes to, [0] reads from */
	/* A frontend. lock: the loop's. */
	char rx[256];
	size_t n_rx, room, overruns;
	unsigned quits;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	for (int i = 0; i < 2; i++)
		w->saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
	w->in[0] = w->in[1] = w->out[0] = w->out[1] = -1;
	*state = w;
	return 0;
}

static void restore_stdio(struct world *w)
{
	for (int i = 0; i < 2; i++)
		if (w->saved[i] >= 0)
			dup2(w->saved[i], i);
		else
			close(i);
}

static int teardown(void **state)
{
	struct world *w = *state;

	loop_stop(w->loop);
	chr_free(w->c);
	loop_free(w->loop);
	restore_stdio(w);
	for (int i = 0; i < 2; i++) {
		if (w->saved[i] >= 0)
			close(w->saved[i]);
		if (w->in[i] >= 0)
			close(w->in[i]);
		if (w->out[i] >= 0)
			close(w->out[i]);
	}
	free(w);
	return 0;
}

static void use_pipes(struct world *w)
{
	assert_int_equal(pipe2(w->in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(w->out, O_CLOEXEC), 0);
	assert_int_equal(dup2(w->in[0], 0), 0);
	assert_int_equal(dup2(w->out[1], 1), 1);
}

static void receive(void *ctx, const uint8_t *data, size_t len)
{
	struct world *w = ctx;

	if (len > w->room)
		w->overruns++;
	w->room -= len;
	memcpy(w->rx + w->n_rx, data, len);
	w->n_rx += len;
}

/* Drops 'D's, and counts 'Q's. */
static size_t filter(void *ctx, uint8_t *buf, size_t len)
{
	struct world *w = ctx;
	size_t keep = 0;

	for (size_t i = 0; i < len; i++) {
		w->quits += buf[i] == 'Q';
		if (buf[i] != 'D' && buf[i] != 'Q')
			buf[keep++] = buf[i];
	}
	return keep;
}

static void start(struct world *w, bool filtered, size_t room)
{
	loop_lock(w->loop);
	assert_int_equal(chr_stdio_new(&w->c, w->loop, filtered ? filter : NULL, w, NULL), 0);
	w->c->receive = receive;
	w->c->receive_ctx = w;
	w->room = room;
	if (room)
		chr_set_room(w->c, room);
	loop_unlock(w->loop);
	assert_int_equal(loop_start(w->loop, NULL), 0);
}

static void set_room(struct world *w, size_t room)
{
	loop_lock(w->loop);
	w->room = room;
	chr_set_room(w->c, room);
	loop_unlock(w->loop);
}

/* Until the frontend has n bytes; a test that never gets them is ended by the test runner. */
static void wait_rx(struct world *w, size_t n)
{
	for (;;) {
		size_t have;

		loop_lock(w->loop);
		have = w->n_rx;
		loop_unlock(w->loop);
		if (have >= n)
			break;
		usleep(500);
	}
	assert_int_equal(w->n_rx, n);
	assert_int_equal(w->overruns, 0);
}

static void emit(struct world *w, const char *s, size_t len)
{
	loop_lock(w->loop);
	chr_write(w->c, (const uint8_t *)s, len);
	loop_unlock(w->loop);
}

static void put(int fd, const char *s)
{
	assert_int_equal(write(fd, s, strlen(s)), strlen(s));
}

static void expect(int fd, const char *s)
{
	char buf[256];
	size_t n = 0;

	while (n < strlen(s)) {
		ssize_t r = read(fd, buf + n, strlen(s) - n);

		assert_true(r > 0);
		n += (size_t)r;
	}
	assert_memory_equal(buf, s, n);
}

static void test_null(void **state)
{
	struct chr *c;

	assert_int_equal(chr_null_new(&c, NULL), 0);
	chr_write(c, (const uint8_t *)"x", 1);
	chr_set_room(c, 1);
	chr_free(c);
	chr_free(NULL);
}

static void test_file(void **state)
{
	char path[] = "/tmp/test_chr.XXXXXX", buf[16] = "";
	int fd = mkstemp(path);
	struct err e;
	struct chr *c;

	assert_true(fd >= 0);
	put(fd, "old contents");
	assert_int_equal(chr_file_new(&c, path, NULL), 0);
	chr_write(c, (const uint8_t *)"one ", 4);
	chr_write(c, (const uint8_t *)"two", 3);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), 7); /* before it is closed */
	assert_string_equal(buf, "one two");
	chr_free(c);
	unlink(path);
	close(fd);
	assert_int_equal(chr_file_new(&c, "/nonexistent/file", &e), -ENOENT);
	assert_string_equal(e.text, "cannot write to /nonexistent/file: No such file or directory");
	/* A full device is the guest's loss alone. */
	assert_int_equal(chr_file_new(&c, "/dev/full", NULL), 0);
	chr_write(c, (const uint8_t *)"one", 3);
	chr_free(c);
}

static void test_file_fifo(void **state)
{
	char dir[] = "/tmp/test_chr.XXXXXX", path[64];
	struct chr *c;
	int fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(chr_file_new(&c, path, NULL), -ENXIO); /* no reader: no wait */
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(chr_file_new(&c, path, NULL), 0);
	chr_write(c, (const uint8_t *)"abc", 3);
	expect(fd, "abc");
	close(fd);
	chr_write(c, (const uint8_t *)"abc", 3); /* SIGPIPE would end the test */
	chr_free(c);
	unlink(path);
	rmdir(dir);
}

static void again_with_room(void *ctx, const uint8_t *data, size_t len)
{
	struct world *w = ctx;

	receive(ctx, data, len);
	w->room = 1;
	chr_set_room(w->c, 1);
}

static void test_buffer(void **state)
{
	struct world *w = *state;
	const uint8_t *out;
	size_t len;

	assert_int_equal(chr_buffer_new(&w->c, NULL), 0);
	chr_write(w->c, (const uint8_t *)"ab", 2);
	chr_write(w->c, (const uint8_t *)"c", 1);
	out = chr_buffer_output(w->c, &len);
	assert_int_equal(len, 3);
	assert_memory_equal(out, "abc", 3);
	chr_buffer_input(w->c, (const uint8_t *)"12", 2); /* nobody yet */
	w->c->receive = receive;
	w->c->receive_ctx = w;
	w->room = 3;
	chr_set_room(w->c, 3);
	chr_buffer_input(w->c, (const uint8_t *)"34567", 5);
	assert_int_equal(w->n_rx, 3);
	w->c->receive = again_with_room;
	w->room = 1;
	chr_set_room(w->c, 1);
	assert_int_equal(w->n_rx, 7);
	assert_int_equal(w->overruns, 0);
	assert_memory_equal(w->rx, "1234567", 7);
}

static void test_stdio_output(void **state)
{
	struct world *w = *state;

	use_pipes(w);
	start(w, false, 0);
	emit(w, "hello", 5);
	expect(w->out[0], "hello");
	emit(w, ", ", 2);
	emit(w, "world", 5);
	expect(w->out[0], ", world");
	/* The flags that we share with others are as they were. */
	assert_false(fcntl(0, F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(1, F_GETFL) & O_NONBLOCK);
}

static void test_stdio_flushes_when_freed(void **state)
{
	struct world *w = *state;

	use_pipes(w);
	start(w, false, 0);
	loop_stop(w->loop);
	emit(w, "last words", 10);
	chr_free(w->c);
	w->c = NULL;
	expect(w->out[0], "last words");
}

static void test_stdio_room(void **state)
{
	struct world *w = *state;
	int unread = 0;

	use_pipes(w);
	put(w->in[1], "abcdefgh");
	start(w, false, 0);
	set_room(w, 3);
	wait_rx(w, 3);
	assert_int_equal(ioctl(0, FIONREAD, &unread), 0);
	assert_int_equal(unread, 5); /* the rest is left to whoever reads next */
	set_room(w, 1);
	wait_rx(w, 4);
	set_room(w, 100);
	wait_rx(w, 8);
	put(w->in[1], "ij");
	wait_rx(w, 10);
	assert_memory_equal(w->rx, "abcdefghij", 10);
	/* The end: quiet from now on, and output still works. */
	close(w->in[1]);
	w->in[1] = -1;
	emit(w, "x", 1);
	expect(w->out[0], "x");
}

static void test_stdio_filter(void **state)
{
	struct world *w = *state;

	use_pipes(w);
	start(w, true, 10);
	put(w->in[1], "aDbDDc");
	wait_rx(w, 3);
	assert_memory_equal(w->rx, "abc", 3);
	put(w->in[1], "DDD");
	put(w->in[1], "d");
	wait_rx(w, 4);
}

/* 2 MiB to a pipe that takes 64 KiB: no wait, then the gap is reported. */
static void test_stdio_slow_reader(void **state)
{
	enum { total = 2 << 20 };
	struct world *w = *state;
	char *big = malloc(total), *got = calloc(1, total + 256);
	size_t n = 0, same = 0;
	char *note;

	assert_true(big && got);
	memset(big, '.', total);
	use_pipes(w);
	start(w, false, 0);
	emit(w, big, 60000);
	emit(w, big, total - 60000);
	close(w->out[1]);
	w->out[1] = -1;
	while (!(note = n >= 100 ? strstr(got + n - 100, "slow]\r\n") : NULL)) {
		ssize_t r = read(w->out[0], got + n, total + 255 - n);

		assert_true(r > 0);
		n += (size_t)r;
	}
	while (got[same] == '.')
		same++;
	assert_true(same >= 1 << 20 && same < total);
	snprintf(big, 100, "\r\n[%zu bytes of output lost: the reader was too slow]\r\n",
		 total - same);
	assert_string_equal(got + same, big);
	/* And it goes on. */
	emit(w, "next", 4);
	expect(w->out[0], "next");
	free(big);
	free(got);
}

static void test_stdio_reader_gone(void **state)
{
	struct world *w = *state;

	use_pipes(w);
	start(w, false, 10);
	close(w->out[0]);
	w->out[0] = -1;
	for (int i = 0; i < 100; i++)
		emit(w, "lost", 4);
	put(w->in[1], "in");
	wait_rx(w, 2);
}

static void test_stdio_socket(void **state)
{
	struct world *w = *state;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w->in), 0);
	assert_int_equal(dup2(w->in[0], 0), 0);
	assert_int_equal(dup2(w->in[0], 1), 1);
	start(w, false, 10);
	put(w->in[1], "ping");
	wait_rx(w, 4);
	emit(w, "pong", 4);
	expect(w->in[1], "pong");
}

static void test_stdio_files(void **state)
{
	struct world *w = *state;
	FILE *in = tmpfile(), *out = tmpfile();
	char buf[8] = "";

	assert_true(in && out);
	put(fileno(in), "script");
	lseek(fileno(in), 0, SEEK_SET);
	put(fileno(out), ">");
	dup2(fileno(in), 0);
	dup2(fileno(out), 1);
	start(w, false, 2);
	wait_rx(w, 2);
	set_room(w, 100);
	wait_rx(w, 6);
	emit(w, "log", 3);
	loop_stop(w->loop);
	chr_free(w->c);
	w->c = NULL;
	/* Behind what was there: the file offset is shared, as with any other command. */
	assert_int_equal(pread(fileno(out), buf, sizeof(buf), 0), 4);
	assert_string_equal(buf, ">log");
	fclose(in);
	fclose(out);
}

static void test_stdio_null_and_closed(void **state)
{
	struct world *w = *state;
	int null = open("/dev/null", O_RDWR);

	dup2(null, 0);
	dup2(null, 1);
	start(w, false, 10);
	emit(w, "x", 1);
	loop_stop(w->loop);
	chr_free(w->c);
	close(null);
	close(0);
	close(1);
	start(w, true, 10);
	emit(w, "x", 1);
	loop_stop(w->loop);
	chr_free(w->c);
	w->c = NULL;
	assert_int_equal(stdio_reserve(), 0);
	assert_true(fcntl(0, F_GETFD) >= 0);
	assert_true(fcntl(1, F_GETFD) >= 0);
	assert_int_equal(w->n_rx, 0);
}

static void open_terminal(struct world *w)
{
	w->in[1] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(w->in[1] >= 0);
	assert_int_equal(grantpt(w->in[1]), 0);
	assert_int_equal(unlockpt(w->in[1]), 0);
	w->in[0] = open(ptsname(w->in[1]), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(w->in[0] >= 0);
	dup2(w->in[0], 0);
	dup2(w->in[0], 1);
}

/* Escape keys work while the guest takes nothing, however much was typed before. */
static void test_stdio_terminal(void **state)
{
	struct world *w = *state;
	struct tty_saved saved;
	unsigned quits = 0;

	open_terminal(w);
	assert_int_equal(tty_raw(0, &saved, NULL), 0);
	start(w, true, 0);
	put(w->in[1], "abcQ");
	while (!quits) {
		loop_lock(w->loop);
		quits = w->quits;
		loop_unlock(w->loop);
		usleep(500);
	}
	assert_int_equal(w->n_rx, 0);
	set_room(w, 2);
	wait_rx(w, 2);
	set_room(w, 2);
	wait_rx(w, 3);
	assert_memory_equal(w->rx, "abc", 3);
	set_room(w, 0);
	/* More than is kept; written in small pieces, for the terminal's own buffer is 4 KiB. */
	for (int i = 0; i < 100; i++) {
		char junk[101];

		memset(junk, 'j', 100);
		junk[100] = '\0';
		put(w->in[1], junk);
	}
	put(w->in[1], "Q");
	for (quits = 0; quits < 2; usleep(500)) {
		loop_lock(w->loop);
		quits = w->quits;
		loop_unlock(w->loop);
	}
	emit(w, "to the terminal", 15);
	expect(w->in[1], "to the terminal");
	tty_restore(&saved);
}

static void test_tty_mode(void **state)
{
	struct world *w = *state;
	struct termios before, raw, after;
	struct tty_saved saved = { 0 };
	struct winsize ws = { .ws_row = 33, .ws_col = 101 };
	unsigned columns = 0, rows = 0;
	struct err e;

	tty_restore(&saved); /* nothing saved: nothing happens */
	open_terminal(w);
	assert_int_equal(tcgetattr(0, &before), 0);
	assert_int_equal(tty_raw(0, &saved, NULL), 0);
	assert_int_equal(tcgetattr(0, &raw), 0);
	assert_int_equal(raw.c_lflag & (ECHO | ICANON | ISIG), 0);
	assert_int_equal(raw.c_iflag & (ICRNL | IXON), 0);
	assert_int_equal(raw.c_oflag, before.c_oflag);
	tty_restore(&saved);
	tty_restore(&saved);
	assert_int_equal(tcgetattr(0, &after), 0);
	assert_int_equal(after.c_lflag, before.c_lflag);
	assert_int_equal(after.c_iflag, before.c_iflag);
	assert_int_equal(after.c_cflag, before.c_cflag);

	assert_int_equal(tty_size(0, &columns, &rows), -ENODATA);
	assert_int_equal(ioctl(w->in[1], TIOCSWINSZ, &ws), 0);
	assert_int_equal(tty_size(0, &columns, &rows), 0);
	assert_int_equal(columns, 101);
	assert_int_equal(rows, 33);

	use_pipes(w);
	assert_int_equal(tty_raw(0, &saved, &e), -ENOTTY);
	assert_int_equal(saved.valid, 0);
	assert_int_equal(tty_size(0, &columns, &rows), -ENOTTY);
}

#define CHR_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_null),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_fifo),
		CHR_TEST(test_buffer),
		CHR_TEST(test_stdio_output),
		CHR_TEST(test_stdio_flushes_when_freed),
		CHR_TEST(test_stdio_room),
		CHR_TEST(test_stdio_filter),
		CHR_TEST(test_stdio_slow_reader),
		CHR_TEST(test_stdio_reader_gone),
		CHR_TEST(test_stdio_socket),
		CHR_TEST(test_stdio_files),
		CHR_TEST(test_stdio_null_and_closed),
		CHR_TEST(test_stdio_terminal),
		CHR_TEST(test_tty_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
