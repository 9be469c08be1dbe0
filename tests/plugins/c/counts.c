/* A probe that reports and logs how often its library was entered, its instances, and the host tables it has seen. */
#include "brillm_plugin.h"

#include <stdio.h>
#include <stdlib.h>

#include <string.h>

#define TEXT(literal) { literal, sizeof(literal) - 1 }
#define MOST 64

static unsigned entries, instances, hosts;
static const brl_host *seen[MOST];

/* Writes the counts into `text` and returns them. */
static brl_str counts(char *text, size_t size) {
  const int length =
      snprintf(text, size, "{\"entries\":%u,\"instances\":%u,\"hosts\":%u}", entries, instances, hosts);
  const brl_str record = { text, (uint64_t)length };
  return record;
}

static brl_status create(const brl_host *host, brl_call *call, brl_str config, brl_self **out) {
  unsigned at = 0;
  (void)call;
  (void)config;
  while (at < hosts && seen[at] != host) {
    at++;
  }
  if (at == hosts && hosts < MOST) {
    seen[hosts++] = host;
  }
  instances++;
  char text[96];
  host->log(host->ctx, BRL_LOG_INFO, counts(text, sizeof text));
  *out = malloc(8);
  return BRL_OK;
}

static void destroy(brl_self *self) { free(self); }

static uint64_t taps(brl_self *self) {
  (void)self;
  return 0;
}

static brl_status see(brl_self *self, brl_call *call, const brl_activations *activations) {
  (void)self;
  (void)call;
  (void)activations;
  return BRL_OK;
}

static brl_status report(brl_self *self, brl_call *call, const brl_sink *json) {
  char text[96];
  (void)self;
  (void)call;
  return json->write(json->ctx, counts(text, sizeof text));
}

static const brl_probe table = { sizeof(brl_probe), 0, taps, see, report, NULL };

static const void *hook(brl_str id) {
  return id.len == 7 && memcmp(id.ptr, "probe/1", 7) == 0 ? &table : NULL;
}

static const brl_plugin plugin = {
  sizeof(brl_plugin), TEXT("org.brillm.test.counts"), TEXT("counts"), TEXT("1.0.0"), TEXT("MIT"), TEXT("Counts."), TEXT(""),
  create, destroy, hook,
};
static const brl_plugin *const plugins[] = { &plugin };
static const brl_entry entry = { BRL_MAGIC, BRL_ABI_MAJOR, BRL_ABI_MINOR, 1, plugins };

const brl_entry *brl_plugin_entry(void) {
  entries++;
  return &entry;
}
