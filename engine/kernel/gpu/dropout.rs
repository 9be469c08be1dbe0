//! Dropout masks on the device. `dropout.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Draws a mask.
pub const DRAW: Kernel = Kernel {
    name: "dropout",
    sources: &[shader!("random"), shader!("dropout")],
    entry: "draw",
    bindings: &[Access::Parameters, Access::Write],
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub mask: u32,
    pub width: u32,
    pub wide: u32,
    pub steps: u32,
    pub sequences: u32,
    pub shard: u32,
    pub base_low: u32,
    pub base_high: u32,
    pub threshold: u32,
    pub keep: f32,
}
