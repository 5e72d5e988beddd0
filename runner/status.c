/* SPDX-License-Identifier: MIT
 *
 * status: status.json, cloister.prom, and the progress line.
 *
 * The rate is that of the last minute: window[] holds, for each of the last STATUS_WINDOW seconds,
 * how many pages had been read in all. What is left is the pages of open documents and, for those
 * that nobody has opened yet, the mean of the finished ones.
 *
 * The progress line lies on standard error, where the log is: log_around() makes it step aside for
 * each line of the log, status_print() for each line of output. It is never wider than the terminal
 * and always ends without a newline, so that "\r\033[K" takes it off without a trace.
 */
#include "status.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/num.h"
#include "durable.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FILE_SECONDS 10
#define LINE_SECONDS 60

/* The one whose line is on the terminal; the log's hooks take no argument. */
static struct status *on_screen;

static void line_off(void)
{
	if (on_screen && *on_screen->line)
		dprintf(STDERR_FILENO, "\r\033[K");
}

/* A run in the background must not write over what is in front. */
static bool in_front(void)
{
	return tcgetpgrp(STDERR_FILENO) == getpgrp();
}

static void line_on(void)
{
	if (on_screen && *on_screen->line && in_front())
		dprintf(STDERR_FILENO, "\r%s\033[K", on_screen->line);
}

static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		return 80;
	return size.ws_col;
}

static bool can_redraw(void)
{
	const char *term = getenv("TERM");

	return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb");
}

void status_init(struct status *st, const struct spool *spool, int dir, const char *worker, bool quiet)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	*st = (struct status){ .spool = spool,
			       .dir = dir,
			       .worker = worker,
			       .quiet = quiet,
			       .terminal = !quiet && can_redraw(),
			       .started = (double)now.tv_sec + (double)now.tv_nsec / 1e9,
			       .started_at = time(NULL) };
	st->next_line = st->started + LINE_SECONDS;
	if (st->terminal) {
		on_screen = st;
		log_around(line_off, line_on);
	}
}

static uint64_t pages_finished(const struct run_counts *c)
{
	return c->pages_ok + c->pages_flagged + c->pages_failed;
}

static uint64_t pages_read(const struct run_counts *c)
{
	uint64_t finished = pages_finished(c);

	return finished > c->pages_reused ? finished - c->pages_reused : 0;
}

/* Note how many pages have been read by now; pages a second over the window. */
static double rate(struct status *st, const struct run_counts *counts, double now)
{
	double age = now > st->started ? now - st->started : 0;
	uint64_t second = (uint64_t)age;
	uint64_t read = pages_read(counts);
	uint64_t before = 0;
	double span = age;

	for (uint64_t s = st->second + 1; s <= second && s <= st->second + STATUS_WINDOW; s++)
		st->window[s % STATUS_WINDOW] = pages_read(&st->counts);
	st->second = second;
	if (second >= STATUS_WINDOW - 1) {
		uint64_t oldest = second - (STATUS_WINDOW - 1);

		before = st->window[oldest % STATUS_WINDOW];
		span = age - (double)oldest;
	}
	return span >= 0.5 && read > before ? (double)(read - before) / span : 0;
}

/* Seconds to go, or NAN where nobody can tell. */
static double time_left(const struct run_counts *c, double pages_per_second)
{
	uint64_t unopened = c->settling + c->ready + c->deferred;
	double left = (double)c->pages_pending;

	if (!unopened && !c->pages_pending)
		return 0;
	if (pages_per_second <= 0 || (unopened && !(c->done + c->failed)))
		return NAN;
	if (unopened)
		left += (double)unopened * (double)pages_finished(c) /
			(double)(c->done + c->failed);
	return left / pages_per_second;
}

static json_t *iso_time(time_t t)
{
	char stamp[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(stamp);
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static void write_file(struct status *st, const char *name, const char *data, size_t len)
{
	struct err err;

	/* Two workers that wrote to one half-made file would tear it. */
	if (durable_write(st->dir, name, data, len, false, &err) == RC_OK &&
	    durable_replace(st->dir, name, st->spool->state, name, &err) == RC_OK) {
		st->write_failed = false;
		return;
	}
	unlinkat(st->dir, name, 0);
	if (!st->write_failed)
		log_warn("status: %s", err.text);
	st->write_failed = true;
}

static void write_json(struct status *st, const char *state, json_t *active, json_t *recognisers,
		       double pages_per_second, double left)
{
	const struct run_counts *c = &st->counts;
	json_t *documents = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "settling",
				      number(c->settling), "ready", number(c->ready), "active",
				      number(c->active), "deferred", number(c->deferred), "done",
				      number(c->done), "flagged", number(c->flagged), "failed",
				      number(c->failed));
	json_t *pages = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "ok", number(c->pages_ok), "blank",
				  number(c->pages_blank), "flagged", number(c->pages_flagged),
				  "failed", number(c->pages_failed), "reused",
				  number(c->pages_reused), "total_known",
				  number(pages_finished(c) + c->pages_pending));
	json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:f, s:o, s:O, s:O}",
				"cloister", CLOISTER_VERSION, "state", state, "worker", st->worker,
				"pid", (int)getpid(), "started", iso_time(st->started_at), "updated",
				iso_time(time(NULL)), "documents", documents, "pages", pages,
				"pages_per_second", round(pages_per_second * 100) / 100, "eta_seconds",
				isnan(left) ? json_null() : json_integer((json_int_t)left),
				"active", active, "recognisers", recognisers);
	char *text = all ? json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;

	if (!text)
		BUG("status cannot be packed");
	write_file(st, "status.json", text, strlen(text));
	free(text);
	json_decref(all);
}

static void metric(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void sample(struct buf *b, const char *name, const char *label, const char *value, uint64_t n)
{
	buf_addf(b, "%s{%s=\"%s\"} %llu\n", name, label, value, (unsigned long long)n);
}

static void write_prometheus(struct status *st, const char *state, double pages_per_second)
{
	const struct run_counts *c = &st->counts;
	struct buf b;

	buf_init(&b, 65536);
	metric(&b, "cloister_documents", "gauge", "Documents of the queue, by state.");
	sample(&b, "cloister_documents", "state", "settling", c->settling);
	sample(&b, "cloister_documents", "state", "ready", c->ready);
	sample(&b, "cloister_documents", "state", "active", c->active);
	sample(&b, "cloister_documents", "state", "deferred", c->deferred);
	metric(&b, "cloister_documents_finished_total", "counter",
	       "Documents finished by this run, by result.");
	sample(&b, "cloister_documents_finished_total", "result", "ok",
	       c->done > c->flagged ? c->done - c->flagged : 0);
	sample(&b, "cloister_documents_finished_total", "result", "flagged", c->flagged);
	sample(&b, "cloister_documents_finished_total", "result", "failed", c->failed);
	metric(&b, "cloister_pages_finished_total", "counter",
	       "Pages finished by this run, by result.");
	sample(&b, "cloister_pages_finished_total", "result", "ok",
	       c->pages_ok > c->pages_blank ? c->pages_ok - c->pages_blank : 0);
	sample(&b, "cloister_pages_finished_total", "result", "blank", c->pages_blank);
	sample(&b, "cloister_pages_finished_total", "result", "flagged", c->pages_flagged);
	sample(&b, "cloister_pages_finished_total", "result", "failed", c->pages_failed);
	metric(&b, "cloister_pages_reused_total", "counter",
	       "Pages of these that an earlier attempt had read.");
	buf_addf(&b, "cloister_pages_reused_total %llu\n", (unsigned long long)c->pages_reused);
	metric(&b, "cloister_pages_pending", "gauge", "Pages left of the active documents.");
	buf_addf(&b, "cloister_pages_pending %llu\n", (unsigned long long)c->pages_pending);
	metric(&b, "cloister_pages_per_second", "gauge", "Pages read a second in the last minute.");
	buf_addf(&b, "cloister_pages_per_second %.3f\n", pages_per_second);
	metric(&b, "cloister_running", "gauge", "1 while documents are taken on and read.");
	buf_addf(&b, "cloister_running %d\n", !strcmp(state, "running"));
	metric(&b, "cloister_start_time_seconds", "gauge", "When this run started, in Unix time.");
	buf_addf(&b, "cloister_start_time_seconds %lld\n", (long long)st->started_at);
	metric(&b, "cloister_update_time_seconds", "gauge", "When this file was made, in Unix time.");
	buf_addf(&b, "cloister_update_time_seconds %lld\n", (long long)time(NULL));
	write_file(st, "cloister.prom", b.data, b.len);
	buf_release(&b);
}

void status_duration(char *out, size_t size, double seconds)
{
	unsigned long s = (unsigned long)seconds;

	if (s < 60)
		snprintf(out, size, "%lu s", s);
	else if (s < 3600)
		snprintf(out, size, "%lu min %02lu s", s / 60, s % 60);
	else
		snprintf(out, size, "%lu h %02lu min", s / 3600, s / 60 % 60);
}

static void progress_text(struct buf *b, const char *state, const struct run_counts *c,
			  double pages_per_second, double left)
{
	uint64_t finished = pages_finished(c);
	char eta[32];

	if (strcmp(state, "running"))
		buf_addf(b, "%s: ", state);
	buf_addf(b, "%llu page%s, %.2f pages/s", (unsigned long long)finished,
		 finished == 1 ? "" : "s", pages_per_second);
	if (!isnan(left) && left > 0) {
		status_duration(eta, sizeof(eta), left);
		buf_addf(b, ", %s left", eta);
	}
	if (c->failed || c->pages_failed)
		buf_addf(b, ", failed %llu document%s %llu page%s", (unsigned long long)c->failed,
			 c->failed == 1 ? "" : "s", (unsigned long long)c->pages_failed,
			 c->pages_failed == 1 ? "" : "s");
	buf_addf(b, ", documents %llu done %llu active %llu waiting", (unsigned long long)c->done,
		 (unsigned long long)c->active,
		 (unsigned long long)(c->settling + c->ready + c->deferred));
}

static void summarise(struct status *st, const char *state, double pages_per_second, double left)
{
	struct buf b;

	buf_init(&b, sizeof(st->summary) - 1);
	progress_text(&b, state, &st->counts, pages_per_second, left);
	snprintf(st->summary, sizeof(st->summary), "%s", b.data);
	buf_release(&b);
}

static void progress(struct status *st, double now)
{
	if (st->terminal) {
		int room = (int)terminal_width() - 1;

		snprintf(st->line, sizeof(st->line), "%.*s", room, st->summary);
		line_on();
	} else if (now >= st->next_line && memcmp(&st->counts, &st->logged, sizeof(st->counts))) {
		log_info("%s", st->summary);
		st->logged = st->counts;
		st->next_line = now + LINE_SECONDS;
	}
}

void status_tick(struct status *st, const char *state, const struct run_counts *counts,
		 json_t *active, json_t *recognisers, double now)
{
	double pages_per_second = rate(st, counts, now);
	double left = time_left(counts, pages_per_second);
	bool news = memcmp(&st->counts, counts, sizeof(*counts)) || strcmp(st->state, state);

	st->counts = *counts;
	snprintf(st->state, sizeof(st->state), "%s", state);
	if (news || now >= st->next_file) {
		write_json(st, state, active, recognisers, pages_per_second, left);
		write_prometheus(st, state, pages_per_second);
		st->next_file = now + FILE_SECONDS;
	}
	summarise(st, state, pages_per_second, left);
	if (!st->quiet)
		progress(st, now);
}

void status_print(struct status *st, const char *format, ...)
{
	va_list ap;

	(void)st; /* whose line is on_screen */
	line_off();
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	line_on();
}

void status_finish(struct status *st)
{
	json_t *none = json_array();

	write_json(st, "stopped", none, none, 0, NAN);
	write_prometheus(st, "stopped", 0);
	json_decref(none);
	line_off();
	st->line[0] = '\0';
	if (on_screen == st) {
		log_around(NULL, NULL);
		on_screen = NULL;
	}
}
