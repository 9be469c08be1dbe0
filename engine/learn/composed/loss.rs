//! The exact softmax over all V targets, and its gradient.

use rayon::prelude::*;

use super::{At, Composed, Loss, Row};
use crate::graph::TokenGraph;
use crate::kernel::logits::{self, Static};
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::parameter::Touched;
use crate::learn::prior::Prior;

/// Rows of one product `h·β`.
const ROWS: usize = 128;

/// Nodes whose target gradient is formed together.
const NODES: usize = 500;

/// The loss of up to [`ROWS`] rows, with what its gradient adds to scalars.
struct ChunkLoss<R> {
    nats: f64,
    d_log_alpha: R,
    /// Gradient of each row's prior weight.
    d_prior_weight: Vec<R>,
}

impl<R: Real> Composed<R> {
    /// Compute the loss over all V targets for every row and, if `learn`, the gradient into kept h, the target
    /// factors, the biases, the prior weights and the scalars.
    pub(super) fn softmax(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        learn: bool,
    ) -> Loss {
        let (v, d) = (graph.nodes(), self.profile.width);
        let rows = batch.sequences() * batch.steps;
        let source_of = |row| Row::of(batch, row).source;
        let mut residual = self.residual.take();
        if let Some(residual) = &mut residual {
            let target = self.of(At::Target);
            // Residuals belong to edges: their energies are sums over own edges, apart from the product h·β.
            residual.energies(graph, &self.flow.kept, target, rows, source_of);
        }
        self.residual = residual;
        let mut d_output = std::mem::take(&mut self.flow.d_output);
        let mut probabilities = std::mem::take(&mut self.flow.probabilities);
        let this = &*self;
        let chunk = |first, logits: &mut [R], d_kept: &mut [R]| {
            this.softmax_chunk(graph, prior, batch, first, logits, d_kept, learn)
        };
        let chunks: Vec<ChunkLoss<R>> = if learn {
            // B·T·V numbers, the largest buffer of training: kept between batches.
            probabilities.resize(rows * v, R::zero());
            probabilities
                .par_chunks_mut(ROWS * v)
                .zip(d_output.par_chunks_mut(ROWS * d))
                .enumerate()
                .map(|(index, (logits, d_kept))| chunk(index * ROWS, logits, d_kept))
                .collect()
        } else {
            // Without gradients each thread reuses the logits of one chunk.
            d_output
                .par_chunks_mut(ROWS * d)
                .enumerate()
                .map_init(Vec::new, |logits, (index, d_kept)| {
                    logits.resize(d_kept.len() / d * v, R::zero());
                    chunk(index * ROWS, logits, d_kept)
                })
                .collect()
        };
        let nats = chunks.iter().map(|chunk| chunk.nats).sum();
        if learn {
            self.target_gradients(&probabilities, rows, v);
            // Both parts of the logit grow with α: 2 h·β, and the energies that residuals add.
            let d_log_alpha = chunks.iter().map(|chunk| chunk.d_log_alpha).sum::<R>()
                + self.residual_gradients(graph, batch, &probabilities, &mut d_output);
            self.parameters[At::Scalars as usize].gradient[0] += d_log_alpha;
            if self.profile.static_resistance {
                let weights = chunks.into_iter().flat_map(|chunk| chunk.d_prior_weight);
                self.prior_gradients(batch, weights.collect());
            }
        }
        self.flow.d_output = d_output;
        self.flow.probabilities = probabilities;
        Loss { nats, tokens: rows }
    }

    fn alpha(&self) -> R {
        self.scalar(0).exp()
    }

    /// Return what the logits of a source contain besides energies.
    fn fixed<'a>(&'a self, prior: &'a Prior<R>, source: u32, fold: usize) -> Static<'a, R> {
        let mut fixed = Static {
            bias: &self.of(At::Bias).value,
            // w_u = γ + the prior weight of the source.
            prior_weight: self.scalar(1) + self.of(At::PriorWeight).value[source as usize],
            resistance: prior.target(fold),
        };
        if !self.profile.static_resistance {
            fixed.resistance = &[];
        }
        fixed
    }

    /// Compute the loss of the rows from `first` on; if `learn`, logits become their gradients.
    ///
    /// `logits [n, V]`, `d_kept [n, D]`.
    #[allow(clippy::too_many_arguments, reason = "a chunk of a batch")]
    fn softmax_chunk(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        first: usize,
        logits: &mut [R],
        d_kept: &mut [R],
        learn: bool,
    ) -> ChunkLoss<R> {
        let (v, d) = (graph.nodes(), self.profile.width);
        let count = d_kept.len() / d;
        let alpha = self.alpha();
        let two_alpha = R::of(2.0) * alpha;
        // The loss is a mean over all predictions of the batch, so its gradient p − [t = next] is divided by their
        // number.
        let scale = R::one() / R::of((batch.sequences() * batch.steps) as f64);
        let values = &self.flow.kept[first * d..(first + count) * d];
        let kept = Operand::new(values, count, d);
        let target = Operand::new(&self.of(At::Target).value, v, d);
        // α (E − ‖h‖² − ‖β‖²) = 2 α h·β: the logits of all rows are one product.
        multiply(two_alpha, kept, target.transposed(), R::zero(), logits);
        let mut loss = ChunkLoss {
            nats: 0.0,
            d_log_alpha: R::zero(),
            d_prior_weight: Vec::with_capacity(count),
        };
        for (row, logits) in (first..).zip(logits.chunks_exact_mut(v)) {
            let Row {
                source,
                walk,
                next,
                fold,
                ..
            } = Row::of(batch, row);
            let fixed = self.fixed(prior, source, fold);
            // A residual adds α (2 h·δ + 2 b·ρ + ‖ρ‖²) to the edges that own one.
            if let Some(residual) = &self.residual {
                residual.add_logits(graph, source, row, alpha, logits);
            }
            fixed.add(prior.lifts(graph, fold, walk), logits);
            loss.nats += logits::cross_entropy(logits, next as usize, learn.then_some(scale));
            if learn {
                let d_prior_weight = fixed.backward(prior.lifts(graph, fold, walk), logits);
                loss.d_prior_weight.push(d_prior_weight);
            }
        }
        if learn {
            // dh = 2 α ds β for all rows of the chunk; the forward pass was s = 2 α h βᵀ.
            multiply(
                two_alpha,
                Operand::new(logits, count, v),
                target,
                R::zero(),
                d_kept,
            );
            // ∂s/∂ln α = 2 α h·β.
            let along = d_kept.iter().zip(values);
            loss.d_log_alpha = along.map(|(&g, &h)| g * h).sum();
        }
        loss
    }

    /// Add the gradients of β and of the target biases: `dβ = 2 α dsᵀ h`.
    ///
    /// Each block of nodes is one product over all rows, so no two threads add to one element.
    fn target_gradients(&mut self, d_logits: &[R], rows: usize, v: usize) {
        let d = self.profile.width;
        let two_alpha = R::of(2.0) * self.alpha();
        let kept = Operand::new(&self.flow.kept[..rows * d], rows, d);
        self.parameters[At::Target as usize]
            .gradient
            .par_chunks_mut(NODES * d)
            .enumerate()
            .for_each(|(block, gradient)| {
                let columns = gradient.len() / d;
                let d_logits = Operand::strided(&d_logits[block * NODES..], rows, columns, v);
                multiply(two_alpha, d_logits.transposed(), kept, R::one(), gradient);
            });
        if !self.profile.target_bias {
            return;
        }
        self.parameters[At::Bias as usize]
            .gradient
            // ρ_t is added to s_t: its gradient is the sum of a column of ds.
            .par_chunks_mut(NODES)
            .enumerate()
            .for_each(|(block, gradient)| {
                for row in d_logits.chunks_exact(v) {
                    let columns = &row[block * NODES..][..gradient.len()];
                    R::add_scaled(R::one(), columns, gradient);
                }
            });
    }

    /// Add the gradients of own residuals; returns their part of the gradient of ln α.
    fn residual_gradients(
        &mut self,
        graph: &TokenGraph,
        batch: &Batch,
        d_logits: &[R],
        d_kept: &mut [R],
    ) -> R {
        let alpha = self.alpha();
        let Some(residual) = &mut self.residual else {
            return R::zero();
        };
        let target = &mut self.parameters[At::Target as usize];
        let source_of = |row| Row::of(batch, row).source;
        residual.backward(
            graph,
            alpha,
            d_logits,
            &self.flow.kept,
            target,
            d_kept,
            source_of,
        )
    }

    /// Add the gradients of `w_u = γ + trust_u`, one for each row.
    fn prior_gradients(&mut self, batch: &Batch, d_prior_weight: Vec<R>) {
        let parameter = &mut self.parameters[At::PriorWeight as usize];
        let mut sources = Vec::with_capacity(d_prior_weight.len());
        for (row, &gradient) in d_prior_weight.iter().enumerate() {
            let source = Row::of(batch, row).source;
            parameter.gradient[source as usize] += gradient;
            sources.push(source);
        }
        // Only the sources of this batch have a gradient.
        sources.sort_unstable();
        sources.dedup();
        parameter.touched = Touched::Rows(sources);
        // γ is part of the weight of every row.
        let total: R = d_prior_weight.into_iter().sum();
        self.parameters[At::Scalars as usize].gradient[1] += total;
    }
}
