//! Logits, softmax and slopes of one row in the blocks of a part of a fan.

use std::ops::Range;

use super::blocks::Part;
use super::fan::{Group, Scoring, factor};
use super::{At, Own};
use crate::graph::NodeId;
use crate::kernel::real::Real;
use crate::signal::EnergyKind;

/// Sums of one block over its rows.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) nats: f64,
    pub(super) d_log_alpha: f64,
    pub(super) d_prior_weight: f64,
}

/// Targets of the blocks of a part, with their logits in one row.
pub(super) struct RowScores {
    /// Range of each block of the part in the lists below.
    pub(super) ranges: Vec<Range<usize>>,
    targets: Vec<u32>,
    /// Index of the energy of each target.
    edges: Vec<u32>,
    /// Resistances less lifts; empty without static resistances.
    resistances: Vec<f32>,
    /// Logits, then q, then their gradients.
    logits: Vec<f32>,
    /// l of each block of the part.
    pub(super) logs: Vec<f64>,
    /// Index of the true target, where the part has it, with its logit.
    pub(super) reached: Option<(usize, f32)>,
    /// ln n, where n targets of the rest have one logit and count as one; else 0.
    alike: f32,
    /// Resistances less lifts of all targets, or empty. `[V]`
    all: Vec<f32>,
    /// Gradients of the energies. `[1 + F]`
    d_energies: Vec<f32>,
}

impl Own<f32> {
    /// Prepare the lists of a part's targets; those of sampled candidates follow row by row.
    pub(super) fn row_scores(&self, scoring: &Scoring<'_, f32>, part: &Part) -> RowScores {
        let mut row = RowScores {
            ranges: Vec::new(),
            targets: Vec::new(),
            edges: Vec::new(),
            resistances: Vec::new(),
            logits: Vec::new(),
            logs: vec![0.0; part.blocks.len()],
            reached: None,
            alike: 0.0,
            all: Vec::new(),
            d_energies: vec![0.0; 1 + part.targets.len()],
        };
        if scoring.batch.candidates.is_some() {
            return row;
        }
        for block in &part.blocks {
            let first = row.targets.len();
            if block.index > 0 {
                row.targets.extend(&part.targets[block.edges.clone()]);
                row.edges
                    .extend(block.edges.clone().map(|edge| edge as u32 + 1));
            } else {
                let own = scoring.graph.own_fan(NodeId(part.source));
                let mut own = own.map(|(target, _)| target).peekable();
                let nodes = 0..scoring.graph.nodes() as u32;
                // Both ascend.
                let rest = nodes.filter(|target| own.next_if_eq(target).is_none());
                row.targets.extend(rest);
                if !self.profile.target_bias && !self.profile.static_resistance {
                    // Nothing but energy counts: all targets of the shared edge have one logit.
                    row.alike = (row.targets.len() as f32).ln();
                    row.targets.truncate(1);
                }
                row.edges.resize(row.targets.len(), 0);
            }
            row.ranges.push(first..row.targets.len());
        }
        row
    }

    /// Compute the logits of a row in the blocks of a part, and the softmax of each block.
    pub(super) fn score_row(
        &self,
        scoring: &Scoring<'_, f32>,
        group: &Group<f32>,
        part: &Part,
        index: usize,
        row: &mut RowScores,
    ) {
        let (batch, n) = (scoring.batch, group.rows.len());
        let at = group.rows[index] as usize;
        let (sequence, step) = (at / batch.steps, at % batch.steps);
        if let Some(candidates) = &batch.candidates {
            row.list(scoring, part, candidates.of(at));
        }
        let (alpha, gamma) = self.scalars();
        let energies = row.edges.iter();
        let logits = energies.map(|&edge| alpha * part.energies[edge as usize * n + index]);
        row.logits.clear();
        row.logits.extend(logits);
        if self.profile.target_bias {
            let bias = &self.of(At::Bias).value;
            for (logit, &target) in row.logits.iter_mut().zip(&row.targets) {
                *logit += bias[target as usize];
            }
        }
        if self.profile.static_resistance {
            row.resist(scoring, sequence, step);
            // w_u = γ + the prior weight of the source.
            let weight = gamma + self.of(At::PriorWeight).value[part.source as usize];
            for (logit, &resistance) in row.logits.iter_mut().zip(&row.resistances) {
                *logit -= weight * resistance;
            }
        }
        row.find(scoring, part, batch.sequence(sequence)[step + 1]);
        for (range, log) in row.ranges.iter().zip(&mut row.logs) {
            *log = match range.is_empty() {
                true => f64::NEG_INFINITY,
                false => f32::softmax(&mut row.logits[range.clone()]),
            };
        }
        if row.alike > 0.0 {
            // The first block is the rest, and its only target counts n times.
            row.logs[0] += f64::from(row.alike);
        }
    }

    /// Turn the logits of a row, whose sum is known, into gradients: those of the energies become factors of u in dz.
    pub(super) fn slope_row(
        &self,
        group: &mut Group<f32>,
        part: &mut Part,
        index: usize,
        (total, scale): (f64, f32),
        row: &mut RowScores,
        tallies: &mut [Tally],
    ) {
        let (n, alpha) = (group.rows.len(), self.scalars().0);
        for (range, log) in row.ranges.iter().zip(&row.logs) {
            let weight = (log - total).exp() as f32 * scale;
            f32::scale(weight, &mut row.logits[range.clone()]);
        }
        if let Some((entry, _)) = row.reached {
            // p − 1 at the true target, p elsewhere, divided by the predictions of the batch.
            row.logits[entry] -= scale;
        }
        row.d_energies.fill(0.0);
        for (range, tally) in row.ranges.iter().zip(tallies) {
            let slopes = &row.logits[range.clone()];
            for (&slope, &edge) in slopes.iter().zip(&row.edges[range.clone()]) {
                // s = α E + …: ∂s/∂ln α = α E and ∂s/∂E = α.
                let slope = slope * alpha;
                row.d_energies[edge as usize] += slope;
                let energy = part.energies[edge as usize * n + index];
                tally.d_log_alpha += f64::from(slope * energy);
            }
            if !row.resistances.is_empty() {
                // The logit contains −w_u (R_t − lift_ut).
                let resistances = &row.resistances[range.clone()];
                tally.d_prior_weight -= f64::from(f32::dot(slopes, resistances));
            }
        }
        if self.profile.target_bias {
            for (&slope, &target) in row.logits.iter().zip(&row.targets) {
                group.d_bias[target as usize] += slope;
            }
        }
        let squared = self.profile.energy == EnergyKind::Squared;
        for (edge, &slope) in row.d_energies.iter().enumerate() {
            let energy = &mut part.energies[edge * n + index];
            *energy = factor(squared, slope, *energy);
        }
    }
}

impl RowScores {
    /// List the candidates of a row that belong to the blocks of a part.
    fn list(&mut self, scoring: &Scoring<'_, f32>, part: &Part, candidates: &[u32]) {
        let of_candidate = |&target: &u32| {
            if let Ok(edge) = part.targets.binary_search(&target) {
                let block = part.blocks.partition_point(|block| block.edges.end <= edge);
                return Some((block, target, edge as u32 + 1));
            }
            // A target without an edge here has one on another rank, or the shared edge.
            let edge_row = scoring.graph.edge_row(NodeId(part.source), NodeId(target));
            (part.home && edge_row == 0).then_some((0, target, 0))
        };
        let mut listed: Vec<(usize, u32, u32)> =
            candidates.iter().filter_map(of_candidate).collect();
        // Stable: within a block in the order of the candidates.
        listed.sort_by_key(|&(block, _, _)| block);
        self.targets.clear();
        self.targets
            .extend(listed.iter().map(|&(_, target, _)| target));
        self.edges.clear();
        self.edges.extend(listed.iter().map(|&(_, _, edge)| edge));
        let border = |block| listed.partition_point(|&(of, _, _)| of < block);
        let blocks = 0..part.blocks.len();
        self.ranges = blocks
            .map(|block| border(block)..border(block + 1))
            .collect();
    }

    /// Compute the resistances less lifts of the listed targets, for a prediction of the batch.
    fn resist(&mut self, scoring: &Scoring<'_, f32>, sequence: usize, step: usize) {
        let (graph, prior, batch) = (scoring.graph, scoring.prior, scoring.batch);
        let (fold, walk) = (batch.folds[sequence] as usize, batch.walk(sequence, step));
        let resistances = prior.target(fold);
        self.resistances.clear();
        if batch.candidates.is_some() {
            let of_target = |&target: &u32| {
                resistances[target as usize] - prior.lift_of(graph, fold, walk, target)
            };
            self.resistances.extend(self.targets.iter().map(of_target));
            return;
        }
        self.all.clear();
        self.all.extend_from_slice(resistances);
        for (target, lift) in prior.lifts(graph, fold, walk) {
            self.all[target as usize] -= lift;
        }
        let all = &self.all;
        let listed = self.targets.iter().map(|&target| all[target as usize]);
        self.resistances.extend(listed);
    }

    /// Find the true target among those listed.
    fn find(&mut self, scoring: &Scoring<'_, f32>, part: &Part, next: u32) {
        let mut entry = self.targets.iter().position(|&target| target == next);
        if self.alike > 0.0 && scoring.graph.edge_row(NodeId(part.source), NodeId(next)) == 0 {
            entry = Some(0);
        }
        self.reached = entry.map(|entry| (entry, self.logits[entry]));
    }
}
