//! Data of the hooks that choose tokens and positions: `sample/1` and `order/1`.

/// A prompt that has been processed, before its first new token.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// Tokens of the prompt.
    pub tokens: &'a [u32],
    /// Mean hidden state over the prompt: the signal leaving a node on the graph, the last layer's output on a
    /// transformer. Empty unless requested. `[D]`
    pub pooled: &'a [f32],
    /// Hidden state at the last position. Empty unless requested. `[D]`
    pub hidden: &'a [f32],
    /// Logits of the first new token, before any temperature. `[V]`
    pub logits: &'a [f32],
}

/// The state of a sequence when its next token is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Tokens generated so far.
    pub generated: u64,
    /// Current token.
    pub token: u32,
    /// Prompt and generated tokens. Empty unless requested.
    pub history: &'a [u32],
    /// Hidden state. Empty unless requested. `[D]`
    pub hidden: &'a [f32],
}

/// Sampling settings that a hook changes; `None` keeps the run's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Setting {
    /// Divisor of the logits before the softmax; 0 chooses the highest.
    pub temperature: Option<f32>,
}

/// A text that grows in either direction: each position is filled or empty.
#[derive(Clone, Copy, Debug)]
pub struct Canvas<'a> {
    /// Token at each position; [`Self::EMPTY`] if there is none yet.
    pub tokens: &'a [u32],
    /// First filled position of the span that contains the prompt.
    pub left: u64,
    /// One past the last filled position of that span.
    pub right: u64,
    /// −ln p of the best token before `left`; NaN if none can be placed.
    pub left_resistance: f64,
    /// −ln p of the best token at `right`; NaN if none can be placed.
    pub right_resistance: f64,
}

impl Canvas<'_> {
    /// Marks a position without a token.
    pub const EMPTY: u32 = u32::MAX;
}

/// The context a token is predicted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The tokens before it.
    Forward,
    /// The tokens after it.
    Backward,
}

/// A position to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The position: on the graph `left − 1` or `right`.
    pub position: u64,
    /// Direction of the prediction.
    pub direction: Direction,
}
