/* SPDX-License-Identifier: MIT
 *
 * Tokens: names, content, and walking over them (spool.h).
 */
#include "spool.h"
#include "durable.h"
#include "base/lines.h"
#include "base/name.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TOKEN_MAX   (1u << 20)
#define TIME_LENGTH 22

static bool is_hex(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	return true;
}

static bool is_time(const char *s)
{
	for (size_t i = 0; i < TIME_LENGTH; i++)
		if (i == 8 ? s[i] != 'T' : i == 15 ? s[i] != '.' : (s[i] < '0' || s[i] > '9'))
			return false;
	return true;
}

bool token_name_parse(const char *name, char key[KEY_SIZE], unsigned *attempt,
		      uint64_t *path_hash)
{
	const char *identity = name + TIME_LENGTH + 1;
	const char *path = identity + 17;
	uint64_t n;

	if (strnlen(name, TOKEN_NAME_SIZE) < KEY_SIZE + 2 || !is_time(name) ||
	    identity[-1] != '-' || !is_hex(identity, 16) || path[-1] != '-' || !is_hex(path, 16) ||
	    path[16] != '.' || path[17] != 'a' || !parse_u64(path + 18, ATTEMPTS_MAX, &n))
		return false;
	memcpy(key, name, KEY_SIZE - 1);
	key[KEY_SIZE - 1] = '\0';
	*attempt = (unsigned)n;
	if (path_hash)
		*path_hash = strtoull(path, NULL, 16);
	return true;
}

void token_name(const struct token *t, char name[TOKEN_NAME_SIZE])
{
	snprintf(name, TOKEN_NAME_SIZE, "%s.a%u", t->key, t->attempt);
}

uint64_t token_path_hash(enum token_source source, const char *file)
{
	struct sha256_ctx ctx;
	uint8_t digest[8];
	uint64_t h = 0;

	sha256_init(&ctx);
	sha256_update(&ctx, 1, (const uint8_t *)(source == SOURCE_IN ? "i" : "m"));
	sha256_update(&ctx, strlen(file), (const uint8_t *)file);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		h = h << 8 | digest[i];
	return h;
}

uint64_t key_time(const char *key)
{
	struct tm tm = { 0 };
	unsigned us = 0;

	if (sscanf(key, "%4d%2d%2dT%2d%2d%2d.%6u", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
		   &tm.tm_min, &tm.tm_sec, &us) != 7)
		BUG("key %s", key);
	tm.tm_year -= 1900;
	tm.tm_mon--;
	return (uint64_t)timegm(&tm) * 1000000 + us;
}

void key_make(char key[KEY_SIZE], uint64_t time_us, uint64_t identity, uint64_t path)
{
	time_t seconds = (time_t)(time_us / 1000000);
	char stamp[16];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm);
	snprintf(key, KEY_SIZE, "%.15s.%06u-%016llx-%016llx", stamp, (unsigned)(time_us % 1000000),
		 (unsigned long long)identity, (unsigned long long)path);
}

void token_make_key(struct token *t, uint64_t arrived_us)
{
	char identity[17];
	const char *slash = strchr(t->file, '/');

	snprintf(identity, sizeof(identity), "%.16s", t->identity);
	/* A member has come with its archive, whose key its folder is called by. */
	if (t->source == SOURCE_MEMBER && slash && is_time(t->file))
		arrived_us = key_time(t->file) + strtoull(slash + 1, NULL, 10);
	key_make(t->key, arrived_us, strtoull(identity, NULL, 16),
		 token_path_hash(t->source, t->file));
}

void token_release(struct token *t)
{
	free(t->pipeline);
	free(t->file);
	free(t->result);
	json_decref(t->ticket);
	json_decref(t->archive);
	json_decref(t->failures);
	*t = (struct token){ 0 };
}

static char *encoded(const char *bytes)
{
	struct buf b;

	buf_init(&b, 1 << 16);
	name_encode(&b, bytes, strlen(bytes));
	return buf_detach(&b);
}

/* NULL when it is not a valid encoding. */
static char *decoded(const char *text)
{
	struct buf b;

	buf_init(&b, 1 << 16);
	if (name_decode(&b, text, strlen(text)))
		return buf_detach(&b);
	buf_release(&b);
	return NULL;
}

enum rc token_write(int dirfd, const struct token *t, struct err *err)
{
	char name[TOKEN_NAME_SIZE];
	char *file = encoded(t->file), *result = encoded(t->result);
	json_t *json = json_pack(
		"{s:i, s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:O?, s:O?, s:O?}", "token", 1, "key",
		t->key, "priority", (int)t->priority, "pipeline", t->pipeline, "source",
		t->source == SOURCE_IN ? "in" : "member", "file", file, "result", result, "sha256",
		t->sha256, "bytes", (json_int_t)t->bytes, "mtime_ns", (json_int_t)t->mtime_ns, "ticket",
		t->ticket, "archive", t->archive, "failures", t->failures);
	char *text = NULL;
	enum rc rc;

	if (!json || json_object_set_new(json, "identity", json_string(t->identity)) ||
	    !(text = json_dumps(json, JSON_COMPACT)))
		BUG("token of %s cannot be packed", t->key);
	token_name(t, name);
	rc = durable_write(dirfd, name, text, strlen(text), false, err);
	free(text);
	json_decref(json);
	free(file);
	free(result);
	return rc;
}

static bool unpack(struct token *t, json_t *json)
{
	const char *key, *pipeline, *source, *file, *result, *sha256, *identity;
	json_int_t bytes, mtime_ns;
	json_t *ticket = NULL, *archive = NULL, *failures = NULL;
	int version, priority;

	if (json_unpack(json,
			"{s:i, s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s?o, s?o, s?o}", "token",
			&version, "key", &key, "priority", &priority, "pipeline", &pipeline, "source",
			&source, "file", &file, "result", &result, "sha256", &sha256, "identity", &identity,
			"bytes", &bytes, "mtime_ns", &mtime_ns, "ticket", &ticket, "archive", &archive,
			"failures", &failures) ||
	    version != 1 || strcmp(key, t->key) || strlen(sha256) != 64 || strlen(identity) != 64 ||
	    priority < 0 || priority >= PRIORITIES)
		return false;
	t->priority = (unsigned)priority;
	t->source = strcmp(source, "member") ? SOURCE_IN : SOURCE_MEMBER;
	t->file = decoded(file);
	t->result = decoded(result);
	t->pipeline = xstrdup(pipeline);
	strcpy(t->sha256, sha256);
	strcpy(t->identity, identity);
	t->bytes = (uint64_t)bytes;
	t->mtime_ns = mtime_ns;
	t->ticket = json_is_object(ticket) ? json_incref(ticket) : NULL;
	t->archive = json_is_object(archive) ? json_incref(archive) : NULL;
	t->failures = json_is_array(failures) ? json_incref(failures) : NULL;
	return t->file && t->result;
}

enum rc token_read(int dirfd, const char *name, struct token *t, struct err *err)
{
	json_t *json = NULL;
	enum rc rc = RC_OK;
	size_t len;
	char *text;

	*t = (struct token){ 0 };
	if (!token_name_parse(name, t->key, &t->attempt, NULL))
		return err_set(err, RC_FAILED, "token", "%.80s is not the name of a token", name);
	text = read_whole(dirfd, name, TOKEN_MAX, &len);
	if (!text && errno != EINVAL && errno != EFBIG)
		return err_errno(err, RC_FAILED, errno == ENOENT ? "vanished" : "unreadable",
				 "read token %s", name);
	if (text)
		json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json || !unpack(t, json)) {
		token_release(t);
		rc = err_set(err, RC_FAILED, "token", "token %s cannot be read", name);
	}
	json_decref(json);
	free(text);
	return rc;
}

int spool_ready_dir(const struct spool *s, unsigned priority, const char *pipeline,
		    struct err *err)
{
	char path[80];

	snprintf(path, sizeof(path), "%u/%.64s", priority, pipeline);
	return durable_mkdirs(s->ready, path, err);
}

const char *token_state_name(enum token_state state)
{
	static const char *const names[] = { "ready", "active", "deferred", "hold" };

	return state < TOKEN_STATES ? names[state] : "?";
}

struct walk {
	bool (*visit)(const struct token_entry *entry, void *arg);
	void *arg;
	bool stopped;
	int error; /* what kept us from seeing all */
};

/* Visit the entries of one folder; `each` gets every name that is not hidden. */
static void each_name(int parent, const char *name,
		      void (*each)(int dirfd, const char *entry, struct walk *w, void *ctx),
		      struct walk *w, void *ctx)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		/* Lanes and workers come and go. */
		if (errno != ENOENT && errno != ENOTDIR)
			w->error = errno;
		if (fd >= 0)
			close(fd);
		return;
	}
	errno = 0;
	for (struct dirent *e; !w->stopped && (e = readdir(dir)); errno = 0)
		if (e->d_name[0] != '.')
			each(fd, e->d_name, w, ctx);
	if (errno && !w->stopped)
		w->error = errno;
	closedir(dir);
}

static void visit_token(int dirfd, const char *name, struct walk *w, void *ctx)
{
	struct token_entry entry = *(struct token_entry *)ctx;
	char key[KEY_SIZE];

	if (!token_name_parse(name, key, &entry.attempt, &entry.path_hash))
		return;
	entry.dirfd = dirfd;
	entry.name = name;
	entry.key = key;
	w->stopped = !w->visit(&entry, w->arg);
}

static void visit_worker(int dirfd, const char *name, struct walk *w, void *ctx)
{
	struct token_entry entry = { .state = TOKEN_ACTIVE, .worker = name };

	(void)ctx;
	each_name(dirfd, name, visit_token, w, &entry);
}

static void visit_ready_pipeline(int dirfd, const char *name, struct walk *w, void *ctx)
{
	struct token_entry entry = { .state = TOKEN_READY,
				     .pipeline = name,
				     .priority = *(const unsigned *)ctx };

	each_name(dirfd, name, visit_token, w, &entry);
}

enum rc spool_walk_tokens(const struct spool *s, unsigned states,
			  bool (*visit)(const struct token_entry *entry, void *arg), void *arg,
			  struct err *err)
{
	struct walk w = { .visit = visit, .arg = arg };
	struct token_entry deferred = { .state = TOKEN_DEFERRED }, hold = { .state = TOKEN_HOLD };

	for (unsigned p = 0; p < PRIORITIES && (states & 1u << TOKEN_READY); p++) {
		char name[2] = { (char)('0' + p), '\0' };

		each_name(s->ready, name, visit_ready_pipeline, &w, &p);
	}
	if (states & 1u << TOKEN_ACTIVE)
		each_name(s->active, ".", visit_worker, &w, NULL);
	if (states & 1u << TOKEN_DEFERRED)
		each_name(s->deferred, ".", visit_token, &w, &deferred);
	if (states & 1u << TOKEN_HOLD)
		each_name(s->hold, ".", visit_token, &w, &hold);
	errno = w.error;
	return w.error ? err_errno(err, RC_RETRY, "system", "look through the tokens") : RC_OK;
}
