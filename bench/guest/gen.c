/* gen.c - deterministic inputs: text-like data to compress, and a C file to compile. */
#include <stdio.h>
#include <string.h>
#include "bench.h"

/* Words drawn with a skewed choice from a made-up vocabulary, some numbers, line breaks. */
int gen_data(const char *path, long mib)
{
	enum { WORDS = 2048 };
	static char word[WORDS][12];
	FILE *f = fopen(path, "wb");
	uint32_t s = 1;
	long left = mib << 20;
	int col = 0;

	if (!f)
		die(path);
	for (int i = 0; i < WORDS; i++) {
		int n = 2 + (int)(xorshift32(&s) % 9);

		for (int k = 0; k < n; k++)
			word[i][k] = (char)('a' + xorshift32(&s) % 26);
	}
	while (left > 0) {
		char out[32];
		uint32_t r = xorshift32(&s);
		uint32_t pick = (r % WORDS) * ((r >> 11) % WORDS) / WORDS;
		int n;

		if ((r >> 27) == 0)
			n = snprintf(out, sizeof out, "%u", xorshift32(&s) % 100000);
		else
			n = snprintf(out, sizeof out, "%s", word[pick]);
		col += n + 1;
		out[n++] = col > 72 ? '\n' : ' ';
		if (col > 72)
			col = 0;
		if (n > left)
			n = (int)left;
		fwrite(out, 1, (size_t)n, f);
		left -= n;
	}
	return fclose(f) ? 1 : 0;
}

/* Functions of a few shapes (loops, switches, structs, recursion) with no include. */
int gen_source(const char *path, int functions)
{
	FILE *f = fopen(path, "w");
	uint32_t s = 2024;

	if (!f)
		die(path);
	fputs("typedef unsigned int u32;\ntypedef unsigned long u64;\n"
	      "struct item { u32 id; u64 w; struct item *next; double v[4]; };\n",
	      f);
	for (int i = 0; i < functions; i++) {
		uint32_t a = xorshift32(&s) % 1000, b = xorshift32(&s) % 31 + 1, c = xorshift32(&s);

		switch (i % 5) {
		case 0:
			fprintf(f,
				"u64 fn%d(const u32 *p, u32 n)\n{\n\tu64 t = %u;\n\tu32 i, j;\n\n"
				"\tfor (i = 0; i < n; i++) {\n\t\tfor (j = 0; j < %u; j++)\n"
				"\t\t\tt += (u64)p[(i * %u + j) %% n] << (j & 15);\n"
				"\t\tif (t & %u)\n\t\t\tt ^= p[i] * %uul;\n\t}\n\treturn t;\n}\n",
				i, a, b, a | 1, b, c);
			break;
		case 1:
			fprintf(f, "int fn%d(int k, int x)\n{\n\tswitch (k) {\n", i);
			for (uint32_t k = 0; k < 12; k++)
				fprintf(f, "\tcase %u: x = x * %u + (x >> %u); %s;\n", k * 3 + b,
					a + k, k % 7 + 1, k % 3 ? "break" : "return x");
			fprintf(f, "\tdefault: x ^= %u;\n\t}\n\treturn x + k;\n}\n", c);
			break;
		case 2:
			fprintf(f,
				"double fn%d(struct item *l, double s)\n{\n\tdouble t = s;\n\n"
				"\twhile (l) {\n\t\tint i;\n\t\tfor (i = 0; i < 4; i++)\n"
				"\t\t\tt += l->v[i] * %u.5 - l->w / (t + %u.0);\n"
				"\t\tif (l->id == %uu)\n\t\t\tbreak;\n\t\tl = l->next;\n\t}\n"
				"\treturn t;\n}\n",
				i, a, b, c);
			break;
		case 3:
			fprintf(f,
				"static u32 rec%d(u32 n, u32 m)\n{\n\treturn n < 2 ? m + %u : "
				"rec%d(n - 1, m ^ %uu) + rec%d(n - 2, m + n);\n}\n"
				"u32 fn%d(u32 n)\n{\n\treturn rec%d(n & 15, %uu);\n}\n",
				i, a, i, c, i, i, i, b);
			break;
		default:
			fprintf(f,
				"void fn%d(unsigned char *d, const unsigned char *s, u64 n)\n{\n"
				"\tu64 i, h = %uul;\n\tu32 tab[64];\n\n"
				"\tfor (i = 0; i < 64; i++)\n\t\ttab[i] = (u32)(i * %uu) >> %u;\n"
				"\tfor (i = 0; i < n; i++) {\n\t\th = h * 33 + s[i];\n"
				"\t\td[i] = (unsigned char)(tab[h & 63] ^ (h >> %u));\n\t}\n}\n",
				i, c, c | 1, b % 20, b);
		}
		fputc('\n', f);
	}
	return fclose(f) ? 1 : 0;
}
