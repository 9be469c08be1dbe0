//! Data of the graph hooks `edge/1` and `path/1`.

/// The outgoing edges of a node: `V` targets, of which text has walked `F`.
#[derive(Clone, Copy, Debug)]
pub struct Fan<'a> {
    /// The node that the signal leaves.
    pub source: u32,
    /// Energy of the signal at every target. `[V]`
    pub energies: &'a [f32],
    /// Targets of walked edges, ascending. `[F]`
    pub targets: &'a [u32],
    /// How often text walked each of them. `[F]`
    pub counts: &'a [u32],
}

/// A hop from one node to the next.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The node left.
    pub source: u32,
    /// The node reached.
    pub target: u32,
    /// Number of nodes with less resistance; `None` for hops of the prompt, or if ranks are not requested.
    pub rank: Option<u64>,
    /// −ln p of the hop over all `V` nodes; NaN where `rank` is `None`.
    pub resistance: f64,
    /// Nodes of least resistance other than the target, best first; empty where `rank` is `None`.
    pub runners_up: &'a [u32],
    /// The signal after the hop. `[D]`
    pub signal: &'a [f32],
}
