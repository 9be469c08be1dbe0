//! Forward pass along the true paths of a batch.

use rayon::prelude::*;

use super::flow::{Masks, Shard};
use super::{At, Layered};
use crate::kernel::composed::kappa;
use crate::kernel::layered::{self, Memory};
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, SHARD};
use crate::learn::dropout::Rates;

impl<R: Real> Layered<R> {
    /// Run every sequence along its true path. Shards are independent tasks.
    pub(super) fn walk(&mut self, batch: &Batch, dropout: Rates) {
        // Taken out, so that tasks can read `self` while each writes its shard's rows.
        let mut flow = std::mem::replace(&mut self.flow, super::Flow::new(0));
        let (sequences, layers) = (batch.sequences(), self.profile.layers);
        flow.resize(sequences * batch.steps, self.widths);
        let nodes = self.parameters[At::Target as usize].shape[0];
        flow.masks.draw(
            self.first_sequence,
            (sequences, nodes, layers),
            self.widths,
            dropout,
            self.seed,
            batch.index,
        );
        let this = &*self;
        let (shards, masks) = flow.shards(batch.steps, this.widths);
        shards
            .into_par_iter()
            .enumerate()
            .for_each(|(shard, mut rows)| this.walk_shard(batch, shard * SHARD, masks, &mut rows));
        self.flow = flow;
    }

    /// Run the sequences of one shard, the first of which is `first`.
    fn walk_shard(&self, batch: &Batch, first: usize, masks: &Masks<R>, shard: &mut Shard<'_, R>) {
        let (d, widths) = (self.widths.signal, self.widths);
        let width = SHARD.min(batch.sequences() - first);
        let rows = width * batch.steps;
        // s⁰ = 10 κ β of the node.
        let kappa = kappa(self.of(At::Scalars)[2]);
        let target = &self.parameters[At::Target as usize];
        for (row, signal) in shard.layers[0].signals.chunks_exact_mut(d).enumerate() {
            let (step, sequence) = (row / width, first + row % width);
            let source = batch.sequence(sequence)[step] as usize;
            let (beta, kappa) = (target.row(source), kappa * masks.node[source]);
            let mask = &masks.input[sequence * d..(sequence + 1) * d];
            for ((signal, &beta), &mask) in signal.iter_mut().zip(beta).zip(mask) {
                *signal = kappa * mask * beta;
            }
        }
        for layer in 0..self.profile.layers {
            let (these, later) = shard.layers.split_at_mut(layer + 1);
            let this = &mut these[layer];
            let gain = self.of_layer(At::Gain, layer);
            layered::normalise(this.signals, gain, R::one(), this.inverse_rms, this.nodes);
            let (normals, before) = self.state_before(batch, first, width, layer);
            for row in 0..rows {
                let (earlier, node) = this.nodes.split_at_mut(row * 2 * d);
                // The row before of the same sequence lies a whole step back.
                node[d..2 * d].copy_from_slice(match row.checked_sub(width) {
                    Some(row) => &earlier[row * 2 * d..][..d],
                    None => &normals[row * d..(row + 1) * d],
                });
            }
            let bias = self.of_layer(At::EdgeBias, layer);
            for edge in this.edge.chunks_exact_mut(bias.len()) {
                edge.copy_from_slice(bias);
            }
            let weights = Operand::new(self.of_layer(At::Edge, layer), widths.edge(), 2 * d);
            let nodes = Operand::new(this.nodes, rows, 2 * d);
            multiply(R::one(), nodes, weights.transposed(), R::one(), this.edge);
            let mut memory = Memory {
                edge: this.edge,
                before: &before,
                signal: this.signal,
                lambda: this.lambda,
                banks: this.banks,
                blended: this.blended,
            };
            memory.forward(widths);
            apply(
                &masks.memory[layer],
                first,
                width,
                widths.blended(),
                this.blended,
            );
            let mix = Operand::new(self.of_layer(At::Mix, layer), d, widths.blended());
            let blended = Operand::new(this.blended, rows, widths.blended());
            multiply(R::one(), blended, mix.transposed(), R::zero(), this.mixed);
            let next = match later.first_mut() {
                Some(layer) => &mut *layer.signals,
                None => &mut *shard.read.signals,
            };
            layered::add(widths, this.edge, this.mixed, this.signals, next);
        }
        let read = &mut shard.read;
        let gain = self.of(At::ReadGain);
        layered::normalise(read.signals, gain, R::one(), read.inverse_rms, read.normal);
        for output in read.kept.chunks_exact_mut(d) {
            output.copy_from_slice(self.of(At::ReadBias));
        }
        let mix = Operand::new(self.of(At::ReadMix), d, d);
        let normal = Operand::new(read.normal, rows, d);
        multiply(R::one(), normal, mix.transposed(), R::one(), read.kept);
        apply(&masks.output, first, width, d, read.kept);
    }

    /// Return n of the node before the first and m before it, of the sequences of a shard: zero for those that begin.
    /// `[width, D]`, `[width, K·w]`
    pub(super) fn state_before(
        &self,
        batch: &Batch,
        first: usize,
        width: usize,
        layer: usize,
    ) -> (Vec<R>, Vec<R>) {
        let (d, g) = (self.widths.signal, self.widths.memory());
        let mut normals = vec![R::zero(); width * d];
        let mut banks = vec![R::zero(); width * g];
        for index in 0..width {
            let at = ((first + index) * self.profile.layers + layer) * self.state_columns();
            if batch.continues(first + index)
                && let Some(state) = self.state.get(at..at + d + g)
            {
                normals[index * d..(index + 1) * d].copy_from_slice(&state[..d]);
                banks[index * g..(index + 1) * g].copy_from_slice(&state[d..]);
            }
        }
        (normals, banks)
    }

    /// Keep the state after the last step of each sequence.
    pub(super) fn keep_state(&mut self, batch: &Batch) {
        if batch.continued.is_empty() {
            return;
        }
        let (d, g, layers) = (
            self.widths.signal,
            self.widths.memory(),
            self.profile.layers,
        );
        // The backward pass reads the old state: the new one is put aside until then.
        let mut state = Vec::with_capacity(batch.sequences() * layers * (d + g));
        for sequence in 0..batch.sequences() {
            let first = sequence / SHARD * SHARD;
            let width = SHARD.min(batch.sequences() - first);
            let row = first * batch.steps + (batch.steps - 1) * width + (sequence - first);
            for layer in &self.flow.layers {
                state.extend_from_slice(&layer.nodes[row * 2 * d..][..d]);
                state.extend_from_slice(&layer.banks[row * g..][..g]);
            }
        }
        self.next_state = state;
    }
}

/// Multiply rows by the masks of their sequences. `mask [B, columns]`, `values [n, columns]`.
pub(super) fn apply<R: Real>(
    mask: &[R],
    first: usize,
    width: usize,
    columns: usize,
    values: &mut [R],
) {
    for (row, values) in values.chunks_exact_mut(columns).enumerate() {
        let sequence = first + row % width;
        let mask = &mask[sequence * columns..(sequence + 1) * columns];
        for (value, &mask) in values.iter_mut().zip(mask) {
            *value *= mask;
        }
    }
}
