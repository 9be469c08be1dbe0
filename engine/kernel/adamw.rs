//! AdamW on one row (Loshchilov and Hutter 2019); `learn::adamw` chooses the rows.
//!
//! `m ← β₁ m + (1−β₁) g`, `s ← β₂ s + (1−β₂) g²`, `w ← w (1 − rate · decay) − rate m̂ / (√ŝ + ε)` with
//! `m̂ = m/(1−β₁^t)` and `ŝ = s/(1−β₂^t)`.

use crate::kernel::simd::{Arithmetic, dispatch};

/// Constants of one step: the rate, with the bias corrections of step t folded in.
#[derive(Clone, Copy, Debug)]
pub struct Update<R> {
    /// β₁.
    pub beta1: R,
    /// β₂.
    pub beta2: R,
    /// Rate / (1 − β₁^t).
    pub rate: R,
    /// 1 / √(1 − β₂^t).
    pub correction: R,
    /// ε.
    pub epsilon: R,
    /// 1 − rate · decay.
    pub shrink: R,
}

#[inline(always)]
fn body<A: Arithmetic>(
    update: &Update<f32>,
    value: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    scale: f32,
) {
    let (keep1, keep2) = (1.0 - update.beta1, 1.0 - update.beta2);
    for (((w, m), s), &g) in value.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * scale;
        *m = A::multiply_add(update.beta1, *m, keep1 * g);
        *s = A::multiply_add(update.beta2, *s, keep2 * g * g);
        *w = *w * update.shrink
            - update.rate * *m / A::multiply_add(s.sqrt(), update.correction, update.epsilon);
    }
}

dispatch! {
    /// Move `value [N]` and its moments by `gradient [N]` times `scale`.
    pub fn apply, apply_at(
        update: &Update<f32>, value: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], scale: f32,
    ) = body
}

/// [`apply`] in f64.
pub fn reference(
    update: &Update<f64>,
    value: &mut [f64],
    first: &mut [f64],
    second: &mut [f64],
    gradient: &[f64],
    scale: f64,
) {
    for (((w, m), s), &g) in value.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * scale;
        *m = update.beta1 * *m + (1.0 - update.beta1) * g;
        *s = update.beta2 * *s + (1.0 - update.beta2) * g * g;
        *w =
            *w * update.shrink - update.rate * *m / (s.sqrt() * update.correction + update.epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::real::Real;
    use crate::kernel::simd::Level;

    fn update<R: Real>() -> Update<R> {
        Update {
            beta1: R::of(0.9),
            beta2: R::of(0.99),
            rate: R::of(0.05),
            correction: R::of(3.0),
            epsilon: R::of(1e-8),
            shrink: R::of(0.999),
        }
    }

    #[test]
    fn every_level_follows_f64() {
        let start: Vec<f64> = (0..37).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let gradient: Vec<f64> = (0..37).map(|i| (f64::from(i) * 1.3).cos()).collect();
        let (mut w, mut m, mut s) = (start.clone(), vec![0.1; 37], vec![0.2; 37]);
        reference(&update(), &mut w, &mut m, &mut s, &gradient, 0.5);
        let thin = |values: &[f64]| -> Vec<f32> { values.iter().map(|&v| v as f32).collect() };
        let g = thin(&gradient);
        for level in Level::available() {
            let (mut a, mut b, mut c) = (thin(&start), vec![0.1f32; 37], vec![0.2f32; 37]);
            apply_at(level, &update(), &mut a, &mut b, &mut c, &g, 0.5);
            for (found, exact) in [(&a, &w), (&b, &m), (&c, &s)] {
                for (found, exact) in found.iter().zip(exact) {
                    assert!((f64::from(*found) - exact).abs() < 1e-6, "{level:?}");
                }
            }
        }
    }
}
