//! Communities: nodes that signals go round among more than chance would have them.
//!
//! Louvain's method (Blondel et al. 2008, *Fast unfolding of communities in large networks*) on the graph without
//! directions: nodes move to the neighbouring community that gains modularity most, communities become nodes, and
//! so on until nothing gains or few enough are left. Nodes are visited in the order of their numbers and ties go to
//! the lowest community, so the same graph gives the same communities.

use std::collections::BTreeMap;

use crate::graph::TokenGraph;

/// Passes over all nodes of one level, at most.
const PASSES: usize = 12;

/// A graph without directions: for each node its neighbours, itself among them, with weights.
struct Level {
    neighbours: Vec<Vec<(u32, f64)>>,
    /// Sum of the weights at each node, loops twice.
    degrees: Vec<f64>,
    total: f64,
}

impl Level {
    fn of(neighbours: Vec<Vec<(u32, f64)>>) -> Self {
        let degree = |(node, all): (usize, &Vec<(u32, f64)>)| {
            let weight = |&(other, weight): &(u32, f64)| match other as usize == node {
                true => 2.0 * weight,
                false => weight,
            };
            all.iter().map(weight).sum::<f64>()
        };
        let degrees: Vec<f64> = neighbours.iter().enumerate().map(degree).collect();
        Self {
            total: degrees.iter().sum::<f64>().max(f64::MIN_POSITIVE),
            degrees,
            neighbours,
        }
    }

    /// Moves nodes while that gains; the community of each, numbered from 0.
    fn settle(&self) -> (Vec<u32>, usize) {
        let nodes = self.neighbours.len();
        let mut community: Vec<u32> = (0..nodes as u32).collect();
        let mut weight = self.degrees.clone();
        let (mut links, mut touched) = (vec![0.0; nodes], Vec::new());
        for _ in 0..PASSES {
            let mut moved = 0;
            for node in 0..nodes {
                let own = community[node];
                touched.clear();
                for &(other, w) in &self.neighbours[node] {
                    if other as usize != node {
                        let there = community[other as usize];
                        if links[there as usize] == 0.0 {
                            touched.push(there);
                        }
                        links[there as usize] += w;
                    }
                }
                weight[own as usize] -= self.degrees[node];
                let gain = |there: u32, links: &[f64], weight: &[f64]| {
                    links[there as usize] - weight[there as usize] * self.degrees[node] / self.total
                };
                let (mut best, mut most) = (own, gain(own, &links, &weight));
                touched.sort_unstable();
                for &there in &touched {
                    let gained = gain(there, &links, &weight);
                    if gained > most + 1e-9 {
                        (best, most) = (there, gained);
                    }
                }
                touched
                    .iter()
                    .for_each(|&there| links[there as usize] = 0.0);
                weight[best as usize] += self.degrees[node];
                if best != own {
                    community[node] = best;
                    moved += 1;
                }
            }
            if moved * 100 <= nodes {
                break;
            }
        }
        let mut numbers = BTreeMap::new();
        for &one in &community {
            let next = numbers.len() as u32;
            numbers.entry(one).or_insert(next);
        }
        let numbered = community.iter().map(|one| numbers[one]).collect();
        (numbered, numbers.len())
    }

    /// The graph whose nodes are communities.
    fn gathered(&self, community: &[u32], count: usize) -> Self {
        let mut sums: Vec<BTreeMap<u32, f64>> = vec![BTreeMap::new(); count];
        for (node, all) in self.neighbours.iter().enumerate() {
            let own = community[node];
            for &(other, weight) in all {
                let there = community[other as usize];
                // Each pair of different nodes is listed from both ends.
                let half = if there == own && other as usize != node {
                    0.5
                } else {
                    1.0
                };
                *sums[own as usize].entry(there).or_default() += half * weight;
            }
        }
        Self::of(
            sums.into_iter()
                .map(|all| all.into_iter().collect())
                .collect(),
        )
    }
}

/// The communities of a graph: as many as Louvain's method leaves, but at most `most`, and of its levels the coarsest
/// with at least `least`. Of each node, the number of its community, from 0; and how many there are.
///
/// An edge weighs the logarithm of one more than its count, so that frequent words do not draw everything together.
///
/// ```
/// use brillm::graph::{TokenGraph, communities};
/// let edges = [(0, 1, 9), (1, 2, 9), (2, 0, 9), (3, 4, 9), (4, 5, 9), (5, 3, 9), (2, 3, 1)];
/// let (community, count) = communities(&TokenGraph::from_edges(6, &edges)?, 1, 200);
/// assert_eq!((count, community[0]), (2, community[2]));
/// assert_ne!(community[0], community[3]);
/// # Ok::<(), brillm::Error>(())
/// ```
///
/// # Complexity
/// O(E log V) a pass, a dozen passes a level, a handful of levels.
pub fn communities(graph: &TokenGraph, least: usize, most: usize) -> (Vec<u32>, usize) {
    let nodes = graph.nodes();
    let mut pairs: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    for source in 0..nodes as u32 {
        for edge in graph.row(crate::graph::NodeId(source)) {
            let target = graph.targets()[edge];
            let weight = f64::from(graph.counts()[edge]).ln_1p();
            *pairs
                .entry((source.min(target), source.max(target)))
                .or_default() += weight;
        }
    }
    let mut neighbours = vec![Vec::new(); nodes];
    for (&(a, b), &weight) in &pairs {
        neighbours[a as usize].push((b, weight));
        if a != b {
            neighbours[b as usize].push((a, weight));
        }
    }
    drop(pairs);
    let mut level = Level::of(neighbours);
    let mut community: Vec<u32> = (0..nodes as u32).collect();
    let mut count = nodes;
    loop {
        let (next, fewer) = level.settle();
        if fewer == count || (fewer < least && count <= most) {
            break;
        }
        community
            .iter_mut()
            .for_each(|one| *one = next[*one as usize]);
        level = level.gathered(&next, fewer);
        count = fewer;
    }
    // Nodes that nothing leads to are communities of their own: the smallest go together.
    if count > most && most > 0 {
        let mut sizes = vec![0usize; count];
        community.iter().for_each(|&one| sizes[one as usize] += 1);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&one| (std::cmp::Reverse(sizes[one]), one));
        let mut number = vec![most as u32 - 1; count];
        for (place, &one) in order.iter().enumerate().take(most - 1) {
            number[one] = place as u32;
        }
        community
            .iter_mut()
            .for_each(|one| *one = number[*one as usize]);
        count = most;
    }
    (community, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_community_and_numbers_have_no_gap() {
        let edges: Vec<(u32, u32, u32)> = (0..300u32)
            .flat_map(|node| {
                let ring = node / 30 * 30;
                (1..4).map(move |step| (node, ring + (node + step) % 30, 5))
            })
            .collect();
        let graph = TokenGraph::from_edges(400, &edges).unwrap();
        let (community, count) = communities(&graph, 2, 40);
        assert_eq!(community.len(), 400);
        assert!(count <= 40, "{count}");
        let mut seen = vec![false; count];
        community.iter().for_each(|&one| seen[one as usize] = true);
        assert!(seen.iter().all(|&seen| seen));
        // A ring of thirty stays together.
        assert!(community[..30].iter().all(|&one| one == community[0]));
        assert_eq!(communities(&graph, 2, 40).0, community);
    }
}
