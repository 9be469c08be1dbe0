//! Learning composed edges: forward along the path, exact softmax over all V, and the whole way back.
//!
//! With `u = v_t` the node that is reached, `z` what arrives and `c` what the node makes of it:
//!
//! ```text
//! z_t = h_{t-1} + β_u (+ δ of the edge walked)          arrival; h_{-1} = 0
//! c_t = GELU(g ⊙ z_t / rms(z_t) + 10 κ β_u)             node activation
//! m_t = blend(λ_t, m_{t-1}, c_t);  x_t = [c_t; 2 m_t]   running sums (kernel::blend)
//! h_t = (x_t A) ⊙ p_u + a_u + ((x_t B) ⊙ s_u) C         the signal that leaves u
//! s_v = α (‖h_t + b_uv‖² − ‖b_uv‖²) + γ_u ln p(v|u) + ρ_v     b_uv = β_v (+ own residual)
//! ```
//!
//! so the matrix of an edge is `W_uv = A diag(p_u) + B diag(s_u) C` and its bias `a_u + β_v`, made from
//! its nodes' factors. ‖h + β‖² − ‖β‖² = ‖h‖² + 2 h·β: all V energies are one matrix product, and ‖h‖²
//! cancels in the softmax. Letters: D width, K banks, N = B·T rows, ordered shard, step, sequence.

use rayon::prelude::*;

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::random::Random;
use crate::kernel::real::{Operand, Real, multiply};
use crate::kernel::{blend, position};
use crate::learn::batch::Batch;
use crate::learn::parameter::{Parameter, Touched};
use crate::learn::prior::Prior;
use crate::learn::residual::Residual;
use crate::signal::{BlendKind, Profile};

/// Sequences that walk together; fixed, so that results do not depend on the number of threads.
const SHARD: usize = 16;
/// Rows that are scored together.
const ROWS: usize = 128;
/// Nodes whose target gradient is formed together.
const NODES: usize = 500;
/// Keeps the root of a mean square away from zero.
const EPSILON: f64 = 1e-6;

/// Where each parameter lies in [`Composed::parameters`].
#[derive(Clone, Copy)]
#[repr(usize)]
enum At {
    Target,
    Scale,
    Offset,
    Trust,
    Bias,
    Mix,
    Gain,
    Scalars,
    Decay,
    Gate,
    GateSignal,
    Positions,
    LowScale,
    LowIn,
    LowOut,
}

/// `scalars` holds ln α, γ, κ.
const SCALARS: usize = 3;

/// The learner of composed edges.
pub struct Composed<R> {
    profile: Profile,
    /// Dropout on the signal before the energies, and on the node's part of its activation.
    pub dropout: f64,
    /// Seed of the dropout masks.
    pub seed: u64,
    parameters: Vec<Parameter<R>>,
    residual: Option<Residual<R>>,
    flow: Flow<R>,
}

/// What forward leaves for backward; rows ordered shard, step, sequence.
#[derive(Default)]
struct Flow<R> {
    arrival: Vec<R>,
    inverse_rms: Vec<R>,
    before: Vec<R>,
    signal: Vec<R>,
    blended: Vec<R>,
    lambda: Vec<R>,
    mixed: Vec<R>,
    low: Vec<R>,
    leaving: Vec<R>,
    kept: Vec<R>,
    mask_node: Vec<R>,
    mask_out: Vec<R>,
    probabilities: Vec<R>,
    d_leaving: Vec<R>,
    d_mixed: Vec<R>,
    d_low: Vec<R>,
    d_gate: Vec<R>,
    d_target: Vec<R>,
    d_arrival: Vec<R>,
    d_before: Vec<R>,
}

/// The outcome of one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum of negative log-likelihoods, in nats.
    pub nats: f64,
    /// Number of predictions.
    pub tokens: usize,
}

impl Loss {
    /// Nats per token.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }
}

impl<R: Real> Composed<R> {
    /// A learner with freshly initialised parameters for `nodes` nodes.
    pub fn new(profile: &Profile, graph: &TokenGraph, seed: u64) -> Self {
        let (v, d, k) = (graph.nodes(), profile.width, profile.banks);
        let mut random = Random::stream(seed, 0x636f_6d70, 0);
        let x = (1 + k) * d;
        let mix = 0.2 / (x as f64).sqrt();
        let gated = profile.blend == BlendKind::Gated;
        let rank = profile.rank;
        let normal = |scale: f64| move |random: &mut Random| scale * random.normal();
        let mut fill = |name, shape, scale: f64| {
            let draw = normal(scale);
            Parameter::new(name, shape, || {
                if scale == 0.0 { 0.0 } else { draw(&mut random) }
            })
        };
        // Decays begin at lifetimes of 2, 6, 18, ... steps: logit of 1 − 1/lifetime.
        let mut bank = 0;
        let decay = Parameter::new(
            "blend.decay",
            [
                1,
                if profile.blend == BlendKind::Position {
                    0
                } else {
                    k * d
                },
            ],
            || {
                let lifetime = 2.0 * 3f64.powi((bank / d) as i32);
                bank += 1;
                (lifetime - 1.0).ln()
            },
        );
        let parameters = vec![
            fill("node.target", [v, d], 0.1).decaying(),
            Parameter::new("node.scale", [v, d], || 1.0),
            fill("node.offset", [v, d], 0.0),
            fill("node.trust", [v, 1], 0.0),
            fill("node.bias", [v, 1], 0.0),
            fill("edge.mix", [x, d], mix).decaying(),
            Parameter::new("node.gain", [1, d], || 0.5),
            {
                let mut values = [
                    0.5f64.ln(),
                    f64::from(u8::from(profile.static_resistance)),
                    1.0,
                ]
                .into_iter();
                Parameter::new("scalars", [1, SCALARS], || values.next().unwrap_or(0.0))
            },
            decay,
            fill("blend.gate", [if gated { v } else { 0 }, k * d], 0.0),
            fill("blend.gate_signal", [if gated { d } else { 0 }, k * d], 0.0).decaying(),
            fill(
                "blend.positions",
                [
                    1,
                    if profile.blend == BlendKind::Position {
                        profile.positions
                    } else {
                        0
                    },
                ],
                0.0,
            ),
            Parameter::new(
                "node.low_scale",
                [if rank > 0 { v } else { 0 }, rank],
                || 1.0,
            ),
            fill("edge.low_in", [if rank > 0 { x } else { 0 }, rank], mix).decaying(),
            fill("edge.low_out", [rank, d], 0.0).decaying(),
        ];
        let residual = profile
            .residual
            .map(|rank| Residual::new(graph, profile, rank, seed));
        Self {
            profile: profile.clone(),
            dropout: 0.0,
            seed,
            parameters,
            residual,
            flow: Flow::default(),
        }
    }

    /// All parameters, in the order of their blocks; an own residual's come last.
    pub fn parameters(&mut self) -> Vec<&mut Parameter<R>> {
        let mut all: Vec<&mut Parameter<R>> = self.parameters.iter_mut().collect();
        if let Some(residual) = &mut self.residual {
            all.extend(residual.parameters());
        }
        all
    }

    fn of(&self, at: At) -> &Parameter<R> {
        &self.parameters[at as usize]
    }

    fn scalar(&self, index: usize) -> R {
        self.of(At::Scalars).value[index]
    }

    /// The negative log-likelihood of a batch over all V targets, without gradients or dropout.
    pub fn loss(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        self.walk(graph, batch, 0.0);
        self.score(graph, prior, batch, false)
    }

    /// The loss of a batch; leaves its gradient (of the mean over tokens) in the parameters.
    pub fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        for parameter in self.parameters() {
            parameter.clear();
        }
        self.walk(graph, batch, self.dropout);
        let loss = self.score(graph, prior, batch, true);
        self.back(graph, batch);
        loss
    }

    /// Signals along the true path of every sequence.
    fn walk(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) {
        let (d, k) = (self.profile.width, self.profile.banks);
        let rank = self.profile.rank;
        let rows = batch.sequences() * batch.steps;
        let mut flow = std::mem::take(&mut self.flow);
        flow.resize(rows, d, k, rank);
        flow.draw_masks(d, dropout, self.seed, batch.index);
        if let Some(residual) = &mut self.residual {
            residual.resize(rows);
        }

        let this = &*self;
        let positions = position::weights(&this.of(At::Positions).value, batch.steps);
        let sequences = batch.sequences();
        let slices = flow.shards(batch.steps, d, k, rank);
        let deltas = this.residual.as_ref();
        slices
            .into_par_iter()
            .enumerate()
            .for_each(|(shard, mut flow)| {
                let first = shard * SHARD;
                let width = SHARD.min(sequences - first);
                for step in 0..batch.steps {
                    this.hop(
                        graph, batch, first, width, step, &positions, deltas, &mut flow,
                    );
                }
            });
        self.flow = flow;
        if let Some(residual) = &mut self.residual {
            residual.project(&self.flow.blended, rows);
        }
    }

    /// One step of one shard.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step needs all of its surroundings"
    )]
    fn hop(
        &self,
        graph: &TokenGraph,
        batch: &Batch,
        first: usize,
        width: usize,
        step: usize,
        positions: &[R],
        residual: Option<&Residual<R>>,
        flow: &mut Shard<'_, R>,
    ) {
        let (d, k) = (self.profile.width, self.profile.banks);
        let (x, g) = ((1 + k) * d, k * d);
        let two = R::of(2.0);
        let kappa = R::of(10.0) * self.scalar(2);
        let gain = &self.of(At::Gain).value;
        let rows = step * width..(step + 1) * width;

        for (sequence, row) in rows.clone().enumerate() {
            let tokens = batch.sequence(first + sequence);
            let node = tokens[step] as usize;
            let target = self.of(At::Target).row(node);
            let (earlier, arrival) = (&flow.leaving, &mut flow.arrival[row * d..(row + 1) * d]);
            if step == 0 {
                arrival.copy_from_slice(target);
            } else {
                let previous = &earlier[(row - width) * d..(row - width + 1) * d];
                for j in 0..d {
                    arrival[j] = previous[j] + target[j];
                }
                if let Some(residual) = residual {
                    let edge = graph.edge(NodeId(tokens[step - 1]), NodeId(tokens[step]));
                    let blended = &flow.blended[(row - width) * x..(row - width + 1) * x];
                    residual.add_delta(graph, edge, blended, arrival);
                }
            }
            let square: R = arrival.iter().map(|&z| z * z).sum();
            let inverse = R::one() / (square / R::of(d as f64) + R::of(EPSILON)).sqrt();
            flow.inverse_rms[row] = inverse;
            let before = &mut flow.before[row * d..(row + 1) * d];
            let mask = &flow.mask_node[row * d..(row + 1) * d];
            for j in 0..d {
                before[j] = gain[j] * arrival[j] * inverse + kappa * mask[j] * target[j];
            }
        }
        let span = rows.start * d..rows.end * d;
        R::gelu(&flow.before[span.clone()], &mut flow.signal[span.clone()]);

        let gates = rows.start * g..rows.end * g;
        self.open_gates(
            batch,
            first,
            step,
            positions,
            &flow.signal[span.clone()],
            &mut flow.lambda[gates],
        );

        for row in rows.clone() {
            let (earlier, now) = flow.blended.split_at_mut(row * x);
            let now = &mut now[..x];
            let signal = &flow.signal[row * d..(row + 1) * d];
            if step == 0 {
                now[d..].fill(R::zero());
            } else {
                let before = &earlier[(row - width) * x + d..(row - width + 1) * x];
                for (m, &b) in now[d..].iter_mut().zip(before) {
                    *m = b / two;
                }
            }
            blend::advance(&flow.lambda[row * g..(row + 1) * g], signal, &mut now[d..]);
            for m in &mut now[d..] {
                *m *= two;
            }
            now[..d].copy_from_slice(signal);
        }

        let blended = Operand::new(&flow.blended[rows.start * x..rows.end * x], width, x);
        let mix = Operand::new(&self.of(At::Mix).value, x, d);
        multiply(
            R::one(),
            blended,
            mix,
            R::zero(),
            &mut flow.mixed[span.clone()],
        );
        for (sequence, row) in rows.clone().enumerate() {
            let node = batch.sequence(first + sequence)[step] as usize;
            let (scale, offset) = (self.of(At::Scale).row(node), self.of(At::Offset).row(node));
            for j in 0..d {
                flow.leaving[row * d + j] = flow.mixed[row * d + j] * scale[j] + offset[j];
            }
        }
        let rank = self.profile.rank;
        if rank > 0 {
            let low = rows.start * rank..rows.end * rank;
            let low_in = Operand::new(&self.of(At::LowIn).value, x, rank);
            multiply(
                R::one(),
                blended,
                low_in,
                R::zero(),
                &mut flow.low[low.clone()],
            );
            let mut scaled = flow.low[low].to_vec();
            for sequence in 0..width {
                let node = batch.sequence(first + sequence)[step] as usize;
                let scale = self.of(At::LowScale).row(node);
                for r in 0..rank {
                    scaled[sequence * rank + r] *= scale[r];
                }
            }
            let low_out = Operand::new(&self.of(At::LowOut).value, rank, d);
            let scaled = Operand::new(&scaled, width, rank);
            multiply(
                R::one(),
                scaled,
                low_out,
                R::one(),
                &mut flow.leaving[span.clone()],
            );
        }
        for index in span {
            flow.kept[index] = flow.leaving[index] * flow.mask_out[index];
        }
    }

    /// λ of every bank for one step of one shard. `lambda [width · K·D]`
    fn open_gates(
        &self,
        batch: &Batch,
        first: usize,
        step: usize,
        positions: &[R],
        signal: &[R],
        lambda: &mut [R],
    ) {
        let (d, g) = (self.profile.width, self.profile.banks * self.profile.width);
        match self.profile.blend {
            BlendKind::Position => lambda.fill(positions[step]),
            BlendKind::Decay => {
                for row in lambda.chunks_exact_mut(g) {
                    row.copy_from_slice(&self.of(At::Decay).value);
                }
                blend::sigmoid(lambda);
            }
            BlendKind::Gated => {
                for (sequence, row) in lambda.chunks_exact_mut(g).enumerate() {
                    let node = batch.sequence(first + sequence)[step] as usize;
                    let gate = self.of(At::Gate).row(node);
                    for ((value, &tau), &gate) in
                        row.iter_mut().zip(&self.of(At::Decay).value).zip(gate)
                    {
                        *value = tau + gate;
                    }
                }
                let signal = Operand::new(signal, lambda.len() / g, d);
                let weights = Operand::new(&self.of(At::GateSignal).value, d, g);
                multiply(R::one(), signal, weights, R::one(), lambda);
                blend::sigmoid(lambda);
            }
        }
    }

    /// Source and target token, and fold, of a row.
    fn row_of(batch: &Batch, row: usize) -> (u32, u32, usize) {
        let per_shard = SHARD * batch.steps;
        let (shard, within) = (row / per_shard, row % per_shard);
        let first = shard * SHARD;
        let width = SHARD.min(batch.sequences() - first);
        let (step, sequence) = (within / width, first + within % width);
        let tokens = batch.sequence(sequence);
        (
            tokens[step],
            tokens[step + 1],
            batch.folds[sequence] as usize,
        )
    }

    /// Exact softmax over all V targets for every row, and, if `learn`, the gradient into the signals,
    /// the target factors, the biases, the trust and the scalars.
    fn score(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch, learn: bool) -> Loss {
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
        let chunk = |index: usize, scores: &mut [R], d_kept: &mut [R]| -> Part<R> {
            let first = index * ROWS;
            let count = d_kept.len() / d;
            for (within, score) in scores.chunks_exact_mut(v).enumerate() {
                let (source, _, fold) = Self::row_of(batch, first + within);
                score.copy_from_slice(&this.of(At::Bias).value);
                if uses_prior {
                    let trust = gamma + this.of(At::Trust).value[source as usize];
                    R::add_scaled(-trust, prior.target(fold), score);
                    for edge in graph.row(NodeId(source)) {
                        score[graph.targets()[edge] as usize] += trust * prior.lift(fold)[edge];
                    }
                }
                if let Some(residual) = extra {
                    residual.add_scores(graph, source, first + within, alpha, score);
                }
            }
            let kept = Operand::new(&flow.kept[first * d..(first + count) * d], count, d);
            multiply(two_alpha, kept, target.transposed(), R::one(), scores);
            let mut part = Part {
                nats: 0.0,
                d_log_alpha: R::zero(),
                d_trust: vec![R::zero(); count],
            };
            for (within, score) in scores.chunks_exact_mut(v).enumerate() {
                let (source, next, fold) = Self::row_of(batch, first + within);
                let reached = score[next as usize].wide();
                part.nats += R::softmax(score) - reached;
                if !learn {
                    continue;
                }
                score[next as usize] -= R::one();
                R::scale(scale, score);
                if uses_prior {
                    let mut d_trust = -R::dot(score, prior.target(fold));
                    for edge in graph.row(NodeId(source)) {
                        d_trust += score[graph.targets()[edge] as usize] * prior.lift(fold)[edge];
                    }
                    part.d_trust[within] = d_trust;
                }
            }
            if learn {
                let scores = Operand::new(scores, count, v);
                multiply(two_alpha, scores, target, R::zero(), d_kept);
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
                .map(|(index, (scores, d_kept))| chunk(index, scores, d_kept))
                .collect()
        } else {
            d_leaving
                .par_chunks_mut(ROWS * d)
                .enumerate()
                .map_init(Vec::new, |scores, (index, d_kept)| {
                    scores.resize(d_kept.len() / d * v, R::zero());
                    chunk(index, scores, d_kept)
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

    /// The way back along every path, after [`Self::score`] left the gradient of the kept signals.
    fn back(&mut self, graph: &TokenGraph, batch: &Batch) {
        let (d, k, rank) = (self.profile.width, self.profile.banks, self.profile.rank);
        let (x, g) = ((1 + k) * d, k * d);
        let rows = batch.sequences() * batch.steps;
        let mut flow = std::mem::take(&mut self.flow);
        let sequences = batch.sequences();
        let mut residual = self.residual.take();
        let this = &*self;
        let positions = position::weights(&this.of(At::Positions).value, batch.steps);
        let extra = residual.as_ref();
        let path: Vec<_> = {
            let slices = flow.shards(batch.steps, d, k, rank);
            slices
                .into_par_iter()
                .enumerate()
                .map(|(shard, mut flow)| {
                    let first = shard * SHARD;
                    let width = SHARD.min(sequences - first);
                    let mut carried = Carried::new(width, d, g);
                    for step in (0..batch.steps).rev() {
                        this.hop_backward(
                            graph,
                            batch,
                            first,
                            width,
                            step,
                            extra,
                            &mut flow,
                            &mut carried,
                        );
                    }
                    carried.path
                })
                .collect()
        };
        if let Some(residual) = &mut residual {
            residual.collect_path(path.into_iter().flatten(), &flow.blended);
        }
        self.residual = residual;

        let parameters = &mut self.parameters;
        let mut add = |at: At, a: &[R], a_columns: usize, b: &[R], b_columns: usize| {
            let gradient = &mut parameters[at as usize].gradient;
            let (a, b) = (
                Operand::new(a, rows, a_columns),
                Operand::new(b, rows, b_columns),
            );
            multiply(R::one(), a.transposed(), b, R::one(), gradient);
        };
        add(At::Mix, &flow.blended, x, &flow.d_mixed, d);
        if rank > 0 {
            add(At::LowIn, &flow.blended, x, &flow.d_low, rank);
        }
        if self.profile.blend == BlendKind::Gated {
            add(At::GateSignal, &flow.signal, d, &flow.d_gate, g);
        }
        self.scatter(batch, &flow, &positions);
        self.flow = flow;
    }

    /// One step back of one shard.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step needs all of its surroundings"
    )]
    fn hop_backward(
        &self,
        graph: &TokenGraph,
        batch: &Batch,
        first: usize,
        width: usize,
        step: usize,
        residual: Option<&Residual<R>>,
        flow: &mut Shard<'_, R>,
        carried: &mut Carried<R>,
    ) {
        let (d, k, rank) = (self.profile.width, self.profile.banks, self.profile.rank);
        let (x, g) = ((1 + k) * d, k * d);
        let (two, half) = (R::of(2.0), R::of(0.5));
        let rows = step * width..(step + 1) * width;
        let span = rows.start * d..rows.end * d;

        for (sequence, row) in rows.clone().enumerate() {
            let node = batch.sequence(first + sequence)[step] as usize;
            let scale = self.of(At::Scale).row(node);
            for j in 0..d {
                let at = row * d + j;
                flow.d_leaving[at] =
                    flow.d_leaving[at] * flow.mask_out[at] + carried.arrival[sequence * d + j];
                flow.d_mixed[at] = flow.d_leaving[at] * scale[j];
            }
        }
        let mix = Operand::new(&self.of(At::Mix).value, x, d);
        let d_mixed = Operand::new(&flow.d_mixed[span.clone()], width, d);
        // What the residual of the next edge sent back lies in `carried.blended` already.
        if let Some(residual) = residual {
            for sequence in 0..width {
                let d_blended = &mut carried.blended[sequence * x..(sequence + 1) * x];
                residual.project_backward(first * batch.steps + rows.start + sequence, d_blended);
            }
        }
        multiply(
            R::one(),
            d_mixed,
            mix.transposed(),
            R::one(),
            &mut carried.blended,
        );
        if rank > 0 {
            let low = rows.start * rank..rows.end * rank;
            let low_out = Operand::new(&self.of(At::LowOut).value, rank, d);
            let d_leaving = Operand::new(&flow.d_leaving[span.clone()], width, d);
            let mut d_scaled = vec![R::zero(); width * rank];
            multiply(
                R::one(),
                d_leaving,
                low_out.transposed(),
                R::zero(),
                &mut d_scaled,
            );
            for sequence in 0..width {
                let node = batch.sequence(first + sequence)[step] as usize;
                let scale = self.of(At::LowScale).row(node);
                for r in 0..rank {
                    flow.d_low[low.start + sequence * rank + r] =
                        d_scaled[sequence * rank + r] * scale[r];
                }
            }
            let low_in = Operand::new(&self.of(At::LowIn).value, x, rank);
            let d_low = Operand::new(&flow.d_low[low], width, rank);
            multiply(
                R::one(),
                d_low,
                low_in.transposed(),
                R::one(),
                &mut carried.blended,
            );
        }

        let mut d_signal = vec![R::zero(); width * d];
        for (sequence, row) in rows.clone().enumerate() {
            let d_blended = &carried.blended[sequence * x..(sequence + 1) * x];
            let d_banks = &mut carried.banks[sequence * g..(sequence + 1) * g];
            let d_signal = &mut d_signal[sequence * d..(sequence + 1) * d];
            d_signal.copy_from_slice(&d_blended[..d]);
            for (bank, &blended) in d_banks.iter_mut().zip(&d_blended[d..]) {
                *bank += two * blended;
            }
            let zero = &carried.zero;
            let doubled: Vec<R> = if step == 0 {
                zero.clone()
            } else {
                flow.blended[(row - width) * x + d..(row - width + 1) * x]
                    .iter()
                    .map(|&m| m * half)
                    .collect()
            };
            let lambda = &flow.lambda[row * g..(row + 1) * g];
            let d_lambda = &mut flow.d_gate[row * g..(row + 1) * g];
            let signal = &flow.signal[row * d..(row + 1) * d];
            blend::advance_backward(lambda, signal, &doubled, d_banks, d_lambda, d_signal);
            if self.profile.blend != BlendKind::Position {
                for (slope, &l) in d_lambda.iter_mut().zip(lambda) {
                    *slope *= l * (R::one() - l);
                }
            }
        }
        carried.blended.fill(R::zero());
        if self.profile.blend == BlendKind::Gated {
            let weights = Operand::new(&self.of(At::GateSignal).value, d, g);
            let d_gate = Operand::new(&flow.d_gate[rows.start * g..rows.end * g], width, g);
            multiply(
                R::one(),
                d_gate,
                weights.transposed(),
                R::one(),
                &mut d_signal,
            );
        }
        R::gelu_backward(&flow.before[span.clone()], &mut d_signal);
        flow.d_before[span].copy_from_slice(&d_signal);

        let kappa = R::of(10.0) * self.scalar(2);
        let gain = &self.of(At::Gain).value;
        for (sequence, row) in rows.enumerate() {
            let tokens = batch.sequence(first + sequence);
            let at = row * d..(row + 1) * d;
            let (d_before, arrival) = (&flow.d_before[at.clone()], &flow.arrival[at.clone()]);
            let inverse = flow.inverse_rms[row];
            // y = g ⊙ z · r with r = (mean z² + ε)^(-1/2): dz = r g ⊙ dy − z r³ (z · (g ⊙ dy)) / D.
            let mut along = R::zero();
            for j in 0..d {
                along += arrival[j] * gain[j] * d_before[j];
            }
            let pull = along * inverse * inverse * inverse / R::of(d as f64);
            let back = &mut carried.arrival[sequence * d..(sequence + 1) * d];
            for j in 0..d {
                back[j] = inverse * gain[j] * d_before[j] - arrival[j] * pull;
                flow.d_arrival[row * d + j] = back[j];
                flow.d_target[row * d + j] =
                    back[j] + kappa * flow.mask_node[row * d + j] * d_before[j];
            }
            if step > 0
                && let Some(residual) = residual
                && let Some(edge) = graph.edge(NodeId(tokens[step - 1]), NodeId(tokens[step]))
            {
                let d_blended = &mut carried.blended[sequence * x..(sequence + 1) * x];
                if let Some(part) = residual.delta_backward(graph, edge, back, d_blended) {
                    carried
                        .path
                        .push((first * batch.steps + row - width, part, back.to_vec()));
                }
            }
        }
    }

    /// Adds the rows' gradients to the nodes they belong to, in row order.
    fn scatter(&mut self, batch: &Batch, flow: &Flow<R>, positions: &[R]) {
        let (d, k, rank) = (self.profile.width, self.profile.banks, self.profile.rank);
        let g = k * d;
        let rows = batch.sequences() * batch.steps;
        let mut nodes: Vec<u32> = Vec::with_capacity(rows);
        let mut d_kappa = R::zero();
        let mut d_positions = vec![R::zero(); batch.steps];
        let per_shard = SHARD * batch.steps;
        for row in 0..rows {
            let (node, ..) = Self::row_of(batch, row);
            nodes.push(node);
            let node = node as usize;
            let at = row * d..(row + 1) * d;
            let (d_leaving, mixed) = (&flow.d_leaving[at.clone()], &flow.mixed[at.clone()]);
            for (gradient, (&h, &s)) in self.parameters[At::Scale as usize]
                .gradient_row(node)
                .iter_mut()
                .zip(d_leaving.iter().zip(mixed))
            {
                *gradient += h * s;
            }
            add(
                self.parameters[At::Offset as usize].gradient_row(node),
                d_leaving,
            );
            add(
                self.parameters[At::Target as usize].gradient_row(node),
                &flow.d_target[at.clone()],
            );
            if rank > 0 {
                let low = &flow.low[row * rank..(row + 1) * rank];
                let low_out = self.parameters[At::LowOut as usize].value.clone();
                for r in 0..rank {
                    let out: R = (0..d).map(|j| d_leaving[j] * low_out[r * d + j]).sum();
                    self.parameters[At::LowScale as usize].gradient_row(node)[r] += out * low[r];
                    let scaled = low[r] * self.parameters[At::LowScale as usize].row(node)[r];
                    let gradient =
                        &mut self.parameters[At::LowOut as usize].gradient[r * d..(r + 1) * d];
                    for j in 0..d {
                        gradient[j] += scaled * d_leaving[j];
                    }
                }
            }
            let d_gate = &flow.d_gate[row * g..(row + 1) * g];
            match self.profile.blend {
                BlendKind::Position => {
                    let within = row % per_shard;
                    let first = row / per_shard * SHARD;
                    let step = within / SHARD.min(batch.sequences() - first);
                    d_positions[step] += d_gate.iter().copied().sum();
                }
                BlendKind::Decay => add(&mut self.parameters[At::Decay as usize].gradient, d_gate),
                BlendKind::Gated => {
                    add(&mut self.parameters[At::Decay as usize].gradient, d_gate);
                    add(
                        self.parameters[At::Gate as usize].gradient_row(node),
                        d_gate,
                    );
                }
            }
            let target = self.parameters[At::Target as usize].row(node);
            let (d_before, mask) = (&flow.d_before[at.clone()], &flow.mask_node[at.clone()]);
            for j in 0..d {
                d_kappa += d_before[j] * mask[j] * target[j];
            }
            let (arrival, inverse) = (&flow.arrival[at], flow.inverse_rms[row]);
            let gain = &mut self.parameters[At::Gain as usize].gradient;
            for j in 0..d {
                gain[j] += d_before[j] * arrival[j] * inverse;
            }
        }
        self.parameters[At::Scalars as usize].gradient[2] += R::of(10.0) * d_kappa;
        if self.profile.blend == BlendKind::Position {
            let gradient = &mut self.parameters[At::Positions as usize].gradient;
            position::weights_backward(positions, &d_positions, gradient);
        }
        nodes.sort_unstable();
        nodes.dedup();
        for at in [At::Scale, At::Offset, At::Gate, At::LowScale] {
            if self.parameters[at as usize].shape[0] > 0 {
                self.parameters[at as usize].touched = Touched::Rows(nodes.clone());
            }
        }
    }
}

fn add<R: Real>(sum: &mut [R], values: &[R]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

/// What one shard carries from a step to the one before it.
struct Carried<R> {
    arrival: Vec<R>,
    banks: Vec<R>,
    blended: Vec<R>,
    zero: Vec<R>,
    /// Row that sent the signal, own slot, gradient of the residual delta.
    path: Vec<(usize, usize, Vec<R>)>,
}

impl<R: Real> Carried<R> {
    fn new(width: usize, d: usize, g: usize) -> Self {
        Self {
            arrival: vec![R::zero(); width * d],
            banks: vec![R::zero(); width * g],
            blended: vec![R::zero(); width * (d + g)],
            zero: vec![R::zero(); g],
            path: Vec::new(),
        }
    }
}

/// One shard's rows of a [`Flow`].
struct Shard<'a, R> {
    arrival: &'a mut [R],
    inverse_rms: &'a mut [R],
    before: &'a mut [R],
    signal: &'a mut [R],
    blended: &'a mut [R],
    lambda: &'a mut [R],
    mixed: &'a mut [R],
    low: &'a mut [R],
    leaving: &'a mut [R],
    kept: &'a mut [R],
    mask_node: &'a mut [R],
    mask_out: &'a mut [R],
    d_leaving: &'a mut [R],
    d_mixed: &'a mut [R],
    d_low: &'a mut [R],
    d_gate: &'a mut [R],
    d_target: &'a mut [R],
    d_arrival: &'a mut [R],
    d_before: &'a mut [R],
}

impl<R: Real> Flow<R> {
    fn resize(&mut self, rows: usize, d: usize, k: usize, rank: usize) {
        let sized = |buffer: &mut Vec<R>, columns: usize| buffer.resize(rows * columns, R::zero());
        for buffer in [
            &mut self.arrival,
            &mut self.before,
            &mut self.signal,
            &mut self.mixed,
            &mut self.leaving,
            &mut self.kept,
            &mut self.mask_node,
            &mut self.mask_out,
            &mut self.d_leaving,
            &mut self.d_mixed,
            &mut self.d_target,
            &mut self.d_arrival,
            &mut self.d_before,
        ] {
            sized(buffer, d);
        }
        sized(&mut self.inverse_rms, 1);
        sized(&mut self.blended, (1 + k) * d);
        sized(&mut self.lambda, k * d);
        sized(&mut self.d_gate, k * d);
        sized(&mut self.low, rank);
        sized(&mut self.d_low, rank);
    }

    fn draw_masks(&mut self, d: usize, dropout: f64, seed: u64, index: u64) {
        crate::learn::dropout::draw(&mut self.mask_node, d, dropout, seed ^ 0x6e6f_6465, index);
        crate::learn::dropout::draw(&mut self.mask_out, d, dropout, seed ^ 0x6f75_7400, index);
    }

    fn shards(&mut self, steps: usize, d: usize, k: usize, rank: usize) -> Vec<Shard<'_, R>> {
        fn cut<'a, R>(
            buffer: &'a mut [R],
            rows: usize,
            columns: usize,
        ) -> std::slice::ChunksMut<'a, R> {
            buffer.chunks_mut((rows * columns).max(1))
        }
        let rows = SHARD * steps;
        let count = self.inverse_rms.len().div_ceil(rows);
        let mut arrival = cut(&mut self.arrival, rows, d);
        let mut inverse_rms = cut(&mut self.inverse_rms, rows, 1);
        let mut before = cut(&mut self.before, rows, d);
        let mut signal = cut(&mut self.signal, rows, d);
        let mut blended = cut(&mut self.blended, rows, (1 + k) * d);
        let mut lambda = cut(&mut self.lambda, rows, k * d);
        let mut mixed = cut(&mut self.mixed, rows, d);
        let mut low = cut(&mut self.low, rows, rank);
        let mut leaving = cut(&mut self.leaving, rows, d);
        let mut kept = cut(&mut self.kept, rows, d);
        let mut mask_node = cut(&mut self.mask_node, rows, d);
        let mut mask_out = cut(&mut self.mask_out, rows, d);
        let mut d_leaving = cut(&mut self.d_leaving, rows, d);
        let mut d_mixed = cut(&mut self.d_mixed, rows, d);
        let mut d_low = cut(&mut self.d_low, rows, rank);
        let mut d_gate = cut(&mut self.d_gate, rows, k * d);
        let mut d_target = cut(&mut self.d_target, rows, d);
        let mut d_arrival = cut(&mut self.d_arrival, rows, d);
        let mut d_before = cut(&mut self.d_before, rows, d);
        (0..count)
            .map(|_| Shard {
                arrival: arrival.next().unwrap_or_default(),
                inverse_rms: inverse_rms.next().unwrap_or_default(),
                before: before.next().unwrap_or_default(),
                signal: signal.next().unwrap_or_default(),
                blended: blended.next().unwrap_or_default(),
                lambda: lambda.next().unwrap_or_default(),
                mixed: mixed.next().unwrap_or_default(),
                low: low.next().unwrap_or_default(),
                leaving: leaving.next().unwrap_or_default(),
                kept: kept.next().unwrap_or_default(),
                mask_node: mask_node.next().unwrap_or_default(),
                mask_out: mask_out.next().unwrap_or_default(),
                d_leaving: d_leaving.next().unwrap_or_default(),
                d_mixed: d_mixed.next().unwrap_or_default(),
                d_low: d_low.next().unwrap_or_default(),
                d_gate: d_gate.next().unwrap_or_default(),
                d_target: d_target.next().unwrap_or_default(),
                d_arrival: d_arrival.next().unwrap_or_default(),
                d_before: d_before.next().unwrap_or_default(),
            })
            .collect()
    }
}
