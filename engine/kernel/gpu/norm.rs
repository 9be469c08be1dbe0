//! The norm of gradients on the device. `norm.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Sums of squares of gradients.
pub const SQUARES: Kernel = Kernel {
    name: "norm",
    sources: &[shader!("norm")],
    entry: "squares",
    bindings: &[Access::Parameters, Access::Write, Access::Read],
};

/// Their norm, and the factor that clips it.
pub const FINISH: Kernel = Kernel {
    entry: "finish",
    ..SQUARES
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub numbers: u32,
    pub piece: u32,
    pub parts: u32,
    pub pieces: u32,
    pub edges: u32,
    pub edges_count: u32,
    pub nats: u32,
    pub nats_row: u32,
    pub rows: u32,
    pub limit: f32,
    pub result: u32,
}
