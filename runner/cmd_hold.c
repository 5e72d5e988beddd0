/* SPDX-License-Identifier: MIT
 *
 * cloister hold, cloister release: move tokens between the queue and state/hold. A run that meets a
 * token gone from its queue passes on to the next.
 */
#include "commands.h"
#include "durable.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct move {
	const struct options *o;
	const struct spool *spool;
};

static bool moved(const struct move *m, const struct listed *d, enum rc rc, const char *to,
		  const struct err *err)
{
	char *path = display(d->path);

	if (rc == RC_OK && !m->o->quiet)
		printf("%s: %s\n", path, to);
	if (rc != RC_OK && !strcmp(err->reason, "vanished"))
		complain(m->o, "%s: has just been taken on or finished", d->path);
	else if (rc != RC_OK)
		complain(m->o, "%s: %s", d->path, err->text);
	free(path);
	return rc == RC_OK;
}

static bool hold(const struct listed *d, void *arg)
{
	const struct move *m = arg;
	struct err err;
	int from = survey_token_dir(m->spool, d, &err);
	enum rc rc = RC_FAILED;

	if (from >= 0) {
		rc = durable_move(from, d->token, m->spool->hold, d->token, &err);
		if (rc == RC_OK) {
			durable_sync(m->spool->hold, "hold");
			durable_sync(from, "the queue");
		}
		close(from);
	}
	return moved(m, d, rc, "held", &err);
}

static bool release(const struct listed *d, void *arg)
{
	const struct move *m = arg;
	struct token token;
	struct err err;
	int to;
	enum rc rc = token_read(m->spool->hold, d->token, &token, &err);

	if (rc != RC_OK)
		return moved(m, d, rc, "", &err);
	to = spool_ready_dir(m->spool, token.priority, token.pipeline, &err);
	token_release(&token);
	if (to < 0)
		return moved(m, d, RC_FAILED, "", &err);
	rc = durable_move(m->spool->hold, d->token, to, d->token, &err);
	if (rc == RC_OK) {
		durable_sync(to, "the queue");
		durable_sync(m->spool->hold, "hold");
	}
	close(to);
	return moved(m, d, rc, "ready", &err);
}

static int move_named(const struct options *o, unsigned states, const char *verb,
		      bool (*act)(const struct listed *d, void *arg))
{
	struct survey survey;
	struct config config;
	struct spool spool;
	struct move m = { .o = o, .spool = &spool };
	struct err err;
	int code = open_spool(o, &spool, &config);

	if (code)
		return code;
	if (survey_take(&survey, &spool, config.default_pipeline, SURVEY_ALL, &err) == RC_OK) {
		code = for_each_named(o, &survey, states, verb, act, &m);
	} else {
		complain(o, "%s", err.text);
		code = EX_SOME_FAILED;
	}
	survey_release(&survey);
	spool_close(&spool);
	config_release(&config);
	return code;
}

int cmd_hold(const struct options *o)
{
	return move_named(o, 1u << DOCUMENT_READY | 1u << DOCUMENT_DEFERRED, "held", hold);
}

int cmd_release(const struct options *o)
{
	return move_named(o, 1u << DOCUMENT_HOLD, "released", release);
}
