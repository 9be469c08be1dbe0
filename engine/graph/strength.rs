//! Order of edges by strength.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::graph::{EdgeId, TokenGraph};

/// Measure of the strength of an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// Less static resistance: the target is more probable after the source. Ties go to the higher count.
    #[default]
    Resistance,
    /// A higher count in the corpus. Ties go to the lower resistance.
    Count,
}

impl Strength {
    /// Compare two edges, stronger first; ties of both measures go to the lower edge.
    pub fn compare(self, graph: &TokenGraph, a: EdgeId, b: EdgeId) -> Ordering {
        let resistances = graph.resistance().seen();
        let by_resistance = resistances[a.index()].total_cmp(&resistances[b.index()]);
        let by_count = graph.counts()[b.index()].cmp(&graph.counts()[a.index()]);
        match self {
            Self::Resistance => by_resistance.then(by_count),
            Self::Count => by_count.then(by_resistance),
        }
        .then(a.cmp(&b))
    }

    /// Select the `count` strongest of `edges`, strongest first. O(E + count log count).
    pub fn strongest(self, graph: &TokenGraph, edges: Vec<EdgeId>, count: usize) -> Vec<EdgeId> {
        first(edges, count, |a, b| self.compare(graph, *a, *b))
    }

    /// Select the `count` weakest of `edges`, weakest first. O(E + count log count).
    pub fn weakest(self, graph: &TokenGraph, edges: Vec<EdgeId>, count: usize) -> Vec<EdgeId> {
        first(edges, count, |a, b| self.compare(graph, *b, *a))
    }
}

/// Select the first `count` of `edges` in an order, sorted.
fn first(
    mut edges: Vec<EdgeId>,
    count: usize,
    order: impl Fn(&EdgeId, &EdgeId) -> Ordering,
) -> Vec<EdgeId> {
    if count < edges.len() {
        if count > 0 {
            edges.select_nth_unstable_by(count - 1, &order);
        }
        edges.truncate(count);
    }
    edges.sort_unstable_by(order);
    edges
}
