//! Own residuals of composed edges on the device. `residual.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// `x B` of each lane.
pub const PROJECT: Kernel = Kernel {
    name: "residual",
    sources: &[shader!("element"), shader!("residual")],
    entry: "project",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
    ],
};

/// Energies of the own edges of each lane's fan.
pub const ENERGIES: Kernel = Kernel {
    entry: "energies",
    ..PROJECT
};

/// What the chosen edge adds.
pub const ARRIVE: Kernel = Kernel {
    entry: "preactivation",
    ..PROJECT
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub nodes_count: u32,
    pub sequence: u32,
    pub output: u32,
    pub blended: u32,
    pub projected: u32,
    pub energies: u32,
    pub stride: u32,
    pub input: u32,
    pub beta: u32,
    pub nodes: u32,
    pub next: u32,
    pub members: u32,
}
