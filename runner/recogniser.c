/* SPDX-License-Identifier: MIT */
#include "recogniser.h"
#include "airlock.h"
#include "base/log.h"
#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define WINDOW_MAX   1024
#define TRIES_MAX    2
#define DEATHS_MAX   10
#define GPU_DEATHS_MAX 5

struct process {
	struct child child;
	struct engine *engine;
	struct gpu *gpu; /* or NULL */
	bool full;       /* it has not read what it was sent last */
	char *private; /* folder for temporary files; or NULL */
	double look;   /* when that is looked at again */
	bool met;       /* has said hello */
	bool ready;     /* and has loaded what it reads with */
	double started;
	struct reading *flight; /* list */
	unsigned n_flight;
};

void pool_init(struct pool *p, struct loop *loop, struct scratch *scratch, unsigned jobs,
	       enum sandbox_mode sandbox, const struct launcher *launcher,
	       const struct config *config)
{
	*p = (struct pool){ .loop = loop,
			    .scratch = scratch,
			    .jobs = jobs,
			    .sandbox = sandbox,
			    .require_lock = config->require_lock,
			    .launcher = launcher,
			    .allow_containers = config->allow_containers,
			    .allow_unwrapped = config->allow_unwrapped,
			    .next_id = 1 };
}

static void finish(struct engine *e, struct reading *r, enum rc rc, json_t *result,
		   const struct err *why)
{
	if (result) {
		e->deaths = 0;
		e->restart_at = 0;
	}
	r->next = NULL;
	r->done(r->arg, r, rc, result, loop_now() - r->started, why);
}

/* Whatever it was reading goes back unread. */
static void end_process(struct process *process)
{
	struct engine *e = process->engine;
	struct err why;

	for (size_t i = 0; i < e->n_processes; i++)
		if (e->processes[i] == process)
			e->processes[i--] = e->processes[--e->n_processes];
	e->in_flight -= process->n_flight;
	while (process->flight) {
		struct reading *r = process->flight;

		process->flight = r->next;
		err_set(&why, RC_RETRY, "recogniser", "the recogniser was stopped");
		finish(e, r, RC_RETRY, NULL, &why);
	}
	child_kill(&process->child);
	if (process->gpu)
		process->gpu->used = false;
	scratch_drop_private(e->pool->scratch, process->private);
	free(process);
}

void pool_release(struct pool *p)
{
	for (size_t i = 0; i < p->n_engines; i++) {
		struct engine *e = p->engines[i];

		while (e->n_processes)
			end_process(e->processes[0]);
		recogniser_argv_free((char **)e->argv);
		adapters_release(&e->adapters);
		free(e->processes);
		gpus_free(e->gpus, e->n_gpus);
		free(e->id);
		pipeline_release(&e->settings);
		free(e);
	}
	free(p->engines);
	if (p->loop)
		loop_mourn(p->loop); /* none of them is to write into a folder that goes */
	*p = (struct pool){ 0 };
}

static void changed(struct engine *e)
{
	if (e->pool->changed)
		e->pool->changed(e->pool->arg);
}

static void queue_front(struct engine *e, struct reading *r)
{
	r->next = e->first;
	e->first = r;
	if (!e->last)
		e->last = r;
	e->waiting++;
}

void engine_read(struct engine *e, struct reading *r)
{
	if (e->state == ENGINE_BROKEN) {
		finish(e, r, RC_RETRY, NULL, &e->why);
		return;
	}
	r->engine = e;
	r->lost_on = NULL;
	r->tries = 0;
	r->next = NULL;
	if (e->last)
		e->last->next = r;
	else
		e->first = r;
	e->last = r;
	e->waiting++;
}

static struct reading *take_first(struct engine *e)
{
	struct reading *r = e->first;

	e->first = r->next;
	if (!e->first)
		e->last = NULL;
	e->waiting--;
	r->next = NULL;
	return r;
}

static bool unlink_reading(struct reading **list, struct reading *r)
{
	for (; *list; list = &(*list)->next) {
		if (*list == r) {
			*list = r->next;
			return true;
		}
	}
	return false;
}

static void drop_answer(void *arg, struct reading *r, enum rc rc, json_t *result, double seconds,
			const struct err *why)
{
	(void)arg, (void)rc, (void)seconds, (void)why;
	json_decref(result);
	json_decref(r->params);
	free(r);
}

/* A page being read cannot be called back: a stand-in waits for its answer and drops it. */
void engine_forget(struct reading *r)
{
	struct engine *e = r->engine;

	if (unlink_reading(&e->first, r)) {
		e->waiting--;
		e->last = e->first;
		while (e->last && e->last->next)
			e->last = e->last->next;
		return;
	}
	for (size_t i = 0; i < e->n_processes; i++) {
		struct reading *stand_in;

		if (!unlink_reading(&e->processes[i]->flight, r))
			continue;
		stand_in = xmalloc(sizeof(*stand_in));
		*stand_in = *r;
		json_incref(stand_in->params);
		stand_in->prompt = stand_in->text = stand_in->format = NULL;
		stand_in->done = drop_answer;
		stand_in->tries = TRIES_MAX; /* it is not read again */
		stand_in->next = e->processes[i]->flight;
		e->processes[i]->flight = stand_in;
		return;
	}
}

static bool is_at_work(const struct engine *e)
{
	return e->waiting || e->in_flight;
}

static unsigned engines_at_work(const struct pool *p)
{
	unsigned n = 0;

	for (size_t i = 0; i < p->n_engines; i++)
		n += is_at_work(p->engines[i]);
	return n;
}

/* How many processes it is worth to have while so many engines are at work. */
static unsigned processes_wanted(const struct engine *e, unsigned working)
{
	unsigned share = e->pool->jobs / (working ? working : 1);

	if (e->gpus)
		return (unsigned)gpus_left(e->gpus, e->n_gpus);
	return e->window <= 1 && share > 1 ? share : 1;
}

unsigned engine_appetite(const struct engine *e)
{
	unsigned window = e->window ? e->window : 1;

	return window * processes_wanted(e, engines_at_work(e->pool));
}

static void break_engine(struct engine *e, const struct err *why)
{
	log_error("recogniser %s cannot be used: %s", e->argv[0], why->text);
	e->state = ENGINE_BROKEN;
	e->why = *why;
	while (e->n_processes)
		end_process(e->processes[0]);
	while (e->first)
		finish(e, take_first(e), RC_RETRY, NULL, why);
	changed(e);
}

/* A process has died on this one: it may be to blame, where others read. Is any left? */
static bool blame_gpu(struct engine *e, struct gpu *gpu, const struct err *why, bool at_once)
{
	gpu->deaths++;
	if (at_once || gpu->deaths >= GPU_DEATHS_MAX)
		gpu->lost = true;
	if (!gpus_left(e->gpus, e->n_gpus))
		return false;
	if (gpu->lost)
		log_error("%s is not used any more: %s", gpu->visible, why->text);
	return true;
}

/* The process has died or has to: its pages are tried again, or fail with `why`. */
static void lose_process(struct process *process, const struct err *why, bool permanent)
{
	struct engine *e = process->engine;
	struct gpu *gpu = process->gpu;
	struct reading *flight = process->flight;
	bool was_ready = process->ready, broken;
	unsigned long document = flight ? strtoul(flight->page, NULL, 10) : 0;

	process->flight = NULL;
	e->in_flight -= process->n_flight;
	process->n_flight = 0;
	log_warn("%s", why->text);
	end_process(process);
	/* One document's pages, however many kill it, count once: the rest are that document's. */
	if (!flight || !e->deaths || document != e->blamed)
		e->deaths++;
	e->blamed = document;
	e->restart_at = loop_now() + (e->deaths > 1 ? fmin(0.1 * (1 << (e->deaths - 1)), 10) : 0);
	while (flight) {
		struct reading *r = flight;

		flight = r->next;
		r->lost_on = gpu;
		if (++r->tries >= TRIES_MAX)
			finish(e, r, RC_FAILED, NULL, why);
		else
			queue_front(e, r);
	}
	broken = permanent || (!was_ready && e->deaths >= 3);
	if (gpu)
		broken = !blame_gpu(e, gpu, why, permanent || (!was_ready && gpu->deaths >= 2));
	if (broken || e->deaths >= DEATHS_MAX)
		break_engine(e, why);
	changed(e);
}

static void on_end(void *arg)
{
	struct process *process = arg;
	struct err why;
	struct buf text;
	int status;

	if (!child_reap(&process->child, &status))
		return;
	buf_init(&text, ERR_TEXT_MAX);
	child_describe(&process->child, status, &text);
	err_set(&why, RC_FAILED, process->ready ? "recogniser-crash" : "recogniser", "%s", text.data);
	buf_release(&text);
	lose_process(process, &why,
		     WIFEXITED(status) && WEXITSTATUS(status) == EX_CONFIGURATION);
}

/* What is too long is cut, but not within a character. */
static void copy_text(char *to, size_t size, const json_t *value, const char *fallback)
{
	const char *text = json_is_string(value) ? json_string_value(value) : fallback;
	size_t n = strlen(text);

	if (n >= size)
		for (n = size - 1; n && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
			;
	memcpy(to, text, n);
	to[n] = '\0';
}

/* Who does not say reads pages. */
unsigned recogniser_takes(const json_t *list)
{
	unsigned takes = list ? 0 : TAKES_PAGE;
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item) {
		const char *word = json_string_value(item);

		if (word && !strcmp(word, "page"))
			takes |= TAKES_PAGE;
		else if (word && !strcmp(word, "text"))
			takes |= TAKES_TEXT;
	}
	return takes;
}

static void become_ready(struct process *process)
{
	struct engine *e = process->engine;

	process->ready = true;
	if (e->state == ENGINE_STARTING) {
		e->state = ENGINE_READY;
		log_debug("recogniser %s %s ready, model \"%s\"", e->name, e->version, e->model_name);
	}
	changed(e);
}

/* false: it does not speak the protocol. */
static bool take_hello(struct process *process, json_t *hello)
{
	struct engine *e = process->engine;
	json_t *model = json_object_get(hello, "model");
	json_int_t window = json_integer_value(json_object_get(hello, "window"));
	const char *sha256 = json_string_value(json_object_get(model, "sha256"));

	if (json_integer_value(json_object_get(hello, "airlock")) != 1)
		return false;
	e->takes = recogniser_takes(json_object_get(hello, "takes"));
	copy_text(e->name, sizeof(e->name), json_object_get(hello, "name"), "unnamed");
	copy_text(e->version, sizeof(e->version), json_object_get(hello, "version"), "");
	copy_text(e->model_name, sizeof(e->model_name), json_object_get(model, "name"), "");
	copy_text(e->model_sha256, sizeof(e->model_sha256), json_object_get(model, "sha256"), "");
	/* Only our own has compared them. */
	copy_text(e->model_lock, sizeof(e->model_lock),
		  e->settings.recogniser == RECOGNISER_COMMAND ? NULL : json_object_get(model, "lock"), "");
	if (sha256 && strlen(sha256) != 64)
		return false;
	if (!adapters_take_hello(&e->adapters, json_object_get(model, "adapters")))
		return false;
	e->window = window < 1 ? 1 : window > WINDOW_MAX ? WINDOW_MAX : (unsigned)window;
	process->met = true;
	/* Documents are taken in and decoded while it loads. */
	if (json_is_true(json_object_get(hello, "loading")))
		changed(e);
	else
		become_ready(process);
	return true;
}

static bool take_ready(struct process *process, const json_t *message)
{
	if (!json_is_true(json_object_get(message, "ready")))
		return false;
	become_ready(process);
	return true;
}

static struct reading *find_flight(struct process *process, uint64_t id)
{
	for (struct reading *r = process->flight; r; r = r->next)
		if (r->id == id)
			return r;
	return NULL;
}

/* false: the line is not an answer to anything that was asked. */
static bool take_result(struct process *process, json_t *message, size_t len)
{
	struct engine *e = process->engine;
	json_t *id = json_object_get(message, "id");
	const char *status = json_string_value(json_object_get(message, "status"));
	struct reading *r = json_is_integer(id)
				    ? find_flight(process, (uint64_t)json_integer_value(id))
				    : NULL;
	json_t *result = NULL;
	struct err why;

	if (!r || !status)
		return false;
	unlink_reading(&process->flight, r);
	process->n_flight--;
	e->in_flight--;
	if (len > r->max_line) {
		err_set(&why, RC_FAILED, "limit:result-kibibytes",
			"the result has %zu bytes, the pipeline allows %zu", len, r->max_line);
		e->deaths = 0;
	} else if (!strcmp(status, "ok")) {
		result = airlock_result(message, r->width, r->height, &why);
	} else {
		const char *error = json_string_value(json_object_get(message, "error"));

		err_set(&why, RC_FAILED, "recogniser-error", "%s",
			error && *error ? error : "no reason given");
		e->deaths = 0;
	}
	if (process->gpu)
		process->gpu->deaths = 0;
	finish(e, r, result ? RC_OK : RC_FAILED, result, &why);
	changed(e);
	return true;
}

static bool take_message(struct process *process, json_t *message, size_t len)
{
	if (!process->met)
		return take_hello(process, message);
	return process->ready ? take_result(process, message, len) : take_ready(process, message);
}

/* A fault of the system, not of the recogniser: its pages go back unread, and it is started anew. */
static void read_failed(struct process *process, int error)
{
	struct engine *e = process->engine;

	log_warn("read from recogniser %s: %s", e->argv[0], strerror(error));
	end_process(process);
	e->restart_at = loop_now() + 1;
	changed(e);
}

static void on_line(void *arg)
{
	struct process *process = arg;
	enum lines_status status;
	struct err why;
	char *line;
	size_t len;

	while ((status = child_line(&process->child, &line, &len)) == LINES_ONE) {
		json_t *message = airlock_parse(line, len, &why);
		bool good = message && take_message(process, message, len);

		json_decref(message);
		if (!good) {
			/* What it says may be a document's text, and does not go into logs. */
			err_set(&why, RC_FAILED, "protocol",
				"recogniser %s sent a line of %zu bytes that is no answer to a request",
				process->engine->argv[0], len);
			lose_process(process, &why, false);
			return;
		}
	}
	if (status != LINES_ERROR)
		return; /* where it has ended, on_end follows */
	if (errno != EMSGSIZE) {
		read_failed(process, errno);
		return;
	}
	err_set(&why, RC_FAILED, "protocol", "recogniser %s sent a line that is too long",
		process->engine->argv[0]);
	lose_process(process, &why, false);
}

static bool start_process(struct engine *e)
{
	struct process *process = xcalloc(1, sizeof(*process));
	struct gpu *gpu = gpus_take(e->gpus, e->n_gpus);
	const char *env[] = { gpu ? gpu->visible : NULL, NULL };
	struct err err;

	process->engine = e;
	process->gpu = gpu;
	process->started = loop_now();
	if (recogniser_start(&process->child, e->pool, &e->settings, e->argv, env, &process->private,
			     on_line, on_end, process, &err) != RC_OK) {
		log_warn("%s", err.text);
		free(process);
		e->restart_at = loop_now() + 1;
		return false;
	}
	e->processes = xrealloc(e->processes, (e->n_processes + 1) * sizeof(*e->processes));
	e->processes[e->n_processes++] = process;
	if (gpu)
		gpu->used = true;
	return true;
}

json_t *recogniser_request(const struct reading *r)
{
	json_t *request = json_pack("{s:I, s:O}", "id", (json_int_t)r->id, "params", r->params);
	json_t *what = r->text ? json_pack("{s:s, s:s}", "text", r->text, "format", r->format)
			       : json_pack("{s:s, s:i, s:i, s:f, s:b}", "page", r->page, "width",
					   (int)r->width, "height", (int)r->height, "dpi", r->dpi,
					   "native", r->native);

	json_object_update(request, what);
	json_decref(what);
	if (r->prompt)
		json_object_set_new(request, "prompt", json_string(r->prompt));
	return request;
}

/* false: nothing more can be sent to it for now, because it has not read what was. */
static bool hand_out(struct process *process)
{
	struct engine *e = process->engine;
	struct reading *r = e->first;

	r->id = e->pool->next_id++;
	if (!child_send(&process->child, recogniser_request(r)))
		return false;
	take_first(e);
	r->started = loop_now();
	r->deadline = r->started + r->seconds;
	r->next = process->flight;
	process->flight = r;
	process->n_flight++;
	e->in_flight++;
	return true;
}

/* A page that was lost with a process is read alone: should it be to blame, no other is lost. */
static bool reads_alone(const struct reading *r)
{
	return r->tries && r->tries < TRIES_MAX;
}

static bool has_room(const struct process *process, const struct reading *r)
{
	if (!process->ready || process->n_flight >= process->engine->window)
		return false;
	return !process->flight || (!reads_alone(process->flight) && !reads_alone(r));
}

/* The one that reads the fewest pages, of those that can take this one: another GPU than the one that
 * it was lost on, so that a broken one does not have it twice. */
static struct process *least_busy(const struct engine *e, const struct reading *r)
{
	bool choosy = gpus_left(e->gpus, e->n_gpus) > 1;
	struct process *best = NULL;

	for (size_t i = 0; i < e->n_processes; i++) {
		struct process *process = e->processes[i];

		if (choosy && r->lost_on && process->gpu == r->lost_on)
			continue;
		if (!process->full && has_room(process, r) &&
		    (!best || process->n_flight < best->n_flight))
			best = process;
	}
	return best;
}

static void give_work(struct engine *e)
{
	struct process *process;

	for (size_t i = 0; i < e->n_processes; i++)
		e->processes[i]->full = false;
	while (e->first && (process = least_busy(e, e->first)) != NULL)
		process->full = !hand_out(process);
}

/* The folder for temporary files is memory that pages need as well. */
static bool is_too_full(const struct process *process)
{
	uint64_t most = process->engine->settings.foreign.temporary_mebibytes << 20;

	return process->private && scratch_private_bytes(process->engine->pool->scratch, process->private) > most;
}

/* Kill what is over time. One at a time: the lists change under us. */
static bool time_out_one(struct engine *e, double now, double *next)
{
	for (size_t i = 0; i < e->n_processes; i++) {
		struct process *process = e->processes[i];
		double ready_by = process->started + e->read_seconds_start;
		struct err why;

		if (process->private && now >= process->look) {
			process->look = now + 1;
			if (is_too_full(process)) {
				err_set(&why, RC_FAILED, "limit:temporary-mebibytes",
					"recogniser %s wrote more than %llu MiB of temporary files",
					e->argv[0],
					(unsigned long long)e->settings.foreign.temporary_mebibytes);
				lose_process(process, &why, false);
				return true;
			}
		}
		if (!process->ready && now > ready_by) {
			err_set(&why, RC_FAILED, "recogniser", "recogniser %s %s within %u seconds",
				e->argv[0], process->met ? "was not ready" : "did not say hello",
				e->read_seconds_start);
			lose_process(process, &why, false);
			return true;
		}
		if (!process->ready)
			*next = fmin(*next, ready_by);
		for (struct reading *r = process->flight; r; r = r->next) {
			if (now <= r->deadline) {
				*next = fmin(*next, r->deadline);
				continue;
			}
			err_set(&why, RC_FAILED, "limit:read-seconds",
				"recogniser took more than %u seconds for a page", r->seconds);
			r->tries = TRIES_MAX; /* it had its time; its neighbours have not */
			for (struct reading *other = process->flight; other; other = other->next)
				if (other->tries < TRIES_MAX)
					other->tries = 0;
			lose_process(process, &why, false);
			return true;
		}
	}
	return false;
}

/* On the CPU. */
static size_t count_processes(const struct pool *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_engines; i++)
		n += p->engines[i]->gpus ? 0 : p->engines[i]->n_processes;
	return n;
}

/* Do its processes take all memory of theirs? */
static bool is_greedy(const struct engine *e)
{
	return e->gpus && !e->settings.model.cache_mebibytes;
}

/* Can the two not use GPUs side by side? */
static bool exclude_each_other(const struct engine *a, const struct engine *b)
{
	return a != b && a->gpus && b->gpus && (is_greedy(a) || is_greedy(b));
}

static bool is_kept_out(const struct engine *e)
{
	for (size_t i = 0; i < e->pool->n_engines; i++)
		if (exclude_each_other(e, e->pool->engines[i]) && e->pool->engines[i]->n_processes)
			return true;
	return false;
}

/* Does another wait for the GPUs of this one? */
static bool keeps_out(const struct engine *e)
{
	for (size_t i = 0; i < e->pool->n_engines; i++) {
		const struct engine *other = e->pool->engines[i];

		if (exclude_each_other(e, other) && other->state != ENGINE_BROKEN &&
		    (other->waiting || other->state == ENGINE_STARTING))
			return true;
	}
	return false;
}

/* Idle processes go when there are more than the engine's share, or when others need the room. One
 * stays while nobody does, or a document is open that needs it: a model that follows another recogniser
 * is often idle for a moment, and slow to start. Not on a GPU that another waits for. */
static void retire(struct engine *e, unsigned wanted, unsigned at_work)
{
	size_t stays = e->documents || !at_work ? 1 : 0;
	bool working = is_at_work(e);

	if (!working && keeps_out(e))
		wanted = 0;
	for (size_t i = e->n_processes; i-- > 0;) {
		struct process *process = e->processes[i];

		if (process->n_flight || !process->ready)
			continue;
		if (working || !wanted
			    ? e->n_processes > wanted
			    : e->n_processes > stays && !e->gpus && count_processes(e->pool) > e->pool->jobs)
			end_process(process);
	}
}

/* The first process tells which model it is; more come when pages wait for them. How wide the window
 * of Tesseract is is known beforehand, so they load their models while the first documents are decoded. */
static bool needs_another(const struct engine *e)
{
	if (!e->n_processes)
		return e->state == ENGINE_STARTING || e->waiting;
	if (e->state == ENGINE_STARTING && !e->alone)
		return e->n_processes < e->pool->expected;
	return e->waiting && (e->window == 1 || (e->gpus && e->state == ENGINE_READY));
}

double pool_turn(struct pool *p, double now)
{
	unsigned working = engines_at_work(p);
	double next = INFINITY;

	for (size_t i = 0; i < p->n_engines; i++) {
		struct engine *e = p->engines[i];
		unsigned wanted = processes_wanted(e, working);

		while (time_out_one(e, now, &next))
			;
		if (e->state == ENGINE_BROKEN)
			continue;
		give_work(e);
		retire(e, wanted, working);
		while (e->n_processes < wanted && needs_another(e) && !is_kept_out(e)) {
			if (e->restart_at > now) {
				next = fmin(next, e->restart_at);
				break;
			}
			if (!start_process(e))
				break;
		}
	}
	return next;
}

json_t *pool_status(const struct pool *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_engines; i++)
		json_array_append_new(list,
				      json_pack("{s:s, s:i, s:i}", "name", p->engines[i]->name, "busy",
						(int)p->engines[i]->in_flight, "processes",
						(int)p->engines[i]->n_processes));
	return list;
}
