/* SPDX-License-Identifier: MIT
 *
 * The tests of the engine on a model of experts in int4; but for those of how a reply ends, which need a
 * model that repeats itself.
 */
#define ENGINE_SOBER
#define ENGINE_MODEL "qwen3-vl-moe-awq"
#include "test-engine.c"
