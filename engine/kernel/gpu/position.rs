//! The softmax over positions on the device. `position.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Decays of all steps.
pub const WEIGHTS: Kernel = Kernel {
    name: "position",
    sources: &[shader!("activation"), shader!("position")],
    entry: "weights",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Write,
    ],
};

/// Gradients of the decays, summed.
pub const GATHER: Kernel = Kernel {
    entry: "gather",
    ..WEIGHTS
};

/// Gradients of the logits.
pub const BACK: Kernel = Kernel {
    entry: "back",
    ..WEIGHTS
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub logits: u32,
    pub count: u32,
    pub steps: u32,
    pub lambda: u32,
    pub gates: u32,
    pub columns: u32,
    pub sequences: u32,
    pub shift: u32,
    pub d_lambda: u32,
}
