//! The token graph: nodes, own and shared edges, and fans.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::graph::incoming::Incoming;
use crate::graph::resistance::Resistance;
use crate::graph::{PathGraph, Walk};
use crate::{Error, ErrorKind, Result};

/// A node: the id of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u32);

/// A directed edge. Edges are numbered by source, then by target.
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
    /// Count of each edge in the corpus. `[F]`
    pub counts: &'a [u32],
    /// Row of each edge in the edge weights; 0 is the shared edge. `[F]`
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

/// A directed graph of tokens: the structure that a graph model decodes, trains and explains.
///
/// A node is a token of the vocabulary. An edge `u → v` is listed when the corpus contains token `v` directly after
/// token `u`; its *count* is how often. The edges that leave a node are its *fan* ([`Fan`]), targets ascending.
/// From the counts follows the *static resistance* of every edge, −ln p(v | u) after Kneser-Ney smoothing
/// ([`Resistance`]): 0 for a certain successor, large for a rare one. Pairs that are not listed have a resistance
/// too, so that every token can follow every other.
///
/// An edge whose count reaches a minimum is an *own edge*: it has a row of weights (a matrix and a bias) in the
/// model's edge weights. All other pairs, listed or not, use the *shared edge*, row 0. Rows are numbered in the
/// order of edges, so that the own rows of a fan are contiguous and a fan is one contiguous read.
///
/// ```
/// use brillm::graph::{GraphBuilder, NodeId};
///
/// // Tokens: 0 = "the", 1 = "cat", 2 = "sat".
/// let mut builder = GraphBuilder::new(3);
/// builder.walk([0, 1, 2, 0, 1])?; // the cat sat the cat
/// let mut graph = builder.build()?;
/// assert_eq!((graph.nodes(), graph.edges()), (3, 3));
///
/// // The fan of "the" has one edge, to "cat", walked twice.
/// let fan = graph.fan(NodeId(0));
/// assert_eq!((fan.targets, fan.counts), (&[1][..], &[2][..]));
///
/// // Only edges walked at least twice get weights of their own; the others use the shared edge.
/// graph.set_own_minimum(2);
/// assert_eq!((graph.own_edges(), graph.edge_rows()), (1, &[1, 0, 0][..]));
///
/// // "cat" is likelier after "the" than "sat" is, which never follows it.
/// assert!(graph.fan(NodeId(0)).resistances[0] < graph.resistance().unseen(0, 2));
/// # Ok::<(), brillm::Error>(())
/// ```
///
/// # Algorithms
///
/// [petgraph](https://docs.rs/petgraph)'s visit traits are implemented for `&TokenGraph`, with the static resistance
/// as the edge weight, so that its algorithms run on the graph directly:
///
/// ```
/// use brillm::graph::{NodeId, TokenGraph};
/// let graph = TokenGraph::from_edges(3, &[(0, 1, 5), (1, 2, 5), (0, 2, 1)])?;
/// let cost = petgraph::algo::dijkstra(&graph, NodeId(0), None, |edge| edge.resistance());
/// assert_eq!(cost.len(), 3);
/// # Ok::<(), brillm::Error>(())
/// ```
///
/// They visit listed edges only. The index of incoming edges is built on first use (see [`Incoming`]). There is no
/// adjacency matrix; a fan is searched instead. Two of petgraph's algorithms are unsuitable: `tarjan_scc` recurses
/// once per node of the deepest path and can exhaust the stack (use `kosaraju_scc`), and `page_rank` takes O(V² F)
/// per iteration (use [`PageRank`](crate::graph::PageRank)).
#[derive(Clone, Debug)]
pub struct TokenGraph {
    rows: Vec<u32>,
    targets: Vec<u32>,
    counts: Vec<u32>,
    edge_rows: Vec<u32>,
    own_minimum: u32,
    own_count: u32,
    resistance: Resistance,
    /// Walks longer than an edge, where the model has them.
    paths: Option<Arc<PathGraph>>,
    /// Built on first use.
    incoming: OnceLock<Incoming>,
    /// `0..V`, for petgraph's references to node weights; built on first use.
    identity: OnceLock<Box<[NodeId]>>,
}

impl TokenGraph {
    /// Create a graph from compressed rows; every listed edge is an own edge.
    ///
    /// # Arguments
    /// `rows [V+1]` ascending offsets into `targets`; `targets [E]` ascending within a row;
    /// `counts [E]`, each at least 1.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the arrays contradict each other.
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
            paths: None,
            rows,
            targets,
            counts,
            incoming: OnceLock::new(),
            identity: OnceLock::new(),
        };
        graph.set_own_minimum(1);
        Ok(graph)
    }

    /// Create a graph of `nodes` nodes from `(source, target, count)` triples in any order; counts of equal pairs are
    /// summed.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when a source or target is not below `nodes`, or `nodes` exceeds 32 bits.
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
                    format!("edge {source} -> {target} is outside a graph of {nodes} nodes"),
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

    /// Give a row of weights to each edge with a count of at least `minimum`, and the shared row to the others.
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

    /// Number of own edges; their rows are 1 to this number, row 0 is the shared edge.
    pub fn own_edges(&self) -> usize {
        self.own_count as usize
    }

    /// The count from which an edge is an own edge.
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

    /// The range of own rows in the fan of `node`; empty where it has no own edge. O(F) at worst.
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

    /// Rows of all edges in the edge weights, `[E]`; 0 is the shared edge.
    pub fn edge_rows(&self) -> &[u32] {
        &self.edge_rows
    }

    /// The static resistance of every edge, listed or not.
    pub fn resistance(&self) -> &Resistance {
        &self.resistance
    }

    /// Give the graph the walks of its text that are longer than an edge.
    #[must_use]
    pub fn with_paths(self, paths: Option<PathGraph>) -> Self {
        Self {
            paths: paths.map(Arc::new),
            ..self
        }
    }

    /// The walks longer than an edge, if the graph has them.
    pub fn paths(&self) -> Option<&PathGraph> {
        self.paths.as_deref()
    }

    /// Highest order of static resistances: 2 for those of edges alone.
    pub fn order(&self) -> usize {
        self.paths().map_or(2, PathGraph::order)
    }

    /// The static resistance of edges that the lifts of an order are relative to.
    ///
    /// Above order 2, Kneser-Ney estimates it from the number of different nodes before each edge.
    pub fn resistance_within(&self, order: usize) -> &Resistance {
        match self.paths() {
            Some(paths) if order > 2 => paths.resistance(),
            _ => &self.resistance,
        }
    }

    /// Iterate over targets with how far the edge from `node`, then each longer walk that ends with `earlier` and
    /// `node`, lifts their log probability: with [`Resistance::target`], all of the static resistance that a softmax
    /// does not cancel. A target occurs once for each walk that lifts it.
    pub fn lifts<'a>(
        &'a self,
        node: u32,
        earlier: &'a [u32],
        order: usize,
    ) -> impl Iterator<Item = (u32, f32)> + 'a {
        let resistance = self.resistance_within(order);
        let edges = self.row(NodeId(node)).map(move |edge| {
            let target = self.targets[edge];
            (target, resistance.lift(node, target, edge))
        });
        let paths = self.paths().into_iter();
        let walks = paths.flat_map(move |paths| paths.walks(node, earlier, order));
        edges.chain(walks.flat_map(Walk::lifts))
    }

    /// The edges by target. The first call builds the index in O(V + E); see [`Incoming`].
    pub fn incoming(&self) -> &Incoming {
        self.incoming.get_or_init(|| Incoming::of(self))
    }

    /// Nodes with an edge into `node`, ascending. O(in-degree), after [`Self::incoming`] is built.
    pub fn sources_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let sources = self.incoming().entering(node).sources;
        sources.iter().copied().map(NodeId)
    }

    /// Check that a node is in the graph.
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

/// Check that node ids fit 32 bits.
pub(in crate::graph) fn check_node_count(nodes: usize) -> Result<()> {
    if nodes < u32::MAX as usize {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Input,
        format!("{nodes} nodes exceed 32-bit node ids"),
    )
    .at("graph"))
}

fn check_rows(rows: &[u32], targets: &[u32], counts: &[u32]) -> Result<()> {
    let invalid = |what: String| Err(Error::new(ErrorKind::Format, what).at("graph"));
    if rows.is_empty() || rows[0] != 0 {
        return invalid("row offsets must begin with 0".into());
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
            "the last row offset is {}, but there are {} edges",
            rows[rows.len() - 1],
            targets.len()
        ));
    }
    let nodes = rows.len() - 1;
    check_node_count(nodes)?;
    // All offsets first: only if none decreases is each of them at most the last, which is the length.
    if let Some(node) = rows.windows(2).position(|pair| pair[0] > pair[1]) {
        return invalid(format!("row offsets decrease after node {node}"));
    }
    for node in 0..nodes {
        let fan = &targets[rows[node] as usize..rows[node + 1] as usize];
        if fan.windows(2).any(|pair| pair[0] >= pair[1]) {
            return invalid(format!("the targets of node {node} are not ascending"));
        }
        if let Some(&last) = fan.last()
            && last as usize >= nodes
        {
            return invalid(format!(
                "node {node} has an edge to node {last}, but there are {nodes} nodes"
            ));
        }
    }
    match counts.iter().position(|&count| count == 0) {
        Some(edge) => invalid(format!("edge {edge} has a count of zero")),
        None => Ok(()),
    }
}
