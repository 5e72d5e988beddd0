/* SPDX-License-Identifier: MIT
 *
 * The pictures of a page: when the recogniser has marked blocks as figures, `cloister-decode
 * --figures` cuts them out while the page file still lies in its slot.
 *
 * What they look like inside is nobody's business here.  A picture that is missing is said to be:
 * the page is flagged, with the limit or with what happened to the program.
 */
#include "aside.h"
#include "base/num.h"

/* Blocks with a box that are marked, no more than the limit allows. Returns how many more there
 * are. */
static size_t find(const json_t *record, uint64_t most, json_t *figures)
{
	json_t *result = json_object_get(record, "result");
	size_t i, left_out = 0;
	json_t *block;

	json_array_foreach(json_object_get(result, "blocks"), i, block)
	{
		json_t *box = json_object_get(block, "box"), *figure;
		const char *label = json_string_value(json_object_get(block, "label"));

		if (!box || !json_is_true(json_object_get(block, "figure")))
			continue;
		if (json_array_size(figures) >= most) {
			left_out++;
			continue;
		}
		figure = json_pack("{s:i, s:O}", "block", (int)i, "box", box);
		if (label)
			json_object_set_new(figure, "label", json_string(label));
		json_array_append_new(figures, figure);
	}
	return left_out;
}

static const struct limits *limits_of(const struct aside *a)
{
	return &a->slot->document->pipeline.limits;
}

static json_t *request(const struct aside *a)
{
	const struct reading *r = &a->slot->reading;
	json_int_t rotation = json_integer_value(json_object_get(a->record, "rotation"));
	json_t *boxes = json_array(), *figure;
	size_t i;

	json_array_foreach(json_object_get(a->draft, "figures"), i, figure)
		json_array_append(boxes, json_object_get(figure, "box"));
	return json_pack("{s:{s:i, s:i, s:f, s:I, s:I, s:o}}", "cut", "width", (int)r->width,
			 "height", (int)r->height, "dpi", r->dpi, "rotation", rotation, "bytes",
			 (json_int_t)(limits_of(a)->figures_mebibytes << 20), "boxes", boxes);
}

static uint64_t answer_max(const struct limits *limits)
{
	return (limits->figures_mebibytes << 20) / 3 * 4 + 8 * limits->page_figures;
}

/* Which of the two limits was passed, if one was. */
static void say_missing(const struct aside *a, size_t too_large, struct err *missing)
{
	size_t left_out = (size_t)json_integer_value(json_object_get(a->draft, "left_out"));

	if (too_large)
		err_set(missing, RC_FAILED, "limit:figures-mebibytes",
			"%zu of its pictures are not cut out: they take more than %llu MiB "
			"together",
			too_large + left_out, (unsigned long long)limits_of(a)->figures_mebibytes);
	else if (left_out)
		err_set(missing, RC_FAILED, "limit:page-figures",
			"%zu of its pictures are not cut out: there are more than %llu", left_out,
			(unsigned long long)limits_of(a)->page_figures);
}

static bool take(struct aside *a, const json_t *answer, struct err *missing)
{
	const json_t *pictures = json_object_get(answer, "figures");
	json_t *figures = json_object_get(a->draft, "figures"), *cut;
	size_t too_large = 0;

	if (json_array_size(pictures) != json_array_size(figures))
		return false;
	cut = json_array();
	for (size_t i = 0; i < json_array_size(pictures); i++) {
		json_t *picture = json_array_get(pictures, i), *figure = json_array_get(figures, i);

		if (json_is_string(picture)) {
			json_object_set(figure, "png", picture);
			json_array_append(cut, figure);
		}
		too_large += json_is_null(picture);
	}
	if (json_array_size(cut) + too_large == json_array_size(pictures)) {
		if (json_array_size(cut))
			json_object_set(a->record, "figures", cut);
		say_missing(a, too_large, missing);
		json_decref(cut);
		return true;
	}
	json_decref(cut);
	return false;
}

static const struct aside_kind kind = {
	.name = "figures",
	.doing = "cutting its pictures out",
	.with_page = true,
	.answer_max = answer_max,
	.request = request,
	.take = take,
	.next = document_page_read,
};

bool figures_begin(struct document_slot *slot, json_t *record)
{
	const struct pipeline *p = &slot->document->pipeline;
	json_t *figures;
	size_t left_out;

	if (p->figures == FIGURES_NONE)
		return false;
	figures = json_array();
	left_out = find(record, p->limits.page_figures, figures);
	if (!json_array_size(figures)) {
		json_decref(figures);
		return false;
	}
	aside_begin(slot, &kind, record,
		    json_pack("{s:o, s:I}", "figures", figures, "left_out", (json_int_t)left_out));
	return true;
}
