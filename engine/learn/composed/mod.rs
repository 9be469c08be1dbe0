//! Training of composed edges: forward along the true path, exact softmax over all V, and the backward pass.
//!
//! [`crate::kernel::composed`] has the equations of a hop, [`crate::kernel::logits`] those of the logits. Here
//! `N = B·T` rows are ordered shard, step, sequence: the sequences of a shard take a step together, as one product.

mod backward;
mod flow;
mod forward;
mod scatter;

use crate::graph::TokenGraph;
use crate::kernel::random::Random;
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Loss};
use crate::learn::parameter::{Parameter, decay};
use crate::learn::prior::Prior;
use crate::learn::readout::{Places, Readout, Scored};
use crate::learn::residual::Residual;
use crate::signal::{Profile, blocks};

use flow::Flow;

/// Index of each parameter in [`Composed::parameters`], in the order of [`blocks`].
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

/// Parameters of composed edges in training, with the buffers of a batch.
pub struct Composed<R> {
    profile: Profile,
    /// Dropout on h as the energies see it, and on β in the activation.
    pub dropout: f64,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Sequences of the training step before those of a batch: it has the masks of the ones after them.
    pub(super) first_sequence: usize,
    parameters: Vec<Parameter<R>>,
    residual: Option<Residual<R>>,
    flow: Flow<R>,
    readout: Readout<R>,
}

impl<R: Real> Composed<R> {
    /// Create a trainer with fresh parameters.
    ///
    /// Logits begin at the static resistances alone up to small target factors: `a_u`, biases and gates are zero,
    /// `h` is a small mix of the blended signal.
    pub fn new(profile: &Profile, graph: &TokenGraph, seed: u64) -> Self {
        let mut random = Random::stream(seed, 0x636f_6d70, 0);
        let mut normal = |scale: f64| scale * random.normal();
        // 1/√X keeps the deviation of x A at that of x; a fifth of that lets the static resistances decide at first.
        let mix = 0.2 / (profile.blended() as f64).sqrt();
        // ln α, γ, κ.
        let scalars = [
            0.5f64.ln(),
            f64::from(u8::from(profile.static_resistance)),
            1.0,
        ];
        let parameters = blocks(profile, graph.nodes(), graph.own_edges())
            .iter()
            .filter(|block| !block.name.starts_with("edge.residual"))
            .map(|block| match block.name {
                "node.target" => Parameter::of_block(block, |_| normal(0.1)).decaying(),
                "edge.mix" | "edge.low_in" => {
                    Parameter::of_block(block, |_| normal(mix)).decaying()
                }
                "node.scale" | "node.low_scale" => Parameter::of_block(block, |_| 1.0),
                "node.gain" => Parameter::of_block(block, |_| 0.5),
                "scalars" => Parameter::of_block(block, |index| scalars[index]),
                "blend.decay" => Parameter::of_block(block, |index| decay(index / profile.width)),
                "blend.gate_signal" | "edge.low_out" => {
                    Parameter::of_block(block, |_| 0.0).decaying()
                }
                _ => Parameter::of_block(block, |_| 0.0),
            })
            .collect();
        let residual = profile
            .residual
            .map(|rank| Residual::new(graph, profile, rank, seed));
        Self {
            profile: profile.clone(),
            dropout: 0.0,
            seed,
            first_sequence: 0,
            parameters,
            residual,
            flow: Flow::default(),
            readout: Readout::default(),
        }
    }

    /// Return all parameters, in the order of their blocks; those of own residuals come last.
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

    /// Compute the negative log-likelihood of a batch over all V targets, without gradients or dropout.
    pub fn loss(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        self.walk(graph, batch, 0.0);
        self.score(graph, prior, batch, false)
    }

    /// Compute the loss of a batch and leave its gradient (of the mean over tokens) in the parameters.
    pub fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        for parameter in self.parameters() {
            parameter.clear();
        }
        self.walk(graph, batch, self.dropout);
        let loss = self.score(graph, prior, batch, true);
        self.back(graph, batch);
        loss
    }

    /// Compute the loss from kept h and, if `learn`, the gradients of it and of the parameters of the logits.
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
        self.readout.softmax(
            scored,
            &mut self.parameters,
            places,
            self.residual.as_mut(),
            &self.flow.kept,
            &mut self.flow.d_output,
            learn,
        )
    }
}
