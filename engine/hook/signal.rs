//! `signal/1`: the signal as it starts.

use crate::Result;
use crate::hook::{Answer, Call};

/// Gives the vector that a signal starts from; at most one in a run.
pub trait Signal: Send + Sync {
    /// Writes the start of a signal for a prompt. `signal [D]`
    ///
    /// It arrives holding what the run starts from without the hook: the profile's own start, or the
    /// caller's. The node's own start is added to the answer, as the profile says.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn start(&self, call: &Call<'_>, prompt: &[u32], signal: &mut [f32]) -> Result<Answer>;
}
