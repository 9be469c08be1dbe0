//! Dropout masks on the device: `dropout.wgsl`.

use super::pipeline::Access::{Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Draw a mask.
pub const DROPOUT: Kernel = Kernel {
    name: "dropout",
    sources: shaders!["random", "dropout"],
    entry: "dropout",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write],
};

parameters! {
    /// Parameters of [`DROPOUT`].
    Parameters {
        u32: mask, width, wide, steps, sequences, first, shard, base_low, base_high, threshold;
        f32: keep;
    }
}
