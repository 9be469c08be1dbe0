//! Table rows of the next nodes, widened on the device: `gather.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::Sequences;

/// Copy the record of each sequence's next node.
pub const GATHER: Kernel = Kernel {
    name: "gather",
    sources: shaders!["element", "sequences", "gather"],
    entry: "gather",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read],
};

parameters! {
    /// Parameters of [`GATHER`].
    Parameters {
        Sequences: at;
        u32: first, count, record, tables;
        [u32; 8]: table_words;
    }
}
