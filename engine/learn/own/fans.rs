//! Owners of fans in training, and the exchanges between them.
//!
//! The first edges of a node belong to its *home*, which holds the rows of the node and computes its signal; further pieces of
//! its fan may belong to other ranks. All ranks know the batch, so that messages have known lengths and need no names.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use xxhash_rust::xxh3::xxh3_64;

use super::HeldEdges;
use super::blocks::Part;
use crate::graph::{FAN_BLOCK, FanCost, NodeId, Owners, Piece, TokenGraph};
use crate::learn::plan::{own_fans, visits};
use crate::learn::recipe::Train;
use crate::ranks::{Ranks, agree};
use crate::signal::Profile;
use crate::{Error, ErrorKind, Result};

/// The ranks that own the fans of nodes.
#[derive(Debug)]
pub(in crate::learn) struct Fans {
    pub(in crate::learn) ranks: Arc<dyn Ranks>,
    owners: Owners,
    /// Home of each node. `[V]`
    homes: Vec<u32>,
    /// Ranks that own edges of each node besides its home, ascending; empty where its fan is not cut. `[V]`
    others: Vec<Vec<u32>>,
    /// First own edge row of each node. `[V]`
    firsts: Vec<u32>,
    /// Nodes whose fans are cut, ascending.
    cut: Vec<u32>,
}

/// Rows of a buffer that travel in an exchange of a hop, one at most for each sequence.
pub(super) struct Leg<'a> {
    pub(super) values: &'a mut [f32],
    /// Range of the row of a sequence.
    pub(super) at: &'a dyn Fn(usize) -> Range<usize>,
    /// Rank that has the row of a sequence, and those that need it.
    pub(super) from: &'a dyn Fn(usize) -> u32,
    pub(super) to: &'a dyn Fn(usize) -> &'a [u32],
}

/// Direction of an exchange between the homes of cut fans and the ranks of their other pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToHomes,
    FromHomes,
}

impl Fans {
    /// Divide the fans of a graph among ranks by the visits of nodes in `text`.
    ///
    /// # Errors
    /// As [`Owners::assign`], and those of an exchange.
    pub(in crate::learn) fn new(
        ranks: &Arc<dyn Ranks>,
        graph: &TokenGraph,
        profile: &Profile,
        train: &Train,
        text: &[u32],
    ) -> Result<Self> {
        let cost = FanCost::new(profile.width, train.batch * train.steps);
        let visits = visits(text, graph.nodes())?;
        let fans = own_fans(graph);
        let owners = Owners::assign(&fans, &visits, &cost, ranks.size(), train.cut)?;
        let pieces = owners.pieces().iter();
        let pieces: Vec<[u32; 4]> = pieces
            .map(|piece| [piece.node, piece.first, piece.edges, piece.rank])
            .collect();
        let digest = xxh3_64(bytemuck::cast_slice(&pieces));
        agree(
            &**ranks,
            &[("the table of owners", format!("{digest:016x}"))],
        )?;
        let nodes = || 0..graph.nodes() as u32;
        let homes: Vec<u32> = nodes().map(|node| owners.rank_of(node) as u32).collect();
        let others = nodes().map(|node| {
            let pieces = owners.of(node).iter().map(|piece| piece.rank);
            let mut others: Vec<u32> = pieces
                .filter(|&rank| rank != homes[node as usize])
                .collect();
            others.sort_unstable();
            others.dedup();
            others
        });
        let others: Vec<Vec<u32>> = others.collect();
        let first = |node| graph.own_slots(NodeId(node)).start as u32;
        Ok(Self {
            ranks: Arc::clone(ranks),
            firsts: nodes().map(first).collect(),
            cut: nodes()
                .filter(|&node| !others[node as usize].is_empty())
                .collect(),
            owners,
            homes,
            others,
        })
    }

    /// Number of the rank that is the home of a node.
    pub(in crate::learn) fn owner(&self, node: u32) -> usize {
        self.homes[node as usize] as usize
    }

    /// Whether this rank is the home of a node.
    pub(in crate::learn) fn is_mine(&self, node: u32) -> bool {
        self.owner(node) == self.ranks.rank()
    }

    /// The pieces of the fan of a node, in the order of edges.
    pub(in crate::learn) fn pieces(&self, node: u32) -> &[Piece] {
        self.owners.of(node)
    }

    /// Whether this rank owns an own edge, by its edge row.
    pub(in crate::learn) fn owns(&self, node: u32, edge_row: u32) -> bool {
        self.rank_of_hop(node, edge_row) as usize == self.ranks.rank()
    }

    /// The home of a node, as a list.
    pub(super) fn home(&self, node: u32) -> &[u32] {
        std::slice::from_ref(&self.homes[node as usize])
    }

    /// The ranks that own edges of a node besides its home.
    pub(super) fn others(&self, node: u32) -> &[u32] {
        &self.others[node as usize]
    }

    /// Whether the fan of a node is cut.
    pub(super) fn is_cut(&self, node: u32) -> bool {
        !self.others(node).is_empty()
    }

    /// Whether any fan is cut.
    pub(super) fn cuts(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Whether this rank computes something of the fan of a node.
    pub(super) fn has_part(&self, node: u32) -> bool {
        let me = self.ranks.rank() as u32;
        self.is_mine(node) || self.others(node).binary_search(&me).is_ok()
    }

    /// The rank that computes a hop from `node` over an edge row; the shared edge belongs to every home.
    pub(super) fn rank_of_hop(&self, node: u32, edge_row: u32) -> u32 {
        if edge_row == 0 || !self.is_cut(node) {
            return self.homes[node as usize];
        }
        let index = edge_row - self.firsts[node as usize];
        self.owners.rank_of_edge(node, index as usize) as u32
    }

    /// The blocks of the fan of a node that a rank owns, ascending.
    pub(super) fn blocks(&self, node: u32, rank: usize) -> impl Iterator<Item = usize> + '_ {
        let pieces = self.pieces(node).iter();
        let pieces = pieces.filter(move |piece| piece.rank as usize == rank);
        pieces.flat_map(|piece| {
            let first = piece.first as usize;
            first / FAN_BLOCK..(first + piece.edges as usize).div_ceil(FAN_BLOCK)
        })
    }

    /// The edges that this rank holds.
    pub(in crate::learn) fn held(&self, graph: &TokenGraph) -> HeldEdges {
        let me = self.ranks.rank();
        HeldEdges::of(graph, |node| {
            let pieces = self.pieces(node).iter();
            let mine = pieces.filter(|piece| piece.rank as usize == me);
            mine.map(|piece| piece.first as usize..(piece.first + piece.edges) as usize)
                .collect()
        })
    }

    /// Copy the numbers of cut nodes from their homes to all ranks. `values [V]`
    ///
    /// # Errors
    /// Those of an exchange.
    pub(super) fn spread(&self, name: &str, values: &mut [f32]) -> Result<()> {
        let of = |rank: usize| {
            let cut = self.cut.iter().copied();
            cut.filter(move |&node| self.owner(node) == rank)
        };
        let mine: Vec<f32> = of(self.ranks.rank())
            .map(|node| values[node as usize])
            .collect();
        let all = self
            .ranks
            .gather(name.into(), bytemuck::cast_slice(&mine))?;
        for (rank, bytes) in all.iter().enumerate() {
            let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
            for (node, number) in of(rank).zip(numbers) {
                values[node as usize] = number;
            }
        }
        Ok(())
    }

    /// Exchange the rows of a hop of `sequences` sequences.
    ///
    /// # Errors
    /// Those of an exchange.
    pub(super) fn pass(&self, name: &str, sequences: usize, legs: &mut [Leg<'_>]) -> Result<()> {
        let (me, size) = (self.ranks.rank(), self.ranks.size());
        if size == 1 {
            return Ok(());
        }
        let mut parts = vec![Vec::<f32>::new(); size];
        let mut lengths = vec![0; size];
        let mut incoming = vec![Vec::new(); size];
        for (index, leg) in legs.iter().enumerate() {
            for sequence in 0..sequences {
                let from = (leg.from)(sequence) as usize;
                for to in (leg.to)(sequence).iter().map(|&to| to as usize) {
                    let at = (leg.at)(sequence);
                    if from == me && to != me {
                        parts[to].extend_from_slice(&leg.values[at]);
                    } else if to == me && from != me {
                        lengths[from] += at.len() * 4;
                        incoming[from].push((index, at));
                    }
                }
            }
        }
        let parts = parts.iter().map(|part| bytemuck::cast_slice(part));
        let parts: Vec<&[u8]> = parts.collect();
        let received = self.ranks.exchange_known(name.into(), &parts, &lengths)?;
        for (rows, bytes) in incoming.into_iter().zip(received) {
            let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            let mut rest = &numbers[..];
            for (index, at) in rows {
                let (row, after) = rest.split_at(at.len());
                legs[index].values[at].copy_from_slice(row);
                rest = after;
            }
        }
        Ok(())
    }

    /// Exchange numbers between the homes of cut fans and the ranks of their other pieces, fan by fan. `put` returns those of
    /// a part of this rank; `take` receives those of another rank, `length` many.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when a rank sends another number of them; those of an exchange.
    pub(super) fn between<T: Pod>(
        &self,
        name: &str,
        way: Way,
        parts: &mut [Part],
        put: impl Fn(&Part) -> Vec<T>,
        length: impl Fn(&Part, usize) -> usize,
        mut take: impl FnMut(&mut Part, usize, &[T]),
    ) -> Result<()> {
        if !self.cuts() {
            return Ok(());
        }
        let partners = |source: u32, home: bool| match home {
            true => self.others(source),
            false => self.home(source),
        };
        let mut sent = vec![Vec::<T>::new(); self.ranks.size()];
        let sends = |part: &&Part| part.cut && part.home == (way == Way::FromHomes);
        for part in parts.iter().filter(sends) {
            let numbers = put(part);
            for &to in partners(part.source, part.home) {
                sent[to as usize].extend_from_slice(&numbers);
            }
        }
        let sent = sent.iter().map(|numbers| bytemuck::cast_slice(numbers));
        let sent: Vec<&[u8]> = sent.collect();
        let received = self.ranks.exchange(name.into(), &sent)?;
        let received = received.iter();
        let received: Vec<Vec<T>> = received
            .map(|bytes| bytemuck::pod_collect_to_vec(bytes))
            .collect();
        let mut rest: Vec<&[T]> = received.iter().map(Vec::as_slice).collect();
        let receives = |part: &&mut Part| part.cut && part.home == (way == Way::ToHomes);
        for part in parts.iter_mut().filter(receives) {
            for from in partners(part.source, part.home)
                .iter()
                .map(|&from| from as usize)
            {
                let (numbers, after) = rest[from]
                    .split_at_checked(length(part, from))
                    .ok_or_else(|| wrong_length(name))?;
                take(part, from, numbers);
                rest[from] = after;
            }
        }
        match rest.iter().all(|rest| rest.is_empty()) {
            true => Ok(()),
            false => Err(wrong_length(name)),
        }
    }
}

fn wrong_length(name: &str) -> Error {
    let what = "a rank sent another number of bytes than expected";
    Error::new(ErrorKind::Resource, what).at(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernel::random::Random;
    use crate::learn::batch::{Batch, BatchSampler, Candidates, Order};
    use crate::learn::edge_trainer::EdgeTrainer;
    use crate::learn::prior::Prior;
    use crate::ranks::{OneProcess, threads::over_threads};
    use crate::signal::{BlendKind, EnergyKind};

    const NODES: u64 = 70;

    /// A text in which low ids are frequent, and the graph of its bigrams: fans of up to some five blocks.
    fn text() -> (Vec<u32>, TokenGraph) {
        let mut random = Random::stream(5, 0, 0);
        let mut draw = || (random.below(NODES) * random.below(NODES) / NODES) as u32;
        let text: Vec<u32> = (0..3000).map(|_| draw()).collect();
        let mut counts = BTreeMap::new();
        for pair in text.windows(2) {
            *counts.entry((pair[0], pair[1])).or_insert(0) += 1;
        }
        let edges = counts.into_iter().map(|((u, v), count)| (u, v, count));
        let edges: Vec<(u32, u32, u32)> = edges.filter(|(u, v, _)| (u + v) % 9 > 0).collect();
        let mut graph = TokenGraph::from_edges(NODES as usize, &edges).unwrap();
        graph.set_own_minimum(1);
        (text, graph)
    }

    fn train(cut: usize) -> Train {
        Train {
            batch: 12,
            steps: 5,
            clip: 0.02,
            dropout: 0.2,
            average: 0.9,
            cut,
            ..Train::default()
        }
    }

    /// The true target of each prediction, with some others.
    fn candidates(batch: &Batch, negatives: usize) -> Option<Candidates> {
        let rows = (0..batch.sequences()).flat_map(|b| batch.sequence(b)[1..].to_vec());
        let others = |next: u32| (0..=negatives as u32).map(move |k| (next + 5 * k) % 70);
        let targets = rows.flat_map(others).collect();
        let count = negatives + 1;
        Some(Candidates { targets, count })
    }

    /// What three steps of a run leave: losses and norms, the loss without gradients, and the parameters.
    #[derive(Debug, PartialEq)]
    struct Left {
        steps: Vec<(u64, Option<u64>)>,
        loss: u64,
        /// Held edges, by edge row.
        edges: BTreeMap<usize, Vec<f32>>,
        /// All others, on rank 0.
        parameters: Vec<Vec<f32>>,
    }

    /// Take three steps on one of some ranks; returns what they leave, and the number of cut fans.
    fn learn(
        ranks: &Arc<dyn Ranks>,
        profile: &Profile,
        train: &Train,
        negatives: usize,
    ) -> (Left, usize) {
        let (text, graph) = text();
        let prior = Prior::new(&graph, &[]);
        let mut trainer = EdgeTrainer::exact(ranks, profile, &graph, train, 3, &text).unwrap();
        let sampler = BatchSampler::new(3, text.len(), train.steps, train.batch, 100, 0);
        let (mut order, mut steps) = (Order::default(), Vec::new());
        let mut batch = sampler.batch(&text, 0, &mut order);
        for step in 1..4 {
            batch = sampler.batch(&text, step - 1, &mut order);
            if negatives > 0 {
                batch.candidates = candidates(&batch, negatives);
            }
            let learned = trainer.learn(&graph, &prior, &batch, train, step);
            let (loss, norm) = learned.unwrap();
            steps.push((loss.nats.to_bits(), norm.map(f64::to_bits)));
        }
        let loss = trainer.loss(&graph, &prior, &batch).unwrap();
        trainer.collect().unwrap();
        let held = trainer.held(false).unwrap();
        let (rows, values) = (held.rows.into_iter().flatten(), &held.arrays[0].1);
        let values = values.chunks(held.columns).map(<[f32]>::to_vec);
        let edges = rows.zip(values).collect();
        let cut = (0..NODES as u32).filter(|&node| trainer.fans.as_ref().unwrap().is_cut(node));
        let cut = cut.count();
        let parameters = trainer.parameters().into_iter().skip(1);
        let left = Left {
            steps,
            loss: loss.nats.to_bits(),
            edges,
            parameters: parameters.map(|one| one.value.clone()).collect(),
        };
        (left, cut)
    }

    fn profiles() -> Vec<(Profile, usize)> {
        let mut decay = Profile::sifu_own(8);
        decay.blend = BlendKind::Decay;
        decay.energy = EnergyKind::Norm;
        vec![
            (Profile::reference(8), 0),
            (Profile::reference(8), 7),
            (Profile::sifu_own(8), 0),
            (Profile::sifu_own(8), 7),
            (decay, 0),
        ]
    }

    #[test]
    fn results_do_not_depend_on_ranks_or_on_where_fans_are_cut() {
        let (_, graph) = text();
        let longest = (0..NODES as u32).map(|node| graph.own_slots(NodeId(node)).len());
        assert!(longest.max().unwrap() > 3 * FAN_BLOCK);
        for (profile, negatives) in profiles() {
            let one: Arc<dyn Ranks> = Arc::new(OneProcess);
            let (expected, _) = learn(&one, &profile, &train(8), negatives);
            for (size, cut) in [(2, 0), (2, 1000), (3, 8), (4, 1000)] {
                let mut all = over_threads(size, |ranks| {
                    learn(&ranks, &profile, &train(cut), negatives)
                });
                assert_eq!(all[0].1 > 0, cut > 0, "{size} ranks, cut {cut}");
                let (mut first, _) = all.remove(0);
                for (left, _) in all {
                    assert_eq!(left.steps, expected.steps, "{size} ranks, cut {cut}");
                    assert_eq!(left.loss, expected.loss, "{size} ranks, cut {cut}");
                    first.edges.extend(left.edges);
                }
                assert!(first == expected, "{profile:?}: {size} ranks, cut {cut}");
            }
        }
    }

    #[test]
    fn exact_steps_follow_float_ones() {
        let (text, graph) = text();
        let prior = Prior::new(&graph, &[]);
        for (profile, negatives) in profiles() {
            let train = train(8);
            let one: Arc<dyn Ranks> = Arc::new(OneProcess);
            let (exact, _) = learn(&one, &profile, &train, negatives);
            let (loss, norm) = exact.steps[0];
            let mut float = EdgeTrainer::new(&profile, &graph, train.dropout, 3);
            let sampler = BatchSampler::new(3, text.len(), train.steps, train.batch, 100, 0);
            let mut batch = sampler.batch(&text, 0, &mut Order::default());
            if negatives > 0 {
                batch.candidates = candidates(&batch, negatives);
            }
            let (expected, expected_norm) = float.learn(&graph, &prior, &batch, &train, 1).unwrap();
            let near = |found: u64, expected: f64| (f64::from_bits(found) / expected - 1.0).abs();
            assert!(near(loss, expected.nats) < 1e-6, "{profile:?}");
            let difference = near(norm.unwrap(), expected_norm.unwrap());
            assert!(difference < 1e-5, "{profile:?}: {difference}");
        }
    }
}
