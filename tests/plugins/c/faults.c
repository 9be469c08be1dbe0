/* Libraries that are not what they should be; FAULT says how. Compiled by tests/plugin.rs. */
#include "brillm_plugin.h"

#include <stdlib.h>
#include <string.h>

#define TEXT(literal) { literal, sizeof(literal) - 1 }

static brl_status create(const brl_host *host, brl_call *call, brl_str config, brl_self **out) {
  (void)host;
  (void)call;
  (void)config;
  *out = malloc(8);
  return BRL_OK;
}

static void destroy(brl_self *self) { free(self); }

#if FAULT != 4
static brl_status resist(brl_self *self, brl_call *call, const brl_fan *fan, brl_f32s resistance) {
  (void)self;
  (void)call;
  (void)fan;
#if FAULT == 1 /* writes one number too many */
  resistance.ptr[resistance.len] = 1.0f;
  return BRL_OK;
#elif FAULT == 2 /* reads what is not there */
  (void)resistance;
  return *(volatile brl_status *)8;
#elif FAULT == 3 /* a status that does not exist */
  (void)resistance;
  return 77;
#else
  (void)resistance;
  return BRL_DECLINED;
#endif
}

#endif

#if FAULT == 4 /* a table without its function */
static const brl_edge table = { sizeof(brl_edge), 0, NULL };
#else
static const brl_edge table = { sizeof(brl_edge), 0, resist };
#endif

static const void *hook(brl_str id) {
  return id.len == 6 && memcmp(id.ptr, "edge/1", 6) == 0 ? &table : NULL;
}

static const brl_plugin plugin = {
  sizeof(brl_plugin), TEXT("org.brillm.test.fault"), TEXT("fault"), TEXT("1.0.0"), TEXT("MIT"), TEXT("Is wrong."), TEXT(""),
  create, destroy, hook,
};
static const brl_plugin *const plugins[] = { &plugin };

#if FAULT == 5 /* another major version */
static const brl_entry entry = { BRL_MAGIC, 2, 3, 1, NULL };
#elif FAULT == 6 /* another program's plugin */
static const brl_entry entry = { 1234, BRL_ABI_MAJOR, BRL_ABI_MINOR, 1, plugins };
#else
static const brl_entry entry = { BRL_MAGIC, BRL_ABI_MAJOR, BRL_ABI_MINOR, 1, plugins };
#endif

#if FAULT == 7 /* no entry at all */
BRL_EXPORT const brl_entry *other_entry(void) { return plugins[0] != NULL ? &entry : NULL; }
#else
const brl_entry *brl_plugin_entry(void) { return plugins[0] != NULL ? &entry : NULL; }
#endif
