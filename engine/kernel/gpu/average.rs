//! Running averages of parameters on the device: `average.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Move the averages towards the parameters.
pub const AVERAGE: Kernel = Kernel {
    name: "average",
    sources: shaders!["average"],
    entry: "average",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Read, Read, Write],
};

parameters! {
    /// Parameters of [`AVERAGE`].
    Parameters {
        u32: numbers, result;
        f32: decay;
    }
}
