//! PageRank: the fraction of time that an endless random walk spends at each node.
//!
//! Page, Brin, Motwani and Winograd (1999): with `d` the damping, `w(u,v)` the weight of an edge, `W(u)`
//! its sum over the fan of `u`, and `s` the total rank of nodes without a fan,
//!
//! ```text
//! r'(v) = (1 − d)/V + d s/V + d Σ_{u→v} r(u) w(u,v)/W(u)
//! ```
//!
//! petgraph's `page_rank` compares all pairs of nodes (ten seconds per iteration on a graph of 133,000 edges) and
//! omits the random jump along existing edges; the two agree at a damping of 1, where that jump has no weight.

use serde::{Deserialize, Serialize};

use crate::graph::{NodeId, TokenGraph};
use crate::{Error, ErrorKind, Result};

/// Weight of an edge in a [`PageRank`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankWeight {
    /// Equal weights: the structure of the graph alone.
    #[default]
    Alike,
    /// The count of the edge in the corpus.
    Count,
}

/// Settings of a PageRank computation.
///
/// ```
/// use brillm::graph::{PageRank, TokenGraph};
/// let graph = TokenGraph::from_edges(3, &[(0, 2, 1), (1, 2, 1), (2, 0, 1)])?;
/// let ranking = PageRank::default().of(&graph)?;
/// assert!(ranking.converged);
/// assert_eq!(ranking.highest(1)[0].0.index(), 2);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageRank {
    /// Probability, in `[0, 1]`, that a step follows an edge instead of jumping to a random node.
    pub damping: f64,
    /// Stop when the sum of absolute changes of an iteration is below this.
    pub tolerance: f64,
    /// Maximum number of iterations.
    pub iterations: usize,
    /// Weight of an edge.
    pub weight: RankWeight,
}

impl Default for PageRank {
    /// Damping 0.85, tolerance 1e-10, at most 200 iterations, equal weights.
    fn default() -> Self {
        Self {
            damping: 0.85,
            tolerance: 1e-10,
            iterations: 200,
            weight: RankWeight::Alike,
        }
    }
}

/// The ranks of all nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Rank of each node, in `[0, 1]`; the ranks sum to 1. `[V]`
    pub ranks: Vec<f64>,
    /// Number of iterations.
    pub iterations: usize,
    /// Sum of absolute changes of the last iteration.
    pub change: f64,
    /// Whether the last change was below the tolerance.
    pub converged: bool,
}

impl PageRank {
    /// Rank the nodes of a graph by power iteration.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the damping is not within `[0, 1]` or the tolerance is not a number.
    ///
    /// # Complexity
    /// O(V + E) per iteration, two f64 per node.
    pub fn of(&self, graph: &TokenGraph) -> Result<Ranking> {
        if !(0.0..=1.0).contains(&self.damping) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("invalid damping {}: expected 0 to 1", self.damping),
            )
            .at("PageRank")
            .advice("0.85 is usual"));
        }
        if self.tolerance.is_nan() {
            return Err(
                Error::new(ErrorKind::Input, "the tolerance is not a number").at("PageRank"),
            );
        }
        let nodes = graph.nodes();
        let mut ranking = Ranking {
            ranks: vec![1.0 / nodes.max(1) as f64; nodes],
            iterations: 0,
            change: 0.0,
            converged: nodes == 0,
        };
        let mut next = vec![0.0; nodes];
        while !ranking.converged && ranking.iterations < self.iterations {
            self.step(graph, &ranking.ranks, &mut next);
            ranking.change = ranking
                .ranks
                .iter()
                .zip(&next)
                .map(|(old, new)| (old - new).abs())
                .sum();
            std::mem::swap(&mut ranking.ranks, &mut next);
            ranking.iterations += 1;
            ranking.converged = ranking.change < self.tolerance;
        }
        Ok(ranking)
    }

    /// One iteration, from `ranks` to `next`, both `[V]`.
    fn step(&self, graph: &TokenGraph, ranks: &[f64], next: &mut [f64]) {
        next.fill(0.0);
        let mut stuck = 0.0;
        for (node, &rank) in ranks.iter().enumerate() {
            let fan = graph.fan(NodeId(node as u32));
            if fan.is_empty() {
                stuck += rank;
                continue;
            }
            match self.weight {
                RankWeight::Alike => {
                    let contribution = rank / fan.len() as f64;
                    for &target in fan.targets {
                        next[target as usize] += contribution;
                    }
                }
                RankWeight::Count => {
                    let total: f64 = fan.counts.iter().map(|&count| f64::from(count)).sum();
                    for (&target, &count) in fan.targets.iter().zip(fan.counts) {
                        next[target as usize] += rank * f64::from(count) / total;
                    }
                }
            }
        }
        let anywhere = (1.0 - self.damping + self.damping * stuck) / ranks.len() as f64;
        let mut total = 0.0;
        for rank in next.iter_mut() {
            *rank = anywhere + self.damping * *rank;
            total += *rank;
        }
        // The sum is 1 but for rounding, which would otherwise add up over the iterations.
        for rank in next.iter_mut() {
            *rank /= total;
        }
    }
}

impl Ranking {
    /// The `count` highest ranked nodes, highest first; ties go to the lower node. O(V log V).
    pub fn highest(&self, count: usize) -> Vec<(NodeId, f64)> {
        let mut order: Vec<(NodeId, f64)> = (0u32..)
            .map(NodeId)
            .zip(self.ranks.iter().copied())
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        order.truncate(count);
        order
    }

    /// The position of a node in the ranking, 1 for the highest; `None` for a node that is not ranked. O(V).
    pub fn position(&self, node: NodeId) -> Option<usize> {
        let rank = *self.ranks.get(node.index())?;
        let before = |(other, &value): (usize, &f64)| {
            value > rank || (value == rank && other < node.index())
        };
        Some(
            1 + self
                .ranks
                .iter()
                .enumerate()
                .filter(|&each| before(each))
                .count(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_has_the_ranks_that_pencil_and_paper_give() {
        // Leaves 1, 2, 3 point to 0, which has no fan: r0 = x, leaves y = (0.15 + 0.85 x)/4, x + 3y = 1.
        let graph = TokenGraph::from_edges(4, &[(1, 0, 1), (2, 0, 7), (3, 0, 1)]).unwrap();
        let ranking = PageRank::default().of(&graph).unwrap();
        let hub = (1.0 - 0.75 * 0.15) / (1.0 + 0.75 * 0.85);
        assert!((ranking.ranks[0] - hub).abs() < 1e-9);
        assert!((ranking.ranks[1] - (1.0 - hub) / 3.0).abs() < 1e-9);
        assert_eq!(ranking.position(NodeId(0)), Some(1));
        assert_eq!(ranking.position(NodeId(3)), Some(4));
        assert_eq!(ranking.position(NodeId(4)), None);
    }

    #[test]
    fn counts_weigh_when_asked_to() {
        let graph =
            TokenGraph::from_edges(3, &[(0, 1, 9), (0, 2, 1), (1, 0, 1), (2, 0, 1)]).unwrap();
        let page_rank = PageRank {
            weight: RankWeight::Count,
            ..PageRank::default()
        };
        let ranks = page_rank.of(&graph).unwrap().ranks;
        // r1 = 0.05 + 0.85 · 0.9 r0 and r2 = 0.05 + 0.85 · 0.1 r0.
        assert!((ranks[1] - 0.05 - 0.765 * ranks[0]).abs() < 1e-9);
        assert!((ranks[2] - 0.05 - 0.085 * ranks[0]).abs() < 1e-9);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let graph = TokenGraph::from_edges(1, &[]).unwrap();
        for damping in [-0.1, 1.1, f64::NAN] {
            let settings = PageRank {
                damping,
                ..PageRank::default()
            };
            assert_eq!(settings.of(&graph).unwrap_err().kind(), ErrorKind::Input);
        }
        let empty = TokenGraph::from_edges(0, &[]).unwrap();
        assert!(PageRank::default().of(&empty).unwrap().converged);
    }
}
