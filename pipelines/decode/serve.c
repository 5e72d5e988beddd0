/* SPDX-License-Identifier: MIT
 *
 * serve: the pull protocol of airlock.h, from the decoder's side.
 *
 *   page -> measure -> need -> go -> map the slot -> render into it -> done
 *
 * The supervisor decides when a page is decoded and how much memory it gets; nothing is decoded
 * ahead.  Invariant: each page request is answered by exactly one done or error line, and a page
 * that fails leaves the process fit for the next.  Two limits are not held here but end the process,
 * and the supervisor knows by how it ends: memory (oom.c) and processor time (SIGXCPU).  A request that breaks the protocol is the
 * supervisor's fault, not the document's, and ends the process with 2.
 */
#include "serve.h"
#include "airlock.h"
#include "base/log.h"
#include "base/num.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX 64

struct session {
	struct lines *in;
	const struct pipeline *pipeline;
	unsigned slots;
	const struct decoder *decoder;
	struct document *doc;
	uint32_t pages;
};

/* What a step of the conversation leads to. */
enum step { GO_ON, STOP_DONE, STOP_BROKEN_PIPE, STOP_PROTOCOL };

static enum step say(json_t *line)
{
	int failed = airlock_write(STDOUT_FILENO, line);

	json_decref(line);
	return failed ? STOP_BROKEN_PIPE : GO_ON;
}

/* Page 0 is the document. */
static json_t *failure(uint32_t page, const struct err *err)
{
	json_t *line = airlock_error(err);

	if (page)
		json_object_set_new(line, "page", json_integer(page));
	return line;
}

/* ---- requests ---- */

/* Next request; STOP_DONE at the end of the file. */
static enum step next_request(struct session *s, json_t **request)
{
	struct err err;
	char *text;
	size_t len;

	switch (lines_next(s->in, &text, &len)) {
	case LINES_ONE:
		*request = airlock_parse(text, len, &err);
		if (*request)
			return GO_ON;
		log_error("request: %s", err.text);
		return STOP_PROTOCOL;
	case LINES_EOF:
		return STOP_DONE;
	default:
		log_error("request: %s", strerror(errno));
		return STOP_PROTOCOL;
	}
}

/* A whole number in low..high. */
static bool take_number(const json_t *request, const char *key, uint64_t low, uint64_t high,
			uint64_t *out)
{
	const json_t *v = json_object_get(request, key);
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n < 0 || (uint64_t)n < low || (uint64_t)n > high)
		return false;
	*out = (uint64_t)n;
	return true;
}

static enum step wait_for_go(struct session *s, uint32_t number)
{
	json_t *request;
	uint64_t go;
	enum step step = next_request(s, &request);

	if (step != GO_ON)
		return step;
	if (!take_number(request, "go", number, number, &go)) {
		log_error("request: expected go for page %u", number);
		step = STOP_PROTOCOL;
	}
	json_decref(request);
	return step;
}

/* ---- one page ---- */

/* RC_FATAL: a slot of another size is the supervisor's mistake. */
static enum rc map_slot(unsigned slot, size_t bytes, uint8_t **out, struct err *err)
{
	const int fd = DECODE_SLOT_FD + (int)slot;
	struct stat st;
	void *at;

	if (fstat(fd, &st) || st.st_size < 0 || (uint64_t)st.st_size != bytes)
		return err_set(err, RC_FATAL, "protocol",
			       "slot %u does not have the %zu bytes that were asked for", slot, bytes);
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED && errno == ENOMEM)
		return err_set(err, RC_FAILED, "limit:memory-mebibytes",
			       "the raster of the page, %zu bytes, takes more memory than the "
			       "pipeline's limit leaves", bytes);
	if (at == MAP_FAILED)
		return err_errno(err, RC_FATAL, "protocol", "slot %u cannot be mapped", slot);
	*out = at;
	return RC_OK;
}

static bool is_uniform(const struct raster *r)
{
	size_t n = (size_t)r->width * r->height * r->channels;

	return !memcmp(r->pixels, r->pixels + r->channels, n - r->channels);
}

/* A page that has something on it and came out as one plain surface was lost, not blank. */
static const char *judge_blank(const struct page *page, const struct raster *r, double ink,
			       const struct pipeline *p)
{
	if (page->has_content && is_uniform(r))
		return "suspect-blank";
	return ink < p->blank_ink ? "blank" : "no";
}

static json_t *done_line(uint32_t number, const struct page *page, uint32_t channels, double ink,
			 const char *blank)
{
	json_t *done = json_pack("{s:i,s:i,s:i,s:f,s:b,s:s}", "width", (int)page->width, "height",
				 (int)page->height, "channels", (int)channels, "dpi", page->dpi,
				 "native", page->native, "blank", blank);

	if (!page->result)
		json_object_set_new(done, "ink", json_real(ink));
	json_object_set_new(done, "warnings",
			    page->warnings ? json_incref(page->warnings) : json_array());
	if (page->evidence)
		json_object_set(done, "evidence", page->evidence);
	if (page->result)
		json_object_set(done, "result", page->result);
	return json_pack("{s:i,s:o}", "page", (int)number, "done", done);
}

/* Measured; now the pixels. The slot begins with the header, whose length does not depend on
 * whether the page turns out grey. */
static enum step render_page(struct session *s, uint32_t number, unsigned slot, struct page *page)
{
	struct raster raster = { page->width, page->height, page->channels, NULL };
	char header[HEADER_MAX];
	size_t header_len, pixels, bytes;
	const char *blank = "no";
	struct err err;
	uint8_t *at = NULL;
	double ink = 0;
	enum step step;
	enum rc rc;

	header_len = (size_t)snprintf(header, sizeof(header), "P%c\n%u %u\n255\n",
				      page->channels == 1 ? '5' : '6', page->width, page->height);
	if (!checked_mul(page->width, page->height, &pixels) ||
	    !checked_mul(pixels, page->channels, &pixels) || !pixels ||
	    !checked_add(pixels, header_len, &bytes))
		BUG("decoder %s measured a page of %u x %u x %u", s->decoder->name, page->width,
		    page->height, page->channels);
	step = say(json_pack("{s:i,s:I}", "page", (int)number, "need", (json_int_t)bytes));
	if (step == GO_ON)
		step = wait_for_go(s, number);
	if (step != GO_ON)
		return step;
	rc = map_slot(slot, bytes, &at, &err);
	if (rc == RC_FATAL) {
		log_error("%s", err.text);
		return STOP_PROTOCOL;
	}
	if (rc)
		return say(failure(number, &err));
	raster.pixels = at + header_len;
	rc = s->decoder->render(s->doc, number - 1, page, &raster, &err);
	if (rc == RC_OK) {
		header[1] = raster.channels == 1 ? '5' : '6';
		memcpy(at, header, header_len);
		ink = raster_ink(&raster);
		blank = judge_blank(page, &raster, ink, s->pipeline);
	}
	munmap(at, bytes);
	return say(rc ? failure(number, &err)
		      : done_line(number, page, raster.channels, ink, blank));
}

static enum step serve_page(struct session *s, uint32_t number, unsigned slot)
{
	struct page page = { 0 };
	struct err err;
	enum step step;
	enum rc rc;

	rc = s->decoder->measure(s->doc, number - 1, &page, &err);
	if (rc)
		step = say(failure(number, &err));
	else if (page.result)
		step = say(done_line(number, &page, page.channels, 0, "no"));
	else
		step = render_page(s, number, slot, &page);
	page_release(&page);
	return step;
}

/* ---- the document ---- */

static const struct decoder *const decoders[KIND_COUNT] = {
	[KIND_PDF] = &pdf_decoder, [KIND_PNG] = &png_decoder, [KIND_JPEG] = &jpeg_decoder,
	[KIND_TIFF] = &tiff_decoder, [KIND_JP2] = &jp2_decoder, [KIND_PNM] = &pnm_decoder,
	[KIND_WEBP] = &webp_decoder,
};

/* Archives have no pages: the supervisor starts this program again to unpack them. */
static enum rc open_document(struct session *s, enum document_kind *kind, struct err *err)
{
	const struct limits *limits = &s->pipeline->limits;
	struct stat st;
	enum rc rc;

	if (fstat(DECODE_DOCUMENT_FD, &st))
		return err_errno(err, RC_FAILED, "read-error", "the document cannot be read");
	if ((uint64_t)st.st_size > limits->input_mebibytes << 20)
		return err_set(err, RC_FAILED, "limit:input-mebibytes",
			       "the file is larger than %llu MiB",
			       (unsigned long long)limits->input_mebibytes);
	*kind = sniff(DECODE_DOCUMENT_FD, err);
	if (*kind == KIND_UNKNOWN)
		return RC_FAILED;
	if (*kind == KIND_ARCHIVE)
		return RC_OK;
	s->decoder = decoders[*kind];
	rc = s->decoder->open(&s->doc, DECODE_DOCUMENT_FD, s->pipeline, &s->pages, err);
	if (rc)
		return rc;
	if (!s->pages)
		return err_set(err, RC_FAILED, "no-pages", "the document has no pages");
	if (s->pages > limits->document_pages)
		return err_set(err, RC_FAILED, "limit:document-pages",
			       "%u pages, more than the pipeline's limit of %llu", s->pages,
			       (unsigned long long)limits->document_pages);
	return RC_OK;
}

static enum step serve_requests(struct session *s)
{
	enum step step = GO_ON;

	while (step == GO_ON) {
		uint64_t page, slot;
		json_t *request;

		step = next_request(s, &request);
		if (step != GO_ON)
			break;
		if (take_number(request, "page", 1, s->pages, &page) &&
		    take_number(request, "slot", 0, s->slots - 1, &slot)) {
			step = serve_page(s, (uint32_t)page, (unsigned)slot);
		} else {
			log_error("request: no page of 1..%u with a slot of 0..%u", s->pages,
				  s->slots - 1);
			step = STOP_PROTOCOL;
		}
		json_decref(request);
	}
	return step;
}

int serve(struct lines *in, const struct pipeline *p, unsigned slots)
{
	struct session s = { .in = in, .pipeline = p, .slots = slots };
	enum document_kind kind = KIND_UNKNOWN;
	struct err err;
	enum step step;
	enum rc rc;

	rc = open_document(&s, &kind, &err);
	if (rc) {
		step = say(failure(0, &err));
	} else {
		step = say(json_pack("{s:{s:s,s:i}}", "opened", "kind", document_kind_name(kind),
				     "pages", (int)s.pages));
		if (step == GO_ON)
			step = serve_requests(&s);
	}
	if (s.doc)
		s.decoder->close(s.doc);
	return step == STOP_PROTOCOL ? EX_USAGE_ERROR :
	       step == STOP_BROKEN_PIPE ? EX_WORK_REMAINS : EX_ALL_DONE;
}
