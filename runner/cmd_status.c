/* SPDX-License-Identifier: MIT
 *
 * cloister status: the run by what it wrote into state/status.json, the queue by looking at it.
 *
 * A run writes its status at least every ten seconds; one that has not for half a minute is alive
 * only if its process still is, and only the machine it runs on can tell that.
 */
#include "commands.h"
#include "status.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FRESH_SECONDS 30

enum life { LIFE_NONE, LIFE_RUNNING, LIFE_SILENT, LIFE_STOPPED, LIFE_DEAD };

static const char *text_of(json_t *obj, const char *key)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : "";
}

static long long number_of(json_t *obj, const char *key)
{
	return (long long)json_integer_value(json_object_get(obj, key));
}

/* Seconds since the run wrote its status; -1 when it does not tell. */
static double age_of(json_t *run)
{
	struct tm tm = { 0 };

	if (!strptime(text_of(run, "updated"), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return -1;
	return difftime(time(NULL), timegm(&tm));
}

/* Is the process gone, for all that can be seen from here? */
static bool surely_dead(json_t *run)
{
	const char *worker = text_of(run, "worker");
	long long pid = number_of(run, "pid");
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	return pid > 0 && !strncmp(worker, host, strlen(host)) && worker[strlen(host)] == '.' &&
	       kill((pid_t)pid, 0) && errno == ESRCH;
}

static enum life life_of(json_t *run)
{
	double age;

	if (!run)
		return LIFE_NONE;
	if (!strcmp(text_of(run, "state"), "stopped"))
		return LIFE_STOPPED;
	if (surely_dead(run))
		return LIFE_DEAD;
	age = age_of(run);
	return age >= 0 && age <= FRESH_SECONDS ? LIFE_RUNNING : LIFE_SILENT;
}

static void print_life(json_t *run, enum life life)
{
	const char *updated = text_of(run, "updated");
	char *worker = display(text_of(run, "worker"));

	switch (life) {
	case LIFE_NONE:
		printf("nothing has run here yet\n");
		break;
	case LIFE_RUNNING:
		printf("%s since %s, by %s\n", text_of(run, "state"), text_of(run, "started"), worker);
		break;
	case LIFE_SILENT:
		printf("silent since %s: %s may be dead, or on a machine that is cut off\n", updated,
		       worker);
		break;
	case LIFE_STOPPED:
		printf("stopped at %s\n", updated);
		break;
	case LIFE_DEAD:
		printf("dead since %s, or soon after; start it again and it goes on\n", updated);
		break;
	}
	free(worker);
}

static void print_run(json_t *run, enum life life)
{
	json_t *documents = json_object_get(run, "documents");
	json_t *pages = json_object_get(run, "pages");
	json_t *eta = json_object_get(run, "eta_seconds");
	json_t *active;
	char left[48];
	size_t i;

	printf("%s  done %lld (flagged %lld), failed %lld\n",
	       life == LIFE_RUNNING ? "this run" : "last run", number_of(documents, "done"),
	       number_of(documents, "flagged"), number_of(documents, "failed"));
	printf("pages     ok %lld (blank %lld), flagged %lld, failed %lld; of these from earlier "
	       "attempts %lld\n",
	       number_of(pages, "ok"), number_of(pages, "blank"), number_of(pages, "flagged"),
	       number_of(pages, "failed"), number_of(pages, "reused"));
	if (life != LIFE_RUNNING)
		return;
	printf("speed     %.2f pages/s", json_number_value(json_object_get(run, "pages_per_second")));
	if (json_is_integer(eta) && json_integer_value(eta) > 0) {
		status_duration(left, sizeof(left), (double)json_integer_value(eta));
		printf(", %s left", left);
	}
	putchar('\n');
	json_array_foreach(json_object_get(run, "active"), i, active) {
		char *path = display(text_of(active, "path"));

		printf("reading   %s, page %lld of %lld\n", path, number_of(active, "page"),
		       number_of(active, "pages"));
		free(path);
	}
}

static json_t *count_queue(const struct survey *survey)
{
	json_t *queue = json_object();
	long long counts[DOCUMENT_STATES] = { 0 };

	for (size_t i = 0; i < survey->n; i++)
		counts[survey->documents[i].state]++;
	for (unsigned s = DOCUMENT_WAITING; s <= DOCUMENT_HOLD; s++)
		json_object_set_new(queue, document_state_name(s), json_integer(counts[s]));
	return queue;
}

static void print_queue(json_t *queue)
{
	printf("queue   ");
	for (unsigned s = DOCUMENT_WAITING; s <= DOCUMENT_HOLD; s++)
		printf("%s %s %lld", s == DOCUMENT_WAITING ? "" : ",", document_state_name(s),
		       number_of(queue, document_state_name(s)));
	putchar('\n');
}

int cmd_status(const struct options *o)
{
	struct survey survey;
	struct config config;
	struct spool spool;
	struct err err;
	json_t *run, *queue;
	enum life life;
	int code = open_spool(o, &spool, &config);

	if (code)
		return code;
	run = read_json(spool.state, "status.json");
	life = life_of(run);
	if (survey_take(&survey, &spool, config.default_pipeline, SURVEY_IN, &err) != RC_OK) {
		complain(o, "%s", err.text);
		code = EX_SOME_FAILED;
	}
	queue = count_queue(&survey);
	if (o->json) {
		json_t *all = run ? json_copy(run) : json_object();

		json_object_set_new(all, "running", json_boolean(life == LIFE_RUNNING));
		json_object_set(all, "queue", queue);
		print_json(all);
	} else {
		print_life(run, life);
		print_queue(queue);
		if (run)
			print_run(run, life);
	}
	json_decref(queue);
	json_decref(run);
	survey_release(&survey);
	spool_close(&spool);
	config_release(&config);
	return code;
}
