//! The plan of a hop on the device, sequences grouped by node and dispatches sized: `plan.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::Sequences;

/// Buffer of a fan that is not on the device.
pub const ABSENT: u32 = u32::MAX;

/// Sort sequences by node and size the dispatches of each buffer of fans.
pub const PLAN: Kernel = Kernel {
    name: "plan",
    sources: shaders!["sequences", "plan"],
    entry: "plan",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Write],
};

parameters! {
    /// Parameters of [`PLAN`].
    Parameters {
        Sequences: at;
        u32: buffers, edges;
    }
}
