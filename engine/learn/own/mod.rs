//! Learning own edges: the true path first, then the fans, then back.
//!
//! ```text
//! e_0 = GELU(start + node_start[v_0] + PE[0])               the signal that leaves the first node
//! x_i = e_0 (i = 0), else the blend of c_0 … c_{i−1}         what flows into hop i
//! c_i(t) = GELU(x_i W_s + b_s + PE[i + o])                   s = edge_row of the edge v_i → t; 0 is shared
//! logit(t) = α E(t) + γ_u ln p(t | v_i) + ρ_t                E = ‖c‖ or ‖c‖²
//! ```
//!
//! The shared edge is scored once and counts for every target without a slot. Rows are grouped by source:
//! each group is one product over that node's edges, and each own edge is visited by exactly one group, so
//! its gradient goes straight from registers into the optimiser.

mod backward;
mod edge_weights;
mod fan;
mod path;
mod softmax;

use crate::graph::TokenGraph;
use crate::kernel::random::Random;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::composed::Loss;
use crate::learn::parameter::Parameter;
use crate::learn::prior::Prior;
use crate::signal::{BlendKind, Profile};

use fan::Group;
use path::Path;

/// Where each parameter lies in [`Own::parameters`].
#[derive(Clone, Copy)]
#[repr(usize)]
enum At {
    EdgeWeights,
    Start,
    Positions,
    Bias,
    PriorWeight,
    Scalars,
    Mix,
    Decay,
    Gate,
    GateSignal,
}

/// The learner of own edges.
pub struct Own<R> {
    profile: Profile,
    /// Dropout on the signal before the energies.
    pub dropout: f64,
    /// Seed of the dropout masks.
    pub seed: u64,
    parameters: Vec<Parameter<R>>,
    path: Path<R>,
    /// Slopes, then gradients, of every row over every edge of its fan: the groups' parts one after another.
    fans: Vec<R>,
}

impl<R: Real> Own<R> {
    /// A learner with freshly initialised parameters.
    ///
    /// The arena begins uniform in ±0.5 without a static resistance, as the authors' does, and at a fifth
    /// of that with one, which knows better at first.
    pub fn new(profile: &Profile, graph: &TokenGraph, seed: u64) -> Self {
        let (v, d, k) = (graph.nodes(), profile.width, profile.banks);
        let mut random = Random::stream(seed, 0x6f77_6e00, 0);
        let paper = profile.blend == BlendKind::Position;
        let gated = profile.blend == BlendKind::Gated;
        let reach = if profile.static_resistance { 0.1 } else { 0.5 };
        let mut uniform = |name, shape, reach: f64| {
            Parameter::new(name, shape, || reach * (2.0 * random.uniform() - 1.0))
        };
        let edge_weights = uniform("edge.arena", [1 + graph.own_edges(), d * d + d], reach);
        let start = uniform("node.start", [v, d], 0.5);
        let gate_signal = uniform("blend.gate_signal", [if gated { d } else { 0 }, k * d], 0.0);
        let mut column = 0;
        let decay = Parameter::new("blend.decay", [1, if paper { 0 } else { k * d }], || {
            let lifetime = 2.0 * 3f64.powi((column / d) as i32);
            column += 1;
            (lifetime - 1.0).ln()
        });
        let learned_scale = usize::from(profile.static_resistance);
        let parameters = vec![
            edge_weights.decaying(),
            start,
            Parameter::new(
                "blend.positions",
                [1, if paper { profile.positions } else { 0 }],
                || 1.0,
            ),
            Parameter::new(
                "node.bias",
                [if profile.target_bias { v } else { 0 }, 1],
                || 0.0,
            ),
            Parameter::new(
                "node.trust",
                [if profile.static_resistance { v } else { 0 }, 1],
                || 0.0,
            ),
            {
                let mut values = [0.0, 1.0].into_iter();
                Parameter::new("scalars", [learned_scale, 2], || {
                    values.next().unwrap_or(0.0)
                })
            },
            Parameter::new("blend.mix", [if paper { 0 } else { 1 + k }, d], || {
                1.0 / (1 + k) as f64
            }),
            decay,
            Parameter::new("blend.gate", [if gated { v } else { 0 }, k * d], || 0.0),
            gate_signal.decaying(),
        ];
        Self {
            profile: profile.clone(),
            dropout: 0.0,
            seed,
            parameters,
            path: Path::default(),
            fans: Vec::new(),
        }
    }

    /// All parameters, in the order of their blocks.
    pub fn parameters(&mut self) -> Vec<&mut Parameter<R>> {
        self.parameters.iter_mut().collect()
    }

    fn of(&self, at: At) -> &Parameter<R> {
        &self.parameters[at as usize]
    }

    /// α and γ.
    fn scalars(&self) -> (R, R) {
        match self.of(At::Scalars).value.as_slice() {
            [log_alpha, gamma] => (log_alpha.exp(), *gamma),
            _ => (R::one(), R::zero()),
        }
    }

    /// The negative log-likelihood of a batch, without gradients or dropout.
    pub fn loss(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        self.walk(graph, batch, 0.0);
        let groups = self.logit(graph, prior, batch, false);
        total(&groups, batch)
    }

    fn forward_and_back(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
    ) -> (Loss, Vec<Group<R>>) {
        for parameter in &mut self.parameters {
            parameter.clear();
        }
        self.walk(graph, batch, self.dropout);
        let groups = self.logit(graph, prior, batch, true);
        self.collect(&groups, batch);
        self.back(batch);
        self.scatter(batch);
        self.shared_path_gradient(batch);
        (total(&groups, batch), groups)
    }
}

fn total<R>(groups: &[Group<R>], batch: &Batch) -> Loss {
    Loss {
        nats: groups.iter().map(|group| group.nats).sum(),
        tokens: batch.sequences() * batch.steps,
    }
}
