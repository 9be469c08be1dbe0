//! Reachability: hops from a node, and connected components.

use std::collections::HashMap;

use petgraph::algo::kosaraju_scc;
use petgraph::unionfind::UnionFind;
use serde::Serialize;

use crate::Result;
use crate::graph::{NodeId, TokenGraph};

/// Direction in which edges are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From source to target: possible successors.
    #[default]
    Out,
    /// From target to source: possible predecessors.
    In,
    /// Both directions.
    Both,
}

impl Direction {
    /// Iterate over the nodes one hop from `node`. With [`Direction::Both`] a node may occur twice.
    pub(in crate::graph) fn next<'a>(
        self,
        graph: &'a TokenGraph,
        node: NodeId,
    ) -> impl Iterator<Item = (NodeId, usize)> + 'a {
        let leaving = (self != Self::In).then(|| {
            let row = graph.row(node);
            row.map(|edge| (NodeId(graph.targets()[edge]), edge))
        });
        let entering = (self != Self::Out).then(|| {
            let entering = graph.incoming().entering(node);
            let pairs = entering.sources.iter().zip(entering.edges);
            pairs.map(|(&source, &edge)| (NodeId(source), edge as usize))
        });
        leaving
            .into_iter()
            .flatten()
            .chain(entering.into_iter().flatten())
    }
}

/// Distances from one node to all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reachability {
    /// The start node.
    pub node: u32,
    /// Direction in which edges are followed.
    pub direction: Direction,
    /// Number of reached nodes, including the start.
    pub reached: usize,
    /// `hops[h]`: number of nodes at distance `h`; `hops[0]` is 1, the start.
    pub hops: Vec<usize>,
    /// Whether any reached node, including the start, has an edge back to the start.
    pub returns: bool,
}

impl Reachability {
    /// Search the whole graph from `node`, breadth first.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when the graph has no such node.
    ///
    /// # Complexity
    /// O(V + E).
    pub fn from(graph: &TokenGraph, node: NodeId, direction: Direction) -> Result<Self> {
        graph.check_node(node)?;
        let mut seen = vec![false; graph.nodes()];
        seen[node.index()] = true;
        let mut reach = Self {
            node: node.0,
            direction,
            reached: 0,
            hops: Vec::new(),
            returns: false,
        };
        let mut frontier = vec![node];
        while !frontier.is_empty() {
            reach.reached += frontier.len();
            reach.hops.push(frontier.len());
            let mut next = Vec::new();
            for &from in &frontier {
                for (to, _) in direction.next(graph, from) {
                    reach.returns |= to == node;
                    if !std::mem::replace(&mut seen[to.index()], true) {
                        next.push(to);
                    }
                }
            }
            frontier = next;
        }
        Ok(reach)
    }

    /// The largest distance, in hops.
    pub fn eccentricity(&self) -> usize {
        self.hops.len() - 1
    }

    /// Mean distance to the reached nodes other than the start; `None` where there are none.
    pub fn mean_hops(&self) -> Option<f64> {
        let others = self.reached - 1;
        let total: f64 = self
            .hops
            .iter()
            .enumerate()
            .map(|(hops, &nodes)| hops as f64 * nodes as f64)
            .sum();
        (others > 0).then(|| total / others as f64)
    }
}

/// Connected components of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Components {
    /// Strongly connected components: within one, every node reaches every other.
    pub strong: usize,
    /// Nodes of the largest strongly connected component.
    pub largest_strong: usize,
    /// Strongly connected components of a single node.
    pub single: usize,
    /// Weakly connected components: the same on the undirected graph.
    pub weak: usize,
    /// Nodes of the largest weakly connected component.
    pub largest_weak: usize,
    /// The largest strongly connected component, ascending.
    #[serde(skip)]
    pub core: Vec<NodeId>,
}

impl Components {
    /// Find the components of a graph. O(V + E), without recursion.
    pub fn of(graph: &TokenGraph) -> Self {
        // petgraph's Tarjan recurses once per node and could exhaust the stack; its Kosaraju does not.
        let strong = kosaraju_scc(graph);
        let core = strong
            .iter()
            .max_by_key(|nodes| (nodes.len(), std::cmp::Reverse(nodes.iter().min().copied())));
        let mut core = core.cloned().unwrap_or_default();
        core.sort_unstable();

        let mut sets = UnionFind::<u32>::new(graph.nodes());
        for source in 0..graph.nodes() as u32 {
            for &target in graph.fan(NodeId(source)).targets {
                sets.union(source, target);
            }
        }
        let mut weak: HashMap<u32, usize> = HashMap::new();
        for name in sets.into_labeling() {
            *weak.entry(name).or_default() += 1;
        }
        Self {
            strong: strong.len(),
            largest_strong: core.len(),
            single: strong.iter().filter(|nodes| nodes.len() == 1).count(),
            weak: weak.len(),
            largest_weak: weak.values().copied().max().unwrap_or(0),
            core,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> TokenGraph {
        // A cycle 0 -> 1 -> 2 -> 0 with a tail 2 -> 3 -> 4, and 5 alone with a loop.
        let edges = [
            (0, 1, 1),
            (1, 2, 1),
            (2, 0, 1),
            (2, 3, 1),
            (3, 4, 1),
            (5, 5, 1),
        ];
        TokenGraph::from_edges(6, &edges).unwrap()
    }

    #[test]
    fn hops_are_counted_each_way() {
        let graph = graph();
        let out = Reachability::from(&graph, NodeId(0), Direction::Out).unwrap();
        assert_eq!(
            (out.hops.as_slice(), out.reached),
            (&[1, 1, 1, 1, 1][..], 5)
        );
        assert!(out.returns);
        assert_eq!((out.eccentricity(), out.mean_hops()), (4, Some(2.5)));
        let into = Reachability::from(&graph, NodeId(4), Direction::In).unwrap();
        assert_eq!(into.hops, [1, 1, 1, 1, 1]);
        assert!(!into.returns);
        let both = Reachability::from(&graph, NodeId(2), Direction::Both).unwrap();
        assert_eq!(both.hops, [1, 3, 1]);
        let alone = Reachability::from(&graph, NodeId(5), Direction::Out).unwrap();
        assert_eq!(
            (alone.reached, alone.returns, alone.mean_hops()),
            (1, true, None)
        );
        assert!(Reachability::from(&graph, NodeId(6), Direction::Out).is_err());
    }

    #[test]
    fn components_are_counted() {
        let parts = Components::of(&graph());
        assert_eq!(
            (parts.strong, parts.largest_strong, parts.single),
            (4, 3, 3)
        );
        assert_eq!((parts.weak, parts.largest_weak), (2, 5));
        assert_eq!(parts.core, [NodeId(0), NodeId(1), NodeId(2)]);
        let empty = Components::of(&TokenGraph::from_edges(0, &[]).unwrap());
        assert_eq!((empty.strong, empty.weak, empty.largest_strong), (0, 0, 0));
    }

    #[test]
    fn a_chain_of_a_million_nodes_does_not_exhaust_the_stack() {
        let edges: Vec<_> = (0..1_000_000u32).map(|node| (node, node + 1, 1)).collect();
        let graph = TokenGraph::from_edges(1_000_001, &edges).unwrap();
        assert_eq!(Components::of(&graph).strong, 1_000_001);
    }
}
