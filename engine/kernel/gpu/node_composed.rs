//! Outputs of the nodes of composed edges on the device: `node_composed.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::{Blocks, Sequences};

/// Move each sequence to its next node and compute the node's output.
pub const UPDATE: Kernel = Kernel {
    name: "node_composed",
    sources: shaders![
        "workgroup",
        "activation",
        "blend",
        "sequences",
        "advance",
        "node_composed"
    ],
    entry: "node_update",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Write, Read],
};

parameters! {
    /// Parameters of [`UPDATE`].
    Parameters {
        Sequences: at;
        Blocks: blocks;
        f32: kappa, epsilon;
    }
}
