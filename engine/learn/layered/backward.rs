//! Backward pass along every path, after the loss.

use rayon::prelude::*;

use super::flow::{Flow, Masks, Shard};
use super::forward::apply;
use super::{At, Layered};
use crate::kernel::composed::kappa;
use crate::kernel::layered::{self, Memory};
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Row, SHARD};

/// Rows of a matrix whose gradient is formed together.
const ROWS: usize = 64;

/// Gradients of the gains of one shard.
struct Gains<R> {
    /// `[L, D]`
    layers: Vec<R>,
    /// `[D]`
    read: Vec<R>,
}

impl<R: Real> Layered<R> {
    /// Run the backward pass along every path; the loss left the gradient of kept h in the flow.
    pub(super) fn back(&mut self, batch: &Batch) {
        let mut flow = std::mem::replace(&mut self.flow, Flow::new(0));
        let this = &*self;
        let (shards, masks) = flow.shards(batch.steps, this.widths);
        let gains: Vec<Gains<R>> = shards
            .into_par_iter()
            .enumerate()
            .map(|(shard, mut rows)| this.back_shard(batch, shard * SHARD, masks, &mut rows))
            .collect();
        // In the order of the shards, so that the number of threads does not matter.
        for gains in gains {
            for (at, values) in [(At::Gain, gains.layers), (At::ReadGain, gains.read)] {
                R::add_scaled(
                    R::one(),
                    &values,
                    &mut self.parameters[at as usize].gradient,
                );
            }
        }
        self.matrix_gradients(&flow);
        self.node_gradients(batch, &flow);
        self.flow = flow;
        self.state = std::mem::take(&mut self.next_state);
    }

    /// Run the backward pass of one shard, from the read-out to the first layer.
    fn back_shard(
        &self,
        batch: &Batch,
        first: usize,
        masks: &Masks<R>,
        shard: &mut Shard<'_, R>,
    ) -> Gains<R> {
        let (d, widths) = (self.widths.signal, self.widths);
        let (x, z) = (widths.blended(), widths.edge());
        let width = SHARD.min(batch.sequences() - first);
        let rows = width * batch.steps;
        let mut gains = Gains {
            layers: vec![R::zero(); self.of(At::Gain).len()],
            read: vec![R::zero(); d],
        };
        let read = &mut shard.read;
        apply(&masks.output, first, width, d, read.d_output);
        let mut d_normal = vec![R::zero(); rows * d];
        let mix = Operand::new(self.of(At::ReadMix), d, d);
        let d_output = Operand::new(read.d_output, rows, d);
        multiply(R::one(), d_output, mix, R::zero(), &mut d_normal);
        let d_signals = &mut *read.d_signals;
        d_signals.fill(R::zero());
        let gain = self.of(At::ReadGain);
        layered::normalise_backward(
            read.signals,
            gain,
            read.inverse_rms,
            &d_normal,
            d_signals,
            &mut gains.read,
        );
        let mut d_blended = vec![R::zero(); rows * x];
        let mut d_nodes = vec![R::zero(); rows * 2 * d];
        for layer in (0..self.profile.layers).rev() {
            let this = &mut shard.layers[layer];
            layered::add_backward(
                widths,
                this.edge,
                this.mixed,
                d_signals,
                this.d_mixed,
                this.d_edge,
            );
            let mix = Operand::new(self.of_layer(At::Mix, layer), d, x);
            let d_mixed = Operand::new(this.d_mixed, rows, d);
            multiply(R::one(), d_mixed, mix, R::zero(), &mut d_blended);
            apply(&masks.memory[layer], first, width, x, &mut d_blended);
            let (_, before) = self.state_before(batch, first, width, layer);
            let memory = Memory {
                edge: this.edge,
                before: &before,
                signal: this.signal,
                lambda: this.lambda,
                banks: this.banks,
                blended: this.blended,
            };
            // Nothing after the last step has a gradient: that of a continued sequence ends with its batch.
            let mut d_banks = vec![R::zero(); before.len()];
            memory.backward(widths, &d_blended, &mut d_banks, this.d_edge);
            let weights = Operand::new(self.of_layer(At::Edge, layer), z, 2 * d);
            let d_edge = Operand::new(this.d_edge, rows, z);
            multiply(R::one(), d_edge, weights, R::zero(), &mut d_nodes);
            // n of a node is also the source of the edge that leaves it, a whole step later.
            for row in width..rows {
                let (earlier, node) = d_nodes.split_at_mut(row * 2 * d);
                let source = &mut earlier[(row - width) * 2 * d..][..d];
                R::add_scaled(R::one(), &node[d..2 * d], source);
            }
            layered::normalise_backward(
                this.signals,
                self.of_layer(At::Gain, layer),
                this.inverse_rms,
                &d_nodes,
                d_signals,
                &mut gains.layers[layer * d..(layer + 1) * d],
            );
        }
        gains
    }

    /// Add the gradients of all matrices and their biases: sums over all rows, one product for each block of a matrix.
    fn matrix_gradients(&mut self, flow: &Flow<R>) {
        let (d, widths) = (self.widths.signal, self.widths);
        let (x, z) = (widths.blended(), widths.edge());
        for (layer, kept) in flow.layers.iter().enumerate() {
            let (edge, mix) = (layer * z * 2 * d, layer * d * x);
            self.add_product(At::Edge, edge, &kept.d_edge, z, &kept.nodes, 2 * d);
            self.add_product(At::Mix, mix, &kept.d_mixed, d, &kept.blended, x);
            self.add_rows(At::EdgeBias, layer * z, &kept.d_edge, z);
        }
        let read = &flow.read;
        self.add_product(At::ReadMix, 0, &read.d_output, d, &read.normal, d);
        self.add_rows(At::ReadBias, 0, &read.d_output, d);
    }

    /// Add `d_outputsᵀ · inputs` to the gradient of a matrix from index `start` on. `[N, outputs]`, `[N, inputs]`
    fn add_product(
        &mut self,
        at: At,
        start: usize,
        d_outputs: &[R],
        outputs: usize,
        inputs: &[R],
        columns: usize,
    ) {
        let rows = inputs.len() / columns;
        let inputs = Operand::new(inputs, rows, columns);
        let gradient = &mut self.parameters[at as usize].gradient;
        gradient[start..start + outputs * columns]
            .par_chunks_mut(ROWS * columns)
            .enumerate()
            .for_each(|(block, gradient)| {
                let count = gradient.len() / columns;
                let d_outputs = Operand::strided(&d_outputs[block * ROWS..], rows, count, outputs);
                multiply(R::one(), d_outputs.transposed(), inputs, R::one(), gradient);
            });
    }

    /// Add the sum of all rows to the gradient of a bias from index `start` on. `[N, columns]`
    fn add_rows(&mut self, at: At, start: usize, rows: &[R], columns: usize) {
        let gradient = &mut self.parameters[at as usize].gradient[start..start + columns];
        for row in rows.chunks_exact(columns) {
            R::add_scaled(R::one(), row, gradient);
        }
    }

    /// Add the gradients of β and κ through s⁰ = 10 κ β, in row order, so that threads do not matter.
    fn node_gradients(&mut self, batch: &Batch, flow: &Flow<R>) {
        let d = self.widths.signal;
        let factor = kappa(self.of(At::Scalars)[2]);
        let mut d_kappa = R::zero();
        for (row, d_signal) in flow.read.d_signals.chunks_exact(d).enumerate() {
            let Row {
                source, sequence, ..
            } = Row::of(batch, row);
            let mask = &flow.masks.input[sequence * d..(sequence + 1) * d];
            let kept = flow.masks.node[source as usize];
            let target = &mut self.parameters[At::Target as usize];
            for j in 0..d {
                let d_level = d_signal[j] * mask[j] * kept;
                d_kappa += d_level * target.row(source as usize)[j];
                target.gradient_row(source as usize)[j] += factor * d_level;
            }
        }
        self.parameters[At::Scalars as usize].gradient[2] += kappa(d_kappa);
    }
}
