//! Data of `mask/1`.

/// The progress of a training run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskMoment {
    /// Steps completed.
    pub step: u64,
    /// Total steps.
    pub steps: u64,
    /// Passes over the data so far.
    pub epoch: f64,
}

/// The tokens of a sequence that may be masked.
#[derive(Clone, Copy, Debug)]
pub struct MaskTokens<'a> {
    /// The tokens. `[T]`
    pub tokens: &'a [u32],
    /// Tag of each token, [`Self::UNTAGGED`] for none. Empty if the run has no tags. `[T]`
    pub tags: &'a [u32],
    /// Index of each token's word; tokens of one word are masked together. May be empty. `[T]`
    pub words: &'a [u32],
    /// Whether each token may be masked. `[T]`
    pub allowed: &'a [bool],
    /// Masking ratio of this step.
    pub ratio: f64,
}

impl MaskTokens<'_> {
    /// Marks a token without a tag.
    pub const UNTAGGED: u32 = u32::MAX;
}

/// The losses of the tokens that a step masked.
#[derive(Clone, Copy, Debug)]
pub struct MaskOutcome<'a> {
    /// The true tokens at the masked positions. `[M]`
    pub tokens: &'a [u32],
    /// Their tags. May be empty. `[M]`
    pub tags: &'a [u32],
    /// −ln p of each, not reduced. `[M]`
    pub losses: &'a [f32],
}
