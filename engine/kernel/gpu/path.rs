//! Signals of own edges along true paths, on the device. `path_own.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Through the edges walked.
pub const ARRIVE: Kernel = Kernel {
    name: "path_own",
    sources: &[shader!("activation"), shader!("path_own")],
    entry: "preactivation",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
        Access::Read,
    ],
};

/// What nodes make of them.
pub const REACH: Kernel = Kernel {
    entry: "node_update",
    ..ARRIVE
};

/// Back through the edges.
pub const ARRIVE_BACK: Kernel = Kernel {
    entry: "arrive_back",
    ..ARRIVE
};

/// Back through the nodes.
pub const REACH_BACK: Kernel = Kernel {
    entry: "reach_back",
    ..ARRIVE
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub steps: u32,
    pub step: u32,
    pub buffer: u32,
    pub edges: u32,
    pub tokens: u32,
    pub walked: u32,
    pub start: u32,
    pub decay: u32,
    pub gate: u32,
    pub gate_signal: u32,
    pub mix: u32,
    pub level: f32,
    pub first: u32,
    pub table: u32,
    pub weights: u32,
    pub before: u32,
    pub signal: u32,
    pub banks: u32,
    pub lambda: u32,
    pub input: u32,
    pub mask: u32,
    pub kept: u32,
    pub d_input: u32,
    pub d_before: u32,
    pub d_gate: u32,
    pub d_banks: u32,
}
