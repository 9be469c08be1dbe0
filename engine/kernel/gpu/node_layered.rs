//! Outputs of the nodes of layered edges on the device: `node_layered.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::Sequences;

/// Set the signal of each sequence's next node, and normalise it for the first layer.
pub const ENTER: Kernel = Kernel {
    name: "node_layered",
    sources: shaders![
        "workgroup",
        "activation",
        "sequences",
        "running",
        "advance",
        "node_layered"
    ],
    entry: "enter",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Write, Read],
};

/// Advance the memory of a layer by the signal of the edge.
pub const MEMORY: Kernel = Kernel {
    entry: "memory",
    ..ENTER
};

/// Add what a layer computed to the signals, and normalise them for the next one.
pub const ADD: Kernel = Kernel {
    entry: "add",
    ..ENTER
};

/// Set the outputs, and move each sequence to its next node.
pub const LEAVE: Kernel = Kernel {
    entry: "leave",
    ..ENTER
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Sequences: at;
        u32: layer, carries, gain, bias, normals, memory, mixed;
        f32: kappa, epsilon;
    }
}
