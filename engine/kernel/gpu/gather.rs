//! Rows of the nodes that lanes reach, widened on the device. `gather.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Copies the record of each lane's next node.
pub const GATHER: Kernel = Kernel {
    name: "gather",
    sources: &[shader!("element"), shader!("gather")],
    entry: "gather",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
    ],
};

/// The kernel's parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub sequence: u32,
    pub rows: u32,
    pub next: u32,
    pub first: u32,
    pub count: u32,
    pub record: u32,
    pub parts: u32,
    /// Uniform arrays begin at multiples of 16 bytes.
    pub padding: u32,
    pub part_words: [u32; 8],
}
