//! The graph itself: nodes, own and shared edges, and the fans they form.

use std::fmt;
use std::sync::OnceLock;

use crate::graph::incoming::Incoming;
use crate::graph::resistance::Resistance;
use crate::{Error, ErrorKind, Result};

/// A token as a node of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u32);

/// A directed edge, numbered in CSR order: by source, then by target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EdgeId(pub u32);

impl NodeId {
    /// The node as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl EdgeId {
    /// The edge as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// The edges that leave one node, as slices of equal length, targets ascending.
#[derive(Clone, Copy, Debug)]
pub struct Fan<'a> {
    /// The first edge; the others follow it.
    pub first: EdgeId,
    /// Target nodes, ascending. `[F]`
    pub targets: &'a [u32],
    /// How often each edge was walked in the corpus. `[F]`
    pub counts: &'a [u32],
    /// The own slot of each edge in the edge arena; 0 is the shared edge. `[F]`
    pub edge_rows: &'a [u32],
    /// Static resistance −ln p(target | source) of each edge, never negative. `[F]`
    pub resistances: &'a [f32],
}

impl Fan<'_> {
    /// Number of edges.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether no edge leaves the node.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Position of `target` within the fan. O(log F).
    pub fn position(&self, target: u32) -> Option<usize> {
        self.targets.binary_search(&target).ok()
    }
}

/// A directed graph of tokens, in compressed rows by source.
///
/// Every edge that the corpus walked (and that building kept) is listed with its count. An edge walked
/// often enough *owns* a matrix and a bias in the edge arena (its slot is 1 or more); every other pair of
/// nodes, listed or not, goes through the shared edge (slot 0). Own slots are numbered in CSR order, so
/// the own slots of a fan are contiguous and a fan is one contiguous read.
///
/// [petgraph](https://docs.rs/petgraph)'s visit traits are implemented for `&TokenGraph`, with the static
/// resistance as the edge weight, so its algorithms run on it directly:
///
/// ```
/// use brillm::graph::{NodeId, TokenGraph};
/// let graph = TokenGraph::from_edges(3, &[(0, 1, 5), (1, 2, 5), (0, 2, 1)])?;
/// let cost = petgraph::algo::dijkstra(&graph, NodeId(0), None, |edge| edge.resistance());
/// assert_eq!(cost.len(), 3);
/// # Ok::<(), brillm::Error>(())
/// ```
///
/// Only listed edges are walked. Incoming edges come from an index that the first one to ask builds (see
/// [`Incoming`]); there is no adjacency matrix, a fan is searched instead. petgraph's `tarjan_scc` recurses
/// once a node of the deepest walk and can exhaust the stack: take its `kosaraju_scc`. Its `page_rank` is
/// O(V² F) an iteration: take [`PageRank`](crate::graph::PageRank).
#[derive(Clone, Debug)]
pub struct TokenGraph {
    rows: Vec<u32>,
    targets: Vec<u32>,
    counts: Vec<u32>,
    edge_rows: Vec<u32>,
    own_minimum: u32,
    own_count: u32,
    resistance: Resistance,
    /// Built by the first one to ask what enters a node.
    incoming: OnceLock<Incoming>,
    /// `0..V`, built by the first of petgraph's algorithms to want a reference to a node's weight.
    identity: OnceLock<Box<[NodeId]>>,
}

impl TokenGraph {
    /// A graph from its compressed rows; every listed edge owns a slot.
    ///
    /// # Arguments
    /// `rows [V+1]` ascending offsets into `targets`; `targets [E]` ascending within a row;
    /// `counts [E]`, each at least 1.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the arrays contradict each other, naming the first place.
    ///
    /// # Complexity
    /// O(V + E).
    pub fn from_rows(rows: Vec<u32>, targets: Vec<u32>, counts: Vec<u32>) -> Result<Self> {
        check_rows(&rows, &targets, &counts)?;
        let resistance = Resistance::kneser_ney(&rows, &targets, &counts);
        let mut graph = Self {
            edge_rows: Vec::new(),
            own_minimum: 1,
            own_count: 0,
            resistance,
            rows,
            targets,
            counts,
            incoming: OnceLock::new(),
            identity: OnceLock::new(),
        };
        graph.set_own_minimum(1);
        Ok(graph)
    }

    /// A graph of `nodes` nodes from `(source, target, count)` triples in any order; equal pairs add up.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when an end is not below `nodes`, or `nodes` is more than 32 bits number.
    pub fn from_edges(nodes: usize, edges: &[(u32, u32, u32)]) -> Result<Self> {
        check_node_count(nodes)?;
        let mut sorted = edges.to_vec();
        sorted.sort_unstable_by_key(|&(source, target, _)| (source, target));
        let mut rows = vec![0u32; nodes + 1];
        let mut targets = Vec::with_capacity(sorted.len());
        let mut counts: Vec<u32> = Vec::with_capacity(sorted.len());
        let mut previous = None;
        for (source, target, count) in sorted {
            if source as usize >= nodes || target as usize >= nodes {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!("edge {source} -> {target} leaves a graph of {nodes} nodes"),
                ));
            }
            if count == 0 {
                continue;
            }
            if previous == Some((source, target)) {
                let last = counts.last_mut().expect("a previous edge was pushed");
                *last = last.saturating_add(count);
                continue;
            }
            previous = Some((source, target));
            rows[source as usize + 1] += 1;
            targets.push(target);
            counts.push(count);
        }
        for node in 0..nodes {
            rows[node + 1] += rows[node];
        }
        Self::from_rows(rows, targets, counts)
    }

    /// Gives an own slot to each edge walked at least `minimum` times, and the shared one to the others.
    ///
    /// `u32::MAX` leaves no own edge. O(E).
    pub fn set_own_minimum(&mut self, minimum: u32) {
        let mut next = 0;
        self.edge_rows.clear();
        self.edge_rows.extend(self.counts.iter().map(|&count| {
            if count >= minimum && minimum != u32::MAX {
                next += 1;
                next
            } else {
                0
            }
        }));
        self.own_minimum = minimum;
        self.own_count = next;
    }

    /// Number of nodes, `V`.
    pub fn nodes(&self) -> usize {
        self.rows.len() - 1
    }

    /// Number of listed edges, `E`.
    pub fn edges(&self) -> usize {
        self.targets.len()
    }

    /// Number of edges that own a slot; slots run from 1 to this number, 0 is the shared edge.
    pub fn own_edges(&self) -> usize {
        self.own_count as usize
    }

    /// The count from which an edge owns a slot.
    pub fn own_minimum(&self) -> u32 {
        self.own_minimum
    }

    /// The edges that leave `node`. O(1).
    pub fn fan(&self, node: NodeId) -> Fan<'_> {
        let range = self.row(node);
        Fan {
            first: EdgeId(range.start as u32),
            targets: &self.targets[range.clone()],
            counts: &self.counts[range.clone()],
            edge_rows: &self.edge_rows[range.clone()],
            resistances: &self.resistance.seen()[range],
        }
    }

    /// The edge from `source` to `target`, if it is listed. O(log F).
    pub fn edge(&self, source: NodeId, target: NodeId) -> Option<EdgeId> {
        let fan = self.fan(source);
        fan.position(target.0)
            .map(|position| EdgeId(fan.first.0 + position as u32))
    }

    /// Both ends of an edge. O(log V).
    pub fn ends(&self, edge: EdgeId) -> (NodeId, NodeId) {
        let source = self.rows.partition_point(|&start| start <= edge.0) - 1;
        (NodeId(source as u32), NodeId(self.targets[edge.index()]))
    }

    /// The range of edge numbers that leave `node`.
    pub fn row(&self, node: NodeId) -> std::ops::Range<usize> {
        self.rows[node.index()] as usize..self.rows[node.index() + 1] as usize
    }

    /// The range of own slots in the fan of `node`; empty where it owns none. O(F) at worst.
    pub fn own_slots(&self, node: NodeId) -> std::ops::Range<usize> {
        let edge_rows = &self.edge_rows[self.row(node)];
        let mut own = edge_rows.iter().copied().filter(|&edge_row| edge_row > 0);
        match own.next() {
            None => 0..0,
            Some(first) => first as usize..own.next_back().unwrap_or(first) as usize + 1,
        }
    }

    /// Edge row of the edge from `source` to `target`; 0, the shared edge, where it owns none.
    pub fn edge_row(&self, source: NodeId, target: NodeId) -> u32 {
        self.edge(source, target)
            .map_or(0, |edge| self.edge_rows[edge.index()])
    }

    /// Targets and edge rows (from 1) of the own edges that leave `node`, by ascending target.
    pub fn own_fan(&self, node: NodeId) -> impl Iterator<Item = (u32, u32)> + '_ {
        let edges = self.row(node);
        let rows = &self.edge_rows[edges.clone()];
        let fan = self.targets[edges].iter().zip(rows);
        fan.map(|(&target, &edge_row)| (target, edge_row))
            .filter(|&(_, edge_row)| edge_row > 0)
    }

    /// Offsets of the fans, `[V+1]`.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Targets of all edges, `[E]`.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Counts of all edges, `[E]`.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Own slots of all edges, `[E]`; 0 is the shared edge.
    pub fn edge_rows(&self) -> &[u32] {
        &self.edge_rows
    }

    /// The static resistance of every edge, listed or not.
    pub fn resistance(&self) -> &Resistance {
        &self.resistance
    }

    /// The edges by target. The first call builds the index in O(V + E) and keeps it; see [`Incoming`].
    pub fn incoming(&self) -> &Incoming {
        self.incoming.get_or_init(|| Incoming::of(self))
    }

    /// Nodes with an edge into `node`, ascending. O(in-degree), after [`Self::incoming`] is built.
    pub fn sources_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let sources = self.incoming().entering(node).sources;
        sources.iter().copied().map(NodeId)
    }

    /// Refuses a node that the graph does not have, for calls that take one from outside.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when `node` is not below the number of nodes.
    pub fn check_node(&self, node: NodeId) -> Result<()> {
        if node.index() < self.nodes() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Input,
            format!("node {node} is not in a graph of {} nodes", self.nodes()),
        ))
    }

    /// Every node by its number. `[V]`
    pub(in crate::graph) fn identity(&self) -> &[NodeId] {
        self.identity
            .get_or_init(|| (0..self.nodes() as u32).map(NodeId).collect())
    }
}

/// Refuses a number of nodes that 32-bit numbers do not reach.
pub(in crate::graph) fn check_node_count(nodes: usize) -> Result<()> {
    if nodes < u32::MAX as usize {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Input,
        format!("{nodes} nodes are more than 32-bit node numbers reach"),
    )
    .at("graph"))
}

fn check_rows(rows: &[u32], targets: &[u32], counts: &[u32]) -> Result<()> {
    let invalid = |what: String| Err(Error::new(ErrorKind::Format, what).at("graph"));
    if rows.is_empty() || rows[0] != 0 {
        return invalid("row pointers must begin with 0".into());
    }
    if targets.len() != counts.len() {
        return invalid(format!(
            "{} targets but {} counts",
            targets.len(),
            counts.len()
        ));
    }
    if rows[rows.len() - 1] as usize != targets.len() {
        return invalid(format!(
            "the last row pointer is {}, but there are {} edges",
            rows[rows.len() - 1],
            targets.len()
        ));
    }
    let nodes = rows.len() - 1;
    check_node_count(nodes)?;
    // All pointers first: only when none falls is each of them at most the last, which is the length.
    if let Some(node) = rows.windows(2).position(|pair| pair[0] > pair[1]) {
        return invalid(format!("row pointers fall after node {node}"));
    }
    for node in 0..nodes {
        let fan = &targets[rows[node] as usize..rows[node + 1] as usize];
        if fan.windows(2).any(|pair| pair[0] >= pair[1]) {
            return invalid(format!("the targets of node {node} do not ascend"));
        }
        if let Some(&last) = fan.last()
            && last as usize >= nodes
        {
            return invalid(format!("node {node} points to node {last} of {nodes}"));
        }
    }
    match counts.iter().position(|&count| count == 0) {
        Some(edge) => invalid(format!("edge {edge} has a count of zero")),
        None => Ok(()),
    }
}
