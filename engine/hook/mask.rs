//! `mask/1`: what masked training hides.

use crate::Result;
use crate::hook::{Answer, Call};

/// Where in a training run a step is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskMoment {
    /// Steps taken.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Passes over the data so far.
    pub epoch: f64,
}

/// The tokens of a sequence that may be masked.
#[derive(Clone, Copy, Debug)]
pub struct MaskTokens<'a> {
    /// The tokens. `[T]`
    pub tokens: &'a [u32],
    /// Tag of each token, where the run has tags; [`Self::UNTAGGED`] for none. `[T]` or empty
    pub tags: &'a [u32],
    /// Word of each token, counted from 0; tokens of one word are masked together. `[T]` or empty
    pub words: &'a [u32],
    /// Whether each token may be masked at all. `[T]`
    pub allowed: &'a [bool],
    /// The ratio that holds in this step.
    pub ratio: f64,
}

impl MaskTokens<'_> {
    /// The tag of a token that has none.
    pub const UNTAGGED: u32 = u32::MAX;
}

/// What became of the tokens that a step masked; losses are not reduced.
#[derive(Clone, Copy, Debug)]
pub struct MaskOutcome<'a> {
    /// The true tokens at the masked places. `[M]`
    pub tokens: &'a [u32],
    /// Their tags. `[M]` or empty
    pub tags: &'a [u32],
    /// −ln p of each. `[M]`
    pub losses: &'a [f32],
}

/// Decides what masked training hides; at most one in a run. Its state is part of every checkpoint.
pub trait Mask: Send + Sync {
    /// The share of tokens to mask in a step, 0 to 1; `None` keeps the recipe's.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn ratio(&self, call: &Call<'_>, moment: &MaskMoment) -> Result<Option<f64>>;

    /// Relative chance of each token of a sequence. They arrive as 1. `weights [T]`, 0 or more
    ///
    /// The engine draws: a token is accepted with its weight as the probability, in random order, until the
    /// ratio is reached; or exactly the ratio is drawn without replacement in proportion to the weights, as
    /// the recipe says.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn weigh(
        &self,
        call: &Call<'_>,
        tokens: &MaskTokens<'_>,
        weights: &mut [f32],
    ) -> Result<Answer>;

    /// Told the losses of a step.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn learn(&self, call: &Call<'_>, outcome: &MaskOutcome<'_>) -> Result<()>;

    /// Its state, for a checkpoint; empty where it has none.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn save(&self) -> Result<Vec<u8>>;

    /// Takes the state of a checkpoint.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] for a state that is none of its own.
    fn restore(&self, state: &[u8]) -> Result<()>;
}
