/* SPDX-License-Identifier: MIT
 *
 * cloister-tesseract: a recogniser that reads pages with Tesseract.
 *
 * It speaks the airlock protocol (airlock.h): hello, then a result for each request, in order, one
 * page at a time.  Models are loaded first, then the sandbox is entered, then the first request is
 * read.  A request or page that cannot be used fails by itself; the process goes on until its
 * input ends.
 */
#include "airlock.h"
#include "probe.h"
#include "sandbox.h"
#include "tess.h"
#include "base/lines.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PSM_HIGHEST 13

static const char usage[] =
	"usage: cloister-tesseract --pages DIR [--languages LANGS] [--sandbox on|try|off]\n"
	"       cloister-tesseract --identify [--languages LANGS]\n"
	"\n"
	"Reads airlock requests on standard input, writes results on standard output.\n"
	"\n"
	"  --languages LANGS  Tesseract languages, such as deu+eng (default eng)\n"
	"  --pages DIR        folder that the page files lie in\n"
	"  --sandbox MODE     on: refuse to run without (default); try: what the kernel has; off\n"
	"  --identify         say who this is, with the hash of the model, and exit\n"
	"  --probe DIR        try what the sandbox refuses, as `cloister verify` wants it\n"
	"  --version, --help\n";

struct options {
	const char *languages, *pages, *probe;
	enum sandbox_mode sandbox;
	bool identify;
};

static void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option table[] = {
		{ "languages", required_argument, NULL, 'l' },
		{ "pages", required_argument, NULL, 'p' },
		{ "sandbox", required_argument, NULL, 's' },
		{ "probe", required_argument, NULL, 'P' },
		{ "identify", no_argument, NULL, 'i' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*o = (struct options){ .languages = "eng", .sandbox = SANDBOX_ON };
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 'l':
			o->languages = optarg;
			break;
		case 'p':
			o->pages = optarg;
			break;
		case 's':
			o->sandbox = sandbox_mode_parse(optarg);
			break;
		case 'P':
			o->probe = optarg;
			break;
		case 'i':
			o->identify = true;
			break;
		case 'v':
			printf("cloister-tesseract %s, Tesseract %s\n", CLOISTER_VERSION,
			       TessVersion());
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
	if (!o->identify && !o->pages)
		die(EX_USAGE_ERROR, "--pages DIR is missing");
}

/* As many of these processes run as there are cores, so each is to use one thread. libgomp looks
 * at its environment when it is loaded: before main(). */
static void use_one_thread(char **argv)
{
	const char *limit = getenv("OMP_THREAD_LIMIT");

	if (limit && !strcmp(limit, "1"))
		return;
	if (setenv("OMP_THREAD_LIMIT", "1", 1) || execv("/proc/self/exe", argv))
		die(EX_CONFIGURATION, "start again with OMP_THREAD_LIMIT=1: %s", strerror(errno));
}

static void say_hello(const struct reader *reader, const struct options *o)
{
	json_t *hello = json_pack("{s:i, s:s, s:s, s:i, s:[s], s:{s:s, s:s}}", "airlock", 1, "name",
				  "tesseract", "version", TessVersion(), "window", 1, "formats",
				  "text", "model", "name", o->languages, "sha256", reader->hash);

	if (!hello)
		BUG("hello cannot be made");
	if (airlock_write(STDOUT_FILENO, hello))
		die(EX_BUG, "write hello: %s", strerror(errno));
	json_decref(hello);
}

struct place {
	const struct options *o;
	const char *tessdata;
};

static void enter_sandbox(const void *arg)
{
	const struct place *place = arg;
	const char *const read[] = { place->tessdata, place->o->pages, NULL };
	/* No limit on memory: leptonica makes an empty page of an allocation that fails. */
	const struct sandbox_rules rules = { .read = read, .write_fd = -1, .open_files = 32 };

	sandbox_enter_or_die(SANDBOX_TESSERACT, &rules, place->o->sandbox);
}

struct request {
	const char *page; /* borrowed from the request's JSON */
	uint32_t width, height;
	struct read_options options;
};

static enum rc request_parse(json_t *json, struct request *r, struct err *err)
{
	int width = 0, height = 0, segmentation = PSM_AUTO;
	const char *rotate = "none";
	json_error_t why;
	double dpi = 0;

	*r = (struct request){ 0 };
	if (json_unpack_ex(json, &why, 0, "{s:s, s:i, s:i, s?F, s?{s?i, s?s}}", "page", &r->page,
			   "width", &width, "height", &height, "dpi", &dpi, "params",
			   "page_segmentation", &segmentation, "rotate", &rotate))
		return err_set(err, RC_FAILED, "protocol", "request: %s", why.text);
	if (width < 1 || height < 1)
		return err_set(err, RC_FAILED, "protocol", "request: a page of %d x %d pixels",
			       width, height);
	if (segmentation < PSM_AUTO_OSD || segmentation > PSM_HIGHEST ||
	    segmentation == PSM_AUTO_ONLY)
		return err_set(err, RC_FAILED, "protocol", "request: page_segmentation %d reads no text",
			       segmentation);
	if (strcmp(rotate, "auto") && strcmp(rotate, "none"))
		return err_set(err, RC_FAILED, "protocol", "request: rotate is auto or none");
	r->width = (uint32_t)width;
	r->height = (uint32_t)height;
	r->options.page_segmentation = (unsigned)segmentation;
	r->options.dpi = dpi >= 1 && dpi < 1e6 ? (unsigned)(dpi + 0.5) : 0;
	r->options.rotate = !strcmp(rotate, "auto");
	return RC_OK;
}

/* New reference, or NULL and err. */
static json_t *read_page(struct reader *reader, int pages, const char *folder, json_t *json,
			 struct err *err)
{
	struct reading reading;
	struct request request;
	struct picture image;
	json_t *result;

	if (request_parse(json, &request, err) != RC_OK ||
	    picture_load(&image, pages, folder, request.page, request.width, request.height, err) !=
		    RC_OK)
		return NULL;
	if (reader_read(reader, &image, &request.options, &reading, err) != RC_OK) {
		picture_release(&image);
		return NULL;
	}
	result = reading_result(&reading);
	reading_release(&reading);
	picture_release(&image);
	return result;
}

static double milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void answer(struct reader *reader, int pages, const char *folder, const char *line,
		   size_t len)
{
	double start = milliseconds();
	struct err err = { .text = "" };
	json_t *json = airlock_parse(line, len, &err);
	json_t *id = json ? json_object_get(json, "id") : NULL;
	json_t *result = json ? read_page(reader, pages, folder, json, &err) : NULL;

	if (result)
		json_object_set_new(result, "ms",
				    json_integer((json_int_t)(milliseconds() - start + 0.5)));
	else
		result = json_pack("{s:s, s:o}", "status", "error", "error",
				   json_stringn_nocheck(err.text, strlen(err.text)));
	json_object_set(result, "id", id ? id : json_null());
	if (airlock_write(STDOUT_FILENO, result))
		die(EX_BUG, "write result: %s", strerror(errno));
	json_decref(result);
	json_decref(json);
}

int main(int argc, char **argv)
{
	struct options o;
	struct reader reader;
	struct lines lines;
	enum lines_status status;
	const char *tessdata;
	struct err err;
	char *line;
	size_t len;
	int pages = -1;

	log_init("cloister-tesseract", LOG_INFO);
	options_parse(&o, argc, argv);
	use_one_thread(argv);
	if (!o.identify && (pages = open(o.pages, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		die(EX_CONFIGURATION, "open page folder %s: %s", o.pages, strerror(errno));
	tessdata = tessdata_folder(&err);
	if (tessdata && o.probe)
		return probe_main(o.probe, enter_sandbox, &(struct place){ &o, tessdata });
	if (!tessdata || reader_open(&reader, tessdata, o.languages, &err) != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	if (!o.identify && !reader.osd)
		log_warn("%s/osd.traineddata is missing: turned pages are not found", tessdata);
	json_object_seed(0); /* reads /dev/urandom, which is out of reach later */
	if (!o.identify)
		enter_sandbox(&(struct place){ &o, tessdata });
	say_hello(&reader, &o);
	lines_init(&lines, STDIN_FILENO, REQUEST_MAX);
	while (!o.identify && (status = lines_next(&lines, &line, &len)) != LINES_EOF) {
		if (status != LINES_ONE)
			die(EX_BUG, "read request: %s", strerror(errno));
		answer(&reader, pages, o.pages, line, len);
	}
	lines_release(&lines);
	reader_close(&reader);
	return EX_ALL_DONE;
}
