//! Backward pass: from the fans into the paths, along them ([`kernel::own::backward`]), and into nodes and blends.

use rayon::prelude::*;

use super::fan::Group;
use super::path::Gradients;
use super::{At, Own};
use crate::kernel;
use crate::kernel::position;
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::learn::parameter::Touched;
use crate::signal::BlendKind;

impl<R: Real> Own<R> {
    /// Set the gradients of the inputs of hops to those that the energies of a group send back.
    pub(super) fn enter_energies(&mut self, group: &Group<R>) {
        let d = self.profile.width;
        for (index, &row) in group.rows.iter().enumerate() {
            let at = row as usize * d..(row as usize + 1) * d;
            let mask = &self.path.mask[at.clone()];
            // Dropout applies to what the energies see, not to the path.
            for (j, sum) in self.path.d_input[at].iter_mut().enumerate() {
                *sum = group.d_signals[index * d + j] * mask[j];
            }
        }
    }

    /// Collect the gradients of the groups, in the order of their sources.
    pub(super) fn collect(&mut self, groups: &[Group<R>], batch: &Batch) {
        let d = self.profile.width;
        let mut d_log_alpha = R::zero();
        let mut d_gamma = R::zero();
        let mut sources = Vec::with_capacity(groups.len());
        for group in groups {
            self.enter_energies(group);
            // The first block of a group's gradients belongs to the shared edge.
            let shared = &mut self.parameters[At::EdgeWeights as usize].gradient[..d * d + d];
            R::fan_edge_backward(
                &group.signals,
                &group.d_z(&self.fans)[..group.rows.len() * d],
                d,
                shared,
            );
            if self.profile.target_bias {
                R::add_scaled(
                    R::one(),
                    &group.d_bias,
                    &mut self.parameters[At::Bias as usize].gradient,
                );
            }
            if self.profile.static_resistance {
                self.parameters[At::PriorWeight as usize].gradient[group.source as usize] =
                    group.d_prior_weight;
            }
            d_log_alpha += group.d_log_alpha;
            d_gamma += group.d_prior_weight;
            sources.push(group.source);
        }
        if self.profile.static_resistance {
            self.parameters[At::PriorWeight as usize].touched = Touched::Rows(sources);
            let scalars = &mut self.parameters[At::Scalars as usize].gradient;
            scalars[0] += d_log_alpha;
            scalars[1] += d_gamma;
        }
        debug_assert_eq!(self.path.d_input.len(), batch.sequences() * batch.steps * d);
    }

    /// Run the backward pass along every path, last hop first.
    ///
    /// `d_input` holds the gradient from the energies on entry, the whole gradient on return.
    pub(super) fn back(&mut self, batch: &Batch) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let mut path = std::mem::take(&mut self.path);
        let this = &*self;
        let positions = position::weights(&self.of(At::Positions).value, steps);
        path.gradients(steps, (d, g))
            .for_each(|(sequence, mut path)| {
                // The gradient of m, carried from a hop to the one before it.
                let mut d_banks = vec![R::zero(); g];
                // Wᵀ of the current edge.
                let mut scratch = vec![R::zero(); d * d];
                let tokens = batch.sequence(sequence);
                for i in (0..steps).rev() {
                    this.back_node(&positions, tokens, i, &mut path, &mut d_banks, &mut scratch);
                }
            });
        self.path = path;
    }

    /// Run the backward pass of node `i` of a sequence: from the gradient of z of the node after it, and of the banks, to
    /// those of its own z and of the banks before it.
    pub(super) fn back_node(
        &self,
        positions: &[R],
        tokens: &[u32],
        i: usize,
        path: &mut Gradients<'_, R>,
        d_banks: &mut [R],
        scratch: &mut [R],
    ) {
        let d = self.profile.width;
        let at = i * d..(i + 1) * d;
        // The input of hop i reached the next node through the edge that the path takes.
        if i + 1 < path.edge_rows.len() {
            let edge = self.edge(tokens[i], path.edge_rows[i]);
            let d_z = &path.d_before[(i + 1) * d..(i + 2) * d];
            R::fan_signals_backward(d_z, edge, scratch, d, &mut path.d_input[at]);
        }
        self.back_blend(positions, tokens[i], i, path, d_banks);
    }

    /// Run the backward pass of the blend of node `i` of a sequence, once the gradient of its output is complete: from that
    /// and the gradient of the banks to those of its z and of the banks before it.
    pub(super) fn back_blend(
        &self,
        positions: &[R],
        node: u32,
        i: usize,
        path: &mut Gradients<'_, R>,
        d_banks: &mut [R],
    ) {
        let d = self.profile.width;
        let g = self.profile.banks * d;
        let (at, gates) = (i * d..(i + 1) * d, i * g..(i + 1) * g);
        let zero = vec![R::zero(); if i == 0 { g } else { 0 }];
        let mut hop = kernel::own::Backward {
            preactivation: &path.before[at.clone()],
            signal: &path.signal[at.clone()],
            lambda: &path.lambda[gates.clone()],
            banks_before: match i {
                0 => &zero,
                _ => &path.banks[(i - 1) * g..i * g],
            },
            d_output: &path.d_input[at.clone()],
            d_banks,
            d_gate: &mut path.d_gate[gates],
            d_preactivation: &mut path.d_before[at],
        };
        kernel::own::backward(&self.node(node, i, positions), &mut hop);
    }

    /// Add the rows' gradients to the nodes and blends they belong to, in row order, so that threads do not matter.
    pub(super) fn scatter(&mut self, batch: &Batch) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let path = &self.path;
        let parameters = &mut self.parameters;
        let mut d_positions = vec![R::zero(); steps];
        let (mut starts, mut nodes) = (Vec::new(), Vec::new());
        for row in 0..batch.sequences() * steps {
            let (sequence, i) = (row / steps, row % steps);
            let node = batch.sequence(sequence)[i];
            // The start vector feeds the first signal alone.
            if i == 0 {
                let gradient = parameters[At::Start as usize].gradient_row(node as usize);
                R::add_scaled(R::one(), &path.d_before[row * d..(row + 1) * d], gradient);
                starts.push(node);
            }
            let d_gate = &path.d_gate[row * g..(row + 1) * g];
            // λ of a position is one number for all columns and sequences.
            // The start is not blended: λ of hop i belongs to position i − 1.
            if self.profile.blend == BlendKind::Position {
                if i > 0 {
                    d_positions[i - 1] += d_gate.iter().copied().sum();
                }
                continue;
            }
            nodes.push(node);
            let decay = parameters[At::Decay as usize].gradient_row(0);
            R::add_scaled(R::one(), d_gate, decay);
            if self.profile.blend == BlendKind::Gated {
                let gate = parameters[At::Gate as usize].gradient_row(node as usize);
                R::add_scaled(R::one(), d_gate, gate);
            }
            let (d_x, signal) = (
                &path.d_input[row * d..(row + 1) * d],
                &path.signal[row * d..(row + 1) * d],
            );
            let d_mix = &mut parameters[At::Mix as usize].gradient;
            let banks = &path.banks[row * g..(row + 1) * g];
            kernel::own::mix_backward(d_x, signal, banks, d_mix);
        }
        for (at, mut rows) in [(At::Start, starts), (At::Gate, nodes)] {
            rows.sort_unstable();
            rows.dedup();
            if parameters[at as usize].shape[0] > 0 {
                parameters[at as usize].touched = Touched::Rows(rows);
            }
        }
        self.scatter_blend(batch, &d_positions);
    }

    /// Add the gradients of the position logits and of U. `d_positions [T]`
    fn scatter_blend(&mut self, batch: &Batch, d_positions: &[R]) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let path = &self.path;
        let parameters = &mut self.parameters;
        if self.profile.blend == BlendKind::Position {
            let weights = position::weights(&parameters[At::Positions as usize].value, steps);
            let gradient = &mut parameters[At::Positions as usize].gradient;
            position::weights_backward(&weights, d_positions, gradient);
        }
        // dU = cᵀ d_gate over all rows: one product.
        if self.profile.blend == BlendKind::Gated {
            let rows = batch.sequences() * steps;
            let signal = Operand::new(&path.signal, rows, d).transposed();
            let d_gate = Operand::new(&path.d_gate, rows, g);
            let gradient = &mut parameters[At::GateSignal as usize].gradient;
            multiply(R::one(), signal, d_gate, R::one(), gradient);
        }
    }

    /// Add the gradient of the hops over the shared edge.
    pub(super) fn shared_path_gradient(&mut self, batch: &Batch) {
        let (d, steps) = (self.profile.width, batch.steps);
        let shared = &mut self.parameters[At::EdgeWeights as usize].gradient[..d * d + d];
        for (row, &edge_row) in self.path.edge_rows.iter().enumerate() {
            if edge_row == 0 && row % steps + 1 < steps {
                let input = &self.path.input[row * d..(row + 1) * d];
                let d_z = &self.path.d_before[(row + 1) * d..(row + 2) * d];
                R::fan_edge_backward(input, d_z, d, shared);
            }
        }
    }
}
