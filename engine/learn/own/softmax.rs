//! The softmax of one row: over all V targets, over classes of equal energy, or over sampled candidates.

use super::fan::Group;
use super::{At, Own};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::prior::Prior;

impl<R: Real> Own<R> {
    /// Softmax of one row; returns the gradient of each energy (shared first), empty unless `learn`.
    #[allow(
        clippy::too_many_arguments,
        reason = "one row needs all of its surroundings"
    )]
    pub(super) fn softmax_row(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        group: &mut Group<R>,
        index: usize,
        v: usize,
        edges: &[(u32, u32)],
        energies: &[R],
        learn: bool,
    ) -> Vec<R> {
        let row = group.rows[index] as usize;
        let (sequence, step) = (row / batch.steps, row % batch.steps);
        let next = batch.sequence(sequence)[step + 1];
        let fold = batch.folds[sequence] as usize;
        let (alpha, gamma) = self.scalars();
        let uses_prior = self.profile.static_resistance;
        let prior_weight = if uses_prior {
            gamma + self.of(At::Trust).value[group.source as usize]
        } else {
            R::zero()
        };
        let scale = R::one() / R::of((batch.sequences() * batch.steps) as f64);
        let edge_of = |target: u32| {
            edges
                .binary_search_by_key(&target, |&(_, t)| t)
                .map_or(0, |place| place + 1)
        };
        let mut slopes = vec![R::zero(); if learn { energies.len() } else { 0 }];

        // Which targets are scored: given candidates, all V, or classes where nothing but energy counts.
        if batch.candidates.is_none() && !uses_prior && !self.profile.target_bias {
            let shared = v - edges.len();
            let top = energies.iter().copied().fold(energies[0], R::max);
            let mut weights: Vec<R> = energies
                .iter()
                .map(|&energy| (alpha * (energy - top)).exp())
                .collect();
            weights[0] *= R::of(shared as f64);
            let total: R = weights.iter().copied().sum();
            let chosen = edge_of(next);
            group.nats += (alpha * (top - energies[chosen]) + total.ln()).wide();
            if learn {
                for (slope, &weight) in slopes.iter_mut().zip(&weights) {
                    *slope = weight / total * scale;
                }
                slopes[chosen] -= scale;
            }
        } else {
            let (targets, mut logits): (Option<&[u32]>, Vec<R>) = match &batch.candidates {
                Some(candidates) => {
                    let targets = candidates.of(row);
                    let logits = targets.iter().map(|&t| {
                        self.bare_logit(graph, prior, fold, prior_weight, group.source, t)
                    });
                    (Some(targets), logits.collect())
                }
                None => {
                    let mut logits = match self.profile.target_bias {
                        true => self.of(At::Bias).value.clone(),
                        false => vec![R::zero(); v],
                    };
                    if uses_prior {
                        R::add_scaled(-prior_weight, prior.target(fold), &mut logits);
                        for edge in graph.row(NodeId(group.source)) {
                            logits[graph.targets()[edge] as usize] +=
                                prior_weight * prior.lift(fold)[edge];
                        }
                    }
                    (None, logits)
                }
            };
            let chosen = match targets {
                Some(targets) => {
                    for (logit, &target) in logits.iter_mut().zip(targets) {
                        *logit += alpha * energies[edge_of(target)];
                    }
                    0
                }
                None => {
                    let shared = alpha * energies[0];
                    for logit in &mut logits {
                        *logit += shared;
                    }
                    for (&(_, target), &energy) in edges.iter().zip(&energies[1..]) {
                        logits[target as usize] += alpha * energy - shared;
                    }
                    next as usize
                }
            };
            let reached = logits[chosen].wide();
            group.nats += R::softmax(&mut logits) - reached;
            if learn {
                logits[chosen] -= R::one();
                R::scale(scale, &mut logits);
                match targets {
                    Some(targets) => {
                        for (&logit, &target) in logits.iter().zip(targets) {
                            slopes[edge_of(target)] += logit;
                            if self.profile.target_bias {
                                group.d_bias[target as usize] += logit;
                            }
                            if uses_prior {
                                group.d_trust -= logit
                                    * self.resistance(graph, prior, fold, group.source, target);
                            }
                        }
                    }
                    None => {
                        let own: R = edges
                            .iter()
                            .map(|&(_, target)| logits[target as usize])
                            .sum();
                        slopes[0] = logits.iter().copied().sum::<R>() - own;
                        for (slope, &(_, target)) in slopes[1..].iter_mut().zip(edges) {
                            *slope = logits[target as usize];
                        }
                        if self.profile.target_bias {
                            R::add_scaled(R::one(), &logits, &mut group.d_bias);
                        }
                        if uses_prior {
                            group.d_trust -= R::dot(&logits, prior.target(fold));
                            for edge in graph.row(NodeId(group.source)) {
                                group.d_trust +=
                                    logits[graph.targets()[edge] as usize] * prior.lift(fold)[edge];
                            }
                        }
                    }
                }
            }
        }
        for (slope, &energy) in slopes.iter_mut().zip(energies) {
            group.d_log_alpha += *slope * energy * alpha;
            *slope *= alpha;
        }
        slopes
    }

    /// −ln p(target | source) up to what is the same for every target.
    fn resistance(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        fold: usize,
        source: u32,
        target: u32,
    ) -> R {
        let lift = graph
            .edge(NodeId(source), NodeId(target))
            .map_or(R::zero(), |edge| prior.lift(fold)[edge.index()]);
        prior.target(fold)[target as usize] - lift
    }

    /// Everything in a score but the energy.
    fn bare_logit(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        fold: usize,
        prior_weight: R,
        source: u32,
        target: u32,
    ) -> R {
        let mut logit = R::zero();
        if self.profile.target_bias {
            logit += self.of(At::Bias).value[target as usize];
        }
        if self.profile.static_resistance {
            logit -= prior_weight * self.resistance(graph, prior, fold, source, target);
        }
        logit
    }
}
