//! The norm of gradients on the device: `norm.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Sums of squares of gradients.
pub const SQUARES: Kernel = Kernel {
    name: "norm",
    sources: shaders!["workgroup", "norm"],
    entry: "squares",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read],
};

/// Their norm, and the factor that clips it.
pub const FINISH: Kernel = Kernel {
    entry: "finish",
    ..SQUARES
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        u32: numbers, piece, squares, pieces, edges, edges_count, nats, nats_stride, rows;
        f32: limit;
        u32: result;
    }
}
