/* SPDX-License-Identifier: MIT
 *
 * safe-html: does HTML hold only what a browser may be given? Listed tags, listed attributes in
 * quotes, and no address but that of one picture.
 */
#ifndef TESTS_SAFE_HTML_H
#define TESTS_SAFE_HTML_H

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define SAFE_PICTURE "#block-1"

static inline bool safe_name(const char *const *list, const char *name, size_t n)
{
	for (; *list; list++)
		if (strlen(*list) == n && !memcmp(*list, name, n))
			return true;
	return false;
}

/* The attributes of a tag up to its '>'; NULL when one is not safe. */
static inline const char *safe_attributes(const char *p)
{
	static const char *const attributes[] = {
		"colspan", "rowspan", "display", "checked", "type", "border",	"value",
		"alt",	   "align",   "start",	 "class",   "src",  "disabled", NULL};
	static const char src[] = "src=\"" SAFE_PICTURE "\"";

	while (*p != '>') {
		size_t n;

		if (*p++ != ' ')
			return NULL;
		n = strcspn(p, "=> ");
		if (!safe_name(attributes, p, n) ||
		    (!strncmp(p, "src", n) && strncmp(p, src, strlen(src))))
			return NULL;
		p += n;
		if (*p != '=')
			continue;
		p = p[1] == '"' ? strchr(p + 2, '"') : NULL;
		if (!p)
			return NULL;
		p++;
	}
	return p;
}

/* Where it is not safe, or NULL. */
static inline const char *unsafe_html(const char *html)
{
	static const char *const tags[] = {
		"br",	  "i",	   "b",	   "u",	    "del",   "sup",   "sub",   "table",
		"tr",	  "td",	   "p",	   "th",    "div",   "pre",   "h1",    "h2",
		"h3",	  "h4",	   "h5",   "h6",    "ul",    "ol",    "li",    "hr",
		"em",	  "big",   "img",  "thead", "tbody", "tfoot", "small", "caption",
		"strong", "input", "span", "code",  "chem",  NULL};

	for (const char *p = html; (p = strchr(p, '<'));) {
		const char *tag = p;
		size_t n = 0;

		p += 1 + (p[1] == '/');
		while (isalnum((unsigned char)p[n]))
			n++;
		p = safe_name(tags, p, n) ? safe_attributes(p + n) : NULL;
		if (!p)
			return tag;
	}
	return NULL;
}

#endif
