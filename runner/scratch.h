/* SPDX-License-Identifier: MIT
 *
 * scratch: page images on their way from the decoder to the recogniser.
 *
 * A private folder on tmpfs. In it, pages/ with one sub-folder a document and one file a slot, and beside
 * that the temporary folders of foreign recognisers, none of which can see another's.  The supervisor
 * makes the files, gives them their exact size with every page of memory reserved (a decoder that
 * writes can so never meet a full disk), and cuts them to nothing when the page has been read.
 * The sum of all slots stays below a budget.
 */
#ifndef RUNNER_SCRATCH_H
#define RUNNER_SCRATCH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct scratch {
	char *path; /* of the pages, absolute */
	int fd;	    /* the same */
	char *top;  /* of all */
	int top_fd, mark; /* the mark in it is locked: this run lives */
	uint64_t budget, used; /* bytes */
	unsigned next;         /* number of the next document's folder */
	unsigned next_private;
};

/* One that is not open. */
#define SCRATCH_CLOSED { .fd = -1, .top_fd = -1, .mark = -1 }

struct slot {
	int fd;
	uint64_t bytes; /* reserved now */
};

/* Make the folder in `where`, or where memory is when NULL (/dev/shm; else `fallback`, on disk).
 * Folders that killed runs left there are removed, also by scratch_close(). budget 0: half of the room there is. */
enum rc scratch_open(struct scratch *s, const char *where, const char *fallback, uint64_t budget,
		     struct err *err);
void scratch_close(struct scratch *s);

/* Folder with n empty slots for one document; its number in *folder. The caller closes slots with
 * scratch_drop_folder(). */
enum rc scratch_add_folder(struct scratch *s, unsigned *folder, struct slot *slots, size_t n,
			   struct err *err);
void scratch_drop_folder(struct scratch *s, unsigned folder, struct slot *slots, size_t n);

/* Give a slot its size. RC_RETRY when the budget or the memory is used up by other pages, RC_FAILED
 * (limit:scratch-mebibytes) when it would not fit even alone. */
enum rc scratch_reserve(struct scratch *s, struct slot *slot, uint64_t bytes, struct err *err);
/* Cut it to what was written (less than reserved). */
void scratch_trim(struct scratch *s, struct slot *slot, uint64_t bytes);
/* Empty it. */
void scratch_free(struct scratch *s, struct slot *slot);

/* A folder for one process alone, to write in: its path, which the caller frees. NULL and err. */
char *scratch_add_private(struct scratch *s, struct err *err);
/* Its path is freed. */
void scratch_drop_private(struct scratch *s, char *path);
/* Bytes in it; UINT64_MAX where there are too many files to count. */
uint64_t scratch_private_bytes(const struct scratch *s, const char *path);

/* "FOLDER/NN.pnm", relative to the scratch folder. */
void scratch_slot_name(unsigned folder, size_t slot, char name[32]);

#endif
