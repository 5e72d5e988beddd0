/* SPDX-License-Identifier: MIT
 *
 * airlock: the messages between the supervisor and its children, one JSON object a line.
 *
 * Recognisers speak the airlock protocol of DESIGN.md section 4 on standard input and output:
 *
 *   hello    {"airlock":1,"name":"tesseract","version":"5.3.0","window":1,"formats":["text"],
 *             "takes":["page"],"model":{"name":"eng","sha256":HEX}}
 *            takes: what it can be asked about, "page", "text" or both; where it does not say, pages;
 *            of cloister-model also "lock":HEX in "model", the SHA-256 of the cloister.lock that the
 *            files it has loaded keep to, and "adapters":[{"name":..,"sha256":HEX,"lock":HEX}], those that
 *            requests may name; with "loading":true nothing is asked before
 *   ready    {"ready":true}
 *   request  {"id":17,"page":"PATH.pnm","width":W,"height":H,"dpi":300,"native":bool,"prompt":...,
 *             "params":{...}}   native: the resolution is the page's own, it was not rendered
 *            params for Tesseract: {"page_segmentation":3,"rotate":"auto"|"none"}; for models the
 *            group `model` of the pipeline
 *         or {"id":17,"text":...,"format":"text|markdown|html","prompt":...,"params":{...}}
 *            the text of a page, and what it is, to a recogniser that takes text: the result's text
 *            is to take its place (`then` of a pipeline)
 *   result   {"id":17,"status":"ok","format":"text|markdown|html","text":...,
 *             "lines":[{"box":[x0,y0,x1,y1],"words":[{"text":..,"box":[..],"confidence":0..1}]}],
 *             "blocks":[...],"rotation":0|90|180|270,"confidence":mean,"confidence_worst":min,
 *             "finish":"stop|length|repetition|...","tokens":N,"ms":N,
 *             "readings":N,"temperature":T,"prompt_sha256":HEX,   of the one that counts, where
 *             a page was read more than once
 *             "device":"cpu avx512-bf16",   what it was computed on
 *             "adapters":[NAME,...]}   those that the request named
 *         or {"id":17,"status":"error","error":"one line"}
 *
 *   Blocks are the recogniser's own; "box" in them is checked like any other. One with
 *   "figure":true is a picture, which is cut out of the page; an image in the Markdown or HTML of
 *   `text` whose address is "#block-N" shows blocks[N], counted from 0.
 *
 *   A box that is not there, or of which nothing lies on the page, is left out.
 *   Boxes are in pixels of the page image as it lies in the file, origin top left, x1 and y1
 *   exclusive. rotation = degrees clockwise the reader had to turn the page to read it.
 *
 * cloister-decode speaks a pull protocol on the same kind of lines. Descriptor 3 is the document,
 * read-only; descriptors 4 .. 3+slots are page slots, files on tmpfs open for reading and writing
 * that the decoder may only map, never resize:
 *
 *   open     {"open":{"name":DISPLAY_NAME,"pipeline":{pipeline_json with secrets}}}
 *   opened   {"opened":{"kind":"pdf|png|jpeg|tiff|jp2|pnm|webp|archive","pages":N}}
 *         or {"error":{"reason":"encrypted|damaged|unknown-type|empty|no-pages|limit:..","text":..}}
 *   page     {"page":7,"slot":2}                        pages count from 1
 *   need     {"page":7,"need":BYTES}                    size of the slot it wants, header included
 *   go       {"go":7}                                   the slot now has BYTES bytes, all reserved
 *   done     {"page":7,"done":{"width":W,"height":H,"channels":1|3,"dpi":D,"native":bool,
 *             "ink":0..1,"blank":"no|blank|suspect-blank","warnings":[...],
 *             "evidence":{...text layer decision...},"result":{result object, if the text layer
 *             was taken: then no raster was written and need/go did not happen}}}
 *         or {"page":7,"error":{"reason":..,"text":..}}  this page failed, the next may not
 *
 *   A slot holds a binary PNM: "P5\nW H\n255\n" or "P6\nW H\n255\n", then W*H*channels bytes.
 *   Result objects are those of recognisers without "id".
 *
 * cloister-decode --unpack reads an archive on descriptor 3 and writes frames on standard output:
 * one type byte, four bytes length (little-endian), payload:
 *   'M' {"ordinal":1,"path":ENCODED_NAME}   a member starts (name_encode() of the stored path; ""
 *       where the archive says how the path is coded and that is not true)
 *   'D' bytes                               its data, at most 65536 a frame
 *   'E' {"size":N}                          it is complete
 *   'S' {"ordinal":2,"path":..,"reason":..} a member that is not a file, or could not be read:
 *       "not-a-regular-file|ignored-name|name-too-long|encrypted|damaged"; when a member's 'M' went
 *       before, it is taken back
 *   'X' {"members":N} or {"error":{"reason":..,"text":..}}   the end, always the last frame
 * Its request is the same open line.
 *
 * cloister-decode --figures reads a page file on descriptor 3, cuts boxes out of it, turns them
 * upright and writes each as a PNG; a box that would pass the sum of `bytes` is null:
 *
 *   cut      {"cut":{"width":W,"height":H,"dpi":D,"rotation":0|90|180|270,"bytes":MOST,
 *             "boxes":[[x0,y0,x1,y1],...]}}
 *   figures  {"figures":[BASE64 or null,...]}  or  {"error":{"reason":..,"text":..}}
 *
 * cloister-decode --html turns Markdown or HTML into HTML that is safe for a browser. Images are
 * shown where their address is "#block-N" and N is one of `figures`:
 *
 *   html     {"html":{"format":"markdown|html","text":...,"figures":[N,...],"bytes":MOST}}
 *            bytes: of the answer
 *   html     {"html":TEXT}  or  {"error":{"reason":..,"text":..}}
 *
 * cloister-decode --ticket NAME reads a ticket on descriptor 3 and writes {"ticket":{...}} or
 * {"error":{...}}.
 */
#ifndef PIPELINES_AIRLOCK_H
#define PIPELINES_AIRLOCK_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define DECODE_DOCUMENT_FD 3
#define DECODE_SLOT_FD     4
#define DECODE_SLOTS_MAX   64
#define UNPACK_DATA_MAX    65536
#define HELLO_MAX          (1 << 20)
#define REQUEST_MAX        (1 << 20)
#define REQUEST_TEXT_MAX   (400u << 10) /* its escapes and the prompt have room beside it */

/* Parse one line: an object, strict UTF-8, no duplicate keys, nothing after it.
 * NULL and err (reason "protocol") otherwise. New reference. */
json_t *airlock_parse(const char *line, size_t len, struct err *err);

/* Write obj as one compact line with sorted keys. 0, or -1 with errno. */
int airlock_write(int fd, json_t *obj);

/* The same, as a string the caller frees. */
char *airlock_dump(json_t *obj);

/* {"error":{"reason":..,"text":..}}, text repaired to valid UTF-8. New reference. */
json_t *airlock_error(const struct err *err);

/* Back from the value of "error"; false: its reason or text is not fit to be passed on. */
bool airlock_take_error(const json_t *error, struct err *err);

/* Check a result object (of a recogniser or a text layer) against the page's size and return a
 * clean copy with only the keys of the protocol, text without NUL and control characters other than
 * tab, newline; boxes inside the page; confidences in 0..1; "confidence" and "confidence_worst"
 * computed from the words when absent. NULL and err (reason "protocol") when it cannot be used. */
json_t *airlock_result(json_t *raw, uint32_t width, uint32_t height, struct err *err);

#endif
