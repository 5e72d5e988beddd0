/* SPDX-License-Identifier: MIT
 *
 * pdf_facts: what a page is made of, read from its objects through qpdf.
 *
 * poppler-glib tells where images lie but not how many pixels they have, and a page that draws an
 * image poppler could not allocate is silently white.  So the page's objects are read here before
 * poppler sees them: every image that is drawn is checked against the limit, and the matrix of a
 * lone image gives the scale at which its pixels are the raster's pixels.
 *
 * Algorithm: walk the page's content (pdf_content.c); /Do looks the name up in the resources;
 * an image is recorded, a form is walked with its own matrix.  Appearance streams of annotations
 * are walked for the size of their images only.
 * Invariant: the work is bounded (streams, nesting, bytes); when a bound is met or something is
 * not understood, facts.known is false, and the page is rendered the plain way.
 */
#include "pdf_parts.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PARENTS_MAX     64        /* of a page, up to the root of the page tree */
#define FORM_DEPTH_MAX  12
#define STREAMS_MAX     512       /* a page's content, forms and appearances */
#define PACKED_MAX      (400 << 10) /* bytes of them as stored; deflate makes up to 1032 of one */
#define ANNOTATIONS_MAX 1000
#define FONTS_MAX       256
#define WHOLE_FILE_MAX  ((uint64_t)1 << 30) /* mapped into the address space */

struct pdf_objects {
	qpdf_data q;
	void *bytes;
	size_t len;
};

struct walk {
	qpdf_data q;
	struct pdf_facts *facts;
	const struct limits *limits;
	struct err *err;
	enum rc rc;
	struct content_sink sink;
	qpdf_oh resources; /* of the stream being walked */
	struct box page;   /* as shown, in points */
	unsigned streams, depth;
	double packed; /* bytes of the streams so far */
	bool partly;   /* something was left out */
	bool aside;    /* sizes only: an annotation */
};

void objects_release(struct pdf_objects *o)
{
	if (!o)
		return;
	qpdf_oh_release_all(o->q);
	if (qpdf_has_error(o->q))
		qpdf_get_error(o->q); /* or it is printed later */
	while (qpdf_more_warnings(o->q))
		qpdf_next_warning(o->q);
	madvise(o->bytes, o->len, MADV_DONTNEED); /* what was touched counts as ours */
}

struct pdf_objects *objects_open(int fd, const char *password, uint32_t pages)
{
	struct pdf_objects *o;
	struct stat st;

	if (fstat(fd, &st) != 0 || st.st_size <= 0 || (uint64_t)st.st_size > WHOLE_FILE_MAX)
		return NULL;
	o = xcalloc(1, sizeof(*o));
	o->len = (size_t)st.st_size;
	o->bytes = mmap(NULL, o->len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (o->bytes == MAP_FAILED) {
		free(o);
		return NULL;
	}
	o->q = qpdf_init();
	qpdf_silence_errors(o->q);
	qpdf_set_suppress_warnings(o->q, QPDF_TRUE);
	if ((qpdf_read_memory(o->q, "document", o->bytes, o->len, password) & QPDF_ERRORS) ||
	    qpdf_get_num_pages(o->q) != (int)pages) {
		objects_close(o);
		return NULL;
	}
	return o;
}

bool objects_refuse_password(int fd, const char *password)
{
	struct stat st;
	qpdf_data q;
	void *bytes;
	bool refused;

	/* How letters beyond ASCII were encoded is the writer's secret: poppler tries two ways. */
	for (const char *p = password; *p; p++)
		if ((unsigned char)*p >= 0x80)
			return false;
	if (fstat(fd, &st) != 0 || st.st_size <= 0 || (uint64_t)st.st_size > WHOLE_FILE_MAX)
		return false;
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return false;
	q = qpdf_init();
	qpdf_silence_errors(q);
	qpdf_set_suppress_warnings(q, QPDF_TRUE);
	refused = (qpdf_read_memory(q, "document", bytes, (size_t)st.st_size, password) &
		   QPDF_ERRORS) &&
		  qpdf_get_error_code(q, qpdf_get_error(q)) == qpdf_e_password;
	qpdf_cleanup(&q);
	munmap(bytes, (size_t)st.st_size);
	return refused;
}

void objects_close(struct pdf_objects *o)
{
	if (!o)
		return;
	objects_release(o);
	qpdf_cleanup(&o->q);
	munmap(o->bytes, o->len);
	free(o);
}

/* A key of the page or, where it is inherited, of its ancestors. */
static qpdf_oh inherited(qpdf_data q, qpdf_oh node, const char *key)
{
	for (int i = 0; i < PARENTS_MAX && qpdf_oh_is_dictionary(q, node); i++) {
		if (qpdf_oh_has_key(q, node, key))
			break;
		node = qpdf_oh_get_key(q, node, "/Parent");
	}
	return qpdf_oh_get_key_if_dict(q, node, key);
}

static bool numbers(qpdf_data q, qpdf_oh array, double *out, int n)
{
	if (!qpdf_oh_is_array(q, array) || qpdf_oh_get_array_n_items(q, array) < n)
		return false;
	for (int i = 0; i < n; i++) {
		qpdf_oh item = qpdf_oh_get_array_item(q, array, i);

		if (!qpdf_oh_is_number(q, item))
			return false;
		out[i] = qpdf_oh_get_numeric_value(q, item);
		if (!isfinite(out[i]))
			return false;
	}
	return true;
}

static bool get_box(qpdf_data q, qpdf_oh page, const char *key, struct box *box)
{
	double v[4];

	if (!numbers(q, inherited(q, page, key), v, 4))
		return false;
	*box = (struct box){ fmin(v[0], v[2]), fmin(v[1], v[3]), fmax(v[0], v[2]),
			     fmax(v[1], v[3]) };
	return box_area(box) > 0;
}

/* Points of user space to points of the page as shown: origin top left, y down, turned. */
static bool page_space(struct walk *w, qpdf_oh page, struct matrix *m)
{
	struct pdf_facts *facts = w->facts;
	struct box media, crop;
	qpdf_oh turn = inherited(w->q, page, "/Rotate");
	int rotate = 0;

	if (!get_box(w->q, page, "/MediaBox", &media) ||
	    (qpdf_oh_is_integer(w->q, turn) &&
	     !qpdf_oh_get_value_as_int(w->q, turn, &rotate)))
		return false;
	if (get_box(w->q, page, "/CropBox", &crop))
		crop = box_intersect(&crop, &media);
	else
		crop = media;
	if (box_area(&crop) <= 0)
		crop = media;
	switch ((rotate % 360 + 360) % 360) {
	case 0:
		*m = (struct matrix){ 1, 0, 0, -1, -crop.x0, crop.y1 };
		break;
	case 90:
		*m = (struct matrix){ 0, 1, 1, 0, -crop.y0, -crop.x0 };
		break;
	case 180:
		*m = (struct matrix){ -1, 0, 0, 1, crop.x1, -crop.y0 };
		break;
	case 270:
		*m = (struct matrix){ 0, -1, -1, 0, crop.y1, crop.x1 };
		break;
	default:
		return false;
	}
	w->page = box_transform(&crop, m);
	facts->width = w->page.x1;
	facts->height = w->page.y1;
	return true;
}

static void add_image(struct walk *w, const struct pdf_image *image, double width, double height)
{
	static const struct box unit = { 0, 0, 1, 1 };
	struct pdf_facts *facts = w->facts;
	struct box place = box_transform(&unit, &image->place);
	double share;

	if (!(width >= 1 && height >= 1))
		return;
	if (w->rc == RC_OK)
		w->rc = check_image_size(width < 1e9 ? (uint64_t)width : 1000000000,
					 height < 1e9 ? (uint64_t)height : 1000000000, w->limits,
					 w->err);
	if (w->aside || width > UINT32_MAX || height > UINT32_MAX)
		return;
	place = box_intersect(&place, &w->page);
	share = box_area(&place) / box_area(&w->page);
	facts->image_cover = fmin(1, facts->image_cover + share);
	/* Text under a whole-page image is as hidden as text that is not painted. */
	if (share > 0.8 && !image->is_mask) {
		w->sink.counts.hidden += w->sink.counts.shown;
		w->sink.counts.shown = 0;
	}
	if (facts->images < FACTS_IMAGES) {
		struct pdf_image *kept = &facts->image[facts->images];

		*kept = *image;
		kept->width = (uint32_t)width;
		kept->height = (uint32_t)height;
	}
	facts->images++;
}

static double number_of(qpdf_data q, qpdf_oh dict, const char *key)
{
	qpdf_oh v = qpdf_oh_get_key(q, dict, key);

	return qpdf_oh_is_number(q, v) ? qpdf_oh_get_numeric_value(q, v) : 0;
}

static void draw_image(struct walk *w, qpdf_oh stream, const struct content_state *state)
{
	static const char *const masks[] = { "/SMask", "/Mask" };
	qpdf_oh dict = qpdf_oh_get_dict(w->q, stream);
	struct pdf_image image = { .place = state->ctm, .object = stream };
	qpdf_oh space = qpdf_oh_get_key(w->q, dict, "/ColorSpace");

	QPDF_BOOL is_mask = QPDF_FALSE;

	qpdf_oh_get_value_as_bool(w->q, qpdf_oh_get_key(w->q, dict, "/ImageMask"), &is_mask);
	image.is_mask = is_mask;
	image.is_grey = qpdf_oh_is_name_and_equals(w->q, space, "/DeviceGray");
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		qpdf_oh mask = qpdf_oh_get_key(w->q, dict, masks[i]);
		bool aside = w->aside;

		if (!qpdf_oh_is_stream(w->q, mask))
			continue;
		mask = qpdf_oh_get_dict(w->q, mask);
		w->aside = true;
		add_image(w, &image, number_of(w->q, mask, "/Width"),
			  number_of(w->q, mask, "/Height"));
		w->aside = aside;
		image.is_mask = true; /* lets through what lies beneath */
		image.is_grey = false;
	}
	add_image(w, &image, number_of(w->q, dict, "/Width"), number_of(w->q, dict, "/Height"));
}

/* Does this filter make more of its data? */
static bool expands(qpdf_data q, qpdf_oh filter)
{
	return !qpdf_oh_is_name_and_equals(q, filter, "/ASCII85Decode") &&
	       !qpdf_oh_is_name_and_equals(q, filter, "/ASCIIHexDecode");
}

/* Decoding is in memory: of much data, or through filters upon filters, it is not done at all. */
static bool small_enough(struct walk *w, qpdf_oh stream)
{
	qpdf_oh dict = qpdf_oh_get_dict(w->q, stream);
	qpdf_oh filter = qpdf_oh_get_key(w->q, dict, "/Filter");
	int n = qpdf_oh_is_array(w->q, filter) ? qpdf_oh_get_array_n_items(w->q, filter) : 0;
	int expanding = 0;

	for (int i = 0; i < n && i < 8; i++)
		expanding += expands(w->q, qpdf_oh_get_array_item(w->q, filter, i));
	w->packed += fmax(number_of(w->q, dict, "/Length"), 0);
	return w->packed <= PACKED_MAX && n < 8 && expanding <= 1;
}

static bool stream_data(struct walk *w, qpdf_oh stream, unsigned char **data, size_t *len)
{
	QPDF_BOOL filtered = QPDF_FALSE;

	*data = NULL;
	if (++w->streams > STREAMS_MAX || !small_enough(w, stream) ||
	    (qpdf_oh_get_stream_data(w->q, stream, qpdf_dl_generalized, &filtered, data, len) &
	     QPDF_ERRORS) ||
	    !filtered || !*data) {
		free(*data);
		*data = NULL;
		w->partly = true;
		return false;
	}
	return true;
}

/* A font says what its codes mean by ToUnicode, a named encoding or, for Type 0, a predefined
 * CMap. Type 3 fonts have glyph names of their own making. */
static bool font_is_mapped(qpdf_data q, qpdf_oh font)
{
	static const char *const standard[] = { "/WinAnsiEncoding", "/MacRomanEncoding",
						"/StandardEncoding", "/MacExpertEncoding" };
	qpdf_oh type = qpdf_oh_get_key_if_dict(q, font, "/Subtype");
	qpdf_oh encoding = qpdf_oh_get_key_if_dict(q, font, "/Encoding");
	qpdf_oh descriptor = qpdf_oh_get_key_if_dict(q, font, "/FontDescriptor");
	bool symbolic;

	if (qpdf_oh_is_stream(q, qpdf_oh_get_key_if_dict(q, font, "/ToUnicode")))
		return true;
	if (qpdf_oh_is_name_and_equals(q, type, "/Type3"))
		return false;
	if (qpdf_oh_is_name_and_equals(q, type, "/Type0"))
		return qpdf_oh_is_name(q, encoding) &&
		       strncmp(qpdf_oh_get_name(q, encoding), "/Identity", 9) != 0;
	for (size_t i = 0; i < ARRAY_SIZE(standard); i++) {
		if (qpdf_oh_is_name_and_equals(q, encoding, standard[i]))
			return true;
	}
	/* Type 1 programs name their glyphs; a symbolic TrueType program only numbers them. */
	symbolic = qpdf_oh_is_dictionary(q, descriptor) &&
		   ((int)number_of(q, descriptor, "/Flags") & 4);
	return qpdf_oh_is_dictionary(q, encoding) ||
	       !(symbolic && qpdf_oh_is_name_and_equals(q, type, "/TrueType"));
}

static void count_fonts(struct walk *w)
{
	qpdf_oh fonts = qpdf_oh_get_key_if_dict(w->q, w->resources, "/Font");

	if (w->aside || !qpdf_oh_is_dictionary(w->q, fonts))
		return;
	qpdf_oh_begin_dict_key_iter(w->q, fonts);
	for (int i = 0; i < FONTS_MAX && qpdf_oh_dict_more_keys(w->q); i++) {
		qpdf_oh font = qpdf_oh_get_key(w->q, fonts, qpdf_oh_dict_next_key(w->q));

		if (!qpdf_oh_is_dictionary(w->q, font))
			continue;
		w->facts->fonts++;
		w->facts->fonts_unmapped += !font_is_mapped(w->q, font);
	}
}

static void draw_form(struct walk *w, qpdf_oh stream, const struct content_state *state)
{
	qpdf_oh dict = qpdf_oh_get_dict(w->q, stream), outer = w->resources;
	qpdf_oh resources = qpdf_oh_get_key(w->q, dict, "/Resources");
	struct content_state inner = *state;
	unsigned char *data;
	double v[6];
	size_t len;

	w->sink.counts.others++;
	if (w->depth >= FORM_DEPTH_MAX) {
		w->partly = true;
		return;
	}
	if (numbers(w->q, qpdf_oh_get_key(w->q, dict, "/Matrix"), v, 6)) {
		struct matrix m = { v[0], v[1], v[2], v[3], v[4], v[5] };

		inner.ctm = matrix_multiply(&m, &state->ctm);
	}
	if (!stream_data(w, stream, &data, &len))
		return;
	if (qpdf_oh_is_dictionary(w->q, resources)) {
		w->resources = resources;
		count_fonts(w);
	}
	w->depth++;
	content_run(&w->sink, data, len, &inner);
	w->depth--;
	w->resources = outer;
	free(data);
}

static void draw(void *ctx, const char *name, const struct content_state *state)
{
	struct walk *w = ctx;
	qpdf_oh objects = qpdf_oh_get_key_if_dict(w->q, w->resources, "/XObject");
	qpdf_oh stream = qpdf_oh_get_key_if_dict(w->q, objects, name);
	qpdf_oh type;

	if (!qpdf_oh_is_stream(w->q, stream)) {
		w->sink.counts.paths++; /* something was to be painted */
		return;
	}
	type = qpdf_oh_get_key(w->q, qpdf_oh_get_dict(w->q, stream), "/Subtype");
	if (qpdf_oh_is_name_and_equals(w->q, type, "/Image"))
		draw_image(w, stream, state);
	else if (qpdf_oh_is_name_and_equals(w->q, type, "/Form"))
		draw_form(w, stream, state);
}

static void draw_inline(void *ctx, double width, double height, const struct content_state *state)
{
	struct pdf_image image = { .place = state->ctm, .is_mask = true };

	add_image(ctx, &image, width, height);
}

static void walk_contents(struct walk *w, qpdf_oh page, const struct matrix *space)
{
	struct content_state start = { .ctm = *space };
	qpdf_oh contents = qpdf_oh_get_key(w->q, page, "/Contents");
	unsigned char *data = NULL;
	size_t len = 0;

	if (qpdf_oh_is_stream(w->q, contents)) {
		w->partly |= !small_enough(w, contents);
	} else if (qpdf_oh_is_array(w->q, contents)) {
		int n = qpdf_oh_get_array_n_items(w->q, contents);

		w->partly |= n > STREAMS_MAX;
		for (int i = 0; i < n && !w->partly; i++)
			w->partly |= !small_enough(w, qpdf_oh_get_array_item(w->q, contents, i));
	} else {
		return;
	}
	if (w->partly)
		return;
	if (qpdf_oh_get_page_content_data(w->q, page, &data, &len) & QPDF_ERRORS)
		w->partly = true;
	else if (data)
		content_run(&w->sink, data, len, &start);
	free(data);
}

/* The normal appearance, in the state the annotation is in. */
static qpdf_oh appearance(qpdf_data q, qpdf_oh annotation)
{
	qpdf_oh n = qpdf_oh_get_key_if_dict(
		q, qpdf_oh_get_key_if_dict(q, annotation, "/AP"), "/N");
	qpdf_oh state = qpdf_oh_get_key_if_dict(q, annotation, "/AS");

	if (qpdf_oh_is_dictionary(q, n) && qpdf_oh_is_name(q, state))
		n = qpdf_oh_get_key(q, n, qpdf_oh_get_name(q, state));
	return n;
}

static void walk_annotations(struct walk *w, qpdf_oh page)
{
	qpdf_oh list = qpdf_oh_get_key(w->q, page, "/Annots");
	struct content_counts counts = w->sink.counts;
	struct content_state start = { .ctm = { 1, 0, 0, 1, 0, 0 } };
	int n = qpdf_oh_is_array(w->q, list) ? qpdf_oh_get_array_n_items(w->q, list) : 0;
	bool partly = w->partly;

	w->aside = true;
	for (int i = 0; i < n && i < ANNOTATIONS_MAX; i++) {
		qpdf_oh annotation = qpdf_oh_get_array_item(w->q, list, i);
		qpdf_oh type = qpdf_oh_get_key_if_dict(w->q, annotation, "/Subtype");
		qpdf_oh stream = appearance(w->q, annotation);

		if (qpdf_oh_is_name_and_equals(w->q, type, "/Link") ||
		    qpdf_oh_is_name_and_equals(w->q, type, "/Popup"))
			continue;
		w->facts->annotations++;
		if (qpdf_oh_is_stream(w->q, stream))
			draw_form(w, stream, &start);
	}
	w->aside = false;
	w->partly = partly;
	w->sink.counts = counts;
}

enum rc objects_facts(struct pdf_objects *o, uint32_t index, const struct limits *limits,
		      struct pdf_facts *facts, struct err *err)
{
	struct walk w = { .facts = facts, .limits = limits, .err = err };
	struct matrix space;
	qpdf_oh page;

	memset(facts, 0, sizeof(*facts));
	facts->user_unit = 1;
	if (!o)
		return RC_OK;
	w.q = o->q;
	page = qpdf_get_page_n(o->q, index);
	if (!qpdf_oh_is_dictionary(o->q, page) || !page_space(&w, page, &space))
		return RC_OK;
	if (number_of(o->q, page, "/UserUnit") >= 0.01)
		facts->user_unit = number_of(o->q, page, "/UserUnit");
	w.resources = inherited(o->q, page, "/Resources");
	w.sink = (struct content_sink){ .ctx = &w, .draw = draw, .draw_inline = draw_inline };
	count_fonts(&w);
	walk_contents(&w, page, &space);
	walk_annotations(&w, page);
	facts->counts = w.sink.counts;
	facts->known = !w.partly && !facts->counts.inexact;
	return w.rc;
}

enum rc objects_check_images(struct pdf_objects *o, const struct pdf_facts *facts, bool thorough,
			     struct err *err)
{
	enum rc rc = RC_OK;

	for (unsigned i = 0; i < facts->images && i < FACTS_IMAGES && rc == RC_OK; i++) {
		if (facts->image[i].object)
			rc = stream_check(o->q, &facts->image[i], thorough, err);
	}
	return rc;
}

bool objects_read_jpeg(struct pdf_objects *o, const struct pdf_facts *facts, struct raster *out)
{
	return facts->image[0].object && stream_read_jpeg(o->q, &facts->image[0], out);
}
