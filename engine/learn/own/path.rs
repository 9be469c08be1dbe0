//! The true path of every sequence: slots, signals, banks, and what flows into each hop.

use rayon::prelude::*;

use super::{At, Own};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::real::Real;
use crate::kernel::{blend, position};
use crate::learn::batch::Batch;
use crate::signal::{BlendKind, PositionOffset};

/// The true paths of a batch. Row `b·T + i` holds the i-th arrival of sequence b (0 is the start) and the
/// signal that flows into its hop i.
#[derive(Default)]
pub(super) struct Path<R> {
    /// Slot of the edge that hop i walks. `[N]`
    pub(super) edge_rows: Vec<u32>,
    /// The arrival before its activation. `[N, D]`
    pub(super) before: Vec<R>,
    /// The arrival. `[N, D]`
    pub(super) signal: Vec<R>,
    /// Banks after the arrival, and their decays. `[N, K·D]`
    pub(super) banks: Vec<R>,
    pub(super) lambda: Vec<R>,
    /// What flows into hop i. `[N, D]`
    pub(super) input: Vec<R>,
    /// 0 or 1/(1 − p) on what the energies see of it. `[N, D]`
    pub(super) mask: Vec<R>,
    /// Gradients of the above.
    pub(super) d_input: Vec<R>,
    pub(super) d_before: Vec<R>,
    pub(super) d_gate: Vec<R>,
}

impl<R: Real> Path<R> {
    fn resize(&mut self, rows: usize, d: usize, g: usize) {
        self.edge_rows.resize(rows, 0);
        for buffer in [
            &mut self.before,
            &mut self.signal,
            &mut self.input,
            &mut self.mask,
            &mut self.d_input,
            &mut self.d_before,
        ] {
            buffer.resize(rows * d, R::zero());
        }
        for buffer in [&mut self.banks, &mut self.lambda, &mut self.d_gate] {
            buffer.resize(rows * g, R::zero());
        }
    }

    fn draw_mask(&mut self, d: usize, dropout: f64, seed: u64, index: u64) {
        crate::learn::dropout::draw(&mut self.mask, d, dropout, seed ^ 0x6f77_6e00, index);
    }
}

impl<R: Real> Own<R> {
    fn edge_row(graph: &TokenGraph, source: u32, target: u32) -> u32 {
        graph
            .edge(NodeId(source), NodeId(target))
            .map_or(0, |edge| graph.edge_rows()[edge.index()])
    }

    /// The position row that hop `hop` adds, or zeros. `[D]`
    pub(super) fn position_row(&self, hop: usize) -> Vec<R> {
        let d = self.profile.width;
        if !self.profile.position_table {
            return vec![R::zero(); d];
        }
        let offset = usize::from(self.profile.offset == PositionOffset::Train);
        let mut row = vec![0.0; d];
        self.profile.position_row(hop + offset, &mut row);
        row.into_iter()
            .map(|value| R::of(f64::from(value)))
            .collect()
    }

    /// Signals along the true path of every sequence.
    pub(super) fn walk(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) {
        let (d, g, steps) = (
            self.profile.width,
            self.profile.banks * self.profile.width,
            batch.steps,
        );
        let rows = batch.sequences() * steps;
        let mut path = std::mem::take(&mut self.path);
        path.resize(rows, d, g);
        path.draw_mask(d, dropout, self.seed, batch.index);
        let table: Vec<Vec<R>> = (0..steps).map(|hop| self.position_row(hop)).collect();
        let weights = position::weights(&self.of(At::Positions).value, steps);
        let mut first = vec![0.0; d];
        self.profile.position_row(0, &mut first);
        let level: Vec<R> = (0..d)
            .map(|column| R::of(self.profile.start_level(column)))
            .collect();
        let this = &*self;
        path.edge_rows
            .par_chunks_mut(steps)
            .zip(path.before.par_chunks_mut(steps * d))
            .zip(path.signal.par_chunks_mut(steps * d))
            .zip(path.input.par_chunks_mut(steps * d))
            .zip(path.banks.par_chunks_mut(steps * g))
            .zip(path.lambda.par_chunks_mut(steps * g))
            .enumerate()
            .for_each(
                |(sequence, (((((edge_rows, before), signal), input), banks), lambda))| {
                    let tokens = batch.sequence(sequence);
                    for i in 0..steps {
                        edge_rows[i] = Self::edge_row(graph, tokens[i], tokens[i + 1]);
                        let at = i * d..(i + 1) * d;
                        let preactivation = &mut before[at.clone()];
                        if i == 0 {
                            let start = this.of(At::Start).row(tokens[0] as usize);
                            for j in 0..d {
                                preactivation[j] = level[j] + start[j] + R::of(f64::from(first[j]));
                            }
                        } else {
                            let edge = this.of(At::EdgeWeights).row(edge_rows[i - 1] as usize);
                            let (matrix, bias) = edge.split_at(d * d);
                            for j in 0..d {
                                preactivation[j] = bias[j] + table[i - 1][j];
                            }
                            for (k, &x) in input[(i - 1) * d..i * d].iter().enumerate() {
                                R::add_scaled(x, &matrix[k * d..(k + 1) * d], preactivation);
                            }
                        }
                        R::gelu(preactivation, &mut signal[at.clone()]);
                        let (earlier, now) = banks.split_at_mut(i * g);
                        let now = &mut now[..g];
                        match earlier.len().checked_sub(g) {
                            Some(start) => now.copy_from_slice(&earlier[start..]),
                            None => now.fill(R::zero()),
                        }
                        let (signal, lambda) =
                            (&signal[at.clone()], &mut lambda[i * g..(i + 1) * g]);
                        this.flow_on(tokens[i], i, &weights, signal, lambda, now, &mut input[at]);
                    }
                },
            );
        self.path = path;
    }

    /// What leaves a node for the i-th hop: advances the banks and blends them.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step needs all of its surroundings"
    )]
    fn flow_on(
        &self,
        node: u32,
        i: usize,
        weights: &[R],
        signal: &[R],
        lambda: &mut [R],
        banks: &mut [R],
        input: &mut [R],
    ) {
        let d = signal.len();
        if self.profile.blend == BlendKind::Position {
            // The start flows into the first hop and is not remembered.
            if i == 0 {
                input.copy_from_slice(signal);
                return;
            }
            lambda.fill(weights[i - 1]);
            blend::advance(lambda, signal, banks);
            input.copy_from_slice(banks);
            return;
        }
        lambda.copy_from_slice(&self.of(At::Decay).value);
        if self.profile.blend == BlendKind::Gated {
            R::add_scaled(R::one(), self.of(At::Gate).row(node as usize), lambda);
            for (k, &c) in signal.iter().enumerate() {
                R::add_scaled(c, self.of(At::GateSignal).row(k), lambda);
            }
        }
        blend::sigmoid(lambda);
        blend::advance(lambda, signal, banks);
        let mix = &self.of(At::Mix).value;
        for j in 0..d {
            input[j] = mix[j] * signal[j];
            for (bank, weight) in banks.chunks_exact(d).zip(mix[d..].chunks_exact(d)) {
                input[j] += weight[j] * bank[j];
            }
        }
    }
}
