//! Texts added to a finished graph: their counts join those of its own text.
//!
//! Over edges, counts are added and smoothed again. A path graph keeps the lifts of its walks, so a walk h that a text contains
//! is interpolated with what the graph already predicts after it, which counts as often as the graph's text contained h:
//!
//! ```text
//! p'(v|h) = (max(c(h,v) − D, 0) + (C(h) + Σ_v D) p(v|h)) / (C(h) + c(h))      c: counts of the text, C: of the graph
//! lift'(h, v) = lift(h, v) + ln(1 + max(c(h,v) − D, 0) / ((C(h) + Σ_v D) p(v|h)))
//! ```
//!
//! For walks that the graph lacks (C = 0) this is Kneser-Ney. Walks that no text contains keep their lifts bit for bit.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::context_tree::rows;
use crate::graph::path_level::PathLevel;
use crate::graph::{Discounts, NodeId, PathGraph, Resistance, TokenGraph, Walk};
use crate::kernel::element::Element;
use crate::kernel::numbers::Numbers;
use crate::{Error, ErrorKind, Result};

/// A text whose counts are added to a graph.
#[derive(Clone, Copy, Debug)]
pub struct AddedText<'a> {
    /// Its tokens, as one walk.
    pub tokens: &'a [u32],
    /// How often each transition counts.
    pub weight: u32,
}

/// Nodes of the longest walk of a path graph.
const LONGEST: usize = PathGraph::MAXIMUM_ORDER - 1;
/// A walk from its last node to its first, padded with zeros: in this order, a trie of reversed walks is sorted.
type Key = [u32; LONGEST];
/// Targets of a walk with lift and count, ascending.
type Targets = Vec<(u32, f32, u32)>;

impl TokenGraph {
    /// Create the graph of `nodes` nodes, at least as many as now, with the counts of `texts` added.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a token that is not below `nodes`; [`ErrorKind::Resource`] for a count above 32 bits.
    ///
    /// # Complexity
    /// O(V + E) for the graph, O(order · F) for each different walk of the texts, with fans of F edges.
    pub fn with_texts(&self, texts: &[AddedText<'_>], nodes: usize) -> Result<Self> {
        let mut edges = self.counted_edges();
        for (edge, count) in transitions(texts, nodes)? {
            let sum = edges.entry(edge).or_default();
            *sum = sum.checked_add(count).ok_or_else(too_often)?;
        }
        let full = self.of_counts(edges, nodes)?;
        let (_, paths) = self.resistances_with(texts, &full);
        Ok(full.with_paths(paths))
    }

    /// Create the graph of `nodes` nodes, at most as many as now, with the counts of `texts` taken back, without paths.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the graph has not counted the texts.
    pub fn without_texts(&self, texts: &[AddedText<'_>], nodes: usize) -> Result<Self> {
        let mut edges = self.counted_edges();
        for (edge, count) in transitions(texts, self.nodes())? {
            let left = edges.get(&edge).and_then(|all| all.checked_sub(count));
            match left {
                Some(0) => drop(edges.remove(&edge)),
                Some(left) => drop(edges.insert(edge, left)),
                None => {
                    let what = "the graph has not counted a text that it records";
                    return Err(Error::new(ErrorKind::Format, what));
                }
            }
        }
        if let Some((&(source, target), _)) = edges
            .iter()
            .find(|((source, target), _)| (*source).max(*target) as usize >= nodes)
        {
            let what = format!("edge {source} -> {target} is outside a graph of {nodes} nodes");
            return Err(Error::new(ErrorKind::Format, what));
        }
        self.of_counts(edges, nodes)
    }

    /// Compute the static resistances that this graph has with `texts` added, for the edges of `full`, which lists those
    /// of this graph and of all texts; and its path graph, where it has one.
    pub fn resistances_with(
        &self,
        texts: &[AddedText<'_>],
        full: &Self,
    ) -> (Resistance, Option<PathGraph>) {
        // Edges of the full graph with what these texts and this graph count; 0 for those of other texts.
        let mut counts = vec![0u32; full.edges()];
        let mut continuations = vec![0u32; full.edges()];
        let edge = |(source, target)| full.edge(NodeId(source), NodeId(target));
        let own = self.paths().map(PathGraph::continuations);
        for (index, (ends, count)) in self.each_edge().enumerate() {
            if let Some(edge) = edge(ends) {
                counts[edge.index()] = count;
                continuations[edge.index()] = own.map_or(0, |own| own[index]);
            }
        }
        for (ends, count) in transitions(texts, full.nodes()).unwrap_or_default() {
            if let Some(edge) = edge(ends) {
                let sum = &mut counts[edge.index()];
                *sum = sum.saturating_add(count);
            }
        }
        let Some(paths) = self.paths() else {
            let smoothed = Resistance::kneser_ney(full.rows(), full.targets(), &counts);
            return (smoothed, None);
        };
        // A node before an edge counts where the graph's own walks of two nodes do not list it.
        for ((first, source, target), weight) in triples(texts) {
            let known = walk_of(paths, self.nodes(), &[first, source])
                .is_some_and(|walk| walk.target(target).is_some());
            if let (false, Some(edge)) = (known, edge((source, target))) {
                let sum = &mut continuations[edge.index()];
                *sum = sum.saturating_add(weight);
            }
        }
        let walked = |edge: usize| counts[edge] > 0;
        let resistance = Resistance::smoothed(full.rows(), full.targets(), &continuations, &walked);
        let levels = Merge {
            base: paths,
            base_nodes: self.nodes(),
            graph: full,
            resistance: &resistance,
            changed: Vec::new(),
            sums: vec![0.0; full.nodes()],
        }
        .levels(texts);
        let merged = PathGraph {
            continuations,
            resistance: resistance.clone(),
            levels,
        };
        (resistance, Some(merged))
    }

    /// Iterate over the edges: both ends and the count.
    fn each_edge(&self) -> impl Iterator<Item = ((u32, u32), u32)> + '_ {
        (0..self.nodes() as u32).flat_map(move |source| {
            let fan = self.fan(NodeId(source));
            let edges = fan.targets.iter().zip(fan.counts);
            edges.map(move |(&target, &count)| ((source, target), count))
        })
    }

    fn counted_edges(&self) -> BTreeMap<(u32, u32), u32> {
        self.each_edge().collect()
    }

    /// Build a graph from counts, with the least count of own edges of this one.
    fn of_counts(&self, edges: BTreeMap<(u32, u32), u32>, nodes: usize) -> Result<Self> {
        let edges: Vec<_> = edges.into_iter().map(|((u, v), n)| (u, v, n)).collect();
        let mut graph = Self::from_edges(nodes, &edges)?;
        graph.set_own_minimum(self.own_minimum());
        Ok(graph)
    }
}

fn too_often() -> Error {
    Error::new(
        ErrorKind::Resource,
        "an edge is counted more than 2^32 - 1 times",
    )
    .advice("lower the weight of the text")
}

/// Count the transitions of texts, each times the weight of its text.
fn transitions(texts: &[AddedText<'_>], nodes: usize) -> Result<BTreeMap<(u32, u32), u32>> {
    let mut counts: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for text in texts {
        if let Some(token) = text.tokens.iter().find(|&&token| token as usize >= nodes) {
            let what = format!("token {token} is outside a graph of {nodes} nodes");
            return Err(Error::new(ErrorKind::Input, what));
        }
        for pair in text.tokens.windows(2) {
            let sum = counts.entry((pair[0], pair[1])).or_default();
            *sum = sum.checked_add(text.weight).ok_or_else(too_often)?;
        }
    }
    Ok(counts)
}

/// Return the different walks of three nodes, with the highest weight of a text that contains each.
fn triples(texts: &[AddedText<'_>]) -> BTreeMap<(u32, u32, u32), u32> {
    let mut weights: BTreeMap<_, u32> = BTreeMap::new();
    for text in texts {
        for triple in text.tokens.windows(3) {
            let weight = weights
                .entry((triple[0], triple[1], triple[2]))
                .or_default();
            *weight = text.weight.max(*weight);
        }
    }
    weights
}

/// Find a walk of a path graph over `nodes` nodes, from its first node to its last.
fn walk_of<'a>(paths: &'a PathGraph, nodes: usize, walk: &'a [u32]) -> Option<Walk<'a>> {
    let (&last, earlier) = walk.split_last()?;
    if last as usize >= nodes {
        return None;
    }
    let mut walks = paths.walks(last, earlier, paths.order());
    walks.nth(earlier.len().checked_sub(1)?)
}

fn key(walk: &[u32]) -> Key {
    let mut key = [0; LONGEST];
    for (to, &node) in key.iter_mut().zip(walk.iter().rev()) {
        *to = node;
    }
    key
}

/// Counts of the targets of one walk in the added texts.
#[derive(Default)]
struct Counts {
    /// Occurrences of each target, and their sum of weights.
    targets: BTreeMap<u32, (u32, u32)>,
}

/// Count the targets of each walk of `length` nodes.
fn count_walks(texts: &[AddedText<'_>], length: usize) -> BTreeMap<Vec<u32>, Counts> {
    let mut all: BTreeMap<Vec<u32>, Counts> = BTreeMap::new();
    for text in texts {
        for gram in text.tokens.windows(length + 1) {
            let counts = match all.get_mut(&gram[..length]) {
                Some(counts) => counts,
                None => all.entry(gram[..length].to_vec()).or_default(),
            };
            let (times, weighted) = counts.targets.entry(gram[length]).or_default();
            *times += 1;
            *weighted = weighted.saturating_add(text.weight);
        }
    }
    all
}

/// Merges the walks of texts into those of a path graph.
struct Merge<'a> {
    base: &'a PathGraph,
    base_nodes: usize,
    /// The graph with all texts, and the resistance of its edges.
    graph: &'a TokenGraph,
    resistance: &'a Resistance,
    /// The changed walks of each length, from 2.
    changed: Vec<BTreeMap<Key, Targets>>,
    /// Sum of lifts of each target; 0 between uses. `[V]`
    sums: Vec<f32>,
}

impl Merge<'_> {
    fn levels(mut self, texts: &[AddedText<'_>]) -> Vec<PathLevel> {
        for length in 2..self.base.order() {
            let counted = count_walks(texts, length);
            let mut of_counts = [0u64; 4];
            for &(times, _) in counted.values().flat_map(|counts| counts.targets.values()) {
                if times <= 4 {
                    of_counts[times as usize - 1] += 1;
                }
            }
            let discounts = Discounts::estimate(of_counts);
            let changed = counted
                .iter()
                .map(|(walk, counts)| (key(walk), self.interpolate(walk, counts, discounts)))
                .collect();
            self.changed.push(changed);
        }
        self.compact()
    }

    /// Compute the targets of a walk from its counts in the texts and from what the graph predicts after it.
    fn interpolate(&mut self, walk: &[u32], counts: &Counts, discounts: Discounts) -> Targets {
        let mut targets: BTreeMap<u32, (f32, u32)> = self.base_targets(walk);
        let base: f64 = targets.values().map(|&(_, count)| f64::from(count)).sum();
        let p = self.probabilities(walk, counts.targets.keys().copied());
        // The discount of a target that a text of weight w contains is that of its occurrences, w times.
        let kept = counts.targets.values().map(|&(times, weighted)| {
            let discount = discounts.of(u64::from(times)) / f64::from(times);
            f64::from(weighted) * (1.0 - discount).max(0.0)
        });
        let kept: Vec<f64> = kept.collect();
        let all: f64 = counts.targets.values().map(|&(_, n)| f64::from(n)).sum();
        // At least some of the probability stays with what the graph predicts.
        let left = (base + all - kept.iter().sum::<f64>()).max(1e-3 * all);
        for ((&target, &(_, weighted)), (kept, p)) in counts.targets.iter().zip(kept.iter().zip(p))
        {
            let entry = targets.entry(target).or_default();
            entry.0 += (1.0 + kept / (left * p)).ln() as f32;
            entry.1 = entry.1.saturating_add(weighted);
        }
        let entries = targets.into_iter();
        entries
            .map(|(target, (lift, count))| (target, lift, count))
            .collect()
    }

    fn base_targets(&self, walk: &[u32]) -> BTreeMap<u32, (f32, u32)> {
        let Some(found) = walk_of(self.base, self.base_nodes, walk) else {
            return BTreeMap::new();
        };
        let lifts = found.clone().lifts();
        let count = |target| found.target(target).map_or(0, |(_, count)| count);
        lifts
            .map(|(target, lift)| (target, (lift, count(target))))
            .collect()
    }

    /// Compute p of targets after a walk: from edges, changed walks at its end, and the graph's own walk of this length.
    fn probabilities(&mut self, walk: &[u32], targets: impl Iterator<Item = u32>) -> Vec<f64> {
        let source = walk[walk.len() - 1];
        let mut lifted = Vec::new();
        let mut add = |sums: &mut [f32], target: u32, lift: f32| {
            sums[target as usize] += lift;
            lifted.push(target);
        };
        for edge in self.graph.row(NodeId(source)) {
            let target = self.graph.targets()[edge];
            let lift = self.resistance.lift(source, target, edge);
            add(&mut self.sums, target, lift);
        }
        for length in 2..walk.len() {
            // Every end of a walk of a text is a walk of that text, so it is among the changed ones.
            let shorter = self.changed[length - 2].get(&key(&walk[walk.len() - length..]));
            for &(target, lift, _) in shorter.into_iter().flatten() {
                add(&mut self.sums, target, lift);
            }
        }
        for (target, (lift, _)) in self.base_targets(walk) {
            add(&mut self.sums, target, lift);
        }
        // Of V targets, those without a lift have p1 each, and p1 sums to 1.
        let p1 = |target: u32| f64::from(-self.resistance.target()[target as usize]).exp();
        let raised =
            |target: u32, sums: &[f32]| p1(target) * f64::from(sums[target as usize]).exp();
        lifted.sort_unstable();
        lifted.dedup();
        let listed = lifted
            .iter()
            .map(|&target| raised(target, &self.sums) - p1(target));
        let norm = 1.0 + listed.sum::<f64>();
        let p = targets
            .map(|target| raised(target, &self.sums) / norm)
            .collect();
        for target in lifted {
            self.sums[target as usize] = 0.0;
        }
        p
    }

    /// Store the graph's walks and the changed ones, without new walks that have neither targets nor longer walks.
    fn compact(self) -> Vec<PathLevel> {
        let base = base_keys(self.base);
        let mut kept: Vec<BTreeSet<Key>> = base
            .iter()
            .map(|keys| keys.iter().copied().collect())
            .collect();
        for level in (0..kept.len()).rev() {
            let with_targets = self.changed[level]
                .iter()
                .filter(|(_, targets)| !targets.is_empty());
            kept[level].extend(with_targets.map(|(&key, _)| key));
            if level > 0 {
                let ends: Vec<Key> = kept[level].iter().map(|&key| end(key, level + 1)).collect();
                kept[level - 1].extend(ends);
            }
        }
        let mut parents: Vec<Key> = (0..self.graph.nodes() as u32)
            .map(|node| key(&[node]))
            .collect();
        let mut levels = Vec::with_capacity(kept.len());
        for (level, keys) in kept.into_iter().enumerate() {
            let exact = self.base.levels()[level].lifts.element() == Element::F32;
            let own: BTreeMap<Key, usize> = base[level].iter().copied().zip(0..).collect();
            let (mut sizes, mut starts, mut fans) =
                (vec![0u32; parents.len()], Vec::new(), vec![0u32]);
            let (mut targets, mut lifts, mut counts) = (Vec::new(), Vec::new(), Vec::new());
            let mut parent = 0;
            for &key in &keys {
                // Both lists ascend, and every walk has its end in the list of parents.
                while parents[parent] != end(key, level + 1) {
                    parent += 1;
                }
                sizes[parent] += 1;
                starts.push(key[level + 1]);
                let mut push = |(target, lift, count)| {
                    targets.push(target);
                    lifts.push(lift);
                    counts.push(count);
                };
                match (self.changed[level].get(&key), own.get(&key)) {
                    (Some(changed), _) => changed.iter().copied().for_each(&mut push),
                    (None, Some(&index)) => {
                        let walk = self.base.levels()[level].walk(index, level + 2);
                        for (target, lift) in walk.clone().lifts() {
                            push((target, lift, walk.target(target).map_or(0, |found| found.1)));
                        }
                    }
                    (None, None) => {}
                }
                fans.push(targets.len() as u32);
            }
            levels.push(PathLevel {
                rows: Numbers::whole(&rows(sizes)),
                nodes: Numbers::whole(&starts),
                fans: Numbers::whole(&fans),
                targets: Numbers::whole(&targets),
                lifts: Numbers::real(&lifts, exact),
                counts: Numbers::whole(&counts),
            });
            parents = keys.into_iter().collect();
        }
        levels
    }
}

/// Return the key of the last `length` nodes of a walk.
fn end(mut key: Key, length: usize) -> Key {
    key[length..].fill(0);
    key
}

/// Return the walks of each level of a path graph, in order.
fn base_keys(paths: &PathGraph) -> Vec<Vec<Key>> {
    let mut all: Vec<Vec<Key>> = Vec::new();
    for (level, numbers) in paths.levels().iter().enumerate() {
        let (rows, nodes) = (numbers.rows.cells(), numbers.nodes.cells());
        let mut keys = Vec::with_capacity(numbers.walks());
        for parent in 0..numbers.rows.len() - 1 {
            let ended = match all.last() {
                Some(parents) => parents[parent],
                None => key(&[parent as u32]),
            };
            for walk in rows.whole(parent)..rows.whole(parent + 1) {
                let mut longer: Key = ended;
                longer[level + 1] = nodes.whole(walk as usize);
                keys.push(longer);
            }
        }
        all.push(keys);
    }
    all
}
