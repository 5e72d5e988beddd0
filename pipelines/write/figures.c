/* SPDX-License-Identifier: MIT
 *
 * figures: the pictures of a page, out of its record and into files.
 *
 * A recogniser writes its text before anybody knows what will be cut, so its links name blocks:
 * "](#block-3)" in Markdown, src="#block-3" in HTML, also in that of document.html.  Here they get
 * the picture's file, or nothing where there is none.
 */
#include "write.h"
#include "durable.h"
#include "base/hash.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX (1u << 30)

static enum rc open_folder(struct figures *figures, int dirfd, struct err *err)
{
	if (figures->fd >= 0)
		return RC_OK;
	if (mkdirat(dirfd, FIGURES_FOLDER, 0755) && errno != EEXIST)
		return err_errno(err, RC_RETRY, "write-error", "make the folder " FIGURES_FOLDER);
	figures->fd =
		openat(dirfd, FIGURES_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (figures->fd < 0)
		return err_errno(err, RC_RETRY, "write-error", "open the folder " FIGURES_FOLDER);
	return RC_OK;
}

/* The caller frees it; NULL: it is not base64. */
static uint8_t *bytes_of(const json_t *base64, size_t *len)
{
	struct base64_decode_ctx decode;
	uint8_t *bytes;

	if (!json_is_string(base64))
		return NULL;
	*len = BASE64_DECODE_LENGTH(json_string_length(base64));
	bytes = xmalloc(*len + 1);
	base64_decode_init(&decode);
	if (base64_decode_update(&decode, len, bytes, json_string_length(base64),
				 json_string_value(base64)) &&
	    base64_decode_final(&decode))
		return bytes;
	free(bytes);
	return NULL;
}

static enum rc write_one(struct figures *figures, json_t *figure, uint32_t page, size_t number,
			 struct err *err)
{
	char *name = xasprintf("%04u-%zu.png", page, number);
	json_t *base64 = json_object_get(figure, "png");
	char hex[SHA256_HEX_SIZE];
	struct sink sink;
	size_t len = 0;
	uint8_t *bytes = bytes_of(base64, &len);
	enum rc rc;

	if (!bytes) {
		rc = err_set(err, RC_FAILED, "journal", "picture %zu of page %u is not base64",
			     number, page);
		goto out;
	}
	rc = sink_open(&sink, figures->fd, name, err);
	if (rc != RC_OK)
		goto out;
	sink_add(&sink, (const char *)bytes, len);
	rc = sink_close(&sink, err);
	sha256_hex_of(bytes, len, hex);
	json_object_del(figure, "png");
	json_object_set_new(figure, "file", json_sprintf(FIGURES_FOLDER "/%s", name));
	json_object_set_new(figure, "bytes", json_integer((json_int_t)len));
	json_object_set_new(figure, "sha256", json_string(hex));
out:
	free(bytes);
	free(name);
	return rc;
}

static const char *file_of_block(const json_t *figures, uint64_t block)
{
	json_t *figure;
	size_t i;

	json_array_foreach(figures, i, figure)
	{
		if (json_integer_value(json_object_get(figure, "block")) == (json_int_t)block)
			return json_string_value(json_object_get(figure, "file"));
	}
	return "";
}

/* The number behind "#block-" where that is the whole of a link, as far as `closing`. */
static bool is_link(const char *text, const char *mark, char closing, const char **end,
		    uint64_t *block)
{
	size_t digits = strspn(*end, "0123456789");
	char number[20];

	if (!digits || digits >= sizeof(number) || (*end)[digits] != closing ||
	    (closing == ')' ? mark - text < 2 || memcmp(mark - 2, "](", 2)
			    : mark - text < 5 || memcmp(mark - 5, "src=\"", 5)))
		return false;
	memcpy(number, *end, digits);
	number[digits] = '\0';
	*end += digits;
	return parse_u64(number, INT64_MAX, block);
}

/* true: a link was there, and `out` holds the text with the right ones. */
static bool resolve(struct buf *out, const char *text, const json_t *figures)
{
	static const char name[] = "#block-";
	const char *from = text;
	bool any = false;

	for (const char *mark = text; (mark = strstr(mark, name));) {
		const char *end = mark + strlen(name);
		uint64_t block;

		if (is_link(text, mark, ')', &end, &block) ||
		    is_link(text, mark, '"', &end, &block)) {
			buf_add(out, from, (size_t)(mark - from));
			buf_adds(out, file_of_block(figures, block));
			from = end;
			any = true;
		}
		mark = end;
	}
	buf_adds(out, from);
	return any;
}

/* Give a text of the object the right links. */
static void set_links(json_t *object, const char *key, const json_t *figures)
{
	const char *text = json_string_value(json_object_get(object, key));
	struct buf right;

	if (!text)
		return;
	buf_init(&right, TEXT_MAX);
	if (resolve(&right, text, figures))
		json_object_set_new(object, key, json_stringn(right.data, right.len));
	buf_release(&right);
}

static bool is_markup(const json_t *result, const char *format)
{
	const char *name = json_string_value(json_object_get(result, format));

	return name && strcmp(name, "text");
}

enum rc figures_write(struct figures *figures, int dirfd, struct leaf *leaf, struct err *err)
{
	enum rc rc = RC_OK;
	json_t *figure;
	size_t i;

	json_array_foreach(leaf->figures, i, figure)
	{
		if (rc == RC_OK)
			rc = open_folder(figures, dirfd, err);
		if (rc == RC_OK)
			rc = write_one(figures, figure, leaf->page, i + 1, err);
	}
	if (rc != RC_OK)
		return rc;
	if (is_markup(leaf->result, "format"))
		set_links(leaf->result, "text", leaf->figures);
	if (is_markup(leaf->result, "source_format"))
		set_links(leaf->result, "source_text", leaf->figures);
	set_links(leaf->record, "html", leaf->figures);
	return leaf_read(leaf, leaf->record, leaf->page, err);
}

void figures_close(struct figures *figures)
{
	if (figures->fd < 0)
		return;
	durable_sync(figures->fd, FIGURES_FOLDER);
	close(figures->fd);
	figures->fd = -1;
}
