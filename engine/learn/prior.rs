//! Static resistances for training: cross-fitted, so that a count never predicts itself.
//!
//! With the counts of the whole text, each training bigram would have been counted by the very resistance
//! that predicts it, and training would weigh the resistances too highly. So the text is cut into
//! blocks, each block belongs to one of `folds` folds, and a window of fold f is scored with resistances
//! from the counts of all the other folds. A finished model uses all counts (fold 0).

use crate::graph::{NodeId, Resistance, TokenGraph};
use crate::kernel::real::Real;
use rayon::prelude::*;

/// Static resistances for the finished model (fold 0) and for each training fold (1 and up).
#[derive(Clone, Debug, Default)]
pub struct Prior<R> {
    /// −ln p1(v) by fold. `[1 + folds][V]`
    target: Vec<Vec<R>>,
    /// How far the log probability of an edge exceeds that of an edge without counts to the same target, by fold:
    /// `ln p(v|u) − ln λ(u) − ln p1(v)`, never negative. `[1 + folds][E]`
    lift: Vec<Vec<R>>,
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
        Self { target, lift }
    }

    /// Number of folds besides the full one.
    pub fn folds(&self) -> usize {
        self.target.len() - 1
    }

    /// Return −ln p1(v) in a fold. `[V]`
    pub fn target(&self, fold: usize) -> &[R] {
        &self.target[fold]
    }

    /// Return the targets of `source` with the lift of their edges in a fold.
    pub fn lifts<'a>(
        &'a self,
        graph: &'a TokenGraph,
        fold: usize,
        source: u32,
    ) -> impl Iterator<Item = (u32, R)> + 'a {
        let edges = graph.row(NodeId(source));
        let targets = graph.targets()[edges.clone()].iter().copied();
        targets.zip(self.lift[fold][edges].iter().copied())
    }

    /// Return the lifts of all edges in a fold. `[E]`
    pub fn lift(&self, fold: usize) -> &[R] {
        &self.lift[fold]
    }
}

fn split<R: Real>(graph: &TokenGraph, resistance: &Resistance) -> (Vec<R>, Vec<R>) {
    let mut lift = Vec::with_capacity(graph.edges());
    for node in 0..graph.nodes() {
        let source = resistance.source()[node];
        for edge in graph.row(NodeId(node as u32)) {
            // Without counts, an edge has the resistance of its source plus that of its target.
            let unseen = source + resistance.target()[graph.targets()[edge] as usize];
            lift.push(R::of(f64::from(unseen - resistance.seen()[edge])));
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
