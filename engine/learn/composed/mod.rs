//! Training of composed edges: forward along the true path, exact softmax over all V, and the backward pass.
//!
//! [`crate::kernel::composed`] has the equations of a hop, [`crate::kernel::logits`] those of the logits. Here
//! `N = B·T` rows are ordered shard, step, sequence: the sequences of a shard take a step together, as one product.

mod backward;
mod flow;
mod forward;
mod loss;
mod scatter;

use crate::graph::TokenGraph;
use crate::kernel::random::Random;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::parameter::Parameter;
use crate::learn::prior::Prior;
use crate::learn::residual::Residual;
use crate::signal::{BlendKind, Profile};

use flow::Flow;

/// Sequences that walk together; fixed, so that results do not depend on the number of threads.
pub(in crate::learn) const SHARD: usize = 16;

/// Where each parameter lies in [`Composed::parameters`].
#[derive(Clone, Copy)]
#[repr(usize)]
enum At {
    Target,
    Scale,
    Offset,
    PriorWeight,
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
        self.softmax(graph, prior, batch, false)
    }

    /// The loss of a batch; leaves its gradient (of the mean over tokens) in the parameters.
    pub fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        for parameter in self.parameters() {
            parameter.clear();
        }
        self.walk(graph, batch, self.dropout);
        let loss = self.softmax(graph, prior, batch, true);
        self.back(graph, batch);
        loss
    }
}

/// One prediction of a batch.
#[derive(Clone, Copy)]
struct Row {
    /// Node that the signal leaves.
    source: u32,
    /// True next node.
    next: u32,
    /// Fold of the static resistances.
    fold: usize,
    step: usize,
}

impl Row {
    /// Return row `row` in the order shard, step, sequence.
    fn of(batch: &Batch, row: usize) -> Self {
        let per_shard = SHARD * batch.steps;
        let (shard, within) = (row / per_shard, row % per_shard);
        let first = shard * SHARD;
        let width = SHARD.min(batch.sequences() - first);
        let (step, sequence) = (within / width, first + within % width);
        let tokens = batch.sequence(sequence);
        Self {
            source: tokens[step],
            next: tokens[step + 1],
            fold: batch.folds[sequence] as usize,
            step,
        }
    }
}
