//! The memory of layered edges in training, on the device: `batch_layered.wgsl`, `memory.wgsl`.

use super::path_layered::Parameters;
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, shaders};

/// Set the state before the first step.
pub const BEGIN: Kernel = Kernel {
    name: "memory",
    sources: shaders!["workgroup", "activation", "batch_layered", "memory"],
    entry: "begin",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Write],
};

/// Activate the edges.
pub const ACTIVATE: Kernel = Kernel {
    entry: "activate",
    ..BEGIN
};

/// Run the memory along each sequence.
pub const SCAN: Kernel = Kernel {
    entry: "scan",
    ..BEGIN
};

/// Gradients of [`SCAN`].
pub const SCAN_BACK: Kernel = Kernel {
    entry: "scan_back",
    ..BEGIN
};

/// Gradients of [`ACTIVATE`].
pub const ACTIVATE_BACK: Kernel = Kernel {
    entry: "activate_back",
    ..BEGIN
};
