//! Sub-graphs: some nodes of a graph and some edges between them, for display and export.

use crate::Result;
use crate::graph::{Direction, EdgeId, NodeId, Strength, TokenGraph};

/// Some nodes of a graph and some edges between them; ids are those of the whole graph.
#[derive(Clone, Debug)]
pub struct Subgraph<'g> {
    graph: &'g TokenGraph,
    /// Ascending, each once.
    nodes: Vec<NodeId>,
    /// Ascending, each once; both ends are in `nodes`.
    edges: Vec<EdgeId>,
}

impl<'g> Subgraph<'g> {
    /// Select all nodes and all listed edges. O(V + E).
    pub fn whole(graph: &'g TokenGraph) -> Self {
        Self {
            graph,
            nodes: (0..graph.nodes() as u32).map(NodeId).collect(),
            edges: (0..graph.edges() as u32).map(EdgeId).collect(),
        }
    }

    /// Select the given nodes, in any order, and all edges between them.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when a node is not in the graph.
    ///
    /// # Complexity
    /// O(V) bits and the fans of the nodes.
    pub fn between(graph: &'g TokenGraph, nodes: &[NodeId]) -> Result<Self> {
        for &node in nodes {
            graph.check_node(node)?;
        }
        let mut nodes = nodes.to_vec();
        nodes.sort_unstable();
        nodes.dedup();
        let mut chosen = vec![false; graph.nodes()];
        for node in &nodes {
            chosen[node.index()] = true;
        }
        let mut edges = Vec::new();
        for &node in &nodes {
            let inside = |&edge: &usize| chosen[graph.targets()[edge] as usize];
            edges.extend(
                graph
                    .row(node)
                    .filter(inside)
                    .map(|edge| EdgeId(edge as u32)),
            );
        }
        Ok(Self {
            graph,
            nodes,
            edges,
        })
    }

    /// Select the nodes within `radius` hops of any of `centres`, at most `maximum`, and all edges between them.
    ///
    /// Nearer nodes come first; among nodes at the same distance, those whose path from the centre has the
    /// least resistance. Centres are included in `maximum`, in the order given.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when a centre is not in the graph.
    ///
    /// # Complexity
    /// O(V) memory, and the edges of all selected nodes.
    pub fn around(
        graph: &'g TokenGraph,
        centres: &[NodeId],
        radius: usize,
        maximum: usize,
        direction: Direction,
    ) -> Result<Self> {
        let resistances = graph.resistance().seen();
        let mut cost = vec![f64::INFINITY; graph.nodes()];
        let mut nodes = Vec::new();
        for &centre in centres {
            graph.check_node(centre)?;
            if nodes.len() < maximum && cost[centre.index()].is_infinite() {
                cost[centre.index()] = 0.0;
                nodes.push(centre);
            }
        }
        // Breadth first: the nodes of earlier layers are final, the costs of the next layer decrease while it is found.
        let mut settled = vec![false; graph.nodes()];
        let mut layer = nodes.clone();
        for _ in 0..radius {
            for node in &layer {
                settled[node.index()] = true;
            }
            let mut next = Vec::new();
            for &node in &layer {
                for (other, edge) in direction.next(graph, node) {
                    if settled[other.index()] {
                        continue;
                    }
                    let sum = cost[node.index()] + f64::from(resistances[edge]);
                    let known = &mut cost[other.index()];
                    if known.is_infinite() {
                        next.push(other);
                    }
                    *known = known.min(sum);
                }
            }
            next.sort_by(|a, b| {
                let (of_a, of_b) = (cost[a.index()], cost[b.index()]);
                of_a.total_cmp(&of_b).then(a.cmp(b))
            });
            next.truncate(maximum - nodes.len());
            if next.is_empty() {
                break;
            }
            nodes.extend(&next);
            layer = next;
        }
        Self::between(graph, &nodes)
    }

    /// Select the `count` strongest edges of the graph and their nodes. O(E).
    pub fn strongest(graph: &'g TokenGraph, count: usize, strength: Strength) -> Self {
        let all = (0..graph.edges() as u32).map(EdgeId).collect();
        Self::of_edges(graph, strength.strongest(graph, all, count))
    }

    /// Select a node, all edges that leave it (or enter it, or both), and their other nodes.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when the node is not in the graph.
    pub fn fan(graph: &'g TokenGraph, node: NodeId, direction: Direction) -> Result<Self> {
        graph.check_node(node)?;
        let edges = direction.next(graph, node);
        let edges = edges.map(|(_, edge)| EdgeId(edge as u32)).collect();
        let mut chosen = Self::of_edges(graph, edges);
        if let Err(index) = chosen.nodes.binary_search(&node) {
            chosen.nodes.insert(index, node);
        }
        Ok(chosen)
    }

    /// Keep only the `count` strongest edges, and all nodes. O(E).
    #[must_use]
    pub fn keep_strongest(mut self, count: usize, strength: Strength) -> Self {
        self.edges = strength.strongest(self.graph, self.edges, count);
        self.edges.sort_unstable();
        self
    }

    /// Remove edges with a count below `count`; keep all nodes. O(E).
    #[must_use]
    pub fn minimum_count(mut self, count: u32) -> Self {
        let counts = self.graph.counts();
        self.edges.retain(|edge| counts[edge.index()] >= count);
        self
    }

    /// Remove nodes without an edge. O(V + E).
    #[must_use]
    pub fn without_isolated(self) -> Self {
        Self::of_edges(self.graph, self.edges)
    }

    /// The graph that this is a selection of.
    pub fn graph(&self) -> &'g TokenGraph {
        self.graph
    }

    /// The selected nodes, ascending.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The selected edges, ascending.
    pub fn edges(&self) -> &[EdgeId] {
        &self.edges
    }

    /// Iterate over `(edge, source, target)`, ascending. O(log V) for a new source, otherwise O(1).
    pub fn walk(&self) -> impl Iterator<Item = (EdgeId, NodeId, NodeId)> + '_ {
        let mut last = NodeId(0);
        self.edges.iter().map(move |&edge| {
            if !self.graph.row(last).contains(&edge.index()) {
                last = self.graph.ends(edge).0;
            }
            (edge, last, NodeId(self.graph.targets()[edge.index()]))
        })
    }

    /// Select edges, in any order and possibly repeated, with their nodes.
    fn of_edges(graph: &'g TokenGraph, mut edges: Vec<EdgeId>) -> Self {
        edges.sort_unstable();
        edges.dedup();
        let mut chosen = Self {
            graph,
            nodes: Vec::new(),
            edges,
        };
        let ends = |(_, source, target)| [source, target];
        let mut nodes: Vec<NodeId> = chosen.walk().flat_map(ends).collect();
        nodes.sort_unstable();
        nodes.dedup();
        chosen.nodes = nodes;
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> TokenGraph {
        let edges = [
            (0, 1, 8),
            (0, 2, 1),
            (1, 3, 4),
            (2, 4, 4),
            (3, 0, 2),
            (4, 4, 5),
            (6, 0, 3),
        ];
        TokenGraph::from_edges(7, &edges).unwrap()
    }

    fn numbers(part: &Subgraph) -> Vec<u32> {
        part.nodes().iter().map(|node| node.0).collect()
    }

    fn pairs(part: &Subgraph) -> Vec<(u32, u32)> {
        part.walk()
            .map(|(_, source, target)| (source.0, target.0))
            .collect()
    }

    #[test]
    fn a_neighbourhood_grows_by_hops_and_is_cut_by_resistance() {
        let graph = graph();
        let around = |radius, maximum, direction| {
            numbers(&Subgraph::around(&graph, &[NodeId(0)], radius, maximum, direction).unwrap())
        };
        assert_eq!(around(0, 9, Direction::Out), [0]);
        assert_eq!(around(1, 9, Direction::Out), [0, 1, 2]);
        assert_eq!(around(1, 2, Direction::Out), [0, 1]); // 0 -> 1 has less resistance than 0 -> 2
        assert_eq!(around(1, 9, Direction::In), [0, 3, 6]);
        assert_eq!(
            around(usize::MAX, usize::MAX, Direction::Both),
            [0, 1, 2, 3, 4, 6]
        );
        assert!(around(1, 0, Direction::Out).is_empty());
        assert!(Subgraph::around(&graph, &[NodeId(7)], 1, 9, Direction::Out).is_err());
        let part = Subgraph::around(&graph, &[NodeId(0)], 2, 9, Direction::Out).unwrap();
        assert_eq!(
            pairs(&part),
            [(0, 1), (0, 2), (1, 3), (2, 4), (3, 0), (4, 4)]
        );
    }

    #[test]
    fn fans_strong_edges_and_lists_are_chosen() {
        let graph = graph();
        let fan = Subgraph::fan(&graph, NodeId(0), Direction::Both).unwrap();
        assert_eq!(pairs(&fan), [(0, 1), (0, 2), (3, 0), (6, 0)]);
        let alone = Subgraph::fan(&graph, NodeId(5), Direction::Both).unwrap();
        assert_eq!((numbers(&alone), alone.edges().len()), (vec![5], 0));
        let looped = Subgraph::fan(&graph, NodeId(4), Direction::Both).unwrap();
        assert_eq!(pairs(&looped), [(2, 4), (4, 4)]);
        let strong = Subgraph::strongest(&graph, 2, Strength::Count);
        assert_eq!(pairs(&strong), [(0, 1), (4, 4)]);
        let listed = Subgraph::between(&graph, &[3, 0, 1, 3].map(NodeId)).unwrap();
        assert_eq!(pairs(&listed), [(0, 1), (1, 3), (3, 0)]);
        assert!(Subgraph::between(&graph, &[NodeId(9)]).is_err());
    }

    #[test]
    fn edges_are_thinned_and_nodes_dropped_only_when_asked() {
        let graph = graph();
        let thin = Subgraph::whole(&graph).keep_strongest(1, Strength::Count);
        assert_eq!((thin.nodes().len(), pairs(&thin)), (7, vec![(0, 1)]));
        let walked = Subgraph::whole(&graph).minimum_count(4).without_isolated();
        assert_eq!(pairs(&walked), [(0, 1), (1, 3), (2, 4), (4, 4)]);
        assert_eq!(numbers(&walked), [0, 1, 2, 3, 4]);
    }
}
