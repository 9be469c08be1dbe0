//! Signals of composed edges along true paths, on the device. `walk.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Along the paths.
pub const FORWARD: Kernel = Kernel {
    name: "walk",
    sources: &[shader!("activation"), shader!("walk")],
    entry: "forward",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
    ],
};

/// And back.
pub const BACKWARD: Kernel = Kernel {
    entry: "backward",
    ..FORWARD
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub steps: u32,
    pub tokens: u32,
    pub edge_rows: u32,
    pub beta: u32,
    pub scale: u32,
    pub offset: u32,
    pub mix: u32,
    pub gain: u32,
    pub scalars: u32,
    pub decay: u32,
    pub gate: u32,
    pub gate_signal: u32,
    pub low_scale: u32,
    pub low_in: u32,
    pub low_out: u32,
    pub residual: u32,
    pub residual_in: u32,
    pub preactivation: u32,
    pub inverse: u32,
    pub before: u32,
    pub signal: u32,
    pub blended: u32,
    pub lambda: u32,
    pub mixed: u32,
    pub low: u32,
    pub scaled: u32,
    pub output: u32,
    pub kept: u32,
    pub mask_node: u32,
    pub mask_out: u32,
    pub projected: u32,
    pub positions: u32,
    pub d_leaving: u32,
    pub d_mixed: u32,
    pub d_low: u32,
    pub d_low_scale: u32,
    pub d_gate: u32,
    pub d_target: u32,
    pub d_arrival: u32,
    pub d_before: u32,
    pub d_gain: u32,
    pub d_projected: u32,
    pub d_banks: u32,
    pub d_blended: u32,
    pub rows: u32,
}
