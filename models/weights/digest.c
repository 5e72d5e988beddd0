/* SPDX-License-Identifier: MIT
 *
 * Shares out the pieces of all files (or, where whole files are hashed as well, the files) among
 * the threads of a pool. Files are read, not mapped: one that is cut short meanwhile is an error,
 * not a SIGBUS.
 */
#include "weights/digest.h"

#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE (16u << 20)
#define BLOCK (1u << 20)

struct work {
	const char *folder;
	struct digest *v;
	size_t n;
	size_t *first; /* of each file's pieces among all; n + 1 of them */
	uint8_t (*digests)[SHA256_DIGEST_SIZE];
	uint8_t *memory; /* a BLOCK for each thread */
	struct progress progress;
};

struct size_text size_text(uint64_t bytes)
{
	static const struct {
		double unit;
		const char *name;
	} units[] = {{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}};
	struct size_text t;

	snprintf(t.s, sizeof(t.s), "%llu bytes", (unsigned long long)bytes);
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if ((double)bytes >= units[i].unit) {
			snprintf(t.s, sizeof(t.s), "%.3g %s", (double)bytes / units[i].unit,
				 units[i].name);
			break;
		}
	}
	return t;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void progress_add(struct progress *p, uint64_t bytes)
{
	uint64_t done = atomic_fetch_add(&p->done, bytes) + bytes;
	double t;

	if (!p->what || atomic_flag_test_and_set(&p->drawing))
		return;
	t = now();
	if (t >= p->drawn + 0.2) {
		p->drawn = t;
		fprintf(stderr, "\r%s: %llu %% of %s\x1b[K", p->what,
			(unsigned long long)(done * 100 / max_u64(p->total, 1)),
			size_text(p->total).s);
	}
	atomic_flag_clear(&p->drawing);
}

void progress_end(struct progress *p)
{
	if (p->drawn > 0)
		fputs("\r\x1b[K", stderr);
}

/* Hash [at, at + size) into one context or two. 0, or errno. */
static int hash_range(struct work *w, int fd, uint64_t at, uint64_t size, unsigned thread,
		      struct sha256_ctx *piece, struct sha256_ctx *whole)
{
	uint8_t *block = w->memory + (size_t)thread * BLOCK;

	while (size) {
		ssize_t n = pread(fd, block, min_u64(BLOCK, size), (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? errno : ESTALE;
		sha256_update(piece, (size_t)n, block);
		if (whole)
			sha256_update(whole, (size_t)n, block);
		at += (uint64_t)n;
		size -= (uint64_t)n;
		progress_add(&w->progress, (uint64_t)n);
	}
	return 0;
}

static int open_file(const struct work *w, const struct digest *d)
{
	char *path = xasprintf("%s/%s", w->folder, d->path);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	free(path);
	return fd;
}

/* One piece of the file `i`, counted from its own first. */
static void hash_piece(struct work *w, size_t i, size_t piece, int fd, unsigned thread,
		       struct sha256_ctx *whole)
{
	struct digest *d = &w->v[i];
	uint64_t at = (uint64_t)piece * PIECE;
	struct sha256_ctx hash;
	int error;

	sha256_init(&hash);
	error = hash_range(w, fd, at, min_u64(PIECE, d->size - at), thread, &hash, whole);
	if (error)
		__atomic_store_n(&d->error, error, __ATOMIC_RELAXED);
	sha256_digest(&hash, SHA256_DIGEST_SIZE, w->digests[w->first[i] + piece]);
}

/* A file that has grown is not the one it was either. */
static void check_end(struct digest *d, int fd)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0 || (uint64_t)end != d->size)
		__atomic_store_n(&d->error, end < 0 ? errno : ESTALE, __ATOMIC_RELAXED);
}

static void piece_task(void *arg, size_t number, unsigned thread)
{
	struct work *w = arg;
	size_t low = 0, high = w->n;
	int fd;

	while (high - low > 1) { /* the last file that begins at or before it; none is empty here */
		size_t middle = low + (high - low) / 2;

		if (w->first[middle] <= number)
			low = middle;
		else
			high = middle;
	}
	fd = open_file(w, &w->v[low]);
	if (fd < 0) {
		__atomic_store_n(&w->v[low].error, errno, __ATOMIC_RELAXED);
		return;
	}
	hash_piece(w, low, number - w->first[low], fd, thread, NULL);
	if (number + 1 == w->first[low + 1])
		check_end(&w->v[low], fd);
	close(fd);
}

static void file_task(void *arg, size_t i, unsigned thread)
{
	struct work *w = arg;
	int fd = open_file(w, &w->v[i]);
	struct sha256_ctx whole;

	if (fd < 0) {
		w->v[i].error = errno;
		return;
	}
	sha256_init(&whole);
	for (size_t k = 0; w->first[i] + k < w->first[i + 1] && !w->v[i].error; k++)
		hash_piece(w, i, k, fd, thread, &whole);
	check_end(&w->v[i], fd);
	sha256_hex(&whole, w->v[i].sha256);
	close(fd);
}

/* Of an empty file there is one piece, of no bytes, so that somebody opens it. */
static size_t pieces_of(uint64_t size)
{
	return size ? (size_t)((size + PIECE - 1) / PIECE) : 1;
}

static void finish(struct work *w)
{
	for (size_t i = 0; i < w->n; i++) {
		size_t n = w->v[i].size ? w->first[i + 1] - w->first[i] : 0;
		struct sha256_ctx all;

		sha256_init(&all);
		sha256_update(&all, n * SHA256_DIGEST_SIZE,
			      (const uint8_t *)w->digests[w->first[i]]);
		sha256_hex(&all, w->v[i].pieces);
	}
	progress_end(&w->progress);
}

void digest_files(const char *folder, struct digest *v, size_t n, enum digest_kind kind,
		  struct pool *pool, const char *what)
{
	struct work w = {.folder = folder, .v = v, .n = n, .progress.what = what};

	w.first = xcalloc(n + 1, sizeof(*w.first));
	for (size_t i = 0; i < n; i++) {
		v[i].error = 0;
		w.first[i + 1] = w.first[i] + pieces_of(v[i].size);
		w.progress.total += v[i].size;
	}
	w.digests = xcalloc(w.first[n] + 1, sizeof(*w.digests));
	w.memory = xmalloc((size_t)pool_threads(pool) * BLOCK);
	if (kind == DIGEST_BOTH)
		pool_run(pool, file_task, &w, n);
	else
		pool_run(pool, piece_task, &w, w.first[n]);
	finish(&w);
	free(w.memory);
	free(w.digests);
	free(w.first);
}

enum rc digest_check(const struct digest *d, struct err *err)
{
	if (!d->error)
		return RC_OK;
	if (d->error == ESTALE)
		return err_set(err, RC_FATAL, "model-file", "%.200s has changed while it was read",
			       d->path);
	errno = d->error;
	return err_errno(err, RC_FATAL, "model-file", "read %.200s", d->path);
}
