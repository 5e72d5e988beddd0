/* SPDX-License-Identifier: MIT
 *
 * pipeline: the settings a document is processed with.
 *
 * A pipeline file is YAML, read through libcyaml's schema: unknown keys, wrong types and values
 * out of range are errors that name the file, the line, the key and, where one is near, the key
 * that was meant.  A ticket (NAME.cloister.yaml beside a document) uses a subset of the same keys.
 * The shipped files beside this one are the reference for users; tesseract.yaml shows every key.
 */
#ifndef PIPELINES_PIPELINE_H
#define PIPELINES_PIPELINE_H

#include "base/err.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum recogniser_kind { RECOGNISER_TESSERACT, RECOGNISER_MODEL, RECOGNISER_COMMAND };
enum rotate_policy { ROTATE_NONE, ROTATE_AUTO };
enum text_layer_policy { TEXT_LAYER_IGNORE, TEXT_LAYER_PREFER };
enum originals_policy { ORIGINALS_MOVE, ORIGINALS_KEEP, ORIGINALS_DELETE };
enum duplicates_policy { DUPLICATES_LINK, DUPLICATES_SKIP, DUPLICATES_PROCESS };
enum figures_policy { FIGURES_CUT, FIGURES_NONE };

enum foreign_wrap { WRAP_SANDBOX, WRAP_PODMAN, WRAP_DOCKER, WRAP_NONE };

enum model_weights { MODEL_BF16, MODEL_INT8, MODEL_FP8, MODEL_F32 };
enum model_kv { MODEL_KV_BF16, MODEL_KV_FP8 };
enum model_device { DEVICE_CPU, DEVICE_CUDA, DEVICE_AUTO };
enum model_reply { REPLY_TEXT, REPLY_MARKDOWN, REPLY_LAYOUT, REPLY_SAME };
enum model_heads { HEADS_DROP, HEADS_KEEP };
enum model_resize { RESIZE_ONCE, RESIZE_LANCZOS };

/* RECOGNISER_MODEL: which model reads, and how. */
struct model_settings {
	char *folder;		  /* absolute, or a name beneath $CLOISTER_MODELS */
	char **adapters;	  /* LoRA, folders likewise; all are added to the model for this pipeline */
	size_t n_adapters;
	enum model_weights weights;
	enum model_kv kv;	  /* what keys and values are kept in */
	unsigned deterministic;	  /* false: on a GPU a text may depend on what is read beside it */
	uint64_t speculate;	  /* tokens guessed ahead at most, of each page; the text is the same */
	enum model_device device; /* auto: a GPU where there is one */
	uint64_t gpus;		  /* at most, a process each; 0: all */
	enum model_reply reply;	  /* what it writes; SAME: what the text is that it is given */
	enum model_heads heads;	  /* page headers and footers of REPLY_LAYOUT */
	unsigned think;		  /* yes: a text model that can may think before it answers */
	uint64_t page_pixels;	  /* pages are brought below; 0: as the model's own settings say */
	enum model_resize resize; /* how: straight to the model's grid, or by Lanczos before */
	uint64_t enlarge;	  /* RESIZE_LANCZOS: images get a shorter side of so many pixels first */
	uint64_t tokens;	  /* it may write for a page */
	double temperature;	  /* 0: always the likeliest token */
	double top_p, min_p, repetition_penalty;
	uint64_t top_k, retries;  /* retries: of a page on which it goes round in circles */
	uint64_t sequences;	  /* pages read side by side */
	uint64_t cache_mebibytes; /* for their keys and values; 0: 4096, on a GPU what is left */
	uint64_t threads;	  /* 0: one for each CPU */
};

/* RECOGNISER_COMMAND: what is around it. */
struct foreign_settings {
	enum foreign_wrap wrap;
	char *image;		      /* of a container; its command is `command` */
	char **reads;		      /* absolute paths that it may read */
	size_t n_reads;
	char *gpus;		      /* "none", "all", or numbers: "0,1" */
	uint64_t memory_mebibytes;    /* 0: no limit */
	uint64_t temporary_mebibytes; /* its folder for temporary files; 0: none */
};

/* Bits of pipeline.outputs, in the order they are listed. */
enum output_file {
	OUTPUT_TEXT_MD = 1 << 0,
	OUTPUT_TEXT_TXT = 1 << 1,
	OUTPUT_DOCUMENT_JSON = 1 << 2, /* always set: it is the proof of what was done */
	OUTPUT_PAGES_JSONL = 1 << 3,
	OUTPUT_HOCR = 1 << 4,
	OUTPUT_DOCUMENT_HTML = 1 << 5, /* only where it is asked for */
};

/* A limit that is passed is reported as "limit:" + the key with '-' for '_'. */
struct limits {
	uint64_t input_mebibytes;      /* 4096   document file */
	uint64_t document_pages;       /* 20000  */
	uint64_t page_megapixels;      /* 100    raster handed to the recogniser; dpi is lowered */
	uint64_t page_side_pixels;     /* 30000  */
	uint64_t image_megapixels;     /* 400    image inside a document, before decoding */
	uint64_t page_cpu_seconds;     /* 30     decoding one page */
	uint64_t page_seconds;         /* 60     the same, wall clock */
	uint64_t open_seconds;         /* 60     opening a document, wall clock */
	uint64_t memory_mebibytes;     /* 2048   address space of the decoder */
	uint64_t read_seconds;         /* 300    one page in the recogniser, wall clock */
	uint64_t result_kibibytes;     /* 16384  one page's result line */
	uint64_t page_figures;	       /* 64     cut out of one page */
	uint64_t figures_mebibytes;    /* 16     all of one page together, as PNG */
	uint64_t archive_members;      /* 16384  */
	uint64_t archive_depth;        /* 2      archives inside archives */
	uint64_t archive_mebibytes;    /* 20480  unpacked, all members together */
	uint64_t archive_ratio;        /* 200    unpacked : packed, above 10 MiB */
};

struct pipeline {
	char *name;
	char *file; /* where it was read from, for messages */
	enum recogniser_kind recogniser;
	char **command; /* RECOGNISER_COMMAND: argv, NULL-terminated; argv[0] absolute */
	size_t n_command;
	struct foreign_settings foreign;
	char **languages; /* Tesseract language codes, at least one */
	size_t n_languages;
	unsigned page_segmentation; /* Tesseract PSM 1..13 without 2; default 3 */
	enum rotate_policy rotate;
	unsigned dpi; /* 50..1200, default 300: for pages that are rendered */
	unsigned short_side; /* pixels; those get a higher dpi until their shorter side has them */
	enum text_layer_policy text_layer;
	double blank_ink; /* share of ink below which a page is blank */
	char **passwords; /* secret: never logged, never part of the hash */
	size_t n_passwords;
	enum figures_policy figures;
	unsigned outputs;  /* enum output_file bits */
	unsigned priority; /* 0 first .. 9 last, default 5 */
	enum originals_policy originals;
	enum duplicates_policy duplicates;
	char *prompt; /* for recognisers that take one; may be NULL */
	char *then;	       /* name of the pipeline whose recogniser is given each page's text, or NULL */
	size_t then_line;      /* where `file` says so */
	struct pipeline *next; /* that pipeline, once pipeline_follow() has taken it; owned */
	struct model_settings model;
	struct limits limits;
};

/* What a pipeline without a file has: Tesseract, English, all outputs. Caller releases. */
void pipeline_defaults(struct pipeline *p, const char *name);

/* Read and check a pipeline file. name becomes pipeline->name (borrowed, copied). On failure
 * RC_FAILED, reason "pipeline", text "FILE:LINE: ...". The file must be owned by root or the
 * caller and not writable by others (reason "pipeline", says so). Caller releases either way. */
enum rc pipeline_load(struct pipeline *p, const char *name, const char *file, struct err *err);
void pipeline_release(struct pipeline *p);

/* A complaint about p->then, with file and line. RC_FAILED, reason "pipeline". */
enum rc pipeline_blame_then(const struct pipeline *p, struct err *err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* p->then is this pipeline (moved into p, or released). RC_FAILED when it cannot be: it reads pages
 * with Tesseract, or has a `then` of its own. */
enum rc pipeline_follow(struct pipeline *p, struct pipeline *next, struct err *err);
void pipeline_copy(struct pipeline *to, const struct pipeline *from);

/* A ticket: YAML bytes with any of: languages, page_segmentation, rotate, dpi, text_layer,
 * priority, password, passwords, outputs. Checked and turned into a JSON object with those keys
 * (password folded into passwords); parses hostile bytes, so it runs inside the decode sandbox.
 * RC_FAILED, reason "ticket", text "NAME:LINE: ...". */
enum rc ticket_parse(const char *name, const void *bytes, size_t len, json_t **out,
		     struct err *err);
/* Apply what ticket_parse() returned. RC_FAILED when a key or type is not from that set. */
enum rc pipeline_apply_ticket(struct pipeline *p, const json_t *ticket, struct err *err);

/* SHA-256 of everything that can change the text of a result: the canonical JSON of the effective
 * settings without name, file, passwords, priority, outputs, originals, duplicates, and the same of
 * the pipeline that follows. */
void pipeline_hash(const struct pipeline *p, char hex[SHA256_HEX_SIZE]);

/* Effective settings as JSON for document.json and for children; with passwords only if `secrets`.
 * New reference. */
json_t *pipeline_json(const struct pipeline *p, bool secrets);

/* What its recogniser is told with every page (airlock.h). New reference. */
json_t *pipeline_params(const struct pipeline *p);

/* Back from pipeline_json(), for a child's open line; checked as a file is, keys that are absent
 * have their defaults. RC_FAILED, reason "pipeline". Caller releases. */
enum rc pipeline_from_json(struct pipeline *p, const json_t *json, struct err *err);

/* File names of outputs in the order of enum output_file: output_names[0] = "text.md" ... */
extern const char *const output_names[];
#define N_OUTPUTS 6

#endif
