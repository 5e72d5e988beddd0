/* SPDX-License-Identifier: MIT
 *
 * What a decoder that was taken over may say to the supervisor, line by line: a page gets no more
 * room than the limits allow, is answered once, and its raster is whole in its slot.
 */
#include "fuzz.h"

#include "decoder.c"

#define PAGES_MAX  4
#define ROOM_BYTES (1 << 20)

static unsigned ends;

void document_fail(struct document *d, const struct err *why)
{
	check_err(RC_FAILED, why);
	d->closed = true;
}

void document_try_again(struct document *d, const struct err *why)
{
	document_fail(d, why);
}

/* For what the system does not let us do, which nothing that is said here is. */
void document_wait(struct document *d, const char *what)
{
	(void)d, (void)what;
	CHECK(!"nothing to wait for");
}

void unpacking_begin(struct document *d)
{
	d->closed = true;
}

void document_pages_begin(struct document *d, uint32_t pages)
{
	CHECK(pages >= 1 && pages <= d->pipeline.limits.document_pages);
	d->pages = pages;
	d->phase = DOC_PAGES;
}

void document_page_failed(struct document *d, uint32_t page, const struct err *why,
			  json_t *decoded, double decode_seconds)
{
	(void)decoded, (void)decode_seconds;
	check_err(RC_FAILED, why);
	CHECK(page >= 1 && page <= d->pages);
	ends++;
}

void document_page_decoded(struct document_slot *slot, json_t *done)
{
	uint64_t pixels = (uint64_t)json_integer_value(json_object_get(done, "width")) *
			  (uint64_t)json_integer_value(json_object_get(done, "height")) *
			  (uint64_t)json_integer_value(json_object_get(done, "channels"));
	struct stat st;

	CHECK(!fstat(slot->slot.fd, &st));
	CHECK(json_object_get(done, "result") ||
	      (pixels && (uint64_t)st.st_size > pixels && slot->slot.bytes == (uint64_t)st.st_size));
	document_free_slot(slot);
	ends++;
}

void document_free_slot(struct document_slot *slot)
{
	scratch_free(&slot->document->run->scratch, &slot->slot);
	slot->needs = 0;
}

void document_after_page(struct document *d)
{
	(void)d;
}

enum rc scratch_add_folder(struct scratch *s, unsigned *folder, struct slot *slots, size_t n,
			   struct err *err)
{
	(void)s, (void)folder, (void)slots, (void)n;
	return err_set(err, RC_FAILED, "fuzz", "no decoder is started here");
}

enum rc scratch_reserve(struct scratch *s, struct slot *slot, uint64_t bytes, struct err *err)
{
	(void)s;
	if (bytes > ROOM_BYTES)
		return err_set(err, RC_FAILED, "limit:scratch-mebibytes", "too large");
	CHECK(!ftruncate(slot->fd, (off_t)bytes));
	slot->bytes = bytes;
	return RC_OK;
}

void scratch_trim(struct scratch *s, struct slot *slot, uint64_t bytes)
{
	(void)s;
	CHECK(bytes <= slot->bytes && !ftruncate(slot->fd, (off_t)bytes));
	slot->bytes = bytes;
}

void scratch_free(struct scratch *s, struct slot *slot)
{
	(void)s;
	CHECK(!ftruncate(slot->fd, 0));
	slot->bytes = 0;
}

/* Ask for the next page when the last one is answered; what the decoder writes into the slot is a
 * header that some sizes are true to. */
static void ask(struct document *d, struct document_slot *slot)
{
	static const char header[] = "P5\n16 12\n255\n";

	if (slot->slot.bytes >= sizeof(header))
		CHECK(pwrite(slot->slot.fd, header, sizeof(header) - 1, 0) == sizeof(header) - 1);
	if (!d->decoder_open || d->decoding)
		return;
	slot->page = slot->page % d->pages + 1;
	d->decoding = slot;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_lines lines = { (const char *)data, (const char *)data + size };
	struct run *run = xcalloc(1, sizeof(*run));
	struct document *d = xcalloc(1, sizeof(*d));
	struct document_slot *slot = &d->slots[0];
	const char *line;
	struct err err;
	unsigned asked = 0;
	size_t len;
	bool good = true;

	ends = 0;
	d->run = run;
	d->decoder.in = d->decoder.out = d->decoder.err = -1;
	pipeline_defaults(&d->pipeline, "fuzz");
	d->pipeline.limits.document_pages = PAGES_MAX;
	d->pipeline.limits.page_megapixels = 1;
	*slot = (struct document_slot){ .document = d, .slot = { fuzz_file("", 0), 0 } };
	while (good && !d->closed && fuzz_line(&lines, &line, &len)) {
		json_t *message = airlock_parse(line, len, &err);
		bool before = d->decoding;

		ask(d, slot);
		asked += !before && d->decoding;
		good = message && (d->decoder_open ? take_page(d, message) : take_opened(d, message));
		json_decref(message);
		CHECK(slot->slot.bytes <= 3000000 + PNM_HEADER_MAX);
	}
	CHECK(ends + (d->decoding != NULL) == asked);
	close(slot->slot.fd);
	pipeline_release(&d->pipeline);
	free(d);
	free(run);
	return 0;
}
