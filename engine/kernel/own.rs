//! One hop over an own edge, for one path or a batch.
//!
//! ```text
//! z = x W_s + b_s + PE                      fan::preactivations; s is the row of the edge
//! c = gain · GELU(z)                        the signal that reaches the node
//! m ← λ ⊙ m + (1 − λ) ⊙ c                   the blend (see kernel::blend)
//! x = m                                     output, position blend
//! x = μ_0 ⊙ c + Σ_k μ_k ⊙ m_k               output, decay and gated blends
//! E = ‖c(t)‖ for each target t              fan::forward_at in training, energy::energies_at in decoding
//! ```
//!
//! The first node has no edge: `z = start + node_start + PE[0]`, and under the position blend its signal is the
//! output of that node without entering the blend, as in the authors' code.

use crate::kernel::blend::{self, Gates};
use crate::kernel::real::Real;

/// How a node blends the signal that reaches it.
pub struct Node<'a, R, B> {
    /// `None` for the first node under the position blend: its signal is not blended.
    pub gates: Option<Gates<'a, R, B>>,
    /// `g_v [K·D]` of a gated blend, else empty.
    pub gate: &'a [R],
    /// `μ [1 + K, D]`; empty for the position blend.
    pub mix: &'a [R],
    /// Factor on the signal; 1 except where a hook changes the context.
    pub gain: R,
}

/// What one hop leaves of a path.
pub struct Path<'a, R, B> {
    /// Signal c. `[D]`
    pub signal: &'a mut [R],
    /// λ of the hop. `[K·D]`
    pub lambda: &'a mut [B],
    /// Running sums: before the hop on entry, after it on return. `[K·D]`
    pub banks: &'a mut [B],
    /// Output x. `[D]`
    pub output: &'a mut [R],
}

/// Run the node that a signal reaches: activation, blend and output. `preactivation [D]`
pub fn forward<R: Real, B: Real>(
    node: &Node<'_, R, B>,
    preactivation: &[R],
    path: &mut Path<'_, R, B>,
) {
    R::gelu(preactivation, path.signal);
    if node.gain != R::one() {
        R::scale(node.gain, path.signal);
    }
    let Some(gates) = node.gates else {
        path.output.copy_from_slice(path.signal);
        return;
    };
    blend::gates(gates, |_| node.gate, path.signal, path.lambda);
    blend::advance(path.lambda, path.signal, path.banks);
    output(node.mix, path.signal, path.banks, path.output);
}

/// Compute the output of a node from its signal `[D]` and banks `[K·D]`.
pub fn output<R: Real, B: Real>(mix: &[R], signal: &[R], banks: &[B], output: &mut [R]) {
    let width = signal.len();
    for (j, x) in output.iter_mut().enumerate() {
        let bank = |k: usize| R::of(banks[k * width + j].wide());
        // x = m under the position blend, else μ_0 ⊙ c + Σ_k μ_k ⊙ m_k.
        *x = if mix.is_empty() {
            bank(0)
        } else {
            (1..mix.len() / width).fold(mix[j] * signal[j], |sum, k| {
                sum + mix[k * width + j] * bank(k - 1)
            })
        };
    }
}

/// What the backward pass of one hop reads and writes.
pub struct Backward<'a, R> {
    /// Pre-activation z. `[D]`
    pub preactivation: &'a [R],
    /// Signal c. `[D]`
    pub signal: &'a [R],
    /// λ of the hop. `[K·D]`
    pub lambda: &'a [R],
    /// Banks before the hop. `[K·D]`
    pub banks_before: &'a [R],
    /// Gradient of the output x. `[D]`
    pub d_output: &'a [R],
    /// Gradient of the banks: after the hop on entry, before it on return. `[K·D]`
    pub d_banks: &'a mut [R],
    /// Set to the gradient of the logits of λ (of λ under the position blend). `[K·D]`
    pub d_gate: &'a mut [R],
    /// Set to the gradient of z. `[D]`
    pub d_preactivation: &'a mut [R],
}

/// Backward pass of [`forward`], with a gain of 1.
pub fn backward<R: Real>(node: &Node<'_, R, R>, path: &mut Backward<'_, R>) {
    let width = path.signal.len();
    let d_signal = &mut *path.d_preactivation;
    match node.gates {
        None => {
            // x = c: nothing was blended.
            d_signal.copy_from_slice(path.d_output);
            path.d_gate.fill(R::zero());
        }
        Some(gates) => {
            if node.mix.is_empty() {
                // x = m: the signal has a gradient through the bank only.
                d_signal.fill(R::zero());
                R::add_scaled(R::one(), path.d_output, path.d_banks);
            } else {
                let (direct, mixed) = node.mix.split_at(width);
                for j in 0..width {
                    d_signal[j] = path.d_output[j] * direct[j];
                }
                let banks = path.d_banks.chunks_exact_mut(width);
                for (d_bank, weight) in banks.zip(mixed.chunks_exact(width)) {
                    for j in 0..width {
                        d_bank[j] += path.d_output[j] * weight[j];
                    }
                }
            }
            blend::advance_backward(
                path.lambda,
                path.signal,
                path.banks_before,
                path.d_banks,
                path.d_gate,
                d_signal,
            );
            blend::gates_backward(gates, path.lambda, path.d_gate, d_signal);
        }
    }
    R::gelu_backward(path.preactivation, d_signal);
}

/// Add the gradient of μ of one hop. `d_output [D]`, `signal [D]`, `banks [K·D]` → `d_mix [1 + K, D]`
pub fn mix_backward<R: Real>(d_output: &[R], signal: &[R], banks: &[R], d_mix: &mut [R]) {
    let width = signal.len();
    let sources = std::iter::once(signal).chain(banks.chunks_exact(width));
    for (gradient, source) in d_mix.chunks_exact_mut(width).zip(sources) {
        for j in 0..width {
            gradient[j] += d_output[j] * source[j];
        }
    }
}
