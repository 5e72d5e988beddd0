/* SPDX-License-Identifier: MIT */
#include "images.h"

#include "base/num.h"

static enum document_kind kind_of(const void *data, size_t len, struct err *err)
{
	int fd = file_of(data, len);
	enum document_kind kind;

	*err = (struct err){ 0 };
	kind = sniff(fd, err);
	close(fd);
	return kind;
}

struct sample {
	const char *bytes;
	size_t len;
	enum document_kind kind;
	const char *says; /* part of the text, of KIND_UNKNOWN */
};
#define SAMPLE(bytes, kind) { bytes, sizeof(bytes) - 1, kind, NULL }
#define REFUSED(bytes, says) { bytes, sizeof(bytes) - 1, KIND_UNKNOWN, says }

static const struct sample samples[] = {
	SAMPLE("%PDF-1.7\n", KIND_PDF),
	SAMPLE("\xef\xbb\xbf\r\njunk %PDF-1.4\n", KIND_PDF),
	SAMPLE("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", KIND_PNG),
	SAMPLE("\xff\xd8\xff\xe0", KIND_JPEG),
	SAMPLE("\xff\xd8\xff\xdb", KIND_JPEG),
	SAMPLE("II*\0\x08\0\0\0", KIND_TIFF),
	SAMPLE("MM\0*\0\0\0\x08", KIND_TIFF),
	SAMPLE("II+\0\x08\0\0\0", KIND_TIFF),
	SAMPLE("MM\0+\0\x08\0\0", KIND_TIFF),
	SAMPLE("\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14", KIND_JP2),
	SAMPLE("\xff\x4f\xff\x51\0\x2f", KIND_JP2),
	SAMPLE("P1 1 1 0", KIND_PNM),
	SAMPLE("P4\n1 1\n\0", KIND_PNM),
	SAMPLE("P6#comment\n1 1 255\nabc", KIND_PNM),
	SAMPLE("RIFF\x10\0\0\0WEBPVP8 ", KIND_WEBP),
	SAMPLE("PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", KIND_ARCHIVE),
	SAMPLE("PK\3\4\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\5\0\0\0a.png", KIND_ARCHIVE),
	SAMPLE("7z\xbc\xaf\x27\x1c\0\4", KIND_ARCHIVE),
	SAMPLE("\x1f\x8b\x08\0\0\0\0\0", KIND_ARCHIVE),
	SAMPLE("BZh91AY&SY\0\0", KIND_ARCHIVE),
	SAMPLE("\xfd" "7zXZ\0\0", KIND_ARCHIVE),
	SAMPLE("\x28\xb5\x2f\xfd\x24", KIND_ARCHIVE),
	REFUSED("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Microsoft Office"),
	REFUSED("PK\3\4\x14\0\6\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0"
		"[Content_Types].xml", "Microsoft Office"),
	REFUSED("PK\3\4\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0"
		"mimetypeapplication/epub+zip", "EPUB"),
	REFUSED("PK\3\4\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0"
		"mimetypeapplication/vnd.oasis.opendocument.text", "OpenDocument"),
	REFUSED("{\\rtf1", "Rich Text"),
	REFUSED("%!PS-Adobe-3.0\n", "PostScript"),
	REFUSED("AT&TFORM\0\0\0\1DJVM", "DjVu"),
	REFUSED("GIF89a", "GIF"),
	REFUSED("BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0", "BMP"),
	REFUSED("\0\0\0\x18" "ftypheic\0\0\0\0", "HEIC"),
	REFUSED("\0\0\0\x18" "ftypmp42\0\0\0\0", "film"),
	REFUSED("Rar!\x1a\7\0", "RAR"),
	REFUSED("\x7f" "ELF\2\1\1", "program"),
	REFUSED("RIFF\x10\0\0\0WAVEfmt ", "sound"),
	REFUSED("LUKS\xba\xbe\0\1", "encrypted"),
	REFUSED("<!DOCTYPE html>\n<p>", "HTML"),
	REFUSED("  <HTML><body>", "HTML"),
	REFUSED("<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
	REFUSED("<?xml version=\"1.0\"?>\n<a/>", "XML"),
	REFUSED("Dear Sir or Madam,\n", "plain text"),
	REFUSED("Gr\xfc\xdf" "e\n", "old encoding"),
	REFUSED("\xff\xfe" "a\0b\0", "UTF-16"),
	REFUSED("\0\0\0\0\0\0\0\0", "zeros"),
	REFUSED("\1\2\3\4\5\6\7\x88\x99", "nothing this program knows"),
	REFUSED("P7\nWIDTH 1\n", "PAM"),
	REFUSED("P9 1 1", "plain text"),
};

static void test_kinds(void **state)
{
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		enum document_kind kind = kind_of(s->bytes, s->len, &err);

		if (kind != s->kind)
			fail_msg("sample %zu is %s: %s", i, document_kind_name(kind), err.text);
		if (s->kind != KIND_UNKNOWN)
			continue;
		assert_string_equal(err.reason, "unknown-type");
		if (!strstr(err.text, s->says))
			fail_msg("sample %zu: \"%s\" does not say %s", i, err.text, s->says);
	}
}

static void test_empty(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(kind_of("", 0, &err), KIND_UNKNOWN);
	assert_string_equal(err.reason, "empty");
}

static void test_pdf_within_first_kilobyte(void **state)
{
	char data[2048];
	struct err err;

	(void)state;
	memset(data, '\1', sizeof(data));
	memcpy(data + 1019, "%PDF-", 5);
	assert_int_equal(kind_of(data, sizeof(data), &err), KIND_PDF);
	memset(data, '\1', sizeof(data));
	memcpy(data + 1020, "%PDF-", 5);
	assert_int_equal(kind_of(data, sizeof(data), &err), KIND_UNKNOWN);
}

static void test_tar(void **state)
{
	char data[1024] = "letter.pdf";
	unsigned sum = 0;
	struct err err;

	(void)state;
	memcpy(data + 257, "ustar\00000", 8);
	assert_int_equal(kind_of(data, sizeof(data), &err), KIND_ARCHIVE);
	memset(data + 257, 0, 8);
	assert_int_equal(kind_of(data, sizeof(data), &err), KIND_UNKNOWN);
	memset(data + 148, ' ', 8);
	for (size_t i = 0; i < 512; i++)
		sum += (unsigned char)data[i];
	snprintf(data + 148, 8, "%06o", sum);
	assert_int_equal(kind_of(data, sizeof(data), &err), KIND_ARCHIVE);
	data[3]++;
	assert_int_equal(kind_of(data, sizeof(data), &err), KIND_UNKNOWN);
}

/* Every beginning of every sample, and every one with a byte changed: an answer, no crash. */
static void test_cut_and_changed(void **state)
{
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		char copy[256];

		for (size_t len = 0; len < samples[i].len; len++) {
			memcpy(copy, samples[i].bytes, len);
			copy[len / 2] = (char)(copy[len / 2] + 128);
			if (kind_of(copy, len, &err) == KIND_UNKNOWN)
				assert_true(err.reason[0] && err.text[0]);
		}
	}
}

static void test_names(void **state)
{
	(void)state;
	for (enum document_kind kind = 0; kind < KIND_COUNT; kind++)
		assert_true(document_kind_name(kind)[0]);
	assert_string_equal(document_kind_name(KIND_JP2), "jp2");
	assert_string_equal(document_kind_name(KIND_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_pdf_within_first_kilobyte),
		cmocka_unit_test(test_tar),
		cmocka_unit_test(test_cut_and_changed),
		cmocka_unit_test(test_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
