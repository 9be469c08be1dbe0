//! Energies and loss of a batch: rows grouped by source, one product over each own edge of a group.

use rayon::prelude::*;

use super::softmax::Prediction;
use super::{At, Own};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::pages;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::prior::Prior;
use crate::signal::EnergyKind;

/// The rows of one source node in a batch, with their gradients.
pub(super) struct Group<R> {
    pub(super) source: u32,
    pub(super) rows: Vec<u32>,
    /// Own edge rows scored, ascending.
    pub(super) edge_rows: Vec<u32>,
    /// Signals with dropout applied. `[n, D]`
    pub(super) signals: Vec<R>,
    /// Offset of its stretch of [`Own::fans`].
    pub(super) at: usize,
    /// Gradients of the signals. `[n, D]`
    pub(super) d_signals: Vec<R>,
    pub(super) d_prior_weight: R,
    pub(super) d_bias: Vec<R>,
    pub(super) d_log_alpha: R,
    pub(super) nats: f64,
}

impl<R: Real> Group<R> {
    /// Return the gradients of the pre-activations of the shared edge, then of each own edge. `[1 + F, n, D]`
    pub(super) fn d_z<'f>(&self, fans: &'f [R]) -> &'f [R] {
        &fans[self.at..self.at + (1 + self.edge_rows.len()) * self.signals.len()]
    }
}

impl<R: Real> Own<R> {
    /// Compute energies, softmax and, if `learn`, the gradients into the fan of every source.
    pub(super) fn logit(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        learn: bool,
    ) -> Vec<Group<R>> {
        let order = rows_by_source(batch, |_| true);
        let groups: Vec<&[(u32, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let scoring = self.scoring(graph, prior, batch, learn);
        let edges: Vec<Vec<(u32, u32)>> = groups
            .par_iter()
            .map(|rows| scored_edges(graph, batch, rows))
            .collect();
        let lengths = groups.iter().zip(&edges);
        let lengths: Vec<usize> = lengths
            .map(|(rows, edges)| (1 + edges.len()) * rows.len() * self.profile.width)
            .collect();
        let mut fans = self.take_fans(lengths.iter().sum());
        let this = &*self;
        let scored = stretches(&mut fans, &lengths)
            .into_par_iter()
            .zip(groups)
            .zip(edges)
            .map(|((stretch, rows), edges)| this.logit_group(&scoring, rows, &edges, stretch))
            .collect();
        self.fans = fans;
        scored
    }

    /// Return what all groups of a batch are scored with.
    pub(super) fn scoring<'a>(
        &self,
        graph: &'a TokenGraph,
        prior: &'a Prior<R>,
        batch: &'a Batch,
        learn: bool,
    ) -> Scoring<'a, R> {
        let steps = 0..batch.steps;
        Scoring {
            graph,
            prior,
            batch,
            table: steps.map(|hop| self.position_row(hop)).collect(),
            learn,
        }
    }

    /// Take out the buffer of all groups, of `total` numbers at least. It is kept between batches: fresh pages cost more than
    /// the arithmetic.
    pub(super) fn take_fans(&mut self, total: usize) -> Vec<R> {
        let mut fans = std::mem::take(&mut self.fans);
        if fans.len() < total {
            fans = Vec::new();
            // A quarter more, so that the next batches fit as well.
            fans.resize(total + total / 4, R::zero());
            pages::prefer_large(&mut fans);
        }
        fans
    }

    /// Compute the energies of one group, the loss of its rows and, if `learn`, the gradients into its fan.
    fn logit_group(
        &self,
        scoring: &Scoring<'_, R>,
        rows: &[(u32, u32)],
        edges: &[(u32, u32)],
        (at, d_z): (usize, &mut [R]),
    ) -> Group<R> {
        let (batch, learn) = (scoring.batch, scoring.learn);
        let (d, n) = (self.profile.width, rows.len());
        let mut group = self.gather(rows, edges, at, learn);
        let base = scoring.base(&group.rows);
        // One product per edge over all rows of the group; slopes u = c ⊙ GELU'(z) stay in `d_z`.
        let squared = self.profile.energy == EnergyKind::Squared;
        let mut energies = vec![R::zero(); (1 + edges.len()) * n];
        let edge_rows = std::iter::once(0).chain(edges.iter().map(|&(edge_row, _)| edge_row));
        for ((edge_row, slopes), energies) in edge_rows
            .zip(d_z.chunks_exact_mut(n * d))
            .zip(energies.chunks_exact_mut(n))
        {
            let edge = self.edge(group.source, edge_row);
            R::fan_forward(&group.signals, &base, edge, squared, slopes, energies);
        }
        let scale = R::one() / R::of((batch.sequences() * batch.steps) as f64);
        for index in 0..n {
            let row = group.rows[index] as usize;
            let (sequence, step) = (row / batch.steps, row % batch.steps);
            let column = energies.iter().skip(index).step_by(n);
            let prediction = Prediction {
                graph: scoring.graph,
                prior: scoring.prior,
                source: group.source,
                walk: batch.walk(sequence, step),
                next: batch.sequence(sequence)[step + 1],
                fold: batch.folds[sequence] as usize,
                edges,
                energies: &column.copied().collect::<Vec<R>>(),
                candidates: batch.candidates.as_ref().map(|sampled| sampled.of(row)),
                scale: learn.then_some(scale),
            };
            let slopes = self.softmax_row(&prediction, batch, &mut group);
            // Energies become the factors of u in dz: dE / E, or 2 dE of squared energies.
            for (edge, slope) in slopes.into_iter().enumerate() {
                let energy = &mut energies[edge * n + index];
                *energy = factor(squared, slope, *energy);
            }
        }
        if learn {
            self.signals_backward(&mut group, &energies, d_z);
        }
        group
    }

    /// Turn slopes into `dz = factor · u` and add `dz Wᵀ` of every edge to the gradient of the group's signals.
    ///
    /// `factors [1 + F, n]`, `d_z [1 + F, n, D]`.
    fn signals_backward(&self, group: &mut Group<R>, factors: &[R], d_z: &mut [R]) {
        let (d, n) = (self.profile.width, group.rows.len());
        let mut scratch = vec![R::zero(); d * d];
        let edge_rows = std::iter::once(0).chain(group.edge_rows.iter().copied());
        let edges = d_z.chunks_exact_mut(n * d).zip(factors.chunks_exact(n));
        for (edge_row, (d_z, factors)) in edge_rows.zip(edges) {
            let edge = self.edge(group.source, edge_row);
            edge_signals_backward(edge, factors, d_z, &mut scratch, &mut group.d_signals);
        }
    }

    /// Gather the signals of one source's rows, with dropout applied.
    pub(super) fn gather(
        &self,
        rows: &[(u32, u32)],
        edges: &[(u32, u32)],
        at: usize,
        learn: bool,
    ) -> Group<R> {
        let d = self.profile.width;
        let mut signals = Vec::with_capacity(rows.len() * d);
        for &(_, row) in rows {
            let at = row as usize * d..(row as usize + 1) * d;
            let masked = self.path.input[at.clone()].iter().zip(&self.path.mask[at]);
            signals.extend(masked.map(|(&x, &m)| x * m));
        }
        let zeros = |count: usize| vec![R::zero(); if learn { count } else { 0 }];
        Group {
            source: rows[0].0,
            rows: rows.iter().map(|&(_, row)| row).collect(),
            edge_rows: edges.iter().map(|&(edge_row, _)| edge_row).collect(),
            d_signals: zeros(signals.len()),
            signals,
            at,
            d_prior_weight: R::zero(),
            d_bias: zeros(self.of(At::Bias).value.len()),
            d_log_alpha: R::zero(),
            nats: 0.0,
        }
    }
}

/// What all groups of a batch are scored with.
pub(super) struct Scoring<'a, R> {
    pub(super) graph: &'a TokenGraph,
    pub(super) prior: &'a Prior<R>,
    pub(super) batch: &'a Batch,
    /// Position row of each step. `[T][D]`
    table: Vec<Vec<R>>,
    pub(super) learn: bool,
}

impl<R: Real> Scoring<'_, R> {
    /// Return the position rows of some rows of the batch. `[n, D]`
    pub(super) fn base(&self, rows: &[u32]) -> Vec<R> {
        let rows = rows.iter();
        let table = rows.flat_map(|&row| &self.table[row as usize % self.batch.steps]);
        table.copied().collect()
    }
}

/// Return the sources that are `mine` of a batch, each with its rows. Sorting by source brings the rows of a fan together; by
/// row within it, so the order is fixed.
pub(super) fn rows_by_source(batch: &Batch, mine: impl Fn(u32) -> bool) -> Vec<(u32, u32)> {
    let steps = batch.steps;
    let mut order: Vec<(u32, u32)> = (0..batch.sequences())
        .flat_map(|b| (0..steps).map(move |i| (batch.sequence(b)[i], (b * steps + i) as u32)))
        .filter(|&(source, _)| mine(source))
        .collect();
    order.sort_unstable();
    order
}

/// Divide a buffer into stretches of some lengths, each with its offset.
pub(super) fn stretches<'a, R>(
    mut buffer: &'a mut [R],
    lengths: &[usize],
) -> Vec<(usize, &'a mut [R])> {
    let mut at = 0;
    let mut all = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let (stretch, rest) = buffer.split_at_mut(length);
        all.push((at, stretch));
        (at, buffer) = (at + length, rest);
    }
    all
}

/// Return the factor of u in dz, given the gradient of an energy: dE / E, or 2 dE of squared energies.
pub(super) fn factor<R: Real>(squared: bool, slope: R, energy: R) -> R {
    if squared {
        slope + slope
    } else if energy > R::zero() {
        slope / energy
    } else {
        R::zero()
    }
}

/// Turn the slopes of one edge into `dz = factor · u`, and add `dz Wᵀ` to the gradient of the signals.
///
/// `factors [n]`, `d_z [n, D]`, `d_signals [n, D]`; `scratch` holds D² numbers.
pub(super) fn edge_signals_backward<R: Real>(
    edge: &[R],
    factors: &[R],
    d_z: &mut [R],
    scratch: &mut [R],
    d_signals: &mut [R],
) {
    let d = d_z.len() / factors.len();
    for (row, &factor) in d_z.chunks_exact_mut(d).zip(factors) {
        R::scale(factor, row);
    }
    R::fan_signals_backward(d_z, edge, scratch, d, d_signals);
}

/// Return the own edge rows and targets that the rows of one source are scored with, ascending.
pub(super) fn scored_edges(
    graph: &TokenGraph,
    batch: &Batch,
    rows: &[(u32, u32)],
) -> Vec<(u32, u32)> {
    let own = graph.own_fan(NodeId(rows[0].0));
    let mut edges: Vec<(u32, u32)> = own.map(|(target, edge_row)| (edge_row, target)).collect();
    // Edges that no row sampled need no energy.
    if let Some(candidates) = &batch.candidates {
        let mut wanted: Vec<u32> = rows
            .iter()
            .flat_map(|&(_, row)| candidates.of(row as usize).iter().copied())
            .collect();
        wanted.sort_unstable();
        edges.retain(|(_, target)| wanted.binary_search(target).is_ok());
    }
    edges
}
