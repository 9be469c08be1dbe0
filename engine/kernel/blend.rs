//! The blend: the memory of a path, as running sums.
//!
//! Every blend is `m ← λ ⊙ m + (1 − λ) ⊙ c` for each of K banks, with `c [D]` the signal that reached a node and
//! `λ [K·D]` given by the kind of blend:
//!
//! * position (the paper's): the softmax over past positions with logits `r` is the running average with
//!   `λ_t = Z_{t−1} / Z_t`, `Z_t = Σ_{j≤t} e^{r_j}`, the same for every column;
//! * decay: `λ = σ(τ)`, learned, the same at every step;
//! * gated: `λ = σ(τ + g_v + c U)`, from the node v and the signal that reached it.
//!
//! Given λ, `m` is linear in every past `c`, so the contribution of each earlier token is exact. Banks are of type
//! `B`: f64 for inference, so that a million hops do not drift, and the number type of the signals for training.

use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;

/// How λ is computed.
#[derive(Clone, Copy)]
pub enum Gates<'a, R, B> {
    /// The same λ for every column: that of the position softmax.
    Fixed(B),
    /// `λ = σ(τ)`, `τ [K·D]`.
    Decay(&'a [R]),
    /// `λ = σ(τ + g_v + c U)`.
    Gated {
        /// `τ [K·D]`.
        decay: &'a [R],
        /// `U [D, K·D]`.
        signal: &'a [R],
    },
}

/// Compute λ for n signals.
///
/// `signals [n, D]`; `node_gate(i)` is `g_v [K·D]` of the node that signal i reached → `lambda [n, K·D]`.
pub fn gates<'n, R: Real, B: Real>(
    kind: Gates<'_, R, B>,
    node_gate: impl Fn(usize) -> &'n [R],
    signals: &[R],
    lambda: &mut [B],
) {
    let (decay, weights) = match kind {
        Gates::Fixed(weight) => return lambda.fill(weight),
        Gates::Decay(decay) => (decay, None),
        Gates::Gated { decay, signal } => (decay, Some(signal)),
    };
    let mut logits = decay.repeat(lambda.len() / decay.len());
    if let Some(weights) = weights {
        for (row, logits) in logits.chunks_exact_mut(decay.len()).enumerate() {
            R::add_scaled(R::one(), node_gate(row), logits);
        }
        // c U of all signals as one product.
        R::product(signals, weights, decay.len(), &mut logits);
    }
    for (lambda, logit) in lambda.iter_mut().zip(logits) {
        *lambda = B::one() / (B::one() + (-B::of(logit.wide())).exp());
    }
}

/// Backward pass of [`gates`]: turns the gradient of λ into that of its logits and adds to that of the signals.
///
/// `lambda [n, K·D]`, `d_gate [n, K·D]` (in: ∂λ, out: ∂logits), `d_signals [n, D]`.
pub fn gates_backward<R: Real>(
    kind: Gates<'_, R, R>,
    lambda: &[R],
    d_gate: &mut [R],
    d_signals: &mut [R],
) {
    if matches!(kind, Gates::Fixed(_)) {
        return;
    }
    // σ'(x) = λ (1 − λ).
    for (slope, &l) in d_gate.iter_mut().zip(lambda) {
        *slope *= l * (R::one() - l);
    }
    if let Gates::Gated { decay, signal } = kind {
        let (g, d) = (decay.len(), signal.len() / decay.len());
        let rows = d_gate.len() / g;
        let weights = Operand::new(signal, d, g).transposed();
        let d_gate = Operand::new(d_gate, rows, g);
        multiply(R::one(), d_gate, weights, R::one(), d_signals);
    }
}

/// Advance every bank by one signal: `m ← λ m + (1 − λ) c`. `lambda [K·D]`, `signal [D]`, `banks [K·D]`.
pub fn advance<L: Real, R: Real, B: Real>(lambda: &[L], signal: &[R], banks: &mut [B]) {
    let width = signal.len();
    for (bank, lambda) in banks
        .chunks_exact_mut(width)
        .zip(lambda.chunks_exact(width))
    {
        for ((m, &l), &c) in bank.iter_mut().zip(lambda).zip(signal) {
            let (l, c) = (B::of(l.wide()), B::of(c.wide()));
            // λ m + (1 − λ) c with one multiplication.
            *m = l * (*m - c) + c;
        }
    }
}

/// Backward pass of [`advance`].
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
    for bank in 0..d_banks.len() / width {
        let range = bank * width..(bank + 1) * width;
        let (lambda, before) = (&lambda[range.clone()], &banks_before[range.clone()]);
        let (d_bank, d_lambda) = (&mut d_banks[range.clone()], &mut d_lambda[range]);
        for j in 0..width {
            // m' = λ m + (1 − λ) c: ∂λ = m − c, ∂c = 1 − λ, ∂m = λ.
            d_lambda[j] = d_bank[j] * (before[j] - signal[j]);
            d_signal[j] += d_bank[j] * (R::one() - lambda[j]);
            d_bank[j] *= lambda[j];
        }
    }
}
