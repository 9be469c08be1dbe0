//! The rows of the edge weights that a process holds: all, or those of the nodes that a rank owns.

use std::ops::Range;

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::pages;
use crate::kernel::random::Random;
use crate::kernel::real::Real;
use crate::learn::parameter::{Parameter, Touched};
use crate::signal::BlockShape;

/// Which edge rows are held, and where. The first held row is always the shared edge, edge row 0.
#[derive(Clone, Debug)]
pub(in crate::learn) struct HeldEdges {
    /// What is added, wrapping, to the edge rows of each node to get held rows; empty where every row is held.
    offsets: Vec<u32>,
    /// Edge rows of the held fans, ascending.
    fans: Vec<Range<usize>>,
}

impl HeldEdges {
    /// Hold the edges of all nodes.
    pub(super) fn all(graph: &TokenGraph) -> Self {
        Self {
            offsets: Vec::new(),
            fans: std::iter::once(1..graph.own_edges() + 1).collect(),
        }
    }

    /// Hold the edges of nodes that are `mine`.
    pub(super) fn of(graph: &TokenGraph, mine: impl Fn(u32) -> bool) -> Self {
        let (mut offsets, mut fans) = (Vec::with_capacity(graph.nodes()), Vec::new());
        let mut next = 1;
        for node in 0..graph.nodes() as u32 {
            let fan = graph.own_slots(NodeId(node));
            offsets.push((next as u32).wrapping_sub(fan.start as u32));
            if mine(node) && !fan.is_empty() {
                next += fan.len();
                fans.push(fan);
            }
        }
        Self { offsets, fans }
    }

    /// Return the held row of an edge of `source`, by its edge row.
    pub(in crate::learn) fn row(&self, source: u32, edge_row: u32) -> usize {
        match self.offsets.get(source as usize) {
            Some(&offset) if edge_row > 0 => edge_row.wrapping_add(offset) as usize,
            _ => edge_row as usize,
        }
    }

    /// The edge rows held after the shared edge, ascending.
    pub(in crate::learn) fn fans(&self) -> &[Range<usize>] {
        &self.fans
    }

    /// Create the edge weights. `draw` makes one value with one draw; a row has the values that it has among all rows.
    ///
    /// Where all rows are held, all have a gradient; else the shared edge alone, since those of a fan pass straight into the
    /// optimiser.
    pub(super) fn parameter<R: Real>(
        &self,
        block: &BlockShape,
        random: &mut Random,
        draw: impl Fn(&mut Random) -> f64,
    ) -> Parameter<R> {
        let columns = block.columns;
        let rows = 1 + self.fans.iter().map(ExactSizeIterator::len).sum::<usize>();
        let mut value = vec![R::zero(); rows * columns];
        // Before the first write, which is when the system assigns pages.
        pages::prefer_large(&mut value);
        let mut rest = &mut value[..];
        for fan in std::iter::once(&(0..1)).chain(&self.fans) {
            let (values, after) = rest.split_at_mut(fan.len() * columns);
            rest = after;
            let mut random = random.clone();
            random.skip((fan.start * columns) as u64);
            values.fill_with(|| R::of(draw(&mut random)));
        }
        random.skip((block.rows * columns) as u64);
        let gradient = match self.offsets.is_empty() {
            true => value.len(),
            false => columns,
        };
        Parameter {
            name: block.name.into(),
            shape: [rows, columns],
            value,
            gradient: vec![R::zero(); gradient],
            touched: Touched::All,
            decays: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_the_values_that_it_has_among_all() {
        let edges: Vec<(u32, u32, u32)> = (0..6)
            .flat_map(|u| (0..u).map(move |v| (u, v, 1)))
            .collect();
        let mut graph = TokenGraph::from_edges(6, &edges).unwrap();
        graph.set_own_minimum(1);
        let block = BlockShape {
            name: "edge.arena",
            rows: 1 + graph.own_edges(),
            columns: 3,
            narrows: true,
        };
        let begin = Random::stream(7, 1, 2);
        let mut after = begin.clone();
        let all: Parameter<f32> =
            HeldEdges::all(&graph).parameter(&block, &mut after, Random::uniform);
        let mut held_rows = 0;
        for rank in 0..3 {
            let held = HeldEdges::of(&graph, |node| node % 3 == rank);
            let mut random = begin.clone();
            let part: Parameter<f32> = held.parameter(&block, &mut random, Random::uniform);
            assert_eq!(random, after, "the draws after it are the same");
            assert_eq!(part.row(0), all.row(0), "the shared edge");
            held_rows += part.shape[0] - 1;
            for node in (rank..6).step_by(3) {
                for edge_row in graph.own_slots(NodeId(node)) {
                    let row = held.row(node, edge_row as u32);
                    assert_eq!(part.row(row), all.row(edge_row), "edge row {edge_row}");
                }
            }
            assert_eq!(part.gradient.len(), 3, "of the shared edge alone");
        }
        assert_eq!(held_rows, graph.own_edges());
    }
}
