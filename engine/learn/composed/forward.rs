//! Forward along the true path: arrival, activation, gates, blend, and the signal that leaves.

use rayon::prelude::*;

use super::flow::Shard;
use super::{At, Composed, SHARD};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::real::{Operand, Real, multiply};
use crate::kernel::{blend, position};
use crate::learn::batch::Batch;
use crate::learn::residual::Residual;
use crate::signal::BlendKind;

/// Keeps the root of a mean square away from zero.
const EPSILON: f64 = 1e-6;

impl<R: Real> Composed<R> {
    /// Signals along the true path of every sequence.
    pub(super) fn walk(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) {
        let (d, k) = (self.profile.width, self.profile.banks);
        let rank = self.profile.rank;
        let rows = batch.sequences() * batch.steps;
        let mut flow = std::mem::take(&mut self.flow);
        flow.resize(rows, d, k, rank);
        flow.draw_masks(d, dropout, self.seed, batch.index);
        if let Some(residual) = &mut self.residual {
            residual.resize(rows);
        }

        let this = &*self;
        let positions = position::weights(&this.of(At::Positions).value, batch.steps);
        let sequences = batch.sequences();
        let slices = flow.shards(batch.steps, d, k, rank);
        let deltas = this.residual.as_ref();
        slices
            .into_par_iter()
            .enumerate()
            .for_each(|(shard, mut flow)| {
                let first = shard * SHARD;
                let width = SHARD.min(sequences - first);
                for step in 0..batch.steps {
                    this.hop(
                        graph, batch, first, width, step, &positions, deltas, &mut flow,
                    );
                }
            });
        self.flow = flow;
        if let Some(residual) = &mut self.residual {
            residual.project(&self.flow.blended, rows);
        }
    }

    /// One step of one shard.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step needs all of its surroundings"
    )]
    fn hop(
        &self,
        graph: &TokenGraph,
        batch: &Batch,
        first: usize,
        width: usize,
        step: usize,
        positions: &[R],
        residual: Option<&Residual<R>>,
        flow: &mut Shard<'_, R>,
    ) {
        let (d, k) = (self.profile.width, self.profile.banks);
        let (x, g) = ((1 + k) * d, k * d);
        let two = R::of(2.0);
        let kappa = R::of(10.0) * self.scalar(2);
        let gain = &self.of(At::Gain).value;
        let rows = step * width..(step + 1) * width;

        for (sequence, row) in rows.clone().enumerate() {
            let tokens = batch.sequence(first + sequence);
            let node = tokens[step] as usize;
            let target = self.of(At::Target).row(node);
            let (earlier, preactivation) = (
                &flow.output,
                &mut flow.preactivation[row * d..(row + 1) * d],
            );
            if step == 0 {
                preactivation.copy_from_slice(target);
            } else {
                let previous = &earlier[(row - width) * d..(row - width + 1) * d];
                for j in 0..d {
                    preactivation[j] = previous[j] + target[j];
                }
                if let Some(residual) = residual {
                    let edge = graph.edge(NodeId(tokens[step - 1]), NodeId(tokens[step]));
                    let blended = &flow.blended[(row - width) * x..(row - width + 1) * x];
                    residual.add_delta(graph, edge, blended, preactivation);
                }
            }
            let square: R = preactivation.iter().map(|&z| z * z).sum();
            let inverse = R::one() / (square / R::of(d as f64) + R::of(EPSILON)).sqrt();
            flow.inverse_rms[row] = inverse;
            let before = &mut flow.before[row * d..(row + 1) * d];
            let mask = &flow.mask_node[row * d..(row + 1) * d];
            for j in 0..d {
                before[j] = gain[j] * preactivation[j] * inverse + kappa * mask[j] * target[j];
            }
        }
        let span = rows.start * d..rows.end * d;
        R::gelu(&flow.before[span.clone()], &mut flow.signal[span.clone()]);

        let gates = rows.start * g..rows.end * g;
        self.open_gates(
            batch,
            first,
            step,
            positions,
            &flow.signal[span.clone()],
            &mut flow.lambda[gates],
        );

        for row in rows.clone() {
            let (earlier, now) = flow.blended.split_at_mut(row * x);
            let now = &mut now[..x];
            let signal = &flow.signal[row * d..(row + 1) * d];
            if step == 0 {
                now[d..].fill(R::zero());
            } else {
                let before = &earlier[(row - width) * x + d..(row - width + 1) * x];
                for (m, &b) in now[d..].iter_mut().zip(before) {
                    *m = b / two;
                }
            }
            blend::advance(&flow.lambda[row * g..(row + 1) * g], signal, &mut now[d..]);
            for m in &mut now[d..] {
                *m *= two;
            }
            now[..d].copy_from_slice(signal);
        }

        let blended = Operand::new(&flow.blended[rows.start * x..rows.end * x], width, x);
        let mix = Operand::new(&self.of(At::Mix).value, x, d);
        multiply(
            R::one(),
            blended,
            mix,
            R::zero(),
            &mut flow.mixed[span.clone()],
        );
        for (sequence, row) in rows.clone().enumerate() {
            let node = batch.sequence(first + sequence)[step] as usize;
            let (scale, offset) = (self.of(At::Scale).row(node), self.of(At::Offset).row(node));
            for j in 0..d {
                flow.output[row * d + j] = flow.mixed[row * d + j] * scale[j] + offset[j];
            }
        }
        let rank = self.profile.rank;
        if rank > 0 {
            let low = rows.start * rank..rows.end * rank;
            let low_in = Operand::new(&self.of(At::LowIn).value, x, rank);
            multiply(
                R::one(),
                blended,
                low_in,
                R::zero(),
                &mut flow.low[low.clone()],
            );
            let mut scaled = flow.low[low].to_vec();
            for sequence in 0..width {
                let node = batch.sequence(first + sequence)[step] as usize;
                let scale = self.of(At::LowScale).row(node);
                for r in 0..rank {
                    scaled[sequence * rank + r] *= scale[r];
                }
            }
            let low_out = Operand::new(&self.of(At::LowOut).value, rank, d);
            let scaled = Operand::new(&scaled, width, rank);
            multiply(
                R::one(),
                scaled,
                low_out,
                R::one(),
                &mut flow.output[span.clone()],
            );
        }
        for index in span {
            flow.kept[index] = flow.output[index] * flow.mask_out[index];
        }
    }

    /// λ of every bank for one step of one shard. `lambda [width · K·D]`
    fn open_gates(
        &self,
        batch: &Batch,
        first: usize,
        step: usize,
        positions: &[R],
        signal: &[R],
        lambda: &mut [R],
    ) {
        let (d, g) = (self.profile.width, self.profile.banks * self.profile.width);
        match self.profile.blend {
            BlendKind::Position => lambda.fill(positions[step]),
            BlendKind::Decay => {
                for row in lambda.chunks_exact_mut(g) {
                    row.copy_from_slice(&self.of(At::Decay).value);
                }
                blend::sigmoid(lambda);
            }
            BlendKind::Gated => {
                for (sequence, row) in lambda.chunks_exact_mut(g).enumerate() {
                    let node = batch.sequence(first + sequence)[step] as usize;
                    let gate = self.of(At::Gate).row(node);
                    for ((value, &tau), &gate) in
                        row.iter_mut().zip(&self.of(At::Decay).value).zip(gate)
                    {
                        *value = tau + gate;
                    }
                }
                let signal = Operand::new(signal, lambda.len() / g, d);
                let weights = Operand::new(&self.of(At::GateSignal).value, d, g);
                multiply(R::one(), signal, weights, R::one(), lambda);
                blend::sigmoid(lambda);
            }
        }
    }
}
