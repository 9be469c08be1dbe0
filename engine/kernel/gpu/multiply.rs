//! Matrix products on the device: `multiply.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// A product of two matrices.
pub const MULTIPLY: Kernel = Kernel {
    name: "multiply",
    sources: shaders!["multiply"],
    entry: "multiply",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Write],
};

parameters! {
    /// Parameters of [`MULTIPLY`].
    Parameters {
        u32: rows, columns, inner, a, a_row, a_column, b, b_row, b_column, b_in_values, c, c_row, c_in_gradients,
            add, log_alpha, piece;
        f32: factor;
    }
}
