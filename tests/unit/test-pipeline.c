/* SPDX-License-Identifier: MIT
 *
 * Pipeline files, tickets and their JSON: what is taken, and how each mistake is explained.
 */
#include "airlock.h"
#include "base/num.h"
#include "pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/cloister-test-pipeline-XXXXXX";
static char file[sizeof(dir) + 16];

static void write_file(const char *text, size_t len, mode_t mode)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* The complaint about a pipeline file, without "FILE:"; "" when it is taken. */
static const char *complaint(const char *text)
{
	static char out[ERR_TEXT_MAX];
	struct pipeline p;
	struct err err = { "", "" };
	enum rc rc;

	write_file(text, strlen(text), 0644);
	rc = pipeline_load(&p, "night", file, &err);
	pipeline_release(&p);
	if (rc == RC_OK)
		return "";
	assert_int_equal(rc, RC_FAILED);
	assert_string_equal(err.reason, "pipeline");
	assert_memory_equal(err.text, file, strlen(file));
	assert_null(strchr(err.text, '\n'));
	snprintf(out, sizeof(out), "%s", err.text + strlen(file) + 1);
	return out;
}

static void load(struct pipeline *p, const char *text)
{
	struct err err = { "", "" };

	write_file(text, strlen(text), 0644);
	if (pipeline_load(p, "night", file, &err))
		fail_msg("%s", err.text);
}

static void test_defaults(void **state)
{
	struct pipeline p;

	(void)state;
	load(&p, "# nothing said\n");
	assert_string_equal(p.name, "night");
	assert_string_equal(p.file, file);
	assert_int_equal(p.recogniser, RECOGNISER_TESSERACT);
	assert_int_equal(p.n_languages, 1);
	assert_string_equal(p.languages[0], "eng");
	assert_int_equal(p.page_segmentation, 3);
	assert_int_equal(p.rotate, ROTATE_AUTO);
	assert_int_equal(p.dpi, 300);
	assert_int_equal(p.text_layer, TEXT_LAYER_IGNORE);
	assert_true(p.blank_ink == 0.00003);
	assert_int_equal(p.outputs, 31); /* document.html only where it is asked for */
	assert_int_equal(p.figures, FIGURES_CUT);
	assert_int_equal(p.priority, 5);
	assert_int_equal(p.limits.page_megapixels, 100);
	assert_int_equal(p.limits.archive_ratio, 200);
	pipeline_release(&p);
}

static const char every_key[] = "recogniser: command\n"
				"command: [/usr/bin/reader, --fast]\n"
				"languages:\n  - deu\n  - script/Latin\n"
				"page_segmentation: single-block\n"
				"rotate: none\n"
				"dpi: 200\n"
				"short_side: 1024\n"
				"figures: none\n"
				"text_layer: prefer\n"
				"blank_ink: 1e-4\n"
				"passwords: [\"a b\", '']\n"
				"outputs: [text.txt]\n"
				"priority: 0\n"
				"originals: delete\n"
				"duplicates: process\n"
				"prompt: |\n  Read this.\n  All of it.\n"
				"then: mend\n"
				"limits:\n  page_seconds: 5\n  archive_depth: 0\n";

static void check_every_key(const struct pipeline *p)
{
	assert_int_equal(p->recogniser, RECOGNISER_COMMAND);
	assert_int_equal(p->n_command, 2);
	assert_string_equal(p->command[1], "--fast");
	assert_null(p->command[2]);
	assert_int_equal(p->n_languages, 2);
	assert_string_equal(p->languages[1], "script/Latin");
	assert_int_equal(p->page_segmentation, 6);
	assert_int_equal(p->rotate, ROTATE_NONE);
	assert_int_equal(p->dpi, 200);
	assert_int_equal(p->short_side, 1024);
	assert_int_equal(p->figures, FIGURES_NONE);
	assert_int_equal(p->text_layer, TEXT_LAYER_PREFER);
	assert_true(p->blank_ink == 1e-4);
	assert_int_equal(p->n_passwords, 2);
	assert_string_equal(p->passwords[0], "a b");
	assert_string_equal(p->passwords[1], "");
	assert_int_equal(p->outputs, OUTPUT_TEXT_TXT | OUTPUT_DOCUMENT_JSON);
	assert_int_equal(p->priority, 0);
	assert_int_equal(p->originals, ORIGINALS_DELETE);
	assert_int_equal(p->duplicates, DUPLICATES_PROCESS);
	assert_string_equal(p->prompt, "Read this.\nAll of it.\n");
	assert_string_equal(p->then, "mend");
	assert_null(p->next);
	assert_int_equal(p->limits.page_seconds, 5);
	assert_int_equal(p->limits.archive_depth, 0);
	assert_int_equal(p->limits.open_seconds, 60);
}

static void test_every_key(void **state)
{
	struct pipeline p, copy, back;
	struct err err;
	json_t *json, *wire;
	char *line;

	(void)state;
	load(&p, every_key);
	check_every_key(&p);
	pipeline_copy(&copy, &p);
	json = pipeline_json(&p, true);
	pipeline_release(&p);
	check_every_key(&copy);
	pipeline_release(&copy);

	line = airlock_dump(json);
	wire = airlock_parse(line, strlen(line), &err);
	assert_int_equal(pipeline_from_json(&back, wire, &err), RC_OK);
	check_every_key(&back);
	assert_string_equal(back.name, "night");
	pipeline_release(&back);
	json_decref(wire);
	json_decref(json);
	free(line);
}

/* Adapters are part of what makes a result, and of what a page is asked with, in their order. */
static void test_adapters(void **state)
{
	static const char none[] = "recogniser: model\nmodel: {folder: a/b}\n",
			  two[] = "recogniser: model\nmodel: {folder: a/b, adapters: [c/d, /e]}\n",
			  turned[] = "recogniser: model\nmodel: {folder: a/b, adapters: [/e, c/d]}\n";
	char hex[3][SHA256_HEX_SIZE];
	struct pipeline p, copy, back;
	json_t *params, *list, *json;
	struct err err;

	(void)state;
	load(&p, two);
	pipeline_copy(&copy, &p);
	pipeline_release(&p);
	params = pipeline_params(&copy);
	list = json_object_get(params, "adapters");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(json_array_get(list, 0)), "c/d");
	assert_string_equal(json_string_value(json_array_get(list, 1)), "/e");
	json = pipeline_json(&copy, true);
	pipeline_hash(&copy, hex[0]);
	pipeline_release(&copy);
	assert_int_equal(pipeline_from_json(&back, json, &err), RC_OK);
	assert_int_equal(back.model.n_adapters, 2);
	pipeline_release(&back);
	json_decref(json);
	json_decref(params);
	load(&p, none);
	params = pipeline_params(&p);
	assert_null(json_object_get(params, "adapters"));
	json_decref(params);
	pipeline_hash(&p, hex[1]);
	pipeline_release(&p);
	load(&p, turned);
	pipeline_hash(&p, hex[2]);
	pipeline_release(&p);
	assert_string_not_equal(hex[0], hex[1]);
	assert_string_not_equal(hex[0], hex[2]);
}

static void test_complaints(void **state)
{
	static const struct {
		const char *text, *complaint;
	} cases[] = {
		{ "dpi: 300\nlangauges: [eng]\n", "2: unknown key 'langauges', did you mean 'languages'?" },
		{ "text-layer: prefer\n", "1: unknown key 'text-layer', did you mean 'text_layer'?" },
		{ "colour: red\n", "1: unknown key 'colour'" },
		{ "psm: 6\n", "1: psm is called page_segmentation here" },
		{ "\n\npage_seconds: 6\n", "3: key 'page_seconds' belongs beneath 'limits:'" },
		{ "limits:\n  dpi: 6\n", "2: key 'dpi' does not belong beneath 'limits:'" },
		{ "limits:\n  page_second: 6\n",
		  "2: unknown key 'page_second', did you mean 'page_seconds'?" },
		{ "password: x\n", "1: unknown key 'password', did you mean 'passwords'?" },
		{ "dpi: 300\nrotate: no\n", "2: rotate: 'no' is not one of auto, none; did you mean 'none'?" },
		{ "rotate: atuo\n",
		  "1: rotate: 'atuo' is not one of auto, none; did you mean 'auto'?" },
		{ "dpi: 9999\n", "1: dpi: 9999 is out of range, 50 to 1200" },
		{ "dpi: -1\n", "1: dpi: '-1' is not a whole number from 50 to 1200" },
		{ "dpi: 3.5\n", "1: dpi: '3.5' is not a whole number from 50 to 1200" },
		{ "dpi: 300dpi\n", "1: dpi: '300dpi' is not a whole number from 50 to 1200" },
		{ "dpi: 99999999999999999999999\n",
		  "1: dpi: '99999999999999999999999' is not a whole number from 50 to 1200" },
		{ "dpi:\n", "1: dpi: has no value" },
		{ "limits:\n  page_seconds: 0\n", "2: limits.page_seconds: 0 is out of range, 1 to 86400" },
		{ "blank_ink: nan\n", "1: blank_ink: 'nan' is not a number from 0 to 1" },
		{ "blank_ink: 0.1x\n", "1: blank_ink: '0.1x' is not a number from 0 to 1" },
		{ "blank_ink: 2\n", "1: blank_ink: 2 is out of range, 0 to 1" },
		{ "page_segmentation: 2\n", NULL },
		{ "languages: eng\n", "1: languages must be a list: write languages: [eng, deu]" },
		{ "languages: []\n", "1: languages: needs 1 to 32 entries" },
		{ "languages:\n  - eng\n  - ../../etc/passwd\n",
		  "3: languages: '../../etc/passwd' is not a Tesseract language code such as eng or "
		  "script/Latin" },
		{ "languages: [\"/eng\"]\n", NULL },
		{ "languages: [eng, [deu]]\n", "1: an entry of languages must be a single value" },
		{ "outputs: [text.md, pages.json]\n", NULL },
		{ "dpi: [300]\n", "1: dpi must be a single value" },
		{ "limits: 5\n", NULL },
		{ "- dpi\n", "1: expected lines of the form 'key: value'" },
		{ "hello\n", "1: expected lines of the form 'key: value'" },
		{ "dpi: 300\ndpi: 200\n", "2: dpi is given twice, first in line 1" },
		{ "dpi: 300\n\trotate: auto\n", "2: a tab cannot indent YAML, use spaces" },
		{ "limits:\n\tpage_seconds: 3\n", "2: a tab cannot indent YAML, use spaces" },
		{ "dpi: 300\n rotate: auto\n", NULL },
		{ "dpi 300\nrotate: auto\n",
		  "2: wrong indentation, ':' missing in the line above, or a text that needs quotes" },
		{ "rotate: auto\ndpi 300\n", "2: a key without ':' after it" },
		{ "dpi: \"300\n", NULL },
		{ "prompt: read: this\n",
		  "1: wrong indentation, ':' missing in the line above, or a text that needs quotes" },
		{ "dpi: &a 300\nlimits:\n  page_seconds: *a\n",
		  "3: aliases (*name) are not allowed, write the value out" },
		{ "dpi: 300\n---\ndpi: 200\n", "2: a second document starts here" },
		{ "prompt: \"a\\0b\"\n", "1: a value holds a NUL character" },
		{ "dpi: [[[[[[300]]]]]]\n", "1: nested too deep" },
		{ "? [a]\n: b\n", "1: a key must be a plain word" },
		{ "dpi: 300\nprompt: \x80\n", NULL },
		{ "recogniser: command\n", NULL },
		{ "recogniser: model\nmodel:\n  folder: a/b\n  adapters: c/d\n",
		  "4: adapters must be a list: write adapters: [org/name]" },
		{ "recogniser: model\nmodel:\n  folder: a/b\n  adapters:\n    - c/d\n    - c/d\n",
		  "4: model.adapters: 'c/d' is named twice" },
		{ "recogniser: model\nmodel:\n  folder: a/b\n  adapters: [a, b, c, d, e]\n",
		  "4: model.adapters: needs 0 to 4 entries" },
		{ "recogniser: model\nmodel:\n  folder: a/b\n  adapters: ['']\n",
		  "4: model.adapters: '' is not the folder of an adapter" },
		{ "recogniser: model\nmodel:\n  folder: a/b\n  weights: fp8\n",
		  "4: model.weights: is fp8, which needs device: cuda" },
		{ "recogniser: model\nmodel:\n  folder: a/b\n  adpters: [c]\n",
		  "4: unknown key 'adpters', did you mean 'adapters'?" },
		{ "command: [/bin/true]\n", "1: command: is used only with recogniser: command" },
		{ "recogniser: command\ncommand: [reader]\n",
		  "2: command: 'reader' is not an absolute path" },
		{ "dpi: \"3\\e[31m00\"\n",
		  "1: dpi: '3\\x1b[31m00' is not a whole number from 50 to 1200" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *said = complaint(cases[i].text);

		assert_string_not_equal(said, "");
		if (cases[i].complaint)
			assert_string_equal(said, cases[i].complaint);
	}
	assert_non_null(strstr(complaint("page_segmentation: 2\n"), "1 and 3 to 13"));
	assert_non_null(strstr(complaint("outputs: [pages.json]\n"), "did you mean 'pages.jsonl'?"));
	assert_non_null(strstr(complaint("\ndpi: 300\nprompt: \x80\n"), "3: not valid UTF-8"));
	assert_non_null(strstr(complaint("recogniser: command\n"), "1: recogniser: "));
}

/* A password stands in no message, whatever is wrong around it. */
static void test_passwords_stay_secret(void **state)
{
	char text[1024];

	(void)state;
	snprintf(text, sizeof(text), "passwords: [\"s3cret%0600d\"]\n", 0);
	assert_non_null(strstr(complaint(text), "1: passwords: an entry is not a password"));
	assert_null(strstr(complaint(text), "s3cret"));
	assert_null(strstr(complaint("passwords: [s3cret, [s3cret]]\n"), "s3cret"));
	assert_null(strstr(complaint("passwords: s3cret\n"), "s3cret"));
	assert_null(strstr(complaint("passwords: {s3cret: 1}\n"), "s3cret"));
}

static void test_files(void **state)
{
	static char big[70000];
	struct pipeline p;
	struct err err;

	(void)state;
	write_file("dpi: 300\n", 9, 0664);
	assert_int_equal(pipeline_load(&p, "n", file, &err), RC_FAILED);
	assert_non_null(strstr(err.text, "others can write it (mode 664)"));
	pipeline_release(&p);
	write_file("dpi: 300\n", 9, 0602);
	assert_int_equal(pipeline_load(&p, "n", file, &err), RC_FAILED);
	pipeline_release(&p);
	if (geteuid() == 0) {
		write_file("dpi: 300\n", 9, 0644);
		assert_int_equal(chown(file, 1234, 1234), 0);
		assert_int_equal(pipeline_load(&p, "n", file, &err), RC_FAILED);
		assert_non_null(strstr(err.text, "belongs to user 1234"));
		pipeline_release(&p);
		assert_int_equal(chown(file, 0, 0), 0);
	}
	memset(big, '#', sizeof(big));
	write_file(big, sizeof(big), 0644);
	assert_int_equal(pipeline_load(&p, "n", file, &err), RC_FAILED);
	assert_non_null(strstr(err.text, "larger than 65536 bytes"));
	pipeline_release(&p);
	assert_int_equal(pipeline_load(&p, "n", dir, &err), RC_FAILED);
	assert_non_null(strstr(err.text, "not a regular file"));
	pipeline_release(&p);
	unlink(file);
	assert_int_equal(mkfifo(file, 0600), 0); /* must not hang */
	assert_int_equal(pipeline_load(&p, "n", file, &err), RC_FAILED);
	pipeline_release(&p);
	unlink(file);
	assert_int_equal(pipeline_load(&p, "n", file, &err), RC_FAILED);
	assert_non_null(strstr(err.text, "No such file"));
	pipeline_release(&p);
}

static void hash_of(const char *text, char hex[SHA256_HEX_SIZE])
{
	struct pipeline p;

	load(&p, text);
	pipeline_hash(&p, hex);
	pipeline_release(&p);
}

static void test_hash(void **state)
{
	static const char *const same[] = {
		"dpi: 300\nrotate: auto\n", "rotate: auto\n# x\n", "passwords: [a]\n",
		"priority: 1\n", "outputs: [text.md]\n", "originals: keep\n", "duplicates: skip\n",
		"page_segmentation: 3\n", "limits: {page_seconds: 60}\n",
	};
	static const char *const other[] = {
		"dpi: 301\n", "rotate: none\n", "languages: [deu]\n", "blank_ink: 0.1\n",
		"text_layer: prefer\n", "prompt: x\n", "page_segmentation: auto-osd\n",
		"limits: {page_megapixels: 99}\n", "figures: none\n", "short_side: 900\n",
		"limits: {page_figures: 1}\n",
		"recogniser: command\ncommand: [/bin/a]\n",
	};
	char base[SHA256_HEX_SIZE], hex[SHA256_HEX_SIZE];

	(void)state;
	hash_of("", base);
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		hash_of(same[i], hex);
		assert_string_equal(hex, base);
	}
	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		hash_of(other[i], hex);
		assert_string_not_equal(hex, base);
	}
	hash_of("recogniser: model\nmodel: {folder: /m, device: cuda}\n", base);
	hash_of("recogniser: model\nmodel: {folder: /m, device: cuda, weights: fp8}\n", hex);
	assert_string_not_equal(hex, base);
}

/* What the text does not depend on is no part of it, and not among what document.json says of a reading. */
static void test_hash_of_model(void **state)
{
	char base[SHA256_HEX_SIZE], hex[SHA256_HEX_SIZE];
	struct pipeline p;
	json_t *params;

	(void)state;
	hash_of("recogniser: model\nmodel: {folder: a/b}\n", base);
	hash_of("recogniser: model\nmodel: {folder: a/b, speculate: 8, threads: 1}\n", hex);
	assert_string_equal(hex, base);
	hash_of("recogniser: model\nmodel: {folder: a/b, tokens: 9}\n", hex);
	assert_string_not_equal(hex, base);
	load(&p, "recogniser: model\nmodel: {folder: a/b, speculate: 8}\n");
	assert_int_equal(p.model.speculate, 8);
	params = pipeline_params(&p);
	assert_non_null(json_object_get(params, "tokens"));
	assert_null(json_object_get(params, "speculate"));
	json_decref(params);
	pipeline_release(&p);
}

/* The hash of a pipeline that another one of these settings follows. */
static void hash_with(const char *next, char hex[SHA256_HEX_SIZE])
{
	struct pipeline p, then, copy;
	struct err err;

	load(&p, "dpi: 200\nthen: mend\n");
	load(&then, next);
	assert_int_equal(pipeline_follow(&p, &then, &err), RC_OK);
	pipeline_copy(&copy, &p);
	pipeline_release(&p);
	pipeline_hash(&copy, hex);
	pipeline_release(&copy);
}

/* What follows counts, but not what it is called. */
static void test_hash_of_then(void **state)
{
	char alone[SHA256_HEX_SIZE], named[SHA256_HEX_SIZE], hex[SHA256_HEX_SIZE], again[SHA256_HEX_SIZE];

	(void)state;
	hash_of("dpi: 200\n", alone);
	hash_of("dpi: 200\nthen: mend\n", named);
	assert_string_equal(alone, named);
	hash_with("recogniser: command\ncommand: [/bin/a]\n", hex);
	assert_string_not_equal(hex, alone);
	hash_with("recogniser: command\ncommand: [/bin/a]\npriority: 2\n", again);
	assert_string_equal(again, hex);
	hash_with("recogniser: command\ncommand: [/bin/a]\nprompt: x\n", again);
	assert_string_not_equal(again, hex);
}

/* The hash of a model's pipeline as it was before there was the key `deterministic`. */
static void hash_of_old(const char *text, char hex[SHA256_HEX_SIZE])
{
	static const char *const never[] = {"name", "passwords", "outputs", "priority", "originals", "duplicates"},
				 *const of_model[] = {"gpus", "sequences", "cache_mebibytes", "threads",
						      "speculate", "deterministic"};
	struct pipeline p;
	json_t *all;
	char *line;

	load(&p, text);
	all = pipeline_json(&p, true);
	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		json_object_del(all, never[i]);
	for (size_t i = 0; i < ARRAY_SIZE(of_model); i++)
		assert_int_equal(json_object_del(json_object_get(all, "model"), of_model[i]), 0);
	line = airlock_dump(all);
	sha256_hex_of(line, strlen(line), hex);
	free(line);
	json_decref(all);
	pipeline_release(&p);
}

/* Without a fixed order it is another pipeline; with one it is what it was before there was the key. */
static void test_hash_of_order(void **state)
{
	static const char model[] = "recogniser: model\nmodel: {folder: a/b, device: auto}\n",
			  fixed[] = "recogniser: model\nmodel: {folder: a/b, device: auto, deterministic: true}\n",
			  any[] = "recogniser: model\nmodel: {folder: a/b, device: auto, deterministic: false}\n";
	char hex[SHA256_HEX_SIZE], base[SHA256_HEX_SIZE];
	struct pipeline p, copy, back;
	json_t *json, *params;
	struct err err;

	(void)state;
	hash_of_old(model, base);
	hash_of(model, hex);
	assert_string_equal(hex, base);
	hash_of(fixed, hex);
	assert_string_equal(hex, base);
	hash_of(any, hex);
	assert_string_not_equal(hex, base);
	hash_with(model, base);
	hash_with(fixed, hex);
	assert_string_equal(hex, base);
	hash_with(any, hex);
	assert_string_not_equal(hex, base);

	load(&p, any);
	pipeline_copy(&copy, &p);
	assert_false(copy.model.deterministic);
	json = pipeline_json(&copy, true);
	assert_int_equal(pipeline_from_json(&back, json, &err), RC_OK);
	assert_false(back.model.deterministic);
	params = pipeline_params(&copy);
	assert_null(json_object_get(params, "deterministic")); /* one engine is for all its pages */
	json_decref(params);
	json_decref(json);
	pipeline_release(&p);
	pipeline_release(&copy);
	pipeline_release(&back);
	load(&p, model);
	assert_true(p.model.deterministic);
	pipeline_release(&p);
	assert_string_equal(complaint("recogniser: model\nmodel:\n  folder: a/b\n  deterministic: no\n"),
			    "4: model.deterministic: 'no' is not one of true, false");
	assert_string_equal(complaint("recogniser: model\nmodel:\n  folder: a/b\n  deterministic: false\n"),
			    "4: model.deterministic: is false, which is for a GPU, not device: cpu");
}

static const char *ticket_complaint(const char *text)
{
	static struct err err;
	json_t *ticket = NULL;

	if (!ticket_parse("a\nb.yaml", text, strlen(text), &ticket, &err)) {
		json_decref(ticket);
		return "";
	}
	assert_string_equal(err.reason, "ticket");
	return err.text;
}

static const char *follow_complaint(const char *text, const char *next)
{
	static struct err err;
	struct pipeline p, then;

	load(&then, next);
	load(&p, text);
	assert_int_equal(pipeline_follow(&p, &then, &err), RC_FAILED);
	assert_string_equal(err.reason, "pipeline");
	assert_null(p.next);
	pipeline_release(&p);
	return err.text + strlen(file);
}

static void test_follow_complaints(void **state)
{
	(void)state;
	assert_non_null(strstr(follow_complaint("dpi: 200\nthen: a\n", "dpi: 200\n"),
			       ":2: then: 'a' reads pages with Tesseract"));
	assert_non_null(strstr(follow_complaint("then: night\n", "recogniser: command\ncommand: [/bin/a]\n"),
			       ":1: then: 'night' is this pipeline itself"));
	assert_non_null(strstr(follow_complaint("\n\nthen: a\n", "recogniser: command\ncommand: [/bin/a]\n"
								"then: b\n"),
			       ":3: then: 'a' has a then of its own"));
	assert_string_equal(ticket_complaint("dpi: 300\nthen: a\n"),
			    "a\\x0ab.yaml:2: then is for pipelines, a ticket cannot set it");
}

static void test_json_without_secrets(void **state)
{
	struct pipeline p;
	json_t *json;

	(void)state;
	load(&p, "passwords: [s3cret]\n");
	json = pipeline_json(&p, false);
	assert_null(json_object_get(json, "passwords"));
	assert_string_equal(json_string_value(json_object_get(json, "rotate")), "auto");
	json_decref(json);
	pipeline_release(&p);
}

static void test_ticket(void **state)
{
	static const char text[] = "languages: [deu]\npriority: 0\npassword: one\n"
				   "passwords: [two]\noutputs: [text.md]\n";
	json_t *ticket = NULL;
	struct pipeline p;
	struct err err;
	char *line;

	(void)state;
	assert_int_equal(ticket_parse("t", text, strlen(text), &ticket, &err), RC_OK);
	line = airlock_dump(ticket);
	assert_string_equal(line, "{\"languages\":[\"deu\"],\"outputs\":[\"text.md\",\"document.json\"],"
				  "\"passwords\":[\"one\",\"two\"],\"priority\":0}");
	free(line);
	load(&p, "dpi: 200\npasswords: [three]\n");
	assert_int_equal(pipeline_apply_ticket(&p, ticket, &err), RC_OK);
	json_decref(ticket);
	assert_string_equal(p.languages[0], "deu");
	assert_int_equal(p.dpi, 200);
	assert_int_equal(p.priority, 0);
	assert_int_equal(p.n_passwords, 3);
	assert_string_equal(p.passwords[0], "one");
	assert_string_equal(p.passwords[2], "three");
	assert_int_equal(p.outputs, OUTPUT_TEXT_MD | OUTPUT_DOCUMENT_JSON);
	pipeline_release(&p);

	assert_int_equal(ticket_parse("t", "", 0, &ticket, &err), RC_OK);
	assert_int_equal(json_object_size(ticket), 0);
	json_decref(ticket);
}

static void test_ticket_complaints(void **state)
{
	static char big[70000];

	(void)state;
	memset(big, '#', sizeof(big) - 1);
	assert_string_equal(ticket_complaint("dpi: 300\nlangauge: [eng]\n"),
			    "a\\x0ab.yaml:2: unknown key 'langauge', did you mean 'languages'?");
	assert_string_equal(ticket_complaint("recogniser: command\n"),
			    "a\\x0ab.yaml:1: recogniser is for pipelines, a ticket cannot set it");
	assert_string_equal(ticket_complaint("limits:\n  page_seconds: 3\n"),
			    "a\\x0ab.yaml:1: limits is for pipelines, a ticket cannot set it");
	assert_string_equal(ticket_complaint("priority: 10\n"),
			    "a\\x0ab.yaml:1: priority: 10 is out of range, 0 to 9");
	assert_non_null(strstr(ticket_complaint("a: &x [b]\nc: *x\n"), "aliases"));
	assert_non_null(strstr(ticket_complaint(big), "larger than"));
}

/* What arrives from the sandboxed process is not believed, and a refusal changes nothing. */
static void test_apply_checks_again(void **state)
{
	static const char *const bad[] = {
		"[]", "{\"command\":[\"/bin/sh\"]}", "{\"limits\":{}}", "{\"dpi\":1}",
		"{\"dpi\":[300]}", "{\"languages\":[\"../x\"]}", "{\"languages\":[1]}",
		"{\"languages\":\"eng\"}", "{\"outputs\":[\"/etc/passwd\"]}", "{\"nonsense\":1}",
		"{\"passwords\":1}", "{\"passwords\":[1]}", "{\"dpi\":null}", "{\"rotate\":{}}",
		"{\"originals\":\"delete\"}",
	};
	char before[SHA256_HEX_SIZE], after[SHA256_HEX_SIZE];
	struct pipeline p;
	struct err err;

	(void)state;
	pipeline_defaults(&p, "p");
	pipeline_hash(&p, before);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *ticket = json_loads(bad[i], 0, NULL);

		assert_non_null(ticket);
		assert_int_equal(pipeline_apply_ticket(&p, ticket, &err), RC_FAILED);
		pipeline_hash(&p, after);
		assert_string_equal(before, after);
		json_decref(ticket);
	}
	pipeline_release(&p);
}

/* Every mutation of a good file is taken or explained, and nothing else happens. */
static void test_mutations(void **state)
{
	static const char odd[] = "\t\n :-[]{}&*!|>'\"%@#?,\x80\xff\x00z9";
	char text[sizeof(every_key)];
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		json_t *ticket = NULL;
		struct err err = { "", "" };

		memcpy(text, every_key, sizeof(text));
		for (int k = 0; k < 3; k++) {
			seed = seed * 1103515245 + 12345;
			text[(seed >> 8) % (sizeof(text) - 1)] = odd[(seed >> 20) % sizeof(odd)];
		}
		if (ticket_parse("t", text, sizeof(text) - 1, &ticket, &err)) {
			assert_string_not_equal(err.text, "");
			assert_null(ticket);
		}
		json_decref(ticket);
	}
}

static void test_shipped_files(void **state)
{
	static const char *const shipped[] = { "pipelines/tesseract.yaml",
					       "pipelines/born-digital.yaml",
					       "pipelines/chandra.yaml",
					       "pipelines/nanonets.yaml",
					       "pipelines/qwen3-text.yaml",
					       "pipelines/qwen3-vl.yaml" };
	char hex[SHA256_HEX_SIZE], base[SHA256_HEX_SIZE];
	struct pipeline p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shipped); i++) {
		char text[65536];
		int fd = open(shipped[i], O_RDONLY);
		ssize_t n = read(fd, text, sizeof(text) - 1);

		assert_true(n > 0);
		close(fd);
		text[n] = '\0';
		load(&p, text); /* the checkout's own mode does not matter here */
		pipeline_hash(&p, hex);
		pipeline_release(&p);
		pipeline_defaults(&p, "p");
		pipeline_hash(&p, base);
		pipeline_release(&p);
		assert_int_equal(strcmp(hex, base) == 0, i == 0); /* tesseract.yaml: the defaults */
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_key),
		cmocka_unit_test(test_adapters),
		cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_passwords_stay_secret),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_hash_of_model),
		cmocka_unit_test(test_hash_of_then),
		cmocka_unit_test(test_hash_of_order),
		cmocka_unit_test(test_follow_complaints),
		cmocka_unit_test(test_json_without_secrets),
		cmocka_unit_test(test_ticket),
		cmocka_unit_test(test_ticket_complaints),
		cmocka_unit_test(test_apply_checks_again),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_shipped_files),
	};
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (!mkdtemp(dir))
		return 1;
	snprintf(file, sizeof(file), "%s/p.yaml", dir);
	failed = cmocka_run_group_tests_name("pipeline", tests, NULL, NULL);
	unlink(file);
	rmdir(dir);
	return failed;
}
