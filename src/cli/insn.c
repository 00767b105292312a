/* insn.c - `ringer insn`: one instruction explained, or the instruction table. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "cli/json.h"
#include "x86/insn_describe.h"

#define COLUMN 18

int insn_check(const struct cli_call *call, struct err *err)
{
	const struct insn_options *o = &call->o.insn;
	const char *other = o->hex ? "hex" : o->list ? "list" : NULL;

	if (other && call->n_args)
		return err_set(err, EINVAL,
			       "insn: '%.64s' and --%s contradict each other; leave one out",
			       call->args[0], other);
	if (!other && !call->n_args)
		return err_set(err, EINVAL,
			       "insn: which one? For example: ringer insn popf, ringer insn "
			       "--hex 9d, ringer insn --list");
	return 0;
}

/* The words of the command line are one instruction: mov eax, 1 needs no quotes. */
static int join_args(const struct cli_call *call, char *text, size_t len, struct err *err)
{
	size_t at = 0;

	for (unsigned i = 0; i < call->n_args && at < len; i++)
		at += (size_t)snprintf(text + at, len - at, "%s%s", i ? " " : "", call->args[i]);
	return at < len ? 0 : err_set(err, EINVAL, "that is too long for an instruction");
}

static void row(FILE *out, const char *name, const char *text)
{
	if (text && *text)
		text_row(out, COLUMN, name, text);
}

static void print_operands(FILE *out, const struct insn_description *d)
{
	for (unsigned i = 0; i < d->operand_count; i++) {
		const struct insn_operand_description *op = &d->operand[i];
		char text[128];

		snprintf(text, sizeof(text), "%s: %s, %u bits, %s%s", op->text, op->type, op->bits,
			 op->access, op->implicit ? ", implicit" : "");
		row(out, i ? "" : "operands", text);
	}
}

static void print_flags(FILE *out, const struct insn_description *d)
{
	row(out, "flags read", d->flags_read);
	row(out, "flags written", d->flags_written);
	row(out, "flags cleared", d->flags_cleared);
	row(out, "flags set", d->flags_set);
	row(out, "flags undefined", d->flags_undefined);
}

static void print_text(FILE *out, const struct insn_description *d)
{
	static const char *const modes[] = {"16", "32", "64"};
	char text[256], valid[16] = "";

	fprintf(out, "%s%s\n", d->text, d->example ? "    (an example of its forms)" : "");
	snprintf(text, sizeof(text), "%s    (%u byte%s, %s, map %s, opcode %02x)", d->hex,
		 d->length, d->length == 1 ? "" : "s", d->encoding, d->map, d->opcode);
	row(out, "encoding", text);
	snprintf(text, sizeof(text), "%s, %s", d->category, d->isa_set);
	row(out, "category", text);
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		size_t at = strlen(valid);

		if (d->valid_in[i])
			snprintf(valid + at, sizeof(valid) - at, "%s%s", at ? ", " : "", modes[i]);
	}
	snprintf(text, sizeof(text), "%s-bit code", valid);
	row(out, "valid in", text);
	print_operands(out, d);
	print_flags(out, d);
	fputc('\n', out);
	row(out, "class", d->class_name);
	row(out, "why", d->note);
	row(out, "by trapping", d->by_trapping);
	row(out, "interpreter", d->interp);
	row(out, "translator", d->bt);
	row(out, "KVM", d->kvm);
}

static cJSON *operands_json(const struct insn_description *d)
{
	cJSON *array = cJSON_CreateArray();

	for (unsigned i = 0; i < d->operand_count; i++) {
		const struct insn_operand_description *op = &d->operand[i];
		cJSON *j = cJSON_CreateObject();

		cJSON_AddStringToObject(j, "text", op->text);
		cJSON_AddStringToObject(j, "type", op->type);
		cJSON_AddStringToObject(j, "access", op->access);
		cJSON_AddNumberToObject(j, "bits", op->bits);
		cJSON_AddBoolToObject(j, "implicit", op->implicit);
		cJSON_AddItemToArray(array, j);
	}
	return array;
}

static cJSON *flags_json(const struct insn_description *d)
{
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "read", d->flags_read);
	cJSON_AddStringToObject(j, "written", d->flags_written);
	cJSON_AddStringToObject(j, "cleared", d->flags_cleared);
	cJSON_AddStringToObject(j, "set", d->flags_set);
	cJSON_AddStringToObject(j, "undefined", d->flags_undefined);
	return j;
}

static cJSON *engines_json(const struct insn_description *d)
{
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "interp", d->interp);
	cJSON_AddStringToObject(j, "bt", d->bt);
	cJSON_AddStringToObject(j, "kvm", d->kvm);
	return j;
}

static cJSON *description_json(const struct insn_description *d)
{
	static const int modes[] = {16, 32, 64};
	cJSON *j = cJSON_CreateObject(), *valid;

	cJSON_AddStringToObject(j, "mnemonic", d->mnemonic);
	cJSON_AddStringToObject(j, "text", d->text);
	cJSON_AddBoolToObject(j, "example", d->example);
	cJSON_AddStringToObject(j, "hex", d->hex);
	cJSON_AddNumberToObject(j, "length", d->length);
	cJSON_AddStringToObject(j, "encoding", d->encoding);
	cJSON_AddStringToObject(j, "map", d->map);
	cJSON_AddNumberToObject(j, "opcode", d->opcode);
	cJSON_AddStringToObject(j, "category", d->category);
	cJSON_AddStringToObject(j, "isa_set", d->isa_set);
	cJSON_AddStringToObject(j, "isa_ext", d->isa_ext);
	cJSON_AddNumberToObject(j, "mode", modes[d->mode]);
	valid = cJSON_AddArrayToObject(j, "valid_in");
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
		if (d->valid_in[i])
			cJSON_AddItemToArray(valid, cJSON_CreateNumber(modes[i]));
	cJSON_AddItemToObject(j, "operands", operands_json(d));
	cJSON_AddItemToObject(j, "flags", flags_json(d));
	cJSON_AddStringToObject(j, "class", d->class_name);
	cJSON_AddStringToObject(j, "why", d->note);
	cJSON_AddStringToObject(j, "by_trapping", d->by_trapping);
	cJSON_AddItemToObject(j, "engines", engines_json(d));
	return j;
}

static int explain(struct cli *cli, const struct cli_call *call)
{
	const struct insn_options *o = &call->o.insn;
	struct insn_description d;
	struct err err = {""};
	char text[256];
	int rc;

	if (o->hex)
		rc = insn_describe_hex(&d, o->hex, (enum x86_mode)o->mode, &err);
	else if (!(rc = join_args(call, text, sizeof(text), &err)))
		rc = insn_describe(&d, text, (enum x86_mode)o->mode, &err);
	if (rc)
		return cli_fail(cli, CLI_USAGE, "insn: %s", err.text);
	if (o->json)
		return json_print(cli, description_json(&d));
	print_text(cli->out, &d);
	return CLI_OK;
}

/* One row of the table; the decoder's names are lower case. */
static void list_row(FILE *out, cJSON *array, const char *name, const struct insn_info *info)
{
	const char *cls = insn_class_name(info->cls), *interp = insn_treatment_name(info->interp);
	const char *bt = insn_treatment_name(info->bt), *note = info->note ? info->note : "";

	if (array) {
		cJSON *j = cJSON_CreateObject();

		cJSON_AddStringToObject(j, "mnemonic", name);
		cJSON_AddStringToObject(j, "class", cls);
		cJSON_AddStringToObject(j, "interp", interp);
		cJSON_AddStringToObject(j, "bt", bt);
		cJSON_AddStringToObject(j, "why", note);
		cJSON_AddItemToArray(array, j);
	} else {
		fprintf(out, "%-20s %-20s %-14s %-14s%s%s\n", name, cls, interp, bt,
			*note ? " " : "", note);
	}
}

static int list(struct cli *cli, const struct cli_call *call)
{
	const struct insn_options *o = &call->o.insn;
	cJSON *array = o->json ? cJSON_CreateArray() : NULL;

	if (o->json && !array)
		return json_print(cli, NULL);
	if (!array)
		fprintf(cli->out, "%-20s %-20s %-14s %-14s %s\n", "MNEMONIC", "CLASS",
			"INTERPRETER", "TRANSLATOR", "WHY");
	for (int m = ZYDIS_MNEMONIC_INVALID + 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		const struct insn_info *info = insn_info((ZydisMnemonic)m);

		if (!cli_given(call, "class") || info->cls == (enum insn_class)o->cls)
			list_row(cli->out, array, ZydisMnemonicGetString((ZydisMnemonic)m), info);
	}
	return array ? json_print(cli, array) : CLI_OK;
}

int cmd_insn(struct cli *cli, const struct cli_call *call)
{
	return call->o.insn.list ? list(cli, call) : explain(cli, call);
}
