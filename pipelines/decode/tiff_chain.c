/* SPDX-License-Identifier: MIT
 *
 * tiff_chain: walk the directories of a TIFF file without libtiff.
 *
 * A file is a linked list of directories that anything can be written into.  The walk knows every
 * page's offset before the first is read, so pages are reached directly; a list that runs in a
 * circle is found by Brent's algorithm (a mark that is moved up at every power of two) and ends the
 * document; a list that leaves the file, as in a file that was cut, becomes a last page that fails,
 * so that what is there is read and what is lost is told.
 *
 * Reduced images (thumbnails) and masks are no pages, as in any viewer, unless there is nothing
 * else.
 */
#include "tiff_parts.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define TAG_NEW_SUBFILE 254
#define TAG_SUBFILE     255
#define NEW_REDUCED     1
#define NEW_MASK        4
#define OLD_REDUCED     2
#define ENTRIES_READ    4 /* tags are in ascending order: these two come first */
#define TYPE_SHORT      3

struct walk {
	struct source *source;
	bool big_endian, big_tiff;
};

static bool get(const struct walk *w, uint64_t at, unsigned n, uint64_t *out)
{
	uint8_t b[8];
	uint64_t v = 0;

	if (!source_read_at(w->source, at, b, n))
		return false;
	for (unsigned i = 0; i < n; i++)
		v = v << 8 | b[w->big_endian ? i : n - 1 - i];
	*out = v;
	return true;
}

/* Read the directory at `at`: is it a page, and where is the next? */
static bool read_directory(const struct walk *w, uint64_t at, bool *page, uint64_t *next)
{
	unsigned head = w->big_tiff ? 8 : 2, size = w->big_tiff ? 20 : 12;
	unsigned value = w->big_tiff ? 12 : 8;
	uint64_t n, tag, type, v;

	if (at >= w->source->size || !get(w, at, head, &n) || n == 0 || n > UINT16_MAX)
		return false;
	*page = true;
	for (uint64_t i = 0; i < min_u64(n, ENTRIES_READ); i++) {
		uint64_t entry = at + head + i * size;

		if (!get(w, entry, 2, &tag) || !get(w, entry + 2, 2, &type) ||
		    !get(w, entry + value, type == TYPE_SHORT ? 2 : 4, &v))
			return false;
		if (tag == TAG_NEW_SUBFILE && v & (NEW_REDUCED | NEW_MASK))
			*page = false;
		if (tag == TAG_SUBFILE && v == OLD_REDUCED)
			*page = false;
	}
	return get(w, at + head + n * size, w->big_tiff ? 8 : 4, next);
}

static bool read_header(struct walk *w, uint64_t *first)
{
	uint64_t magic, width;
	uint8_t order[2];

	if (!source_read_at(w->source, 0, order, 2))
		return false;
	w->big_endian = order[0] == 'M';
	if (!get(w, 2, 2, &magic) || (magic != 42 && magic != 43))
		return false;
	w->big_tiff = magic == 43;
	if (w->big_tiff && (!get(w, 4, 2, &width) || width != 8))
		return false;
	return get(w, w->big_tiff ? 8 : 4, w->big_tiff ? 8 : 4, first);
}

static void add(struct tiff_chain *chain, uint64_t offset)
{
	if ((chain->n & (chain->n + 1)) == 0)
		chain->offsets = xrealloc(chain->offsets,
					  (2 * (size_t)chain->n + 1) * sizeof(*chain->offsets));
	chain->offsets[chain->n++] = offset;
}

enum rc tiff_chain_read(struct tiff_chain *chain, struct source *source, uint64_t max_pages,
			struct err *err)
{
	struct walk w = { .source = source };
	struct tiff_chain reduced = { 0 };
	uint64_t at, mark = 0, steps = 0, jump = 1;
	enum rc rc = RC_OK;
	bool page;

	if (!read_header(&w, &at))
		return err_set(err, RC_FAILED, "damaged", "TIFF: broken header");
	while (at && !rc) {
		uint64_t here = at;

		if (!read_directory(&w, here, &page, &at)) {
			add(chain, 0);
			break;
		}
		add(page ? chain : &reduced, here);
		if (at && (at == here || at == mark))
			rc = err_set(err, RC_FAILED, "damaged",
				     "TIFF: the directories run in a circle");
		else if (++steps == jump) {
			mark = here;
			jump *= 2;
		}
		if (!rc && steps > max_pages)
			rc = err_set(err, RC_FAILED, "limit:document-pages",
				     "more than %llu directories", (unsigned long long)max_pages);
	}
	if (!rc && !chain->n) {
		tiff_chain_release(chain);
		*chain = reduced;
		reduced = (struct tiff_chain){ 0 };
	}
	if (!rc && !chain->n)
		rc = err_set(err, RC_FAILED, "no-pages", "TIFF: no directory");
	else if (!rc && chain->n == 1 && !chain->offsets[0] && !reduced.n)
		rc = err_set(err, RC_FAILED, "damaged", "TIFF: the directory is outside the file");
	tiff_chain_release(&reduced);
	return rc;
}

void tiff_chain_release(struct tiff_chain *chain)
{
	free(chain->offsets);
	*chain = (struct tiff_chain){ 0 };
}
