//! What a node makes of what arrives, on the device: `node_own.wgsl`, `node_composed.wgsl`.

use super::pipeline::{Access, Kernel, shader};

const BINDINGS: &[Access] = &[
    Access::Parameters,
    Access::Write,
    Access::Write,
    Access::Read,
];

/// Nodes of own edges.
pub const OWN: Kernel = Kernel {
    name: "node_own",
    sources: &[shader!("activation"), shader!("node_own")],
    entry: "node_update",
    bindings: BINDINGS,
};

/// Nodes of composed edges.
pub const COMPOSED: Kernel = Kernel {
    name: "node_composed",
    sources: &[shader!("activation"), shader!("node_composed")],
    entry: "node_update",
    bindings: BINDINGS,
};

/// What both kernels end with: where the lane's path is noted; offsets count integers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shaders")]
pub struct Path {
    pub nodes: u32,
    pub next: u32,
    pub steps: u32,
    pub done: u32,
    pub halted: u32,
    pub emitted: u32,
    pub emitted_tokens: u32,
    pub capacity: u32,
    pub recent: u32,
    pub window: u32,
    pub stops: u32,
    pub stops_count: u32,
}

/// Parameters of [`OWN`]; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct OwnParameters {
    pub sequence: u32,
    pub signal: u32,
    pub banks: u32,
    pub output: u32,
    pub preactivation: u32,
    pub base: u32,
    pub gathered: u32,
    pub lambda: u32,
    pub table: u32,
    pub has_table: u32,
    pub span: u32,
    pub decay: u32,
    pub gate_signal: u32,
    pub mix: u32,
    pub path: Path,
}

/// Parameters of [`COMPOSED`]; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct ComposedParameters {
    pub sequence: u32,
    pub signal: u32,
    pub banks: u32,
    pub output: u32,
    pub blended: u32,
    pub low: u32,
    pub gathered: u32,
    pub lambda: u32,
    pub span: u32,
    pub kappa: f32,
    pub gain: u32,
    pub decay: u32,
    pub gate_signal: u32,
    pub mix: u32,
    pub low_in: u32,
    pub low_out: u32,
    pub path: Path,
}
