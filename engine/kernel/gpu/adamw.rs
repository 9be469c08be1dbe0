//! AdamW on the device: `adamw.wgsl`, `adamw_step.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Update rows of a block.
pub const UPDATE: Kernel = Kernel {
    name: "adamw",
    sources: shaders!["adamw_step", "adamw"],
    entry: "update",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Read, Read, Write, Read, Write, Write],
};

parameters! {
    /// Constants of one step of the optimiser.
    Update {
        f32: beta1, beta2, rate, correction, epsilon, shrink;
        u32: scale, unused;
    }
}

parameters! {
    /// Parameters of [`UPDATE`].
    Parameters {
        Update: update;
        u32: block, columns, rows, list;
    }
}

impl Update {
    /// The constants of a CPU step, for gradients multiplied with the number at offset `scale` of the workspace.
    pub fn new(update: &crate::kernel::adamw::Update<f32>, scale: u32) -> Self {
        Self {
            beta1: update.beta1,
            beta2: update.beta2,
            rate: update.rate,
            correction: update.correction,
            epsilon: update.epsilon,
            shrink: update.shrink,
            scale,
            unused: 0,
        }
    }
}
