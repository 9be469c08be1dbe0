//! What comes next: `sample/1` and `order/1`. Both serve the graph and the transformer.

use crate::value::{brl_call, brl_f32s, brl_ids, brl_self, brl_status, brl_tensor};

/// `brl_sample.needs`: hidden states.
pub const BRL_NEED_HIDDEN: u64 = 8;
/// `brl_sample.needs`: the tokens so far.
pub const BRL_NEED_HISTORY: u64 = 16;

/// A prompt that has been read, before its first new token. V tokens, D wide.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_prompt {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Its tokens.
    pub tokens: brl_ids,
    /// Mean over its positions of the hidden state: the signal, or the last layer's output. [D]
    pub pooled: brl_tensor,
    /// The hidden state at its last position. [D]
    pub hidden: brl_tensor,
    /// Scores of the first new token, before any temperature. [V]
    pub logits: brl_tensor,
}

/// A token that is about to be chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_step {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Hops or tokens of the sequence, those of the prompt included.
    pub step: u64,
    /// New tokens chosen so far.
    pub generated: u64,
    /// The current token.
    pub token: u64,
    /// Prompt and new tokens.
    pub history: brl_ids,
    /// The hidden state. [D]
    pub hidden: brl_tensor,
}

/// What a plugin sets; a value that is not a number keeps what the run says, and all arrive so.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_setting {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Divides the scores before the softmax; 0 takes the highest.
    pub temperature: f64,
}

/// `sample/1`: scores, temperature, choice (QuATS, EDT, min-p). Plugins form a chain; the last that chooses,
/// chooses. Functions that a plugin does not need are null.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_sample {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// `BRL_NEED_HIDDEN`, `BRL_NEED_HISTORY`.
    pub needs: u64,
    /// A prompt begins: a setting that holds until its text ends. [instance]
    pub prompt: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            prompt: *const brl_prompt,
            setting: *mut brl_setting,
        ) -> brl_status,
    >,
    /// Rewrites the scores in place, and may set this step's temperature. scores [V] [instance]
    pub step: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            step: *const brl_step,
            logits: brl_f32s,
            setting: *mut brl_setting,
        ) -> brl_status,
    >,
    /// Chooses among the probabilities that temperature and truncation left. [V] [instance]
    pub choose: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            step: *const brl_step,
            probabilities: *const brl_tensor,
            token: *mut u64,
        ) -> brl_status,
    >,
}

/// In `brl_canvas.tokens`: nothing is there yet.
pub const BRL_EMPTY: u32 = 0xFFFF_FFFF;

/// A text that grows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_canvas {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Tokens placed so far.
    pub step: u64,
    /// Tokens by position, `BRL_EMPTY` where none is yet.
    pub tokens: brl_ids,
    /// First filled position of the span that holds the prompt.
    pub left: u64,
    /// One past its last filled position.
    pub right: u64,
    /// −ln p of the best token before `left`; not a number where none can be placed.
    pub left_resistance: f64,
    /// −ln p of the best token at `right`; not a number where none can be placed.
    pub right_resistance: f64,
}

/// `brl_place.direction`: from the tokens before it.
pub const BRL_FORWARD: u64 = 0;
/// From the tokens after it.
pub const BRL_BACKWARD: u64 = 1;

/// A position to fill.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_place {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The position.
    pub position: u64,
    /// `BRL_FORWARD` or `BRL_BACKWARD`.
    pub direction: u64,
}

/// `order/1`: which position is filled next, and from which side (bidirectional autoregression).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_order {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// The next place. [instance]
    pub next: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            canvas: *const brl_canvas,
            place: *mut brl_place,
        ) -> brl_status,
    >,
}
