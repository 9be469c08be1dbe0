//! Signals through the chosen own edges on the device: `preactivation.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::Sequences;

/// The signal of each sequence through the matrix of its chosen edge.
pub const PREACTIVATION: Kernel = Kernel {
    name: "preactivation",
    sources: shaders!["element", "sequences", "fans", "fan_edges", "preactivation"],
    entry: "preactivation",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Read, Read, Read, Read],
};

parameters! {
    /// Parameters of [`PREACTIVATION`].
    Parameters {
        Sequences: at;
        u32: buffer;
    }
}
