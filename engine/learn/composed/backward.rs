//! The way back along every path, after the scores left their gradient.

use rayon::prelude::*;

use super::flow::Shard;
use super::{At, Composed, SHARD};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::real::{Operand, Real, multiply};
use crate::kernel::{blend, position};
use crate::learn::batch::Batch;
use crate::learn::residual::Residual;
use crate::signal::BlendKind;

/// What one shard carries from a step to the one before it.
struct Carried<R> {
    preactivation: Vec<R>,
    banks: Vec<R>,
    blended: Vec<R>,
    zero: Vec<R>,
    /// Row that sent the signal, own slot, gradient of the residual delta.
    path: Vec<(usize, usize, Vec<R>)>,
}

impl<R: Real> Carried<R> {
    fn new(width: usize, d: usize, g: usize) -> Self {
        Self {
            preactivation: vec![R::zero(); width * d],
            banks: vec![R::zero(); width * g],
            blended: vec![R::zero(); width * (d + g)],
            zero: vec![R::zero(); g],
            path: Vec::new(),
        }
    }
}

impl<R: Real> Composed<R> {
    /// The way back along every path, after [`Self::loss`] left the gradient of the kept signals.
    pub(super) fn back(&mut self, graph: &TokenGraph, batch: &Batch) {
        let (d, k, rank) = (self.profile.width, self.profile.banks, self.profile.rank);
        let (x, g) = ((1 + k) * d, k * d);
        let rows = batch.sequences() * batch.steps;
        let mut flow = std::mem::take(&mut self.flow);
        let sequences = batch.sequences();
        let mut residual = self.residual.take();
        let this = &*self;
        let positions = position::weights(&this.of(At::Positions).value, batch.steps);
        let extra = residual.as_ref();
        let path: Vec<_> = {
            let slices = flow.shards(batch.steps, d, k, rank);
            slices
                .into_par_iter()
                .enumerate()
                .map(|(shard, mut flow)| {
                    let first = shard * SHARD;
                    let width = SHARD.min(sequences - first);
                    let mut carried = Carried::new(width, d, g);
                    for step in (0..batch.steps).rev() {
                        this.hop_backward(
                            graph,
                            batch,
                            first,
                            width,
                            step,
                            extra,
                            &mut flow,
                            &mut carried,
                        );
                    }
                    carried.path
                })
                .collect()
        };
        if let Some(residual) = &mut residual {
            residual.collect_path(path.into_iter().flatten(), &flow.blended);
        }
        self.residual = residual;

        let parameters = &mut self.parameters;
        let mut add = |at: At, a: &[R], a_columns: usize, b: &[R], b_columns: usize| {
            let gradient = &mut parameters[at as usize].gradient;
            let (a, b) = (
                Operand::new(a, rows, a_columns),
                Operand::new(b, rows, b_columns),
            );
            multiply(R::one(), a.transposed(), b, R::one(), gradient);
        };
        add(At::Mix, &flow.blended, x, &flow.d_mixed, d);
        if rank > 0 {
            add(At::LowIn, &flow.blended, x, &flow.d_low, rank);
        }
        if self.profile.blend == BlendKind::Gated {
            add(At::GateSignal, &flow.signal, d, &flow.d_gate, g);
        }
        self.scatter(batch, &flow, &positions);
        self.flow = flow;
    }

    /// One step back of one shard.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step needs all of its surroundings"
    )]
    fn hop_backward(
        &self,
        graph: &TokenGraph,
        batch: &Batch,
        first: usize,
        width: usize,
        step: usize,
        residual: Option<&Residual<R>>,
        flow: &mut Shard<'_, R>,
        carried: &mut Carried<R>,
    ) {
        let (d, k, rank) = (self.profile.width, self.profile.banks, self.profile.rank);
        let (x, g) = ((1 + k) * d, k * d);
        let (two, half) = (R::of(2.0), R::of(0.5));
        let rows = step * width..(step + 1) * width;
        let span = rows.start * d..rows.end * d;

        for (sequence, row) in rows.clone().enumerate() {
            let node = batch.sequence(first + sequence)[step] as usize;
            let scale = self.of(At::Scale).row(node);
            for j in 0..d {
                let at = row * d + j;
                flow.d_leaving[at] = flow.d_leaving[at] * flow.mask_out[at]
                    + carried.preactivation[sequence * d + j];
                flow.d_mixed[at] = flow.d_leaving[at] * scale[j];
            }
        }
        let mix = Operand::new(&self.of(At::Mix).value, x, d);
        let d_mixed = Operand::new(&flow.d_mixed[span.clone()], width, d);
        // What the residual of the next edge sent back lies in `carried.blended` already.
        if let Some(residual) = residual {
            for sequence in 0..width {
                let d_blended = &mut carried.blended[sequence * x..(sequence + 1) * x];
                residual.project_backward(first * batch.steps + rows.start + sequence, d_blended);
            }
        }
        multiply(
            R::one(),
            d_mixed,
            mix.transposed(),
            R::one(),
            &mut carried.blended,
        );
        if rank > 0 {
            let low = rows.start * rank..rows.end * rank;
            let low_out = Operand::new(&self.of(At::LowOut).value, rank, d);
            let d_leaving = Operand::new(&flow.d_leaving[span.clone()], width, d);
            let mut d_scaled = vec![R::zero(); width * rank];
            multiply(
                R::one(),
                d_leaving,
                low_out.transposed(),
                R::zero(),
                &mut d_scaled,
            );
            for sequence in 0..width {
                let node = batch.sequence(first + sequence)[step] as usize;
                let scale = self.of(At::LowScale).row(node);
                for r in 0..rank {
                    flow.d_low[low.start + sequence * rank + r] =
                        d_scaled[sequence * rank + r] * scale[r];
                }
            }
            let low_in = Operand::new(&self.of(At::LowIn).value, x, rank);
            let d_low = Operand::new(&flow.d_low[low], width, rank);
            multiply(
                R::one(),
                d_low,
                low_in.transposed(),
                R::one(),
                &mut carried.blended,
            );
        }

        let mut d_signal = vec![R::zero(); width * d];
        for (sequence, row) in rows.clone().enumerate() {
            let d_blended = &carried.blended[sequence * x..(sequence + 1) * x];
            let d_banks = &mut carried.banks[sequence * g..(sequence + 1) * g];
            let d_signal = &mut d_signal[sequence * d..(sequence + 1) * d];
            d_signal.copy_from_slice(&d_blended[..d]);
            for (bank, &blended) in d_banks.iter_mut().zip(&d_blended[d..]) {
                *bank += two * blended;
            }
            let zero = &carried.zero;
            let doubled: Vec<R> = if step == 0 {
                zero.clone()
            } else {
                flow.blended[(row - width) * x + d..(row - width + 1) * x]
                    .iter()
                    .map(|&m| m * half)
                    .collect()
            };
            let lambda = &flow.lambda[row * g..(row + 1) * g];
            let d_lambda = &mut flow.d_gate[row * g..(row + 1) * g];
            let signal = &flow.signal[row * d..(row + 1) * d];
            blend::advance_backward(lambda, signal, &doubled, d_banks, d_lambda, d_signal);
            if self.profile.blend != BlendKind::Position {
                for (slope, &l) in d_lambda.iter_mut().zip(lambda) {
                    *slope *= l * (R::one() - l);
                }
            }
        }
        carried.blended.fill(R::zero());
        if self.profile.blend == BlendKind::Gated {
            let weights = Operand::new(&self.of(At::GateSignal).value, d, g);
            let d_gate = Operand::new(&flow.d_gate[rows.start * g..rows.end * g], width, g);
            multiply(
                R::one(),
                d_gate,
                weights.transposed(),
                R::one(),
                &mut d_signal,
            );
        }
        R::gelu_backward(&flow.before[span.clone()], &mut d_signal);
        flow.d_before[span].copy_from_slice(&d_signal);

        let kappa = R::of(10.0) * self.scalar(2);
        let gain = &self.of(At::Gain).value;
        for (sequence, row) in rows.enumerate() {
            let tokens = batch.sequence(first + sequence);
            let at = row * d..(row + 1) * d;
            let (d_before, preactivation) =
                (&flow.d_before[at.clone()], &flow.preactivation[at.clone()]);
            let inverse = flow.inverse_rms[row];
            // y = g ⊙ z · r with r = (mean z² + ε)^(-1/2): dz = r g ⊙ dy − z r³ (z · (g ⊙ dy)) / D.
            let mut along = R::zero();
            for j in 0..d {
                along += preactivation[j] * gain[j] * d_before[j];
            }
            let pull = along * inverse * inverse * inverse / R::of(d as f64);
            let back = &mut carried.preactivation[sequence * d..(sequence + 1) * d];
            for j in 0..d {
                back[j] = inverse * gain[j] * d_before[j] - preactivation[j] * pull;
                flow.d_arrival[row * d + j] = back[j];
                flow.d_target[row * d + j] =
                    back[j] + kappa * flow.mask_node[row * d + j] * d_before[j];
            }
            if step > 0
                && let Some(residual) = residual
                && let Some(edge) = graph.edge(NodeId(tokens[step - 1]), NodeId(tokens[step]))
            {
                let d_blended = &mut carried.blended[sequence * x..(sequence + 1) * x];
                if let Some(part) = residual.delta_backward(graph, edge, back, d_blended) {
                    carried
                        .path
                        .push((first * batch.steps + row - width, part, back.to_vec()));
                }
            }
        }
    }
}
