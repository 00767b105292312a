#include "cli/difference.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/blocktext.h"
#include "cli/terminal.h"

void difference_report(void *ctx, const struct engine_block *b, const char *text)
{
	const char *eol = terminal_eol(STDERR_FILENO);
	struct blocktext *t = malloc(sizeof(*t));

	while (*text) {
		size_t n = strcspn(text, "\n");

		fprintf(stderr, "%.*s%s", (int)n, text, eol);
		text += n + (text[n] == '\n');
	}
	if (t) {
		blocktext_init(t);
		blocktext_print(t, b, b->host, X86_MODE_64, "", eol, stderr);
	}
	free(t);
}
