//! Statistics of a graph, a node and an edge, for display and JSON.

use serde::Serialize;

use crate::graph::{EdgeId, NodeId, Strength, TokenGraph};
use crate::{Error, ErrorKind, Result};

/// Statistics of an edge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeSummary {
    /// Source node.
    pub source: u32,
    /// Target node.
    pub target: u32,
    /// Text of the source, where [`EdgeSummary::name`] was given a vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_text: Option<String>,
    /// Text of the target, where [`EdgeSummary::name`] was given a vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_text: Option<String>,
    /// Count in the corpus.
    pub count: u32,
    /// p(target | source), in `(0, 1]`.
    pub probability: f64,
    /// −ln of the probability, in nats; never negative.
    pub resistance: f32,
    /// Whether it is an own edge, with a matrix and a bias; otherwise it uses the shared edge.
    pub own: bool,
}

impl EdgeSummary {
    /// Summarise an edge. O(log V).
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the graph has no such edge.
    pub fn of(graph: &TokenGraph, edge: EdgeId) -> Result<Self> {
        if edge.index() < graph.edges() {
            return Ok(Self::known(graph, edge));
        }
        Err(Error::new(
            ErrorKind::Input,
            format!("edge {edge} is not in a graph of {} edges", graph.edges()),
        ))
    }

    fn known(graph: &TokenGraph, edge: EdgeId) -> Self {
        let (source, target) = graph.ends(edge);
        let resistance = graph.resistance().seen()[edge.index()];
        Self {
            source: source.0,
            target: target.0,
            source_text: None,
            target_text: None,
            count: graph.counts()[edge.index()],
            probability: (-f64::from(resistance)).exp(),
            resistance,
            own: graph.edge_rows()[edge.index()] > 0,
        }
    }

    /// Add the texts of source and target.
    pub fn name(&mut self, text: &dyn Fn(u32) -> String) {
        self.source_text = Some(text(self.source));
        self.target_text = Some(text(self.target));
    }
}

/// Quantiles and mean of a quantity over nodes or edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Smallest value.
    pub minimum: u64,
    /// First quartile.
    pub quarter: u64,
    /// Median.
    pub median: u64,
    /// Third quartile.
    pub three_quarters: u64,
    /// 90th percentile.
    pub tenth_highest: u64,
    /// 99th percentile.
    pub hundredth_highest: u64,
    /// Largest value.
    pub maximum: u64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Distribution {
    /// Compute the distribution of `values` by nearest rank; all zero where there are none. O(n log n).
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = values.into_iter().collect();
        if values.is_empty() {
            return Self::default();
        }
        values.sort_unstable();
        let at_most = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values[rank - 1]
        };
        Self {
            minimum: at_most(0),
            quarter: at_most(25),
            median: at_most(50),
            three_quarters: at_most(75),
            tenth_highest: at_most(90),
            hundredth_highest: at_most(99),
            maximum: at_most(100),
            mean: values.iter().map(|&value| value as f64).sum::<f64>() / values.len() as f64,
        }
    }
}

/// Statistics of a graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphSummary {
    /// Nodes, `V`.
    pub nodes: usize,
    /// Listed edges, `E`.
    pub edges: usize,
    /// Own edges, which have a matrix and a bias.
    pub own_edges: usize,
    /// The count from which an edge is an own edge.
    pub own_minimum: u32,
    /// `E / V²`: fraction of all possible edges that is listed.
    pub density: f64,
    /// Sum of the counts: tokens of the corpus that follow another, without edges that building left out.
    pub walks: u64,
    /// Edges from a node to itself.
    pub loops: usize,
    /// Edges with a count of 1.
    pub once: usize,
    /// Nodes without outgoing edges.
    pub without_exit: usize,
    /// Nodes without incoming edges.
    pub without_entry: usize,
    /// Nodes without any edge.
    pub isolated: usize,
    /// Distribution of outgoing edges per node.
    pub out_degree: Distribution,
    /// Distribution of incoming edges per node.
    pub in_degree: Distribution,
    /// Distribution of counts over edges.
    pub count: Distribution,
    /// Mean size of the fan of a token *of the corpus* (each node weighted by its count): the edges that a decoding
    /// step evaluates.
    pub walked_fan: f64,
    /// Mean static resistance of the edges of the training corpus, in nats per token. Held-out text has a higher one,
    /// because the counts come from the training corpus.
    pub walked_resistance: f64,
    /// Order of the two lists below.
    pub strength: Strength,
    /// The strongest edges, strongest first.
    pub strongest: Vec<EdgeSummary>,
    /// The weakest edges, weakest first.
    pub weakest: Vec<EdgeSummary>,
}

impl GraphSummary {
    /// Summarise a graph, with its `list` strongest and `list` weakest edges.
    ///
    /// # Complexity
    /// O(V log V + E log E), and the index of incoming edges.
    pub fn of(graph: &TokenGraph, list: usize, strength: Strength) -> Self {
        let nodes = || (0..graph.nodes() as u32).map(NodeId);
        let leaving = |node: NodeId| graph.row(node).len();
        let entering = |node: NodeId| graph.incoming().degree(node);
        let counts = graph.counts();
        let (mut fans, mut resistances, mut loops) = (0.0, 0.0, 0);
        for node in nodes() {
            let fan = graph.fan(node);
            loops += usize::from(fan.position(node.0).is_some());
            for (&count, &resistance) in fan.counts.iter().zip(fan.resistances) {
                fans += f64::from(count) * fan.len() as f64;
                resistances += f64::from(count) * f64::from(resistance);
            }
        }
        let walks: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        let all = || (0..graph.edges() as u32).map(EdgeId).collect::<Vec<_>>();
        let summaries = |edges: Vec<EdgeId>| {
            let each = edges
                .into_iter()
                .map(|edge| EdgeSummary::known(graph, edge));
            each.collect()
        };
        let ratio = |sum: f64, total: f64| if total > 0.0 { sum / total } else { 0.0 };
        Self {
            nodes: graph.nodes(),
            edges: graph.edges(),
            own_edges: graph.own_edges(),
            own_minimum: graph.own_minimum(),
            density: ratio(graph.edges() as f64, (graph.nodes() as f64).powi(2)),
            walks,
            loops,
            once: counts.iter().filter(|&&count| count == 1).count(),
            without_exit: nodes().filter(|&node| leaving(node) == 0).count(),
            without_entry: nodes().filter(|&node| entering(node) == 0).count(),
            isolated: nodes()
                .filter(|&node| leaving(node) + entering(node) == 0)
                .count(),
            out_degree: Distribution::of(nodes().map(|node| leaving(node) as u64)),
            in_degree: Distribution::of(nodes().map(|node| entering(node) as u64)),
            count: Distribution::of(counts.iter().map(|&count| u64::from(count))),
            walked_fan: ratio(fans, walks as f64),
            walked_resistance: ratio(resistances, walks as f64),
            strength,
            strongest: summaries(strength.strongest(graph, all(), list)),
            weakest: summaries(strength.weakest(graph, all(), list)),
        }
    }

    /// Add the texts of all nodes of the lists.
    pub fn name(&mut self, text: &dyn Fn(u32) -> String) {
        for edge in self.strongest.iter_mut().chain(&mut self.weakest) {
            edge.name(text);
        }
    }
}

/// Statistics of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSummary {
    /// Id of the node.
    pub node: u32,
    /// Text of the token, where [`NodeSummary::name`] was given a vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Outgoing edges.
    pub out_degree: usize,
    /// Incoming edges.
    pub in_degree: usize,
    /// Outgoing own edges.
    pub own_edges: usize,
    /// Sum of the counts of outgoing edges.
    pub walks_out: u64,
    /// Sum of the counts of incoming edges.
    pub walks_in: u64,
    /// Order of the lists below.
    pub strength: Strength,
    /// Strongest outgoing edges, strongest first.
    pub strongest_out: Vec<EdgeSummary>,
    /// Weakest listed outgoing edges, weakest first.
    pub weakest_out: Vec<EdgeSummary>,
    /// Strongest incoming edges, strongest first.
    pub strongest_in: Vec<EdgeSummary>,
    /// Weakest listed incoming edges, weakest first.
    pub weakest_in: Vec<EdgeSummary>,
}

impl NodeSummary {
    /// Summarise a node, with at most `list` edges in each list.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the graph has no such node.
    ///
    /// # Complexity
    /// O(F log V + list log list) over the edges at the node, and the index of incoming edges.
    pub fn of(graph: &TokenGraph, node: NodeId, list: usize, strength: Strength) -> Result<Self> {
        graph.check_node(node)?;
        let entering = graph.incoming().entering(node);
        let out: Vec<EdgeId> = graph.row(node).map(|edge| EdgeId(edge as u32)).collect();
        let into: Vec<EdgeId> = entering.edges.iter().copied().map(EdgeId).collect();
        let walks = |edges: &[EdgeId]| {
            let counts = edges.iter().map(|edge| graph.counts()[edge.index()]);
            counts.map(u64::from).sum()
        };
        let strongest = |edges: &[EdgeId]| strength.strongest(graph, edges.to_vec(), list);
        let weakest = |edges: &[EdgeId]| strength.weakest(graph, edges.to_vec(), list);
        let summaries = |edges: Vec<EdgeId>| {
            let each = edges
                .into_iter()
                .map(|edge| EdgeSummary::known(graph, edge));
            each.collect()
        };
        Ok(Self {
            node: node.0,
            text: None,
            out_degree: out.len(),
            in_degree: into.len(),
            own_edges: graph.own_slots(node).len(),
            walks_out: walks(&out),
            walks_in: walks(&into),
            strength,
            strongest_out: summaries(strongest(&out)),
            weakest_out: summaries(weakest(&out)),
            strongest_in: summaries(strongest(&into)),
            weakest_in: summaries(weakest(&into)),
        })
    }

    /// Add the texts of the node and of all nodes of the lists.
    pub fn name(&mut self, text: &dyn Fn(u32) -> String) {
        self.text = Some(text(self.node));
        let lists = [
            &mut self.strongest_out,
            &mut self.weakest_out,
            &mut self.strongest_in,
            &mut self.weakest_in,
        ];
        for edge in lists.into_iter().flatten() {
            edge.name(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let ten = Distribution::of(1..=10);
        assert_eq!((ten.minimum, ten.quarter, ten.median), (1, 3, 5));
        assert_eq!((ten.three_quarters, ten.tenth_highest), (8, 9));
        assert_eq!(
            (ten.hundredth_highest, ten.maximum, ten.mean),
            (10, 10, 5.5)
        );
        assert_eq!(Distribution::of([]), Distribution::default());
    }

    #[test]
    fn a_graph_is_summed_up() {
        let edges = [(0, 1, 6), (0, 2, 2), (1, 1, 1), (1, 0, 1), (4, 0, 3)];
        let mut graph = TokenGraph::from_edges(5, &edges).unwrap();
        graph.set_own_minimum(2);
        let summary = GraphSummary::of(&graph, 2, Strength::Count);
        assert_eq!((summary.nodes, summary.edges, summary.own_edges), (5, 5, 3));
        assert_eq!((summary.walks, summary.loops, summary.once), (13, 1, 2));
        assert_eq!(
            (
                summary.without_exit,
                summary.without_entry,
                summary.isolated
            ),
            (2, 2, 1)
        );
        // (6 + 2) walks saw a fan of 2, (1 + 1) a fan of 2, 3 a fan of 1.
        assert!((summary.walked_fan - 23.0 / 13.0).abs() < 1e-12);
        let ends = |edges: &[EdgeSummary]| -> Vec<_> {
            edges
                .iter()
                .map(|edge| (edge.source, edge.target))
                .collect()
        };
        assert_eq!(ends(&summary.strongest), [(0, 1), (4, 0)]);
        assert_eq!(
            summary.weakest.iter().map(|edge| edge.count).sum::<u32>(),
            2
        );

        let mut node = NodeSummary::of(&graph, NodeId(0), 1, Strength::Resistance).unwrap();
        node.name(&|node| format!("token {node}"));
        assert_eq!((node.out_degree, node.in_degree, node.own_edges), (2, 2, 2));
        assert_eq!((node.walks_out, node.walks_in), (8, 4));
        assert_eq!(ends(&node.strongest_out), [(0, 1)]);
        assert_eq!(ends(&node.weakest_out), [(0, 2)]);
        assert_eq!(ends(&node.strongest_in), [(4, 0)]);
        let json = serde_json::to_value(&node).unwrap();
        assert_eq!(json["strongest_out"][0]["target_text"], "token 1");
        assert_eq!(json["strength"], "resistance");
        assert!(EdgeSummary::of(&graph, EdgeId(5)).is_err());
        assert_eq!(EdgeSummary::of(&graph, EdgeId(4)).unwrap().source, 4);
        assert!(NodeSummary::of(&graph, NodeId(5), 1, Strength::Count).is_err());
    }

    #[test]
    fn an_empty_graph_has_no_infinite_number() {
        let graph = TokenGraph::from_edges(0, &[]).unwrap();
        let summary = GraphSummary::of(&graph, 3, Strength::Count);
        assert_eq!((summary.density, summary.walked_fan), (0.0, 0.0));
        assert!(summary.strongest.is_empty());
    }
}
