//! Incoming edges of each node: the transposed index of a graph.

use crate::graph::{EdgeId, NodeId, TokenGraph};

/// The edges of a graph by target, in compressed rows.
///
/// A [`TokenGraph`] stores its edges by source, as decoding needs them. Only analysis needs incoming edges (in-degrees,
/// reversed paths), so this index is built on first use, by a counting sort in O(V + E), and takes 8 bytes per edge
/// and 4 per node.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Offsets into the two arrays below. `[V+1]`
    rows: Vec<u32>,
    /// Source of each edge, ascending within a row. `[E]`
    sources: Vec<u32>,
    /// Id of each edge in the graph. `[E]`
    edges: Vec<u32>,
}

/// The edges that enter one node, as slices of equal length, sources ascending.
#[derive(Clone, Copy, Debug)]
pub struct Entering<'a> {
    /// Source nodes, ascending. `[F]`
    pub sources: &'a [u32],
    /// Ids of the edges, see [`EdgeId`]. `[F]`
    pub edges: &'a [u32],
}

impl Entering<'_> {
    /// Number of edges.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether no edge enters the node.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Iterate over sources and edges.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeId, EdgeId)> + '_ {
        self.sources
            .iter()
            .zip(self.edges)
            .map(|(&source, &edge)| (NodeId(source), EdgeId(edge)))
    }
}

impl Incoming {
    /// Build the index of a graph. O(V + E).
    pub fn of(graph: &TokenGraph) -> Self {
        let nodes = graph.nodes();
        let mut rows = vec![0u32; nodes + 1];
        for &target in graph.targets() {
            rows[target as usize + 1] += 1;
        }
        for node in 0..nodes {
            rows[node + 1] += rows[node];
        }
        let mut next = rows.clone();
        let mut sources = vec![0u32; graph.edges()];
        let mut edges = vec![0u32; graph.edges()];
        for source in 0..nodes as u32 {
            for edge in graph.row(NodeId(source)) {
                let index = &mut next[graph.targets()[edge] as usize];
                sources[*index as usize] = source;
                edges[*index as usize] = edge as u32;
                *index += 1;
            }
        }
        Self {
            rows,
            sources,
            edges,
        }
    }

    /// The edges that enter `node`. O(1).
    pub fn entering(&self, node: NodeId) -> Entering<'_> {
        let range = self.rows[node.index()] as usize..self.rows[node.index() + 1] as usize;
        Entering {
            sources: &self.sources[range.clone()],
            edges: &self.edges[range],
        }
    }

    /// Number of edges that enter `node`. O(1).
    pub fn degree(&self, node: NodeId) -> usize {
        (self.rows[node.index() + 1] - self.rows[node.index()]) as usize
    }
}
