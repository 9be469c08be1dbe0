//! Static resistances for training: cross-fitted, so that a count never predicts itself.
//!
//! With the counts of the whole text, each training bigram would have been counted by the very resistance
//! that predicts it, and training would weigh the resistances too highly. So the text is cut into
//! blocks, each block belongs to one of `folds` folds, and a window of fold f is scored with resistances
//! from the counts of all the other folds. A finished model uses all counts (fold 0).
//!
//! With a path graph each fold has its own, estimated from the text of the other folds.

use crate::Result;
use crate::graph::{NodeId, PathGraph, PathSettings, Resistance, TokenGraph, Walk};
use crate::kernel::real::Real;
use rayon::prelude::*;
use std::sync::Arc;

/// Static resistances for the finished model (fold 0) and for each training fold (1 and up).
#[derive(Clone, Debug, Default)]
pub struct Prior<R> {
    /// −ln p1(v) by fold. `[1 + folds][V]`
    target: Vec<Vec<R>>,
    /// How far the log probability of an edge exceeds that of an edge without counts to the same target, by fold:
    /// `ln p(v|u) − ln λ(u) − ln p1(v)`, never negative. `[1 + folds][E]`
    lift: Vec<Vec<R>>,
    walks: Walks,
}

/// Walks longer than an edge, by fold; none for static resistances of order 2. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Walks {
    /// `[1 + folds]`
    paths: Arc<[PathGraph]>,
}

impl Walks {
    /// Iterate over targets with the lifts, in a fold, of each walk longer than an edge at the end of `walk`.
    pub fn lifts<'a>(
        &'a self,
        fold: usize,
        walk: &'a [u32],
    ) -> impl Iterator<Item = (u32, f32)> + 'a {
        self.ending(fold, walk).flat_map(Walk::lifts)
    }

    fn ending<'a>(&'a self, fold: usize, walk: &'a [u32]) -> impl Iterator<Item = Walk<'a>> + 'a {
        let (&source, earlier) = walk.split_last().expect("a walk has a node");
        let paths = self.paths.get(fold).into_iter();
        paths.flat_map(move |paths| paths.walks(source, earlier, paths.order()))
    }
}

impl<R: Real> Prior<R> {
    /// Compute the resistances of `graph`, and those without each fold of `held_out`.
    ///
    /// `held_out[f][e]` is how often fold f takes edge e of the graph.
    pub fn new(graph: &TokenGraph, held_out: &[Vec<u32>]) -> Self {
        let folds: Vec<(Vec<R>, Vec<R>)> = (0..=held_out.len())
            .into_par_iter()
            .map(|fold| match fold {
                // The finished model uses all counts.
                0 => split(graph, graph.resistance()),
                _ => {
                    // All counts less those of the fold: discounts and continuation counts are computed from the rest.
                    let counts: Vec<u32> = graph
                        .counts()
                        .iter()
                        .zip(&held_out[fold - 1])
                        .map(|(&all, &held)| all.saturating_sub(held))
                        .collect();
                    split(
                        graph,
                        &Resistance::kneser_ney(graph.rows(), graph.targets(), &counts),
                    )
                }
            })
            .collect();
        let (target, lift) = folds.into_iter().unzip();
        Self {
            target,
            lift,
            walks: Walks::default(),
        }
    }

    /// Compute the resistances of `graph`, which has a path graph, and those of the text without each fold.
    ///
    /// `others` returns the text without fold f.
    ///
    /// # Errors
    /// As [`PathGraph::estimate`].
    ///
    /// # Complexity
    /// That of [`PathGraph::estimate`] for each fold, one after the other.
    pub fn with_paths(
        graph: &TokenGraph,
        paths: &PathGraph,
        settings: &PathSettings,
        folds: usize,
        others: &dyn Fn(usize) -> Vec<u32>,
    ) -> Result<Self> {
        let mut all = vec![paths.clone()];
        // An estimate needs much more memory than its result, so there is one at a time.
        for fold in 1..=folds {
            let estimated = PathGraph::estimate(graph, &others(fold), settings)?;
            all.push(estimated.without_counts());
        }
        let (target, lift) = all
            .iter()
            .map(|paths| split(graph, paths.resistance()))
            .unzip();
        Ok(Self {
            target,
            lift,
            walks: Walks { paths: all.into() },
        })
    }

    /// Take resistances of the edges of `graph`, the full ones first, then those of each fold, with their path graphs.
    pub fn of_resistances(graph: &TokenGraph, all: Vec<(Resistance, Option<PathGraph>)>) -> Self {
        let (resistances, paths): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let split = |resistance: &Resistance| split(graph, resistance);
        let (target, lift) = resistances.iter().map(split).unzip();
        Self {
            target,
            lift,
            walks: Walks {
                paths: paths.into_iter().flatten().collect(),
            },
        }
    }

    /// Take the resistances of a finished model: those of edges for order 2, else with all walks of its path graph.
    pub fn of_model(graph: &TokenGraph, order: usize) -> Self {
        let (target, lift) = split(graph, graph.resistance_within(order));
        let paths = graph.paths().filter(|_| order > 2).cloned();
        Self {
            target: vec![target],
            lift: vec![lift],
            walks: Walks {
                paths: paths.into_iter().collect(),
            },
        }
    }

    /// Highest order of the resistances: 2 for those of edges alone.
    pub fn order(&self) -> usize {
        self.walks.paths.first().map_or(2, PathGraph::order)
    }

    /// The walks longer than an edge.
    pub fn walks(&self) -> &Walks {
        &self.walks
    }

    /// Number of folds besides the full one.
    pub fn folds(&self) -> usize {
        self.target.len() - 1
    }

    /// Return −ln p1(v) in a fold. `[V]`
    pub fn target(&self, fold: usize) -> &[R] {
        &self.target[fold]
    }

    /// Iterate over targets with the lifts, in a fold, of the edge from the last node of `walk` and of each longer walk
    /// at its end, as [`TokenGraph::lifts`] does for a finished model.
    pub fn lifts<'a>(
        &'a self,
        graph: &'a TokenGraph,
        fold: usize,
        walk: &'a [u32],
    ) -> impl Iterator<Item = (u32, R)> + 'a {
        let source = walk[walk.len() - 1];
        let edges = graph.row(NodeId(source));
        let targets = graph.targets()[edges.clone()].iter().copied();
        let edges = targets.zip(self.lift[fold][edges].iter().copied());
        let longer = self.walks.lifts(fold, walk);
        edges.chain(longer.map(|(target, lift)| (target, R::of(f64::from(lift)))))
    }

    /// Return the sum of the lifts of one target at the end of `walk` in a fold.
    pub fn lift_of(&self, graph: &TokenGraph, fold: usize, walk: &[u32], target: u32) -> R {
        let source = walk[walk.len() - 1];
        let edge = graph.edge(NodeId(source), NodeId(target));
        let edge = edge.map_or(R::zero(), |edge| self.lift[fold][edge.index()]);
        self.walks.ending(fold, walk).fold(edge, |sum, walk| {
            let lift = walk.target(target).map_or(0.0, |(lift, _)| lift);
            sum + R::of(f64::from(lift))
        })
    }

    /// Return the lifts of all edges in a fold. `[E]`
    pub fn lift(&self, fold: usize) -> &[R] {
        &self.lift[fold]
    }
}

fn split<R: Real>(graph: &TokenGraph, resistance: &Resistance) -> (Vec<R>, Vec<R>) {
    let mut lift = Vec::with_capacity(graph.edges());
    for node in 0..graph.nodes() as u32 {
        for edge in graph.row(NodeId(node)) {
            let target = graph.targets()[edge];
            lift.push(R::of(f64::from(resistance.lift(node, target, edge))));
        }
    }
    (
        resistance
            .target()
            .iter()
            .map(|&value| R::of(f64::from(value)))
            .collect(),
        lift,
    )
}
