/* engine_choice.c - which engine a machine gets, and what it is told. */
#include "vm/vm.h"

#include <errno.h>
#include <string.h>

int vm_choose_engine(const struct engine_ops **out, const char *name, struct err *err)
{
	bool any = !name || !strcmp(name, "auto");
	struct err why = {""};

	for (unsigned i = 0; vm_engines[i]; i++) {
		if (!any && strcmp(name, vm_engines[i]->name))
			continue;
		*out = vm_engines[i];
		if (!vm_engines[i]->usable || vm_engines[i]->usable(&why))
			return 0;
		if (!any)
			return err_set(err, EINVAL, "engine %s cannot work here: %s", name,
				       why.text);
	}
	if (any)
		return err_set(err, EINVAL, "no engine can work here: %s", why.text);
	return err_set(err, EINVAL, "no engine is called \"%s\"", name);
}

int vm_check_engine_config(struct engine_config *c, struct err *err)
{
	if (!c->cache_bytes)
		c->cache_bytes = ENGINE_CACHE_DEFAULT;
	if (c->cache_bytes < ENGINE_CACHE_MIN || c->cache_bytes > ENGINE_CACHE_MAX)
		return err_set(err, EINVAL,
			       "%llu bytes of translated code: between %llu MiB and %llu MiB are possible",
			       (unsigned long long)c->cache_bytes,
			       (unsigned long long)ENGINE_CACHE_MIN >> 20,
			       (unsigned long long)ENGINE_CACHE_MAX >> 20);
	if (c->assists_off & ~(BIT(ASSIST_COUNT) - 1))
		return err_set(err, EINVAL, "there are only %d assists", ASSIST_COUNT);
	return 0;
}
