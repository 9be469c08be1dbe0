/* recent: keeps the first tokens (attention sinks) and a window of the latest ones.
 *
 * StreamingLLM (Xiao et al., arXiv 2309.17453) without its re-numbering of positions: slots keep their original
 * ones. All heads of a layer keep the same slots. The smallest plugin, and proof that the header works from C.
 */
#include "brillm_plugin.h"

#include <stdlib.h>
#include <string.h>

#define TEXT(literal) { literal, sizeof(literal) - 1 }

typedef struct recent {
  uint64_t sinks;
  uint64_t window;
  uint64_t slack;
} recent;

/* The host hands out options that it has checked against the schema: a flat object of whole numbers. */
static uint64_t option(brl_str json, const char *key) {
  const size_t length = strlen(key);
  for (uint64_t at = 0; at + length + 2 < json.len; at++) {
    if (json.ptr[at] == '"' && memcmp(json.ptr + at + 1, key, length) == 0 && json.ptr[at + 1 + length] == '"') {
      uint64_t value = 0;
      int digits = 0;
      for (at += length + 2; at < json.len && json.ptr[at] != ',' && json.ptr[at] != '}'; at++) {
        if (json.ptr[at] >= '0' && json.ptr[at] <= '9') {
          value = value * 10 + (uint64_t)(json.ptr[at] - '0');
          digits++;
        }
      }
      return digits > 0 ? value : BRL_ALL;
    }
  }
  return BRL_ALL;
}

static brl_status create(const brl_host *host, brl_call *call, brl_str config, brl_self **out) {
  recent made;
  made.sinks = option(config, "sinks");
  made.window = option(config, "window");
  made.slack = option(config, "slack");
  if (made.sinks == BRL_ALL || made.window == BRL_ALL || made.slack == BRL_ALL || made.window == 0) {
    static const brl_str why = TEXT("the options sinks, window and slack must be whole numbers, window above 0");
    if (host != NULL && BRL_HAS(host, brl_host, fail) && host->fail != NULL) {
      host->fail(call, why);
    }
    return BRL_E_CONFIG;
  }
  recent *self = malloc(sizeof *self);
  if (self == NULL) {
    return BRL_E_INTERNAL;
  }
  *self = made;
  *out = (brl_self *)self;
  return BRL_OK;
}

static void destroy(brl_self *self) { free(self); }

static brl_status keep(brl_self *instance, brl_call *call, const brl_keep_in *question, brl_eviction *kept) {
  const recent *self = (const recent *)instance;
  const uint64_t budget = self->sinks + self->window;
  (void)call;
  if (!BRL_HAS(question, brl_keep_in, positions) || !BRL_HAS(kept, brl_eviction, next_check)) {
    return BRL_E_ARG;
  }
  /* Asked again as soon as the layer holds more than this. */
  kept->next_check = budget + self->slack;
  if (question->positions.len <= budget) {
    return BRL_OK;
  }
  const uint64_t begin = question->length > self->window ? question->length - self->window : 0;
  uint64_t count = 0;
  for (uint64_t slot = 0; slot < question->positions.len; slot++) {
    const uint64_t position = question->positions.ptr[slot];
    if (position < self->sinks || position >= begin) {
      kept->slots.ptr[count++] = (uint32_t)slot;
    }
  }
  kept->slot_count = count;
  kept->heads = 1;
  return BRL_OK;
}

static const brl_kv_keep keep_table = { sizeof(brl_kv_keep), 0, NULL, keep };

static const void *hook(brl_str id) {
  static const char name[] = "kv.keep/1";
  return id.len == sizeof name - 1 && memcmp(id.ptr, name, sizeof name - 1) == 0 ? &keep_table : NULL;
}

static const brl_plugin plugin = {
  sizeof(brl_plugin),
  TEXT("org.brillm.recent"),
  TEXT("recent"),
  TEXT("0.1.0"),
  TEXT("MIT OR Apache-2.0"),
  TEXT("Keeps the first tokens and a window of the latest (StreamingLLM's cache)."),
  TEXT("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
       "\"sinks\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":1000000,\"default\":4,"
       "\"description\":\"first tokens that always stay\"},"
       "\"window\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000000,\"default\":256,"
       "\"description\":\"latest tokens that stay\"},"
       "\"slack\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":1000000,\"default\":0,"
       "\"description\":\"tokens over the budget before slots are freed\"}}}"),
  create,
  destroy,
  hook,
};

static const brl_plugin *const plugins[] = { &plugin };
static const brl_entry entry = { BRL_MAGIC, BRL_ABI_MAJOR, BRL_ABI_MINOR, 1, plugins };

const brl_entry *brl_plugin_entry(void) { return &entry; }
