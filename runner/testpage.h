/* SPDX-License-Identifier: MIT
 *
 * testpage: a page of which the text is known, drawn here so that an installation needs no file for it.
 */
#ifndef RUNNER_TESTPAGE_H
#define RUNNER_TESTPAGE_H

#include "base/buf.h"

#define TEST_PAGE_WIDTH	 900
#define TEST_PAGE_HEIGHT 260
#define TEST_PAGE_DPI	 300
#define TEST_PAGE_LINE_1 "TWELVE MEN WAIT"
#define TEST_PAGE_LINE_2 "IN THE WHITE MILL"
#define TEST_PAGE_TEXT	 TEST_PAGE_LINE_1 " " TEST_PAGE_LINE_2

/* A binary PNM, grey. The caller releases it. */
void test_page_draw(struct buf *out);

#endif
