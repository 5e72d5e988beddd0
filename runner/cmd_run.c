/* SPDX-License-Identifier: MIT
 *
 * cloister run: open the spool, or make it, and hand over to the supervisor.
 */
#include "commands.h"
#include "supervisor.h"

#include <stdlib.h>
#include <time.h>

/* The next time it is HH:MM here. */
static time_t next_time(const char *hh_mm, time_t now)
{
	struct tm tm;
	time_t then;

	localtime_r(&now, &tm);
	tm.tm_hour = (hh_mm[0] - '0') * 10 + hh_mm[1] - '0';
	tm.tm_min = (hh_mm[3] - '0') * 10 + hh_mm[4] - '0';
	tm.tm_sec = 0;
	tm.tm_isdst = -1;
	then = mktime(&tm);
	if (then > now)
		return then;
	tm.tm_mday++;
	tm.tm_isdst = -1;
	return mktime(&tm);
}

int cmd_run(const struct options *o)
{
	const char *path = o->n_args ? o->args[0] : o->spool;
	struct run_options run = { .once = o->once,
				   .jobs = (unsigned)o->jobs,
				   .quiet = o->quiet,
				   .lines = !o->quiet && !getenv("JOURNAL_STREAM") };
	struct config config;
	struct spool spool;
	struct err err;
	int code;

	if (!path) {
		complain(o, "which spool? Name its folder, or set CLOISTER_SPOOL");
		return EX_USAGE_ERROR;
	}
	if (o->until)
		run.until = next_time(o->until, time(NULL));
	if (config_load(&config, path, &err) != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	if (spool_open(&spool, path, true, &err) != RC_OK)
		die(EX_CONFIGURATION, "%s", err.text);
	code = supervisor_run(&spool, &config, &run);
	spool_close(&spool);
	config_release(&config);
	return code;
}
