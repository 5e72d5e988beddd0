/* SPDX-License-Identifier: MIT
 *
 * A page's text on its way to document.html: whatever it says, what comes out is safe for a
 * browser. The first byte of the input says what the text is.
 */
#include "fuzz.h"

#include "../unit/safe-html.h"
#include "write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const formats[] = {"markdown", "html", "text"};
	struct leaf leaf = {.format = formats[size ? data[0] % 3 : 0]};
	struct buf text, out;

	buf_init(&text, size + 1);
	buf_init(&out, 256 << 20);
	buf_add(&text, data + (size > 0), size - (size > 0));
	if (text.data && strlen(text.data) == text.len && utf8_valid(text.data, text.len)) {
		leaf.text = text.data;
		leaf.figures = json_pack("[{s:s}]", "file", SAFE_PICTURE);
		web_text(&out, &leaf);
		CHECK(!out.overflow);
		CHECK(!unsafe_html(out.data ? out.data : ""));
		json_decref(leaf.figures);
	}
	buf_release(&text);
	buf_release(&out);
	return 0;
}
