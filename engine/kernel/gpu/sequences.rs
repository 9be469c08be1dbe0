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
            gathered, energies, energies_stride, dots, logits, normalisers, listed_logits, lambda, table, tops, nodes,
            steps, done, emitted, next, emitted_tokens, random, top_nodes, recent, banned, stops, listed, capacity,
            window, banned_count, stops_count, earlier, banned_bits, across, edges_count, edge_targets, walks;
    }
}

parameters! {
    /// The fans that a kernel binds.
    FanTable {
        u32: first, rows, paged, bound;
    }
}

parameters! {
    /// From energies to a choice.
    Choice {
        u32: has_bias, has_resistance, has_own;
        f32: alpha, temperature;
        u32: top_k;
        f32: top_p, min_p, penalty;
        u32: self_loops, mode, scored, has_tops, unused_0, unused_1, unused_2;
    }
}

parameters! {
    /// Offsets of numbers of nodes and of small blocks of parameters.
    Blocks {
        u32: bias, resistance, prior_weight, target_norm2, gain, decay, gate_signal, mix, low_in, low_out,
            residual_in, beta;
    }
}
