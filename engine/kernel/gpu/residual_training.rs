//! Own residuals in training, on the device. `residual_training.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Energies that residuals add.
pub const ENERGIES: Kernel = Kernel {
    name: "residual_training",
    sources: &[shader!("residual_training")],
    entry: "energies",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

/// Back to the signals.
pub const SIGNALS: Kernel = Kernel {
    entry: "signals",
    ..ENERGIES
};

/// Back to the residuals.
pub const EDGES: Kernel = Kernel {
    entry: "edges",
    ..ENERGIES
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub order: u32,
    pub items: u32,
    pub items_count: u32,
    pub fans: u32,
    pub edge_starts: u32,
    pub edge_rows: u32,
    pub steps: u32,
    pub extra: u32,
    pub kept: u32,
    pub projected: u32,
    pub d_kept: u32,
    pub d_projected: u32,
    pub d_arrival: u32,
    pub rows: u32,
    pub d_beta: u32,
    pub residual: u32,
    pub beta: u32,
}
