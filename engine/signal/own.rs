//! Own edges on one path: reads the weights that [`kernel::own`](crate::kernel::own) computes a hop with.

use crate::Result;
use crate::graph::NodeId;
use crate::kernel::blend::Gates;
use crate::kernel::own::{self, Node, Path};
use crate::kernel::{fan, vector};
use crate::signal::{
    BlendKind, EnergyKind, FanQuery, Flow, Mechanism, PositionOffset, Start, blend,
};

/// Start a path: `z = start + node_start[v_0] + PE[0]`.
pub(crate) fn begin(mechanism: &Mechanism, flow: &mut Flow, start: &Start, gain: f32) {
    let mut preactivation = mechanism.start_vector(start);
    let row = mechanism.weights.row("node.start", flow.node as usize);
    vector::add_scaled(1.0, &row, &mut preactivation);
    // The authors add PE[0] here, and in decoding again at the first hop.
    vector::add_scaled(1.0, &mechanism.position_row(0), &mut preactivation);
    // Under the position blend the start feeds the first hop without entering the blend.
    let blended = mechanism.profile.blend != BlendKind::Position;
    let gates = blended.then(|| blend::gates(mechanism, &mut flow.normaliser, 0));
    update_node(mechanism, flow, &preactivation, gates, gain);
}

/// Follow the edge to `target`, whose pre-activation may be `known`.
///
/// # Errors
/// Those of a fan that another process holds.
pub(crate) fn hop(
    mechanism: &Mechanism,
    flow: &mut Flow,
    target: u32,
    gain: f32,
    known: Option<Vec<f32>>,
) -> Result<()> {
    // Every process holds the shared edge.
    let owned = edge_row(mechanism, flow.node, target) > 0;
    let remote = mechanism.remote_fan(flow.node).filter(|_| owned);
    let preactivation = match (known, remote) {
        (Some(known), _) => known,
        (None, Some(remote)) => mechanism.fetch(remote, FanQuery::of(flow, false, Some(target)))?,
        (None, None) => {
            let row = edge(mechanism, flow.node, target);
            preactivation(mechanism, &flow.output, &base(mechanism, flow.step), &row)
        }
    };
    flow.node = target;
    // `step` counts hops: hop i is position i of the softmax.
    let gates = blend::gates(mechanism, &mut flow.normaliser, flow.step as usize);
    update_node(mechanism, flow, &preactivation, Some(gates), gain);
    Ok(())
}

fn update_node(
    mechanism: &Mechanism,
    flow: &mut Flow,
    preactivation: &[f32],
    gates: Option<Gates<'_, f32, f64>>,
    gain: f32,
) {
    let node = Node {
        gates,
        gate: &blend::node_gate(mechanism, flow.node),
        mix: mechanism.weights.values("blend.mix"),
        gain,
    };
    let mut lambda = vec![0.0; flow.banks.len()];
    let mut path = Path {
        signal: &mut flow.signal,
        lambda: &mut lambda,
        banks: &mut flow.banks,
        output: &mut flow.output,
    };
    own::forward(&node, preactivation, &mut path);
}

/// Compute `x W + b + PE` of an edge, given the output x, PE and the edge's row. `[D]`
pub(crate) fn preactivation(
    mechanism: &Mechanism,
    output: &[f32],
    base: &[f32],
    row: &[f32],
) -> Vec<f32> {
    let width = mechanism.profile.width;
    let mut z = vec![0.0; width];
    fan::preactivations(output, base, row, width, &mut z);
    z
}

/// Return the edge row of an edge; 0, the shared edge, where it has no own.
fn edge_row(mechanism: &Mechanism, source: u32, target: u32) -> usize {
    mechanism.graph.edge_row(NodeId(source), NodeId(target)) as usize
}

/// Read the matrix of an edge, row by row, then its bias; the shared edge's where it has no own. `[D·D + D]`
pub(crate) fn edge(mechanism: &Mechanism, source: u32, target: u32) -> Vec<f32> {
    let edge_row = edge_row(mechanism, source, target);
    mechanism.weights.row("edge.arena", edge_row)
}

/// Return the row of the position table that every edge adds after `step` hops. `[D]`
pub(crate) fn base(mechanism: &Mechanism, step: u64) -> Vec<f32> {
    let offset = usize::from(mechanism.profile.offset == PositionOffset::Train);
    mechanism.position_row(step as usize + offset)
}

/// Compute the energies over own edges; every other target receives that of the shared edge. Where another process holds the
/// fan, it also returns the pre-activation over the own edge to `next`, the next node if it is known. `energies [V]`
///
/// # Errors
/// Those of a fan that another process holds.
pub(crate) fn energies(
    mechanism: &Mechanism,
    flow: &Flow,
    next: Option<u32>,
    energies: &mut [f32],
) -> Result<Option<Vec<f32>>> {
    let edge_weights = mechanism.weights.table("edge.arena");
    let base = base(mechanism, flow.step);
    let squared = mechanism.profile.energy == EnergyKind::Squared;
    // Every target without an edge row has the shared matrix, so one energy serves all of them.
    let mut shared = [0.0];
    edge_weights.energies(0, &flow.output, &base, squared, &mut shared);
    energies.fill(shared[0]);
    let edge_rows = mechanism.graph.own_slots(NodeId(flow.node));
    if edge_rows.is_empty() {
        return Ok(None);
    }
    let mut known = None;
    let own = match mechanism.remote_fan(flow.node) {
        Some(remote) => {
            let target = next.filter(|&next| edge_row(mechanism, flow.node, next) > 0);
            let mut values = mechanism.fetch(remote, FanQuery::of(flow, true, target))?;
            let preactivation = values.split_off(edge_rows.len());
            known = target.map(|_| preactivation);
            values
        }
        None => fan_energies(mechanism, flow.node, &flow.output, &base),
    };
    for (target, edge_row) in mechanism.graph.own_fan(NodeId(flow.node)) {
        energies[target as usize] = own[edge_row as usize - edge_rows.start];
    }
    Ok(known)
}

/// Compute the energies of the own edges of a node, in the order of targets. `[F]`
pub(crate) fn fan_energies(
    mechanism: &Mechanism,
    node: u32,
    output: &[f32],
    base: &[f32],
) -> Vec<f32> {
    let edge_weights = mechanism.weights.table("edge.arena");
    let squared = mechanism.profile.energy == EnergyKind::Squared;
    // The own edges of a node lie in one run of rows: one pass over memory.
    let edge_rows = mechanism.graph.own_slots(NodeId(node));
    let mut energies = vec![0.0; edge_rows.len()];
    edge_weights.energies(edge_rows.start, output, base, squared, &mut energies);
    energies
}
