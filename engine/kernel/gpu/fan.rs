//! Fans of own edges in training, on the device. `fan.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Energies of all rows.
pub const ENERGIES: Kernel = Kernel {
    name: "fan",
    sources: &[shader!("activation"), shader!("fan")],
    entry: "energies",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
};

/// Back to the signals.
pub const SIGNALS: Kernel = Kernel {
    entry: "signals",
    ..ENERGIES
};

/// Back to the edges, and the optimiser.
pub const EDGES: Kernel = Kernel {
    entry: "edges_back",
    ..ENERGIES
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub steps: u32,
    pub edges: u32,
    pub order: u32,
    pub items: u32,
    pub items_count: u32,
    pub fans: u32,
    pub starts: u32,
    pub walked: u32,
    pub buffer: u32,
    pub energies: u32,
    pub kept: u32,
    pub input: u32,
    pub mask: u32,
    pub table: u32,
    pub d_input: u32,
    pub d_before: u32,
    pub squared: u32,
    pub add: u32,
    pub result: u32,
    pub mode: u32,
    pub beta1: f32,
    pub beta2: f32,
    pub rate: f32,
    pub correction: f32,
    pub epsilon: f32,
    pub shrink: f32,
    pub scale: u32,
}
