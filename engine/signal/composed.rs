//! Composed edges on one path: reads the factors that [`kernel::composed`](crate::kernel::composed) computes a hop
//! with.

use crate::graph::NodeId;
use crate::kernel::composed::{self, Factors, Paths, Shared};
use crate::kernel::{product, residual, vector};
use crate::signal::{Flow, Mechanism, Start, blend};

/// Start a path at its first node: h is zero, or the caller's vector.
pub(crate) fn begin(mechanism: &Mechanism, flow: &mut Flow, start: &Start, gain: f32) {
    update_node(mechanism, flow, mechanism.start_vector(start), gain);
}

/// Follow the edge to `target`.
pub(crate) fn hop(mechanism: &Mechanism, flow: &mut Flow, target: u32, gain: f32) {
    let preactivation = carried(mechanism, flow, target);
    flow.node = target;
    update_node(mechanism, flow, preactivation, gain);
}

/// Compute what an edge carries: h plus its own residual, without β of the target. `[D]`
pub(crate) fn carried(mechanism: &Mechanism, flow: &Flow, target: u32) -> Vec<f32> {
    let mut carried = flow.output.clone();
    // An edge without a residual carries h unchanged.
    if let Some(edge_row) = residual_row(mechanism, flow.node, target) {
        let (rho, bias) = Residuals::of(mechanism, flow).delta(edge_row);
        vector::add_scaled(1.0, &rho, &mut carried);
        vector::add_scaled(1.0, &bias, &mut carried);
    }
    carried
}

/// The factors of one node, read from the tables.
pub(crate) struct NodeRows {
    target: Vec<f32>,
    scale: Vec<f32>,
    offset: Vec<f32>,
    low_scale: Vec<f32>,
    gate: Vec<f32>,
}

impl NodeRows {
    pub(crate) fn read(mechanism: &Mechanism, node: u32) -> Self {
        let row = |name: &str| mechanism.weights.row(name, node as usize);
        Self {
            target: row("node.target"),
            scale: row("node.scale"),
            offset: row("node.offset"),
            low_scale: match mechanism.profile.rank {
                0 => Vec::new(),
                _ => row("node.low_scale"),
            },
            gate: blend::node_gate(mechanism, node),
        }
    }

    pub(crate) fn factors(&self) -> Factors<'_, f32> {
        Factors {
            target: &self.target,
            scale: &self.scale,
            offset: &self.offset,
            low_scale: &self.low_scale,
            gate: &self.gate,
        }
    }
}

/// Return the weights that all nodes share.
pub(crate) fn shared(mechanism: &Mechanism) -> Shared<'_, f32> {
    let values = |name| mechanism.weights.values(name);
    Shared {
        width: mechanism.profile.width,
        gain: values("node.gain"),
        kappa: composed::kappa(values("scalars")[2]),
        mix: values("edge.mix"),
        low_in: values("edge.low_in"),
        low_out: values("edge.low_out"),
    }
}

fn update_node(mechanism: &Mechanism, flow: &mut Flow, mut preactivation: Vec<f32>, gain: f32) {
    let profile = &mechanism.profile;
    // The first node enters the blend as position 0; `step` counts hops.
    let entered = if flow.blended.is_empty() {
        0
    } else {
        flow.step as usize + 1
    };
    let gates = blend::gates(mechanism, &mut flow.normaliser, entered);
    let node = NodeRows::read(mechanism, flow.node);
    flow.blended.resize(profile.blended(), 0.0);
    // A batch of one: training runs the same kernel for many paths.
    let mut paths = Paths {
        preactivation: &mut preactivation,
        inverse_rms: &mut [0.0],
        before: &mut vec![0.0; profile.width],
        mask: &[],
        signal: &mut flow.signal,
        lambda: &mut vec![0.0; flow.banks.len()],
        banks: &mut flow.banks,
        blended: &mut flow.blended,
        mixed: &mut vec![0.0; profile.width],
        low: &mut vec![0.0; profile.rank],
        output: &mut flow.output,
    };
    composed::forward(
        &shared(mechanism),
        gates,
        gain,
        |_| node.factors(),
        &mut paths,
    );
}

/// Compute `E_v = ‖h + β_v + δ‖²` of every target: one product for all V, then the edges with a residual.
pub(crate) fn energies(mechanism: &Mechanism, flow: &Flow, energies: &mut [f32]) {
    let targets = mechanism.weights.table("node.target");
    // V·D multiply-adds, bound by memory bandwidth.
    targets.dots(&flow.output, energies);
    composed::energies(&flow.output, &mechanism.target_norm2, energies);
    if mechanism.profile.residual.is_none() {
        return;
    }
    // ρ depends on the edge, so the expansion into h·β does not cover these edges.
    let residuals = Residuals::of(mechanism, flow);
    let mut beta = vec![0.0; mechanism.profile.width];
    for (target, edge_row) in mechanism.graph.own_fan(NodeId(flow.node)) {
        targets.read_row(target as usize, &mut beta);
        let (rho, bias) = residuals.delta(edge_row as usize - 1);
        energies[target as usize] = residual::energy(&flow.output, &beta, &rho, &bias);
    }
}

/// Subtract `α (‖β + r‖² − ‖β‖²)` from the logits of edges with a residual: their rest is ‖β + r‖².
pub(crate) fn subtract_rest(mechanism: &Mechanism, node: u32, alpha: f32, logits: &mut [f32]) {
    if mechanism.profile.residual.is_none() {
        return;
    }
    for (target, edge_row) in mechanism.graph.own_fan(NodeId(node)) {
        let beta = mechanism.weights.row("node.target", target as usize);
        let own = mechanism
            .weights
            .row("edge.residual", edge_row as usize - 1);
        logits[target as usize] -= alpha * residual::rest(&beta, &own);
    }
}

/// Return the row of an edge's residual, if it has one.
pub(crate) fn residual_row(mechanism: &Mechanism, source: u32, target: u32) -> Option<usize> {
    mechanism.profile.residual?;
    let edge_row = mechanism.graph.edge_row(NodeId(source), NodeId(target));
    (edge_row as usize).checked_sub(1)
}

/// The own residuals of the edges that leave a flow's node.
struct Residuals<'m> {
    mechanism: &'m Mechanism,
    /// `x B`. `[r]`
    projected: Vec<f32>,
}

impl<'m> Residuals<'m> {
    fn of(mechanism: &'m Mechanism, flow: &Flow) -> Self {
        let rank = mechanism.profile.residual.unwrap_or(0);
        // x B is the same for all edges of the node.
        let mut projected = vec![0.0; rank];
        let input = mechanism.weights.values("edge.residual_in");
        product::add(&flow.blended, input, rank, &mut projected);
        Self {
            mechanism,
            projected,
        }
    }

    /// Compute ρ and read r of a row of `edge.residual`. `[D]`, `[D]`
    fn delta(&self, edge_row: usize) -> (Vec<f32>, Vec<f32>) {
        let mut row = self.mechanism.weights.row("edge.residual", edge_row);
        // A row holds r, then the matrix C of the edge: ρ = (x B) C.
        let rho = residual::turn(&self.projected, &row);
        row.truncate(rho.len());
        (rho, row)
    }
}
