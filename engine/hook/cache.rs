//! Hooks of a transformer's KV cache: `kv.plan/1`, `kv.keep/1`, `kv.codec/1`.

use crate::Result;
use crate::hook::{
    Answer, Call, CodecFormat, CodecQuestion, Distance, Eviction, KeepNeeds, KeepQuestion, KvShape,
    Planned,
};

/// Runs the model on the run's calibration text for a [`Plan`].
pub trait Trial {
    /// Measure the distances between the layers' mean keys and between their mean values. `keys [L, L]`,
    /// `values [L, L]`
    ///
    /// # Errors
    /// A failure to run the model.
    fn distances(&mut self, measure: Distance, keys: &mut [f64], values: &mut [f64]) -> Result<()>;

    /// Measure the mean cosine, −1 to 1, between the final hidden states under a map and under the identity.
    /// `source [L]`, with `source[l] ≤ l` and `source[source[l]] = source[l]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] for an invalid map; a failure to run the model.
    fn similarity(&mut self, source: &[u32]) -> Result<f64>;
}

/// Plans a cache: whose keys and values each layer reads. At most one per run.
pub trait Plan: Send + Sync {
    /// Whether the hook tries plans on the model, which needs calibration text.
    fn tries(&self) -> bool;

    /// Write the plan. `trial` is `None` if the run has no calibration text.
    ///
    /// # Errors
    /// A failure of the hook.
    fn plan(
        &self,
        call: &Call<'_>,
        shape: &KvShape<'_>,
        trial: Option<&mut dyn Trial>,
        planned: Planned<'_>,
    ) -> Result<Answer>;
}

/// The eviction policy of a cache: decides which slots and rows a layer keeps. At most one per run.
///
/// The engine checks every list (ascending, in range, equal counts) and applies all of an answer or none of it. Slots
/// are reused and nothing is moved; positions remain the original ones.
pub trait Keep: Send + Sync {
    /// Begin a sequence with a prompt of this length and return the statistics needed. Discard the state of an earlier
    /// sequence with the same number.
    ///
    /// # Errors
    /// A failure of the hook.
    fn begin(&self, call: &Call<'_>, prompt: usize) -> Result<KeepNeeds>;

    /// Decide what a layer keeps. `None` keeps everything and is final until the next prompt.
    ///
    /// # Errors
    /// A failure of the hook.
    fn keep(&self, call: &Call<'_>, question: &KeepQuestion<'_>) -> Result<Option<Eviction>>;
}

/// Chooses in how many bits a cache stores its numbers. At most one per run.
pub trait Codec: Send + Sync {
    /// Choose the format of a layer's keys or values; `None` keeps the run's setting.
    ///
    /// # Errors
    /// A failure of the hook.
    fn plan(&self, call: &Call<'_>, question: &CodecQuestion) -> Result<Option<CodecFormat>>;
}
