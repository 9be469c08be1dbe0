//! `path/1`: told of every hop.

use crate::Result;
use crate::hook::Call;

/// A hop that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The node left.
    pub source: u32,
    /// The node reached.
    pub target: u32,
    /// How many nodes had less resistance; `None` for hops of the prompt, which were not chosen.
    pub rank: Option<u64>,
    /// −ln p of the hop over all V nodes; not a number for hops of the prompt.
    pub resistance: f64,
    /// The nodes of least resistance besides the target, best first; empty for hops of the prompt.
    pub runners_up: &'a [u32],
    /// The signal after the hop. `[D]`
    pub signal: &'a [f32],
}

/// Watches a path; never changes it.
pub trait Path: Send + Sync {
    /// Whether it wants rank, resistance and runners-up, which cost a pass over all nodes.
    fn ranks(&self) -> bool {
        true
    }

    /// A hop was taken.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn hop(&self, call: &Call<'_>, hop: &Hop<'_>) -> Result<()>;
}
