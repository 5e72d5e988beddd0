/* SPDX-License-Identifier: MIT
 *
 * sniff: tell a document by its bytes.
 *
 * A name says what somebody called a file; the bytes say what it is.  Two tables: what is read, and
 * what is known but not read, so that a user is told "looks like a GIF image" and not only that
 * something failed.  The order is from the exact to the vague: magic numbers, PDF behind some junk,
 * old tar by its checksum, and at last text.
 */
#include "image.h"

#include "base/name.h"
#include "base/num.h"

#include <ctype.h>
#include <string.h>

#define HEAD_BYTES   4096
#define PDF_WITHIN   1024
#define TAR_BLOCK    512
#define TAR_CHECKSUM 148
#define TAR_MAGIC    257
#define ZIP_HEADER   30

struct magic {
	size_t at, len;
	const char *bytes;
	enum document_kind kind;
	const char *text; /* of KIND_UNKNOWN: what it looks like */
};

#define MAGIC(at, bytes, kind)    { at, sizeof(bytes) - 1, bytes, kind, NULL }
#define FOREIGN(at, bytes, text)  { at, sizeof(bytes) - 1, bytes, KIND_UNKNOWN, text }

static const struct magic magics[] = {
	MAGIC(0, "%PDF-", KIND_PDF),
	MAGIC(0, "\x89PNG\r\n\x1a\n", KIND_PNG),
	MAGIC(0, "\xff\xd8\xff", KIND_JPEG),
	MAGIC(0, "II*\0", KIND_TIFF),
	MAGIC(0, "MM\0*", KIND_TIFF),
	MAGIC(0, "II+\0\x08\0", KIND_TIFF),
	MAGIC(0, "MM\0+\0\x08", KIND_TIFF),
	MAGIC(0, "\0\0\0\x0cjP  \r\n\x87\n", KIND_JP2),
	MAGIC(0, "\xff\x4f\xff\x51", KIND_JP2),
	MAGIC(0, "7z\xbc\xaf\x27\x1c", KIND_ARCHIVE),
	MAGIC(0, "\x1f\x8b\x08", KIND_ARCHIVE),
	MAGIC(0, "\xfd" "7zXZ\0", KIND_ARCHIVE),
	MAGIC(0, "\x28\xb5\x2f\xfd", KIND_ARCHIVE),
	MAGIC(TAR_MAGIC, "ustar", KIND_ARCHIVE),
	FOREIGN(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
		"a Microsoft Office document (or another OLE file)"),
	FOREIGN(0, "{\\rtf", "a Rich Text document"),
	FOREIGN(0, "%!PS", "a PostScript document"),
	FOREIGN(0, "\xc5\xd0\xd3\xc6", "an Encapsulated PostScript document"),
	FOREIGN(0, "AT&TFORM", "a DjVu document"),
	FOREIGN(0, "GIF8", "a GIF image"),
	FOREIGN(0, "8BPS", "a Photoshop image"),
	FOREIGN(0, "\0\0\1\0", "an icon"),
	FOREIGN(0, "\x97JB2\r\n\x1a\n", "a bare JBIG2 stream"),
	FOREIGN(0, "\xff\x0a", "a JPEG XL image"),
	FOREIGN(0, "\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
	FOREIGN(0, "P7\n", "a PAM image"),
	FOREIGN(0, "ITOLITLS", "an electronic book"),
	FOREIGN(60, "BOOKMOBI", "an electronic book"),
	FOREIGN(0, "Rar!\x1a\x07", "a RAR archive, which is not supported"),
	FOREIGN(0, "\x1f\x9d", "a compress (.Z) file, which is not supported"),
	FOREIGN(0, "MSCF", "a cabinet archive, which is not supported"),
	FOREIGN(0, "\x7f" "ELF", "a program"),
	FOREIGN(0, "MZ", "a program"),
	FOREIGN(0, "\xca\xfe\xba\xbe", "a program"),
	FOREIGN(0, "\xcf\xfa\xed\xfe", "a program"),
	FOREIGN(0, "#!", "a script"),
	FOREIGN(0, "SQLite format 3", "a database"),
	FOREIGN(0, "-----BEGIN PGP MESSAGE", "an encrypted message"),
	FOREIGN(0, "age-encryption.org/", "an encrypted file"),
	FOREIGN(0, "Salted__", "an encrypted file"),
	FOREIGN(0, "LUKS\xba\xbe", "an encrypted container"),
	FOREIGN(4, "ftypavif", "an AVIF image"),
	FOREIGN(4, "ftyphei", "an HEIC image"),
	FOREIGN(4, "ftyphev", "an HEIC image"),
	FOREIGN(4, "ftypmif1", "an HEIC image"),
	FOREIGN(4, "ftyp", "a film"),
	FOREIGN(0, "\x1a\x45\xdf\xa3", "a film"),
	FOREIGN(0, "ID3", "a sound recording"),
	FOREIGN(0, "fLaC", "a sound recording"),
	FOREIGN(0, "OggS", "a sound recording or film"),
};

struct head {
	const uint8_t *data;
	size_t len;
};

static bool has(const struct head *h, size_t at, const char *bytes, size_t len)
{
	return at <= h->len && h->len - at >= len && !memcmp(h->data + at, bytes, len);
}

const char *document_kind_name(enum document_kind kind)
{
	static const char *const names[KIND_COUNT] = {
		[KIND_UNKNOWN] = "unknown", [KIND_PDF] = "pdf",   [KIND_PNG] = "png",
		[KIND_JPEG] = "jpeg",       [KIND_TIFF] = "tiff", [KIND_JP2] = "jp2",
		[KIND_PNM] = "pnm",         [KIND_WEBP] = "webp", [KIND_ARCHIVE] = "archive",
	};

	return (unsigned)kind < KIND_COUNT ? names[kind] : "unknown";
}

static enum document_kind unknown(struct err *err, const char *looks_like)
{
	err_set(err, RC_FAILED, "unknown-type", "looks like %s", looks_like);
	return KIND_UNKNOWN;
}

/* An Office or e-book file is a zip whose first member gives it away. */
static enum document_kind sniff_zip(const struct head *h, struct err *err)
{
	size_t name_len;
	const char *name;

	if (h->len < ZIP_HEADER || !has(h, 0, "PK\3\4", 4))
		return KIND_ARCHIVE;
	name_len = h->data[26] | (size_t)h->data[27] << 8;
	name = (const char *)h->data + ZIP_HEADER;
	if (name_len > h->len - ZIP_HEADER)
		return KIND_ARCHIVE;
	if ((name_len == 19 && !memcmp(name, "[Content_Types].xml", 19)) ||
	    (name_len >= 6 && (!memcmp(name, "_rels/", 6) || !memcmp(name, "docPro", 6))))
		return unknown(err, "a Microsoft Office document (docx, xlsx or pptx)");
	if (name_len == 8 && !memcmp(name, "mimetype", 8)) {
		const struct head rest = { h->data + ZIP_HEADER + 8, h->len - ZIP_HEADER - 8 };

		if (memmem(rest.data, min_u64(rest.len, 128), "epub", 4))
			return unknown(err, "an EPUB book");
		if (memmem(rest.data, min_u64(rest.len, 128), "opendocument", 12))
			return unknown(err, "an OpenDocument file (odt, ods or odp)");
	}
	return KIND_ARCHIVE;
}

/* Before "ustar" a tar header was known by nothing but its checksum: octal, counted with spaces in
 * its own place. */
static bool is_old_tar(const struct head *h)
{
	unsigned sum = 0, stored = 0, digits = 0;

	if (h->len < TAR_BLOCK || !h->data[0])
		return false;
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= TAR_CHECKSUM && i < TAR_CHECKSUM + 8 ? ' ' : h->data[i];
	for (size_t i = TAR_CHECKSUM; i < TAR_CHECKSUM + 8; i++) {
		uint8_t c = h->data[i];

		if (c >= '0' && c <= '7') {
			stored = stored * 8 + (c - '0');
			digits++;
		} else if (digits || c != ' ') {
			break;
		}
	}
	return digits && stored == sum;
}

static bool is_pnm(const struct head *h)
{
	return h->len >= 3 && h->data[0] == 'P' && h->data[1] >= '1' && h->data[1] <= '6' &&
	       (isspace(h->data[2]) || h->data[2] == '#');
}

static bool is_bmp(const struct head *h)
{
	/* Reserved fields are zero, and the info header has one of its known sizes. */
	return has(h, 0, "BM", 2) && has(h, 6, "\0\0\0\0", 4) && h->len > 18 &&
	       (h->data[14] == 12 || h->data[14] == 40 || h->data[14] >= 52) && !h->data[15];
}

static bool is_bzip2(const struct head *h)
{
	return has(h, 0, "BZh", 3) && h->len >= 10 && h->data[3] >= '1' && h->data[3] <= '9' &&
	       (has(h, 4, "1AY&SY", 6) || has(h, 4, "\x17\x72\x45\x38\x50\x90", 6));
}

static bool contains(const struct head *h, const char *word)
{
	return strcasestr((const char *)h->data, word) != NULL;
}

/* h is NUL-terminated. */
static const char *text_looks_like(const struct head *h)
{
	size_t len = h->len;

	if (has(h, 0, "\xff\xfe", 2) || has(h, 0, "\xfe\xff", 2))
		return "plain text (UTF-16)";
	for (size_t i = 0; i < h->len; i++)
		if (h->data[i] < 32 && !isspace(h->data[i]) && h->data[i] != 27)
			return NULL;
	if (contains(h, "<svg"))
		return "an SVG image";
	if (contains(h, "<html") || contains(h, "<!doctype html"))
		return "an HTML page";
	if (contains(h, "<?xml"))
		return "an XML file";
	if (contains(h, "\nMIME-Version:") || contains(h, "\nReceived:"))
		return "an e-mail message";
	/* The last sequence may have been cut in two. */
	while (h->len == HEAD_BYTES && h->len - len < 3 && !utf8_valid((const char *)h->data, len))
		len--;
	return utf8_valid((const char *)h->data, len) ? "plain text" :
							"plain text of an old encoding";
}

static enum document_kind sniff_head(const struct head *h, struct err *err)
{
	const char *text;

	if (has(h, 0, "PK\3\4", 4) || has(h, 0, "PK\5\6", 4) || has(h, 0, "PK\7\x08", 4))
		return sniff_zip(h, err);
	if (has(h, 0, "RIFF", 4))
		return has(h, 8, "WEBP", 4) ? KIND_WEBP : unknown(err, "a sound recording or film");
	if (is_pnm(h))
		return KIND_PNM;
	if (is_bzip2(h))
		return KIND_ARCHIVE;
	if (is_bmp(h))
		return unknown(err, "a BMP image");
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];

		if (has(h, m->at, m->bytes, m->len))
			return m->kind ? m->kind : unknown(err, m->text);
	}
	if (memmem(h->data, min_u64(h->len, PDF_WITHIN), "%PDF-", 5))
		return KIND_PDF;
	if (is_old_tar(h))
		return KIND_ARCHIVE;
	text = text_looks_like(h);
	if (text)
		return unknown(err, text);
	for (size_t i = 0; i < h->len; i++)
		if (h->data[i])
			return unknown(err, "nothing this program knows");
	return unknown(err, "nothing: its beginning is only zeros");
}

enum document_kind sniff(int fd, struct err *err)
{
	uint8_t data[HEAD_BYTES + 1];
	struct head head = { .data = data };
	struct source source;

	if (source_init(&source, fd, err))
		return KIND_UNKNOWN;
	head.len = source_read(&source, data, HEAD_BYTES);
	data[head.len] = '\0';
	if (source.error) {
		err_set(err, RC_FAILED, "unreadable", "cannot read the document: %s",
			strerror(source.error));
		return KIND_UNKNOWN;
	}
	if (!head.len) {
		err_set(err, RC_FAILED, "empty", "the file is empty");
		return KIND_UNKNOWN;
	}
	return sniff_head(&head, err);
}
