//! Signals through the chosen edges on the device. `preactivation.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// A signal through the matrix of its edge.
pub const ARRIVE: Kernel = Kernel {
    name: "preactivation",
    sources: &[shader!("element"), shader!("preactivation")],
    entry: "preactivation",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
    ],
};

/// The kernel's parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub nodes_count: u32,
    pub sequence: u32,
    pub output: u32,
    pub base: u32,
    pub preactivation: u32,
    pub nodes: u32,
    pub next: u32,
    pub members: u32,
}
