/* SPDX-License-Identifier: MIT
 *
 * keeper: a process between the supervisor and a program that is not ours, so that nothing of the program
 * outlives it.
 *
 * A group can be left and a parent can be outlived; what a program starts and cuts off from itself becomes
 * the child of its nearest "subreaper", which is the keeper.  It holds the end of a leash.  When the leash
 * is let go (on purpose, or because whoever held it has died), or when the program has ended, the keeper
 * kills all that is left, waits until that is gone, and ends as the program did.
 */
#ifndef RUNNER_KEEPER_H
#define RUNNER_KEEPER_H

/* In a process that is to become a program: from here on there are two. Returns in the program's, which
 * dies with its keeper; the keeper's process goes into keeper_run(). `leash` is closed in the program's.
 * at_end: a command (NULL-terminated, or NULL) that is run when the program has ended or has to; with the
 * environment of this process.  report: a descriptor that the wait status is written to; or -1. */
void keeper_split(int leash, const char *const *at_end, int report);

/* What a process that goes on as a copy of its parent shows in /proc/PID/environ, and is no matter of its. */
void keeper_forget_environment(void);

#endif
