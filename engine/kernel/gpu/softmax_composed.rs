//! The softmax of composed edges in training, on the device: `softmax.wgsl`, `softmax_composed.wgsl`.

use super::path_composed::Batch;
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// All targets.
pub const TARGETS: Kernel = Kernel {
    name: "softmax_composed",
    sources: shaders![
        "workgroup",
        "activation",
        "batch_composed",
        "softmax",
        "softmax_composed"
    ],
    entry: "softmax",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Read, Read, Read],
};

parameters! {
    /// Parameters of [`TARGETS`].
    Parameters {
        Batch: at;
        u32: first, learn, walks;
        f32: weight;
    }
}
