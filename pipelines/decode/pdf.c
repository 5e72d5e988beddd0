/* SPDX-License-Identifier: MIT
 *
 * pdf: pages of PDF documents, as a reader shows them, through poppler-glib and cairo.
 *
 * A page that is one scanned image is rendered at exactly the scale and offset at which the
 * image's pixels fall on the raster's pixels: cairo then copies instead of resampling, and stamps,
 * annotations, forms, /Rotate and the crop box still show; a page that is nothing but a JPEG is not
 * even drawn (pdf_jpeg.c).  How coarse a scan is does not matter, unless there is more on the page.
 * All other pages are rendered at the pipeline's dpi, lowered where a limit would be passed.
 * pdf_facts.c tells which pages are scans.
 *
 * poppler_page_render() reports nothing.  Whether a page came out whole is decided by
 * pdf_trouble.c (what the libraries say) and pdf_stream.c (what they keep quiet about); the
 * policy stands there.  A failed allocation inside poppler leaves the page white without a
 * message: page->has_content lets the caller see that.
 *
 * Invariant: memory does not grow with the number of pages served: poppler and qpdf keep what they
 * have parsed, so both are opened anew after REOPEN_PAGES pages.
 */
#include "pdf_parts.h"

#include "base/num.h"

#include <cairo.h>
#include <errno.h>
#include <fcntl.h>
#include <fontconfig/fontconfig.h>
#include <iconv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK          64
#define REOPEN_PAGES   200
#define CAIRO_SIDE_MAX 32767 /* of an image surface */
#define SCAN_COVER     0.8   /* share of the page its image must cover */
#define SCAN_DPI_MIN   150   /* below, what else is on the page would be too coarse */
#define DPI_MIN        10    /* below, a page of any sense is only specks */
#define SQUARE         0.02  /* axes differing by less are one resolution */

/* How a page becomes a raster. */
struct plan {
	uint32_t width, height;
	double scale_x, scale_y, shift_x, shift_y; /* points to pixels */
	double dpi;
	bool native;
};

struct document {
	int fd; /* borrowed */
	const struct pipeline *pipeline;
	const char *password; /* borrowed from the pipeline; NULL for none */
	uint32_t pages, served;
	PopplerDocument *poppler;
	struct pdf_objects *objects;
	cairo_surface_t *surface; /* of the last page: scans come in runs of one size */
	/* the page looked at last */
	PopplerPage *page;
	uint32_t index;
	struct pdf_facts facts;
	struct plan plan;
};

void pdf_warm_up(void)
{
	static const char *const families[] = { "Helvetica", "Times", "Courier", "Symbol",
						"ZapfDingbats", "sans:lang=ja" };
	cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 16, 16);
	cairo_t *cr = cairo_create(surface);

	FcInit();
	FcConfigSetRescanInterval(NULL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		FcPattern *pattern = FcNameParse((const FcChar8 *)families[i]), *match;
		FcResult result;

		FcConfigSubstitute(NULL, pattern, FcMatchPattern);
		FcDefaultSubstitute(pattern);
		match = FcFontMatch(NULL, pattern, &result);
		if (match)
			FcPatternDestroy(match);
		FcPatternDestroy(pattern);
	}
	cairo_move_to(cr, 0, 12);
	cairo_show_text(cr, "warm");
	cairo_destroy(cr);
	cairo_surface_destroy(surface);
	/* poppler-glib takes passwords through iconv, whose tables are files: this one stays open. */
	(void)!iconv_open("ISO-8859-1", "UTF-8");
	g_type_ensure(POPPLER_TYPE_DOCUMENT);
	g_type_ensure(POPPLER_TYPE_PAGE);
}

/* poppler closes the descriptor it is given, also when it fails. */
static PopplerDocument *open_with(int fd, const char *password, GError **error)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0) {
		g_set_error(error, POPPLER_ERROR, POPPLER_ERROR_INVALID, "%s", strerror(errno));
		return NULL;
	}
	return poppler_document_new_from_fd(own, password, error);
}

/* Try no password, then the pipeline's. poppler-glib 22.12 uses a stream it has freed when a password
 * does not fit, so qpdf tells beforehand which do. */
static enum rc open_poppler(struct document *doc, struct err *err)
{
	GError *error = NULL;
	bool encrypted = false;
	enum rc rc;

	for (size_t i = 0; i <= doc->pipeline->n_passwords && !doc->poppler; i++) {
		doc->password = i == 0 ? NULL : doc->pipeline->passwords[i - 1];
		if (doc->password && objects_refuse_password(doc->fd, doc->password))
			continue;
		g_clear_error(&error);
		doc->poppler = open_with(doc->fd, doc->password, &error);
		if (i == 0)
			encrypted = g_error_matches(error, POPPLER_ERROR, POPPLER_ERROR_ENCRYPTED);
		if (!encrypted)
			break;
	}
	if (doc->poppler)
		rc = RC_OK;
	else if (encrypted)
		rc = err_set(err, RC_FAILED, "encrypted",
			     "the PDF is encrypted and none of %zu passwords opens it",
			     doc->pipeline->n_passwords);
	else
		rc = err_set(err, RC_FAILED, "damaged", "the PDF cannot be opened: %s",
			     error ? error->message : "no reason given");
	g_clear_error(&error);
	return rc;
}

static void forget_page(struct document *doc)
{
	objects_release(doc->objects);
	g_clear_object(&doc->page);
	doc->index = UINT32_MAX;
}

static void pdf_close(struct document *doc)
{
	if (!doc)
		return;
	forget_page(doc);
	objects_close(doc->objects);
	g_clear_object(&doc->poppler);
	cairo_surface_destroy(doc->surface);
	free(doc);
}

static enum rc pdf_open(struct document **out, int fd, const struct pipeline *p, uint32_t *pages,
			struct err *err)
{
	struct document *doc = xcalloc(1, sizeof(*doc));
	struct trouble trouble;
	enum rc rc;
	int n;

	*out = NULL;
	doc->fd = fd;
	doc->pipeline = p;
	doc->index = UINT32_MAX;
	trouble_begin(&trouble, NULL);
	rc = open_poppler(doc, err);
	n = rc == RC_OK ? poppler_document_get_n_pages(doc->poppler) : 0;
	trouble_end(&trouble);
	if (rc == RC_OK && n <= 0)
		rc = err_set(err, RC_FAILED, "no-pages", "the PDF has no pages");
	if (rc == RC_OK && (uint64_t)n > p->limits.document_pages)
		rc = err_set(err, RC_FAILED, "limit:document-pages",
			     "the PDF has %d pages, the limit is %llu", n,
			     (unsigned long long)p->limits.document_pages);
	if (rc != RC_OK) {
		pdf_close(doc);
		return rc;
	}
	doc->pages = *pages = (uint32_t)n;
	trouble_begin(&trouble, NULL);
	doc->objects = objects_open(fd, doc->password, doc->pages);
	trouble_end(&trouble);
	*out = doc;
	return RC_OK;
}

static enum rc reopen(struct document *doc, struct err *err)
{
	GError *error = NULL;
	struct trouble trouble;

	forget_page(doc);
	g_clear_object(&doc->poppler);
	objects_close(doc->objects);
	trouble_begin(&trouble, NULL);
	doc->poppler = open_with(doc->fd, doc->password, &error);
	doc->objects = objects_open(doc->fd, doc->password, doc->pages);
	trouble_end(&trouble);
	doc->served = 0;
	if (doc->poppler)
		return RC_OK;
	err_set(err, RC_FATAL, "damaged", "the PDF cannot be opened again: %s",
		error ? error->message : "no reason given");
	g_clear_error(&error);
	return RC_FATAL;
}

/* The largest dpi up to `dpi` at which a page of this size in points passes no limit. */
static double fitting_dpi(const struct limits *limits, double width, double height, double dpi)
{
	double side = fmin((double)limits->page_side_pixels, CAIRO_SIDE_MAX);
	double area = (double)limits->page_megapixels * 1e6;

	dpi = fmin(dpi, 72 * side / fmax(width, height));
	return fmin(dpi, 72 * sqrt(area / width / height));
}

static uint32_t pixels(double points, double scale, double side_max)
{
	return (uint32_t)fmin(fmax(floor(points * scale + 0.5), 1), side_max);
}

/* dpi is of the paper; user_unit tells how large a point is there. */
static void plan_plain(struct plan *plan, const struct limits *limits, double width, double height,
		       double user_unit, double dpi)
{
	double side = fmin((double)limits->page_side_pixels, CAIRO_SIDE_MAX);

	*plan = (struct plan){ 0 };
	plan->dpi = fitting_dpi(limits, width * user_unit, height * user_unit, dpi);
	plan->scale_x = plan->scale_y = plan->dpi * user_unit / 72;
	plan->width = pixels(width, plan->scale_x, side);
	plan->height = pixels(height, plan->scale_y, side);
	/* Rounding up both sides may pass the limit by a row. */
	while ((uint64_t)plan->width * plan->height > limits->page_megapixels * 1000000 &&
	       plan->height > 1)
		plan->height--;
}

/* The pipeline's, or as much more as gives the shorter side the pixels it wants. */
static double wanted_dpi(const struct pipeline *p, double width, double height, double user_unit)
{
	return fmax(p->dpi, 72.0 * p->short_side / (fmin(width, height) * user_unit));
}

/* One axis: n pixels of the image lie on lo..hi of size points. */
static uint32_t plan_axis(double lo, double hi, double size, uint32_t n, double *scale,
			  double *shift)
{
	double first, last;

	*scale = n / (hi - lo);
	first = floor(lo * *scale + 0.5);
	/* An image that misses the edge by less than a pixel was meant to meet it. */
	if (fabs(lo * *scale) <= 1)
		first = 0;
	last = first + n;
	*shift = first - lo * *scale;
	if (fabs(last - size * *scale) > 1)
		last = floor(size * *scale + *shift + 0.5);
	return (uint32_t)fmin(fmax(last, 1), CAIRO_SIDE_MAX + 1);
}

/* One image and nothing else that shows. */
static bool is_lone_image(const struct pdf_facts *f)
{
	return f->known && f->images == 1 && !f->annotations && !f->counts.shown &&
	       !f->counts.paths && !f->counts.others;
}

/* Is the page one scanned image whose pixels can be the raster's? */
static bool plan_scan(struct plan *plan, const struct pipeline *p, const struct pdf_facts *facts)
{
	static const struct box unit = { 0, 0, 1, 1 };
	const struct pdf_image *image = &facts->image[0];
	const struct matrix *m = &image->place;
	struct box box = box_transform(&unit, m);
	double size = fabs(m->a) + fabs(m->b) + fabs(m->c) + fabs(m->d), dpi_x, dpi_y;
	bool upright = fabs(m->b) + fabs(m->c) < size * 1e-4;
	bool turned = fabs(m->a) + fabs(m->d) < size * 1e-4;

	if (!facts->known || facts->images != 1 || facts->image_cover < SCAN_COVER ||
	    (!upright && !turned) || box.x1 - box.x0 > 2 * facts->width ||
	    box.y1 - box.y0 > 2 * facts->height)
		return false;
	plan->width = plan_axis(box.x0, box.x1, facts->width,
				upright ? image->width : image->height, &plan->scale_x,
				&plan->shift_x);
	plan->height = plan_axis(box.y0, box.y1, facts->height,
				 upright ? image->height : image->width, &plan->scale_y,
				 &plan->shift_y);
	dpi_x = plan->scale_x * 72 / facts->user_unit;
	dpi_y = plan->scale_y * 72 / facts->user_unit;
	plan->dpi = fmax(dpi_x, dpi_y);
	plan->native = fabs(dpi_x - dpi_y) <= SQUARE * plan->dpi;
	if (plan->dpi < SCAN_DPI_MIN && !(plan->native && is_lone_image(facts)))
		return false;
	/* Painted text over a coarse image is sharper at the pipeline's dpi. */
	if (facts->counts.shown > 0 && plan->dpi < p->dpi * 2.0 / 3)
		return false;
	if (plan->width > p->limits.page_side_pixels || plan->height > p->limits.page_side_pixels ||
	    plan->width > CAIRO_SIDE_MAX || plan->height > CAIRO_SIDE_MAX ||
	    (uint64_t)plan->width * plan->height > p->limits.page_megapixels * 1000000)
		return false;
	if (!plan->native) /* recognisers need square pixels */
		plan_plain(plan, &p->limits, facts->width, facts->height, facts->user_unit,
			   plan->dpi);
	return true;
}

static bool same_size(double a, double b)
{
	return fabs(a - b) <= 0.01 + 1e-4 * fabs(a);
}

static enum rc look_at(struct document *doc, uint32_t index, struct err *err)
{
	const struct pipeline *p = doc->pipeline;
	double width = 0, height = 0;
	bool scan;
	enum rc rc;

	if (doc->index == index)
		return RC_OK;
	forget_page(doc);
	rc = objects_facts(doc->objects, index, &p->limits, &doc->facts, err);
	if (rc != RC_OK)
		return rc;
	doc->page = poppler_document_get_page(doc->poppler, (int)index);
	if (!doc->page)
		return err_set(err, RC_FAILED, "damaged", "page %u cannot be read", index + 1);
	poppler_page_get_size(doc->page, &width, &height);
	if (!(width > 0 && height > 0 && width < 1e9 && height < 1e9))
		return err_set(err, RC_FAILED, "damaged", "page %u has no size", index + 1);
	/* Two readers, one page: where they disagree the facts are of no use. */
	if (!same_size(width, doc->facts.width) || !same_size(height, doc->facts.height))
		doc->facts.known = false;
	scan = plan_scan(&doc->plan, p, &doc->facts);
	if (!scan)
		plan_plain(&doc->plan, &p->limits, width, height, doc->facts.user_unit,
			   wanted_dpi(p, width, height, doc->facts.user_unit));
	if (!scan && doc->plan.dpi < DPI_MIN)
		return err_set(err, RC_FAILED, "limit:page-side-pixels",
			       "page %u measures %.0f by %.0f inches: within the limits it would be "
			       "rendered at %.1f dpi, too little to read",
			       index + 1, width * doc->facts.user_unit / 72,
			       height * doc->facts.user_unit / 72, doc->plan.dpi);
	doc->index = index;
	return check_raster_size(doc->plan.width, doc->plan.height, &p->limits, err);
}

/* Does the page draw anything? What is too much to look through draws something. poppler is asked
 * only when qpdf could not read the document. */
static bool has_content(struct document *doc)
{
	const struct pdf_facts *f = &doc->facts;
	GList *images;
	char *text;
	bool any;

	if (f->known)
		return f->images || f->annotations || f->counts.shown || f->counts.hidden ||
		       f->counts.paths;
	if (doc->objects)
		return true;
	images = poppler_page_get_image_mapping(doc->page);
	text = poppler_page_get_text(doc->page);
	any = images != NULL || (text && *text);
	poppler_page_free_image_mapping(images);
	g_free(text);
	return any;
}

static uint32_t channels_bound(const struct document *doc)
{
	return is_lone_image(&doc->facts) && doc->facts.image[0].is_grey ? 1 : 3;
}

static void describe(struct page *page, const struct plan *plan)
{
	page->width = plan->width;
	page->height = plan->height;
	page->dpi = plan->dpi;
	page->native = plan->native;
}

/* A layer that is taken belongs to the page at the pipeline's dpi, whatever its image has. */
static void take_text(struct document *doc, struct page *page)
{
	const struct pipeline *p = doc->pipeline;
	struct plan plan;
	double width, height;

	poppler_page_get_size(doc->page, &width, &height);
	plan_plain(&plan, &p->limits, width, height, doc->facts.user_unit,
		   wanted_dpi(p, width, height, doc->facts.user_unit));
	describe(page, &plan);
	text_layer_take(doc->page, &doc->facts, plan.scale_x, page);
	if (!page->result)
		describe(page, &doc->plan);
}

static enum rc pdf_measure(struct document *doc, uint32_t index, struct page *page,
			   struct err *err)
{
	struct trouble trouble;
	enum rc rc;

	if (doc->index != index && doc->served >= REOPEN_PAGES) {
		rc = reopen(doc, err);
		if (rc != RC_OK)
			return rc;
	}
	trouble_begin(&trouble, NULL);
	rc = look_at(doc, index, err);
	if (rc == RC_OK) {
		page->has_content = has_content(doc);
		describe(page, &doc->plan);
		page->channels = channels_bound(doc);
		if (doc->pipeline->text_layer == TEXT_LAYER_PREFER)
			take_text(doc, page);
	}
	trouble_end(&trouble);
	doc->served++;
	return rc;
}

static cairo_surface_t *white_surface(struct document *doc, const struct plan *plan)
{
	cairo_surface_t *s = doc->surface;

	if (!s || cairo_image_surface_get_width(s) != (int)plan->width ||
	    cairo_image_surface_get_height(s) != (int)plan->height) {
		cairo_surface_destroy(s);
		s = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)plan->width,
					       (int)plan->height);
		doc->surface = s;
	}
	if (cairo_surface_status(s) != CAIRO_STATUS_SUCCESS)
		return NULL;
	cairo_surface_flush(s);
	memset(cairo_image_surface_get_data(s), 0xff,
	       (size_t)cairo_image_surface_get_stride(s) * plan->height);
	cairo_surface_mark_dirty(s);
	return s;
}

/* cairo's RGB24: 0x00RRGGBB in the machine's byte order; the top byte is anything. Blocks of
 * constant size become vector instructions at -O2. */
static bool row_is_grey(const uint32_t *row, uint32_t width)
{
	uint32_t differ = 0, x = 0;

	for (; x + BLOCK <= width; x += BLOCK) {
		for (int i = 0; i < BLOCK; i++)
			differ |= row[x + i] ^ (row[x + i] >> 8);
	}
	for (; x < width; x++)
		differ |= row[x] ^ (row[x] >> 8);
	return (differ & 0xffff) == 0;
}

static bool surface_is_grey(const uint8_t *data, size_t stride, const struct raster *r)
{
	for (uint32_t y = 0; y < r->height; y++) {
		if (!row_is_grey((const uint32_t *)(const void *)(data + y * stride), r->width))
			return false;
	}
	return true;
}

static void row_to_grey(const uint32_t *restrict row, uint8_t *restrict out, uint32_t width)
{
	uint32_t x = 0;

	for (; x + BLOCK <= width; x += BLOCK) {
		for (int i = 0; i < BLOCK; i++)
			out[x + i] = (uint8_t)row[x + i];
	}
	for (; x < width; x++)
		out[x] = (uint8_t)row[x];
}

static void row_to_rgb(const uint32_t *row, uint8_t *restrict out, uint32_t width)
{
	for (uint32_t x = 0; x < width; x++) {
		uint32_t v = row[x];

		out[3 * (size_t)x] = (uint8_t)(v >> 16);
		out[3 * (size_t)x + 1] = (uint8_t)(v >> 8);
		out[3 * (size_t)x + 2] = (uint8_t)v;
	}
}

static void copy_out(cairo_surface_t *surface, struct raster *r)
{
	const uint8_t *data;
	size_t stride = (size_t)cairo_image_surface_get_stride(surface);

	cairo_surface_flush(surface);
	data = cairo_image_surface_get_data(surface);
	if (r->channels == 1 || surface_is_grey(data, stride, r))
		r->channels = 1;
	for (uint32_t y = 0; y < r->height; y++) {
		const uint32_t *row = (const uint32_t *)(const void *)(data + y * stride);
		uint8_t *out = r->pixels + (size_t)y * r->width * r->channels;

		if (r->channels == 1)
			row_to_grey(row, out, r->width);
		else
			row_to_rgb(row, out, r->width);
	}
}

static enum rc draw(struct document *doc, cairo_surface_t *surface, struct err *err)
{
	const struct plan *plan = &doc->plan;
	cairo_t *cr = cairo_create(surface);
	cairo_matrix_t m;
	cairo_status_t status;

	cairo_matrix_init(&m, plan->scale_x, 0, 0, plan->scale_y, plan->shift_x, plan->shift_y);
	cairo_set_matrix(cr, &m);
	poppler_page_render(doc->page, cr);
	status = cairo_status(cr);
	cairo_destroy(cr);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(surface);
	if (status == CAIRO_STATUS_SUCCESS)
		return RC_OK;
	return err_set(err, RC_FAILED, "damaged", "the page cannot be drawn: %s",
		       cairo_status_to_string(status));
}

/* Is the last row of a scan white from side to side? poppler pads missing data so. */
static bool ends_white(const struct document *doc, cairo_surface_t *surface)
{
	const struct matrix *m = &doc->facts.image[0].place;
	const struct plan *plan = &doc->plan;
	size_t words = (size_t)cairo_image_surface_get_stride(surface) / sizeof(uint32_t);
	bool across = fabs(m->d) > fabs(m->c); /* rows of the image are rows of the raster */
	bool far = across ? m->d < 0 : m->c < 0;
	uint32_t n = across ? plan->width : plan->height, all = 0xffffff;
	size_t step = across ? 1 : words;
	const uint32_t *p;

	if (!plan->native)
		return false;
	cairo_surface_flush(surface);
	p = (const uint32_t *)(const void *)cairo_image_surface_get_data(surface);
	if (far)
		p += across ? (plan->height - 1) * words : plan->width - 1;
	for (uint32_t i = 0; i < n; i++, p += step)
		all &= *p;
	return all == 0xffffff;
}

/* How the image is turned on the page, as in EXIF (TIFF 6.0, tag 274). */
static unsigned orientation(const struct matrix *m)
{
	if (fabs(m->a) > fabs(m->b))
		return m->a > 0 ? (m->d < 0 ? 1 : 4) : (m->d < 0 ? 2 : 3);
	return m->b > 0 ? (m->c > 0 ? 6 : 5) : (m->c > 0 ? 7 : 8);
}

/* A page that is nothing but a JPEG does not need poppler. false: it does. */
static bool read_jpeg_page(struct document *doc, struct raster *raster)
{
	const struct pdf_image *image = &doc->facts.image[0];
	const struct plan *plan = &doc->plan;
	unsigned turn = orientation(&image->place);
	bool lies = turn >= 5;
	struct raster direct = { .pixels = raster->pixels };
	size_t size;

	if (!plan->native || !is_lone_image(&doc->facts) ||
	    plan->width != (lies ? image->height : image->width) ||
	    plan->height != (lies ? image->width : image->height) ||
	    !checked_mul((size_t)plan->width * 3, plan->height, &size))
		return false;
	if (turn != 1)
		direct.pixels = xmalloc(size);
	if (!objects_read_jpeg(doc->objects, &doc->facts, &direct)) {
		if (turn != 1)
			free(direct.pixels);
		return false;
	}
	raster->width = plan->width;
	raster->height = plan->height;
	raster->channels = direct.channels;
	if (turn != 1) {
		raster_orient(&direct, raster, turn);
		free(direct.pixels);
	}
	raster_to_grey_if_grey(raster, 0);
	return true;
}

static enum rc pdf_render(struct document *doc, uint32_t index, struct page *page,
			  struct raster *raster, struct err *err)
{
	cairo_surface_t *surface = NULL;
	struct trouble trouble;
	enum rc rc;

	trouble_begin(&trouble, page);
	rc = look_at(doc, index, err);
	if (rc == RC_OK && read_jpeg_page(doc, raster)) {
		trouble_end(&trouble);
		page->channels = raster->channels;
		return RC_OK;
	}
	if (rc == RC_OK) {
		surface = white_surface(doc, &doc->plan);
		if (surface)
			rc = draw(doc, surface, err);
		else
			rc = err_set(err, RC_FAILED, "out-of-memory",
				     "no memory for a page of %u x %u pixels", doc->plan.width,
				     doc->plan.height);
	}
	if (rc == RC_OK)
		rc = objects_check_images(doc->objects, &doc->facts, ends_white(doc, surface), err);
	trouble_end(&trouble);
	if (rc != RC_OK)
		return rc;
	if (trouble.lost)
		return err_set(err, RC_FAILED, "damaged", "part of the page cannot be read: %s",
			       trouble.first);
	raster->width = doc->plan.width;
	raster->height = doc->plan.height;
	raster->channels = page->channels;
	copy_out(surface, raster);
	page->channels = raster->channels;
	return RC_OK;
}

const struct decoder pdf_decoder = {
	.name = "pdf",
	.open = pdf_open,
	.measure = pdf_measure,
	.render = pdf_render,
	.close = pdf_close,
};
