//! Edges without context, as the map and the node screen list them.

use crate::graph::{EdgeId, TokenGraph};

/// An edge with its static probability.
#[derive(Clone, Copy)]
pub(super) struct StaticEdge {
    pub(super) id: EdgeId,
    pub(super) source: u32,
    pub(super) target: u32,
    pub(super) probability: f64,
}

impl StaticEdge {
    pub(super) fn new(graph: &TokenGraph, id: EdgeId, source: u32) -> Self {
        Self {
            id,
            source,
            target: graph.targets()[id.index()],
            probability: (-f64::from(graph.resistance().seen()[id.index()])).exp(),
        }
    }

    pub(super) fn is_own(&self, graph: &TokenGraph) -> bool {
        graph.edge_rows()[self.id.index()] > 0
    }

    /// The kind of the edge as the visualiser names it.
    pub(super) fn kind(&self, graph: &TokenGraph) -> &'static str {
        if self.is_own(graph) { "own" } else { "seen" }
    }
}

/// Move the `count` most probable edges to the front, sorted, and return the rest.
pub(super) fn split_strongest(edges: &mut Vec<StaticEdge>, count: usize) -> Vec<StaticEdge> {
    edges.sort_by(|a, b| {
        let order = b.probability.total_cmp(&a.probability);
        order.then(a.id.cmp(&b.id))
    });
    edges.split_off(count.min(edges.len()))
}
