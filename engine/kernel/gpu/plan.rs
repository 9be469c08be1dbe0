//! The plan of a step on the device: lanes grouped by source, dispatches sized. `plan.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Marks a fan that is not on the device.
pub const ABSENT: u32 = u32::MAX;
/// Marks no node.
pub const NONE: u32 = u32::MAX;

/// Sorts lanes by node and sizes the dispatches of each buffer of fans.
pub const PLAN: Kernel = Kernel {
    name: "plan",
    sources: &[shader!("plan")],
    entry: "plan",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Write,
    ],
};

/// The kernel's parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub sequences: u32,
    pub buffers: u32,
    pub edges: u32,
    pub nodes: u32,
    pub done: u32,
    pub halted: u32,
    pub order: u32,
    pub groups: u32,
    pub members: u32,
}
