//! Gradients of nodes, gates and scalars, summed over the rows of a batch.

use super::flow::{Columns, Flow};
use super::{At, Composed};
use crate::kernel::composed::kappa;
use crate::kernel::position;
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Row};
use crate::learn::parameter::Touched;
use crate::signal::BlendKind;

impl<R: Real> Composed<R> {
    /// Add the rows' gradients to the nodes they belong to, in row order, so that threads do not matter.
    pub(super) fn scatter(&mut self, batch: &Batch, flow: &Flow<R>, positions: &[R]) {
        let Columns { d, g, rank, .. } = Columns::of(&self.profile);
        let rows = batch.sequences() * batch.steps;
        let mut nodes: Vec<u32> = Vec::with_capacity(rows);
        let mut d_kappa = R::zero();
        let mut d_positions = vec![R::zero(); batch.steps];
        // Copied, because the loop borrows the gradients of the same list.
        let low_out = self.of(At::LowOut).value.clone();
        // One thread: rows of one node add to its gradient in a fixed order.
        for row in 0..rows {
            let Row { source, step, .. } = Row::of(batch, row);
            nodes.push(source);
            let node = source as usize;
            let at = row * d..(row + 1) * d;
            let (d_output, mixed) = (&flow.d_output[at.clone()], &flow.mixed[at.clone()]);
            // h = mixed ⊙ p + a + (low ⊙ s) C.
            // So dp = dh ⊙ mixed, da = dh, ds = (dh Cᵀ) ⊙ low, dC = (low ⊙ s)ᵀ dh.
            let scale = self.parameters[At::Scale as usize].gradient_row(node);
            for j in 0..d {
                scale[j] += d_output[j] * mixed[j];
            }
            self.add(At::Offset, node, d_output);
            self.add(At::Target, node, &flow.d_target[at.clone()]);
            let low = &flow.low[row * rank..(row + 1) * rank];
            for (r, low_out) in low_out.chunks_exact(d).enumerate() {
                let out = R::dot(d_output, low_out);
                self.parameters[At::LowScale as usize].gradient_row(node)[r] += out * low[r];
                let scaled = low[r] * self.of(At::LowScale).row(node)[r];
                let gradient = self.parameters[At::LowOut as usize].gradient_row(r);
                R::add_scaled(scaled, d_output, gradient);
            }
            let d_gate = &flow.d_gate[row * g..(row + 1) * g];
            match self.profile.blend {
                // One λ for all columns: their gradients are summed.
                BlendKind::Position => d_positions[step] += d_gate.iter().copied().sum(),
                BlendKind::Decay => self.add(At::Decay, 0, d_gate),
                // λ = σ(decay + gate_u + c U): the gradient of the sum is that of both vectors. U is one product over
                // all rows.
                BlendKind::Gated => {
                    self.add(At::Decay, 0, d_gate);
                    self.add(At::Gate, node, d_gate);
                }
            }
            d_kappa += self.add_activation(flow, row, node);
        }
        // y has the factor 10 κ, so dκ is 10 times the gradient of that factor.
        self.parameters[At::Scalars as usize].gradient[2] += kappa(d_kappa);
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

    /// Add the gradient of g of one row of `y = g ⊙ z / rms(z) + 10 κ mask ⊙ β`; returns that of 10 κ.
    fn add_activation(&mut self, flow: &Flow<R>, row: usize, node: usize) -> R {
        let d = self.profile.width;
        let at = row * d..(row + 1) * d;
        let (d_before, mask) = (&flow.d_before[at.clone()], &flow.mask_node[at.clone()]);
        let (preactivation, inverse) = (&flow.preactivation[at], flow.inverse_rms[row]);
        let gain = &mut self.parameters[At::Gain as usize].gradient;
        for j in 0..d {
            gain[j] += d_before[j] * preactivation[j] * inverse;
        }
        let target = self.of(At::Target).row(node);
        (0..d).map(|j| d_before[j] * mask[j] * target[j]).sum()
    }

    /// Add to one row of a parameter's gradient.
    fn add(&mut self, at: At, row: usize, values: &[R]) {
        let gradient = self.parameters[at as usize].gradient_row(row);
        R::add_scaled(R::one(), values, gradient);
    }
}
