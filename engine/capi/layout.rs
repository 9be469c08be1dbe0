//! What crosses the border: numbers, and structs as C lays them out. No code, no dependencies.
//!
//! A struct that begins with `struct_size` may grow at its end in later versions; each field is 8 bytes wide, or one
//! of a pair that is, so no padding can hide a field. Zero is the default in every field. [`brillm_candidate`], of
//! which callers make arrays, never changes.

use core::ffi::{c_char, c_void};

/// Raised when something is taken away or changes its meaning: programs must be compiled anew.
pub const BRILLM_ABI_MAJOR: u32 = 1;
/// Raised when something is added: programs that do not use it need no change.
pub const BRILLM_ABI_MINOR: u32 = 1;

/// What a call answers: BRILLM_OK, BRILLM_END, or a negative error.
pub type brillm_status = i32;

/// The call did what it says.
pub const BRILLM_OK: brillm_status = 0;
/// The generation has ended: no piece was given. Not an error.
pub const BRILLM_END: brillm_status = 1;
/// The operating system refused: a missing file, a full disk.
pub const BRILLM_ERROR_IO: brillm_status = -1;
/// Bytes that are not what the format says.
pub const BRILLM_ERROR_FORMAT: brillm_status = -2;
/// A checksum does not match: the file is damaged.
pub const BRILLM_ERROR_CHECKSUM: brillm_status = -3;
/// A file format this library does not read, or a struct with fields it does not know.
pub const BRILLM_ERROR_VERSION: brillm_status = -4;
/// A value is out of range, or makes no sense together with another.
pub const BRILLM_ERROR_INPUT: brillm_status = -5;
/// Text or a token that the vocabulary does not have.
pub const BRILLM_ERROR_VOCABULARY: brillm_status = -6;
/// A configuration that cannot be used.
pub const BRILLM_ERROR_CONFIGURATION: brillm_status = -7;
/// A value that is not finite appeared where arithmetic needs one.
pub const BRILLM_ERROR_NUMERIC: brillm_status = -8;
/// Valid, but not something this library or this model can do.
pub const BRILLM_ERROR_UNSUPPORTED: brillm_status = -9;
/// A plugin failed.
pub const BRILLM_ERROR_PLUGIN: brillm_status = -10;
/// brillm_session_cancel, or the callback of brillm_model_learn, ended the call.
pub const BRILLM_ERROR_CANCELLED: brillm_status = -11;
/// Memory or another resource is exhausted or too small.
pub const BRILLM_ERROR_RESOURCE: brillm_status = -12;
/// A pointer that must not be NULL is.
pub const BRILLM_ERROR_NULL: brillm_status = -13;
/// The caller's buffer is too small; the length that is needed was written.
pub const BRILLM_ERROR_BUFFER: brillm_status = -14;
/// Another call is running on the session, for example the one whose callback this call was made from.
pub const BRILLM_ERROR_BUSY: brillm_status = -15;
/// The library panicked: a defect in it. The session it happened in answers BRILLM_ERROR_PANIC from then on.
pub const BRILLM_ERROR_PANIC: brillm_status = -16;
/// Anything else.
pub const BRILLM_ERROR_OTHER: brillm_status = -17;

/// As a length: the text ends at its first zero byte.
pub const BRILLM_TERMINATED: usize = usize::MAX;
/// As `tokens`: no limit. The state of a graph does not grow with the text.
pub const BRILLM_UNLIMITED: u64 = u64::MAX;

/// The callback continues the generation.
pub const BRILLM_GO_ON: i32 = 0;
/// The callback stops the generation, as any value other than 0 does.
pub const BRILLM_STOP: i32 = 1;

/// The generation is running.
pub const BRILLM_FINISH_NONE: u64 = 0;
/// The requested number of tokens was reached.
pub const BRILLM_FINISH_LENGTH: u64 = 1;
/// A stop token or a stop text.
pub const BRILLM_FINISH_STOP: u64 = 2;
/// brillm_session_cancel was called.
pub const BRILLM_FINISH_CANCELLED: u64 = 3;
/// No token was left to choose: all were banned.
pub const BRILLM_FINISH_EXHAUSTED: u64 = 4;
/// The model has no place for another token.
pub const BRILLM_FINISH_CONTEXT: u64 = 5;
/// The callback wanted no more.
pub const BRILLM_FINISH_CALLBACK: u64 = 6;

/// A graph: a .bril file.
pub const BRILLM_KIND_GRAPH: u64 = 1;
/// A transformer or a recurrent net: a folder.
pub const BRILLM_KIND_TRANSFORMER: u64 = 2;

/// All of a file up to 256 MiB is verified when it is opened; of larger ones each part when it is first used.
pub const BRILLM_VERIFY_LAZY: u64 = 0;
/// Parts are verified when they are first used, however small the file; the file is mapped, so it must not be
/// written to while it is open.
pub const BRILLM_VERIFY_TOUCHED: u64 = 1;
/// Every byte is verified when the file is opened.
pub const BRILLM_VERIFY_WHOLE: u64 = 2;

/// Text.
pub const BRILLM_MODALITY_TEXT: u64 = 0;
/// Images: PNG and PGM files.
pub const BRILLM_MODALITY_IMAGE: u64 = 1;
/// Sounds: WAV files.
pub const BRILLM_MODALITY_AUDIO: u64 = 2;

/// The model has no edges: it is no graph.
pub const BRILLM_EDGE_NONE: u32 = 0;
/// The edge has parameters of its own.
pub const BRILLM_EDGE_OWN: u32 = 1;
/// The edge was walked in training, but shares its parameters.
pub const BRILLM_EDGE_SEEN: u32 = 2;
/// The edge was never walked in training.
pub const BRILLM_EDGE_SHARED: u32 = 3;

/// The piece is text that was held back, as the beginning of a stop text may be; it brings no new token, and its id
/// is that of the last one.
pub const BRILLM_PIECE_TEXT_ONLY: u32 = 1;

/// How a model is opened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_open_options {
    /// sizeof(brillm_open_options).
    pub struct_size: u64,
    /// How much of a .bril file is verified: a BRILLM_VERIFY value.
    pub verify: u64,
    /// Order of a graph's static resistances to use, from 2 to that of the model; 0 for that of the model.
    pub order: u64,
}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_model_info {
    /// sizeof(brillm_model_info), set by the caller.
    pub struct_size: u64,
    /// A BRILLM_KIND value.
    pub kind: u64,
    /// Tokens, V.
    pub vocabulary: u64,
    /// Width of the signal or of the hidden state, D.
    pub width: u64,
    /// Layers, L; 0 for a graph without layered edges.
    pub layers: u64,
    /// Edges walked in training; 0 for a transformer.
    pub edges: u64,
    /// Edges with parameters of their own, E; 0 for a transformer.
    pub own_edges: u64,
    /// Tokens that a text may have, prompt included; 0 for no limit.
    pub context: u64,
    /// Order of a graph's static resistances in use: 2 for those of edges, more with longer walks; 0 for a transformer.
    pub order: u64,
}

/// How tokens are chosen and when a generation ends. Zero is the default in every field;
/// brillm_parameters_init writes the defaults out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_parameters {
    /// sizeof(brillm_parameters).
    pub struct_size: u64,
    /// Seed of the draws: the same seed gives the same text, on any thread.
    pub seed: u64,
    /// At most so many new tokens; 0 for 128, or 512 codes of a sound, BRILLM_UNLIMITED for no limit.
    pub tokens: u64,
    /// Divides the scores before the softmax; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Only the likeliest k tokens; 0 for all.
    pub top_k: u64,
    /// Only the likeliest tokens that together reach this probability; 0 or 1 for all.
    pub top_p: f64,
    /// Only tokens at least this fraction as likely as the likeliest; 0 for all.
    pub min_p: f64,
    /// How many times less likely a recent token becomes; 0 or 1 for no penalty.
    pub repetition_penalty: f64,
    /// How many of the last tokens are recent; 0 for 64.
    pub penalty_window: u64,
    /// Other than 0: goes on after the model's end token.
    pub ignore_eos: u64,
    /// Texts, each ended by a zero byte, at which a generation ends; the text before one is given out.
    pub stops: *const *const c_char,
    /// How many.
    pub stop_count: u64,
    /// Tokens that are never chosen.
    pub banned: *const u32,
    /// How many.
    pub banned_count: u64,
    /// Subtracted from the logit of every new token that was chosen before; -2 to 2.
    pub presence_penalty: f64,
    /// Subtracted from the logit of a new token for each time it was chosen before; -2 to 2.
    pub frequency_penalty: f64,
    /// Tokens whose logits `bias_values` are added to.
    pub bias_tokens: *const u32,
    /// One value for each of `bias_tokens`; -100 to 100.
    pub bias_values: *const f64,
    /// How many.
    pub bias_count: u64,
    /// A BRILLM_MODALITY value: other than BRILLM_MODALITY_TEXT, a prompt is continued with the codes of an image, or of a
    /// sound of at most `tokens` codes; brillm_session_tokens has them for brillm_model_write_file.
    pub modality: u64,
}

/// One new token with the text it completes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_piece {
    /// sizeof(brillm_piece); the caller's in brillm_session_next, the library's in a callback.
    pub struct_size: u64,
    /// New tokens before this one.
    pub index: u64,
    /// Text that is complete now, in UTF-8 and ended by a zero byte; empty while a character is still on its way.
    /// Borrowed until the callback returns, or until the next call on the session.
    pub text: *const c_char,
    /// Bytes of the text, without the zero.
    pub length: u64,
    /// The token.
    pub id: u32,
    /// BRILLM_PIECE bits.
    pub flags: u32,
}

/// Called with each piece of a generation; `user` is what the caller of brillm_session_generate gave.
///
/// Answers BRILLM_GO_ON or BRILLM_STOP. Nothing may be thrown through it. On the session it was called for, only
/// brillm_session_cancel, brillm_session_retain and brillm_session_release may be called; other calls answer
/// BRILLM_ERROR_BUSY.
pub type brillm_on_piece =
    Option<unsafe extern "C" fn(user: *mut c_void, piece: *const brillm_piece) -> i32>;

/// How a generation went.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_outcome {
    /// sizeof(brillm_outcome), set by the caller.
    pub struct_size: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// New tokens.
    pub tokens: u64,
    /// Why it ended: a BRILLM_FINISH value.
    pub finish: u64,
}

/// A token as the next one. Frozen: it never grows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_candidate {
    /// The token.
    pub id: u32,
    /// The edge that leads to it: a BRILLM_EDGE value.
    pub edge: u32,
    /// How often the edge was walked in training; 0 for a transformer.
    pub count: u64,
    /// Energy with which the signal reaches it; the logit of a transformer.
    pub energy: f64,
    /// The logit; the softmax over all tokens is the probability.
    pub logit: f64,
    /// Probability among all tokens, before temperature, penalties and truncation.
    pub probability: f64,
}

/// How likely a text is to a model.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_score {
    /// sizeof(brillm_score), set by the caller.
    pub struct_size: u64,
    /// Tokens predicted: all but the first, which nothing precedes.
    pub tokens: u64,
    /// Bytes of text in these tokens.
    pub bytes: u64,
    /// Sum of -ln p over them.
    pub nats: f64,
    /// exp(nats / tokens).
    pub perplexity: f64,
    /// nats / (bytes ln 2); 0 where the tokens have no bytes, and with codes of images or sounds.
    pub bits_per_byte: f64,
}

/// How texts are learned. Zero is the default in every field.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_learn_options {
    /// sizeof(brillm_learn_options).
    pub struct_size: u64,
    /// Name of the record, ended by a zero byte; NULL for "text", numbered if a record has that name.
    pub name: *const c_char,
    /// How often each transition of the texts counts; 0 for 1.
    pub weight: u64,
    /// Passes of training over the texts; 0 for 1.
    pub passes: u64,
    /// Other than 0: adds the counts alone, without training.
    pub counts_only: u64,
    /// Highest learning rate, at most 1; 0 for 0.002.
    pub rate: f64,
    /// Most nodes to add for words that occur at least twice and are several tokens.
    pub new_nodes: u64,
    /// Seed of the order of batches.
    pub seed: u64,
    /// Texts that the model knows already, each ended by a zero byte: a tenth of the steps trains on them against
    /// forgetting, and their counts are not added.
    pub replay: *const *const c_char,
    /// How many.
    pub replay_count: u64,
    /// Tokens to learn after the texts, for models without text.
    pub ids: *const u32,
    /// How many.
    pub id_count: u64,
}

/// Progress of learning.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_progress {
    /// sizeof(brillm_progress) of the library.
    pub struct_size: u64,
    /// Steps taken.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// -ln p per token before the last step.
    pub nats: f64,
}

/// Called after each step of brillm_model_learn; `user` is what its caller gave. Answers BRILLM_GO_ON or BRILLM_STOP.
/// Nothing may be thrown through it.
pub type brillm_on_step =
    Option<unsafe extern "C" fn(user: *mut c_void, progress: *const brillm_progress) -> i32>;

/// What a graph has learned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_lesson {
    /// sizeof(brillm_lesson), set by the caller.
    pub struct_size: u64,
    /// Tokens of the texts.
    pub tokens: u64,
    /// Edges that were added.
    pub new_edges: u64,
    /// Nodes that were added.
    pub new_nodes: u64,
    /// Rows of weights that were trained.
    pub trained_rows: u64,
    /// Perplexity of the texts in the first pass, each part before it was trained on; 0 where it was not measured.
    pub first_perplexity: f64,
    /// The same in the last pass.
    pub last_perplexity: f64,
}

/// What forgetting texts has changed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brillm_forgotten {
    /// sizeof(brillm_forgotten), set by the caller.
    pub struct_size: u64,
    /// Rows of weights that have the bytes of before the texts again.
    pub restored_rows: u64,
    /// Rows that a later text has moved too, from which the difference that these texts made was subtracted.
    pub subtracted_rows: u64,
    /// Edges that were removed.
    pub removed_edges: u64,
    /// Nodes that were removed.
    pub removed_nodes: u64,
    /// Nodes of the texts that stay for a later text; its record has them now.
    pub kept_nodes: u64,
}
