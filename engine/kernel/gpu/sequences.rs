//! Where the state of decoded sequences lies in the workspace: `sequences.wgsl`.

use super::pipeline::parameters;

/// Marks no node.
pub const NONE: u32 = u32::MAX;
/// The integer that is 1 after a fan was missing.
pub const HALTED: usize = 0;
/// The integer that is 1 after a shader computed an invalid resistance.
pub const INVALID: usize = 1;

/// Nodes before the current one that a sequence keeps: those of the longest walk of a path graph.
pub const EARLIER: usize = 3;

parameters! {
    /// Offsets of the state of B sequences; counts of numbers.
    Sequences {
        u32: count, nodes_count, width, stride, signal, banks, output, blended, base, preactivation, low, projected,
            gathered, energies, energies_stride, dots, logits, normalisers, listed_logits, lambda, table, nodes,
            steps, done, emitted, next, emitted_tokens, random, order, groups, members, recent, banned, stops,
            listed, capacity, window, banned_count, stops_count, earlier;
    }
}

parameters! {
    /// Offsets of numbers of nodes and of small blocks of parameters.
    Blocks {
        u32: bias, resistance, prior_weight, target_norm2, gain, decay, gate_signal, mix, low_in, low_out,
            residual_in, beta;
    }
}
