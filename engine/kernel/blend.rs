//! The blend: what a signal remembers of the path, as running sums.
//!
//! Every blend is `m ← λ ⊙ m + (1 − λ) ⊙ c` for each of K banks, with `c [D]` the signal that arrived and
//! `λ [K·D]` given by the blend's kind:
//!
//! * position (the paper's): the softmax over past positions with logits `p` is the running average with
//!   `λ_t = Z_{t−1} / Z_t`, `Z_t = Σ_{j≤t} e^{p_j}`, the same for every column;
//! * decay: `λ = σ(τ)`, learned, the same at every step;
//! * gated: `λ = σ(τ + g_v + c U)`, from the node that was reached and the signal that reached it.
//!
//! Given λ, `m` is linear in every past `c`, so the share of each earlier node is exact.

use crate::kernel::real::Real;

/// `m ← λ m + (1 − λ) c` for every bank. `lambda [K·D]`, `signal [D]`, `banks [K·D]`.
pub fn advance<R: Real>(lambda: &[R], signal: &[R], banks: &mut [R]) {
    let width = signal.len();
    for (bank, lambda) in banks
        .chunks_exact_mut(width)
        .zip(lambda.chunks_exact(width))
    {
        for ((m, &l), &c) in bank.iter_mut().zip(lambda).zip(signal) {
            *m = l * (*m - c) + c;
        }
    }
}

/// The way back through [`advance`].
///
/// `banks_before [K·D]` is `m` before the step. On entry `d_banks` is the gradient of `m` after the step,
/// on return that of `m` before it; `d_lambda` is overwritten and `d_signal` added to.
pub fn advance_backward<R: Real>(
    lambda: &[R],
    signal: &[R],
    banks_before: &[R],
    d_banks: &mut [R],
    d_lambda: &mut [R],
    d_signal: &mut [R],
) {
    let width = signal.len();
    for bank in 0..banks_before.len() / width {
        let range = bank * width..(bank + 1) * width;
        let (lambda, before) = (&lambda[range.clone()], &banks_before[range.clone()]);
        let (d_bank, d_lambda) = (&mut d_banks[range.clone()], &mut d_lambda[range]);
        for j in 0..width {
            d_lambda[j] = d_bank[j] * (before[j] - signal[j]);
            d_signal[j] += d_bank[j] * (R::one() - lambda[j]);
            d_bank[j] *= lambda[j];
        }
    }
}

/// σ(x), element by element, in place.
pub fn sigmoid<R: Real>(values: &mut [R]) {
    for value in values {
        *value = R::one() / (R::one() + (-*value).exp());
    }
}
