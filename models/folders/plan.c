/* SPDX-License-Identifier: MIT
 *
 * plan: what to fetch on a machine with a network, and what it takes to run it. Nothing is
 * downloaded.
 */
#include "base/suggest.h"
#include "folders/folders.h"
#include "folders/known.h"
#include "model.h"
#include "weights/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_TOKENS 32768

static uint64_t page_bytes(const struct known_model *m)
{
	return m->token_bytes * PAGE_TOKENS + m->state_bytes;
}

/* org--name */
static char *flat_name(const struct known_model *m)
{
	const char *slash = strchr(m->name, '/');

	return xasprintf("%.*s--%s", (int)(slash - m->name), m->name, slash + 1);
}

/* As `hf download` takes it: patterns, none of which a file with code matches. */
static char *command_of(const struct known_model *m, const char *flat)
{
	return xasprintf(
		"hf download %s --include \"*.json\" \"*.safetensors\" \"*.jinja\" --local-dir "
		"%s/%s",
		m->name, folders_root(), flat);
}

static void print_table(void)
{
	printf("%-40s %10s %9s %9s  %s\n", "MODEL", "PARAMETERS", "WEIGHTS", "MEMORY", "PIPELINE");
	for (const struct known_model *m = known_models; m->name; m++)
		printf("%-40s %8.2f B %9s %9s  %s\n", m->name, (double)m->parameters / 1e9,
		       size_text(m->weights).s, size_text(m->weights + page_bytes(m)).s,
		       m->pipeline				   ? m->pipeline
		       : model_architecture_known(m->architecture) ? "(none shipped)"
								   : "(recogniser: command)");
	puts("\nMEMORY: weights and one page of 32768 tokens; `cloister models plan NAME` tells "
	     "more.");
}

static void print_files(const struct known_model *m)
{
	puts("\nFiles:");
	for (const struct known_file *f = m->files; f->path; f++)
		printf("  %-36s %s%s%s%s\n", f->path, f->size ? f->size : "size unknown",
		       f->wanted ? " (" : "", f->wanted ? f->wanted : "", f->wanted ? ")" : "");
	printf("  weights together: %s (%s)\n", size_text(m->weights).s, m->weights_how);
	puts("  Leave out *.py, *.bin and *.pt: they carry code, and are never opened.");
}

static void print_plan(const struct known_model *m)
{
	char *flat = flat_name(m), *command = command_of(m, flat);
	const char *root = folders_root();

	printf("%s: %s, %.2f billion parameters\n", m->name, m->architecture,
	       (double)m->parameters / 1e9);
	print_files(m);
	printf("\nLicence: %s. Read it on the model's page before you use it.\n", m->licence);
	printf("\nMemory (GPU, or main memory on a CPU): %s\n",
	       size_text(m->weights + page_bytes(m)).s);
	printf("  computed: weights %s, and %s for a page of %d tokens, which has %" PRIu64
	       " bytes of\n  keys and values a token in bf16",
	       size_text(m->weights).s, size_text(page_bytes(m)).s, PAGE_TOKENS, m->token_bytes);
	if (m->state_bytes)
		printf(" and %s of its own", size_text(m->state_bytes).s);
	puts(". Each page read beside it adds as much;\n"
	     "  a shorter one less. Working memory comes on top and is not in this figure.");
	printf("\nOn a machine with a network, one of:\n"
	       "  %s\n"
	       "  HF_HOME=DIR hf download %s     (a cache: carry all of DIR/hub/models--%s)\n",
	       command, m->name, flat);
	printf("\nIt is found as any of these:\n"
	       "  %s/%s\n  %s/%s\n  %s/hub/models--%s/snapshots/REVISION\n",
	       root, flat, root, m->name, root, flat);
	printf("\nThen:\n  cloister models lock %s\n  cloister models pack %s     (to carry it)\n",
	       m->name, m->name);
	if (m->pipeline)
		printf("\nPipeline: %s%s\n", m->pipeline,
		       m->copied ? ", in a copy whose model: folder: is this one" : "");
	else if (model_architecture_known(m->architecture))
		puts("\nPipeline: none is shipped; the engine reads it with recogniser: model.");
	else
		puts("\nPipeline: none; this version's engine does not read it, a recogniser: "
		     "command "
		     "may.");
	free(command);
	free(flat);
}

static json_t *plan_json(const struct known_model *m)
{
	char *flat = flat_name(m), *command = command_of(m, flat);
	json_t *files = json_array(), *plan;

	for (const struct known_file *f = m->files; f->path; f++)
		json_array_append_new(files, json_pack("{s:s, s:s?, s:s?}", "path", f->path, "size",
						       f->size, "note", f->wanted));
	plan = json_pack(
		"{s:s, s:s, s:I, s:o, s:I, s:s, s:{s:I, s:I, s:I, s:i, s:I}, s:s, s:s?, s:b, "
		"s:s, s:s}",
		"model", m->name, "architecture", m->architecture, "parameters",
		(json_int_t)m->parameters, "files", files, "weights_bytes", (json_int_t)m->weights,
		"weights_how", m->weights_how, "memory", "bytes",
		(json_int_t)(m->weights + page_bytes(m)), "bytes_per_token",
		(json_int_t)m->token_bytes, "bytes_per_page", (json_int_t)m->state_bytes, "tokens",
		PAGE_TOKENS, "weights", (json_int_t)m->weights, "licence", m->licence, "pipeline",
		m->pipeline, "native", model_architecture_known(m->architecture), "folder", flat,
		"command", command);
	free(command);
	free(flat);
	return plan;
}

int folders_plan(const struct folders_options *o)
{
	int code = EX_ALL_DONE;

	if (!o->n_args && !o->json)
		print_table();
	for (const struct known_model *m = known_models; !o->n_args && o->json && m->name; m++)
		folders_print_json(plan_json(m));
	for (int i = 0; i < o->n_args; i++) {
		const struct known_model *m = known_model_find(o->args[i]);
		struct suggestion meant = {NULL, 0};

		if (m && o->json) {
			folders_print_json(plan_json(m));
		} else if (m) {
			printf("%s", i ? "\n\n" : "");
			print_plan(m);
		} else {
			for (m = known_models; m->name; m++) {
				suggest(&meant, o->args[i], m->name);
				suggest(&meant, o->args[i], strchr(m->name, '/') + 1);
			}
			folders_say(
				o,
				"%s: no plan for it%s%s%s; without a name, plan lists the known "
				"models. Any other that has a folder can be locked and packed, too",
				o->args[i], meant.word ? "; did you mean " : "",
				meant.word ? meant.word : "", meant.word ? "?" : "");
			code = EX_SOME_FAILED;
		}
	}
	return code;
}
