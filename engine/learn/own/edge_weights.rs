//! Gradients of own edges: stored, or straight into the optimiser.

use std::ops::Range;

use rayon::prelude::*;

use super::fan::Group;
use super::{At, HeldEdges, Own};
use crate::graph::TokenGraph;
use crate::kernel::adamw::Update;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::batch::Loss;
use crate::learn::parameter::Touched;
use crate::learn::prior::Prior;

impl<R: Real> Own<R> {
    /// Compute the loss of a batch and leave its gradient (of the mean over tokens) in the parameters.
    pub fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        let (loss, groups) = self.forward_and_back(graph, prior, batch);
        let columns = self.of(At::EdgeWeights).shape[1];
        let this = &*self;
        // A group owns the edges of its source, so tasks write disjoint rows.
        let gradients: Vec<Vec<R>> = groups
            .par_iter()
            .map(|group| {
                let mut gradients = vec![R::zero(); group.edge_rows.len() * columns];
                for (index, gradient) in gradients.chunks_exact_mut(columns).enumerate() {
                    this.edge_gradient(group, batch, index, gradient);
                }
                gradients
            })
            .collect();
        let edge_weights = &mut self.parameters[At::EdgeWeights as usize];
        // Every batch has a gradient for row 0, the shared edge.
        let mut touched = vec![0];
        for (group, gradients) in groups.iter().zip(gradients) {
            let rows = group.edge_rows.iter().zip(gradients.chunks_exact(columns));
            for (&edge_row, gradient) in rows {
                edge_weights
                    .gradient_row(edge_row as usize)
                    .copy_from_slice(gradient);
            }
            touched.extend_from_slice(&group.edge_rows);
        }
        edge_weights.touched = Touched::Rows(touched);
        loss
    }

    /// Take a step: moves the edge weights by `update`, without storing the gradients of own edges.
    ///
    /// The caller moves every other parameter by the gradient left in it. With `clip`, gradients are scaled so that
    /// their norm is at most that; returns the loss and, with `clip`, the norm before scaling.
    pub fn learn(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        update: &Update<R>,
        moments: (&mut [R], &mut [R]),
        clip: Option<f64>,
    ) -> (Loss, Option<f64>) {
        let (loss, groups) = self.forward_and_back(graph, prior, batch);
        // Clipping needs the norm of all gradients before any edge moves. Gradients of edges are formed twice:
        // storing them would take as much memory as the edge weights.
        let norm = clip.map(|_| self.gradient_norm(&groups, batch));
        let scale = match (clip, norm) {
            (Some(limit), Some(norm)) if norm > limit => R::of(limit / norm),
            _ => R::one(),
        };
        self.move_edges(&groups, graph, batch, update, moments, scale);
        (loss, norm)
    }

    /// Move the shared edge and the own edges of all groups by their gradients times `scale`.
    pub(super) fn move_edges(
        &mut self,
        groups: &[Group<R>],
        graph: &TokenGraph,
        batch: &Batch,
        update: &Update<R>,
        (first, second): (&mut [R], &mut [R]),
        scale: R,
    ) {
        let columns = self.of(At::EdgeWeights).shape[1];
        // Taken out, so that tasks can read the paths and fans of `self` while they move edges.
        let mut value = std::mem::take(&mut self.parameters[At::EdgeWeights as usize].value);
        let rows = (&mut value[..], first, second);
        let (shared, mut tasks) = carve(groups, graph, &self.held, columns, rows);
        let this = &*self;
        // All tasks use the shared edge: its gradient is summed already, and it moves here.
        let gradient = &this.of(At::EdgeWeights).gradient[..columns];
        R::adamw(update, shared.0, shared.1, shared.2, gradient, scale);
        tasks.par_iter_mut().for_each_init(
            || vec![R::zero(); columns],
            |gradient, (group, start, (value, first, second))| {
                for (index, &edge_row) in group.edge_rows.iter().enumerate() {
                    gradient.fill(R::zero());
                    this.edge_gradient(group, batch, index, gradient);
                    // Rows of a task are counted from the first held row of its node.
                    let at = (this.held.row(group.source, edge_row) - *start) * columns;
                    let range = at..at + columns;
                    let (value, first) = (&mut value[range.clone()], &mut first[range.clone()]);
                    R::adamw(update, value, first, &mut second[range], gradient, scale);
                }
            },
        );
        self.parameters[At::EdgeWeights as usize].value = value;
    }

    /// Move the held edges that are in no group by their momentum.
    pub(super) fn move_others(
        &mut self,
        groups: &[Group<R>],
        update: &Update<R>,
        (first, second): (&mut [R], &mut [R]),
        scale: R,
    ) {
        let [rows, columns] = self.of(At::EdgeWeights).shape;
        let mut moved = vec![false; rows];
        moved[0] = true;
        for group in groups {
            for &edge_row in &group.edge_rows {
                moved[self.held.row(group.source, edge_row)] = true;
            }
        }
        let gradient = vec![R::zero(); columns];
        let value = &mut self.parameters[At::EdgeWeights as usize].value;
        value
            .par_chunks_mut(columns)
            .zip(first.par_chunks_mut(columns))
            .zip(second.par_chunks_mut(columns))
            .zip(&moved)
            .filter(|&(_, &moved)| !moved)
            .for_each(|(((value, first), second), _)| {
                R::adamw(update, value, first, second, &gradient, scale);
            });
    }

    /// Return the norm of the whole gradient, summed group by group so that threads do not matter.
    fn gradient_norm(&self, groups: &[Group<R>], batch: &Batch) -> f64 {
        let columns = self.of(At::EdgeWeights).shape[1];
        let square = |values: &[R]| R::dot(values, values).wide();
        let of_group = |gradient: &mut Vec<R>, group: &Group<R>| {
            self.edge_squares(group, 0..group.edge_rows.len(), batch, gradient)
        };
        let edges: Vec<f64> = groups
            .par_iter()
            .map_init(|| vec![R::zero(); columns], of_group)
            .collect();
        // The stored gradient of the edge weights is that of the shared edge, their first row.
        let others = self.parameters.iter().map(|parameter| {
            let edges = parameter.name == "edge.arena";
            let stored = if edges {
                columns
            } else {
                parameter.gradient.len()
            };
            square(&parameter.gradient[..stored])
        });
        (edges.into_iter().sum::<f64>() + others.sum::<f64>()).sqrt()
    }

    /// Return the squared norm of the gradients of some of a group's own edges. `gradient` is a buffer of one edge.
    pub(super) fn edge_squares(
        &self,
        group: &Group<R>,
        edges: Range<usize>,
        batch: &Batch,
        gradient: &mut [R],
    ) -> f64 {
        let edges = edges.map(|index| {
            gradient.fill(R::zero());
            self.edge_gradient(group, batch, index, gradient);
            R::dot(gradient, gradient).wide()
        });
        edges.sum()
    }

    /// Add the gradient of the `index`-th own edge of a group.
    fn edge_gradient(&self, group: &Group<R>, batch: &Batch, index: usize, gradient: &mut [R]) {
        let (d, n) = (self.profile.width, group.rows.len());
        let d_z = &group.d_z(&self.fans)[(1 + index) * n * d..(2 + index) * n * d];
        // As a candidate: every prediction of the source gives its energy a gradient.
        R::fan_edge_backward(&group.signals, d_z, d, gradient);
        // As a hop: the sequences that took this edge send a gradient back through it.
        for &row in &group.rows {
            let row = row as usize;
            if self.path.edge_rows[row] == group.edge_rows[index]
                && row % batch.steps + 1 < batch.steps
            {
                let input = &self.path.input[row * d..(row + 1) * d];
                let d_z = &self.path.d_before[(row + 1) * d..(row + 2) * d];
                R::fan_edge_backward(input, d_z, d, gradient);
            }
        }
    }
}

/// Rows of the edge weights with both their moments.
type Rows<'a, R> = (&'a mut [R], &'a mut [R], &'a mut [R]);

/// A group with its first held row and the rows of its own edges.
type Task<'a, 'g, R> = (&'g Group<R>, usize, Rows<'a, R>);

/// Split the edge weights and their moments into the shared row and the rows of each group.
fn carve<'a, 'g, R>(
    groups: &'g [Group<R>],
    graph: &TokenGraph,
    held: &HeldEdges,
    columns: usize,
    rows: Rows<'a, R>,
) -> (Rows<'a, R>, Vec<Task<'a, 'g, R>>) {
    fn cut<R>(rows: Rows<'_, R>, at: usize) -> (Rows<'_, R>, Rows<'_, R>) {
        let (a, x) = rows.0.split_at_mut(at);
        let (b, y) = rows.1.split_at_mut(at);
        let (c, z) = rows.2.split_at_mut(at);
        ((a, b, c), (x, y, z))
    }
    // Groups are sorted by source, and held rows follow their sources: the stretches lie in order.
    let (shared, mut rest) = cut(rows, columns);
    let mut next = 1;
    let mut tasks = Vec::with_capacity(groups.len());
    for group in groups {
        let own = held.rows_of(graph, group.source);
        if own.is_empty() {
            continue;
        }
        let (_, tail) = cut(rest, (own.start - next) * columns);
        let (rows, tail) = cut(tail, own.len() * columns);
        tasks.push((group, own.start, rows));
        next = own.end;
        rest = tail;
    }
    (shared, tasks)
}
