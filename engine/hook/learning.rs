//! The hook of masked training: `mask/1`.

use crate::Result;
use crate::hook::{Answer, Call, MaskMoment, MaskOutcome, MaskTokens};

/// Decides which tokens masked training hides. At most one per run. Checkpoints contain its state.
pub trait Mask: Send + Sync {
    /// Return the fraction of tokens to mask in a step, 0 to 1; `None` keeps the recipe's.
    ///
    /// # Errors
    /// A failure of the hook.
    fn ratio(&self, call: &Call<'_>, moment: &MaskMoment) -> Result<Option<f64>>;

    /// Write the relative probability of each token, 0 or more, initialised to 1. `weights [T]`
    ///
    /// Depending on the recipe, the engine either visits tokens in random order and accepts each with its weight as
    /// the probability until the ratio is reached, or draws the exact ratio without replacement in proportion to the
    /// weights.
    ///
    /// # Errors
    /// A failure of the hook.
    fn weigh(
        &self,
        call: &Call<'_>,
        tokens: &MaskTokens<'_>,
        weights: &mut [f32],
    ) -> Result<Answer>;

    /// Observe the losses of a step.
    ///
    /// # Errors
    /// A failure of the hook.
    fn learn(&self, call: &Call<'_>, outcome: &MaskOutcome<'_>) -> Result<()>;

    /// Return the state for a checkpoint; empty if there is none.
    ///
    /// # Errors
    /// A failure of the hook.
    fn save(&self) -> Result<Vec<u8>>;

    /// Restore the state of a checkpoint.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] for an invalid state.
    fn restore(&self, state: &[u8]) -> Result<()>;
}
