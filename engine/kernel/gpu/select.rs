//! Scores and the choice of the next node on the device. `select.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// Scores all nodes for each lane and chooses.
pub const SELECT: Kernel = Kernel {
    name: "select",
    sources: &[shader!("activation"), shader!("random"), shader!("select")],
    entry: "choose",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Write,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
    ],
};

/// What the kernel does with the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Chooses the next node.
    Choose = 0,
    /// Leaves the scores.
    Logits = 1,
    /// Lists the likeliest.
    List = 2,
}

/// The kernel's parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub nodes_count: u32,
    pub sequence: u32,
    pub output: u32,
    pub width: u32,
    pub energies: u32,
    pub stride: u32,
    pub dots: u32,
    pub logits: u32,
    pub probabilities: u32,
    pub nodes: u32,
    pub done: u32,
    pub halted: u32,
    pub next: u32,
    pub random: u32,
    pub recent: u32,
    pub window: u32,
    pub banned: u32,
    pub banned_count: u32,
    pub bias: u32,
    pub has_bias: u32,
    pub resistance: u32,
    pub has_resistance: u32,
    pub prior_weight: u32,
    pub target_norm2: u32,
    pub has_own: u32,
    pub alpha: f32,
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub penalty: f32,
    pub self_loops: u32,
    pub mode: u32,
    pub listed: u32,
    pub listed_logits: u32,
    pub scored: u32,
}
