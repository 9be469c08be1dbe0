//! Own residuals of composed edges on the device: `residual.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::{Blocks, Sequences};

/// `x B` of each sequence.
pub const PROJECT: Kernel = Kernel {
    name: "residual",
    sources: shaders!["element", "sequences", "fans", "fan_edges", "residual"],
    entry: "project",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Read, Read, Read, Read, Read],
};

/// Energies of the own edges of each sequence's fan.
pub const ENERGIES: Kernel = Kernel {
    entry: "energies",
    ..PROJECT
};

/// Add the residual of the chosen edge.
pub const PREACTIVATION: Kernel = Kernel {
    entry: "preactivation",
    ..PROJECT
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Sequences: at;
        Blocks: blocks;
        u32: buffer;
    }
}
