/* SPDX-License-Identifier: MIT
 *
 * cloister-model: a recogniser that reads pages with a vision-language model, or works on their
 * text with a language model.
 *
 * It speaks the airlock protocol (airlock.h). The sandbox is entered first, with nothing open but
 * the page folder: the model's files are somebody else's data and are read behind the locks, and
 * threads that start behind them are bound by them. Then hello, then requests.
 */
#include "airlock.h"
#include "bench.h"
#include "gate.h"
#include "kernels/cpu.h"
#include "modelfolder.h"
#include "probe.h"
#include "sandbox.h"
#include "sandbox_gpu.h"
#include "serve/eyes.h"
#include "serve/serve.h"
#include "base/log.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef CLOISTER_CUDA
#define COMPUTE_OPEN compute_open_cuda
#define EYES	     4 /* the CPU has nothing else to do */
#else
#define COMPUTE_OPEN compute_open_cpu
#define EYES	     0
#endif

#define SEQUENCES_MAX 256

static const char usage[] =
	"usage: cloister-model --model DIR --pages DIR [OPTION]...\n"
	"       cloister-model --model DIR --identify\n"
	"       cloister-model bench --help\n"
	"\n"
	"Reads airlock requests on standard input, writes results on standard output.\n"
	"\n"
	"  --model DIR      the model's folder, as downloaded: an absolute path, or a name "
	"beneath\n"
	"                   $CLOISTER_MODELS (default /models), such as nanonets/Nanonets-OCR2-3B\n"
	"  --adapter DIR    a LoRA adapter's folder, likewise; may be given many times. Requests name "
	"it so\n"
	"  --pages DIR      folder that the page files lie in\n"
	"  --weights KIND   bf16 (default), int8 or f32; on a GPU bf16 or fp8\n"
	"  --threads N      0 (default): one for each CPU\n"
	"  --sequences N    pages read side by side (default 8)\n"
	"  --eyes N         threads that prepare pages ahead, while others are read (default: 4 beside "
	"a GPU,\n"
	"                   else 0)\n"
	"  --cache SIZE     for their keys and values, such as 512M; 0 (default): 4G, on a GPU what "
	"is left\n"
	"  --kv KIND        what those are kept in: bf16 (default), on a GPU fp8 as well\n"
	"  --any-order      on a GPU: may be faster, but a text may depend on what is read beside it\n"
	"  --speculate N    guess up to so many tokens of each page ahead, where text repeats itself: 0 "
	"(default)\n"
	"                   to 8. The text is the same\n"
	"  --sandbox MODE   on: refuse to run without (default); try: what the kernel has; off\n"
	"  --require-lock   refuse a model that is not as its cloister.lock says, or has none\n"
	"  --identify       say who this is, with the hash of the model, and exit\n"
	"  --probe DIR      try what the sandbox refuses, as `cloister verify` wants it\n"
	"  --probe-network  when the model is loaded, ask for a socket, likewise\n"
	"  --version, --help\n";

struct options {
	bool probe_network;
	const char *model, *pages, *probe, *adapters[ADAPTERS_MAX];
	size_t adapter_count;
	enum number weights;
	enum compute_keys keys;
	uint64_t threads, sequences, eyes, cache, drafts;
	enum sandbox_mode sandbox;
	bool identify, require_lock, any_order;
};

static enum number weights_of(const char *word)
{
	enum number number;

	if (!number_of_weights(word, &number))
		die(EX_USAGE_ERROR, "--weights is bf16, int8, fp8 or f32, not \"%s\"", word);
	return number;
}

static enum compute_keys keys_of(const char *word)
{
	if (!strcmp(word, "fp8"))
		return COMPUTE_KEYS_FP8;
	if (strcmp(word, "bf16"))
		die(EX_USAGE_ERROR, "--kv is bf16 or fp8, not \"%s\"", word);
	return COMPUTE_KEYS_AS_WEIGHTS;
}

static uint64_t number_of(const char *option, const char *word, uint64_t max)
{
	uint64_t n;

	if (!parse_u64(word, max, &n))
		die(EX_USAGE_ERROR, "%s is a whole number up to %llu, not \"%s\"", option,
		    (unsigned long long)max, word);
	return n;
}

static uint64_t size_of(const char *word)
{
	size_t len = strlen(word);
	unsigned shift = len && strchr("kK", word[len - 1])   ? 10
			 : len && strchr("mM", word[len - 1]) ? 20
			 : len && strchr("gG", word[len - 1]) ? 30
							      : 0;
	char *digits = xstrndup(word, len - (shift != 0));
	uint64_t n = number_of("--cache", digits, UINT64_MAX >> shift) << shift;

	free(digits);
	return n;
}

static void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option table[] = {
		{"model", required_argument, NULL, 'm'},
		{"adapter", required_argument, NULL, 'a'},
		{"pages", required_argument, NULL, 'p'},
		{"weights", required_argument, NULL, 'w'},
		{"threads", required_argument, NULL, 't'},
		{"sequences", required_argument, NULL, 'n'},
		{"eyes", required_argument, NULL, 'e'},
		{"cache", required_argument, NULL, 'c'},
		{"kv", required_argument, NULL, 'k'},
		{"any-order", no_argument, NULL, 'o'},
		{"speculate", required_argument, NULL, 'S'},
		{"sandbox", required_argument, NULL, 's'},
		{"probe", required_argument, NULL, 'P'},
		{"probe-network", no_argument, NULL, 'N'},
		{"identify", no_argument, NULL, 'i'},
		{"require-lock", no_argument, NULL, 'l'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	*o = (struct options){
		.weights = NUMBER_BF16, .sequences = 8, .eyes = EYES, .sandbox = SANDBOX_ON};
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 'm':
			o->model = optarg;
			break;
		case 'a':
			if (o->adapter_count == ADAPTERS_MAX)
				die(EX_USAGE_ERROR, "--adapter is given more than %d times",
				    ADAPTERS_MAX);
			o->adapters[o->adapter_count++] = optarg;
			break;
		case 'p':
			o->pages = optarg;
			break;
		case 'w':
			o->weights = weights_of(optarg);
			break;
		case 't':
			o->threads = number_of("--threads", optarg, 1024);
			break;
		case 'n':
			o->sequences = max_u64(number_of("--sequences", optarg, SEQUENCES_MAX), 1);
			break;
		case 'e':
			o->eyes = number_of("--eyes", optarg, 64);
			break;
		case 'c':
			o->cache = size_of(optarg);
			break;
		case 'k':
			o->keys = keys_of(optarg);
			break;
		case 'o':
			o->any_order = true;
			break;
		case 'S':
			o->drafts = number_of("--speculate", optarg, ENGINE_DRAFTS_MAX);
			break;
		case 's':
			o->sandbox = sandbox_mode_parse(optarg);
			break;
		case 'P':
			o->probe = optarg;
			break;
		case 'N':
			o->probe_network = true;
			break;
		case 'i':
			o->identify = true;
			break;
		case 'l':
			o->require_lock = true;
			break;
		case 'v':
			printf("cloister-model %s, %s\n", CLOISTER_VERSION,
			       cpu_level_name(cpu_level()));
			exit(EX_ALL_DONE);
		case 'h':
			fputs(usage, stdout);
			exit(EX_ALL_DONE);
		default:
			exit(EX_USAGE_ERROR);
		}
	}
	if (optind < argc)
		die(EX_USAGE_ERROR, "unexpected argument \"%s\"", argv[optind]);
	if (!o->model && !o->probe)
		die(EX_USAGE_ERROR, "--model DIR is missing");
	if (!o->identify && !o->pages)
		die(EX_USAGE_ERROR, "--pages DIR is missing");
}

struct place {
	const struct options *o;
	const struct server *s;
};

#ifdef CLOISTER_CUDA
/* The driver names its threads, and gives up where it may not write names to /proc. As it calls the C
 * library for that, it can be spared: nobody needs them. */
int pthread_setname_np(pthread_t thread, const char *name)
{
	(void)thread, (void)name;
	return 0;
}

/* As the driver wants its surroundings: no code on disk, and GPUs counted in the order of their slots. */
static void prepare_device(void)
{
	static const char missing[] = "there is %s, but no %s: `nvidia-modprobe -u -c 0` makes it";
	char **nodes = gpu_nodes();
	bool memory = false;

	for (size_t i = 0; nodes[i]; i++)
		memory |= strstr(nodes[i], "/nvidia-uvm") != NULL;
	if (gpu_count() && !memory)
		die(EX_CONFIGURATION, missing, nodes[0], "/dev/nvidia-uvm");
	gpu_nodes_free(nodes);
	setenv("CUDA_CACHE_DISABLE", "1", 1);
	setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0);
}

static void lock_down(const char *const *read, enum sandbox_mode mode)
{
	struct err err;

	if (mode != SANDBOX_OFF && sandbox_enter_cuda(read, mode == SANDBOX_ON, NULL, &err) != RC_OK)
		die(EX_CONFIGURATION, "sandbox: %s", err.text);
}
#else
static void prepare_device(void)
{
}

static void lock_down(const char *const *read, enum sandbox_mode mode)
{
	const struct sandbox_rules rules = {.read = read, .write_fd = -1, .open_files = 256};

	sandbox_enter_or_die(SANDBOX_MODEL, &rules, mode);
}
#endif

/* A snapshot's files are links into a folder beside it. */
static void enter_sandbox(const void *arg)
{
	const struct place *place = arg;
	const struct server *s = place->s;
	const char *read[2 * ADAPTERS_MAX + 4] = {NULL};
	char *blobs[ADAPTERS_MAX + 1];
	size_t n = 0, folders = 0;

	if (place->o->pages)
		read[n++] = place->o->pages;
	for (size_t i = 0; i <= s->adapter_count; i++) {
		const char *folder = i ? s->adapters[i - 1].folder : s->folder;

		if (!folder)
			continue;
		blobs[folders] = xasprintf("%s/../../blobs", folder);
		read[n++] = folder;
		read[n++] = blobs[folders++];
	}
	lock_down(read, place->o->sandbox);
	while (folders)
		free(blobs[--folders]);
}

/* Before anything in the folder is believed. */
static enum rc identify(struct server *s, const char *folder, const struct options *o,
			struct model_identity *id, struct err *err)
{
	enum rc rc = model_identity(folder, s->pool, id, err);

	if (rc != RC_OK || *id->lock)
		return rc;
	if (o->require_lock && !strcmp(id->unlocked.reason, "model-unlocked"))
		return err_set(err, RC_FATAL, "model-unlocked",
			       "is not locked: `cloister models lock` it, or require_lock: false");
	if (o->require_lock)
		return err_set(err, RC_FATAL, "model-lock",
			       "%.300s: see `cloister models diff`; lock it again if that is right",
			       id->unlocked.text);
	if (strcmp(id->unlocked.reason, "model-unlocked"))
		log_warn("model %s: %s", folder, id->unlocked.text);
	return RC_OK;
}

static bool sees(const struct server *s)
{
	return s->model.config.vision.depth > 0;
}

/* A text model has none. */
static unsigned eyes_of(const struct server *s, const struct options *o)
{
	return sees(s) ? (unsigned)o->eyes : 0;
}

/* One that is bad is told of in hello, and keeps nobody from the others. */
static void load_adapters(struct server *s, const struct options *o)
{
	for (size_t i = 0; i < s->adapter_count; i++) {
		struct served_adapter *a = &s->adapters[i];
		struct err err;
		enum rc rc = identify(s, a->folder, o, &a->id, &err);

		a->number = (unsigned)s->model.adapter_count;
		if (rc == RC_OK)
			rc = model_adapt(&s->model, a->folder, &err);
		if (rc != RC_OK)
			err_set(&a->why, rc, err.reason, "adapter %.300s: %s", a->folder, err.text);
	}
}

static struct compute_options device_of(const struct options *o)
{
	return (struct compute_options){.weights = o->weights,
					.keys = o->keys,
					.sequences = (unsigned)o->sequences,
					.drafts = (unsigned)o->drafts,
					.cache_size = o->cache,
					.any_order = o->any_order};
}

/* All that hello tells of, and that can be wrong with the folder but for its tensors. */
static enum rc get_to_know(struct server *s, const struct options *o, struct model_identity *id,
			   struct err *err)
{
	const struct compute_options device = device_of(o);
	enum rc rc = pool_open(&s->pool, (unsigned)o->threads, err);

	if (rc == RC_OK)
		rc = identify(s, s->folder, o, id, err);
	if (rc == RC_OK)
		rc = model_config_load(&s->model.config, s->folder, err);
	if (rc == RC_OK)
		rc = COMPUTE_OPEN(NULL, &s->model.config, NULL, &device, s->pool, err);
	if (rc == RC_OK)
		rc = tokenizer_open(&s->tokenizer, s->folder, err);
	if (rc == RC_OK)
		rc = chat_open(&s->chat, s->folder, &s->model.config, s->tokenizer, err);
	return rc;
}

static enum rc load(struct server *s, const struct options *o, struct err *err)
{
	const struct compute_options device = device_of(o);
	struct engine_options options = {.sequences = (unsigned)o->sequences,
					 .drafts = (unsigned)o->drafts};
	struct gate_figures figures;
	enum rc rc = gate_open(&s->model, s->folder, COMPUTE_OPEN, &device, s->pool, &figures, err);

	if (rc != RC_OK)
		return rc;
	load_adapters(s, o);
	options.vocab = (unsigned)tokenizer_size(s->tokenizer);
	rc = engine_open(&s->engine, &s->model, &options, err);
	if (rc == RC_OK)
		s->cache_tokens = engine_load(s->engine).blocks * KV_PAGE;
	if (rc == RC_OK && !o->identify)
		rc = eyes_open(&s->eyes, s, eyes_of(s, o), err);
	return rc;
}

static void say(json_t *message)
{
	if (!message)
		BUG("a message cannot be made");
	if (airlock_write(STDOUT_FILENO, message))
		die(EX_BUG, "write: %s", strerror(errno));
	json_decref(message);
}

static void say_hello(const struct server *s, const struct options *o,
		      const struct model_identity *id, bool loading)
{
	char *name = model_name(s->folder);
	json_t *takes = sees(s) ? json_pack("[s, s]", "page", "text") : json_pack("[s]", "text");
	json_t *hello = json_pack("{s:i, s:s, s:s, s:i, s:[s, s], s:o, s:{s:s, s:s, s:s*, s:o*}}",
				  "airlock", 1, "name", "cloister-model", "version",
				  CLOISTER_VERSION, "window", (int)(o->sequences + eyes_room(eyes_of(s, o))), "formats",
				  "markdown", "text", "takes", takes, "model", "name", name,
				  "sha256", id->sha256, "lock", *id->lock ? id->lock : NULL,
				  "adapters", s->adapter_count ? adapters_hello(s) : NULL);

	if (loading)
		json_object_set_new(hello, "loading", json_true());
	say(hello);
	free(name);
}

static void unload(struct server *s)
{
	eyes_close(s->eyes);
	engine_close(s->engine);
	chat_release(&s->chat);
	tokenizer_free(s->tokenizer);
	model_close(&s->model);
	pool_close(s->pool);
	adapters_release(s);
}

int main(int argc, char **argv)
{
	struct server s = {.pages = -1};
	struct model_identity id;
	struct options o;
	char *folder = NULL;
	struct err err;
	bool loading;
	int code = EX_ALL_DONE;

	log_init("cloister-model", LOG_INFO);
	prepare_device();
	if (argc > 1 && !strcmp(argv[1], "bench"))
		return bench_main(argc - 1, argv + 1, COMPUTE_OPEN);
	options_parse(&o, argc, argv);
	if (!o.identify && (s.pages = open(o.pages, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		die(EX_CONFIGURATION, "open page folder %s: %s", o.pages, strerror(errno));
	if (o.model)
		s.folder = folder = model_folder(o.model);
	for (size_t i = 0; i < o.adapter_count; i++)
		adapters_add(&s, o.adapters[i]);
	if (o.probe)
		return probe_main(o.probe, enter_sandbox, &(struct place){&o, &s});
	/* Requests are taken between two steps, whenever there are any. */
	if (!o.identify && fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK))
		die(EX_CONFIGURATION, "standard input: %s", strerror(errno));
	cpu_level();	     /* the tile state of AMX is asked for now */
	json_object_seed(0); /* reads /dev/urandom, which is out of reach later */
	if (!o.identify)
		enter_sandbox(&(struct place){&o, &s});
	s.page_folder = o.pages;
	s.sequences = (unsigned)o.sequences;
	if (get_to_know(&s, &o, &id, &err) != RC_OK)
		die(EX_CONFIGURATION, "model %s: %s", s.folder, err.text);
	/* Only of a folder that is locked is it to be expected that its tensors are as they should be. Which
	 * adapters fit, and whether fp8 is good enough, is known when they are loaded. */
	loading = *id.lock && !s.adapter_count && o.weights != NUMBER_E4M3 && !o.identify && !o.probe_network;
	if (loading)
		say_hello(&s, &o, &id, true);
	if (load(&s, &o, &err) != RC_OK)
		die(EX_CONFIGURATION, "model %s: %s", s.folder, err.text);
	if (loading)
		say(json_pack("{s:b}", "ready", 1));
	else
		say_hello(&s, &o, &id, false);
	if (o.probe_network)
		probe_network();
	if (!o.identify)
		code = serve(&s);
	unload(&s);
	free(folder);
	return code;
}
