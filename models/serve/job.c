/* SPDX-License-Identifier: MIT
 *
 * job: one request, from its line to its result.
 *
 * A page on which the model goes round in circles is read again at a higher temperature, up to
 * params.retries times; each reading's seed comes from the prompt and the page alone, so that the
 * same page gives the same text in every run. When all have failed the last one stands, its loop
 * cut down to one round, with finish "repetition", and the supervisor flags the page.
 */
#include "serve.h"

#include "airlock.h"
#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HOTTER	    0.2 /* a retry is by this; Chandra's own rule */
#define HOTTEST	    0.8
#define RETRY_TOP   0.95
#define REPLY_MAX   (64u << 20)
#define ENLARGE_MAX 4096 /* a square page of this is 48 MiB */

enum { WINDOW = 16 }; /* tokens over which confidence_worst is a mean */

struct job {
	uint64_t number;
	double started;
	json_t *json; /* the request; NULL: it could not be read, and why says so */
	struct err why;
	struct output_options output;
	const char *format; /* reply "same": what the text is that it is asked about; or NULL */
	unsigned long long most;
	int retries, tries;
	bool think;
	struct adapted adapted;
	struct sampling sampling; /* of the first reading */
	double temperature;	  /* of this one */
	const char *words;	  /* the prompt */
	enum rc rc; /* of what is done before the engine, with `why` */
	struct sight sight;
	uint64_t pass; /* of the tower, that it was part of */
	struct token_ids prompt;
	size_t first; /* token of the page */
	uint8_t identity[SHA256_DIGEST_SIZE];
};

static double milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

struct job *job_new(uint64_t number, const char *line, size_t len)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->number = number;
	job->started = milliseconds();
	job->json = airlock_parse(line, len, &job->why);
	return job;
}

uint64_t job_number(const struct job *job)
{
	return job->number;
}

void job_free(struct job *job)
{
	sight_release(&job->sight);
	token_ids_release(&job->prompt);
	json_decref(job->json);
	free(job);
}

static void answer(struct job *job, json_t *result)
{
	json_t *id = json_object_get(job->json, "id");

	json_object_set(result, "id", id ? id : json_null());
	if (airlock_write(STDOUT_FILENO, result))
		die(EX_BUG, "write result: %s", strerror(errno));
	json_decref(result);
	job_free(job);
}

static void answer_error(struct job *job, const struct err *err)
{
	json_t *error = airlock_error(err),
	       *text = json_object_get(json_object_get(error, "error"), "text");

	answer(job, json_pack("{s:s, s:O}", "status", "error", "error", text));
	json_decref(error);
}

/* ---- the request ---- */

static enum rc parse_reply(struct job *job, const char *reply, const char *format, struct err *err)
{
	unsigned kind = 0;

	if (strcmp(format, "text") && strcmp(format, "markdown") && strcmp(format, "html"))
		return err_set(err, RC_FAILED, "protocol",
			       "request: format is text, markdown or html");
	if (!strcmp(reply, "same")) {
		job->format = format;
		reply = "text";
	}
	while (kind < OUTPUT_KINDS && strcmp(reply, output_kind_names[kind]))
		kind++;
	if (kind == OUTPUT_KINDS)
		return err_set(err, RC_FAILED, "protocol",
			       "request: reply is text, markdown, layout or same");
	job->output.kind = (enum output_kind)kind;
	return RC_OK;
}

static bool sane(const struct job *job)
{
	const struct sampling *s = &job->sampling;

	return s->temperature >= 0 && s->temperature <= 100 && s->top_p >= 0 && s->top_p <= 1 &&
	       s->min_p >= 0 && s->min_p <= 1 && s->repetition_penalty >= 0.1 &&
	       s->repetition_penalty <= 10 && job->retries >= 0 && job->retries <= 100;
}

static enum rc parse(struct job *job, struct sight_page *page, struct err *err)
{
	const char *reply = "markdown", *format = "text", *heads = "drop", *think = "no",
		   *resize = "once";
	int width = 0, height = 0, top_k = 0, native = 0, enlarge = 0;
	struct sampling *s = &job->sampling;
	json_int_t most = 8192, most_pixels = 0;
	json_error_t why;

	*s = (struct sampling){.top_p = 1, .repetition_penalty = 1};
	job->retries = 3;
	*page = (struct sight_page){0};
	if (json_unpack_ex(job->json, &why, 0,
			   "{s?s, s?i, s?i, s?b, s?s, s?s, s?{s?s, s?s, s?s, s?s, s?i, s?I, s?I, "
			   "s?F, s?F, s?i, s?F, s?F, s?i}}",
			   "page", &page->path, "width", &width, "height", &height, "native",
			   &native, "format", &format, "prompt", &job->words, "params", "reply",
			   &reply, "heads", &heads, "think", &think, "resize", &resize, "enlarge",
			   &enlarge, "tokens", &most, "page_pixels", &most_pixels, "temperature",
			   &s->temperature, "top_p", &s->top_p, "top_k", &top_k, "min_p", &s->min_p,
			   "repetition_penalty", &s->repetition_penalty, "retries", &job->retries))
		return err_set(err, RC_FAILED, "protocol", "request: %s", why.text);
	if (page->path && (width < 1 || height < 1))
		return err_set(err, RC_FAILED, "protocol", "request: a page of %d x %d pixels",
			       width, height);
	if (most < 1 || most_pixels < 0 || top_k < 0 || enlarge < 0 || enlarge > ENLARGE_MAX ||
	    !sane(job))
		return err_set(err, RC_FAILED, "protocol",
			       "request: a number in params is out of range");
	s->top_k = (unsigned)top_k;
	job->most = (unsigned long long)most;
	job->temperature = s->temperature;
	job->output.width = page->width = (uint32_t)width;
	job->output.height = page->height = (uint32_t)height;
	job->output.heads = !strcmp(heads, "keep");
	page->most_pixels = (uint64_t)most_pixels;
	page->lanczos = !strcmp(resize, "lanczos");
	page->enlarge = native ? (unsigned)enlarge : 0;
	job->think = !strcmp(think, "yes");
	return parse_reply(job, reply, format, err);
}

static enum rc look(struct job *job, const struct server *server, struct pool *pool, struct err *err)
{
	const char *text = json_string_value(json_object_get(job->json, "text"));
	struct sight_page page;
	enum rc rc;

	if (!job->json)
		return RC_FAILED; /* why is there */
	rc = parse(job, &page, err);
	if (rc != RC_OK)
		return rc;
	if (server->chat.prompt)
		job->words = server->chat.prompt;
	if (!job->words)
		return err_set(err, RC_FAILED, "prompt-empty",
			       "the pipeline has no prompt, and there is no prompt.txt beside the "
			       "weights");
	if (!page.path && !text)
		return err_set(err, RC_FAILED, "protocol", "request: neither a page nor a text");
	rc = adapters_find(server, json_object_get(json_object_get(job->json, "params"), "adapters"),
			   &job->adapted, err);
	return rc == RC_OK && page.path ? sight_load(&job->sight, server, &page, pool, err) : rc;
}

void job_look(struct job *job, const struct server *server, struct pool *pool)
{
	job->rc = look(job, server, pool, &job->why);
}

size_t jobs_see(struct job *const *jobs, size_t count, const struct server *server, uint64_t pass)
{
	struct sight **sights = xcalloc(count, sizeof(*sights));
	struct job *first = NULL;
	size_t pages = 0, n = 0;

	for (size_t i = 0; i < count; i++) {
		if (!jobs[i]->sight.patches)
			continue;
		first = first ? first : jobs[i];
		sights[pages++] = &jobs[i]->sight;
	}
	if (first && !sight_look(sights, pages, server, &first->why))
		first->rc = RC_FAILED;
	free(sights);
	while (n < count && !jobs[n]->sight.patches)
		jobs[n++]->pass = pass;
	return n;
}

uint64_t job_pass(const struct job *job)
{
	return job->pass;
}

bool job_seen(struct job *job, bool wait)
{
	return sight_seen(&job->sight, wait);
}

static enum rc prepare(struct job *job, struct server *server, struct err *err)
{
	const char *text = json_string_value(json_object_get(job->json, "text"));
	struct chat_message message = {0};
	struct sha256_ctx hash;
	enum rc rc;

	if (job->rc != RC_OK) {
		*err = job->why;
		return job->rc;
	}
	message = (struct chat_message){job->words, text, job->sight.rows, job->sight.columns,
					job->think};
	rc = chat_build(&server->chat, &message, &job->prompt, &job->first, err);
	sha256_init(&hash);
	sha256_update(&hash, job->prompt.count * sizeof(*job->prompt.id),
		      (const uint8_t *)job->prompt.id);
	sha256_update(&hash, sizeof(job->sight.page.digest), job->sight.page.digest);
	sha256_digest(&hash, sizeof(job->identity), job->identity);
	return rc;
}

/* ---- one reading ---- */

static uint64_t seed_of(const struct job *job)
{
	uint8_t what[SHA256_DIGEST_SIZE + 1];

	memcpy(what, job->identity, SHA256_DIGEST_SIZE);
	what[SHA256_DIGEST_SIZE] = (uint8_t)job->tries;
	return hash64(what, sizeof(what));
}

/* Never more tokens than the model has positions or the cache has room for: whatever needs them
 * ends with finish "length". */
static enum rc submit(struct job *job, struct server *server, struct err *err)
{
	size_t room = min_u64(server->model.config.text.max_positions, server->cache_tokens);
	struct engine_request request = {
		.id = job->number,
		.prompt = job->prompt.id,
		.prompt_count = job->prompt.count,
		.pages = &job->sight.page,
		.page_count = job->sight.rows ? 1 : 0,
		.adapted = job->adapted,
		.sampling = job->sampling,
	};

	if (job->prompt.count >= room)
		return err_set(
			err, RC_FAILED, "limit:context",
			"the page takes %zu tokens, and the model has %u positions, its cache %zu",
			job->prompt.count, server->model.config.text.max_positions,
			server->cache_tokens);
	request.most = min_u64(job->most, room - job->prompt.count);
	job->sight.page.place =
		(struct model_page){job->first, job->sight.rows, job->sight.columns};
	request.sampling.seed = seed_of(job);
	request.sampling.temperature = job->temperature;
	if (job->tries && request.sampling.top_p == 1)
		request.sampling.top_p = RETRY_TOP;
	job->tries++;
	return engine_add(server->engine, &request, err);
}

bool job_start(struct job *job, struct server *server)
{
	struct err err = {.text = ""};

	if (prepare(job, server, &err) == RC_OK && submit(job, server, &err) == RC_OK)
		return true;
	answer_error(job, &err);
	return false;
}

/* ---- the result ---- */

/* Of a loop, its first round stays. */
static size_t without_loop(const struct engine_result *r)
{
	size_t n = r->count;

	if (r->finish != ENGINE_REPETITION || !r->period)
		return n;
	while (n > r->period && r->tokens[n - 1] == r->tokens[n - 1 - r->period])
		n--;
	return n;
}

/* Mean probability of the tokens, and the lowest geometric mean of WINDOW in a row. */
static void set_confidence(json_t *result, const float *log_probability, size_t n)
{
	double sum = 0, window = 0, worst = 0;

	for (size_t i = 0; i < n; i++) {
		size_t in_window = min_u64(i + 1, WINDOW);

		sum += exp(log_probability[i]);
		window += log_probability[i];
		if (i >= WINDOW)
			window -= log_probability[i - WINDOW];
		if (i + 1 >= min_u64(WINDOW, n))
			worst = fmin(worst, window / (double)in_window);
	}
	if (!n)
		return;
	json_object_set_new(result, "confidence", json_real(fmin(sum / (double)n, 1)));
	json_object_set_new(result, "confidence_worst", json_real(exp(worst)));
}

static json_t *result_of(const struct job *job, const struct server *server,
			 const struct engine_result *r)
{
	static const char *const finishes[] = {"stop", "length", "repetition"};
	size_t n = without_loop(r);
	char hex[SHA256_HEX_SIZE];
	struct output output;
	struct buf reply;
	json_t *result;

	buf_init(&reply, REPLY_MAX);
	tokenizer_decode(server->tokenizer, r->tokens, n, true, &reply);
	output_make(&output, &job->output, reply.data ? reply.data : "", reply.len);
	sha256_hex_of(job->words, strlen(job->words), hex);
	result = json_pack("{s:s, s:s, s:o, s:s, s:I, s:i, s:f, s:s, s:I}", "status", "ok",
			   "format", job->format ? job->format : output.format, "text",
			   json_stringn(output.text.data ? output.text.data : "", output.text.len),
			   "finish", finishes[r->finish], "tokens", (json_int_t)r->count,
			   "readings", job->tries, "temperature", job->temperature, "prompt_sha256",
			   hex, "ms", (json_int_t)(milliseconds() - job->started + 0.5));
	if (!result)
		BUG("a result cannot be packed");
	json_object_set_new(result, "device", json_string(server->model.compute->name));
	if (job->adapted.count)
		json_object_set_new(result, "adapters", adapters_names(server, &job->adapted));
	if (output.blocks)
		json_object_set(result, "blocks", output.blocks);
	set_confidence(result, r->log_probabilities, r->count);
	output_release(&output);
	buf_release(&reply);
	return result;
}

bool job_end(struct job *job, struct server *server, struct engine_result *r)
{
	bool again = r->finish == ENGINE_REPETITION && job->tries <= job->retries, gone = true;
	struct err err;

	if (r->finish == ENGINE_NAN) {
		err_set(&err, RC_FAILED, "nan",
			"the model computed nonsense (NaN) after %zu tokens", r->count);
		answer_error(job, &err);
	} else if (again) {
		job->temperature = fmax(job->temperature, fmin(job->temperature + HOTTER, HOTTEST));
		gone = submit(job, server, &err) != RC_OK;
		if (gone)
			answer_error(job, &err);
	} else {
		answer(job, result_of(job, server, r));
	}
	free(r->tokens);
	free(r->log_probabilities);
	return gone;
}
