//! The softmax over positions on the device: `position.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// λ of all steps.
pub const WEIGHTS: Kernel = Kernel {
    name: "position",
    sources: shaders!["workgroup", "activation", "position"],
    entry: "weights",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Write],
};

/// Sums of the gradients of λ.
pub const GATHER: Kernel = Kernel {
    entry: "gather",
    ..WEIGHTS
};

/// Gradients of the logits.
pub const BACK: Kernel = Kernel {
    entry: "back",
    ..WEIGHTS
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        u32: logits, count, steps, lambda, gates, columns, sequences, shift, d_lambda;
    }
}
