//! Signals of composed edges along true paths, on the device: `batch_composed.wgsl`, `path_composed.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Signals of all steps.
#[rustfmt::skip]
pub const FORWARD: Kernel = Kernel {
    name: "path_composed",
    sources: shaders![
        "workgroup", "activation", "blend", "blend_back", "batch_composed", "path_composed"
    ],
    entry: "forward",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read],
};

/// Gradients of [`FORWARD`].
pub const BACKWARD: Kernel = Kernel {
    entry: "backward",
    ..FORWARD
};

parameters! {
    /// Where a batch of composed edges lies; offsets count numbers.
    Batch {
        u32: steps, nodes_count, edges_count, uses_prior, tokens, folds, edge_rows, first_edge_rows, edge_starts,
            beta, scale, offset, mix, gain, scalars, bias, prior_weight, decay, gate, gate_signal, low_scale,
            low_in, low_out, residual, residual_in, lifts, preactivation, inverse, before, signal, blended, lambda,
            mixed, low, scaled, output, kept, mask_node, mask_out, projected, positions, logits, extra, rows,
            d_output, d_mixed, d_low, d_low_scale, d_gate, d_target, d_preactivation, d_before, d_gain,
            d_projected, d_banks, d_blended;
    }
}

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Batch: at;
        f32: epsilon, kappa;
    }
}
