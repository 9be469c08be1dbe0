//! Community detection: groups of nodes that are linked more densely than expected by chance.
//!
//! Louvain's method (Blondel et al. 2008, *Fast unfolding of communities in large networks*) on the undirected
//! graph: each node moves to the neighbouring community with the largest gain of modularity, then communities become
//! nodes, until no move gains or few enough communities are left. Nodes are visited in the order of their ids and ties
//! go to the lowest community, so that the result is deterministic.

use std::collections::BTreeMap;

use crate::graph::TokenGraph;

/// Passes over the nodes of a level at most.
const PASSES: usize = 12;

/// The highest resolution.
const FINEST: f64 = 64.0;

/// Smaller communities are merged into others.
const SMALL: usize = 3;

/// An undirected graph: for each node its neighbours, possibly itself, with weights.
struct Level {
    neighbours: Vec<Vec<(u32, f64)>>,
    /// Sum of the weights at each node; loops count twice.
    degrees: Vec<f64>,
    total: f64,
}

impl Level {
    fn of(neighbours: Vec<Vec<(u32, f64)>>) -> Self {
        let degree = |(node, all): (usize, &Vec<(u32, f64)>)| {
            let weight = |&(other, weight): &(u32, f64)| {
                if other as usize == node {
                    2.0 * weight
                } else {
                    weight
                }
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

    /// Move nodes while modularity grows, and return the community of each, numbered from 0.
    fn settle(&self, resolution: f64) -> (Vec<u32>, usize) {
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
                    links[there as usize]
                        - resolution * weight[there as usize] * self.degrees[node] / self.total
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

    /// Run all levels at one resolution, then merge small communities into their neighbours. Nodes that are `alone`
    /// are not counted.
    fn gather_up(&self, resolution: f64, alone: &[bool], most: usize) -> (Vec<u32>, usize) {
        let (mut community, mut count) = self.settle(resolution);
        let mut level = self.gathered(&community, count);
        loop {
            let (next, fewer) = level.settle(resolution);
            if fewer == count {
                break;
            }
            for one in &mut community {
                *one = next[*one as usize];
            }
            level = level.gathered(&next, fewer);
            count = fewer;
        }
        let mut sizes = vec![0usize; count];
        for (&one, &alone) in community.iter().zip(alone) {
            sizes[one as usize] += usize::from(!alone);
        }
        let goes = level.merged(&mut sizes, most);
        let mut numbers = BTreeMap::new();
        for (own, _) in community
            .iter_mut()
            .zip(alone)
            .filter(|(_, alone)| !**alone)
        {
            while goes[*own as usize] != *own {
                *own = goes[*own as usize];
            }
            let next = numbers.len() as u32;
            *own = *numbers.entry(*own).or_insert(next);
        }
        (community, numbers.len())
    }

    /// Merge communities below [`SMALL`] nodes, and the smallest until `most` are left, each into the neighbour it has
    /// the strongest link to. Returns the community that each one goes to.
    fn merged(&self, sizes: &mut [usize], most: usize) -> Vec<u32> {
        let mut left = sizes.iter().filter(|&&size| size > 0).count();
        let mut links: Vec<BTreeMap<u32, f64>> = self
            .neighbours
            .iter()
            .map(|all| all.iter().copied().collect())
            .collect();
        let mut goes: Vec<u32> = (0..sizes.len() as u32).collect();
        let mut settled = vec![false; sizes.len()];
        loop {
            let open = (0..sizes.len()).filter(|&one| sizes[one] > 0 && !settled[one]);
            let Some(least) = open.min_by_key(|&one| (sizes[one], one)) else {
                break;
            };
            if sizes[least] >= SMALL && left <= most {
                break;
            }
            let linked = links[least]
                .iter()
                .filter(|&(&other, _)| other as usize != least)
                .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(a.0)));
            let Some((&other, _)) = linked else {
                // Without links to others it cannot be merged.
                settled[least] = true;
                continue;
            };
            goes[least] = other;
            sizes[other as usize] += std::mem::take(&mut sizes[least]);
            left -= 1;
            for (third, weight) in std::mem::take(&mut links[least]) {
                if third as usize == least {
                    continue;
                }
                let back = &mut links[third as usize];
                back.remove(&(least as u32));
                if third != other {
                    *back.entry(other).or_default() += weight;
                    *links[other as usize].entry(third).or_default() += weight;
                }
            }
        }
        goes
    }

    /// Build the graph whose nodes are communities.
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

/// Find the communities of a graph: returns the community of each node, numbered from 0, and their number.
///
/// The resolution (Reichardt and Bornholdt 2006) is doubled until there are at least `least`. Communities of one or
/// two nodes are merged into the one they are linked to most, and so are the smallest while there are more than `most`.
/// Nodes without edges form one last community, which is not counted. The weight of an edge is ln(1 + count), so that
/// frequent words do not dominate.
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
/// O(E log V) per pass, about a dozen passes per level, a few levels, at most seven resolutions.
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
    let alone: Vec<bool> = neighbours.iter().map(Vec::is_empty).collect();
    let level = Level::of(neighbours);
    let (mut community, mut count) = (Vec::new(), 0);
    let mut resolution = 1.0;
    while resolution <= FINEST {
        (community, count) = level.gather_up(resolution, &alone, most);
        if count >= least {
            break;
        }
        resolution *= 2.0;
    }
    if alone.contains(&true) {
        for (own, _) in community
            .iter_mut()
            .zip(&alone)
            .filter(|(_, alone)| **alone)
        {
            *own = count as u32;
        }
        count += 1;
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
        assert!((3..=41).contains(&count), "{count}");
        // Nodes without edges form the last community.
        assert!(
            community[300..]
                .iter()
                .all(|&one| one as usize == count - 1)
        );
        let mut seen = vec![false; count];
        community.iter().for_each(|&one| seen[one as usize] = true);
        assert!(seen.iter().all(|&seen| seen));
        // A ring of thirty stays together.
        assert!(community[..30].iter().all(|&one| one == community[0]));
        assert_eq!(communities(&graph, 2, 40).0, community);
    }
}
