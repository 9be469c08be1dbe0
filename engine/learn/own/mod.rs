//! Training of own edges: forward along the true path, the fans of its nodes, and the backward pass.
//!
//! [`crate::kernel::own`] has the equations of a hop, [`crate::kernel::logits`] those of the logits. The shared edge
//! is scored once and counts for every target without an edge of its own. Rows are grouped by source: each group is
//! one product over that node's edges, and exactly one group visits each own edge, so the gradient of an edge goes
//! straight from registers into the optimiser.
//!
//! Over ranks, a rank holds the fans of some nodes, and pieces of those that are cut: `fans` has who owns what, `owned` the
//! steps, `blocks` energies and softmax by fixed blocks of edges, `held` the rows that a rank holds.

mod backward;
mod blocks;
mod edge_weights;
mod exact;
mod fan;
mod fans;
mod held;
mod owned;
mod path;
mod row_scores;
mod softmax;

use crate::graph::TokenGraph;
use crate::kernel::random::Random;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::batch::Loss;
use crate::learn::parameter::{Parameter, decay};
use crate::learn::prior::Prior;
use crate::signal::{Profile, blocks};

use fan::Group;
use path::Path;

pub(super) use fans::Fans;
pub(super) use held::HeldEdges;
pub(super) use owned::OwnedStep;

/// Index of each parameter in [`Own::parameters`], in the order of [`blocks`].
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

/// Parameters of own edges in training, with the buffers of a batch.
pub struct Own<R> {
    profile: Profile,
    /// Dropout on the signal before the energies.
    pub dropout: f64,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Sequences of the training step before those of a batch: it has the masks of the ones after them.
    pub(super) first_sequence: usize,
    parameters: Vec<Parameter<R>>,
    /// Which rows of the edge weights `parameters` has.
    held: HeldEdges,
    path: Path<R>,
    /// Slopes, then gradients, of every row over every edge of its fan, group after group.
    fans: Vec<R>,
}

impl<R: Real> Own<R> {
    /// Create a trainer with fresh parameters.
    ///
    /// Edge weights begin uniform in ±0.5 without a static resistance, as the authors' do, and in ±0.1 with one,
    /// which predicts better at first.
    pub fn new(profile: &Profile, graph: &TokenGraph, seed: u64) -> Self {
        Self::holding(HeldEdges::all(graph), profile, graph, seed)
    }

    /// As [`Self::new`], with some of the edges only; each has the values that it has among all.
    pub(super) fn holding(
        held: HeldEdges,
        profile: &Profile,
        graph: &TokenGraph,
        seed: u64,
    ) -> Self {
        let mut random = Random::stream(seed, 0x6f77_6e00, 0);
        let uniform = |limit: f64, random: &mut Random| limit * (2.0 * random.uniform() - 1.0);
        let limit = if profile.static_resistance { 0.1 } else { 0.5 };
        let parameters = blocks(profile, graph.nodes(), graph.own_edges())
            .iter()
            .map(|block| match block.name {
                "edge.arena" => held.parameter(block, &mut random, |random| uniform(limit, random)),
                "node.start" => Parameter::of_block(block, |_| uniform(0.5, &mut random)),
                "blend.positions" => Parameter::of_block(block, |_| 1.0),
                // ln α = 0, γ = 1.
                "scalars" => Parameter::of_block(block, |index| index as f64),
                "blend.mix" => Parameter::of_block(block, |_| 1.0 / (1 + profile.banks) as f64),
                "blend.decay" => Parameter::of_block(block, |index| decay(index / profile.width)),
                "blend.gate_signal" => Parameter::of_block(block, |_| 0.0).decaying(),
                _ => Parameter::of_block(block, |_| 0.0),
            })
            .collect();
        Self {
            profile: profile.clone(),
            dropout: 0.0,
            seed,
            first_sequence: 0,
            parameters,
            held,
            path: Path::default(),
            fans: Vec::new(),
        }
    }

    /// Return all parameters, in the order of their blocks.
    pub fn parameters(&mut self) -> Vec<&mut Parameter<R>> {
        self.parameters.iter_mut().collect()
    }

    /// The rows of the edge weights that the parameters have.
    pub(super) fn held(&self) -> &HeldEdges {
        &self.held
    }

    /// Return the weights of an edge of `source`, by its edge row.
    fn edge(&self, source: u32, edge_row: u32) -> &[R] {
        self.of(At::EdgeWeights)
            .row(self.held.row(source, edge_row))
    }

    fn of(&self, at: At) -> &Parameter<R> {
        &self.parameters[at as usize]
    }

    /// Return α and γ.
    fn scalars(&self) -> (R, R) {
        match self.of(At::Scalars).value.as_slice() {
            [log_alpha, gamma] => (log_alpha.exp(), *gamma),
            _ => (R::one(), R::zero()),
        }
    }

    /// Compute the negative log-likelihood of a batch, without gradients or dropout.
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
        // The order matters: energies send gradients into the inputs of hops, paths carry them back to the start,
        // and only then are the gradients of nodes complete.
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
