//! Flow over own edges: the paper's matrices, one for each frequent edge and one shared by all others.

use crate::graph::NodeId;
use crate::kernel::{activation, vector};
use crate::signal::{EnergyKind, Flow, Mechanism, PositionOffset, Start, blend};

/// `e_0 = gain · GELU(start + node_start[v_0] + PE[0])`.
pub(crate) fn begin(mechanism: &Mechanism, flow: &mut Flow, start: &Start, gain: f32) {
    let width = mechanism.profile.width;
    let mut preactivation = mechanism.start_vector(start);
    let mut row = vec![0.0; width];
    mechanism
        .weights
        .table("node.start")
        .read_row(flow.node as usize, &mut row);
    vector::add_scaled(1.0, &row, &mut preactivation);
    vector::add_scaled(1.0, &mechanism.position_row(0), &mut preactivation);
    activation::forward(&preactivation, &mut flow.signal);
    scale(flow, gain);
    if mechanism.profile.blend == crate::signal::BlendKind::Position {
        // The start flows into the first hop and is not remembered.
        flow.output.copy_from_slice(&flow.signal);
    } else {
        blend::advance(mechanism, flow, 0);
        mix(mechanism, flow);
    }
}

/// `c = gain · GELU(x W_s + b_s + PE[i + o])`, then the blend.
pub(crate) fn hop(mechanism: &Mechanism, flow: &mut Flow, target: u32, gain: f32) {
    let width = mechanism.profile.width;
    let row = edge(mechanism, flow.node, target);
    let (matrix, bias) = row.split_at(width * width);
    let mut preactivation = base(mechanism, flow);
    vector::add_scaled(1.0, bias, &mut preactivation);
    for (k, &x) in flow.output.iter().enumerate() {
        vector::add_scaled(x, &matrix[k * width..(k + 1) * width], &mut preactivation);
    }
    activation::forward(&preactivation, &mut flow.signal);
    scale(flow, gain);
    flow.node = target;
    blend::advance(mechanism, flow, flow.step as usize);
    if mechanism.profile.blend == crate::signal::BlendKind::Position {
        for (output, &bank) in flow.output.iter_mut().zip(&flow.banks) {
            *output = bank as f32;
        }
    } else {
        mix(mechanism, flow);
    }
}

/// The matrix of an edge, row by row, and its bias behind it; the shared edge's where it has none. `[D·D + D]`
pub(crate) fn edge(mechanism: &Mechanism, source: u32, target: u32) -> Vec<f32> {
    let width = mechanism.profile.width;
    let edge = mechanism.graph.edge(NodeId(source), NodeId(target));
    let edge_row = edge.map_or(0, |edge| mechanism.graph.edge_rows()[edge.index()]);
    let mut row = vec![0.0; width * width + width];
    mechanism
        .weights
        .table("edge.arena")
        .read_row(edge_row as usize, &mut row);
    row
}

fn scale(flow: &mut Flow, gain: f32) {
    if gain != 1.0 {
        vector::scale(gain, &mut flow.signal);
    }
}

/// `x = μ_0 ⊙ c + Σ_k μ_k ⊙ m_k`.
fn mix(mechanism: &Mechanism, flow: &mut Flow) {
    let width = mechanism.profile.width;
    let mix = mechanism.weights.values("blend.mix");
    for j in 0..width {
        let mut value = mix[j] * flow.signal[j];
        for (bank, weight) in flow
            .banks
            .chunks_exact(width)
            .zip(mix[width..].chunks_exact(width))
        {
            value += weight[j] * bank[j] as f32;
        }
        flow.output[j] = value;
    }
}

/// What every edge of this hop adds besides its own bias. `[D]`
pub(crate) fn base(mechanism: &Mechanism, flow: &Flow) -> Vec<f32> {
    let offset = usize::from(mechanism.profile.offset == PositionOffset::Train);
    mechanism.position_row(flow.step as usize + offset)
}

/// Energies over own edges; every other target receives what the shared edge gives.
pub(crate) fn energies(mechanism: &Mechanism, flow: &Flow, energies: &mut [f32]) {
    let edge_weights = mechanism.weights.table("edge.arena");
    let base = base(mechanism, flow);
    let squared = mechanism.profile.energy == EnergyKind::Squared;
    let mut shared = [0.0];
    edge_weights.energies(0, &flow.output, &base, squared, &mut shared);
    energies.fill(shared[0]);
    let edge_rows = mechanism.graph.own_slots(NodeId(flow.node));
    let mut own = vec![0.0; edge_rows.len()];
    edge_weights.energies(edge_rows.start, &flow.output, &base, squared, &mut own);
    let fan = mechanism.graph.fan(NodeId(flow.node));
    for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
        if edge_row > 0 {
            energies[target as usize] = own[edge_row as usize - edge_rows.start];
        }
    }
}
