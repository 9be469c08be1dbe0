//! Logits and the choice of the next node on the device: `select.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::{Blocks, Sequences};

/// Compute the logits of all nodes for each sequence, and choose or list.
// naga 30 rejects the pipeline constants when the arrays of `workgroup` are declared before all scalar types are used.
#[rustfmt::skip]
pub const SELECT: Kernel = Kernel {
    name: "select",
    sources: shaders![
        "activation", "random", "sequences", "workgroup", "running", "composed_energy", "select"
    ],
    entry: "choose",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Write, Read, Read, Read, Read, Read],
};

/// Result of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// The next node.
    Choose = 0,
    /// The logits alone.
    Logits = 1,
    /// A list of the best nodes.
    List = 2,
}

parameters! {
    /// Parameters of [`SELECT`].
    Parameters {
        Sequences: at;
        Blocks: blocks;
        u32: has_bias, has_resistance, has_own;
        f32: alpha, temperature;
        u32: top_k;
        f32: top_p, min_p, penalty;
        u32: self_loops, mode, scored;
    }
}
