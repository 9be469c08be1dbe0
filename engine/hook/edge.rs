//! `edge/1`: the resistance of every edge that leaves a node.

use crate::Result;
use crate::hook::{Answer, Call};

/// The fan that a signal is about to leave through.
#[derive(Clone, Copy, Debug)]
pub struct Fan<'a> {
    /// The node it leaves.
    pub source: u32,
    /// Energy with which the signal reaches every node. `[V]`
    pub energies: &'a [f32],
    /// Targets of the edges that text has walked, ascending. `[F]`
    pub targets: &'a [u32],
    /// How often text walked each of them. `[F]`
    pub counts: &'a [u32],
}

/// Rewrites resistances; several hooks form a chain, each sees what the one before it left.
pub trait Edge: Send + Sync {
    /// Rewrites the resistances of all V edges in place. `resistance [V]`
    ///
    /// They arrive as the engine has them: how much harder each edge is than the easiest, in nats, so the
    /// least is 0 and only differences count. The next node is drawn from the softmax of their negatives.
    ///
    /// # Errors
    /// Whatever went wrong; the run then stops, or goes on with the engine's own resistances.
    fn resist(&self, call: &Call<'_>, fan: &Fan<'_>, resistance: &mut [f32]) -> Result<Answer>;
}
