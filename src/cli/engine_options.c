#include "cli/engine_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct stress_word {
	const char *name, *text;
	size_t flag; /* in struct engine_stress */
} stresses[] = {
	{"one-insn", "a block holds one instruction", offsetof(struct engine_stress, one_insn)},
	{"slow-memory", "every memory access takes the slow path",
	 offsetof(struct engine_stress, slow_memory)},
	{"poll", "every poll leaves translated code", offsetof(struct engine_stress, poll)},
	{"flush=", "the TLB is flushed every so many blocks", 0},
};

const char *stress_words(unsigned i, const char **text)
{
	*text = i < ARRAY_SIZE(stresses) ? stresses[i].text : NULL;
	return i < ARRAY_SIZE(stresses) ? stresses[i].name : NULL;
}

const char *assist_words(unsigned i, const char **text)
{
	static const char *const plain[ASSIST_WORDS_SIGNED] = {"none", "all"};

	*text = NULL;
	if (i < ASSIST_WORDS_SIGNED)
		return plain[i];
	i -= ASSIST_WORDS_SIGNED;
	if (i >= ASSIST_COUNT)
		return NULL;
	*text = engine_assists[i].what;
	return engine_assists[i].name;
}

static void fill_assists(const char *list, struct engine_config *c)
{
	char word[64];

	while (list_next(&list, word, sizeof(word))) {
		if (!strcmp(word, "none"))
			c->assists_off = BIT(ASSIST_COUNT) - 1;
		if (!strcmp(word, "all"))
			c->assists_off = 0;
		for (unsigned i = 0; i < ASSIST_COUNT; i++) {
			if (strcmp(word + 1, engine_assists[i].name))
				continue;
			if (word[0] == '-')
				c->assists_off |= BIT(i);
			else
				c->assists_off &= ~BIT(i);
		}
	}
}

static void fill_stress(const char *list, struct engine_config *c)
{
	char word[64];

	while (list_next(&list, word, sizeof(word))) {
		if (!strncmp(word, "flush=", 6))
			c->stress.flush_blocks = (uint32_t)strtoul(word + 6, NULL, 10);
		for (unsigned i = 0; i < ARRAY_SIZE(stresses); i++)
			if (!strcmp(word, stresses[i].name))
				*(bool *)((char *)&c->stress + stresses[i].flag) = true;
	}
}

void engine_options_fill(const struct engine_options *o, struct engine_config *c)
{
	c->cache_bytes = o->bt_cache;
	c->verify = o->verify;
	if (o->assist)
		fill_assists(o->assist, c);
	if (o->stress)
		fill_stress(o->stress, c);
}

/* Of what --trace writes, not all comes from an engine. */
static bool about_machine(const struct cli_call *call, const char *option)
{
	return !strcmp(option, "trace") && !strncmp(call->o.run.trace, "sched", 5);
}

int engine_options_check(const struct cli_call *call, const char *name,
			 const struct engine_ops **engine, struct err *err)
{
	static const char *const options[] = {"bt-cache", "assist", "stress",
					      "verify",   "trace",  "perf"};
	const char *translator = NULL;
	int rc = vm_choose_engine(engine, name, err);

	if (rc || (*engine)->uses_config)
		return rc;
	for (unsigned i = 0; vm_engines[i]; i++)
		if (vm_engines[i]->uses_config && !translator)
			translator = vm_engines[i]->name;
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (cli_given(call, options[i]) && !about_machine(call, options[i]))
			return err_set(err, EINVAL,
				       "%s: --%s means nothing to engine %s, which does not translate; "
				       "leave it out%s%s",
				       call->cmd->name, options[i], (*engine)->name,
				       translator ? " or choose --engine " : "",
				       translator ? translator : "");
	return 0;
}
