//! Outputs of the nodes of own edges on the device: `node_own.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::{Blocks, Sequences};

/// Move each sequence to its next node and compute the node's output.
pub const UPDATE: Kernel = Kernel {
    name: "node_own",
    sources: shaders![
        "workgroup",
        "activation",
        "blend",
        "sequences",
        "advance",
        "node_own"
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
        u32: has_table;
    }
}
