//! The softmax over targets in training, on the device: `softmax_own.wgsl`, `softmax_composed.wgsl`.

use super::pipeline::{Access, Kernel, shader};

/// All targets of composed edges.
pub const COMPOSED: Kernel = Kernel {
    name: "softmax_composed",
    sources: &[shader!("activation"), shader!("softmax_composed")],
    entry: "softmax",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
    ],
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct ComposedParameters {
    pub nodes_count: u32,
    pub edges_count: u32,
    pub steps: u32,
    pub first: u32,
    pub tokens: u32,
    pub folds: u32,
    pub first_rows: u32,
    pub edge_starts: u32,
    pub logits: u32,
    pub extra: u32,
    pub rows: u32,
    pub bias: u32,
    pub prior_weight: u32,
    pub scalars: u32,
    pub lifts: u32,
    pub uses_prior: u32,
    pub learn: u32,
    pub weight: f32,
}

/// Own edges and the shared one, where nothing but energy counts.
pub const CLASSES: Kernel = Kernel {
    name: "softmax_own",
    sources: &[shader!("activation"), shader!("softmax_own")],
    entry: "classes",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
    ],
};

/// All targets of own edges.
pub const TARGETS: Kernel = Kernel {
    entry: "targets",
    ..CLASSES
};

/// Listed targets.
pub const CANDIDATES: Kernel = Kernel {
    entry: "candidates",
    ..CLASSES
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct OwnParameters {
    pub nodes_count: u32,
    pub edges_count: u32,
    pub steps: u32,
    pub first: u32,
    pub tokens: u32,
    pub folds: u32,
    pub starts: u32,
    pub counts: u32,
    pub chosen: u32,
    pub first_rows: u32,
    pub candidates: u32,
    pub numbers: u32,
    pub places: u32,
    pub listed: u32,
    pub energies: u32,
    pub logits: u32,
    pub rows: u32,
    pub bias: u32,
    pub has_bias: u32,
    pub prior_weight: u32,
    pub scalars: u32,
    pub uses_prior: u32,
    pub lifts: u32,
    pub learn: u32,
    pub squared: u32,
    pub weight: f32,
}
