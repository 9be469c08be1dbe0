/* brillm_plugin.h - the C interface between the brillm engine and its plugins.
 *
 * Generated from plugins/abi; do not edit. Rules that hold for every line:
 *
 *   R1  Memory never changes owner. The callee writes into the caller's buffers or sinks.
 *   R2  Strings are UTF-8 with a length, without a terminating zero, and borrowed until the call returns.
 *   R3  Tables begin with struct_size and only ever grow at the end; every field is a multiple of 8 bytes
 *       wide, so no padding can hide one. Views never change. Read a field of a table only if
 *       BRL_HAS says that the other side knows it.
 *   R4  Nothing unwinds or jumps across the interface. A negative status is an error, BRL_DECLINED no opinion.
 *   R5  Libraries are never unloaded. destroy() frees an instance, not the code.
 *   R6  [static]    any thread, any time, no side effects
 *       [instance]  one call at a time for each instance, on any thread
 *       [shared]    any number of calls at once
 *
 * Native plugins are for 64-bit machines. A library exports one symbol, brl_plugin_entry.
 */

#ifndef BRILLM_PLUGIN_H
#define BRILLM_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define BRL_EXPORT __declspec(dllexport)
#else
#define BRL_EXPORT __attribute__((visibility("default")))
#endif

/* Where a field ends, and whether the table that p points at is known that far. */
#define BRL_END(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))
#define BRL_HAS(p, type, field) ((p)->struct_size >= BRL_END(type, field))

/*
 Elements of a [`brl_tensor`]: 32-bit float.
 */
#define BRL_F32 0

/*
 16-bit float.
 */
#define BRL_F16 1

/*
 Brain float.
 */
#define BRL_BF16 2

/*
 Signed byte.
 */
#define BRL_I8 3

/*
 Unsigned byte.
 */
#define BRL_U8 4

/*
 Unsigned 32-bit number.
 */
#define BRL_U32 5

/*
 First field of [`brl_entry`]: "BRL1" as bytes.
 */
#define BRL_MAGIC 827085378

/*
 The host loads plugins of this major version only.
 */
#define BRL_ABI_MAJOR 1

/*
 Grows when a table or hook is added; never a reason to refuse.
 */
#define BRL_ABI_MINOR 0

/*
 Levels of `log`: an error.
 */
#define BRL_LOG_ERROR 1

/*
 A warning.
 */
#define BRL_LOG_WARN 2

/*
 Information.
 */
#define BRL_LOG_INFO 3

/*
 Details for debugging.
 */
#define BRL_LOG_DEBUG 4

/*
 `brl_kv_plan.needs`: the plugin calls `distances` and `similarity`.
 */
#define BRL_NEED_TRIAL 1

/*
 `brl_keep_needs.needs`: attention summed over all queries so far.
 */
#define BRL_NEED_ACCUMULATED 2

/*
 `brl_keep_needs.needs`: the norm of each key.
 */
#define BRL_NEED_KEY_NORM 4

/*
 Distance of two layers: mean over heads and positions of the Euclidean distance along the head's width.
 */
#define BRL_DISTANCE_MEAN_OF_NORMS 0

/*
 Euclidean distance of all numbers as one vector.
 */
#define BRL_DISTANCE_FLATTENED 1

/*
 1 − cosine of all numbers as one vector.
 */
#define BRL_DISTANCE_COSINE 2

/*
 Euclidean distance of all numbers as one vector, each scaled to length 1.
 */
#define BRL_DISTANCE_NORMALISED 3

/*
 Rows of `column`: the mean over all query heads, one row.
 */
#define BRL_HEADS_ALL 0

/*
 The mean over the query heads of each key-value head.
 */
#define BRL_HEADS_GROUP_MEAN 1

/*
 The maximum over the query heads of each key-value head.
 */
#define BRL_HEADS_GROUP_MAXIMUM 2

/*
 `brl_keep_in.phase`: the layer has processed the prompt.
 */
#define BRL_PHASE_PREFILL 0

/*
 The layer has processed a new token, and holds more slots than `next_check`.
 */
#define BRL_PHASE_DECODE 1

/*
 A count in [`brl_eviction`] that means all, and a `next_check` that means never.
 */
#define BRL_ALL 18446744073709551615ull

/*
 `brl_codec_in.side`: keys.
 */
#define BRL_SIDE_KEY 0

/*
 Values.
 */
#define BRL_SIDE_VALUE 1

/*
 `brl_codec_format.axis`: a group is one channel over several tokens.
 */
#define BRL_AXIS_CHANNEL 0

/*
 A group is one token over several channels.
 */
#define BRL_AXIS_TOKEN 1

/*
 `brl_sample.needs`: hidden states.
 */
#define BRL_NEED_HIDDEN 8

/*
 `brl_sample.needs`: the tokens so far.
 */
#define BRL_NEED_HISTORY 16

/*
 In `brl_canvas.tokens`: a position without a token.
 */
#define BRL_EMPTY 4294967295

/*
 `brl_fill.direction`: from the tokens before it.
 */
#define BRL_FORWARD 0

/*
 From the tokens after it.
 */
#define BRL_BACKWARD 1

/*
 In `tags`: a token without a tag.
 */
#define BRL_UNTAGGED 4294967295

/*
 The signal received by a node: one row per hop. [1, D]
 */
#define BRL_TAP_SIGNAL 1

/*
 The energies of all next nodes: one row per step. [1, V]
 */
#define BRL_TAP_ENERGY 2

/*
 The residual stream after so many layers; 0 is the embedding. [R, D]
 */
#define BRL_TAP_HIDDEN 4

/*
 A transformer's logits. [R, V]
 */
#define BRL_TAP_LOGITS 8

/*
 Queries of a layer, after the rotary embedding. [R, H d]
 */
#define BRL_TAP_QUERY 16

/*
 Keys of a layer, after the rotary embedding. [R, H_kv d]
 */
#define BRL_TAP_KEY 32

/*
 Values of a layer. [R, H_kv d]
 */
#define BRL_TAP_VALUE 64

/*
 Attention of a sequence's last row, averaged over the heads of a layer, by position. [1, T]
 */
#define BRL_TAP_ATTENTION 128

/*
 The attention output of a layer. [R, H d]
 */
#define BRL_TAP_ATTENDED 256

/*
 The residual stream after the final norm. [R, D]
 */
#define BRL_TAP_FINAL 512

/*
 A signal over a graph.
 */
#define BRL_SUBJECT_GRAPH 0

/*
 Layers of attention.
 */
#define BRL_SUBJECT_TRANSFORMER 1

/*
 Graph: the own vector of each token's node. [1, T, D]
 */
#define BRL_STATE_NODE 0

/*
 Graph: the signal that each node sends. [1, T, D]
 */
#define BRL_STATE_SIGNAL 1

/*
 Graph: the energies of all next nodes at each node. [1, T, V]
 */
#define BRL_STATE_ENERGY 2

/*
 Transformer: the residual stream after each layer; layer 0 is the embedding. [L + 1, T, D]
 */
#define BRL_STATE_HIDDEN 3

/*
 `brl_hop.rank` of a hop of the prompt.
 */
#define BRL_UNRANKED 18446744073709551615ull

/*
 `brl_path.needs`: rank, resistance and runners-up of each hop, which cost the host a pass over all nodes.
 */
#define BRL_NEED_RANK 32

/*
 A call, owned by the host: errors, cancellation, randomness.
 */
typedef struct brl_call brl_call;

/*
 An instance, owned by the plugin.
 */
typedef struct brl_self brl_self;

/*
 0: success; 1: declined; negative: an error whose message was set with `fail`.
 */
typedef int32_t brl_status;

/*
 UTF-8 without a terminating zero.
 */
typedef struct brl_str {
  /*
   First byte; may be null when `len` is 0.
   */
  const char *ptr;
  /*
   Bytes.
   */
  uint64_t len;
} brl_str;

/*
 The functions of the host, valid as long as the program runs.
 */
typedef struct brl_host {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The host's version: major in the upper half, minor in the lower.
   */
  uint64_t abi;
  /*
   Context of `log` and `service`.
   */
  void *ctx;
  /*
   Write a line to the run's log. [shared]
   */
  void (*log)(void *ctx, int64_t level, struct brl_str message);
  /*
   Set the message of the negative status that this call will return; the host copies the text. [instance]
   */
  void (*fail)(struct brl_call *call, struct brl_str message);
  /*
   Return a value other than 0 if the run is being cancelled: then return [`crate::BRL_E_CANCELLED`] soon. [instance]
   */
  int64_t (*cancelled)(struct brl_call *call);
  /*
   Return 64 random bits that replay with the run's seed: the only source a plugin may use. [instance]
   */
  uint64_t (*random)(struct brl_call *call);
  /*
   Return an extension of the host by name, or null. [shared]
   */
  const void *(*service)(void *ctx, struct brl_str id);
} brl_host;

/*
 A plugin: its description and hooks.
 */
typedef struct brl_plugin {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   Reverse domain name, for example `org.example.recent`.
   */
  struct brl_str id;
  /*
   Display name.
   */
  struct brl_str name;
  /*
   Version, for example `1.2.0`.
   */
  struct brl_str version;
  /*
   License, an SPDX expression.
   */
  struct brl_str license;
  /*
   One-sentence description.
   */
  struct brl_str about;
  /*
   JSON Schema of the options, an object; empty for no options.
   */
  struct brl_str config_schema;
  /*
   Create an instance. `config_json` contains every option of the schema, checked, with defaults. [static]
   */
  brl_status (*create)(const struct brl_host *host,
                       struct brl_call *call,
                       struct brl_str config_json,
                       struct brl_self **out);
  /*
   Destroy an instance. Not called after a panic. [instance]
   */
  void (*destroy)(struct brl_self *instance);
  /*
   Return the table of a hook, for example `kv.keep/1`, or null if the plugin does not implement it. [static]
   */
  const void *(*hook)(struct brl_str id);
} brl_plugin;

/*
 The entry of a library. The first 16 bytes are the same in every major version.
 */
typedef struct brl_entry {
  /*
   [`BRL_MAGIC`].
   */
  uint32_t magic;
  /*
   [`BRL_ABI_MAJOR`] it was built for.
   */
  uint32_t abi_major;
  /*
   [`BRL_ABI_MINOR`] it was built for.
   */
  uint32_t abi_minor;
  /*
   Number of plugins in the library.
   */
  uint32_t plugin_count;
  /*
   The plugins. `[plugin_count]`
   */
  const struct brl_plugin *const *plugins;
} brl_entry;

/*
 The one symbol that a library exports, `brl_plugin_entry`: pure and fast. [static]
 */
typedef const struct brl_entry *(*brl_entry_fn)(void);

/*
 Whole numbers to read.
 */
typedef struct brl_ids {
  /*
   First number; may be null when `len` is 0.
   */
  const uint32_t *ptr;
  /*
   Numbers.
   */
  uint64_t len;
} brl_ids;

/*
 The input of `kv.plan/1`. `L` layers.
 */
typedef struct brl_plan_in {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Layers, L.
   */
  uint64_t layers;
  /*
   Maximum context length.
   */
  uint64_t context;
  /*
   Query heads of each layer. [L]
   */
  struct brl_ids query_heads;
  /*
   Key and value heads of each layer. [L]
   */
  struct brl_ids kv_heads;
  /*
   Width of a head in each layer. [L]
   */
  struct brl_ids head_width;
  /*
   Context of the two functions below.
   */
  void *trial_ctx;
  /*
   Distances of the layers' mean keys and values over the calibration text, `BRL_DISTANCE_*`; null without
   such text. keys [L, L], values [L, L] [instance]
   */
  brl_status (*distances)(void *trial_ctx, uint64_t measure, double *keys, double *values);
  /*
   Mean cosine between the final hidden states under a map and under the identity; null without such
   text. source [L] [instance]
   */
  brl_status (*similarity)(void *trial_ctx,
                           const uint32_t *source,
                           uint64_t layers,
                           double *similarity);
} brl_plan_in;

/*
 A buffer of the host to write whole numbers into.
 */
typedef struct brl_u32s {
  /*
   First number.
   */
  uint32_t *ptr;
  /*
   Numbers.
   */
  uint64_t len;
} brl_u32s;

/*
 `kv.plan/1`: whose keys and values each layer reads (KVSharer). Called once, before a cache is allocated.
 */
typedef struct brl_kv_plan {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   `BRL_NEED_TRIAL`, or 0.
   */
  uint64_t needs;
  /*
   source [L] is initialised to the identity: source[l] ≤ l, source[source[l]] = source[l]. storage [L] is initialised to 0:
   bits per number in the layer's cache, 32, 16, or 0 for the run's setting. [instance]
   */
  brl_status (*plan)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_plan_in *question,
                     struct brl_u32s source,
                     struct brl_u32s storage);
} brl_kv_plan;

/*
 The statistics that `kv.keep/1` needs for a prompt.
 */
typedef struct brl_keep_needs {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   `BRL_NEED_ACCUMULATED`, `BRL_NEED_KEY_NORM`.
   */
  uint64_t needs;
  /*
   Number of last queries over whose attention `column` is the weighted mean; 0 for no `column`.
   */
  uint64_t column_window;
  /*
   Weight of the oldest query; weights change linearly to the newest.
   */
  double column_oldest;
  /*
   Weight of the newest query.
   */
  double column_newest;
  /*
   `BRL_HEADS_*`.
   */
  uint64_t column_heads;
} brl_keep_needs;

/*
 Numbers to read. `ptr` is null if they were not requested.
 */
typedef struct brl_tensor {
  /*
   First element.
   */
  const void *ptr;
  /*
   `BRL_F32` and so on.
   */
  uint32_t dtype;
  /*
   Dimensions in use, 0 to 4.
   */
  uint32_t rank;
  /*
   Elements along each dimension.
   */
  uint64_t shape[4];
  /*
   Elements from one index to the next along each dimension.
   */
  int64_t stride[4];
} brl_tensor;

/*
 The state of a layer: N slots in use, R rows of the residual stream, G rows of heads.
 */
typedef struct brl_keep_in {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Tokens of the sequence decoded so far.
   */
  uint64_t step;
  /*
   `BRL_PHASE_*`.
   */
  uint64_t phase;
  /*
   The layer.
   */
  uint64_t layer;
  /*
   Layers, L.
   */
  uint64_t layers;
  /*
   Key-value heads that may keep different slots: more than 1 only if a statistic per head was requested.
   */
  uint64_t heads;
  /*
   Tokens of the prompt.
   */
  uint64_t prompt;
  /*
   Tokens of the sequence so far, including evicted ones.
   */
  uint64_t length;
  /*
   Original position of each slot, ascending within a head: heads may hold different tokens. [heads, N]
   */
  struct brl_ids positions;
  /*
   Original position of each row of the residual stream, ascending; empty in decoding. [R]
   */
  struct brl_ids stream;
  /*
   As requested by `column_*`. [G, N]
   */
  struct brl_tensor column;
  /*
   As requested by `BRL_NEED_ACCUMULATED`. [H_kv, N]
   */
  struct brl_tensor accumulated;
  /*
   As requested by `BRL_NEED_KEY_NORM`. [H_kv, N]
   */
  struct brl_tensor key_norm;
} brl_keep_in;

/*
 The decision about a layer, which the plugin writes into the host's buffers.
 */
typedef struct brl_eviction {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Indices 0 to N into a head's row of `positions`, ascending, including the newest slot, one head after the
   other. Capacity heads · N.
   */
  struct brl_u32s slots;
  /*
   Number of entries written; initialised to `BRL_ALL`.
   */
  uint64_t slot_count;
  /*
   Number of lists in `slots`: 1 (initial value), or the `heads` of the input, each with slot_count / heads entries.
   */
  uint64_t heads;
  /*
   Indices into the input's `stream`, ascending, including the last row. Capacity R.
   */
  struct brl_u32s stream;
  /*
   Number of entries written; initialised to `BRL_ALL`.
   */
  uint64_t stream_count;
  /*
   Number of slots above which the layer is checked again in decoding; initialised to `BRL_ALL`.
   */
  uint64_t next_check;
} brl_eviction;

/*
 `kv.keep/1`: which slots and which rows of the residual stream are kept (PyramidInfer, H2O, SnapKV,
 StreamingLLM).
 */
typedef struct brl_kv_keep {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Begin a sequence with a prompt of this length; discard the state of an earlier sequence with this number. May be null. [instance]
   */
  brl_status (*begin)(struct brl_self *instance,
                      struct brl_call *call,
                      uint64_t sequence,
                      uint64_t prompt,
                      struct brl_keep_needs *wants);
  /*
   Decide what a layer keeps. [instance]
   */
  brl_status (*keep)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_keep_in *question,
                     struct brl_eviction *kept);
} brl_kv_keep;

/*
 A layer's keys or values whose format is to be chosen.
 */
typedef struct brl_codec_in {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The layer.
   */
  uint64_t layer;
  /*
   Layers, L.
   */
  uint64_t layers;
  /*
   Width of a head.
   */
  uint64_t head_width;
  /*
   `BRL_SIDE_*`.
   */
  uint64_t side;
} brl_codec_in;

/*
 An affine group format: x ≈ zero + scale · q.
 */
typedef struct brl_codec_format {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Bits per number: 2, 4 or 8.
   */
  uint64_t bits;
  /*
   Numbers per group.
   */
  uint64_t group;
  /*
   `BRL_AXIS_*`.
   */
  uint64_t axis;
  /*
   Minimum number of newest tokens that stay unquantised.
   */
  uint64_t residual;
} brl_codec_format;

/*
 `kv.codec/1`: in how many bits a cache stores its numbers (KIVI). Called once per layer and side.
 */
typedef struct brl_kv_codec {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Choose the format of a layer's keys or values. [instance]
   */
  brl_status (*plan)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_codec_in *question,
                     struct brl_codec_format *plan);
} brl_kv_codec;

/*
 A prompt that has been processed, before its first new token. V tokens, width D.
 */
typedef struct brl_prompt {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Its tokens.
   */
  struct brl_ids tokens;
  /*
   Mean hidden state over the prompt: the signal, or the last layer's output. [D]
   */
  struct brl_tensor pooled;
  /*
   Hidden state at the last position. [D]
   */
  struct brl_tensor hidden;
  /*
   Logits of the first new token, before any temperature. [V]
   */
  struct brl_tensor logits;
} brl_prompt;

/*
 Sampling settings that a plugin changes; NaN, the initial value, keeps the run's.
 */
typedef struct brl_setting {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Divisor of the logits before the softmax; 0 chooses the highest.
   */
  double temperature;
} brl_setting;

/*
 The state of a sequence when its next token is chosen.
 */
typedef struct brl_step {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Hops or tokens of the sequence, including the prompt.
   */
  uint64_t step;
  /*
   Tokens generated so far.
   */
  uint64_t generated;
  /*
   The current token.
   */
  uint64_t token;
  /*
   Prompt and new tokens.
   */
  struct brl_ids history;
  /*
   The hidden state. [D]
   */
  struct brl_tensor hidden;
} brl_step;

/*
 A buffer of the host to write floats into.
 */
typedef struct brl_f32s {
  /*
   First number.
   */
  float *ptr;
  /*
   Numbers.
   */
  uint64_t len;
} brl_f32s;

/*
 `sample/1`: logits, temperature, choice (QuATS, EDT, min-p). Plugins form a chain; if several choose, the last
 wins. Functions that a plugin does not need are null.
 */
typedef struct brl_sample {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   `BRL_NEED_HIDDEN`, `BRL_NEED_HISTORY`.
   */
  uint64_t needs;
  /*
   Return the setting for the text that follows a prompt. [instance]
   */
  brl_status (*prompt)(struct brl_self *instance,
                       struct brl_call *call,
                       const struct brl_prompt *prompt,
                       struct brl_setting *setting);
  /*
   Rewrite the logits in place, and optionally set this step's temperature. logits [V] [instance]
   */
  brl_status (*step)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_step *step,
                     struct brl_f32s logits,
                     struct brl_setting *setting);
  /*
   Choose a token given the probabilities after temperature and truncation. [V] [instance]
   */
  brl_status (*choose)(struct brl_self *instance,
                       struct brl_call *call,
                       const struct brl_step *step,
                       const struct brl_tensor *probabilities,
                       uint64_t *token);
} brl_sample;

/*
 A text that grows in either direction.
 */
typedef struct brl_canvas {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Tokens placed so far.
   */
  uint64_t step;
  /*
   Token at each position; `BRL_EMPTY` if there is none yet.
   */
  struct brl_ids tokens;
  /*
   First filled position of the span that contains the prompt.
   */
  uint64_t left;
  /*
   One past its last filled position.
   */
  uint64_t right;
  /*
   −ln p of the best token before `left`; NaN if none can be placed.
   */
  double left_resistance;
  /*
   −ln p of the best token at `right`; NaN if none can be placed.
   */
  double right_resistance;
} brl_canvas;

/*
 A position to fill.
 */
typedef struct brl_fill {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The position.
   */
  uint64_t position;
  /*
   `BRL_FORWARD` or `BRL_BACKWARD`.
   */
  uint64_t direction;
} brl_fill;

/*
 `order/1`: which position is filled next, and from which side (bidirectional autoregression).
 */
typedef struct brl_order {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Choose the next position to fill. [instance]
   */
  brl_status (*next)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_canvas *canvas,
                     struct brl_fill *place);
} brl_order;

/*
 The progress of a training run.
 */
typedef struct brl_mask_moment {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Steps completed.
   */
  uint64_t step;
  /*
   Total steps.
   */
  uint64_t steps;
  /*
   Passes over the data so far.
   */
  double epoch;
} brl_mask_moment;

/*
 The tokens of a sequence that may be masked.
 */
typedef struct brl_mask_tokens {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The optimiser step.
   */
  uint64_t step;
  /*
   Number of the sequence within the step.
   */
  uint64_t sequence;
  /*
   Masking ratio of this step.
   */
  double ratio;
  /*
   The tokens. [T]
   */
  struct brl_ids tokens;
  /*
   Their tags, `BRL_UNTAGGED` for none. [T], or empty if the run has none
   */
  struct brl_ids tags;
  /*
   Index of each token's word. [T], or empty
   */
  struct brl_ids words;
  /*
   1 if a token may be masked. u8 [T]
   */
  struct brl_tensor allowed;
} brl_mask_tokens;

/*
 The losses of the tokens that a step masked.
 */
typedef struct brl_mask_outcome {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The optimiser step.
   */
  uint64_t step;
  /*
   The true tokens. [M]
   */
  struct brl_ids tokens;
  /*
   Their tags. [M], or empty
   */
  struct brl_ids tags;
  /*
   −ln p of each, not reduced. [M]
   */
  struct brl_tensor losses;
} brl_mask_outcome;

/*
 Accepts bytes; each write is one record.
 */
typedef struct brl_sink {
  /*
   Context of the functions.
   */
  void *ctx;
  /*
   Accept a record. The caller returns a negative status to its own caller. [instance]
   */
  brl_status (*write)(void *ctx, struct brl_str bytes);
} brl_sink;

/*
 `mask/1`: which tokens masked training hides (masking ratio decay, weighted masking). The host draws, so runs replay.
 */
typedef struct brl_mask {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Return the fraction of tokens to mask, 0 to 1. May be null. [instance]
   */
  brl_status (*ratio)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_mask_moment *moment,
                      double *ratio);
  /*
   Write the relative probability of each token, 0 or more, initialised to 1. weights [T]. May be null. [instance]
   */
  brl_status (*weigh)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_mask_tokens *tokens,
                      struct brl_f32s weights);
  /*
   Observe the losses of a step. May be null. [instance]
   */
  brl_status (*learn)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_mask_outcome *outcome);
  /*
   Write the state for a checkpoint, in one record. May be null if there is none. [instance]
   */
  brl_status (*save)(struct brl_self *instance, struct brl_call *call, const struct brl_sink *state);
  /*
   Restore the state of a checkpoint. Null if and only if `save` is. [instance]
   */
  brl_status (*restore)(struct brl_self *instance, struct brl_call *call, struct brl_str state);
} brl_mask;

/*
 A request for generated text.
 */
typedef struct brl_speech {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   System message of a chat model.
   */
  struct brl_str system;
  /*
   Text to continue or to answer.
   */
  struct brl_str prompt;
  /*
   Maximum number of new tokens.
   */
  uint64_t tokens;
  /*
   A text whose sub-graph is preferred; empty for none.
   */
  struct brl_str within;
  /*
   Bonus in nats for each hop of that sub-graph; infinity allows no other hop.
   */
  double gain;
} brl_speech;

/*
 A text to make records of.
 */
typedef struct brl_reference {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Index of the text in the run, from 0.
   */
  uint64_t sequence;
  /*
   Name of the text, unique within the run.
   */
  struct brl_str id;
  /*
   The text.
   */
  struct brl_str text;
  /*
   Context of `generate`, `speak` and `grounded`.
   */
  void *generate_ctx;
  /*
   Generate at most so many tokens after a prompt, with the run's model; one record. Null without a model.
   [instance]
   */
  brl_status (*generate)(void *generate_ctx,
                         struct brl_str prompt,
                         uint64_t tokens,
                         const struct brl_sink *out);
  /*
   Context of `written`.
   */
  void *run_ctx;
  /*
   Return 1 if the run's output contains a record with this `key`, otherwise 0. [instance]
   */
  uint64_t (*written)(void *run_ctx, struct brl_str key);
  /*
   As `generate`, within bounds. Two records: the text, then `stop`, or `length` if it was cut; if `within` is given
   and the tokens are known, a third: the fraction of the text's hops that are its hops, in decimals. [instance]
   */
  brl_status (*speak)(void *generate_ctx,
                      const struct brl_speech *speech,
                      const struct brl_sink *out);
  /*
   Compute the fraction of the hops of `text` that are hops of `reference`; BRL_DECLINED if unknown. Null without a
   model. [instance]
   */
  brl_status (*grounded)(void *generate_ctx,
                         struct brl_str reference,
                         struct brl_str text,
                         double *share);
} brl_reference;

/*
 `corpus/1`: makes records of reference texts (RefGPT).
 */
typedef struct brl_corpus {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Make records; each is one JSON object. [instance]
   */
  brl_status (*write)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_reference *reference,
                      const struct brl_sink *records);
} brl_corpus;

/*
 The activations at a tap.
 */
typedef struct brl_activations {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Hops or tokens of the sequence.
   */
  uint64_t step;
  /*
   One `BRL_TAP_*`.
   */
  uint64_t tap;
  /*
   Layers passed, or the index of the layer; 0 on the graph.
   */
  uint64_t layer;
  /*
   Layers; 1 on the graph.
   */
  uint64_t layers;
  /*
   The token of each row. [R]
   */
  struct brl_ids tokens;
  /*
   The rows. [R, width]
   */
  struct brl_tensor values;
} brl_activations;

/*
 The run's model. Sinks receive one record of numbers in the machine's byte order.
 */
typedef struct brl_subject {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   One `BRL_SUBJECT_*`.
   */
  uint64_t kind;
  /*
   Layers, without the embedding; 1 on the graph.
   */
  uint64_t layers;
  /*
   `D`.
   */
  uint64_t width;
  /*
   `V`.
   */
  uint64_t nodes;
  /*
   Context of the functions.
   */
  void *ctx;
  /*
   Encode a text as tokens, uint32_t each. [instance]
   */
  brl_status (*tokens)(void *ctx, struct brl_str text, const struct brl_sink *ids);
  /*
   Compute -ln p of each token of `answer` after `prompt`, double each. [instance]
   */
  brl_status (*resist)(void *ctx,
                       struct brl_str prompt,
                       struct brl_str answer,
                       const struct brl_sink *resistance);
  /*
   Compute a state of a text, `BRL_STATE_*`, float each. [instance]
   */
  brl_status (*states)(void *ctx, uint64_t state, struct brl_str text, const struct brl_sink *values);
  /*
   Use the weights that training with a seed would begin with; 0 for the model's own. [instance]
   */
  brl_status (*untrained)(void *ctx, uint64_t seed);
  /*
   Add `delta` [D] to the bias of a node of the graph; an empty `delta` removes the shift. [instance]
   */
  brl_status (*shift)(void *ctx, uint64_t node, struct brl_tensor delta);
} brl_subject;

/*
 `probe/1`: observes, reports, and never changes the run (semantic size).
 */
typedef struct brl_probe {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Return the taps to observe, the sum of `BRL_TAP_*`. [instance]
   */
  uint64_t (*taps)(struct brl_self *instance);
  /*
   Observe activations. [instance]
   */
  brl_status (*see)(struct brl_self *instance,
                    struct brl_call *call,
                    const struct brl_activations *activations);
  /*
   Report as one record that is one JSON value. [instance]
   */
  brl_status (*report)(struct brl_self *instance, struct brl_call *call, const struct brl_sink *json);
  /*
   Query the model with the plugin's own texts. May be null. [instance]
   */
  brl_status (*ask)(struct brl_self *instance,
                    struct brl_call *call,
                    const struct brl_subject *subject);
} brl_probe;

/*
 The outgoing edges of a node: V targets, of which text has walked F.
 */
typedef struct brl_fan {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Hops so far.
   */
  uint64_t step;
  /*
   The node that the signal leaves.
   */
  uint64_t source;
  /*
   Energy of the signal at every target. [V]
   */
  struct brl_tensor energies;
  /*
   Targets of the walked edges, ascending. [F]
   */
  struct brl_ids targets;
  /*
   How often text walked each of them. [F]
   */
  struct brl_ids counts;
} brl_fan;

/*
 `edge/1`: rewrites the resistance of every edge out of one node. Plugins form a chain.
 */
typedef struct brl_edge {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Rewrite resistances in place. They are initialised to nats above the easiest edge; only differences count:
   the next node is drawn from the softmax of their negatives. resistance [V] [instance]
   */
  brl_status (*resist)(struct brl_self *instance,
                       struct brl_call *call,
                       const struct brl_fan *fan,
                       struct brl_f32s resistance);
} brl_edge;

/*
 The prompt of a signal.
 */
typedef struct brl_start {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   The prompt.
   */
  struct brl_ids prompt;
} brl_start;

/*
 `signal/1`: sets the initial signal.
 */
typedef struct brl_signal {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   0.
   */
  uint64_t needs;
  /*
   Write the initial signal, which holds the run's default. signal [D] [instance]
   */
  brl_status (*start)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_start *start,
                      struct brl_f32s signal);
} brl_signal;

/*
 A hop from one node to the next.
 */
typedef struct brl_hop {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Number of the sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Hops so far, this one included.
   */
  uint64_t step;
  /*
   The node left.
   */
  uint64_t source;
  /*
   The node reached.
   */
  uint64_t target;
  /*
   Number of nodes with less resistance, or `BRL_UNRANKED`, also without `BRL_NEED_RANK`.
   */
  uint64_t rank;
  /*
   −ln p of the hop; NaN for hops of the prompt, or without `BRL_NEED_RANK`.
   */
  double resistance;
  /*
   The nodes of least resistance other than the target, best first; empty without `BRL_NEED_RANK`.
   */
  struct brl_ids runners_up;
  /*
   The signal after the hop. [D]
   */
  struct brl_tensor signal;
} brl_hop;

/*
 `path/1`: observes every hop.
 */
typedef struct brl_path {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   `BRL_NEED_RANK`, or 0.
   */
  uint64_t needs;
  /*
   Observe a hop. [instance]
   */
  brl_status (*hop)(struct brl_self *instance, struct brl_call *call, const struct brl_hop *hop);
} brl_path;

/*
 `wgsl/1:<hook>`, for example `wgsl/1:edge/1`: the same function as a shader. The host validates the source,
 owns the pipeline, and compares it with the hook's function before use.
 */
typedef struct brl_wgsl {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   The WGSL module.
   */
  struct brl_str source;
  /*
   Compute entry point.
   */
  struct brl_str entry_point;
  /*
   Workgroup size, as the module declares.
   */
  uint64_t workgroup;
} brl_wgsl;

/*
 The call succeeded.
 */
#define BRL_OK 0

/*
 No opinion: the host ignores the buffers and uses its default. Not an error.
 */
#define BRL_DECLINED 1

/*
 Invalid argument.
 */
#define BRL_E_ARG -1

/*
 Invalid option.
 */
#define BRL_E_CONFIG -2

/*
 Mismatched shapes.
 */
#define BRL_E_SHAPE -3

/*
 A buffer that is too small.
 */
#define BRL_E_BUFFER -4

/*
 Invalid state of the instance, or invalid saved state.
 */
#define BRL_E_STATE -5

/*
 The call stopped because the run is cancelled.
 */
#define BRL_E_CANCELLED -6

/*
 The plugin panicked. The host never calls the instance again.
 */
#define BRL_E_PANIC -7

/*
 Anything else.
 */
#define BRL_E_INTERNAL -8

#endif  /* BRILLM_PLUGIN_H */

#ifdef __cplusplus
extern "C" {
#endif

/* The one symbol that a library exports. [static] */
BRL_EXPORT const brl_entry *brl_plugin_entry(void);

#ifdef __cplusplus
}
#endif
