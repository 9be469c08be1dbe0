/* brillm_plugin.h - the door between the brillm engine and its plugins.
 *
 * Generated from plugins/abi; do not edit. Rules that hold for every line:
 *
 *   R1  Memory never changes owner. The callee writes into the caller's buffers or sinks.
 *   R2  Strings are UTF-8 with a length, not ended by a zero, and borrowed until the call returns.
 *   R3  Tables begin with struct_size and only ever grow at the end; every field is a multiple of 8 bytes
 *       wide, so no padding can hide one. Views are frozen for ever. Read a field of a table only if
 *       BRL_HAS says that the other side knows it.
 *   R4  Nothing unwinds or jumps across the door. A negative status is an error, BRL_DECLINED no opinion.
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
 Worth knowing.
 */
#define BRL_LOG_INFO 3

/*
 For whoever looks for a fault.
 */
#define BRL_LOG_DEBUG 4

/*
 `brl_kv_plan.needs`: the plugin wants `distances` and `similarity`.
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
 `brl_keep_in.phase`: the prompt has just passed through the layer.
 */
#define BRL_PHASE_PREFILL 0

/*
 A new token has, and the layer is longer than `next_check`.
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
 In `brl_canvas.tokens`: nothing is there yet.
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
 In `tags`: the token has none.
 */
#define BRL_UNTAGGED 4294967295

/*
 The signal that arrived at a node: one row a hop. [1, D]
 */
#define BRL_TAP_SIGNAL 1

/*
 The energies of all next nodes: one row a step. [1, V]
 */
#define BRL_TAP_ENERGY 2

/*
 The hidden stream after a layer; layer 0 is the embedding. [R, D]
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
 The own vector of each token's node, on the graph. [1, T, D]
 */
#define BRL_STATE_NODE 0

/*
 The signal as each node passes it on, on the graph. [1, T, D]
 */
#define BRL_STATE_SIGNAL 1

/*
 The energies of all next nodes at each node, on the graph. [1, T, V]
 */
#define BRL_STATE_ENERGY 2

/*
 The hidden stream after each layer, on a transformer; layer 0 is the embedding. [L + 1, T, D]
 */
#define BRL_STATE_HIDDEN 3

/*
 `brl_hop.rank` of a hop of the prompt, which was not chosen.
 */
#define BRL_UNRANKED 18446744073709551615ull

/*
 `brl_path.needs`: rank, resistance and runners-up of each hop, which cost the host a pass over all nodes.
 */
#define BRL_NEED_RANK 32

/*
 One call, the host's: errors, cancelling, randomness.
 */
typedef struct brl_call brl_call;

/*
 An instance, the plugin's.
 */
typedef struct brl_self brl_self;

/*
 0 is success, 1 no opinion, negative an error whose text went through `fail`.
 */
typedef int32_t brl_status;

/*
 UTF-8, not ended by a zero.
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
 What the host lends a plugin, for as long as the program runs.
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
   The host's, for `log` and `service`.
   */
  void *ctx;
  /*
   Writes a line to the run's log. [shared]
   */
  void (*log)(void *ctx, int64_t level, struct brl_str message);
  /*
   Says why this call is about to return a negative status; the host copies the text. [instance]
   */
  void (*fail)(struct brl_call *call, struct brl_str message);
  /*
   Not 0 when the run is to stop: return [`crate::BRL_E_CANCELLED`] soon. [instance]
   */
  int64_t (*cancelled)(struct brl_call *call);
  /*
   64 random bits that replay with the run's seed: the only source a plugin may use. [instance]
   */
  uint64_t (*random)(struct brl_call *call);
  /*
   An extension of the host by name, null where there is none. [shared]
   */
  const void *(*service)(void *ctx, struct brl_str id);
} brl_host;

/*
 A plugin: who it is and what it can be asked.
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
   Name for people.
   */
  struct brl_str name;
  /*
   Its own version, for example `1.2.0`.
   */
  struct brl_str version;
  /*
   Its license, an SPDX expression.
   */
  struct brl_str license;
  /*
   One sentence.
   */
  struct brl_str about;
  /*
   JSON Schema of its options, an object; empty for no options.
   */
  struct brl_str config_schema;
  /*
   Makes an instance. `config_json` holds every option of the schema, checked, defaults filled in. [static]
   */
  brl_status (*create)(const struct brl_host *host,
                       struct brl_call *call,
                       struct brl_str config_json,
                       struct brl_self **out);
  /*
   Frees an instance. Not called on one that panicked. [instance]
   */
  void (*destroy)(struct brl_self *instance);
  /*
   The table of a hook, for example `kv.keep/1`; null where the plugin does not answer it. [static]
   */
  const void *(*hook)(struct brl_str id);
} brl_plugin;

/*
 What a library holds. The first 16 bytes are the same in every major version.
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
   Plugins in the library.
   */
  uint32_t plugin_count;
  /*
   The plugins. `[plugin_count]`
   */
  const struct brl_plugin *const *plugins;
} brl_entry;

/*
 The one symbol that a library exports, `brl_plugin_entry`: pure, and done at once. [static]
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
 What `kv.plan/1` is asked about. `L` layers.
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
   Longest context.
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
   The host's, for the two below.
   */
  void *trial_ctx;
  /*
   Distances of the layers' mean keys and values over the calibration text, `BRL_DISTANCE_*`; null without
   such text. keys [L, L], values [L, L] [instance]
   */
  brl_status (*distances)(void *trial_ctx, uint64_t measure, double *keys, double *values);
  /*
   Mean cosine of the final hidden states under a map with those under the identity; null without such
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
 `kv.plan/1`: whose keys and values each layer reads (KVSharer). Asked once, before a cache is allocated.
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
   source [L] arrives as identity: source[l] ≤ l, source[source[l]] = source[l]. storage [L] arrives as 0:
   bits of a number in the layer's cache, 32, 16, or 0 for the run's own. [instance]
   */
  brl_status (*plan)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_plan_in *question,
                     struct brl_u32s source,
                     struct brl_u32s storage);
} brl_kv_plan;

/*
 What `kv.keep/1` wants to be given for a prompt.
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
   Last queries over whose attention `column` is the weighted mean; 0 for no `column`.
   */
  uint64_t column_window;
  /*
   Weight of the oldest of them; weights run linearly to the newest.
   */
  double column_oldest;
  /*
   Weight of the newest.
   */
  double column_newest;
  /*
   `BRL_HEADS_*`.
   */
  uint64_t column_heads;
} brl_keep_needs;

/*
 Numbers to read. What was not asked for comes with a null `ptr`.
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
 A layer to decide about: N slots in use, R rows of the hidden stream, G rows of heads.
 */
typedef struct brl_keep_in {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
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
   Key-value heads that may keep different slots: more than 1 only where a statistic by head was asked for.
   */
  uint64_t heads;
  /*
   Tokens of the prompt.
   */
  uint64_t prompt;
  /*
   Tokens of the sequence so far, kept or not.
   */
  uint64_t length;
  /*
   Original position of each slot, ascending within a head: heads may hold different tokens. [heads, N]
   */
  struct brl_ids positions;
  /*
   Original position of each row of the hidden stream, ascending; empty in decoding. [R]
   */
  struct brl_ids stream;
  /*
   As wanted by `column_*`. [G, N]
   */
  struct brl_tensor column;
  /*
   As wanted by `BRL_NEED_ACCUMULATED`. [H_kv, N]
   */
  struct brl_tensor accumulated;
  /*
   As wanted by `BRL_NEED_KEY_NORM`. [H_kv, N]
   */
  struct brl_tensor key_norm;
} brl_keep_in;

/*
 The decision about a layer, written by the plugin into the host's buffers.
 */
typedef struct brl_eviction {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Indices 0 to N into a head's row of `positions`, ascending, the newest slot among them, one head after the
   other. Room for heads · N.
   */
  struct brl_u32s slots;
  /*
   How many were written; arrives as `BRL_ALL`.
   */
  uint64_t slot_count;
  /*
   Lists in `slots`: 1 (arrives so), or the question's `heads`, each of slot_count / heads.
   */
  uint64_t heads;
  /*
   Indices into the question's `stream`, ascending, the last row among them. Room for R.
   */
  struct brl_u32s stream;
  /*
   How many were written; arrives as `BRL_ALL`.
   */
  uint64_t stream_count;
  /*
   Slots beyond which the layer is asked about again in decoding; arrives as `BRL_ALL`.
   */
  uint64_t next_check;
} brl_eviction;

/*
 `kv.keep/1`: which slots stay and which rows of the hidden stream go on (PyramidInfer, H2O, SnapKV,
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
   A prompt of this length begins; state of an earlier sequence of this number ends. May be null. [instance]
   */
  brl_status (*begin)(struct brl_self *instance,
                      struct brl_call *call,
                      uint64_t sequence,
                      uint64_t prompt,
                      struct brl_keep_needs *wants);
  /*
   Decides about a layer. [instance]
   */
  brl_status (*keep)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_keep_in *question,
                     struct brl_eviction *kept);
} brl_kv_keep;

/*
 A layer's keys or values to plan.
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
   Bits of q: 2, 4 or 8.
   */
  uint64_t bits;
  /*
   Numbers in a group.
   */
  uint64_t group;
  /*
   `BRL_AXIS_*`.
   */
  uint64_t axis;
  /*
   The newest tokens that stay as they are, at least.
   */
  uint64_t residual;
} brl_codec_format;

/*
 `kv.codec/1`: in how many bits a cache stores its numbers (KIVI). Asked once a layer and side.
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
   The format of a layer's keys or values. [instance]
   */
  brl_status (*plan)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_codec_in *question,
                     struct brl_codec_format *plan);
} brl_kv_codec;

/*
 A prompt that has been read, before its first new token. V tokens, D wide.
 */
typedef struct brl_prompt {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Its tokens.
   */
  struct brl_ids tokens;
  /*
   Mean over its positions of the hidden state: the signal, or the last layer's output. [D]
   */
  struct brl_tensor pooled;
  /*
   The hidden state at its last position. [D]
   */
  struct brl_tensor hidden;
  /*
   Scores of the first new token, before any temperature. [V]
   */
  struct brl_tensor logits;
} brl_prompt;

/*
 What a plugin sets; a value that is not a number keeps what the run says, and all arrive so.
 */
typedef struct brl_setting {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Divides the scores before the softmax; 0 takes the highest.
   */
  double temperature;
} brl_setting;

/*
 A token that is about to be chosen.
 */
typedef struct brl_step {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Hops or tokens of the sequence, those of the prompt included.
   */
  uint64_t step;
  /*
   New tokens chosen so far.
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
 `sample/1`: scores, temperature, choice (QuATS, EDT, min-p). Plugins form a chain; the last that chooses,
 chooses. Functions that a plugin does not need are null.
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
   A prompt begins: a setting that holds until its text ends. [instance]
   */
  brl_status (*prompt)(struct brl_self *instance,
                       struct brl_call *call,
                       const struct brl_prompt *prompt,
                       struct brl_setting *setting);
  /*
   Rewrites the scores in place, and may set this step's temperature. scores [V] [instance]
   */
  brl_status (*step)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_step *step,
                     struct brl_f32s logits,
                     struct brl_setting *setting);
  /*
   Chooses among the probabilities that temperature and truncation left. [V] [instance]
   */
  brl_status (*choose)(struct brl_self *instance,
                       struct brl_call *call,
                       const struct brl_step *step,
                       const struct brl_tensor *probabilities,
                       uint64_t *token);
} brl_sample;

/*
 A text that grows.
 */
typedef struct brl_canvas {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Tokens placed so far.
   */
  uint64_t step;
  /*
   Tokens by position, `BRL_EMPTY` where none is yet.
   */
  struct brl_ids tokens;
  /*
   First filled position of the span that holds the prompt.
   */
  uint64_t left;
  /*
   One past its last filled position.
   */
  uint64_t right;
  /*
   −ln p of the best token before `left`; not a number where none can be placed.
   */
  double left_resistance;
  /*
   −ln p of the best token at `right`; not a number where none can be placed.
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
   The next place. [instance]
   */
  brl_status (*next)(struct brl_self *instance,
                     struct brl_call *call,
                     const struct brl_canvas *canvas,
                     struct brl_fill *place);
} brl_order;

/*
 Where in a training run a step is.
 */
typedef struct brl_mask_moment {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   Steps taken.
   */
  uint64_t step;
  /*
   Steps in all.
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
   The sequence within the step.
   */
  uint64_t sequence;
  /*
   The ratio that holds in this step.
   */
  double ratio;
  /*
   The tokens. [T]
   */
  struct brl_ids tokens;
  /*
   Their tags, `BRL_UNTAGGED` for none. [T], or empty where the run has none
   */
  struct brl_ids tags;
  /*
   The word of each token, counted from 0. [T], or empty
   */
  struct brl_ids words;
  /*
   1 where a token may be masked. u8 [T]
   */
  struct brl_tensor allowed;
} brl_mask_tokens;

/*
 What became of the tokens that a step masked.
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
 Takes bytes; each write is one record.
 */
typedef struct brl_sink {
  /*
   The host's.
   */
  void *ctx;
  /*
   Takes a record; a negative status is to be passed on. [instance]
   */
  brl_status (*write)(void *ctx, struct brl_str bytes);
} brl_sink;

/*
 `mask/1`: what masked training hides (masking ratio decay, weighted masking). The host draws, so runs replay.
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
   The share of tokens to mask, 0 to 1. May be null. [instance]
   */
  brl_status (*ratio)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_mask_moment *moment,
                      double *ratio);
  /*
   Relative chance of each token, 0 or more; all arrive as 1. weights [T]. May be null. [instance]
   */
  brl_status (*weigh)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_mask_tokens *tokens,
                      struct brl_f32s weights);
  /*
   Told the losses of a step. May be null. [instance]
   */
  brl_status (*learn)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_mask_outcome *outcome);
  /*
   Writes its state for a checkpoint, in one record. May be null where it has none. [instance]
   */
  brl_status (*save)(struct brl_self *instance, struct brl_call *call, const struct brl_sink *state);
  /*
   Takes the state of a checkpoint. Null exactly where `save` is. [instance]
   */
  brl_status (*restore)(struct brl_self *instance, struct brl_call *call, struct brl_str state);
} brl_mask;

/*
 What is to be said, and within which bounds.
 */
typedef struct brl_speech {
  /*
   Bytes of this table that the plugin knows.
   */
  uint64_t struct_size;
  /*
   What a chat model is told before the prompt.
   */
  struct brl_str system;
  /*
   What is continued, or answered.
   */
  struct brl_str prompt;
  /*
   New tokens at most.
   */
  uint64_t tokens;
  /*
   A text whose sub-graph is preferred; empty for none.
   */
  struct brl_str within;
  /*
   What a hop of that sub-graph gains in nats; infinite, and no other is taken.
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
   Its place in the run, from 0.
   */
  uint64_t sequence;
  /*
   Its name, unique within the run.
   */
  struct brl_str id;
  /*
   The text.
   */
  struct brl_str text;
  /*
   The host's, for `generate`.
   */
  void *generate_ctx;
  /*
   Lets the run's model continue a prompt by so many tokens at most; one record. Null without a model.
   [instance]
   */
  brl_status (*generate)(void *generate_ctx,
                         struct brl_str prompt,
                         uint64_t tokens,
                         const struct brl_sink *out);
  /*
   The host's, for `written`.
   */
  void *run_ctx;
  /*
   1 where the run's output has a record whose field `key` is this one, else 0. [instance]
   */
  uint64_t (*written)(void *run_ctx, struct brl_str key);
  /*
   As `generate`, with bounds. Two records: the text, then `stop`, or `length` where it was cut; where `within` is given
   and the tokens are known, a third: the share of the text's hops that are its hops, in decimals. [instance]
   */
  brl_status (*speak)(void *generate_ctx,
                      const struct brl_speech *speech,
                      const struct brl_sink *out);
  /*
   The share of the hops of `text` that are hops of `reference`; BRL_DECLINED where it is not known. Null without a
   model. [instance]
   */
  brl_status (*grounded)(void *generate_ctx,
                         struct brl_str reference,
                         struct brl_str text,
                         double *share);
} brl_reference;

/*
 `corpus/1`: reference texts become records (RefGPT).
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
   Makes records; each is one JSON object. [instance]
   */
  brl_status (*write)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_reference *reference,
                      const struct brl_sink *records);
} brl_corpus;

/*
 What there is to see at a tap.
 */
typedef struct brl_activations {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
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
   The layer; 0 on the graph.
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
 The run's model, as a probe may ask it. Sinks get one record, numbers in the machine's byte order.
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
   The host's.
   */
  void *ctx;
  /*
   The tokens of a text, uint32_t each. [instance]
   */
  brl_status (*tokens)(void *ctx, struct brl_str text, const struct brl_sink *ids);
  /*
   -ln p of each token of `answer` after `prompt`, double each. [instance]
   */
  brl_status (*resist)(void *ctx,
                       struct brl_str prompt,
                       struct brl_str answer,
                       const struct brl_sink *resistance);
  /*
   One `BRL_STATE_*` of a text, float each. [instance]
   */
  brl_status (*states)(void *ctx, uint64_t state, struct brl_str text, const struct brl_sink *values);
  /*
   From here on the weights that training by a seed would begin with; 0 for the model's own. [instance]
   */
  brl_status (*untrained)(void *ctx, uint64_t seed);
  /*
   From here on adds `delta` [D] to a node's bias, on the graph; without numbers, takes the shift away. [instance]
   */
  brl_status (*shift)(void *ctx, uint64_t node, struct brl_tensor delta);
} brl_subject;

/*
 `probe/1`: looks, reports, and never changes the run (semantic size).
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
   The taps it wants to look at, `BRL_TAP_*` added up. [instance]
   */
  uint64_t (*taps)(struct brl_self *instance);
  /*
   Looks. [instance]
   */
  brl_status (*see)(struct brl_self *instance, struct brl_call *call, const struct brl_activations *activations);
  /*
   What it saw, as one record that is one JSON value. [instance]
   */
  brl_status (*report)(struct brl_self *instance, struct brl_call *call, const struct brl_sink *json);
  /*
   Asks the model itself, about texts of its own; null for a probe that only looks. [instance]
   */
  brl_status (*ask)(struct brl_self *instance,
                    struct brl_call *call,
                    const struct brl_subject *subject);
} brl_probe;

/*
 The fan that a signal is about to leave through: V nodes, F edges that text has walked.
 */
typedef struct brl_fan {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   Hops so far.
   */
  uint64_t step;
  /*
   The node the signal leaves.
   */
  uint64_t source;
  /*
   Energy with which the signal reaches every node. [V]
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
 `edge/1`: resistance of every edge out of one node, one batch. Plugins form a chain.
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
   Rewrites resistances in place. They arrive in nats above the easiest edge; only differences count, and
   the next node is drawn from the softmax of their negatives. resistance [V] [instance]
   */
  brl_status (*resist)(struct brl_self *instance,
                       struct brl_call *call,
                       const struct brl_fan *fan,
                       struct brl_f32s resistance);
} brl_edge;

/*
 A signal that is about to start.
 */
typedef struct brl_start {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
   */
  uint64_t sequence;
  /*
   The prompt.
   */
  struct brl_ids prompt;
} brl_start;

/*
 `signal/1`: the signal as it starts.
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
   Writes the start; it arrives holding what the run starts from. signal [D] [instance]
   */
  brl_status (*start)(struct brl_self *instance,
                      struct brl_call *call,
                      const struct brl_start *start,
                      struct brl_f32s signal);
} brl_signal;

/*
 A hop that was taken.
 */
typedef struct brl_hop {
  /*
   Bytes of this table that the host knows.
   */
  uint64_t struct_size;
  /*
   The sequence, unique within the run.
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
   Nodes that had less resistance, or `BRL_UNRANKED`; so too without `BRL_NEED_RANK`.
   */
  uint64_t rank;
  /*
   −ln p of the hop; not a number for hops of the prompt, or without `BRL_NEED_RANK`.
   */
  double resistance;
  /*
   The nodes of least resistance besides the target, best first; empty without `BRL_NEED_RANK`.
   */
  struct brl_ids runners_up;
  /*
   The signal after the hop. [D]
   */
  struct brl_tensor signal;
} brl_hop;

/*
 `path/1`: told of every hop.
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
   A hop was taken. [instance]
   */
  brl_status (*hop)(struct brl_self *instance, struct brl_call *call, const struct brl_hop *hop);
} brl_path;

/*
 `wgsl/1:<hook>`, for example `wgsl/1:edge/1`: the same function as a shader. Source only: the host validates
 it, owns the pipeline, and compares it with the hook's function before it is used.
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
   Its compute entry point.
   */
  struct brl_str entry_point;
  /*
   Invocations in a workgroup, as the module declares.
   */
  uint64_t workgroup;
} brl_wgsl;

/*
 The call succeeded.
 */
#define BRL_OK 0

/*
 No opinion: the host ignores the buffers and keeps its default. Not an error.
 */
#define BRL_DECLINED 1

/*
 An argument the plugin cannot work with.
 */
#define BRL_E_ARG -1

/*
 An option that makes no sense.
 */
#define BRL_E_CONFIG -2

/*
 Shapes that do not fit.
 */
#define BRL_E_SHAPE -3

/*
 A buffer that is too small.
 */
#define BRL_E_BUFFER -4

/*
 The instance is not in a state for this call, or a saved state is not its own.
 */
#define BRL_E_STATE -5

/*
 The call stopped because the run is to stop.
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
