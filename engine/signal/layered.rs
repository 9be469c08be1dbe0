//! Layered edges on one path; [`kernel::layered`](crate::kernel::layered) has the equations.

use crate::kernel::composed::kappa;
use crate::kernel::layered::{self, Memory, Widths};
use crate::kernel::vector;
use crate::signal::{Flow, Mechanism, Start};

/// Start a path at its first node: no edge leads to it, and the caller's vector is added to its signal.
pub(crate) fn begin(mechanism: &Mechanism, flow: &mut Flow, start: &Start, gain: f32) {
    flow.blended = vec![0.0; mechanism.profile.carried()];
    update_node(mechanism, flow, mechanism.start_vector(start), gain);
}

/// Follow the edge to `target`.
pub(crate) fn hop(mechanism: &Mechanism, flow: &mut Flow, target: u32, gain: f32) {
    flow.node = target;
    update_node(mechanism, flow, vec![0.0; mechanism.profile.width], gain);
}

/// What one layer computes from an edge.
pub(crate) struct Edge {
    /// `[p | q | o]`. `[Z]`
    pub(crate) columns: Vec<f32>,
    /// c. `[w]`
    pub(crate) signal: Vec<f32>,
    /// λ. `[K·w]`
    pub(crate) lambda: Vec<f32>,
    /// `[c; 2 m]`. `[X]`
    pub(crate) blended: Vec<f32>,
}

impl Edge {
    /// Read the edge between two nodes in a layer, and add its signal to `banks [K·w]`. `nodes [2 D]` are the
    /// normalised signals of the target and of the source.
    pub(crate) fn read(
        mechanism: &Mechanism,
        layer: usize,
        nodes: &[f32],
        banks: &mut [f64],
    ) -> Self {
        let (weights, widths) = (&mechanism.weights, mechanism.profile.widths());
        let z = widths.edge();
        let mut columns = vec![0.0; z];
        let edge = weights.table("layer.edge");
        edge.dots_from(layer * z, nodes, &mut columns);
        let bias = &weights.values("layer.edge_bias")[layer * z..(layer + 1) * z];
        vector::add_scaled(1.0, bias, &mut columns);
        let mut read = Self {
            signal: vec![0.0; widths.inner],
            lambda: vec![0.0; widths.memory()],
            blended: vec![0.0; widths.blended()],
            columns,
        };
        let before = banks.to_vec();
        let mut memory = Memory {
            edge: &read.columns,
            before: &before,
            signal: &mut read.signal,
            lambda: &mut read.lambda,
            banks,
            blended: &mut read.blended,
        };
        memory.forward(widths);
        read
    }

    /// The gate 2 σ(o) of what the layer adds to the signal. `[D]`
    pub(crate) fn gate(&self, widths: Widths) -> Vec<f32> {
        let (ones, zeros) = (vec![1.0; widths.signal], vec![0.0; widths.signal]);
        let mut gate = vec![0.0; widths.signal];
        layered::add(widths, &self.columns, &ones, &zeros, &mut gate);
        gate
    }
}

/// Run the node that the flow has reached through all layers, from its own signal plus `start [D]`.
///
/// `gain` multiplies everything that layers read of the node: 0 hides it from them and from the next edge.
fn update_node(mechanism: &Mechanism, flow: &mut Flow, start: Vec<f32>, gain: f32) {
    let (profile, weights) = (&mechanism.profile, &mechanism.weights);
    let (d, widths) = (profile.width, profile.widths());
    let mut signal = start;
    let target = weights.row("node.target", flow.node as usize);
    let level = gain * kappa(weights.values("scalars")[2]);
    vector::add_scaled(level, &target, &mut signal);
    let (mut nodes, mut mixed, mut next) = (vec![0.0; 2 * d], vec![0.0; d], vec![0.0; d]);
    let gains = weights.values("layer.gain").chunks_exact(d);
    let memories = flow.banks.chunks_exact_mut(widths.memory());
    let earlier = flow.blended.chunks_exact_mut(d);
    for (layer, ((norm, banks), earlier)) in gains.zip(memories).zip(earlier).enumerate() {
        layered::normalise(&signal, norm, gain, &mut [0.0], &mut nodes);
        nodes[d..].copy_from_slice(earlier);
        earlier.copy_from_slice(&nodes[..d]);
        let edge = Edge::read(mechanism, layer, &nodes, banks);
        let mix = weights.table("layer.mix");
        mix.dots_from(layer * d, &edge.blended, &mut mixed);
        layered::add(widths, &edge.columns, &mixed, &signal, &mut next);
        std::mem::swap(&mut signal, &mut next);
    }
    read_out(mechanism, &signal, &mut flow.output);
    flow.signal = signal;
}

/// Normalise the signal after the last layer, as the read-out sees it. `[D]`
pub(crate) fn normal(mechanism: &Mechanism, signal: &[f32]) -> Vec<f32> {
    let mut normal = vec![0.0; signal.len()];
    let gain = mechanism.weights.values("read.gain");
    layered::normalise(signal, gain, 1.0, &mut [0.0], &mut normal);
    normal
}

/// Compute h from the signal after the last layer. `[D]`, `[D]`
pub(crate) fn read_out(mechanism: &Mechanism, signal: &[f32], output: &mut [f32]) {
    let weights = &mechanism.weights;
    let normal = normal(mechanism, signal);
    weights.table("read.mix").dots(&normal, output);
    vector::add_scaled(1.0, weights.values("read.bias"), output);
}
