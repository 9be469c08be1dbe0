//! `kv.plan/1`: whose keys and values each layer reads, before a cache is allocated.

use crate::Result;
use crate::hook::{Answer, Call};

/// The geometry of a transformer's cache.
#[derive(Clone, Copy, Debug)]
pub struct KvShape<'a> {
    /// Layers, `L`.
    pub layers: usize,
    /// Query heads of each layer. `[L]`
    pub query_heads: &'a [u32],
    /// Key and value heads of each layer. `[L]`
    pub kv_heads: &'a [u32],
    /// Width of a head in each layer. `[L]`
    pub head_width: &'a [u32],
    /// Longest context.
    pub context: usize,
}

/// How the distance between two layers' mean keys (or values) over the calibration text is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Mean over heads and positions of the Euclidean distance along the head's width (KVSharer's code).
    MeanOfNorms,
    /// Euclidean distance of all numbers as one vector (KVSharer's text).
    Flattened,
    /// 1 − cosine of all numbers as one vector.
    Cosine,
    /// Euclidean distance of all numbers as one vector, each scaled to length 1.
    Normalised,
}

/// Lets a planner try the model on the run's calibration text.
pub trait Trial {
    /// Distances between the layers' mean keys and mean values. `keys [L, L]`, `values [L, L]`
    ///
    /// # Errors
    /// Whatever running the model met.
    fn distances(&mut self, measure: Distance, keys: &mut [f64], values: &mut [f64]) -> Result<()>;

    /// Mean cosine of the final hidden states under a candidate map with those under the identity, −1 to 1.
    /// `source [L]`, with `source[l] ≤ l` and `source[source[l]] = source[l]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] for a map that is none; whatever running the model met.
    fn similarity(&mut self, source: &[u32]) -> Result<f64>;
}

/// The answer of a planner.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Whose keys and values each layer reads: itself, or a layer before it that reads its own. `[L]`
    pub source: &'a mut [u32],
    /// Bits in which each layer's cache stores a number: 32, 16, or 0 for the run's own. `[L]`
    pub storage: &'a mut [u32],
}

/// Plans a cache; at most one in a run.
pub trait Plan: Send + Sync {
    /// Whether it wants to try the model: the engine then needs calibration text.
    fn tries(&self) -> bool;

    /// Writes the plan. It arrives as identity, storage 0. `trial` is `None` where the run has no text for it.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn plan(
        &self,
        call: &Call<'_>,
        shape: &KvShape<'_>,
        trial: Option<&mut dyn Trial>,
        planned: Planned<'_>,
    ) -> Result<Answer>;
}
