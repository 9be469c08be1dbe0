//! AdamW on the device. `adamw.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Moves rows of a block.
pub const UPDATE: Kernel = Kernel {
    name: "adamw",
    sources: &[shader!("adamw")],
    entry: "update",
    bindings: &[
        Access::Parameters,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub block: u32,
    pub columns: u32,
    pub rows: u32,
    pub list: u32,
    pub beta1: f32,
    pub beta2: f32,
    pub rate: f32,
    pub correction: f32,
    pub epsilon: f32,
    pub shrink: f32,
    pub scale: u32,
}
