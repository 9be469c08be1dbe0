//! The softmax of one prediction: over classes of equal energy, over all V targets, or over sampled candidates.

use super::fan::Group;
use super::{At, Own};
use crate::graph::TokenGraph;
use crate::kernel::logits::{self, Static};
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::prior::Prior;

/// One prediction: the edges out of its source, and what it is scored with.
pub(super) struct Prediction<'a, R> {
    pub(super) graph: &'a TokenGraph,
    pub(super) prior: &'a Prior<R>,
    pub(super) source: u32,
    /// The tokens of its sequence up to the source.
    pub(super) walk: &'a [u32],
    /// True next token.
    pub(super) next: u32,
    /// Fold of the static resistances.
    pub(super) fold: usize,
    /// Edge rows and targets scored with an edge of their own, by ascending target.
    pub(super) edges: &'a [(u32, u32)],
    /// Energies of the shared edge, then of `edges`. `[1 + F]`
    pub(super) energies: &'a [R],
    /// Sampled targets, the true one first; all V where there are none.
    pub(super) candidates: Option<&'a [u32]>,
    /// Factor on the gradient, 1 / predictions of the batch; `None` computes the loss alone.
    pub(super) scale: Option<R>,
}

impl<'a, R: Real> Prediction<'a, R> {
    /// Return the index in `energies` of a target's edge; 0 is the shared edge.
    fn edge_of(&self, target: u32) -> usize {
        self.edges
            .binary_search_by_key(&target, |&(_, t)| t)
            .map_or(0, |index| index + 1)
    }

    fn lifts(&self) -> impl Iterator<Item = (u32, R)> + 'a {
        self.prior.lifts(self.graph, self.fold, self.walk)
    }

    fn lift(&self, target: u32) -> R {
        self.prior.lift_of(self.graph, self.fold, self.walk, target)
    }
}

impl<R: Real> Own<R> {
    /// Add the loss of a prediction to its group; returns the gradient of each energy, empty without `scale`.
    pub(super) fn softmax_row(
        &self,
        row: &Prediction<'_, R>,
        batch: &Batch,
        group: &mut Group<R>,
    ) -> Vec<R> {
        debug_assert_eq!(batch.candidates.is_some(), row.candidates.is_some());
        let (alpha, gamma) = self.scalars();
        let mut fixed = Static {
            bias: &self.of(At::Bias).value,
            prior_weight: R::zero(),
            resistance: &[],
        };
        if self.profile.static_resistance {
            // w_u = γ + the prior weight of the source.
            fixed.prior_weight = gamma + self.of(At::PriorWeight).value[row.source as usize];
            fixed.resistance = row.prior.target(row.fold);
        }
        let mut slopes = match row.candidates {
            Some(targets) => softmax_candidates(row, targets, alpha, &fixed, group),
            None if fixed.bias.is_empty() && fixed.resistance.is_empty() => {
                softmax_classes(row, alpha, group)
            }
            None => softmax_all(row, alpha, &fixed, group),
        };
        // s = α E + …: ∂s/∂ln α = α E and ∂s/∂E = α.
        for (slope, &energy) in slopes.iter_mut().zip(row.energies) {
            group.d_log_alpha += *slope * energy * alpha;
            *slope *= alpha;
        }
        slopes
    }
}

/// Softmax where nothing but energy counts: all targets of the shared edge have one logit, so they are one class of
/// weight `n e^(α E_0)`, and V − F exponentials are saved.
fn softmax_classes<R: Real>(row: &Prediction<'_, R>, alpha: R, group: &mut Group<R>) -> Vec<R> {
    let shared = row.graph.nodes() - row.edges.len();
    // Subtracting the largest energy keeps the exponentials finite.
    let top = row.energies.iter().copied().fold(row.energies[0], R::max);
    let exponentials = row.energies.iter().map(|&e| (alpha * (e - top)).exp());
    let mut weights: Vec<R> = exponentials.collect();
    weights[0] *= R::of(shared as f64);
    let total: R = weights.iter().copied().sum();
    let chosen = row.edge_of(row.next);
    // −ln p = ln Σ_k n_k e^(α (E_k − top)) − α (E − top).
    group.nats += (alpha * (top - row.energies[chosen]) + total.ln()).wide();
    let Some(scale) = row.scale else {
        return Vec::new();
    };
    for weight in &mut weights {
        *weight = *weight / total * scale;
    }
    // p − 1 at the true class, p elsewhere, divided by the predictions of the batch.
    weights[chosen] -= scale;
    weights
}

/// Softmax over all V targets.
fn softmax_all<R: Real>(
    row: &Prediction<'_, R>,
    alpha: R,
    fixed: &Static<'_, R>,
    group: &mut Group<R>,
) -> Vec<R> {
    let mut logits = vec![alpha * row.energies[0]; row.graph.nodes()];
    for (&(_, target), &energy) in row.edges.iter().zip(&row.energies[1..]) {
        logits[target as usize] = alpha * energy;
    }
    fixed.add(row.lifts(), &mut logits);
    group.nats += logits::cross_entropy(&mut logits, row.next as usize, row.scale);
    if row.scale.is_none() {
        return Vec::new();
    }
    // The shared edge collects the gradient of every target without an edge of its own.
    let mut slopes = vec![R::zero()];
    slopes.extend(row.edges.iter().map(|&(_, target)| logits[target as usize]));
    let own: R = slopes.iter().copied().sum();
    slopes[0] = logits.iter().copied().sum::<R>() - own;
    R::add_scaled(R::one(), &logits, &mut group.d_bias);
    group.d_prior_weight += fixed.backward(row.lifts(), &logits);
    slopes
}

/// Softmax over sampled candidates, the true target first.
fn softmax_candidates<R: Real>(
    row: &Prediction<'_, R>,
    targets: &[u32],
    alpha: R,
    fixed: &Static<'_, R>,
    group: &mut Group<R>,
) -> Vec<R> {
    let logit = |&target: &u32| {
        fixed.of(target, row.lift(target)) + alpha * row.energies[row.edge_of(target)]
    };
    let mut logits: Vec<R> = targets.iter().map(logit).collect();
    group.nats += logits::cross_entropy(&mut logits, 0, row.scale);
    if row.scale.is_none() {
        return Vec::new();
    }
    let mut slopes = vec![R::zero(); row.energies.len()];
    for (&slope, &target) in logits.iter().zip(targets) {
        // Candidates without an own edge add to the shared one.
        slopes[row.edge_of(target)] += slope;
        if let Some(bias) = group.d_bias.get_mut(target as usize) {
            *bias += slope;
        }
        if let Some(&resistance) = fixed.resistance.get(target as usize) {
            // The logit contains −w_u (R_t − lift_ut).
            group.d_prior_weight -= slope * (resistance - row.lift(target));
        }
    }
    slopes
}
