//! Sums of rows by group on the device: `collect.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Sum rows by group.
pub const COLLECT: Kernel = Kernel {
    name: "collect",
    sources: shaders!["collect"],
    entry: "collect",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Write],
};

parameters! {
    /// Parameters of [`COLLECT`].
    Parameters {
        u32: columns, groups, bounds, members, a, a_stride, b, b_stride, result, result_stride, targets,
            in_gradients, add;
    }
}
