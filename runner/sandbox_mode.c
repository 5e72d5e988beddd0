/* SPDX-License-Identifier: MIT
 *
 * What --sandbox=on|try|off means to every program that takes it.
 */
#include "sandbox.h"
#include "base/num.h"

#include <string.h>

static const char *const words[] = { "on", "try", "off" };

enum sandbox_mode sandbox_mode_parse(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcmp(word, words[i]))
			return (enum sandbox_mode)i;
	die(EX_USAGE_ERROR, "--sandbox is on, try or off, not \"%s\"", word);
}

enum sandbox_mode sandbox_mode_of(bool require)
{
#ifdef __SANITIZE_ADDRESS__
	return (void)require, SANDBOX_OFF; /* the two cannot live in one process */
#else
	return require ? SANDBOX_ON : SANDBOX_TRY;
#endif
}

const char *sandbox_mode_option(enum sandbox_mode mode)
{
	static const char *const options[] = { "--sandbox=on", "--sandbox=try", "--sandbox=off" };

	return options[mode];
}

void sandbox_enter_or_die(enum sandbox_kind kind, const struct sandbox_rules *rules,
			  enum sandbox_mode mode)
{
	struct err err;

	if (mode != SANDBOX_OFF &&
	    sandbox_enter(kind, rules, mode == SANDBOX_ON, NULL, &err) != RC_OK)
		die(EX_CONFIGURATION, "sandbox: %s", err.text);
}
