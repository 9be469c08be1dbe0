//! The k paths of least resistance between two nodes.
//!
//! Yen (1971), *Finding the k shortest loopless paths in a network*, with Lawler's improvement
//! (1972): a path branches only at and after the node where it left its parent. petgraph's `k_shortest_path` returns
//! costs without paths, and may repeat nodes.
//!
//! All searches of a call have the same target, so the least resistance from each node to it, found by one search along
//! reversed edges, is a lower bound for all of them; each branch is then an A* search that expands few other nodes.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, HashSet};

use crate::Result;
use crate::graph::{EdgeId, NodeId, TokenGraph};

/// A loopless path and its resistance.
#[derive(Clone, Debug, PartialEq)]
pub struct LeastPath {
    /// The nodes, including both ends. `[hops + 1]`
    pub nodes: Vec<NodeId>,
    /// The edges between them. `[hops]`
    pub edges: Vec<EdgeId>,
    /// Sum of the hops' static resistances: −ln of the product of their probabilities.
    pub resistance: f64,
}

/// Find the `count` loopless paths of least static resistance from `source` to `target` over listed edges.
///
/// Paths are in ascending order of resistance; fewer are returned where fewer exist. The order of equal resistances is
/// deterministic. From a node to itself there is one loopless path, of no hops.
///
/// ```
/// use brillm::graph::{NodeId, TokenGraph, least_paths};
/// let graph = TokenGraph::from_edges(4, &[(0, 1, 9), (1, 3, 9), (0, 2, 1), (2, 3, 1)])?;
/// let paths = least_paths(&graph, NodeId(0), NodeId(3), 5)?;
/// assert_eq!(paths.len(), 2);
/// assert_eq!(paths[0].nodes, [NodeId(0), NodeId(1), NodeId(3)]);
/// # Ok::<(), brillm::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) when a node is not in the graph.
///
/// # Complexity
/// O((V + E) log V) once, then at most one such search per hop of each path; in practice a branch searches a few fans.
pub fn least_paths(
    graph: &TokenGraph,
    source: NodeId,
    target: NodeId,
    count: usize,
) -> Result<Vec<LeastPath>> {
    graph.check_node(source)?;
    graph.check_node(target)?;
    let mut search = Search::towards(graph, target);
    let mut found: Vec<LeastPath> = Vec::new();
    let mut candidates = BTreeMap::new();
    if count > 0 {
        candidates.extend(search.branch(&[source], &[], 0.0, &HashSet::new()));
    }
    while found.len() < count {
        let Some(((Nats(resistance), nodes), (edges, branch))) = candidates.pop_first() else {
            break;
        };
        let path = LeastPath {
            nodes,
            edges,
            resistance,
        };
        let mut before = 0.0;
        for index in 0..path.edges.len() {
            if index >= branch {
                let root = &path.nodes[..=index];
                // The edges that paths with the same root have already taken are excluded.
                let taken: HashSet<EdgeId> = found
                    .iter()
                    .chain([&path])
                    .filter(|other| other.nodes.len() > index + 1 && other.nodes[..=index] == *root)
                    .map(|other| other.edges[index])
                    .collect();
                candidates.extend(search.branch(root, &path.edges[..index], before, &taken));
            }
            before += f64::from(graph.resistance().seen()[path.edges[index].index()]);
        }
        found.push(path);
        // At most as many candidates as missing paths can be used.
        while candidates.len() > count - found.len() {
            candidates.pop_last();
        }
    }
    Ok(found)
}

/// A path that may be the next best, in the order of resistances, then of nodes; its edges, and the index where it left
/// its parent.
type Candidate = ((Nats, Vec<NodeId>), (Vec<EdgeId>, usize));

/// Bound, node and cost of a node on the frontier of a search; the greatest has the least bound.
type Frontier = Reverse<(Nats, NodeId, Nats)>;

/// A resistance, in the total order of floats.
#[derive(Clone, Copy)]
struct Nats(f64);

impl Ord for Nats {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Nats {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Nats {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Nats {}

fn frontier(bound: f64, node: NodeId, cost: f64) -> Frontier {
    Reverse((Nats(bound), node, Nats(cost)))
}

/// Searches with a common target; the scratch memory is reset only where it was written.
struct Search<'g> {
    graph: &'g TokenGraph,
    target: NodeId,
    /// Least resistance from each node to the target; infinite where there is no path. `[V]`
    left: Vec<f64>,
    /// Least resistance found from the start of the branch; infinite where not reached. `[V]`
    cost: Vec<f64>,
    /// Predecessor of each reached node, and the edge from it. `[V]`
    parent: Vec<(NodeId, EdgeId)>,
    /// Nodes of the root, which the branch must avoid. `[V]`
    forbidden: Vec<bool>,
    reached: Vec<NodeId>,
}

impl<'g> Search<'g> {
    /// Compute the least resistance from every node to `target` along reversed edges. O((V + E) log V).
    fn towards(graph: &'g TokenGraph, target: NodeId) -> Self {
        let resistances = graph.resistance().seen();
        let mut left = vec![f64::INFINITY; graph.nodes()];
        left[target.index()] = 0.0;
        let mut heap = BinaryHeap::from([frontier(0.0, target, 0.0)]);
        while let Some(Reverse((_, node, Nats(cost)))) = heap.pop() {
            if cost > left[node.index()] {
                continue;
            }
            for (source, edge) in graph.incoming().entering(node).iter() {
                let cost = cost + f64::from(resistances[edge.index()]);
                if cost < left[source.index()] {
                    left[source.index()] = cost;
                    heap.push(frontier(cost, source, cost));
                }
            }
        }
        Self {
            graph,
            target,
            left,
            cost: vec![f64::INFINITY; graph.nodes()],
            parent: vec![(NodeId(0), EdgeId(0)); graph.nodes()],
            forbidden: vec![false; graph.nodes()],
            reached: Vec::new(),
        }
    }

    /// Find the least path to the target that begins with `root` (over `edges`, of resistance `before`), continues
    /// with an edge that is not in `taken`, and repeats no node.
    fn branch(
        &mut self,
        root: &[NodeId],
        edges: &[EdgeId],
        before: f64,
        taken: &HashSet<EdgeId>,
    ) -> Option<Candidate> {
        let start = *root.last()?;
        if self.left[start.index()].is_infinite() {
            return None;
        }
        for &node in &root[..root.len() - 1] {
            self.forbidden[node.index()] = true;
        }
        let arrived = self.walk(start, before, taken);
        for &node in &root[..root.len() - 1] {
            self.forbidden[node.index()] = false;
        }
        let path = arrived.then(|| {
            let mut tail_nodes = Vec::new();
            let mut tail_edges = Vec::new();
            let mut node = self.target;
            while node != start {
                let (source, edge) = self.parent[node.index()];
                tail_nodes.push(node);
                tail_edges.push(edge);
                node = source;
            }
            let nodes = root.iter().copied().chain(tail_nodes.into_iter().rev());
            let edges = edges.iter().copied().chain(tail_edges.into_iter().rev());
            let edges: Vec<EdgeId> = edges.collect();
            let resistances = self.graph.resistance().seen();
            let hop = |edge: &EdgeId| f64::from(resistances[edge.index()]);
            let resistance = edges.iter().map(hop).sum();
            ((Nats(resistance), nodes.collect()), (edges, root.len() - 1))
        });
        for node in self.reached.drain(..) {
            self.cost[node.index()] = f64::INFINITY;
        }
        path
    }

    /// Run A* from `start`, whose cost is `before`, and return whether it reached the target.
    fn walk(&mut self, start: NodeId, before: f64, taken: &HashSet<EdgeId>) -> bool {
        let resistances = self.graph.resistance().seen();
        self.cost[start.index()] = before;
        self.reached.push(start);
        let bound = before + self.left[start.index()];
        let mut heap = BinaryHeap::from([frontier(bound, start, before)]);
        while let Some(Reverse((_, node, Nats(cost)))) = heap.pop() {
            if node == self.target {
                return true;
            }
            // A node that is reached again at a lower cost is expanded again, so that rounding differences between
            // sums cannot hide a path.
            if cost > self.cost[node.index()] {
                continue;
            }
            let row = self.graph.row(node);
            for edge in row {
                let target = NodeId(self.graph.targets()[edge]);
                let index = target.index();
                if self.forbidden[index]
                    || self.left[index].is_infinite()
                    || (node == start && taken.contains(&EdgeId(edge as u32)))
                {
                    continue;
                }
                let cost = cost + f64::from(resistances[edge]);
                if cost < self.cost[index] {
                    if self.cost[index].is_infinite() {
                        self.reached.push(target);
                    }
                    self.cost[index] = cost;
                    self.parent[index] = (node, EdgeId(edge as u32));
                    heap.push(frontier(cost + self.left[index], target, cost));
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_reaches_itself_over_no_hop() {
        let graph = TokenGraph::from_edges(2, &[(0, 0, 1), (0, 1, 1), (1, 0, 1)]).unwrap();
        let paths = least_paths(&graph, NodeId(0), NodeId(0), 9).unwrap();
        assert_eq!(paths.len(), 1);
        assert_eq!(
            (paths[0].nodes.as_slice(), paths[0].resistance),
            (&[NodeId(0)][..], 0.0)
        );
    }

    #[test]
    fn no_way_and_no_wish_give_no_path_and_strangers_an_error() {
        let graph = TokenGraph::from_edges(3, &[(0, 1, 1)]).unwrap();
        assert!(
            least_paths(&graph, NodeId(1), NodeId(0), 3)
                .unwrap()
                .is_empty()
        );
        assert!(
            least_paths(&graph, NodeId(0), NodeId(1), 0)
                .unwrap()
                .is_empty()
        );
        assert!(least_paths(&graph, NodeId(0), NodeId(3), 1).is_err());
        assert!(least_paths(&graph, NodeId(7), NodeId(0), 1).is_err());
    }
}
