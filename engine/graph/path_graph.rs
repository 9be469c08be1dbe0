//! The path graph: what the counts of walks longer than an edge add to the static resistance.
//!
//! Interpolated modified Kneser-Ney smoothing of order n (Chen and Goodman 1999) predicts a target v from a context of
//! n − 1 nodes, and leaves a share λ to the context without its first node:
//!
//! ```text
//! p_n(v|h) = kept_n(v|h) + λ_n(h) p_{n−1}(v|h')
//! lift_n(h, v) = ln p_n(v|h) − ln λ_n(h) − ln p_{n−1}(v|h')     0 for targets that never followed h
//! ```
//!
//! In a softmax over targets ln λ cancels, so the logits of order N are those of order 2 plus the sum of the lifts of
//! order 3 to N: a step adds one short list of targets for each longer walk that the text contains. Leaving out an
//! entry sets its lift to 0, and the softmax normalises again.
//!
//! Below the highest order, Kneser-Ney counts the different nodes before an n-gram instead of its occurrences, so a
//! model with a path graph has other resistances of edges than one of order 2.

use std::iter;

use crate::graph::path_level::{BLOCKS, PathLevel, Walk};
use crate::graph::{Resistance, TokenGraph};
use crate::kernel::numbers::Numbers;
use crate::{Error, ErrorKind, Result};

/// How a [`PathGraph`] is estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathSettings {
    /// Highest order: nodes of the longest walk and its target together, 3 to 5.
    pub order: usize,
    /// Targets that followed a walk less often are left out.
    pub minimum_count: u32,
    /// Least gain of a target, in nats over the whole text: its discounted count times its lift.
    pub prune: f64,
    /// Whether lifts are stored in f32 instead of f16.
    pub exact: bool,
}

impl PathSettings {
    /// Settings of an order that leave nothing out.
    pub fn whole(order: usize) -> Self {
        Self {
            order,
            minimum_count: 1,
            prune: 0.0,
            exact: false,
        }
    }
}

/// Walks of two to four nodes as a trie, each with the targets that it predicts better than the walk one node shorter.
///
/// The parent of a walk is the walk without its first node; parents of walks of two nodes are the nodes of the
/// [`TokenGraph`]. [`TokenGraph::lifts`] sums what all walks that end at a node add to the logits.
///
/// ```
/// use brillm::graph::{GraphBuilder, PathGraph, PathSettings};
/// let text = [0, 1, 2, 3, 1, 4, 0, 1, 2, 3, 1, 4];
/// let mut builder = GraphBuilder::new(5);
/// builder.walk(text)?;
/// let graph = builder.build()?;
/// let paths = PathGraph::estimate(&graph, &text, &PathSettings::whole(3))?;
/// // After the walk 0 → 1 node 2 followed twice; after 1 alone, 2 and 4 followed equally often.
/// let walk = paths.walks(1, &[0], 3).next().unwrap();
/// assert_eq!((walk.length, walk.target(2).unwrap().1, walk.target(4)), (2, 2, None));
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PathGraph {
    /// Different nodes before each edge. `[E]`
    pub(super) continuations: Vec<u32>,
    /// The resistance of edges that follows from them.
    pub(super) resistance: Resistance,
    /// Walks of 2, 3 and 4 nodes.
    pub(super) levels: Vec<PathLevel>,
}

impl PathGraph {
    /// Highest supported order.
    pub const MAXIMUM_ORDER: usize = 5;

    /// Create a path graph from the continuation counts of the edges of `graph` and the levels of walks.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for another number of counts than edges, or no level or more than three.
    pub fn from_levels(
        graph: &TokenGraph,
        continuations: Vec<u32>,
        levels: Vec<PathLevel>,
    ) -> Result<Self> {
        let invalid = |what: String| Err(Error::new(ErrorKind::Format, what).at("path graph"));
        if continuations.len() != graph.edges() {
            let (found, edges) = (continuations.len(), graph.edges());
            return invalid(format!("{found} continuation counts for {edges} edges"));
        }
        if levels.is_empty() || levels.len() + 2 > Self::MAXIMUM_ORDER {
            return invalid(format!("{} levels of walks", levels.len()));
        }
        // Every edge of a graph was walked, so each is one continuation of its target.
        let resistance =
            Resistance::smoothed(graph.rows(), graph.targets(), &continuations, &|_| true);
        Ok(Self {
            continuations,
            resistance,
            levels,
        })
    }

    /// Drop the counts of walks, which only traces show.
    #[must_use]
    pub fn without_counts(mut self) -> Self {
        for level in &mut self.levels {
            level.counts = Numbers::default();
        }
        self
    }

    /// Highest order: nodes of the longest walk and its target together.
    pub fn order(&self) -> usize {
        self.levels.len() + 2
    }

    /// Number of different nodes before each edge. `[E]`
    pub fn continuations(&self) -> &[u32] {
        &self.continuations
    }

    /// The static resistance of edges, which the lifts of walks are added to.
    pub fn resistance(&self) -> &Resistance {
        &self.resistance
    }

    /// The walks of two nodes, then of three and of four.
    pub fn levels(&self) -> &[PathLevel] {
        &self.levels
    }

    /// Number of targets of all walks.
    pub fn entries(&self) -> usize {
        self.levels.iter().map(PathLevel::entries).sum()
    }

    /// Call `visit` with the name and the bytes of each block of a model file.
    pub(crate) fn each_block(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        visit("path.counts", bytemuck::cast_slice(&self.continuations));
        for (level, order) in self.levels.iter().zip(3..) {
            for (name, array) in BLOCKS.iter().zip(level.arrays()) {
                visit(&format!("path.{order}.{name}"), array.bytes());
            }
        }
    }

    /// Iterate over the walks that end at `node` with the nodes `earlier` before it (the last one nearest), shortest
    /// first, for resistances up to `order`. O(order · log V).
    pub fn walks<'a>(
        &'a self,
        node: u32,
        earlier: &'a [u32],
        order: usize,
    ) -> impl Iterator<Item = Walk<'a>> + 'a {
        let mut parent = node as usize;
        let mut before = earlier.iter().rev();
        let mut levels = self.levels[..order.clamp(2, self.order()) - 2]
            .iter()
            .zip(2..);
        iter::from_fn(move || {
            let (level, length) = levels.next()?;
            parent = level.child(parent, *before.next()?)?;
            Some(level.walk(parent, length))
        })
    }
}
