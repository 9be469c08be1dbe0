//! The position table, and the softmax over positions as a running average.
//!
//! Table (the authors' code, no parameter): `PE[p, 2j] = sin(p · div_j)`, `PE[p, 2j+1] = cos(p · div_j)`
//! with `div_j = 10000^(2j/D)`, a *product* where the usual form divides. The angle is formed in f32, as
//! theirs is: at 3 million radians one f32 step is a quarter turn, so only the rounded angle gives their values.

use crate::kernel::real::Real;

/// One row of the position table. `row [D]`
///
/// The angle is theirs bit for bit; sine and cosine are the nearest f32, from which the authors' framework
/// (whose vector library rounds within 0.57 of a step) differs in about one value of twenty, by one step.
pub fn row(position: usize, row: &mut [f32]) {
    let width = row.len();
    for (column, value) in row.iter_mut().enumerate() {
        let pair = column / 2 * 2;
        let divisor = 10000f64.powf(pair as f64 / width as f64) as f32;
        let angle = f64::from(position as f32 * divisor);
        *value = if column % 2 == 0 {
            angle.sin()
        } else {
            angle.cos()
        } as f32;
    }
}

/// λ_t = Z_{t−1} / Z_t of the softmax over position logits, for steps 0 up to `steps`. `[T]`
///
/// Positions beyond the last logit repeat it.
pub fn weights<R: Real>(logits: &[R], steps: usize) -> Vec<R> {
    if logits.is_empty() {
        return Vec::new();
    }
    let top = logits.iter().copied().fold(logits[0], R::max);
    let mut total = R::zero();
    (0..steps)
        .map(|step| {
            let before = total;
            total += (logits[step.min(logits.len() - 1)] - top).exp();
            before / total
        })
        .collect()
}

/// From the gradient of each λ_t to that of the logits, which is added to.
pub fn weights_backward<R: Real>(lambda: &[R], d_lambda: &[R], d_logits: &mut [R]) {
    let last = d_logits.len() - 1;
    // The softmax weight of position j at step t is (1 − λ_j) Π_{j<s≤t} λ_s.
    for (step, &slope) in d_lambda.iter().enumerate() {
        let mut weight = R::one();
        for j in (0..=step).rev() {
            let share = weight * (R::one() - lambda[j]);
            let change = if j == step {
                -lambda[step]
            } else {
                R::one() - lambda[step]
            };
            d_logits[j.min(last)] += slope * share * change;
            weight *= lambda[j];
        }
    }
}
