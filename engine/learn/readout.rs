//! The exact softmax over all V targets of a batch, and its gradient, for forms whose energies are `‖h + β_t‖²`.

use rayon::prelude::*;

use crate::graph::TokenGraph;
use crate::kernel::logits::{self, Static};
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Loss, Row};
use crate::learn::parameter::{Parameter, Touched};
use crate::learn::prior::Prior;
use crate::learn::residual::Residual;
use crate::signal::Profile;

/// Rows of one product `h·β`.
const ROWS: usize = 128;

/// Nodes whose target gradient is formed together.
const NODES: usize = 500;

/// Indices, in the parameters of a form, of those that the logits read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// `node.target`.
    pub(super) target: usize,
    /// `node.trust`.
    pub(super) prior_weight: usize,
    /// `node.bias`.
    pub(super) bias: usize,
    /// `scalars`.
    pub(super) scalars: usize,
}

/// What the targets of a batch are scored with.
#[derive(Clone, Copy)]
pub(super) struct Scored<'a, R> {
    pub(super) profile: &'a Profile,
    pub(super) graph: &'a TokenGraph,
    pub(super) prior: &'a Prior<R>,
    pub(super) batch: &'a Batch,
}

/// The logits of a batch and their gradients.
#[derive(Default)]
pub(super) struct Readout<R> {
    /// Logits, then their gradients. `[N, V]`
    probabilities: Vec<R>,
}

/// The loss of up to [`ROWS`] rows, with what its gradient adds to scalars.
struct ChunkLoss<R> {
    nats: f64,
    d_log_alpha: R,
    /// Gradient of each row's prior weight.
    d_prior_weight: Vec<R>,
}

impl<R: Real> Readout<R> {
    /// Compute the loss over all V targets for every row and, if `learn`, the gradient into h, the target factors, the
    /// biases, the prior weights and the scalars. Rows are ordered as [`Row::of`] orders them.
    ///
    /// `outputs [N, D]` are h; `d_outputs [N, D]` is set to its gradient.
    #[allow(clippy::too_many_arguments, reason = "a form lends its parts")]
    pub(super) fn softmax(
        &mut self,
        scored: Scored<'_, R>,
        parameters: &mut [Parameter<R>],
        places: Places,
        mut residual: Option<&mut Residual<R>>,
        outputs: &[R],
        d_outputs: &mut [R],
        learn: bool,
    ) -> Loss {
        let Scored { graph, batch, .. } = scored;
        let (v, d) = (graph.nodes(), scored.profile.width);
        let rows = batch.sequences() * batch.steps;
        let source_of = |row| Row::of(batch, row).source;
        if let Some(residual) = &mut residual {
            let target = &parameters[places.target];
            // Residuals belong to edges: their energies are sums over own edges, apart from the product h·β.
            residual.energies(graph, outputs, target, rows, source_of);
        }
        let weights = LogitWeights {
            alpha: parameters[places.scalars].value[0].exp(),
            gamma: parameters[places.scalars].value[1],
            target: &parameters[places.target].value,
            bias: &parameters[places.bias].value,
            prior_weight: &parameters[places.prior_weight].value,
            residual: residual.as_deref(),
        };
        let alpha = weights.alpha;
        let chunk = |first: usize, logits: &mut [R], d_outputs: &mut [R]| {
            let outputs = &outputs[first * d..first * d + d_outputs.len()];
            weights.softmax(scored, first, outputs, logits, d_outputs, learn)
        };
        let chunks: Vec<ChunkLoss<R>> = if learn {
            // B·T·V numbers, the largest buffer of training: kept between batches.
            self.probabilities.resize(rows * v, R::zero());
            self.probabilities
                .par_chunks_mut(ROWS * v)
                .zip(d_outputs.par_chunks_mut(ROWS * d))
                .enumerate()
                .map(|(index, (logits, d_outputs))| chunk(index * ROWS, logits, d_outputs))
                .collect()
        } else {
            // Without gradients each thread reuses the logits of one chunk.
            d_outputs
                .par_chunks_mut(ROWS * d)
                .enumerate()
                .map_init(Vec::new, |logits, (index, d_outputs)| {
                    logits.resize(d_outputs.len() / d * v, R::zero());
                    chunk(index * ROWS, logits, d_outputs)
                })
                .collect()
        };
        let nats = chunks.iter().map(|chunk| chunk.nats).sum();
        if learn {
            target_gradients(
                &self.probabilities,
                outputs,
                alpha,
                v,
                &mut parameters[places.target],
            );
            if scored.profile.target_bias {
                bias_gradients(&self.probabilities, v, &mut parameters[places.bias]);
            }
            let mut d_log_alpha = chunks.iter().map(|chunk| chunk.d_log_alpha).sum::<R>();
            if let Some(residual) = residual {
                // Both parts of the logit grow with α: 2 h·β, and the energies that residuals add.
                d_log_alpha += residual.backward(
                    graph,
                    alpha,
                    &self.probabilities,
                    outputs,
                    &mut parameters[places.target],
                    d_outputs,
                    source_of,
                );
            }
            parameters[places.scalars].gradient[0] += d_log_alpha;
            if scored.profile.static_resistance {
                let weights = chunks.into_iter().flat_map(|chunk| chunk.d_prior_weight);
                let total = prior_gradients(batch, weights, &mut parameters[places.prior_weight]);
                // γ is part of the weight of every row.
                parameters[places.scalars].gradient[1] += total;
            }
        }
        Loss { nats, tokens: rows }
    }
}

/// The weights of the logits.
struct LogitWeights<'a, R> {
    alpha: R,
    gamma: R,
    /// `[V, D]`
    target: &'a [R],
    /// `[V]`
    bias: &'a [R],
    /// `[V]`
    prior_weight: &'a [R],
    residual: Option<&'a Residual<R>>,
}

impl<R: Real> LogitWeights<'_, R> {
    /// Return what the logits of a source contain besides energies.
    fn fixed<'a>(&'a self, scored: Scored<'a, R>, source: u32, fold: usize) -> Static<'a, R> {
        let mut fixed = Static {
            bias: self.bias,
            // w_u = γ + the prior weight of the source.
            prior_weight: self.gamma + self.prior_weight[source as usize],
            resistance: scored.prior.target(fold),
        };
        if !scored.profile.static_resistance {
            fixed.resistance = &[];
        }
        fixed
    }

    /// Compute the loss of the rows from `first` on; if `learn`, logits become their gradients.
    ///
    /// `outputs [n, D]`, `logits [n, V]`, `d_outputs [n, D]`.
    fn softmax(
        &self,
        scored: Scored<'_, R>,
        first: usize,
        outputs: &[R],
        logits: &mut [R],
        d_outputs: &mut [R],
        learn: bool,
    ) -> ChunkLoss<R> {
        let Scored {
            graph,
            prior,
            batch,
            profile,
        } = scored;
        let (v, d) = (graph.nodes(), profile.width);
        let count = outputs.len() / d;
        let two_alpha = R::of(2.0) * self.alpha;
        // The loss is a mean over all predictions of the batch, so its gradient p − [t = next] is divided by their
        // number.
        let scale = R::one() / R::of((batch.sequences() * batch.steps) as f64);
        let target = Operand::new(self.target, v, d);
        // α (E − ‖h‖² − ‖β‖²) = 2 α h·β: the logits of all rows are one product.
        let rows = Operand::new(outputs, count, d);
        multiply(two_alpha, rows, target.transposed(), R::zero(), logits);
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
            let fixed = self.fixed(scored, source, fold);
            // A residual adds α (2 h·δ + 2 b·ρ + ‖ρ‖²) to the edges that own one.
            if let Some(residual) = self.residual {
                residual.add_logits(graph, source, row, self.alpha, logits);
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
            let d_logits = Operand::new(logits, count, v);
            multiply(two_alpha, d_logits, target, R::zero(), d_outputs);
            // ∂s/∂ln α = 2 α h·β.
            let along = d_outputs.iter().zip(outputs);
            loss.d_log_alpha = along.map(|(&g, &h)| g * h).sum();
        }
        loss
    }
}

/// Add the gradient of β: `dβ = 2 α dsᵀ h`.
///
/// Each block of nodes is one product over all rows, so no two threads add to one element.
fn target_gradients<R: Real>(
    d_logits: &[R],
    outputs: &[R],
    alpha: R,
    v: usize,
    target: &mut Parameter<R>,
) {
    let (rows, d) = (d_logits.len() / v, target.shape[1]);
    let outputs = Operand::new(&outputs[..rows * d], rows, d);
    target
        .gradient
        .par_chunks_mut(NODES * d)
        .enumerate()
        .for_each(|(block, gradient)| {
            let columns = gradient.len() / d;
            let d_logits = Operand::strided(&d_logits[block * NODES..], rows, columns, v);
            let two_alpha = R::of(2.0) * alpha;
            multiply(
                two_alpha,
                d_logits.transposed(),
                outputs,
                R::one(),
                gradient,
            );
        });
}

/// Add the gradient of the target biases. ρ_t is added to s_t: its gradient is the sum of a column of ds.
fn bias_gradients<R: Real>(d_logits: &[R], v: usize, bias: &mut Parameter<R>) {
    bias.gradient
        .par_chunks_mut(NODES)
        .enumerate()
        .for_each(|(block, gradient)| {
            for row in d_logits.chunks_exact(v) {
                let columns = &row[block * NODES..][..gradient.len()];
                R::add_scaled(R::one(), columns, gradient);
            }
        });
}

/// Add the gradients of `w_u = γ + trust_u`, one for each row, and return their sum.
fn prior_gradients<R: Real>(
    batch: &Batch,
    d_prior_weight: impl Iterator<Item = R>,
    parameter: &mut Parameter<R>,
) -> R {
    let (mut sources, mut total) = (Vec::new(), R::zero());
    for (row, gradient) in d_prior_weight.enumerate() {
        let source = Row::of(batch, row).source;
        parameter.gradient[source as usize] += gradient;
        total += gradient;
        sources.push(source);
    }
    // Only the sources of this batch have a gradient.
    sources.sort_unstable();
    sources.dedup();
    parameter.touched = Touched::Rows(sources);
    total
}
