/* SPDX-License-Identifier: MIT
 *
 * supervisor: the loop of `cloister run`.
 *
 * One thread, no document bytes parsed: it moves tokens, starts children, checks what they say and
 * keeps the time.  Each turn of the loop waits for descriptors, then does whatever has become
 * possible: admit, claim, ask for pages, hand pages to recognisers, publish.  All state that matters is
 * in the spool before anybody is told.
 */
#include "supervisor.h"
#include "document.h"
#include "durable.h"
#include "publish.h"
#include "sandbox.h"
#include "sandbox_gpu.h"
#include "base/log.h"
#include "base/name.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SCAN_PAUSE_SECONDS 1.0
#define DESCRIPTORS_MAX    65536 /* some programs go through all that they may have */

static int signal_fd(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_IGN); /* a lease on a dropped file was broken */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		die(EX_BUG, "signalfd: %s", strerror(errno));
	return fd;
}

/* A document has a descriptor for each page of its window. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = min_u64(limit.rlim_max, DESCRIPTORS_MAX);
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_debug("descriptors: %s", strerror(errno));
}

struct signals {
	struct run *run;
	int fd;
};

static void on_signal(void *arg)
{
	struct signals *s = arg;
	struct signalfd_siginfo info;

	ssize_t n = read(s->fd, &info, sizeof(info));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(info))
		info.ssi_signo = SIGTERM; /* one came, and cannot be read: the one to be sure of */
	if (info.ssi_signo == SIGHUP)
		return; /* pipelines are read again when their file changes; there is nothing to do */
	s->run->signal = (int)info.ssi_signo;
	if (s->run->draining) {
		s->run->stop = true;
		return;
	}
	log_info("stopping: pages in hand are finished, the rest goes back to the queue (once more "
		 "stops now)");
	s->run->draining = true;
}

enum rc supervisor_lock_down(const char *spool, const char *scratch, bool require, struct err *err)
{
	static const char *const anything[] = { "/", NULL }, *const processes[] = { "/proc", NULL };
	char *root = realpath(spool, NULL);
	const char *writable[3 + GPU_NODES_MAX + 1] = { root, scratch, "/dev/null" };
	char **nodes = gpu_nodes();
	char *around = xstrndup(scratch, (size_t)(strrchr(scratch, '/') - scratch));
	const char *emptied[] = { around, NULL };
	struct sandbox_rules rules = { .execute = anything,
				       .write = writable,
				       .remove = emptied,
				       .write_fd = -1 };
	struct sandbox_state state;
	enum rc rc;

	for (size_t i = 0; nodes[i]; i++)
		writable[3 + i] = nodes[i];
	/* A GPU's driver names threads of its process in /proc, and what the supervisor may not its children
	 * may not. To root all of /proc/sys would be open: see pthread_setname_np() in models/main.c. */
	if (nodes[0] && geteuid())
		rules.change = processes;
	rc = sandbox_enter(SANDBOX_SUPERVISOR, &rules, require, &state, err);
	if (rc == RC_OK)
		log_debug("sandbox: landlock abi %d, seccomp %s", state.landlock_abi,
			 state.seccomp ? "on" : "off");
	gpu_nodes_free(nodes);
	free(root);
	free(around);
	return rc;
}

/* One worker a spool admits documents; where the file system has no locks, all do, and publishing
 * by rename sorts it out. */
static void try_gate(struct run *run)
{
	if (run->gatekeeper)
		return;
	if (run->gate_fd < 0)
		run->gate_fd = openat(run->spool->state, "admit.lock",
				      O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (run->gate_fd < 0 || (flock(run->gate_fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK))
		return;
	run->gatekeeper = true;
	run_load_tokens(run);
}

static enum rc set_up(struct run *run, struct err *err)
{
	char *spool = realpath(run->spool->path, NULL); /* recognisers run in another folder */
	char *fallback = xasprintf("%s/state/tmp", spool ? spool : run->spool->path);
	enum sandbox_mode mode = sandbox_mode_of(run->config->require_sandbox);
	enum rc rc;

	run->sandbox_flag = sandbox_mode_option(mode);
	raise_descriptors();
	notify_open(&run->notify);
	run->gate_fd = -1;
	run->scratch = (struct scratch)SCRATCH_CLOSED;
	run->index.fd = run->lease.dir = -1;
	run->launcher = (struct launcher)LAUNCHER_NONE;
	rc = install_check(err);
	if (rc == RC_OK)
		rc = launcher_start(&run->launcher, run->config, err);
	if (rc == RC_OK)
		rc = sandbox_leave_network(err);
	if (rc == RC_FATAL)
		goto out;
	if (rc != RC_OK)
		log_warn("no network namespace of its own: %s; sockets are refused all the same",
			 err->text);
	loop_init(&run->loop);
	rc = scratch_open(&run->scratch, run->config->scratch, fallback,
			  run->config->scratch_mebibytes << 20, err);
	if (rc == RC_OK)
		rc = lease_take(&run->lease, run->spool, run->config->lease_seconds, err);
	if (rc == RC_OK && mode != SANDBOX_OFF)
		rc = supervisor_lock_down(run->spool->path, run->scratch.top,
					  run->config->require_sandbox, err);
	if (rc == RC_OK)
		rc = index_open(&run->index, run->spool, err);
out:
	free(fallback);
	free(spool);
	if (rc != RC_OK)
		return rc;
	pool_init(&run->pool, &run->loop, &run->scratch, run->jobs, mode, &run->launcher, run->config);
	run->pool.each_pipeline = run_each_pipeline;
	run->pool.arg = run;
	intake_init(&run->intake, run);
	status_init(&run->status, run->spool, run->lease.dir, run->lease.name, run->options->quiet);
	try_gate(run);
	run_reap_workers(run);
	if (run_load_tokens(run))
		run_sweep_attempts(run);
	run->last_activity = loop_now();
	return RC_OK;
}

/* Free room below the watermark, or nothing to write with: wait. */
static void look_at_disk(struct run *run, double now)
{
	struct statvfs room;
	uint64_t low, free_bytes;

	if (now < run->next_disk_look || fstatvfs(run->spool->out, &room))
		return;
	run->next_disk_look = now + 2;
	free_bytes = (uint64_t)room.f_bavail * room.f_frsize;
	low = min_u64(run->config->free_mebibytes << 20,
		      (uint64_t)room.f_blocks * room.f_frsize / 20);
	if (free_bytes < low) {
		run_disk_full(run, "the spool has too little room left");
	} else if (run->disk_full) {
		log_info("there is room again; going on");
		run->disk_full = false;
		run->intake.rescan = true;
	}
}

static void scan_when_due(struct run *run, double now)
{
	struct intake *in = &run->intake;
	bool due = now >= run->next_scan || in->urgent || (in->rescan && now >= run->next_rescan) ||
		   (in->more && !intake_waiting(in));

	if (!due || run->draining)
		return;
	try_gate(run);
	/* Tokens come and go behind our back: other workers', held and released ones. */
	if (!run_load_tokens(run)) {
		/* A document whose token was not seen would be admitted a second time. */
		in->urgent = false;
		in->rescan = true;
		run->next_rescan = run->next_scan = now + SCAN_PAUSE_SECONDS;
		return;
	}
	if (run->gatekeeper)
		intake_scan(run);
	else
		in->rescan = in->urgent = false;
	if (!run->tokens_known)
		in->rescan = true;
	run->last_scan = now;
	/* At most a tenth of the time. */
	run->next_rescan = now + fmax(SCAN_PAUSE_SECONDS, 10 * (loop_now() - now));
	run->next_scan = now + (double)(run->gatekeeper ? run->config->rescan_seconds : 2);
}

/* Publications of this turn: sync each folder once, then let go of what they came from. */
static void acknowledge(struct run *run)
{
	const char *synced = NULL;

	for (struct document *d = run->documents; d; d = d->next) {
		const char *slash;

		if (d->closed || d->phase != DOC_WRITTEN)
			continue;
		slash = strrchr(d->final, '/');
		if (!synced || !slash || strncmp(synced, d->final, (size_t)(slash - d->final) + 1) ||
		    strchr(synced + (slash - d->final) + 1, '/'))
			publish_sync(run, d->final);
		synced = d->final;
	}
	for (struct document *d = run->documents; d; d = d->next) {
		if (d->closed || d->phase != DOC_WRITTEN)
			continue;
		unpacking_finish(d);
		if (!d->closed)
			document_acknowledge(d);
		run->last_activity = loop_now();
	}
}

static double turn_documents(struct run *run, double now)
{
	double next = INFINITY;

	for (struct document **link = &run->documents; *link;) {
		struct document *d = *link;

		next = fmin(next, document_turn(d, now));
		if (run->draining || run->disk_full)
			document_drain(d);
		if (d->closed) {
			*link = d->next;
			document_release(d);
			next = now;
		} else {
			link = &d->next;
		}
	}
	return next;
}

static void show(struct run *run, double now)
{
	json_t *active = json_array(), *recognisers = pool_status(&run->pool);
	const char *state = run->draining    ? "draining"
			    : run->disk_full ? "paused:disk"
					     : "running";

	run->counts.settling = intake_waiting(&run->intake);
	run->counts.ready = queue_length(&run->queue);
	run->counts.active = 0;
	for (struct document *d = run->documents; d; d = d->next) {
		struct buf name;

		run->counts.active++;
		buf_init(&name, 1 << 16);
		name_escape(&name, d->token.result, strlen(d->token.result));
		json_array_append_new(active, json_pack("{s:s, s:i, s:i}", "path", name.data, "page",
							(int)d->finished, "pages", (int)d->pages));
		buf_release(&name);
	}
	status_tick(&run->status, state, &run->counts, active, recognisers, now);
	notify_tick(&run->notify, run->status.summary, now);
	json_decref(active);
	json_decref(recognisers);
}

/* Nothing left that this worker could do now or in a moment. */
static bool drained(struct run *run)
{
	if (run->documents || queue_length(&run->queue) || intake_waiting(&run->intake) ||
	    !run->tokens_known || run->strays || run->counts.deferred || run->intake.more ||
	    run->intake.urgent || run->intake.rescan || lease_in_doubt(&run->lease))
		return false;
	/* Whoever admits documents may be about to: it looks for them as often as this. */
	if (!run->gatekeeper && !run->draining &&
	    loop_now() < run->last_activity + (double)run->config->rescan_seconds)
		return false;
	if (run->last_scan > run->last_activity || run->draining)
		return true;
	/* One more look, for what came, and who died, while the last was read. */
	run->intake.urgent = true;
	run->next_reap = 0;
	return false;
}

/* Lanes of a pipeline whose recogniser is broken are left for another run. */
static void close_lanes(struct run *run)
{
	for (size_t i = 0; i < run->queue.n_lanes; i++) {
		struct queue_lane *lane = &run->queue.lanes[i];
		struct readers readers;
		struct pipeline p;
		struct err err;

		if (lane->closed || lane->first == lane->end ||
		    run_pipeline(run, lane->pipeline, NULL, &p, &err) != RC_OK)
			continue;
		readers = readers_of(&run->pool, &p);
		lane->closed = readers_state(&readers) == ENGINE_BROKEN;
		pipeline_release(&p);
	}
}

static bool all_closed(const struct queue *q)
{
	for (size_t i = 0; i < q->n_lanes; i++)
		if (!q->lanes[i].closed && q->lanes[i].first < q->lanes[i].end)
			return false;
	return true;
}

static bool has_broken_engine(const struct pool *p)
{
	for (size_t i = 0; i < p->n_engines; i++)
		if (p->engines[i]->state == ENGINE_BROKEN)
			return true;
	return false;
}

static void work(struct run *run)
{
	while (!run->stop) {
		double now = loop_now(), next;

		lease_beat(&run->lease, now);
		if (now >= run->next_reap) {
			run_reap_workers(run);
			run->next_reap = now + run->lease.lease_seconds / 3;
		}
		if (now >= run->next_deferred) {
			run->counts.deferred = run_wake_deferred(run);
			if (run->strays && !run->disk_full)
				run_take_back_strays(run);
			run->next_deferred = now + 1;
		}
		look_at_disk(run, now);
		scan_when_due(run, now);
		next = intake_turn(run, now);
		if (has_broken_engine(&run->pool))
			close_lanes(run);
		run_claim(run);
		run_ask_pages(run);
		run->pool.expected = intake_waiting(&run->intake) + queue_length(&run->queue);
		next = fmin(next, pool_turn(&run->pool, now));
		acknowledge(run);
		next = fmin(next, turn_documents(run, now));
		show(run, now);
		if (run->options->until && time(NULL) >= run->options->until && !run->draining) {
			log_info("the window is over; finishing the pages in hand");
			run->draining = true;
		}
		if (run->draining && !run->documents)
			break;
		if (run->options->once && (drained(run) || (!run->documents && all_closed(&run->queue) &&
							    queue_length(&run->queue))))
			break;
		next = fmin(next, now + 1);
		if (run->intake.rescan && !run->draining)
			next = fmin(next, run->next_rescan);
		if (run->intake.urgent && !run->draining)
			next = now;
		loop_turn(&run->loop, next <= now ? 0 : (int)ceil((next - now) * 1000));
	}
}

static void tear_down(struct run *run)
{
	notify_stopping(&run->notify);
	while (run->documents) {
		struct document *d = run->documents;

		document_give_back(d);
		run->documents = d->next;
		document_release(d);
	}
	intake_abandon(run);
	show(run, loop_now());
	status_finish(&run->status);
	pool_release(&run->pool);
	launcher_stop(&run->launcher);
	intake_release(&run->intake, run);
	queue_release(&run->queue);
	free(run->parked.slots);
	index_close(&run->index);
	scratch_close(&run->scratch);
	lease_drop(&run->lease);
	notify_close(&run->notify);
	if (run->gate_fd >= 0)
		close(run->gate_fd);
	run_release_pipelines(run);
}

/* A run that was to end when all is done and was told to stop before cannot know what has arrived
 * since, here or on another machine. */
static int exit_code(const struct run *run, bool remains)
{
	if (!run->stop && (remains || (run->signal && run->options->once)))
		return EX_WORK_REMAINS;
	if (run->signal)
		return 128 + run->signal;
	return run->counts.failed || run->counts.flagged || run->intake.n_passed_over
		       ? EX_SOME_FAILED
		       : EX_ALL_DONE;
}

int supervisor_run(struct spool *spool, const struct config *config,
		   const struct run_options *options)
{
	struct run run = { .spool = spool, .config = config, .options = options };
	struct signals signals = { .run = &run };
	bool remains;
	struct err err;
	int code;

	run.jobs = options->jobs ? options->jobs : (unsigned)config->jobs;
	if (!run.jobs)
		run.jobs = (unsigned)max_u64(1, (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	/* Before there is anything to leave behind. */
	signals.fd = signal_fd();
	if (set_up(&run, &err) != RC_OK) {
		close(signals.fd);
		launcher_stop(&run.launcher);
		scratch_close(&run.scratch);
		log_error("%s", err.text);
		return EX_CONFIGURATION;
	}
	loop_watch(&run.loop, signals.fd, on_signal, &signals);
	notify_ready(&run.notify);
	work(&run);
	remains = queue_length(&run.queue) || run.documents || intake_waiting(&run.intake) ||
		  run.counts.deferred || run.parked.n || run.intake.unread;
	code = exit_code(&run, remains);
	tear_down(&run);
	loop_unwatch(&run.loop, signals.fd);
	loop_release(&run.loop);
	close(signals.fd);
	return code;
}
