//! The rows' gradients added to the nodes, gates and scalars they belong to.

use super::flow::Flow;
use super::{At, Composed, SHARD};
use crate::kernel::position;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::parameter::Touched;
use crate::signal::BlendKind;

impl<R: Real> Composed<R> {
    /// Adds the rows' gradients to the nodes they belong to, in row order.
    pub(super) fn scatter(&mut self, batch: &Batch, flow: &Flow<R>, positions: &[R]) {
        let (d, k, rank) = (self.profile.width, self.profile.banks, self.profile.rank);
        let g = k * d;
        let rows = batch.sequences() * batch.steps;
        let mut nodes: Vec<u32> = Vec::with_capacity(rows);
        let mut d_kappa = R::zero();
        let mut d_positions = vec![R::zero(); batch.steps];
        let per_shard = SHARD * batch.steps;
        for row in 0..rows {
            let (node, ..) = Self::row_of(batch, row);
            nodes.push(node);
            let node = node as usize;
            let at = row * d..(row + 1) * d;
            let (d_leaving, mixed) = (&flow.d_leaving[at.clone()], &flow.mixed[at.clone()]);
            for (gradient, (&h, &s)) in self.parameters[At::Scale as usize]
                .gradient_row(node)
                .iter_mut()
                .zip(d_leaving.iter().zip(mixed))
            {
                *gradient += h * s;
            }
            add(
                self.parameters[At::Offset as usize].gradient_row(node),
                d_leaving,
            );
            add(
                self.parameters[At::Target as usize].gradient_row(node),
                &flow.d_target[at.clone()],
            );
            if rank > 0 {
                let low = &flow.low[row * rank..(row + 1) * rank];
                let low_out = self.parameters[At::LowOut as usize].value.clone();
                for r in 0..rank {
                    let out: R = (0..d).map(|j| d_leaving[j] * low_out[r * d + j]).sum();
                    self.parameters[At::LowScale as usize].gradient_row(node)[r] += out * low[r];
                    let scaled = low[r] * self.parameters[At::LowScale as usize].row(node)[r];
                    let gradient =
                        &mut self.parameters[At::LowOut as usize].gradient[r * d..(r + 1) * d];
                    for j in 0..d {
                        gradient[j] += scaled * d_leaving[j];
                    }
                }
            }
            let d_gate = &flow.d_gate[row * g..(row + 1) * g];
            match self.profile.blend {
                BlendKind::Position => {
                    let within = row % per_shard;
                    let first = row / per_shard * SHARD;
                    let step = within / SHARD.min(batch.sequences() - first);
                    d_positions[step] += d_gate.iter().copied().sum();
                }
                BlendKind::Decay => add(&mut self.parameters[At::Decay as usize].gradient, d_gate),
                BlendKind::Gated => {
                    add(&mut self.parameters[At::Decay as usize].gradient, d_gate);
                    add(
                        self.parameters[At::Gate as usize].gradient_row(node),
                        d_gate,
                    );
                }
            }
            let target = self.parameters[At::Target as usize].row(node);
            let (d_before, mask) = (&flow.d_before[at.clone()], &flow.mask_node[at.clone()]);
            for j in 0..d {
                d_kappa += d_before[j] * mask[j] * target[j];
            }
            let (preactivation, inverse) = (&flow.preactivation[at], flow.inverse_rms[row]);
            let gain = &mut self.parameters[At::Gain as usize].gradient;
            for j in 0..d {
                gain[j] += d_before[j] * preactivation[j] * inverse;
            }
        }
        self.parameters[At::Scalars as usize].gradient[2] += R::of(10.0) * d_kappa;
        if self.profile.blend == BlendKind::Position {
            let gradient = &mut self.parameters[At::Positions as usize].gradient;
            position::weights_backward(positions, &d_positions, gradient);
        }
        nodes.sort_unstable();
        nodes.dedup();
        for at in [At::Scale, At::Offset, At::Gate, At::LowScale] {
            if self.parameters[at as usize].shape[0] > 0 {
                self.parameters[at as usize].touched = Touched::Rows(nodes.clone());
            }
        }
    }
}

fn add<R: Real>(sum: &mut [R], values: &[R]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
