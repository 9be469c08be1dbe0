//! Own residuals in training, on the device: `residual_training.wgsl`.

use super::path_composed::Batch;
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Energies that residuals add.
pub const ENERGIES: Kernel = Kernel {
    name: "residual_training",
    sources: shaders!["workgroup", "batch_composed", "residual_training"],
    entry: "energies",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Write],
};

/// Gradients of the signals.
pub const SIGNALS: Kernel = Kernel {
    entry: "signals_back",
    ..ENERGIES
};

/// Gradients of the residuals.
pub const EDGES: Kernel = Kernel {
    entry: "edges_back",
    ..ENERGIES
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Batch: at;
        u32: order, rows_count, items, items_count, fans, d_beta;
    }
}
