/* SPDX-License-Identifier: MIT
 *
 * image: from the rows of an image file to the pixels of a page.
 *
 * The plan of a page is a pure function of the image's header and the limits, so that measure and
 * render cannot disagree.  Recognisers need square pixels: an image with different resolutions
 * (fax: 204 x 98) is brought up to the higher one.  A page that would pass a page limit is made
 * smaller until it fits, and its dpi with it; an image that passes the image limit is refused.
 * Everything else keeps its own pixels.
 */
#include "image.h"

#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEGA        1e6
#define DPI_MIN     30.0
#define DPI_MAX     4800.0
#define SQUARE      0.02 /* resolutions closer than this are the same */
#define ASPECT_MAX  4.0  /* further apart than this is a mistake, not a fax */

enum rc source_init(struct source *s, int fd, struct err *err)
{
	struct stat st;

	*s = (struct source){ .fd = fd };
	if (fstat(fd, &st))
		return err_errno(err, RC_FAILED, "unreadable", "cannot stat the document");
	s->size = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	return RC_OK;
}

static size_t read_from(struct source *s, uint64_t offset, uint8_t *to, size_t len)
{
	size_t have = 0;

	while (have < len && offset <= INT64_MAX - have) {
		ssize_t n = pread(s->fd, to + have, len - have, (off_t)(offset + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !s->error)
			s->error = errno;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

size_t source_read(struct source *s, void *to, size_t len)
{
	size_t n = read_from(s, s->at, to, len);

	s->at += n;
	return n;
}

bool source_read_at(struct source *s, uint64_t offset, void *to, size_t len)
{
	return read_from(s, offset, to, len) == len;
}

void *image_alloc(uint64_t width, uint64_t height, uint64_t depth, struct err *err)
{
	size_t size;
	void *p = NULL;

	if (checked_mul(width, height, &size) && checked_mul(size, depth, &size) && size)
		p = malloc(size);
	if (!p)
		err_set(err, RC_FAILED, "limit:memory-mebibytes",
			"no memory for an image of %llu x %llu pixels", (unsigned long long)width,
			(unsigned long long)height);
	return p;
}

void row_cmyk_to_rgb(const uint8_t *src, uint8_t *dst, uint32_t width)
{
	for (size_t x = 0; x < width; x++, src += 4, dst += 3) {
		unsigned paper = 255u - src[3];

		dst[0] = (uint8_t)(((255u - src[0]) * paper + 127) / 255);
		dst[1] = (uint8_t)(((255u - src[1]) * paper + 127) / 255);
		dst[2] = (uint8_t)(((255u - src[2]) * paper + 127) / 255);
	}
}

/* The page an image becomes, before it is turned. */
struct plan {
	uint32_t width, height;
	double dpi;
	bool odd; /* the resolutions contradict each other and were not used */
};

static double believable(double dpi)
{
	/* PNG counts in pixels per metre: 11811 is meant to be 300. */
	return dpi >= DPI_MIN && dpi <= DPI_MAX ? round(dpi * 100) / 100 : 0;
}

static uint32_t side(double pixels, double most)
{
	return (uint32_t)fmax(1, fmin(floor(pixels + 1e-6), most));
}

static struct plan plan_page(const struct image *im, const struct limits *limits)
{
	double xdpi = believable(im->xdpi), ydpi = believable(im->ydpi), shrink = 1;
	double w = im->width, h = im->height, most = limits->page_side_pixels;
	struct plan plan = { .dpi = fmax(xdpi, ydpi) };

	if (xdpi > 0 && ydpi > 0 && fabs(xdpi - ydpi) > SQUARE * plan.dpi) {
		if (plan.dpi > ASPECT_MAX * fmin(xdpi, ydpi)) {
			plan.odd = true;
			plan.dpi = 0;
		} else {
			w = round(w * (plan.dpi / xdpi));
			h = round(h * (plan.dpi / ydpi));
		}
	}
	if (w * h > limits->page_megapixels * MEGA)
		shrink = sqrt(limits->page_megapixels * MEGA / (w * h));
	shrink = fmin(shrink, fmin(most / w, most / h));
	plan.width = side(w * shrink, most);
	plan.height = side(h * shrink, most);
	plan.dpi = round(plan.dpi * shrink * 100) / 100;
	return plan;
}

static unsigned orientation_of(const struct image *im)
{
	return im->orientation >= 1 && im->orientation <= 8 ? im->orientation : 1;
}

enum rc image_measure(const struct image *im, const struct limits *limits, struct page *page,
		      struct err *err)
{
	enum rc rc = check_image_size(im->width, im->height, limits, err);
	bool lies = orientation_of(im) >= 5;
	struct plan plan;

	if (rc)
		return rc;
	plan = plan_page(im, limits);
	page->width = lies ? plan.height : plan.width;
	page->height = lies ? plan.width : plan.height;
	page->channels = im->channels;
	page->dpi = plan.dpi;
	page->native = plan.width == im->width && plan.height == im->height;
	/* A picture decoded to its end that is white is white: nothing can have been left out. */
	page->has_content = false;
	if (plan.odd)
		page_warn(page, "resolution %.0f x %.0f dpi is not believable", im->xdpi, im->ydpi);
	return check_raster_size(page->width, page->height, limits, err);
}

bool image_same(const struct image *a, const struct image *b)
{
	return a->width == b->width && a->height == b->height && a->channels == b->channels;
}

enum rc canvas_init(struct canvas *c, const struct image *im, const struct limits *limits,
		    struct raster *out, struct err *err)
{
	struct plan plan = plan_page(im, limits);
	bool lies = orientation_of(im) >= 5;

	*c = (struct canvas){ .im = *im, .out = out };
	if (out->width != (lies ? plan.height : plan.width) ||
	    out->height != (lies ? plan.width : plan.height))
		BUG("a raster of %ux%u for a page of %ux%u", out->width, out->height, plan.width,
		    plan.height);
	out->channels = im->channels;
	c->upright = (struct raster){ plan.width, plan.height, im->channels, out->pixels };
	if (orientation_of(im) != 1) {
		c->upright.pixels = image_alloc(plan.width, plan.height, im->channels, err);
		if (!c->upright.pixels)
			return RC_FAILED;
	}
	if (plan.width == im->width && plan.height == im->height)
		return RC_OK;
	c->row = image_alloc(im->width, 1, im->channels, err);
	if (!c->row)
		return RC_FAILED;
	c->scaler = scaler_new(im->width, im->height, im->channels, &c->upright, err);
	return c->scaler ? RC_OK : RC_FAILED;
}

uint8_t *canvas_row(struct canvas *c)
{
	if (c->y >= c->im.height)
		BUG("row %u of an image of %u", c->y, c->im.height);
	if (c->scaler)
		return c->row;
	return c->upright.pixels + (size_t)c->y * c->im.width * c->im.channels;
}

void canvas_commit(struct canvas *c)
{
	if (c->scaler)
		scaler_row(c->scaler, c->row);
	c->y++;
}

void canvas_finish(struct canvas *c, struct page *page)
{
	if (c->y != c->im.height)
		BUG("%u rows of an image of %u", c->y, c->im.height);
	if (c->upright.pixels != c->out->pixels)
		raster_orient(&c->upright, c->out, c->im.orientation);
	raster_to_grey_if_grey(c->out, 0);
	page->channels = c->out->channels;
}

void canvas_release(struct canvas *c)
{
	if (c->out && c->upright.pixels != c->out->pixels)
		free(c->upright.pixels);
	free(c->row);
	scaler_free(c->scaler);
	memset(c, 0, sizeof(*c));
}
