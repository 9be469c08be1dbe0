//! AdamW in two modes; [`crate::kernel::adamw`] has the equations.
//!
//! In `touched` mode a row moves in the steps that touch it; in
//! `dense` mode, the authors', every row ever touched keeps moving by its momentum.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::kernel::adamw::Update;
use crate::kernel::real::Real;
use crate::learn::parameter::{Parameter, Touched};

/// Rows that a step moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdamMode {
    /// Rows move in the steps that touch them.
    #[default]
    Touched,
    /// Every row ever touched keeps moving by its momentum.
    Dense,
}

/// Constants of the optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    /// Rows that a step moves.
    pub mode: AdamMode,
    /// Decay of the first moment, β₁.
    pub beta1: f64,
    /// Decay of the second moment, β₂.
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay of the parameters it applies to.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            mode: AdamMode::Touched,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// Both moments of one parameter.
#[derive(Clone, Debug, Default)]
pub struct Moments<R> {
    /// First moment, like the parameter.
    pub first: Vec<R>,
    /// Second moment, like the parameter.
    pub second: Vec<R>,
}

impl AdamW {
    /// Return the constants of step `step` (from 1) at learning rate `rate`, with its bias corrections.
    pub fn update<R: Real>(&self, step: u64, rate: f64, decays: bool) -> Update<R> {
        let t = step.min(i32::MAX as u64) as i32;
        Update {
            beta1: R::of(self.beta1),
            beta2: R::of(self.beta2),
            // m̂ = m / (1 − β₁ᵗ) and ŝ = s / (1 − β₂ᵗ): folded into two constants, the corrections cost nothing per
            // number.
            rate: R::of(rate / (1.0 - self.beta1.powi(t))),
            correction: R::of(1.0 / (1.0 - self.beta2.powi(t)).sqrt()),
            epsilon: R::of(self.epsilon),
            // Decoupled weight decay: the weight shrinks apart from its gradient, so that the moments do not see the
            // decay.
            shrink: R::of(if decays {
                1.0 - rate * self.weight_decay
            } else {
                1.0
            }),
        }
    }

    /// Move one parameter by its gradient times `scale` (the clipping factor).
    pub fn step<R: Real>(
        &self,
        parameter: &mut Parameter<R>,
        moments: &mut Moments<R>,
        step: u64,
        rate: f64,
        scale: f64,
    ) {
        let length = parameter.value.len();
        moments.first.resize(length, R::zero());
        moments.second.resize(length, R::zero());
        let update = self.update(step, rate, parameter.decays);
        let scale = R::of(scale);
        let columns = parameter.shape[1];
        match (&parameter.touched, self.mode) {
            (Touched::Rows(rows), AdamMode::Touched) => {
                // Rows without a gradient keep weights and moments as they are.
                for &row in rows {
                    let range = row as usize * columns..(row as usize + 1) * columns;
                    R::adamw(
                        &update,
                        &mut parameter.value[range.clone()],
                        &mut moments.first[range.clone()],
                        &mut moments.second[range.clone()],
                        &parameter.gradient[range],
                        scale,
                    );
                }
            }
            _ => {
                // Small enough to balance threads, large enough to hide their cost.
                const CHUNK: usize = 1 << 14;
                parameter
                    .value
                    .par_chunks_mut(CHUNK)
                    .zip(moments.first.par_chunks_mut(CHUNK))
                    .zip(moments.second.par_chunks_mut(CHUNK))
                    .zip(parameter.gradient.par_chunks(CHUNK))
                    .for_each(|(((value, first), second), gradient)| {
                        R::adamw(&update, value, first, second, gradient, scale);
                    });
            }
        }
    }
}

/// Return the Euclidean norm of all gradients, summed in f64 in a fixed order.
pub fn gradient_norm<R: Real>(parameters: &[&mut Parameter<R>]) -> f64 {
    let square =
        |values: &[R]| -> f64 { values.iter().map(|value| value.wide() * value.wide()).sum() };
    parameters
        .iter()
        // Chunks are summed in order, so that the norm does not depend on the number of threads.
        .map(|parameter| match &parameter.touched {
            Touched::All => parameter
                .gradient
                .par_chunks(1 << 14)
                .map(square)
                .collect::<Vec<_>>()
                .into_iter()
                .sum::<f64>(),
            Touched::Rows(rows) => {
                let columns = parameter.shape[1];
                rows.iter()
                    .map(|&row| square(&parameter.gradient[row as usize * columns..][..columns]))
                    .sum()
            }
        })
        .sum::<f64>()
        .sqrt()
}
