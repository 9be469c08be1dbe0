//! A model of the bytes and the time of a training step of own edges over ranks. Its times are not measured.

use serde::Serialize;

use crate::graph::{FAN_BLOCK, Owners};
use crate::learn::plan::{RunPlan, Simulation};
use crate::signal::{Profile, RowsOf, blocks};

/// A network between machines, as the model of a step sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    name: &'static str,
    /// Seconds until the first byte arrives.
    latency: f64,
    /// Bytes a second.
    bandwidth: f64,
    /// Seconds for each further message of an exchange.
    message: f64,
}

/// Latencies after published measurements; the time of a further message is assumed.
pub(super) const NETWORKS: [Network; 3] = [
    Network {
        name: "25 Gb Ethernet, TCP",
        latency: 20e-6,
        bandwidth: 2.8e9,
        message: 3e-6,
    },
    Network {
        name: "25 Gb Ethernet, RoCE",
        latency: 4e-6,
        bandwidth: 2.9e9,
        message: 0.8e-6,
    },
    Network {
        name: "InfiniBand HDR",
        latency: 1.3e-6,
        bandwidth: 23e9,
        message: 0.3e-6,
    },
];

/// Time of a step as the model has it, over one network.
#[derive(Clone, Debug, Serialize)]
pub struct ModelledStep {
    /// Name of the network.
    pub network: &'static str,
    /// Seconds.
    pub seconds: f64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Speed as a multiple of that of one rank.
    pub speed_up: f64,
}

/// What the fan of a visited node has on other ranks than its home, on average.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Elsewhere {
    /// Other ranks.
    ranks: f64,
    /// Blocks of edges.
    blocks: f64,
    /// Share of its edges.
    edges: f64,
}

impl Elsewhere {
    /// Compute the means over a text with these visits of nodes.
    pub(super) fn new(owners: &Owners, visits: &[u64]) -> Self {
        let all = visits.iter().sum::<u64>().max(1) as f64;
        let mut mean = Self::default();
        for (node, &visits) in visits.iter().enumerate() {
            let (pieces, home) = (owners.of(node as u32), owners.rank_of(node as u32));
            if pieces.len() == 1 {
                continue;
            }
            let other = pieces.iter().filter(|piece| piece.rank as usize != home);
            let (mut ranks, mut edges, mut blocks) = (Vec::new(), 0, 0);
            for piece in other {
                ranks.push(piece.rank);
                edges += piece.edges as usize;
                blocks += (piece.edges as usize).div_ceil(FAN_BLOCK);
            }
            ranks.sort_unstable();
            ranks.dedup();
            let fan: usize = pieces.iter().map(|piece| piece.edges as usize).sum();
            let share = visits as f64 / all;
            mean.ranks += share * ranks.len() as f64;
            mean.blocks += share * blocks as f64;
            mean.edges += share * edges as f64 / fan.max(1) as f64;
        }
        mean
    }
}

/// The model of a step: computing, exchanges of a hop, exchanges of cut fans, and the sum of what all edges share.
pub(super) struct StepModel {
    ranks: f64,
    sequences: f64,
    steps: f64,
    /// Bytes of a signal, and of its banks.
    signal: f64,
    banks: f64,
    elsewhere: Elsewhere,
    /// Shares of hops that end on another rank, whose nodes have different homes, and that another rank than the home of
    /// their node computes.
    ending: f64,
    between_homes: f64,
    remote: f64,
    imbalance: f64,
    one_rank: f64,
    /// Bytes of what all ranks sum.
    summed: f64,
}

impl StepModel {
    /// Create the model of a plan's run, with batches of `batch` sequences of `steps` predictions.
    pub(super) fn new(
        plan: &RunPlan,
        profile: &Profile,
        (batch, steps): (usize, usize),
        elsewhere: Elsewhere,
    ) -> Self {
        let signal = 4.0 * profile.width as f64;
        let columns = profile.width * (profile.width + 1);
        let summed = |block: &&crate::signal::BlockShape| {
            block.rows_of() == RowsOf::Shared || block.name == "node.bias"
        };
        let all = blocks(profile, plan.nodes, 0);
        let all = all.iter().filter(summed);
        let numbers = columns + all.map(|block| block.rows * block.columns).sum::<usize>();
        let ranks = plan.ranks.len() as f64;
        let simulated = plan.simulation.as_ref();
        let or = |share: &dyn Fn(&Simulation) -> f64, expected| simulated.map_or(expected, share);
        let others = (ranks - 1.0) / ranks;
        Self {
            ranks,
            sequences: batch as f64,
            steps: steps as f64,
            signal,
            banks: profile.banks as f64 * signal,
            elsewhere,
            ending: or(&|one| one.crossing_hops, others),
            between_homes: or(&|one| one.hops_between_homes, others),
            remote: or(&|one| one.remote_hops, elsewhere.edges),
            imbalance: or(&|one| one.imbalance, plan.imbalance),
            one_rank: plan.one_rank_seconds,
            summed: 8.0 * numbers as f64,
        }
    }

    /// Bytes of a hop that cross, forward or backward: the signal to the home of the next node, and the banks.
    fn hop(&self) -> f64 {
        self.ending * self.signal + self.between_homes * self.banks
    }

    /// Bytes that cross for each prediction after its path: softmax of blocks, sums of fans, gradients of signals.
    fn fans(&self) -> f64 {
        8.0 * self.elsewhere.blocks + self.elsewhere.ranks * (8.0 + 2.0 * self.signal)
    }

    /// Bytes a token that cross between ranks in exchanges, without the sum of what all edges share.
    pub(super) fn bytes_a_token(&self) -> f64 {
        let hops = (self.steps - 1.0) / self.steps;
        let paths = hops * (2.0 * self.hop() + self.remote * self.signal);
        paths + self.elsewhere.ranks * self.signal + self.fans()
    }

    pub(super) fn step(&self, network: &Network) -> ModelledStep {
        let Network {
            name,
            latency,
            bandwidth,
            message,
        } = *network;
        let (ranks, tokens) = (self.ranks, self.sequences * self.steps);
        let mut seconds = self.one_rank / ranks * self.imbalance;
        if ranks > 1.0 {
            let sequences = self.sequences / ranks;
            // An exchange in which each sequence of a rank sends some bytes.
            let exchange = |bytes: f64| {
                latency + (ranks - 1.0).min(sequences) * message + sequences * bytes / bandwidth
            };
            let hops = self.steps - 1.0;
            seconds += 2.0 * hops * exchange(self.hop());
            if self.elsewhere.ranks > 0.0 {
                // Signals to the ranks of cut fans, and gradients of hops back.
                seconds += self.steps * exchange(self.elsewhere.ranks * self.signal);
                seconds += hops * exchange(self.remote * self.signal);
                // Prior weights, softmax of blocks, sums of fans, gradients of signals.
                seconds += 4.0 * (latency + (ranks - 1.0) * message);
                seconds += tokens / ranks * self.fans() / bandwidth;
            }
            seconds += 2.0 * ranks.log2() * latency + 2.0 * self.summed / bandwidth;
        }
        ModelledStep {
            network: name,
            seconds,
            tokens_per_second: tokens / seconds,
            speed_up: self.one_rank / seconds,
        }
    }
}
