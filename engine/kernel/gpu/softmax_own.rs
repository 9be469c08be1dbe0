//! The softmax of own edges in training, on the device: `softmax.wgsl`, `softmax_own.wgsl`.

use super::path_own::Batch;
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Own edges and the shared one, where nothing but energy counts.
pub const CLASSES: Kernel = Kernel {
    name: "softmax_own",
    sources: shaders![
        "workgroup",
        "activation",
        "batch_own",
        "softmax",
        "softmax_own"
    ],
    entry: "classes",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Read, Read, Read],
};

/// All targets.
pub const TARGETS: Kernel = Kernel {
    entry: "targets",
    ..CLASSES
};

/// Sampled candidates.
pub const CANDIDATES: Kernel = Kernel {
    entry: "candidates",
    ..CLASSES
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Batch: at;
        u32: first, learn, walks;
        f32: weight;
    }
}
