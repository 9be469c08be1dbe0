//! The exact softmax over all V targets, and its gradient.

use rayon::prelude::*;

use super::{At, Composed, Loss};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::real::{Operand, Real, multiply};
use crate::learn::batch::Batch;
use crate::learn::parameter::Touched;
use crate::learn::prior::Prior;

/// Rows that are scored together.
const ROWS: usize = 128;

/// Nodes whose target gradient is formed together.
const NODES: usize = 500;

impl<R: Real> Composed<R> {
    /// Exact softmax over all V targets for every row, and, if `learn`, the gradient into the signals,
    /// the target factors, the biases, the trust and the scalars.
    pub(super) fn logit(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        learn: bool,
    ) -> Loss {
        let (v, d) = (graph.nodes(), self.profile.width);
        let rows = batch.sequences() * batch.steps;
        let mut flow = std::mem::take(&mut self.flow);
        let needed = if learn { rows * v } else { rows.min(ROWS) * v };
        if learn {
            flow.probabilities.resize(needed, R::zero());
        }
        let mut residual = self.residual.take();
        if let Some(residual) = &mut residual {
            residual.energies(
                graph,
                &flow.kept,
                self.of(At::Target),
                batch.sequences() * batch.steps,
                |row| Self::row_of(batch, row).0,
            );
        }
        let this = &*self;
        let alpha = this.scalar(0).exp();
        let two_alpha = R::of(2.0) * alpha;
        let gamma = this.scalar(1);
        let scale = R::one() / R::of(rows as f64);
        let uses_prior = this.profile.static_resistance;
        let target = Operand::new(&this.of(At::Target).value, v, d);
        let extra = residual.as_ref();

        struct Part<R> {
            nats: f64,
            d_log_alpha: R,
            d_trust: Vec<R>,
        }
        let chunk = |index: usize, logits: &mut [R], d_kept: &mut [R]| -> Part<R> {
            let first = index * ROWS;
            let count = d_kept.len() / d;
            for (within, logit) in logits.chunks_exact_mut(v).enumerate() {
                let (source, _, fold) = Self::row_of(batch, first + within);
                logit.copy_from_slice(&this.of(At::Bias).value);
                if uses_prior {
                    let prior_weight = gamma + this.of(At::Trust).value[source as usize];
                    R::add_scaled(-prior_weight, prior.target(fold), logit);
                    for edge in graph.row(NodeId(source)) {
                        logit[graph.targets()[edge] as usize] +=
                            prior_weight * prior.lift(fold)[edge];
                    }
                }
                if let Some(residual) = extra {
                    residual.add_logits(graph, source, first + within, alpha, logit);
                }
            }
            let kept = Operand::new(&flow.kept[first * d..(first + count) * d], count, d);
            multiply(two_alpha, kept, target.transposed(), R::one(), logits);
            let mut part = Part {
                nats: 0.0,
                d_log_alpha: R::zero(),
                d_trust: vec![R::zero(); count],
            };
            for (within, logit) in logits.chunks_exact_mut(v).enumerate() {
                let (source, next, fold) = Self::row_of(batch, first + within);
                let reached = logit[next as usize].wide();
                part.nats += R::softmax(logit) - reached;
                if !learn {
                    continue;
                }
                logit[next as usize] -= R::one();
                R::scale(scale, logit);
                if uses_prior {
                    let mut d_trust = -R::dot(logit, prior.target(fold));
                    for edge in graph.row(NodeId(source)) {
                        d_trust += logit[graph.targets()[edge] as usize] * prior.lift(fold)[edge];
                    }
                    part.d_trust[within] = d_trust;
                }
            }
            if learn {
                let logits = Operand::new(logits, count, v);
                multiply(two_alpha, logits, target, R::zero(), d_kept);
                let kept = &flow.kept[first * d..(first + count) * d];
                part.d_log_alpha = d_kept.iter().zip(kept).map(|(&g, &h)| g * h).sum();
            }
            part
        };

        let mut d_leaving = std::mem::take(&mut flow.d_leaving);
        let mut probabilities = std::mem::take(&mut flow.probabilities);
        let parts: Vec<Part<R>> = if learn {
            probabilities
                .par_chunks_mut(ROWS * v)
                .zip(d_leaving.par_chunks_mut(ROWS * d))
                .enumerate()
                .map(|(index, (logits, d_kept))| chunk(index, logits, d_kept))
                .collect()
        } else {
            d_leaving
                .par_chunks_mut(ROWS * d)
                .enumerate()
                .map_init(Vec::new, |logits, (index, d_kept)| {
                    logits.resize(d_kept.len() / d * v, R::zero());
                    chunk(index, logits, d_kept)
                })
                .collect()
        };
        let nats = parts.iter().map(|part| part.nats).sum();
        if learn {
            let mut d_log_alpha: R = parts.iter().map(|part| part.d_log_alpha).sum();
            let d_trust: Vec<R> = parts.into_iter().flat_map(|part| part.d_trust).collect();
            // Each block of nodes is one product over all rows, so no two threads add to one place.
            let kept = Operand::new(&flow.kept[..rows * d], rows, d);
            let [target, bias] = [At::Target, At::Bias].map(|at| at as usize);
            let mut d_target = std::mem::take(&mut self.parameters[target].gradient);
            d_target
                .par_chunks_mut(NODES * d)
                .enumerate()
                .for_each(|(block, gradient)| {
                    let count = gradient.len() / d;
                    let columns = Operand::strided(&probabilities[block * NODES..], rows, count, v);
                    multiply(two_alpha, columns.transposed(), kept, R::one(), gradient);
                });
            self.parameters[target].gradient = d_target;
            if self.profile.target_bias {
                let gradient = &mut self.parameters[bias].gradient;
                gradient
                    .par_chunks_mut(NODES)
                    .enumerate()
                    .for_each(|(block, gradient)| {
                        for row in probabilities.chunks_exact(v) {
                            R::add_scaled(
                                R::one(),
                                &row[block * NODES..][..gradient.len()],
                                gradient,
                            );
                        }
                    });
            }
            if let Some(residual) = &mut residual {
                let target = &mut self.parameters[target];
                d_log_alpha += residual.backward(
                    graph,
                    alpha,
                    &probabilities,
                    &flow.kept,
                    target,
                    &mut d_leaving,
                    |row| Self::row_of(batch, row).0,
                );
            }
            if uses_prior {
                let mut sources = Vec::with_capacity(rows);
                for (row, &gradient) in d_trust.iter().enumerate() {
                    let source = Self::row_of(batch, row).0;
                    self.parameters[At::Trust as usize].gradient[source as usize] += gradient;
                    sources.push(source);
                }
                sources.sort_unstable();
                sources.dedup();
                self.parameters[At::Trust as usize].touched = Touched::Rows(sources);
                let total: R = d_trust.iter().copied().sum();
                self.parameters[At::Scalars as usize].gradient[1] += total;
            }
            self.parameters[At::Scalars as usize].gradient[0] += d_log_alpha;
        }
        flow.d_leaving = d_leaving;
        flow.probabilities = probabilities;
        self.flow = flow;
        self.residual = residual;
        Loss { nats, tokens: rows }
    }
}
