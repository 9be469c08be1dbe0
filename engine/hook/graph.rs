//! Hooks of the graph: `edge/1`, `signal/1`, `path/1`, `wgsl/1:<hook>`.

use crate::Result;
use crate::hook::{Answer, Call, Fan, Hop};

/// Rewrites resistances. Several hooks form a chain; each receives the result of the one before.
pub trait Edge: Send + Sync {
    /// Rewrite the resistance of all `V` edges in place. `resistance [V]`
    ///
    /// Resistances are initialised to nats above the easiest edge, so the least is 0. Only differences count: the next
    /// node is drawn from the softmax of their negatives.
    ///
    /// # Errors
    /// A failure of the hook; depending on the run, it stops or continues with the engine's resistances.
    fn resist(&self, call: &Call<'_>, fan: &Fan<'_>, resistance: &mut [f32]) -> Result<Answer>;
}

/// Sets the initial signal. At most one per run.
pub trait Signal: Send + Sync {
    /// Write the initial signal of a prompt, which holds the run's default: the profile's or the caller's. `signal [D]`
    ///
    /// The node's own start is added afterwards, as the profile defines.
    ///
    /// # Errors
    /// A failure of the hook.
    fn start(&self, call: &Call<'_>, prompt: &[u32], signal: &mut [f32]) -> Result<Answer>;
}

/// Observes every hop; never changes the path.
pub trait Path: Send + Sync {
    /// Whether rank, resistance and runners-up are needed, which cost a pass over all nodes.
    fn ranks(&self) -> bool {
        true
    }

    /// Observe a hop.
    ///
    /// # Errors
    /// A failure of the hook.
    fn hop(&self, call: &Call<'_>, hop: &Hop<'_>) -> Result<()>;
}

/// A hook's function as WGSL, to run on the device that holds the data.
///
/// The function on the CPU defines the result. The shader is validated and compared with it before use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shader {
    /// Id of the hook, for example `edge/1`.
    pub hook: String,
    /// The WGSL source.
    pub source: String,
    /// Compute entry point.
    pub entry_point: String,
    /// Workgroup size.
    pub workgroup: u32,
}
