//! Scoring the fans: rows grouped by source, one product over each own edge of a group.

use rayon::prelude::*;

use super::{At, Own};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::pages;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::prior::Prior;
use crate::signal::EnergyKind;

/// One source node's rows in a batch, and what scoring them left.
pub(super) struct Group<R> {
    pub(super) source: u32,
    pub(super) rows: Vec<u32>,
    /// Own slots scored, ascending.
    pub(super) edge_rows: Vec<u32>,
    /// Signals as the energies see them. `[n, D]`
    pub(super) signals: Vec<R>,
    /// Where its part of [`Own::fans`] begins.
    pub(super) at: usize,
    /// Gradients of the signals. `[n, D]`
    pub(super) d_signals: Vec<R>,
    pub(super) d_trust: R,
    pub(super) d_bias: Vec<R>,
    pub(super) d_log_alpha: R,
    pub(super) nats: f64,
}

impl<R: Real> Group<R> {
    /// Gradients before activation, of the shared edge, then of each slot: its part of `fans`. `[1 + F, n, D]`
    pub(super) fn d_z<'f>(&self, fans: &'f [R]) -> &'f [R] {
        &fans[self.at..self.at + (1 + self.edge_rows.len()) * self.signals.len()]
    }
}

impl<R: Real> Own<R> {
    /// Energies, softmax and, if `learn`, the gradients into every fan.
    pub(super) fn logit(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        learn: bool,
    ) -> Vec<Group<R>> {
        let steps = batch.steps;
        let mut order: Vec<(u32, u32)> = (0..batch.sequences())
            .flat_map(|b| (0..steps).map(move |i| (batch.sequence(b)[i], (b * steps + i) as u32)))
            .collect();
        order.sort_unstable();
        let groups: Vec<&[(u32, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let table: Vec<Vec<R>> = (0..steps).map(|hop| self.position_row(hop)).collect();
        let edges: Vec<Vec<(u32, u32)>> = groups
            .par_iter()
            .map(|rows| scored_edges(graph, batch, rows))
            .collect();
        // One stretch of memory for all groups, kept between batches: fresh pages cost more than the arithmetic.
        let lengths = groups.iter().zip(&edges);
        let lengths: Vec<usize> = lengths
            .map(|(rows, edges)| (1 + edges.len()) * rows.len() * self.profile.width)
            .collect();
        let total = lengths.iter().sum();
        let mut fans = std::mem::take(&mut self.fans);
        if fans.len() < total {
            fans = Vec::new();
            fans.resize(total + total / 4, R::zero());
            pages::prefer_large(&mut fans);
        }
        let mut tasks = Vec::with_capacity(groups.len());
        let (mut at, mut rest) = (0, fans.as_mut_slice());
        for ((rows, edges), length) in groups.into_iter().zip(edges).zip(lengths) {
            let (d_z, tail) = rest.split_at_mut(length);
            tasks.push((rows, edges, at, d_z));
            (at, rest) = (at + length, tail);
        }
        let this = &*self;
        let scored = tasks
            .into_par_iter()
            .map(|(rows, edges, at, d_z)| {
                this.logit_group(graph, prior, batch, rows, &edges, &table, (at, d_z), learn)
            })
            .collect();
        self.fans = fans;
        scored
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one group needs all of its surroundings"
    )]
    fn logit_group(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        rows: &[(u32, u32)],
        edges: &[(u32, u32)],
        table: &[Vec<R>],
        (at, d_z): (usize, &mut [R]),
        learn: bool,
    ) -> Group<R> {
        let (v, d, steps) = (graph.nodes(), self.profile.width, batch.steps);
        let source = rows[0].0;
        let rows: Vec<u32> = rows.iter().map(|&(_, row)| row).collect();
        let n = rows.len();
        let mut signals = Vec::with_capacity(n * d);
        let mut base = Vec::with_capacity(n * d);
        for &row in &rows {
            let at = row as usize * d..(row as usize + 1) * d;
            signals.extend(
                self.path.input[at.clone()]
                    .iter()
                    .zip(&self.path.mask[at])
                    .map(|(&x, &m)| x * m),
            );
            base.extend_from_slice(&table[row as usize % steps]);
        }
        let squared = self.profile.energy == EnergyKind::Squared;
        let mut energies = vec![R::zero(); (1 + edges.len()) * n];
        let edge_rows = std::iter::once(0).chain(edges.iter().map(|&(edge_row, _)| edge_row));
        for ((edge_row, slopes), energies) in edge_rows
            .zip(d_z.chunks_exact_mut(n * d))
            .zip(energies.chunks_exact_mut(n))
        {
            let edge = self.of(At::EdgeWeights).row(edge_row as usize);
            R::fan_forward(&signals, &base, edge, squared, slopes, energies);
        }

        let mut group = Group {
            source,
            edge_rows: edges.iter().map(|&(edge_row, _)| edge_row).collect(),
            signals,
            at,
            d_signals: vec![R::zero(); if learn { n * d } else { 0 }],
            d_trust: R::zero(),
            d_bias: vec![
                R::zero();
                if learn {
                    self.of(At::Bias).value.len()
                } else {
                    0
                }
            ],
            d_log_alpha: R::zero(),
            nats: 0.0,
            rows,
        };
        // Energies become their own gradients, row by row.
        for index in 0..n {
            let column: Vec<R> = (0..=edges.len())
                .map(|edge| energies[edge * n + index])
                .collect();
            let slopes = self.softmax_row(
                graph, prior, batch, &mut group, index, v, edges, &column, learn,
            );
            for (edge, slope) in slopes.into_iter().enumerate() {
                let energy = energies[edge * n + index];
                energies[edge * n + index] = if squared {
                    slope + slope
                } else if energy > R::zero() {
                    slope / energy
                } else {
                    R::zero()
                };
            }
        }
        if learn {
            let mut scratch = vec![R::zero(); d * d];
            let edge_rows = std::iter::once(0).chain(group.edge_rows.iter().copied());
            for (edge, (edge_row, d_z)) in edge_rows.zip(d_z.chunks_exact_mut(n * d)).enumerate() {
                for (index, row) in d_z.chunks_exact_mut(d).enumerate() {
                    R::scale(energies[edge * n + index], row);
                }
                let weights = self.of(At::EdgeWeights).row(edge_row as usize);
                R::fan_signals_backward(d_z, weights, &mut scratch, d, &mut group.d_signals);
            }
        }
        group
    }
}

/// Own slots and targets that the rows of one source are scored against, ascending.
fn scored_edges(graph: &TokenGraph, batch: &Batch, rows: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let fan = graph.fan(NodeId(rows[0].0));
    let mut edges: Vec<(u32, u32)> = fan
        .edge_rows
        .iter()
        .zip(fan.targets)
        .filter(|&(&edge_row, _)| edge_row > 0)
        .map(|(&edge_row, &target)| (edge_row, target))
        .collect();
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
