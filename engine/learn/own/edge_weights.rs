//! The gradient of every own edge: stored, or straight into the optimiser.

use rayon::prelude::*;

use super::fan::Group;
use super::{At, Own};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::adamw::Update;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::composed::Loss;
use crate::learn::parameter::Touched;
use crate::learn::prior::Prior;

impl<R: Real> Own<R> {
    /// The loss of a batch; leaves its gradient (of the mean over tokens) in the parameters.
    pub fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        let (loss, groups) = self.forward_and_back(graph, prior, batch);
        let columns = self.of(At::EdgeWeights).shape[1];
        let this = &*self;
        // A group owns the edges of its source, so tasks write disjoint rows.
        let parts: Vec<Vec<R>> = groups
            .par_iter()
            .map(|group| {
                let mut part = vec![R::zero(); group.edge_rows.len() * columns];
                for (index, gradient) in part.chunks_exact_mut(columns).enumerate() {
                    this.edge_gradient(group, batch, index, gradient);
                }
                part
            })
            .collect();
        let edge_weights = &mut self.parameters[At::EdgeWeights as usize];
        let mut touched = vec![0];
        for (group, part) in groups.iter().zip(parts) {
            for (&edge_row, gradient) in group.edge_rows.iter().zip(part.chunks_exact(columns)) {
                edge_weights
                    .gradient_row(edge_row as usize)
                    .copy_from_slice(gradient);
            }
            touched.extend_from_slice(&group.edge_rows);
        }
        edge_weights.touched = Touched::Rows(touched);
        loss
    }

    /// Learns from a batch in place: the own edges' gradients are never stored.
    ///
    /// `update` moves the arena; the caller moves every other parameter by the gradient left in it.
    /// With `clip`, gradients are scaled so that their norm is at most that; the norm is returned.
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
        let columns = self.of(At::EdgeWeights).shape[1];
        let this = &*self;
        // Clipping needs the norm of all gradients before any edge moves. Gradients of edges are formed twice:
        // storing them would take as much memory as the edge weights.
        let norm = clip.map(|_| {
            let edges: Vec<f64> = groups
                .par_iter()
                .map_init(
                    || vec![R::zero(); columns],
                    |gradient, group| {
                        let mut square = 0.0;
                        for index in 0..group.edge_rows.len() {
                            gradient.fill(R::zero());
                            this.edge_gradient(group, batch, index, gradient);
                            square += R::dot(gradient, gradient).wide();
                        }
                        square
                    },
                )
                .collect();
            // The stored gradient of the edge weights is that of the shared edge, its first row.
            let others: f64 = self
                .parameters
                .iter()
                .map(|parameter| match &*parameter.name {
                    "edge.arena" => R::dot(
                        &parameter.gradient[..columns],
                        &parameter.gradient[..columns],
                    )
                    .wide(),
                    _ => R::dot(&parameter.gradient, &parameter.gradient).wide(),
                })
                .sum();
            (edges.into_iter().sum::<f64>() + others).sqrt()
        });
        let scale = match (clip, norm) {
            (Some(limit), Some(norm)) if norm > limit => R::of(limit / norm),
            _ => R::one(),
        };
        // Taken out, so that tasks can read the paths and fans of `self` while they move edges.
        let mut value = std::mem::take(&mut self.parameters[At::EdgeWeights as usize].value);
        let shared = self.parameters[At::EdgeWeights as usize].gradient[..columns].to_vec();
        let (first, second) = moments;
        {
            let pieces = carve(&groups, graph, columns, &mut value, first, second);
            let this = &*self;
            let (mut tasks, head) = pieces;
            R::adamw(update, head.0, head.1, head.2, &shared, scale);
            tasks.par_iter_mut().for_each_init(
                || vec![R::zero(); columns],
                |gradient, (group, start, value, first, second)| {
                    for (index, &edge_row) in group.edge_rows.iter().enumerate() {
                        gradient.fill(R::zero());
                        this.edge_gradient(group, batch, index, gradient);
                        let at = (edge_row as usize - *start) * columns;
                        let range = at..at + columns;
                        let (value, first) = (&mut value[range.clone()], &mut first[range.clone()]);
                        R::adamw(update, value, first, &mut second[range], gradient, scale);
                    }
                },
            );
        }
        self.parameters[At::EdgeWeights as usize].value = value;
        (loss, norm)
    }

    /// The gradient of the `index`-th own edge of a group: by its energies and by the paths that walk it.
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

/// A group with the part of the arena and its moments that its own slots occupy, from slot `1`.
type Task<'a, 'g, R> = (&'g Group<R>, usize, &'a mut [R], &'a mut [R], &'a mut [R]);

/// A slice of the arena with both its moments.
type Piece<'a, R> = (&'a mut [R], &'a mut [R], &'a mut [R]);

/// Cuts the arena and its moments into the shared edge and one piece for each group.
fn carve<'a, 'g, R>(
    groups: &'g [Group<R>],
    graph: &TokenGraph,
    columns: usize,
    value: &'a mut [R],
    first: &'a mut [R],
    second: &'a mut [R],
) -> (Vec<Task<'a, 'g, R>>, Piece<'a, R>) {
    fn cut<'a, R>(piece: Piece<'a, R>, at: usize) -> (Piece<'a, R>, Piece<'a, R>) {
        let ((a, x), (b, y), (c, z)) = (
            piece.0.split_at_mut(at),
            piece.1.split_at_mut(at),
            piece.2.split_at_mut(at),
        );
        ((a, b, c), (x, y, z))
    }
    // Groups are sorted by source, and edge rows follow their sources: the pieces lie in order.
    let (head, mut rest) = cut((value, first, second), columns);
    let mut next = 1;
    let mut tasks = Vec::with_capacity(groups.len());
    for group in groups {
        let own = graph.own_slots(NodeId(group.source));
        if own.is_empty() {
            continue;
        }
        let (_, tail) = cut(rest, (own.start - next) * columns);
        let (piece, tail) = cut(tail, own.len() * columns);
        tasks.push((group, own.start, piece.0, piece.1, piece.2));
        next = own.end;
        rest = tail;
    }
    (tasks, head)
}
