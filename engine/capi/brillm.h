/* brillm.h - the brillm engine from C and C++.
 *
 * Generated from engine/capi; do not edit. Rules that hold for every function:
 *
 *   Errors   A function that can fail returns a brillm_status (negative: an error) and takes `error` last: NULL, or
 *            where an error object goes, NULL when there is none. The caller frees it with brillm_error_free.
 *            No state is kept per thread or per process; only a failed allocation aborts.
 *   Threads  A model never changes: any number of threads use it at once. A session serves one call at a time, on any
 *            thread; a concurrent second call returns BRILLM_ERROR_BUSY. brillm_session_cancel may be called at any
 *            time. A caller holds a reference to each model or session that it uses.
 *   Memory   Results go into the caller's buffers, or are borrowed until a stated moment. The library frees
 *            what it allocates: brillm_model_release, brillm_session_release, brillm_error_free.
 *   Growth   Structs begin with struct_size, set by the caller to sizeof, and only grow at their ends; zero is the
 *            default in every field, so `brillm_parameters p = {.struct_size = sizeof p};` will do. Programs work with
 *            every library of the same BRILLM_ABI_MAJOR; a field that the library does not know and that is not zero
 *            is BRILLM_ERROR_VERSION. brillm_candidate is frozen.
 *   Text     UTF-8. Nothing unwinds or jumps across the boundary, in either direction.
 *
 * The names begin with brillm_, those of brillm_plugin.h with brl_: both headers may be included.
 */

#ifndef BRILLM_H
#define BRILLM_H

#include <stddef.h>
#include <stdint.h>

/* As a length: the text ends at its first zero byte. */
#define BRILLM_TERMINATED SIZE_MAX

/*
 Raised when something is taken away or changes its meaning: programs must be compiled anew.
 */
#define BRILLM_ABI_MAJOR 1

/*
 Raised when something is added: programs that do not use it need no change.
 */
#define BRILLM_ABI_MINOR 1



/*
 As `tokens`: no limit. The state of a graph does not grow with the text.
 */
#define BRILLM_UNLIMITED UINT64_MAX

/*
 The callback continues the generation.
 */
#define BRILLM_GO_ON 0

/*
 The callback stops the generation, as any value other than 0 does.
 */
#define BRILLM_STOP 1

/*
 The generation is running.
 */
#define BRILLM_FINISH_NONE 0

/*
 The requested number of tokens was reached.
 */
#define BRILLM_FINISH_LENGTH 1

/*
 A stop token or a stop text.
 */
#define BRILLM_FINISH_STOP 2

/*
 brillm_session_cancel was called.
 */
#define BRILLM_FINISH_CANCELLED 3

/*
 No token was left to choose: all were banned.
 */
#define BRILLM_FINISH_EXHAUSTED 4

/*
 The model has no place for another token.
 */
#define BRILLM_FINISH_CONTEXT 5

/*
 The callback wanted no more.
 */
#define BRILLM_FINISH_CALLBACK 6

/*
 A graph: a .bril file.
 */
#define BRILLM_KIND_GRAPH 1

/*
 A transformer or a recurrent net: a folder.
 */
#define BRILLM_KIND_TRANSFORMER 2

/*
 All of a file up to 256 MiB is verified when it is opened; of larger ones each part when it is first used.
 */
#define BRILLM_VERIFY_LAZY 0

/*
 Parts are verified when they are first used, however small the file; the file is mapped, so it must not be
 written to while it is open.
 */
#define BRILLM_VERIFY_TOUCHED 1

/*
 Every byte is verified when the file is opened.
 */
#define BRILLM_VERIFY_WHOLE 2

/*
 Text.
 */
#define BRILLM_MODALITY_TEXT 0

/*
 Images: PNG and PGM files.
 */
#define BRILLM_MODALITY_IMAGE 1

/*
 Sounds: WAV files.
 */
#define BRILLM_MODALITY_AUDIO 2

/*
 The model has no edges: it is no graph.
 */
#define BRILLM_EDGE_NONE 0

/*
 The edge has parameters of its own.
 */
#define BRILLM_EDGE_OWN 1

/*
 The edge was walked in training, but shares its parameters.
 */
#define BRILLM_EDGE_SEEN 2

/*
 The edge was never walked in training.
 */
#define BRILLM_EDGE_SHARED 3

/*
 The piece is text that was held back, as the beginning of a stop text may be; it brings no new token, and its id
 is that of the last one.
 */
#define BRILLM_PIECE_TEXT_ONLY 1

/*
 A failed call: its status and what to tell people. The caller frees it.
 */
typedef struct brillm_error brillm_error;

/*
 An opened model, of either kind. It never changes, so all threads may use it at once.
 */
typedef struct brillm_model brillm_model;

/*
 One text on its way through a model. Any thread may use it, one at a time.
 */
typedef struct brillm_session brillm_session;

/*
 What a call answers: BRILLM_OK, BRILLM_END, or a negative error.
 */
typedef int32_t brillm_status;

/*
 How a model is opened.
 */
typedef struct brillm_open_options {
  /*
   sizeof(brillm_open_options).
   */
  uint64_t struct_size;
  /*
   How much of a .bril file is verified: a BRILLM_VERIFY value.
   */
  uint64_t verify;
  /*
   Order of a graph's static resistances to use, from 2 to that of the model; 0 for that of the model.
   */
  uint64_t order;
} brillm_open_options;

/*
 What a model is.
 */
typedef struct brillm_model_info {
  /*
   sizeof(brillm_model_info), set by the caller.
   */
  uint64_t struct_size;
  /*
   A BRILLM_KIND value.
   */
  uint64_t kind;
  /*
   Tokens, V.
   */
  uint64_t vocabulary;
  /*
   Width of the signal or of the hidden state, D.
   */
  uint64_t width;
  /*
   Layers, L; 0 for a graph without layered edges.
   */
  uint64_t layers;
  /*
   Edges walked in training; 0 for a transformer.
   */
  uint64_t edges;
  /*
   Edges with parameters of their own, E; 0 for a transformer.
   */
  uint64_t own_edges;
  /*
   Tokens that a text may have, prompt included; 0 for no limit.
   */
  uint64_t context;
  /*
   Order of a graph's static resistances in use: 2 for those of edges, more with longer walks; 0 for a transformer.
   */
  uint64_t order;
} brillm_model_info;

/*
 How tokens are chosen and when a generation ends. Zero is the default in every field;
 brillm_parameters_init writes the defaults out.
 */
typedef struct brillm_parameters {
  /*
   sizeof(brillm_parameters).
   */
  uint64_t struct_size;
  /*
   Seed of the draws: the same seed gives the same text, on any thread.
   */
  uint64_t seed;
  /*
   At most so many new tokens; 0 for 128, or 512 codes of a sound, BRILLM_UNLIMITED for no limit.
   */
  uint64_t tokens;
  /*
   Divides the scores before the softmax; 0 always takes the likeliest token.
   */
  double temperature;
  /*
   Only the likeliest k tokens; 0 for all.
   */
  uint64_t top_k;
  /*
   Only the likeliest tokens that together reach this probability; 0 or 1 for all.
   */
  double top_p;
  /*
   Only tokens at least this fraction as likely as the likeliest; 0 for all.
   */
  double min_p;
  /*
   How many times less likely a recent token becomes; 0 or 1 for no penalty.
   */
  double repetition_penalty;
  /*
   How many of the last tokens are recent; 0 for 64.
   */
  uint64_t penalty_window;
  /*
   Other than 0: goes on after the model's end token.
   */
  uint64_t ignore_eos;
  /*
   Texts, each ended by a zero byte, at which a generation ends; the text before one is given out.
   */
  const char *const *stops;
  /*
   How many.
   */
  uint64_t stop_count;
  /*
   Tokens that are never chosen.
   */
  const uint32_t *banned;
  /*
   How many.
   */
  uint64_t banned_count;
  /*
   Subtracted from the logit of every new token that was chosen before; -2 to 2.
   */
  double presence_penalty;
  /*
   Subtracted from the logit of a new token for each time it was chosen before; -2 to 2.
   */
  double frequency_penalty;
  /*
   Tokens whose logits `bias_values` are added to.
   */
  const uint32_t *bias_tokens;
  /*
   One value for each of `bias_tokens`; -100 to 100.
   */
  const double *bias_values;
  /*
   How many.
   */
  uint64_t bias_count;
  /*
   A BRILLM_MODALITY value: other than BRILLM_MODALITY_TEXT, a prompt is continued with the codes of an image, or of a
   sound of at most `tokens` codes; brillm_session_tokens has them for brillm_model_write_file.
   */
  uint64_t modality;
} brillm_parameters;

/*
 One new token with the text it completes.
 */
typedef struct brillm_piece {
  /*
   sizeof(brillm_piece); the caller's in brillm_session_next, the library's in a callback.
   */
  uint64_t struct_size;
  /*
   New tokens before this one.
   */
  uint64_t index;
  /*
   Text that is complete now, in UTF-8 and ended by a zero byte; empty while a character is still on its way.
   Borrowed until the callback returns, or until the next call on the session.
   */
  const char *text;
  /*
   Bytes of the text, without the zero.
   */
  uint64_t length;
  /*
   The token.
   */
  uint32_t id;
  /*
   BRILLM_PIECE bits.
   */
  uint32_t flags;
} brillm_piece;

/*
 Called with each piece of a generation; `user` is what the caller of brillm_session_generate gave.

 Answers BRILLM_GO_ON or BRILLM_STOP. Nothing may be thrown through it. On the session it was called for, only
 brillm_session_cancel, brillm_session_retain and brillm_session_release may be called; other calls answer
 BRILLM_ERROR_BUSY.
 */
typedef int32_t (*brillm_on_piece)(void *user, const struct brillm_piece *piece);

/*
 How a generation went.
 */
typedef struct brillm_outcome {
  /*
   sizeof(brillm_outcome), set by the caller.
   */
  uint64_t struct_size;
  /*
   Tokens of the prompt.
   */
  uint64_t prompt_tokens;
  /*
   New tokens.
   */
  uint64_t tokens;
  /*
   Why it ended: a BRILLM_FINISH value.
   */
  uint64_t finish;
} brillm_outcome;

/*
 A token as the next one. Frozen: it never grows.
 */
typedef struct brillm_candidate {
  /*
   The token.
   */
  uint32_t id;
  /*
   The edge that leads to it: a BRILLM_EDGE value.
   */
  uint32_t edge;
  /*
   How often the edge was walked in training; 0 for a transformer.
   */
  uint64_t count;
  /*
   Energy with which the signal reaches it; the logit of a transformer.
   */
  double energy;
  /*
   The logit; the softmax over all tokens is the probability.
   */
  double logit;
  /*
   Probability among all tokens, before temperature, penalties and truncation.
   */
  double probability;
} brillm_candidate;

/*
 How likely a text is to a model.
 */
typedef struct brillm_score {
  /*
   sizeof(brillm_score), set by the caller.
   */
  uint64_t struct_size;
  /*
   Tokens predicted: all but the first, which nothing precedes.
   */
  uint64_t tokens;
  /*
   Bytes of text in these tokens.
   */
  uint64_t bytes;
  /*
   Sum of -ln p over them.
   */
  double nats;
  /*
   exp(nats / tokens).
   */
  double perplexity;
  /*
   nats / (bytes ln 2); 0 where the tokens have no bytes, and with codes of images or sounds.
   */
  double bits_per_byte;
} brillm_score;

/*
 How texts are learned. Zero is the default in every field.
 */
typedef struct brillm_learn_options {
  /*
   sizeof(brillm_learn_options).
   */
  uint64_t struct_size;
  /*
   Name of the record, ended by a zero byte; NULL for "text", numbered if a record has that name.
   */
  const char *name;
  /*
   How often each transition of the texts counts; 0 for 1.
   */
  uint64_t weight;
  /*
   Passes of training over the texts; 0 for 1.
   */
  uint64_t passes;
  /*
   Other than 0: adds the counts alone, without training.
   */
  uint64_t counts_only;
  /*
   Highest learning rate, at most 1; 0 for 0.002.
   */
  double rate;
  /*
   Most nodes to add for words that occur at least twice and are several tokens.
   */
  uint64_t new_nodes;
  /*
   Seed of the order of batches.
   */
  uint64_t seed;
  /*
   Texts that the model knows already, each ended by a zero byte: a tenth of the steps trains on them against
   forgetting, and their counts are not added.
   */
  const char *const *replay;
  /*
   How many.
   */
  uint64_t replay_count;
  /*
   Tokens to learn after the texts, for models without text.
   */
  const uint32_t *ids;
  /*
   How many.
   */
  uint64_t id_count;
} brillm_learn_options;

/*
 Progress of learning.
 */
typedef struct brillm_progress {
  /*
   sizeof(brillm_progress) of the library.
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
   -ln p per token before the last step.
   */
  double nats;
} brillm_progress;

/*
 Called after each step of brillm_model_learn; `user` is what its caller gave. Answers BRILLM_GO_ON or BRILLM_STOP.
 Nothing may be thrown through it.
 */
typedef int32_t (*brillm_on_step)(void *user, const struct brillm_progress *progress);

/*
 What a graph has learned.
 */
typedef struct brillm_lesson {
  /*
   sizeof(brillm_lesson), set by the caller.
   */
  uint64_t struct_size;
  /*
   Tokens of the texts.
   */
  uint64_t tokens;
  /*
   Edges that were added.
   */
  uint64_t new_edges;
  /*
   Nodes that were added.
   */
  uint64_t new_nodes;
  /*
   Rows of weights that were trained.
   */
  uint64_t trained_rows;
  /*
   Perplexity of the texts in the first pass, each part before it was trained on; 0 where it was not measured.
   */
  double first_perplexity;
  /*
   The same in the last pass.
   */
  double last_perplexity;
} brillm_lesson;

/*
 What forgetting texts has changed.
 */
typedef struct brillm_forgotten {
  /*
   sizeof(brillm_forgotten), set by the caller.
   */
  uint64_t struct_size;
  /*
   Rows of weights that have the bytes of before the texts again.
   */
  uint64_t restored_rows;
  /*
   Rows that a later text has moved too, from which the difference that these texts made was subtracted.
   */
  uint64_t subtracted_rows;
  /*
   Edges that were removed.
   */
  uint64_t removed_edges;
  /*
   Nodes that were removed.
   */
  uint64_t removed_nodes;
  /*
   Nodes of the texts that stay for a later text; its record has them now.
   */
  uint64_t kept_nodes;
} brillm_forgotten;

/*
 The call did what it says.
 */
#define BRILLM_OK 0

/*
 The generation has ended: no piece was given. Not an error.
 */
#define BRILLM_END 1

/*
 The operating system refused: a missing file, a full disk.
 */
#define BRILLM_ERROR_IO -1

/*
 Bytes that are not what the format says.
 */
#define BRILLM_ERROR_FORMAT -2

/*
 A checksum does not match: the file is damaged.
 */
#define BRILLM_ERROR_CHECKSUM -3

/*
 A file format this library does not read, or a struct with fields it does not know.
 */
#define BRILLM_ERROR_VERSION -4

/*
 A value is out of range, or makes no sense together with another.
 */
#define BRILLM_ERROR_INPUT -5

/*
 Text or a token that the vocabulary does not have.
 */
#define BRILLM_ERROR_VOCABULARY -6

/*
 A configuration that cannot be used.
 */
#define BRILLM_ERROR_CONFIGURATION -7

/*
 A value that is not finite appeared where arithmetic needs one.
 */
#define BRILLM_ERROR_NUMERIC -8

/*
 Valid, but not something this library or this model can do.
 */
#define BRILLM_ERROR_UNSUPPORTED -9

/*
 A plugin failed.
 */
#define BRILLM_ERROR_PLUGIN -10

/*
 brillm_session_cancel, or the callback of brillm_model_learn, ended the call.
 */
#define BRILLM_ERROR_CANCELLED -11

/*
 Memory or another resource is exhausted or too small.
 */
#define BRILLM_ERROR_RESOURCE -12

/*
 A pointer that must not be NULL is.
 */
#define BRILLM_ERROR_NULL -13

/*
 The caller's buffer is too small; the length that is needed was written.
 */
#define BRILLM_ERROR_BUFFER -14

/*
 Another call is running on the session, for example the one whose callback this call was made from.
 */
#define BRILLM_ERROR_BUSY -15

/*
 The library panicked: a defect in it. The session it happened in answers BRILLM_ERROR_PANIC from then on.
 */
#define BRILLM_ERROR_PANIC -16

/*
 Anything else.
 */
#define BRILLM_ERROR_OTHER -17

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The status of an error; BRILLM_OK for NULL.

 Pointers:
 `error` is NULL or an error that was not freed.
 */
brillm_status brillm_error_status(const struct brillm_error *error);

/*
 What is wrong, where, and what to do, in UTF-8; the empty text for NULL. Lives as long as the error.

 Pointers:
 `error` is NULL or an error that was not freed.
 */
const char *brillm_error_message(const struct brillm_error *error);

/*
 Frees an error; NULL is ignored.

 Pointers:
 `error` is NULL or an error that was not freed.
 */
void brillm_error_free(struct brillm_error *error);

/*
 Opens what lies at `path` (UTF-8, ended by a zero): a .bril file is a graph, a folder with a config.json a
 transformer. All sessions share its bytes: a .bril file up to 256 MiB is read into memory, a larger one mapped.
 `options` may be NULL. The model has one reference.

 Pointers:
 `path` is NULL or ends with a zero; `options` is NULL or has its struct_size; `out` and `error` are NULL or may be
 written to.
 */
brillm_status brillm_model_open(const char *path,
                                const struct brillm_open_options *options,
                                struct brillm_model **out,
                                struct brillm_error **error);

/*
 Opens a .bril file that lies in memory, for example as a part of the program; the bytes are copied.

 Pointers:
 `bytes` is NULL or points at `size` bytes; `out` and `error` are NULL or may be written to.
 */
brillm_status brillm_model_open_bytes(const void *bytes,
                                      size_t size,
                                      struct brillm_model **out,
                                      struct brillm_error **error);

/*
 Adds a reference and returns the model; each needs one brillm_model_release. NULL stays NULL.

 Pointers:
 `model` is NULL or a model with a reference left.
 */
struct brillm_model *brillm_model_retain(struct brillm_model *model);

/*
 Releases a reference; the last one frees the model. Sessions hold references of their own. NULL is ignored.

 Pointers:
 `model` is NULL or a model, and the caller gives up one reference to it.
 */
void brillm_model_release(struct brillm_model *model);

/*
 Writes the model's kind and sizes.

 Pointers:
 `model` is NULL or a model with a reference left; `info` is NULL or has its struct_size; `error` is NULL or may be
 written to.
 */
brillm_status brillm_model_describe(const struct brillm_model *model,
                                    struct brillm_model_info *info,
                                    struct brillm_error **error);

/*
 The model's name, in UTF-8; the empty text for NULL. Lives as long as the model.

 Pointers:
 `model` is NULL or a model with a reference left.
 */
const char *brillm_model_name(const struct brillm_model *model);

/*
 What the model says about itself, as a JSON object: license, profile, how it was trained. `"{}"` for NULL. Lives as
 long as the model.

 Pointers:
 `model` is NULL or a model with a reference left.
 */
const char *brillm_model_metadata(const struct brillm_model *model);

/*
 The texts that a graph has learned since its training, in that order, as a JSON array of objects with `name`, `sources`,
 `tokens`, `weight`, `new_nodes`, `new_edges` and `training`. `"[]"` for NULL. Lives as long as the model.

 Pointers:
 `model` is NULL or a model with a reference left.
 */
const char *brillm_model_records(const struct brillm_model *model);

/*
 Text to tokens, with the marks that a transformer expects before a text.

 `count` gets the number of tokens. With `ids` NULL and `capacity` 0 only that is asked for; a smaller capacity is
 BRILLM_ERROR_BUFFER, and nothing is written to `ids`.

 Pointers:
 `model` is NULL or a model with a reference left; `text` has `length` bytes, or a zero where that is
 BRILLM_TERMINATED; `ids` is NULL or has room for `capacity`; `count` and `error` are NULL or may be written to.
 */
brillm_status brillm_model_tokenize(const struct brillm_model *model,
                                    const char *text,
                                    size_t length,
                                    uint32_t *ids,
                                    size_t capacity,
                                    size_t *count,
                                    struct brillm_error **error);

/*
 Tokens to text. A token may be a part of a character, so the bytes need not be whole UTF-8.

 `length` gets the number of bytes; the buffer needs one more, for a zero behind them. With `buffer` NULL and
 `capacity` 0 only that is asked for; a smaller capacity is BRILLM_ERROR_BUFFER, and nothing is written.

 Pointers:
 `model` is NULL or a model with a reference left; `ids` is NULL or has `count` tokens; `buffer` is NULL or has room
 for `capacity`; `length` and `error` are NULL or may be written to.
 */
brillm_status brillm_model_detokenize(const struct brillm_model *model,
                                      const uint32_t *ids,
                                      size_t count,
                                      char *buffer,
                                      size_t capacity,
                                      size_t *length,
                                      struct brillm_error **error);

/*
 Write a token in readable form: spaces and control characters visible, bytes that are not text as `<0xE4>`.

 `length`, `buffer` and `capacity` as in brillm_model_detokenize.

 Pointers:
 As brillm_model_detokenize.
 */
brillm_status brillm_model_display(const struct brillm_model *model,
                                   uint32_t id,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   struct brillm_error **error);

/*
 Writes the defaults into the caller's parameters: greedy, 128 tokens (512 codes of a sound), no truncation, no penalty.

 `struct_size` is the caller's sizeof(brillm_parameters). Answers BRILLM_ERROR_NULL or, for a size that no version
 has, BRILLM_ERROR_INPUT.

 Pointers:
 `parameters` is NULL or has room for `struct_size` bytes.
 */
brillm_status brillm_parameters_init(struct brillm_parameters *parameters,
                                     size_t struct_size);

/*
 A session over a model, of which it keeps a reference. `parameters` may be NULL. The session has one reference.

 Pointers:
 `model` is NULL or a model with a reference left; `parameters` is NULL or has its struct_size and what it points at;
 `out` and `error` are NULL or may be written to.
 */
brillm_status brillm_session_new(const struct brillm_model *model,
                                 const struct brillm_parameters *parameters,
                                 struct brillm_session **out,
                                 struct brillm_error **error);

/*
 Adds a reference and returns the session, for a thread that may want to cancel it. NULL stays NULL.

 Pointers:
 `session` is NULL or a session with a reference left.
 */
struct brillm_session *brillm_session_retain(struct brillm_session *session);

/*
 Takes a reference away; the last one frees the session, a call that still runs on it ends first. NULL is nothing.

 Pointers:
 `session` is NULL or a session, and the caller gives up one reference to it.
 */
void brillm_session_release(struct brillm_session *session);

/*
 Sets other parameters, which apply from the next begin on. NULL for the defaults.

 Pointers:
 As brillm_session_new.
 */
brillm_status brillm_session_configure(struct brillm_session *session,
                                       const struct brillm_parameters *parameters,
                                       struct brillm_error **error);

/*
 Ends the call that is running on the session, or the generation that is under way, before its next token. From any
 thread, from a callback, from a signal handler; it sets one flag. What begins afterwards is not affected: call it
 again if what you want to end had not begun yet. A transformer takes its prompt as a whole and looks at the flag
 behind it.

 Pointers:
 `session` is NULL or a session with a reference left.
 */
void brillm_session_cancel(const struct brillm_session *session);

/*
 Begins at a prompt of tokens, at least one; brillm_session_next then gives one new token at a time.

 Pointers:
 `session` is NULL or a session with a reference left; `ids` has `count` tokens; `error` is NULL or may be written
 to.
 */
brillm_status brillm_session_begin(struct brillm_session *session,
                                   const uint32_t *ids,
                                   size_t count,
                                   struct brillm_error **error);

/*
 Begins at a text.

 Pointers:
 `session` is NULL or a session with a reference left; `text` has `length` bytes, or a zero where that is
 BRILLM_TERMINATED; `error` is NULL or may be written to.
 */
brillm_status brillm_session_begin_text(struct brillm_session *session,
                                        const char *text,
                                        size_t length,
                                        struct brillm_error **error);

/*
 Chooses the next token and appends it. BRILLM_END when the generation has ended; brillm_session_finish says why.

 Pointers:
 `session` is NULL or a session with a reference left; `piece` is NULL or has its struct_size; `error` is NULL or may
 be written to.
 */
brillm_status brillm_session_next(struct brillm_session *session,
                                  struct brillm_piece *piece,
                                  struct brillm_error **error);

/*
 Why the last generation ended: a BRILLM_FINISH value; BRILLM_FINISH_NONE while it runs.

 Pointers:
 `session` is NULL or a session with a reference left.
 */
uint64_t brillm_session_finish(const struct brillm_session *session);

/*
 Continues a text: begins, and gives each piece to `on_piece` until the end. Without a callback (NULL) the text is
 kept, and fetched afterwards with brillm_session_text.

 `outcome` may be NULL. Cancellation is no error: the outcome's finish says so.

 Pointers:
 `session` is NULL or a session with a reference left; `text` has `length` bytes, or a zero where that is
 BRILLM_TERMINATED; `on_piece` is NULL or takes `user`; `outcome` is NULL or has its struct_size; `error` is NULL or
 may be written to.
 */
brillm_status brillm_session_generate(struct brillm_session *session,
                                      const char *text,
                                      size_t length,
                                      brillm_on_piece on_piece,
                                      void *user,
                                      struct brillm_outcome *outcome,
                                      struct brillm_error **error);

/*
 All new text of the last brillm_session_generate without a callback, in UTF-8 and ended by a zero. `length`, where not NULL, gets its
 bytes. Borrowed until the next call on the session. NULL when the session is NULL or busy.

 Pointers:
 `session` is NULL or a session with a reference left; `length` is NULL or may be written to.
 */
const char *brillm_session_text(const struct brillm_session *session,
                                size_t *length);

/*
 The new tokens of the last brillm_session_generate without a callback; `count`, where not NULL, gets their number. Borrowed until the
 next call on the session. NULL when the session is NULL or busy.

 Pointers:
 `session` is NULL or a session with a reference left; `count` is NULL or may be written to.
 */
const uint32_t *brillm_session_tokens(const struct brillm_session *session,
                                      size_t *count);

/*
 The candidates of the next step, the likeliest first, with energies and probabilities: what a trace of a path is
 made of. Nothing is chosen; looking twice shows the same.

 `total` gets the number of candidates there are; the likeliest `capacity` of them are written.

 Pointers:
 `session` is NULL or a session with a reference left; `candidates` is NULL or has room for `capacity`; `total` and
 `error` are NULL or may be written to.
 */
brillm_status brillm_session_candidates(struct brillm_session *session,
                                        struct brillm_candidate *candidates,
                                        size_t capacity,
                                        size_t *total,
                                        struct brillm_error **error);

/*
 Resistance -ln p of a token as the next one, over all tokens.

 Pointers:
 `session` is NULL or a session with a reference left; `nats` and `error` are NULL or may be written to.
 */
brillm_status brillm_session_resistance(struct brillm_session *session,
                                        uint32_t id,
                                        double *nats,
                                        struct brillm_error **error);

/*
 Appends given tokens, as a prompt does; they are not part of the output and do not count as new ones.

 Pointers:
 `session` is NULL or a session with a reference left; `ids` has `count` tokens; `error` is NULL or may be written
 to.
 */
brillm_status brillm_session_feed(struct brillm_session *session,
                                  const uint32_t *ids,
                                  size_t count,
                                  struct brillm_error **error);

/*
 Adds energy at a token, for the next choice only.

 Pointers:
 `session` is NULL or a session with a reference left; `error` is NULL or may be written to.
 */
brillm_status brillm_session_inject(struct brillm_session *session,
                                    uint32_t id,
                                    double energy,
                                    struct brillm_error **error);

/*
 Saves where a graph's session is, as bytes that brillm_session_restore goes on from, in any process that has the
 model. They do not grow with the text.

 `length` gets the number of bytes. With `buffer` NULL and `capacity` 0 only that is asked for; a smaller capacity is
 BRILLM_ERROR_BUFFER, and nothing is written.

 Pointers:
 `session` is NULL or a session with a reference left; `buffer` is NULL or has room for `capacity` bytes; `length` and
 `error` are NULL or may be written to.
 */
brillm_status brillm_session_save(struct brillm_session *session,
                                  void *buffer,
                                  size_t capacity,
                                  size_t *length,
                                  struct brillm_error **error);

/*
 Continues a saved session as if it had not stopped, with the session's own parameters.

 Pointers:
 `session` is NULL or a session with a reference left; `bytes` has `size` bytes; `error` is NULL or may be written
 to.
 */
brillm_status brillm_session_restore(struct brillm_session *session,
                                     const void *bytes,
                                     size_t size,
                                     struct brillm_error **error);

/*
 Scores a sequence of tokens, as `brillm eval --stream` does. The session's own text
 stays where it is.

 `logarithms`, where not NULL, gets ln p of each of the `count` tokens after those before it; the first is 0.

 Pointers:
 `session` is NULL or a session with a reference left; `ids` has `count` tokens; `logarithms` is NULL or has room for
 `count`; `sum` is NULL or has its struct_size; `error` is NULL or may be written to.
 */
brillm_status brillm_session_score(struct brillm_session *session,
                                   const uint32_t *ids,
                                   size_t count,
                                   double *logarithms,
                                   struct brillm_score *sum,
                                   struct brillm_error **error);

/*
 How likely a text is to the model, as brillm_model_tokenize splits it.

 Pointers:
 `session` is NULL or a session with a reference left; `text` has `length` bytes, or a zero where that is
 BRILLM_TERMINATED; `sum` is NULL or has its struct_size; `error` is NULL or may be written to.
 */
brillm_status brillm_session_score_text(struct brillm_session *session,
                                        const char *text,
                                        size_t length,
                                        struct brillm_score *sum,
                                        struct brillm_error **error);

/*
 Teaches a graph texts, in seconds, and gives the new model with one reference; `model` stays as it is.

 The counts of the texts are added to the edges, and the nodes and edges that they touch are trained; everything else
 keeps its bytes. The new model has a record of the texts (brillm_model_records), which brillm_model_forget takes back.
 `texts` are `count` texts, each ended by a zero byte, and may be NULL where the options have ids. `options` and `lesson`
 may be NULL. `on_step`, where not NULL, is called after each step of training, on this thread; where it answers
 BRILLM_STOP the call ends with BRILLM_ERROR_CANCELLED and no model. BRILLM_ERROR_UNSUPPORTED for a transformer.

 Pointers:
 `model` is NULL or a model with a reference left; `texts` is NULL or has `count` texts that end with a zero; `options`
 is NULL or has its struct_size and what it points at; `on_step` is NULL or takes `user`; `lesson` is NULL or has its
 struct_size; `out` and `error` are NULL or may be written to.
 */
brillm_status brillm_model_learn(const struct brillm_model *model,
                                 const char *const *texts,
                                 size_t count,
                                 const struct brillm_learn_options *options,
                                 brillm_on_step on_step,
                                 void *user,
                                 struct brillm_model **out,
                                 struct brillm_lesson *lesson,
                                 struct brillm_error **error);

/*
 Takes back texts that a graph has learned, and gives the new model with one reference; `model` stays as it is. Counts and
 edges are then those of a model that never learned them, and a model that has forgotten all has the bytes that it had
 before the first.

 `record` is the name of a record of brillm_model_records or its number, from 1, as a text ended by a zero byte.
 `forgotten` may be NULL.

 Pointers:
 `model` is NULL or a model with a reference left; `record` is NULL or ends with a zero; `forgotten` is NULL or has its
 struct_size; `out` and `error` are NULL or may be written to.
 */
brillm_status brillm_model_forget(const struct brillm_model *model,
                                  const char *record,
                                  struct brillm_model **out,
                                  struct brillm_forgotten *forgotten,
                                  struct brillm_error **error);

/*
 Writes a graph to a .bril file at `path` (UTF-8, ended by a zero). Equal models give equal bytes. A file that is there is
 replaced as a whole, or stays as it is on an error. BRILLM_ERROR_UNSUPPORTED for a transformer.

 Pointers:
 `model` is NULL or a model with a reference left; `path` is NULL or ends with a zero; `error` is NULL or may be written
 to.
 */
brillm_status brillm_model_save(const struct brillm_model *model,
                                const char *path,
                                struct brillm_error **error);

/*
 The tokens of a prompt that begins with an image (PNG or PGM) or a sound (WAV), for a model that was trained on them.

 `count`, `ids` and `capacity` as in brillm_model_tokenize. BRILLM_ERROR_UNSUPPORTED for a model without the modality.

 Pointers:
 `model` is NULL or a model with a reference left; `path` is NULL or ends with a zero; `ids` is NULL or has room for
 `capacity`; `count` and `error` are NULL or may be written to.
 */
brillm_status brillm_model_tokenize_file(const struct brillm_model *model,
                                         uint64_t modality,
                                         const char *path,
                                         uint32_t *ids,
                                         size_t capacity,
                                         size_t *count,
                                         struct brillm_error **error);

/*
 Writes the image or the sound whose codes are among tokens to a file: .png, .pgm or .wav.

 Pointers:
 `model` is NULL or a model with a reference left; `ids` is NULL or has `count` tokens; `path` is NULL or ends with a
 zero; `error` is NULL or may be written to.
 */
brillm_status brillm_model_write_file(const struct brillm_model *model,
                                      uint64_t modality,
                                      const uint32_t *ids,
                                      size_t count,
                                      const char *path,
                                      struct brillm_error **error);

/*
 The library's version, for example `0.1.0`.
 */
const char *brillm_version(void);

/*
 The version of the interface that the library has: BRILLM_ABI_MAJOR of its header shifted left by 32, plus
 BRILLM_ABI_MINOR. A program works with a library of its own major and the same or a later minor.
 */
uint64_t brillm_abi_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BRILLM_H */
