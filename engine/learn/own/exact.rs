//! Exact sums over ranks of what all fans share: the loss, and the gradients of the shared edge, blends and biases.
//!
//! Terms are computed in a fixed order and rounded to fixed point: those of a source by its home, those of a block of its fan
//! by the rank that owns the block. Sums of integers do not depend on their order, so they have the same bits on any number
//! of ranks and threads.

use rayon::prelude::*;

use super::blocks::Part;
use super::fan::Group;
use super::{At, Own};
use crate::graph::{FAN_BLOCK, NodeId, TokenGraph};
use crate::kernel;
use crate::kernel::position;
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Loss};
use crate::ranks::FixedPoint;
use crate::signal::BlendKind;
use crate::{Error, ErrorKind, Result};

/// Bits after the point of gradients, of those of ln α and γ, of the loss, and of squared norms. The gradient of ln α is a sum
/// of energies, which are large; those of different blocks cancel only in the end.
const GRADIENT: u32 = 44;
const SCALAR: u32 = 36;
const LOSS: u32 = 24;
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

/// Index of the biases in [`SUMMED`].
const BIAS: usize = 2;

/// How the terms of a batch are rounded.
#[derive(Clone, Copy)]
pub(super) struct Rounding {
    /// One term for each source.
    gradients: FixedPoint,
    /// One term for each block of the fan of a source.
    scalars: FixedPoint,
    losses: FixedPoint,
    norms: FixedPoint,
    /// 1 / predictions of the batch, the factor on its gradients.
    pub(super) scale: f32,
    /// The next power of two above the predictions, on the gradients of signals, which have one prediction each.
    weight: f64,
}

impl Rounding {
    /// Return the rounding of a batch.
    pub(super) fn new(graph: &TokenGraph, batch: &Batch) -> Self {
        let sequences = 0..batch.sequences();
        let mut sources: Vec<u32> = sequences
            .flat_map(|sequence| &batch.sequence(sequence)[..batch.steps])
            .copied()
            .collect();
        sources.sort_unstable();
        sources.dedup();
        let blocks = sources.iter();
        let blocks =
            blocks.map(|&node| 1 + graph.own_slots(NodeId(node)).len().div_ceil(FAN_BLOCK));
        let blocks: usize = blocks.sum();
        let predictions = batch.sequences() * batch.steps;
        Self {
            gradients: FixedPoint::new(GRADIENT, sources.len()),
            scalars: FixedPoint::new(SCALAR, blocks),
            losses: FixedPoint::new(LOSS, blocks),
            norms: FixedPoint::new(NORM, blocks),
            scale: 1.0 / predictions as f32,
            weight: predictions.next_power_of_two() as f64,
        }
    }

    /// Round the loss of a block, in nats; `None` out of range.
    pub(super) fn loss(&self, nats: f64) -> Option<i64> {
        self.losses.round(nats, 1.0)
    }

    /// Round the gradient of ln α or γ of a block; `None` out of range.
    pub(super) fn scalar(&self, gradient: f64) -> Option<i64> {
        self.scalars.round(gradient, 1.0)
    }

    /// Add the gradients of signals of one of the `blocks` of a fan to `sums`. Returns whether all are in range.
    #[must_use]
    pub(super) fn add_signals(&self, values: &[f32], blocks: usize, sums: &mut [i64]) -> bool {
        FixedPoint::new(GRADIENT, blocks).add(values, self.weight, sums)
    }

    /// Return the gradient of a signal, summed over the blocks of a fan.
    pub(super) fn signal(&self, sum: i64, blocks: usize) -> f32 {
        (FixedPoint::new(GRADIENT, blocks).value(sum) / self.weight) as f32
    }

    /// Return the gradient of a prior weight, summed over the blocks of a fan.
    pub(super) fn prior_weight(&self, sum: i64) -> f32 {
        self.scalars.value(sum) as f32
    }
}

/// Integers that are summed over ranks.
pub(super) struct Sums {
    rounding: Rounding,
    pub(super) numbers: Vec<i64>,
}

impl Sums {
    /// Create sums of zero, for `gradients` numbers of gradients.
    fn new(rounding: Rounding, gradients: usize) -> Self {
        let numbers = vec![0; HEADER + gradients];
        Self { rounding, numbers }
    }

    /// Create the sum of the losses of some parts.
    pub(super) fn of_losses(parts: &[Part], rounding: Rounding) -> Self {
        let mut sums = Self::new(rounding, 0);
        for part in parts {
            sums.add_loss(part);
        }
        sums
    }

    fn add_loss(&mut self, part: &Part) {
        self.numbers[0] += part.sums.invalid;
        self.numbers[1] += part.sums.nats;
    }

    fn add_norm(&mut self, square: f64) {
        match self.rounding.norms.round(square, 1.0) {
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
            nats: self.rounding.losses.value(self.numbers[1]),
            tokens: batch.sequences() * batch.steps,
        })
    }
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

    /// Sum the terms of this rank; `norms` are the squared norms of the gradients that their owners keep, block by block.
    pub(super) fn exact_sums(
        &self,
        groups: &[Group<f32>],
        parts: &[Part],
        batch: &Batch,
        norms: &[Vec<f64>],
        rounding: Rounding,
    ) -> Sums {
        let lengths = self.summed_lengths(batch.steps);
        let total = lengths.iter().sum();
        let zeros = || lengths.map(|length| vec![0.0; length]);
        let add = |sums: &mut Sums, term: &mut [Vec<f32>; SUMMED.len()], index: usize| {
            let (group, part) = (&groups[index], &parts[index]);
            sums.add_loss(part);
            for &square in norms.get(index).into_iter().flatten() {
                sums.add_norm(square);
            }
            term.iter_mut().for_each(|values| values.fill(0.0));
            term[BIAS].copy_from_slice(&group.d_bias);
            if part.home {
                self.add_term(group, batch, term);
            }
            let (header, mut rest) = sums.numbers.split_at_mut(HEADER);
            for (at, values) in SUMMED.into_iter().zip(&*term) {
                let (numbers, after) = rest.split_at_mut(values.len());
                rest = after;
                match (at, &mut *numbers) {
                    // The blocks have rounded theirs.
                    (At::Scalars, [d_log_alpha, d_gamma]) => {
                        *d_log_alpha += part.sums.d_log_alpha;
                        *d_gamma += part.sums.d_prior_weight;
                    }
                    _ => {
                        let valid = rounding.gradients.add(values, 1.0, numbers);
                        header[0] += i64::from(!valid);
                    }
                }
            }
        };
        (0..groups.len())
            .into_par_iter()
            .fold(
                || (Sums::new(rounding, total), zeros()),
                |(mut sums, mut term), index| {
                    add(&mut sums, &mut term, index);
                    (sums, term)
                },
            )
            .map(|(sums, _)| sums)
            .reduce(
                || Sums::new(rounding, total),
                |sums, other| sums.add(&other),
            )
    }

    /// Add the gradients of the group of a source to those of [`SUMMED`], at its home.
    fn add_term(&self, group: &Group<f32>, batch: &Batch, term: &mut [Vec<f32>; SUMMED.len()]) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let path = &self.path;
        let [shared, positions, _, _, mix, decay, gate_signal] = term;
        // The first block of a group's gradients belongs to the shared edge.
        let d_z = &group.d_z(&self.fans)[..group.rows.len() * d];
        f32::fan_edge_backward(&group.signals, d_z, d, shared);
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
            let what = "a loss or gradient is not finite, or too large for an exact sum";
            return Err(Error::new(ErrorKind::Numeric, what)
                .at(format!("step {step}"))
                .advice("lower train.rate or train.clip; the last checkpoint is valid"));
        };
        let mut square = sums.rounding.norms.value(sums.numbers[2]);
        let mut rest = &sums.numbers[HEADER..];
        for (at, length) in SUMMED.into_iter().zip(self.summed_lengths(batch.steps)) {
            let (numbers, after) = rest.split_at(length);
            rest = after;
            let fixed = match at {
                At::Scalars => &sums.rounding.scalars,
                _ => &sums.rounding.gradients,
            };
            let values = numbers.iter().map(|&sum| fixed.value(sum) as f32);
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
