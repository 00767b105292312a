/* text.c - plain text in columns, for help and `ringer doctor`. */
#include "cli/cli.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#define WIDTH 79

/* Columns that a word of UTF-8 takes: one a character, which is right for what we print. */
static unsigned columns(const char *s, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

void text_wrap(FILE *out, unsigned indent, unsigned at, const char *text)
{
	bool fresh = true; /* nothing on this line yet but white space */

	while (*(text += strspn(text, " "))) {
		size_t len = strcspn(text, " ");
		unsigned width = columns(text, len);

		if (!fresh && at + 1 + width > WIDTH) {
			fputc('\n', out);
			at = 0;
			fresh = true;
		}
		if (at < indent) {
			fprintf(out, "%*s", (int)(indent - at), "");
			at = indent;
		} else if (!fresh) {
			fputc(' ', out);
			at++;
		}
		fprintf(out, "%.*s", (int)len, text);
		at += width;
		fresh = false;
		text += len;
	}
	fputc('\n', out);
}

void text_row(FILE *out, unsigned column, const char *term, const char *text)
{
	unsigned at = 2 + columns(term, strlen(term));

	fprintf(out, "  %s", term);
	if (at + 2 > column && *text) {
		fputc('\n', out);
		at = 0;
	}
	text_wrap(out, column, at, text);
}

int cli_fail(struct cli *cli, int status, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* One line whatever a file name or an image brought in; bytes of UTF-8 pass. */
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	fprintf(cli->err, "ringer: %s\n", line);
	return status;
}
