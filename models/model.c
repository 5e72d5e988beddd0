/* SPDX-License-Identifier: MIT
 *
 * Opens a model folder as a whole.
 */
#include "model.h"

#include "weights/awq.h"

static enum rc load(struct model *m, compute_opener *open, const struct compute_options *options,
		    struct pool *pool, struct err *err)
{
	enum rc rc;

	weights_set_group(m->weights, m->config.awq_group);
	rc = open(&m->compute, &m->config, m->weights, options, pool, err);
	if (rc == RC_OK && !options->plain)
		rc = weights_all_taken(m->weights, err);
	return rc;
}

enum rc model_open(struct model *m, const char *folder, compute_opener *open,
		   const struct compute_options *options, struct pool *pool, struct err *err)
{
	enum rc rc;

	*m = (struct model){0};
	rc = model_config_load(&m->config, folder, err);
	if (rc == RC_OK)
		rc = weights_open(&m->weights, folder, err);
	if (rc == RC_OK)
		rc = load(m, open, options, pool, err);
	if (rc == RC_OK)
		weights_compare_awq(m->weights, folder);
	else
		model_close(m);
	return rc;
}

enum rc model_open_config(struct model *m, compute_opener *open, const struct compute_options *options,
			  struct pool *pool, struct err *err)
{
	enum rc rc;

	m->compute = NULL;
	m->weights = weights_random();
	rc = load(m, open, options, pool, err);
	if (rc != RC_OK)
		model_close(m);
	return rc;
}

enum rc model_adapt(struct model *m, const char *folder, struct err *err)
{
	struct adapter *adapter;
	enum rc rc;

	if (m->adapter_count == ADAPTERS_MAX)
		return err_set(err, RC_FATAL, "adapter", "more than %d adapters", ADAPTERS_MAX);
	rc = adapter_open(&adapter, folder, err);
	if (rc != RC_OK)
		return rc;
	rc = m->compute->calls->adapt(m->compute, adapter, err);
	adapter_close(adapter);
	m->adapter_count += rc == RC_OK;
	return rc;
}

void model_close(struct model *m)
{
	if (m->compute)
		m->compute->calls->close(m->compute);
	weights_close(m->weights);
	*m = (struct model){0};
}

unsigned model_positions(size_t n, const struct model_page *pages, size_t count, unsigned *position)
{
	unsigned next = 0;
	size_t page = 0;

	for (size_t i = 0; i < n;) {
		const struct model_page *p =
			page < count && pages[page].first == i ? &pages[page] : NULL;
		size_t tokens = p ? (size_t)p->rows * p->columns : 1;

		if (tokens > n - i)
			BUG("page %zu goes on behind the prompt", page);
		for (size_t k = 0; k < tokens; k++) {
			unsigned *at = position + 3 * (i + k);

			at[0] = next;
			at[1] = next + (p ? (unsigned)(k / p->columns) : 0);
			at[2] = next + (p ? (unsigned)(k % p->columns) : 0);
		}
		next += !p ? 1 : p->rows > p->columns ? p->rows : p->columns;
		page += p != NULL;
		i += tokens;
	}
	return next;
}
