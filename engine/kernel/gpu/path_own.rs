//! Signals of own edges along true paths, on the device: `batch_own.wgsl`, `path_own.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Pre-activations of a step, through the edges of a buffer.
#[rustfmt::skip]
pub const PREACTIVATION: Kernel = Kernel {
    name: "path_own",
    sources: shaders!["workgroup", "activation", "blend", "blend_back", "batch_own", "path_own"],
    entry: "preactivation",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Read],
};

/// Outputs of the nodes of a step.
pub const NODE: Kernel = Kernel {
    entry: "node_update",
    ..PREACTIVATION
};

/// Gradients of [`PREACTIVATION`].
pub const PREACTIVATION_BACK: Kernel = Kernel {
    entry: "preactivation_back",
    ..PREACTIVATION
};

/// Gradients of [`NODE`].
pub const NODE_BACK: Kernel = Kernel {
    entry: "node_back",
    ..PREACTIVATION
};

parameters! {
    /// Where a batch of own edges lies; offsets count numbers.
    Batch {
        u32: steps, nodes_count, edges_count, squared, uses_prior, has_bias, candidates_count, tokens, folds,
            walked, order, starts, counts, chosen, first_edge_rows, candidates, numbers, candidate_edges, start,
            decay, gate, gate_signal, mix, bias, prior_weight, scalars, lifts, first_position, positions, weights,
            before, signal, banks, lambda, input, mask, kept, energies, logits, rows, d_input, d_before, d_gate,
            d_banks;
    }
}

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Batch: at;
        u32: step, buffer, edges;
        f32: level;
    }
}
