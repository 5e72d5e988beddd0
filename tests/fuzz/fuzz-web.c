/* SPDX-License-Identifier: MIT
 *
 * A page's text on its way to document.html: whatever it says, what comes out is safe for a
 * browser. The first byte of the input says what the text is.
 */
#include "fuzz.h"

#include "../unit/safe-html.h"
#include "decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const formats[] = {"markdown", "html"};
	const char *format = formats[size ? data[0] % 2 : 0];
	json_t *blocks = json_pack("[i]", 1);
	struct buf text, out;

	buf_init(&text, size + 1);
	buf_init(&out, 256 << 20);
	buf_add(&text, data + (size > 0), size - (size > 0));
	if (text.data && strlen(text.data) == text.len && utf8_valid(text.data, text.len)) {
		bool rendered = web_render(&out, format, text.data, blocks);

		CHECK(!out.overflow);
		CHECK(!unsafe_html(out.data ? out.data : ""));
		CHECK(!rendered || !out.len || utf8_valid(out.data, out.len));
	}
	json_decref(blocks);
	buf_release(&text);
	buf_release(&out);
	return 0;
}
