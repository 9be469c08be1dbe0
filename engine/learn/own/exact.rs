//! Exact sums over ranks of what all fans share: the loss, and the gradients of the shared edge, blends and biases.
//!
//! Each source of a batch is one term: its owner computes it in a fixed order and rounds it to fixed point. Sums of
//! integers do not depend on their order, so they have the same bits on any number of ranks and threads.

use rayon::prelude::*;

use super::fan::Group;
use super::{At, Own};
use crate::kernel;
use crate::kernel::position;
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Loss};
use crate::ranks::FixedPoint;
use crate::signal::BlendKind;
use crate::{Error, ErrorKind, Result};

/// Bits after the point of gradients, of the loss, and of squared norms.
const GRADIENT: u32 = 44;
const LOSS: u32 = 28;
const NORM: u32 = 36;
/// Numbers before the gradients: terms out of range, the loss, and the squared norm of what a rank does not share.
const HEADER: usize = 3;

/// Parameters whose gradients are summed.
const SUMMED: [At; 7] = [
    At::EdgeWeights,
    At::Positions,
    At::Bias,
    At::Scalars,
    At::Mix,
    At::Decay,
    At::GateSignal,
];

/// Integers that are summed over ranks, with their scales.
pub(super) struct Sums {
    gradients: FixedPoint,
    losses: FixedPoint,
    norms: FixedPoint,
    pub(super) numbers: Vec<i64>,
}

impl Sums {
    /// Create sums of zero for `terms` terms, for `gradients` numbers of gradients.
    fn new(terms: usize, gradients: usize) -> Self {
        Self {
            gradients: FixedPoint::new(GRADIENT, terms),
            losses: FixedPoint::new(LOSS, terms),
            norms: FixedPoint::new(NORM, terms),
            numbers: vec![0; HEADER + gradients],
        }
    }

    /// Create the sum of the losses of some groups, of `terms` on all ranks.
    pub(super) fn of_losses<R: Real>(groups: &[Group<R>], terms: usize) -> Self {
        let mut sums = Self::new(terms, 0);
        for group in groups {
            sums.add_loss(group.nats);
        }
        sums
    }

    fn add_loss(&mut self, nats: f64) {
        match self.losses.round(nats, 1.0) {
            Some(nats) => self.numbers[1] += nats,
            None => self.numbers[0] += 1,
        }
    }

    fn add_norm(&mut self, square: f64) {
        match self.norms.round(square, 1.0) {
            Some(square) => self.numbers[2] += square,
            None => self.numbers[0] += 1,
        }
    }

    fn add(mut self, other: &Self) -> Self {
        let pairs = self.numbers.iter_mut().zip(&other.numbers);
        pairs.for_each(|(sum, other)| *sum += other);
        self
    }

    /// The loss; `None` where a number was out of range.
    pub(super) fn loss(&self, batch: &Batch) -> Option<Loss> {
        (self.numbers[0] == 0).then(|| Loss {
            nats: self.losses.value(self.numbers[1]),
            tokens: batch.sequences() * batch.steps,
        })
    }
}

/// Number of different sources of a batch: the terms of its sums.
pub(super) fn terms(batch: &Batch) -> usize {
    let sequences = 0..batch.sequences();
    let mut sources: Vec<u32> = sequences
        .flat_map(|sequence| &batch.sequence(sequence)[..batch.steps])
        .copied()
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources.len()
}

impl Own<f32> {
    /// Number of gradients of each of [`SUMMED`].
    fn summed_lengths(&self, steps: usize) -> [usize; SUMMED.len()] {
        SUMMED.map(|at| match at {
            // The shared edge is row 0.
            At::EdgeWeights => self.of(at).shape[1],
            // λ of each step, from which the gradient of the position logits follows.
            At::Positions if self.profile.blend == BlendKind::Position => steps,
            At::Positions => 0,
            _ => self.of(at).value.len(),
        })
    }

    /// Sum the terms of the groups of this rank; `norms` are the squared norms of the gradients that their owners keep.
    pub(super) fn exact_sums(&self, groups: &[Group<f32>], batch: &Batch, norms: &[f64]) -> Sums {
        let lengths = self.summed_lengths(batch.steps);
        let (terms, total) = (terms(batch), lengths.iter().sum());
        groups
            .par_iter()
            .enumerate()
            .fold(
                || {
                    (
                        Sums::new(terms, total),
                        lengths.map(|length| vec![0.0; length]),
                    )
                },
                |(mut sums, mut term), (index, group)| {
                    term.iter_mut().for_each(|values| values.fill(0.0));
                    self.add_term(group, batch, &mut term);
                    sums.add_loss(group.nats);
                    if let Some(&norm) = norms.get(index) {
                        sums.add_norm(norm);
                    }
                    let (header, mut rest) = sums.numbers.split_at_mut(HEADER);
                    for values in &term {
                        let (numbers, after) = rest.split_at_mut(values.len());
                        rest = after;
                        header[0] += i64::from(!sums.gradients.add(values, 1.0, numbers));
                    }
                    (sums, term)
                },
            )
            .map(|(sums, _)| sums)
            .reduce(|| Sums::new(terms, total), |sums, other| sums.add(&other))
    }

    /// Add the gradients of a group to those of [`SUMMED`].
    fn add_term(&self, group: &Group<f32>, batch: &Batch, term: &mut [Vec<f32>; SUMMED.len()]) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let path = &self.path;
        let [shared, positions, bias, scalars, mix, decay, gate_signal] = term;
        // The first block of a group's gradients belongs to the shared edge.
        let d_z = &group.d_z(&self.fans)[..group.rows.len() * d];
        f32::fan_edge_backward(&group.signals, d_z, d, shared);
        bias.copy_from_slice(&group.d_bias);
        if let [d_log_alpha, d_gamma] = &mut scalars[..] {
            (*d_log_alpha, *d_gamma) = (group.d_log_alpha, group.d_prior_weight);
        }
        let (mut signals, mut d_gates) = (Vec::new(), Vec::new());
        for &row in &group.rows {
            let row = row as usize;
            let step = row % steps;
            let of_width = row * d..(row + 1) * d;
            if path.edge_rows[row] == 0 && step + 1 < steps {
                let d_z = &path.d_before[(row + 1) * d..(row + 2) * d];
                f32::fan_edge_backward(&path.input[of_width.clone()], d_z, d, shared);
            }
            let d_gate = &path.d_gate[row * g..(row + 1) * g];
            if self.profile.blend == BlendKind::Position {
                // The start is not blended: λ of hop i belongs to position i − 1.
                if step > 0 {
                    positions[step - 1] += d_gate.iter().copied().sum::<f32>();
                }
                continue;
            }
            f32::add_scaled(1.0, d_gate, decay);
            let signal = &path.signal[of_width.clone()];
            let banks = &path.banks[row * g..(row + 1) * g];
            kernel::own::mix_backward(&path.d_input[of_width], signal, banks, mix);
            if self.profile.blend == BlendKind::Gated {
                signals.extend_from_slice(signal);
                d_gates.extend_from_slice(d_gate);
            }
        }
        if self.profile.blend == BlendKind::Gated {
            // dU = cᵀ d_gate over the rows of the group: one product.
            let rows = group.rows.len();
            let signals = Operand::new(&signals, rows, d).transposed();
            let d_gates = Operand::new(&d_gates, rows, g);
            multiply(1.0, signals, d_gates, 0.0, gate_signal);
        }
    }

    /// Set the gradients of [`SUMMED`] to the sums over all ranks. Returns the loss, and the squared norm of all gradients,
    /// where the sums have that of what owners keep.
    pub(super) fn finish_sums(
        &mut self,
        sums: &Sums,
        batch: &Batch,
        step: u64,
    ) -> Result<(Loss, f64)> {
        let Some(loss) = sums.loss(batch) else {
            let what = format!(
                "a loss or gradient is not finite, or above {:e}",
                sums.gradients.limit()
            );
            return Err(Error::new(ErrorKind::Numeric, what)
                .at(format!("step {step}"))
                .advice("lower train.rate or train.clip; the last checkpoint is valid"));
        };
        let mut square = sums.norms.value(sums.numbers[2]);
        let mut rest = &sums.numbers[HEADER..];
        for (at, length) in SUMMED.into_iter().zip(self.summed_lengths(batch.steps)) {
            let (numbers, after) = rest.split_at(length);
            rest = after;
            let values = numbers.iter().map(|&sum| sums.gradients.value(sum) as f32);
            let values: Vec<f32> = values.collect();
            let positions = &self.of(At::Positions).value;
            let weights = match at {
                At::Positions if length > 0 => position::weights(positions, batch.steps),
                _ => Vec::new(),
            };
            let gradient = &mut self.parameters[at as usize].gradient;
            match at {
                At::Positions if length > 0 => {
                    position::weights_backward(&weights, &values, gradient)
                }
                _ => gradient.copy_from_slice(&values),
            }
            let squares = gradient
                .iter()
                .map(|&value| f64::from(value) * f64::from(value));
            square += squares.sum::<f64>();
        }
        Ok((loss, square))
    }
}
