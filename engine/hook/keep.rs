//! `kv.keep/1`: which slots of a layer's cache stay, and which rows of the hidden stream go on.

use crate::Result;
use crate::hook::Call;

/// When a layer is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The prompt has just passed through the layer.
    Prefill,
    /// A new token has, and the layer is longer than the hook's `next_check`.
    Decode,
}

/// How the heads of a layer become rows of a statistic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadReduction {
    /// Mean over all query heads: one row.
    #[default]
    All,
    /// Mean over the query heads of each key-value head: `H_kv` rows.
    GroupMean,
    /// Maximum over the query heads of each key-value head: `H_kv` rows.
    GroupMaximum,
}

/// A weighted mean of attention over the last queries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnSum {
    /// How many of the last queries, at most all there are.
    pub window: usize,
    /// Weight of the oldest of them; weights run linearly to [`Self::newest`].
    pub oldest: f32,
    /// Weight of the newest.
    pub newest: f32,
    /// How heads become rows.
    pub heads: HeadReduction,
}

/// What a [`Keep`] wants to be given; what nobody wants is not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeepNeeds {
    /// Mean attention of the last queries, as stated.
    pub column: Option<ColumnSum>,
    /// Attention summed over all queries so far, by key-value head (mean over its query heads).
    pub accumulated: bool,
    /// Euclidean norm of each key, by key-value head.
    pub key_norm: bool,
}

/// A layer to decide about. Each head uses `N` slots, `R` rows of the hidden stream passed through the layer.
///
/// Statistics are reduced by the engine, `[G, N]` with `G` rows of heads; they are `None` unless wanted.
#[derive(Clone, Copy, Debug)]
pub struct KeepQuestion<'a> {
    /// When.
    pub phase: Phase,
    /// The layer.
    pub layer: usize,
    /// Layers of the model, `L`.
    pub layers: usize,
    /// Key-value heads that may keep different slots: the model's where a statistic by head was asked for, else 1.
    pub heads: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the sequence so far, kept or not.
    pub length: usize,
    /// Original position of each slot in use, ascending within a head: heads may hold different tokens.
    /// `[heads, N]`
    pub positions: &'a [u32],
    /// Original position of each row of the hidden stream, ascending; empty in decoding. `[R]`
    pub stream: &'a [u32],
    /// As asked by [`KeepNeeds::column`]. `[G, N]`
    pub column: Option<&'a [f32]>,
    /// As asked by [`KeepNeeds::accumulated`]. `[H_kv, N]`
    pub accumulated: Option<&'a [f32]>,
    /// As asked by [`KeepNeeds::key_norm`]. `[H_kv, N]`
    pub key_norm: Option<&'a [f32]>,
}

/// The decision about a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// Slots kept: ascending indices, 0 to N, into each head's row of `positions`, the newest among them; the same
    /// number for each head, one head after the other (one list where all heads keep the same). `None` keeps all.
    pub slots: Option<Vec<u32>>,
    /// Lists in `slots`: 1, or the question's `heads`.
    pub heads: usize,
    /// Rows of the hidden stream that go on to the next layer: ascending indices into `stream`, the last row
    /// among them. `None` lets all go on.
    pub stream: Option<Vec<u32>>,
    /// The layer is asked about again in decoding when it holds more slots than this; `None` never.
    pub next_check: Option<u64>,
}

/// Decides what a cache keeps; at most one in a run.
///
/// The engine checks every list (ascending, in range, equal counts) and acts on all of it or none. Slots
/// are reused, nothing is moved; positions stay the original ones.
pub trait Keep: Send + Sync {
    /// A sequence begins: what the hook wants for a prompt of this length. State of an earlier sequence of
    /// the same number ends here.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn begin(&self, call: &Call<'_>, prompt: usize) -> Result<KeepNeeds>;

    /// Decides about a layer; `None` keeps everything and asks again only at the next prompt.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn keep(&self, call: &Call<'_>, question: &KeepQuestion<'_>) -> Result<Option<Eviction>>;
}
