//! Training of layered edges; [`crate::kernel::layered`] has the equations.
//!
//! The `N = B·T` rows of a batch are ordered shard, step, sequence. All rows of a shard pass a layer together, as matrix
//! products; only the memory runs along the steps. A sequence may continue where it ended in the batch before.

mod backward;
mod flow;
mod forward;

use crate::graph::TokenGraph;
use crate::kernel::layered::Widths;
use crate::kernel::random::Random;
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Loss};
use crate::learn::dropout::Rates;
use crate::learn::parameter::Parameter;
use crate::learn::prior::Prior;
use crate::learn::readout::{Places, Readout, Scored};
use crate::signal::{Profile, blocks};

use flow::Flow;

/// Index of each parameter in [`Layered::parameters`], in the order of [`blocks`].
#[derive(Clone, Copy)]
#[repr(usize)]
enum At {
    Target,
    PriorWeight,
    Bias,
    Scalars,
    Gain,
    Edge,
    EdgeBias,
    Mix,
    ReadGain,
    ReadMix,
    ReadBias,
}

/// Shortest and longest initial lifetime of a memory, in steps.
const LIFETIMES: (f64, f64) = (2.0, 18.0);

/// Parameters of layered edges in training, with the buffers of a batch.
pub struct Layered<R> {
    profile: Profile,
    widths: Widths,
    /// Dropout probabilities. Masks are those of a sequence, the same at all of its steps (Gal and Ghahramani 2016).
    pub dropout: Rates,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Sequences of the training step before those of a batch: it has the masks of the ones after them.
    pub(super) first_sequence: usize,
    parameters: Vec<Parameter<R>>,
    flow: Flow<R>,
    readout: Readout<R>,
    /// For each sequence and layer the normalised signal of the last node, then m. `[B, L, D + K·w]`
    state: Vec<R>,
    /// The state after the batch that is being computed.
    next_state: Vec<R>,
}

impl<R: Real> Layered<R> {
    /// Create a trainer with fresh parameters.
    ///
    /// Products keep the deviation of what they multiply; gates begin nearly open, and outputs small, so that the static
    /// resistances decide at first. Memories begin with lifetimes of 2 to 18 steps, evenly spaced in their logarithm.
    pub fn new(profile: &Profile, graph: &TokenGraph, seed: u64) -> Self {
        let mut random = Random::stream(seed, 0x6c61_7965, 0);
        let widths = profile.widths();
        let (d, w, memory) = (widths.signal, widths.inner, widths.memory());
        // ln α, γ, κ.
        let scalars = [
            0.5f64.ln(),
            f64::from(u8::from(profile.static_resistance)),
            1.0,
        ];
        let parameters = blocks(profile, graph.nodes(), graph.own_edges())
            .iter()
            .map(|block| match block.name {
                "node.target" => Parameter::of_block(block, |_| 0.1 * random.normal()).decaying(),
                "layer.edge" => Parameter::of_block(block, |index| {
                    let signal = index / block.columns % widths.edge() < w;
                    let scale = if signal { 1.0 } else { 0.1 };
                    scale * random.normal() / (2.0 * d as f64).sqrt()
                })
                .decaying(),
                "layer.edge_bias" => Parameter::of_block(block, |index| {
                    let column = index % widths.edge();
                    let of_gate = column.checked_sub(w).filter(|&channel| channel < memory);
                    of_gate.map_or(0.0, |channel| lifetime_logit(channel, memory))
                }),
                "layer.mix" => {
                    let scale = 0.5 / (block.columns as f64).sqrt();
                    Parameter::of_block(block, |_| scale * random.normal()).decaying()
                }
                "read.mix" => {
                    let scale = 0.3 / (d as f64).sqrt();
                    Parameter::of_block(block, |_| scale * random.normal()).decaying()
                }
                "layer.gain" | "read.gain" => Parameter::of_block(block, |_| 1.0),
                "scalars" => Parameter::of_block(block, |index| scalars[index]),
                _ => Parameter::of_block(block, |_| 0.0),
            })
            .collect();
        Self {
            profile: profile.clone(),
            widths,
            dropout: Rates::default(),
            seed,
            first_sequence: 0,
            parameters,
            flow: Flow::new(profile.layers),
            readout: Readout::default(),
            state: Vec::new(),
            next_state: Vec::new(),
        }
    }

    /// Return all parameters, in the order of their blocks.
    pub fn parameters(&mut self) -> Vec<&mut Parameter<R>> {
        self.parameters.iter_mut().collect()
    }

    /// The state that sequences continue from: for each sequence and layer the normalised signal of the last node, then
    /// m. `[B, L, D + K·w]`
    pub fn state(&mut self) -> &mut Vec<R> {
        &mut self.state
    }

    /// Compute the negative log-likelihood of a batch over all V targets, without gradients or dropout.
    pub fn loss(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        self.walk(batch, Rates::default());
        self.score(graph, prior, batch, false)
    }

    /// Compute the loss of a batch and leave its gradient (of the mean over tokens) in the parameters. The state of each
    /// sequence is kept for the next batch.
    pub fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        for parameter in &mut self.parameters {
            parameter.clear();
        }
        self.walk(batch, self.dropout);
        self.keep_state(batch);
        let loss = self.score(graph, prior, batch, true);
        self.back(batch);
        loss
    }

    fn score(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch, learn: bool) -> Loss {
        let scored = Scored {
            profile: &self.profile,
            graph,
            prior,
            batch,
        };
        let places = Places {
            target: At::Target as usize,
            prior_weight: At::PriorWeight as usize,
            bias: At::Bias as usize,
            scalars: At::Scalars as usize,
        };
        let read = &mut self.flow.read;
        self.readout.softmax(
            scored,
            &mut self.parameters,
            places,
            None,
            &read.kept,
            &mut read.d_output,
            learn,
        )
    }

    fn of(&self, at: At) -> &[R] {
        &self.parameters[at as usize].value
    }

    /// Return the part of a parameter that belongs to one layer.
    fn of_layer(&self, at: At, layer: usize) -> &[R] {
        let length = self.of(at).len() / self.profile.layers;
        &self.of(at)[layer * length..(layer + 1) * length]
    }

    /// Length of the state of one sequence in one layer.
    fn state_columns(&self) -> usize {
        self.widths.signal + self.widths.memory()
    }
}

/// Return the gate logit of a channel of the memory: lifetimes l are evenly spaced in ln l, and `σ(logit) = 1 − 1/l`.
fn lifetime_logit(channel: usize, channels: usize) -> f64 {
    let (shortest, longest) = LIFETIMES;
    let along = channel as f64 / (channels.max(2) - 1) as f64;
    let lifetime = shortest * (longest / shortest).powf(along);
    (lifetime - 1.0).ln()
}
