//! Matrix products on the device. `multiply.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// A product of two matrices.
pub const MULTIPLY: Kernel = Kernel {
    name: "multiply",
    sources: &[shader!("multiply")],
    entry: "multiply",
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
    pub rows: u32,
    pub columns: u32,
    pub inner: u32,
    pub a: u32,
    pub a_row: u32,
    pub a_column: u32,
    pub b: u32,
    pub b_row: u32,
    pub b_column: u32,
    pub b_in_values: u32,
    pub c: u32,
    pub c_row: u32,
    pub c_in_gradients: u32,
    pub add: u32,
    pub log_alpha: u32,
    pub factor: f32,
}
