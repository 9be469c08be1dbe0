//! Flow over composed edges: matrices and biases made of the factors of their two nodes.
//!
//! The formulas stand in `learn::composed`, which trains them.

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::{activation, vector};
use crate::signal::{Flow, Mechanism, Start, blend};

/// Keeps the root of a mean square away from zero, as in training.
pub(crate) const EPSILON: f32 = 1e-6;
/// Factor of the parameter κ, the weight of a node's target in its own input.
pub(crate) const KAPPA: f32 = 10.0;

/// The signal arrives at the first node with nothing before it, or with what the caller gives.
pub(crate) fn begin(mechanism: &Mechanism, flow: &mut Flow, start: &Start, gain: f32) {
    node_update(mechanism, flow, mechanism.start_vector(start), gain);
}

/// Walks an edge: `z = h + β_v`, plus the edge's own residual.
pub(crate) fn hop(mechanism: &Mechanism, flow: &mut Flow, target: u32, gain: f32) {
    let preactivation = preactivation(mechanism, flow, target);
    flow.node = target;
    node_update(mechanism, flow, preactivation, gain);
}

/// What flows over an edge: h, and what the edge's own residual adds. `[D]`
pub(crate) fn preactivation(mechanism: &Mechanism, flow: &Flow, target: u32) -> Vec<f32> {
    let mut preactivation = flow.output.clone();
    if let Some(edge_row) = own_row(&mechanism.graph, flow.node, target) {
        let residual = Residual::of(mechanism, flow);
        let (rho, bias) = residual.delta(edge_row);
        vector::add_scaled(1.0, &rho, &mut preactivation);
        vector::add_scaled(1.0, &bias, &mut preactivation);
    }
    preactivation
}

/// The node makes of what arrives what leaves it; `gain` scales what it adds to the path's signal.
fn node_update(mechanism: &Mechanism, flow: &mut Flow, mut preactivation: Vec<f32>, gain: f32) {
    let weights = &mechanism.weights;
    let width = mechanism.profile.width;
    let node = flow.node as usize;
    let mut row = vec![0.0; width];
    weights.table("node.target").read_row(node, &mut row);
    vector::add_scaled(1.0, &row, &mut preactivation);
    let square = vector::dot(&preactivation, &preactivation);
    let inverse = 1.0 / (square / width as f32 + EPSILON).sqrt();
    let kappa = KAPPA * weights.values("scalars")[2];
    for ((z, &gain), &beta) in preactivation
        .iter_mut()
        .zip(weights.values("node.gain"))
        .zip(&row)
    {
        *z = gain * *z * inverse + kappa * beta;
    }
    activation::forward(&preactivation, &mut flow.signal);
    if gain != 1.0 {
        vector::scale(gain, &mut flow.signal);
    }
    // The first arrival is position 0 of the blend: a flow's step counts hops, not arrivals.
    let past = if flow.blended.is_empty() {
        0
    } else {
        flow.step as usize + 1
    };
    blend::advance(mechanism, flow, past);

    flow.blended.clear();
    flow.blended.extend_from_slice(&flow.signal);
    flow.blended
        .extend(flow.banks.iter().map(|&bank| 2.0 * bank as f32));
    let mut output = vec![0.0; width];
    for (&x, row) in flow
        .blended
        .iter()
        .zip(weights.values("edge.mix").chunks_exact(width))
    {
        vector::add_scaled(x, row, &mut output);
    }
    weights.table("node.scale").read_row(node, &mut row);
    for (h, &scale) in output.iter_mut().zip(&row) {
        *h *= scale;
    }
    weights.table("node.offset").read_row(node, &mut row);
    vector::add_scaled(1.0, &row, &mut output);
    let rank = mechanism.profile.rank;
    if rank > 0 {
        let mut low = vec![0.0; rank];
        for (&x, row) in flow
            .blended
            .iter()
            .zip(weights.values("edge.low_in").chunks_exact(rank))
        {
            vector::add_scaled(x, row, &mut low);
        }
        let mut scale = vec![0.0; rank];
        weights.table("node.low_scale").read_row(node, &mut scale);
        for ((&l, &s), row) in low
            .iter()
            .zip(&scale)
            .zip(weights.values("edge.low_out").chunks_exact(width))
        {
            vector::add_scaled(l * s, row, &mut output);
        }
    }
    flow.output = output;
}

/// `E_v = ‖h + β_v‖² = ‖h‖² + 2 h·β_v + ‖β_v‖²`: one product for all V; own residuals beside it.
pub(crate) fn energies(mechanism: &Mechanism, flow: &Flow, energies: &mut [f32]) {
    mechanism
        .weights
        .table("node.target")
        .dots(&flow.output, energies);
    let square = vector::dot(&flow.output, &flow.output);
    for (energy, &rest) in energies.iter_mut().zip(&mechanism.target_norm2) {
        *energy = (square + 2.0 * *energy + rest).max(0.0);
    }
    if mechanism.profile.residual.is_none() {
        return;
    }
    let residual = Residual::of(mechanism, flow);
    let mut beta = vec![0.0; mechanism.profile.width];
    let fan = mechanism.graph.fan(NodeId(flow.node));
    for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
        if edge_row > 0 {
            mechanism
                .weights
                .table("node.target")
                .read_row(target as usize, &mut beta);
            let (rho, bias) = residual.delta(edge_row as usize - 1);
            let total = flow.output.iter().zip(&beta).zip(rho.iter().zip(&bias));
            energies[target as usize] = total.map(|((h, b), (r, o))| (h + b + r + o).powi(2)).sum();
        }
    }
}

/// The rest of an edge with a residual is ‖β_v + r_e‖², not ‖β_v‖²: takes the difference from its score.
pub(crate) fn own_rest(mechanism: &Mechanism, node: u32, alpha: f32, logits: &mut [f32]) {
    if mechanism.profile.residual.is_none() {
        return;
    }
    let width = mechanism.profile.width;
    let (mut beta, mut own) = (
        vec![0.0; width],
        vec![0.0; mechanism.weights.table("edge.residual").columns()],
    );
    let fan = mechanism.graph.fan(NodeId(node));
    for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
        if edge_row > 0 {
            mechanism
                .weights
                .table("node.target")
                .read_row(target as usize, &mut beta);
            mechanism
                .weights
                .table("edge.residual")
                .read_row(edge_row as usize - 1, &mut own);
            let more: f32 = beta
                .iter()
                .zip(&own)
                .map(|(b, r)| 2.0 * b * r + r * r)
                .sum();
            logits[target as usize] -= alpha * more;
        }
    }
}

pub(crate) fn own_row(graph: &TokenGraph, source: u32, target: u32) -> Option<usize> {
    let edge = graph.edge(NodeId(source), NodeId(target))?;
    (graph.edge_rows()[edge.index()] as usize).checked_sub(1)
}

/// The own residuals at one moment of a flow.
struct Residual<'m> {
    mechanism: &'m Mechanism,
    /// `x B`. `[r]`
    projected: Vec<f32>,
}

impl<'m> Residual<'m> {
    fn of(mechanism: &'m Mechanism, flow: &Flow) -> Self {
        let rank = mechanism.profile.residual.unwrap_or(0);
        let mut projected = vec![0.0; rank];
        if rank > 0 {
            let input = mechanism.weights.values("edge.residual_in");
            for (&x, row) in flow.blended.iter().zip(input.chunks_exact(rank)) {
                vector::add_scaled(x, row, &mut projected);
            }
        }
        Self {
            mechanism,
            projected,
        }
    }

    /// ρ and r of an own slot (from 0); zeros for a profile without residuals. `[D]`, `[D]`
    fn delta(&self, edge_row: usize) -> (Vec<f32>, Vec<f32>) {
        let width = self.mechanism.profile.width;
        let mut rho = vec![0.0; width];
        if self.mechanism.profile.residual.is_none() {
            return (rho, vec![0.0; width]);
        }
        let table = self.mechanism.weights.table("edge.residual");
        let mut row = vec![0.0; table.columns()];
        table.read_row(edge_row, &mut row);
        for (&y, matrix) in self.projected.iter().zip(row[width..].chunks_exact(width)) {
            vector::add_scaled(y, matrix, &mut rho);
        }
        row.truncate(width);
        (rho, row)
    }
}
