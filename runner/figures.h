/* SPDX-License-Identifier: MIT
 *
 * figures: the pictures that a recogniser has found on a page, cut out of it.
 *
 * In a page's record: "figures":[{"block":N,"label":..,"box":[..],"png":BASE64}], in the order of the
 * blocks; the writer makes files of them.
 */
#ifndef RUNNER_FIGURES_H
#define RUNNER_FIGURES_H

#include "document.h"

struct figures;

/* Cut what the record's result marks as figures, put it into the record, and hand that on to
 * document_page_read(); record: consumed. false: there is nothing to cut, nothing happens. */
bool figures_begin(struct document_slot *slot, json_t *record);
/* Time limit. Returns when to call again. */
double figures_turn(struct figures *f, double now);
void figures_release(struct figures *f); /* may be NULL */

#endif
