/* SPDX-License-Identifier: MIT
 *
 * probe: tries, in earnest, what a process of a kind must be refused.
 *
 * `cloister verify` starts each program of the family with --probe DIR.  For every act the program
 * forks, enters its sandbox with its own rules, and acts; it answers with lines "ACT OUTCOME", where
 * an outcome is ok, the name of an errno or that of a signal, and "descriptors 0 1 2 ...".
 */
#ifndef RUNNER_PROBE_H
#define RUNNER_PROBE_H

#include "base/buf.h"
#include "sandbox.h"

#include <stdbool.h>

/* Enter the sandbox, or exit with EX_CONFIGURATION. */
typedef void probe_enter(const void *arg);

/* What --probe DIR does; returns the exit code. enter NULL: this process is locked already. */
int probe_main(const char *dir, probe_enter *enter, const void *arg);

/* For a process that is locked already and holds what it works with: it asks for a socket itself. Where that does
 * not kill it, it prints "network OUTCOME" and ends. */
void probe_network(void) __attribute__((noreturn));

/* The same lines into `out`. `other` is the process to be left alone. */
enum rc probe_run(const char *dir, int other, probe_enter *enter, const void *arg, struct buf *out,
		  struct err *err);

/* Make the folder that acts are tried on, holding outside/ with a few files; remove it. */
enum rc probe_tree_make(const char *dir, struct err *err);
void probe_tree_remove(const char *dir);

/* Is this outcome, of a kind of process, that of a sandbox? */
bool probe_refused(enum sandbox_kind kind, const char *outcome);
/* May the kind do it? */
bool probe_permits(enum sandbox_kind kind, const char *act);

#endif
