/* SPDX-License-Identifier: MIT
 *
 * What the commands share: talking to the person at the terminal, and finding the spool.
 */
#include "commands.h"
#include "base/name.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void complain(const struct options *o, const char *format, ...)
{
	va_list ap;
	char *raw = NULL;
	char *line;

	va_start(ap, format);
	if (vasprintf(&raw, format, ap) < 0)
		die(EX_BUG, "out of memory formatting a message");
	va_end(ap);
	line = display(raw);
	fflush(stdout);
	fprintf(stderr, "cloister %s: %s\n", o->command, line);
	free(line);
	free(raw);
}

static bool is_begun(const char *spool)
{
	char *in = xasprintf("%s/in", spool);
	char *settings = xasprintf("%s/cloister.yaml", spool);
	bool begun = !access(in, F_OK) || !access(settings, F_OK);

	free(in);
	free(settings);
	return begun;
}

int open_spool(const struct options *o, struct spool *s, struct config *config)
{
	struct err err;

	if (!o->spool) {
		complain(o, "which spool? Give --spool DIR, or set CLOISTER_SPOOL");
		return EX_USAGE_ERROR;
	}
	if (access(o->spool, F_OK)) {
		complain(o, "spool %s: %s; `cloister run %s --once` makes one", o->spool,
			 strerror(errno), o->spool);
		return EX_CONFIGURATION;
	}
	if (config_load(config, o->spool, &err) != RC_OK) {
		complain(o, "%s", err.text);
		return EX_CONFIGURATION;
	}
	/* A folder that somebody has begun to make a spool of by hand is completed. */
	if (spool_open(s, o->spool, false, &err) != RC_OK &&
	    (!is_begun(o->spool) || spool_open(s, o->spool, true, &err) != RC_OK)) {
		complain(o, "%s", err.text);
		config_release(config);
		return EX_CONFIGURATION;
	}
	return EX_ALL_DONE;
}

/* The documents a name stands for, sorted into those that will do and the others. */
struct candidates {
	unsigned states;
	const struct listed *one, *other;
	size_t n;
};

static void candidate(const struct listed *d, void *arg)
{
	struct candidates *c = arg;

	if (c->states & 1u << d->state) {
		c->one = d;
		c->n++;
	} else {
		c->other = d;
	}
}

int for_each_named(const struct options *o, const struct survey *survey, unsigned states,
		   const char *verb, bool (*act)(const struct listed *d, void *arg), void *arg)
{
	int code = EX_ALL_DONE;

	for (int i = 0; i < o->n_args; i++) {
		struct candidates c = { .states = states };
		const char *name = o->args[i];

		survey_find(survey, name, candidate, &c);
		if (c.n == 1 && act(c.one, arg))
			continue;
		code = EX_SOME_FAILED;
		if (c.n > 1)
			complain(o, "%s: %zu documents are called so; give the whole path", name, c.n);
		else if (!c.n && c.other && c.other->state == DOCUMENT_WAITING)
			complain(o, "%s: not admitted yet, so it cannot be %s; a run admits it",
				 name, verb);
		else if (!c.n && c.other)
			complain(o, "%s: is %s, so it cannot be %s", name,
				 document_state_name(c.other->state), verb);
		else if (!c.n)
			complain(o, "%s: no such document; ls lists them", name);
	}
	return code;
}

void print_json(json_t *obj)
{
	char *line = obj ? json_dumps(obj, JSON_COMPACT | JSON_SORT_KEYS |
						JSON_REAL_PRECISION(6)) : NULL;

	if (!line)
		BUG("JSON cannot be packed");
	puts(line);
	free(line);
	json_decref(obj);
}

char *display(const char *name)
{
	struct buf b;

	buf_init(&b, 4 * strlen(name));
	name_escape(&b, name, strlen(name));
	return buf_detach(&b);
}

json_t *json_display(const char *name)
{
	char *text = display(name);
	json_t *json = json_string(text);

	free(text);
	return json;
}
