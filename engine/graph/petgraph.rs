//! petgraph's traits for [`TokenGraph`], so that its algorithms run on the graph without a copy.
//!
//! | trait | cost |
//! |---|---|
//! | `IntoNeighbors`, `IntoEdges` | O(1) per call and per step: a fan is a slice |
//! | `IntoNeighborsDirected`, `IntoEdgesDirected`, incoming | the first call builds [`Incoming`] in O(V + E), 8 bytes per edge; then as above |
//! | `GetAdjacencyMatrix` | no matrix (V² bits would be gigabytes); `is_adjacent` is O(log F) |
//! | `DataMap`, `IntoNodeReferences` | the weight of a node is its [`NodeId`]; 4 bytes per node after the first use |
//! | `Visitable` | one bit per node |
//!
//! The weight of an edge is its static resistance, −ln of a probability and never negative, so it can be
//! the cost of every shortest-path algorithm. Only listed edges are visited; the V² − E others have a resistance too
//! ([`Resistance::unseen`](crate::graph::Resistance::unseen)) but are not part of the petgraph view.
//!
//! Two of petgraph's algorithms are unsuitable: `tarjan_scc` recurses once per node of the deepest path and can exhaust
//! the stack on a real graph (`kosaraju_scc` does not), and `page_rank` takes O(V²·F) per iteration and omits the
//! random jump along existing edges (use [`PageRank`](crate::graph::PageRank)).

use std::iter::Map;
use std::ops::Range;

use petgraph::data::DataMap;
use petgraph::visit;
use petgraph::{Directed, Direction};

use crate::graph::{EdgeId, Incoming, NodeId, TokenGraph};

/// An edge in petgraph's view of a graph.
#[derive(Clone, Copy)]
pub struct EdgeReference<'a> {
    graph: &'a TokenGraph,
    source: NodeId,
    edge: EdgeId,
}

impl<'a> EdgeReference<'a> {
    /// Source node.
    pub fn source(&self) -> NodeId {
        self.source
    }

    /// Target node.
    pub fn target(&self) -> NodeId {
        NodeId(self.graph.targets()[self.edge.index()])
    }

    /// Id of the edge.
    pub fn id(&self) -> EdgeId {
        self.edge
    }

    /// Static resistance, −ln p(target | source) in nats; never negative.
    pub fn resistance(&self) -> f32 {
        *self.weight()
    }

    /// p(target | source), in `(0, 1]`.
    pub fn probability(&self) -> f64 {
        (-f64::from(self.resistance())).exp()
    }

    /// Count of the edge in the corpus.
    pub fn count(&self) -> u32 {
        self.graph.counts()[self.edge.index()]
    }

    /// Row of the edge in the edge weights; 0 is the shared edge.
    pub fn edge_row(&self) -> u32 {
        self.graph.edge_rows()[self.edge.index()]
    }

    /// The resistance by reference, petgraph's form of a weight.
    pub fn weight(&self) -> &'a f32 {
        &self.graph.resistance().seen()[self.edge.index()]
    }
}

impl std::fmt::Debug for EdgeReference<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EdgeReference")
            .field("source", &self.source())
            .field("target", &self.target())
            .field("id", &self.id())
            .field("count", &self.count())
            .field("resistance", &self.resistance())
            .finish()
    }
}

/// Compares edge ids; edges of different graphs are not comparable.
impl PartialEq for EdgeReference<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.edge == other.edge
    }
}

impl visit::EdgeRef for EdgeReference<'_> {
    type NodeId = NodeId;
    type EdgeId = EdgeId;
    type Weight = f32;

    fn source(&self) -> NodeId {
        self.source
    }
    fn target(&self) -> NodeId {
        Self::target(self)
    }
    fn weight(&self) -> &f32 {
        Self::weight(self)
    }
    fn id(&self) -> EdgeId {
        self.edge
    }
}

/// Set of visited nodes: one bit per node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visited(Vec<u64>);

impl visit::VisitMap<NodeId> for Visited {
    fn visit(&mut self, node: NodeId) -> bool {
        let first = !self.is_visited(&node);
        if let Some(word) = self.0.get_mut(node.index() / 64) {
            *word |= 1 << (node.index() % 64);
        }
        first
    }
    fn is_visited(&self, node: &NodeId) -> bool {
        self.0
            .get(node.index() / 64)
            .is_some_and(|word| word >> (node.index() % 64) & 1 == 1)
    }
    fn unvisit(&mut self, node: NodeId) -> bool {
        let was = self.is_visited(&node);
        if let Some(word) = self.0.get_mut(node.index() / 64) {
            *word &= !(1 << (node.index() % 64));
        }
        was
    }
}

/// Iterator over the outgoing or incoming edges of a node, or all edges of the graph, in order.
#[derive(Clone, Debug)]
pub struct Edges<'a> {
    graph: &'a TokenGraph,
    walk: EdgeCursor<'a>,
}

#[derive(Clone, Debug)]
enum EdgeCursor<'a> {
    /// Consecutive edges, the first of which does not precede the edges of `source`.
    Leaving { source: NodeId, edges: Range<u32> },
    Entering {
        sources: &'a [u32],
        edges: &'a [u32],
    },
}

impl<'a> Iterator for Edges<'a> {
    type Item = EdgeReference<'a>;

    fn next(&mut self) -> Option<EdgeReference<'a>> {
        let (source, edge) = match &mut self.walk {
            EdgeCursor::Leaving { source, edges } => {
                let edge = edges.next()?;
                // Skip empty fans; the next edge always has a source at or after this one.
                while self.graph.rows()[source.index() + 1] <= edge {
                    source.0 += 1;
                }
                (*source, edge)
            }
            EdgeCursor::Entering { sources, edges } => {
                let (&source, rest) = sources.split_first()?;
                let (&edge, others) = edges.split_first()?;
                (*sources, *edges) = (rest, others);
                (NodeId(source), edge)
            }
        };
        Some(EdgeReference {
            graph: self.graph,
            source,
            edge: EdgeId(edge),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.walk {
            EdgeCursor::Leaving { edges, .. } => edges.len(),
            EdgeCursor::Entering { edges, .. } => edges.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Edges<'_> {}

/// Iterator over the neighbours of a node, ascending.
pub type Neighbors<'a> = Map<std::slice::Iter<'a, u32>, fn(&u32) -> NodeId>;

/// Iterator over all nodes, ascending.
pub type Nodes = Map<Range<u32>, fn(u32) -> NodeId>;

/// Iterator over all nodes with their weights, ascending.
pub type NodeReferences<'a> = Map<std::slice::Iter<'a, NodeId>, fn(&NodeId) -> (NodeId, &NodeId)>;

fn neighbors(ids: &[u32]) -> Neighbors<'_> {
    ids.iter().map(|&id| NodeId(id))
}

impl visit::GraphBase for TokenGraph {
    type NodeId = NodeId;
    type EdgeId = EdgeId;
}

impl visit::Data for TokenGraph {
    type NodeWeight = NodeId;
    type EdgeWeight = f32;
}

impl visit::GraphProp for TokenGraph {
    type EdgeType = Directed;
}

impl visit::NodeCount for TokenGraph {
    fn node_count(&self) -> usize {
        self.nodes()
    }
}

impl visit::EdgeCount for TokenGraph {
    fn edge_count(&self) -> usize {
        self.edges()
    }
}

impl visit::NodeIndexable for TokenGraph {
    fn node_bound(&self) -> usize {
        self.nodes()
    }
    fn to_index(&self, node: NodeId) -> usize {
        node.index()
    }
    fn from_index(&self, index: usize) -> NodeId {
        NodeId(index as u32)
    }
}

impl visit::NodeCompactIndexable for TokenGraph {}

impl visit::EdgeIndexable for TokenGraph {
    fn edge_bound(&self) -> usize {
        self.edges()
    }
    fn to_index(&self, edge: EdgeId) -> usize {
        edge.index()
    }
    fn from_index(&self, index: usize) -> EdgeId {
        EdgeId(index as u32)
    }
}

impl visit::Visitable for TokenGraph {
    type Map = Visited;

    fn visit_map(&self) -> Visited {
        Visited(vec![0; self.nodes().div_ceil(64)])
    }
    fn reset_map(&self, map: &mut Visited) {
        map.0.clear();
        map.0.resize(self.nodes().div_ceil(64), 0);
    }
}

impl visit::GetAdjacencyMatrix for TokenGraph {
    /// Nothing to prepare: sorted fans are searched.
    type AdjMatrix = ();

    fn adjacency_matrix(&self) {}

    fn is_adjacent(&self, (): &(), source: NodeId, target: NodeId) -> bool {
        self.edge(source, target).is_some()
    }
}

impl DataMap for TokenGraph {
    fn node_weight(&self, node: NodeId) -> Option<&NodeId> {
        self.identity().get(node.index())
    }
    fn edge_weight(&self, edge: EdgeId) -> Option<&f32> {
        self.resistance().seen().get(edge.index())
    }
}

impl<'a> visit::IntoNeighbors for &'a TokenGraph {
    type Neighbors = Neighbors<'a>;

    fn neighbors(self, node: NodeId) -> Neighbors<'a> {
        neighbors(self.fan(node).targets)
    }
}

impl<'a> visit::IntoNeighborsDirected for &'a TokenGraph {
    type NeighborsDirected = Neighbors<'a>;

    fn neighbors_directed(self, node: NodeId, direction: Direction) -> Neighbors<'a> {
        neighbors(match direction {
            Direction::Outgoing => self.fan(node).targets,
            Direction::Incoming => self.incoming().entering(node).sources,
        })
    }
}

impl<'a> visit::IntoEdgeReferences for &'a TokenGraph {
    type EdgeRef = EdgeReference<'a>;
    type EdgeReferences = Edges<'a>;

    fn edge_references(self) -> Edges<'a> {
        Edges {
            graph: self,
            walk: EdgeCursor::Leaving {
                source: NodeId(0),
                edges: 0..self.edges() as u32,
            },
        }
    }
}

impl<'a> visit::IntoEdges for &'a TokenGraph {
    type Edges = Edges<'a>;

    fn edges(self, node: NodeId) -> Edges<'a> {
        let row = self.row(node);
        Edges {
            graph: self,
            walk: EdgeCursor::Leaving {
                source: node,
                edges: row.start as u32..row.end as u32,
            },
        }
    }
}

impl<'a> visit::IntoEdgesDirected for &'a TokenGraph {
    type EdgesDirected = Edges<'a>;

    fn edges_directed(self, node: NodeId, direction: Direction) -> Edges<'a> {
        if direction == Direction::Outgoing {
            return visit::IntoEdges::edges(self, node);
        }
        let index: &'a Incoming = self.incoming();
        let entering = index.entering(node);
        Edges {
            graph: self,
            walk: EdgeCursor::Entering {
                sources: entering.sources,
                edges: entering.edges,
            },
        }
    }
}

impl visit::IntoNodeIdentifiers for &TokenGraph {
    type NodeIdentifiers = Nodes;

    fn node_identifiers(self) -> Nodes {
        (0..self.nodes() as u32).map(NodeId)
    }
}

impl<'a> visit::IntoNodeReferences for &'a TokenGraph {
    type NodeRef = (NodeId, &'a NodeId);
    type NodeReferences = NodeReferences<'a>;

    fn node_references(self) -> NodeReferences<'a> {
        self.identity().iter().map(|node| (*node, node))
    }
}
