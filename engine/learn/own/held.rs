//! The rows of the edge weights that a process holds: all, or those of the pieces of fans that a rank owns.

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
    /// Held row of the first held edge of each node, and of the end; empty where every row is held. `[V + 1]`
    starts: Vec<u32>,
    /// What is added, wrapping, to the edge rows of each node to get held rows; `None` where the held edges of a node are
    /// not consecutive. `[V]`
    offsets: Vec<Option<u32>>,
    /// Ranges of the held edge rows, ascending.
    ranges: Vec<Range<usize>>,
    /// Held row of the first of each range.
    firsts: Vec<u32>,
}

impl HeldEdges {
    /// Hold the edges of all nodes.
    pub(super) fn all(graph: &TokenGraph) -> Self {
        Self {
            starts: Vec::new(),
            offsets: Vec::new(),
            ranges: std::iter::once(1..graph.own_edges() + 1).collect(),
            firsts: vec![1],
        }
    }

    /// Hold some of the edges of each node: `mine` returns ascending ranges within its own edges.
    pub(super) fn of(graph: &TokenGraph, mine: impl Fn(u32) -> Vec<Range<usize>>) -> Self {
        let mut held = Self {
            starts: Vec::with_capacity(graph.nodes() + 1),
            offsets: Vec::with_capacity(graph.nodes()),
            ranges: Vec::new(),
            firsts: Vec::new(),
        };
        let mut next = 1;
        for node in 0..graph.nodes() as u32 {
            held.starts.push(next as u32);
            let first = graph.own_slots(NodeId(node)).start;
            let before = held.ranges.len();
            for range in mine(node).into_iter().filter(|range| !range.is_empty()) {
                let range = first + range.start..first + range.end;
                held.firsts.push(next as u32);
                next += range.len();
                match held.ranges[before..].last_mut() {
                    // Pieces that follow one another are one range.
                    Some(last) if last.end == range.start => {
                        last.end = range.end;
                        held.firsts.pop();
                    }
                    _ => held.ranges.push(range),
                }
            }
            held.offsets.push(match &held.ranges[before..] {
                [] => Some(0),
                [one] => Some(held.firsts[before].wrapping_sub(one.start as u32)),
                _ => None,
            });
        }
        held.starts.push(next as u32);
        held
    }

    /// Return the held row of an edge of `source` that is held, by its edge row.
    pub(in crate::learn) fn row(&self, source: u32, edge_row: u32) -> usize {
        if edge_row == 0 || self.offsets.is_empty() {
            return edge_row as usize;
        }
        let offset = self.offsets[source as usize].unwrap_or_else(|| {
            let after = self
                .ranges
                .partition_point(|range| range.start <= edge_row as usize);
            let range = after.saturating_sub(1);
            self.firsts[range].wrapping_sub(self.ranges[range].start as u32)
        });
        edge_row.wrapping_add(offset) as usize
    }

    /// Return the held rows of the own edges of a node.
    pub(super) fn rows_of(&self, graph: &TokenGraph, node: u32) -> Range<usize> {
        match self.starts.get(node as usize..node as usize + 2) {
            Some(ends) => ends[0] as usize..ends[1] as usize,
            None => graph.own_slots(NodeId(node)),
        }
    }

    /// The ranges of edge rows held after the shared edge, ascending.
    pub(in crate::learn) fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
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
        let rows = 1 + self
            .ranges
            .iter()
            .map(ExactSizeIterator::len)
            .sum::<usize>();
        let mut value = vec![R::zero(); rows * columns];
        // Before the first write, which is when the system assigns pages.
        pages::prefer_large(&mut value);
        let mut rest = &mut value[..];
        for range in std::iter::once(&(0..1)).chain(&self.ranges) {
            let (values, after) = rest.split_at_mut(range.len() * columns);
            rest = after;
            let mut random = random.clone();
            random.skip((range.start * columns) as u64);
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

    /// Check that parts of the edges of a graph have the values that they have among all. `mine` is as in [`HeldEdges::of`],
    /// for each of three ranks.
    fn check(graph: &TokenGraph, mine: impl Fn(u32, usize) -> Vec<Range<usize>>) {
        let block = BlockShape {
            name: "edge.arena",
            rows: 1 + graph.own_edges(),
            columns: 3,
            narrows: true,
        };
        let begin = Random::stream(7, 1, 2);
        let mut after = begin.clone();
        let all: Parameter<f32> =
            HeldEdges::all(graph).parameter(&block, &mut after, Random::uniform);
        let mut held_rows = 0;
        for rank in 0..3 {
            let held = HeldEdges::of(graph, |node| mine(node, rank));
            let mut random = begin.clone();
            let part: Parameter<f32> = held.parameter(&block, &mut random, Random::uniform);
            assert_eq!(random, after, "the draws after it are the same");
            assert_eq!(part.row(0), all.row(0), "the shared edge");
            held_rows += part.shape[0] - 1;
            let mut next = 1;
            for node in 0..graph.nodes() as u32 {
                let slots = graph.own_slots(NodeId(node));
                assert_eq!(held.rows_of(graph, node).start, next);
                for range in mine(node, rank) {
                    for edge_row in slots.clone().skip(range.start).take(range.len()) {
                        let row = held.row(node, edge_row as u32);
                        assert_eq!(row, next, "held rows follow one another");
                        assert_eq!(part.row(row), all.row(edge_row), "edge row {edge_row}");
                        next += 1;
                    }
                }
                assert_eq!(held.rows_of(graph, node).end, next);
            }
            assert!(held.ranges().is_sorted_by(|a, b| a.end <= b.start));
            assert_eq!(part.gradient.len(), 3, "of the shared edge alone");
        }
        assert_eq!(held_rows, graph.own_edges());
    }

    #[test]
    fn a_part_has_the_values_that_it_has_among_all() {
        let edges: Vec<(u32, u32, u32)> = (0..9)
            .flat_map(|u| (0..u).map(move |v| (u, v, 1)))
            .collect();
        let mut graph = TokenGraph::from_edges(9, &edges).unwrap();
        graph.set_own_minimum(1);
        let whole = |node: u32, rank: usize| match node as usize % 3 == rank {
            true => std::iter::once(0..node as usize).collect(),
            false => Vec::new(),
        };
        check(&graph, whole);
        // Pieces of two edges, of which one rank may have several that do not follow one another.
        let cut = |node: u32, rank: usize| {
            let pieces = (0..node as usize).step_by(2);
            let mine = pieces.filter(|first| (node as usize + first / 2 * first) % 3 == rank);
            mine.map(|first| first..(first + 2).min(node as usize))
                .collect()
        };
        check(&graph, cut);
    }
}
