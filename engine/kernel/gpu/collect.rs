//! Sums of rows by group on the device. `collect.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Sums of rows by group.
pub const COLLECT: Kernel = Kernel {
    name: "collect",
    sources: &[shader!("collect")],
    entry: "collect",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Write,
    ],
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub columns: u32,
    pub groups: u32,
    pub bounds: u32,
    pub members: u32,
    pub a: u32,
    pub a_row: u32,
    pub b: u32,
    pub b_row: u32,
    pub result: u32,
    pub result_row: u32,
    pub targets: u32,
    pub in_gradients: u32,
    pub add: u32,
}
