//! One hop over composed edges, for one path or a batch of n.
//!
//! The matrix and bias of an edge u → v are made from factors of its nodes, `W_uv = A diag(p_u) + B diag(s_u) C` and
//! `b_uv = a_u + β_v`, so a hop is a node update:
//!
//! ```text
//! z = h + β_v (+ δ of the edge's own residual, see kernel::residual)
//! y = g ⊙ z / rms(z) + 10 κ β_v             rms(z) = √(mean z² + ε)  (RMSNorm: Zhang and Sennrich 2019)
//! c = gain · GELU(y)                        the signal that reaches v
//! m ← λ ⊙ m + (1 − λ) ⊙ c                   the blend (see kernel::blend)
//! x = [c; 2 m]
//! h = (x A) ⊙ p_v + a_v + ((x B) ⊙ s_v) C   the output, which every edge out of v carries
//! E_t = ‖h + β_t‖² = ‖h‖² + 2 h·β_t + ‖β_t‖²
//! ```
//!
//! β_v, p_v, a_v, s_v are the node's target factor, scale, offset and low-rank scale. All V energies are one product
//! `h·β`, and ‖h‖² cancels in the softmax. Matrix products of a step run over all its paths at once.

use crate::kernel::blend::{self, Gates};
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;

/// ε: keeps the root of the mean square away from zero.
pub const EPSILON: f64 = 1e-6;
/// κ is stored as a tenth of its effect, so that one learning rate suits it and the target factors.
pub const KAPPA: f64 = 10.0;

/// Return the factor of β in the activation: 10 κ.
pub fn kappa<R: Real>(stored: R) -> R {
    R::of(KAPPA) * stored
}

/// Weights that all nodes share.
#[derive(Clone, Copy)]
pub struct Shared<'a, R> {
    /// Signal width D.
    pub width: usize,
    /// `g [D]`.
    pub gain: &'a [R],
    /// 10 κ; see [`kappa`].
    pub kappa: R,
    /// `A [X, D]`.
    pub mix: &'a [R],
    /// `B [X, R]`; empty without a low-rank part.
    pub low_in: &'a [R],
    /// `C [R, D]`.
    pub low_out: &'a [R],
}

/// Factors of one node.
#[derive(Clone, Copy)]
pub struct Factors<'a, R> {
    /// `β [D]`.
    pub target: &'a [R],
    /// `p [D]`.
    pub scale: &'a [R],
    /// `a [D]`.
    pub offset: &'a [R],
    /// `s [R]`.
    pub low_scale: &'a [R],
    /// `g_v [K·D]` of a gated blend, else empty.
    pub gate: &'a [R],
}

/// One step of n paths: what a hop reads and leaves.
pub struct Paths<'a, R, B> {
    /// `h (+ δ)` on entry, z on return. `[n, D]`
    pub preactivation: &'a mut [R],
    /// 1 / rms(z). `[n]`
    pub inverse_rms: &'a mut [R],
    /// y, before the activation. `[n, D]`
    pub before: &'a mut [R],
    /// Dropout mask on β in y; empty for none. `[n, D]`
    pub mask: &'a [R],
    /// c. `[n, D]`
    pub signal: &'a mut [R],
    /// λ. `[n, K·D]`
    pub lambda: &'a mut [B],
    /// m: before the hop on entry, after it on return. `[n, K·D]`
    pub banks: &'a mut [B],
    /// x. `[n, X]`
    pub blended: &'a mut [R],
    /// x A. `[n, D]`
    pub mixed: &'a mut [R],
    /// x B. `[n, R]`
    pub low: &'a mut [R],
    /// h. `[n, D]`
    pub output: &'a mut [R],
}

/// Run the nodes that n signals reach; `factors(i)` are those of the node of path i.
pub fn forward<'f, R: Real, B: Real>(
    shared: &Shared<'_, R>,
    gates: Gates<'_, R, B>,
    gain: R,
    factors: impl Fn(usize) -> Factors<'f, R>,
    paths: &mut Paths<'_, R, B>,
) {
    let d = shared.width;
    for row in 0..paths.inverse_rms.len() {
        let at = row * d..(row + 1) * d;
        // z = h + δ + β; the inverse root is kept for the backward pass.
        let z = &mut paths.preactivation[at.clone()];
        let target = factors(row).target;
        R::add_scaled(R::one(), target, z);
        let inverse = R::one() / (R::dot(z, z) / R::of(d as f64) + R::of(EPSILON)).sqrt();
        paths.inverse_rms[row] = inverse;
        let y = &mut paths.before[at.clone()];
        for j in 0..d {
            // Dropout of β, in training alone.
            let mask = paths.mask.get(row * d + j).copied().unwrap_or(R::one());
            y[j] = shared.gain[j] * z[j] * inverse + shared.kappa * mask * target[j];
        }
    }
    R::gelu(paths.before, paths.signal);
    if gain != R::one() {
        R::scale(gain, paths.signal);
    }
    blend::gates(gates, |row| factors(row).gate, paths.signal, paths.lambda);
    let g = paths.banks.len() / paths.inverse_rms.len();
    let two = R::of(2.0);
    for (row, x) in paths.blended.chunks_exact_mut(d + g).enumerate() {
        let (signal, at) = (
            &paths.signal[row * d..(row + 1) * d],
            row * g..(row + 1) * g,
        );
        let banks = &mut paths.banks[at.clone()];
        blend::advance(&paths.lambda[at], signal, banks);
        x[..d].copy_from_slice(signal);
        for (x, bank) in x[d..].iter_mut().zip(banks) {
            *x = two * R::of(bank.wide());
        }
    }
    output(
        shared,
        factors,
        paths.blended,
        paths.mixed,
        paths.low,
        paths.output,
    );
}

/// Compute h from x. `blended [n, X]` → `x A` in `mixed [n, D]`, `x B` in `low [n, R]`, `output [n, D]`.
pub fn output<'f, R: Real>(
    shared: &Shared<'_, R>,
    factors: impl Fn(usize) -> Factors<'f, R>,
    blended: &[R],
    mixed: &mut [R],
    low: &mut [R],
    output: &mut [R],
) {
    let d = shared.width;
    mixed.fill(R::zero());
    R::product(blended, shared.mix, d, mixed);
    for (row, h) in output.chunks_exact_mut(d).enumerate() {
        let Factors { scale, offset, .. } = factors(row);
        for j in 0..d {
            h[j] = mixed[row * d + j] * scale[j] + offset[j];
        }
    }
    let rank = shared.low_out.len() / d;
    if rank > 0 {
        low.fill(R::zero());
        R::product(blended, shared.low_in, rank, low);
        let mut scaled = low.to_vec();
        for (row, low) in scaled.chunks_exact_mut(rank).enumerate() {
            for (low, &scale) in low.iter_mut().zip(factors(row).low_scale) {
                *low *= scale;
            }
        }
        R::product(&scaled, shared.low_out, d, output);
    }
}

/// Turn products `h·β_t` into energies `‖h + β_t‖²`. `norm2` holds ‖β_t‖². `[V]`, `[V]`
pub fn energies<R: Real>(output: &[R], norm2: &[R], dots: &mut [R]) {
    let square = R::dot(output, output);
    for (energy, &norm2) in dots.iter_mut().zip(norm2) {
        // The expansion of a square can become negative by rounding.
        *energy = (square + R::of(2.0) * *energy + norm2).max(R::zero());
    }
}

/// Gradients of one step of n paths.
pub struct Backward<'a, R> {
    /// Gradient of h. `[n, D]`
    pub d_output: &'a [R],
    /// Banks before the hop; empty for the first. `[n, K·D]`
    pub banks_before: &'a [R],
    /// Set to the gradient of x A. `[n, D]`
    pub d_mixed: &'a mut [R],
    /// Set to the gradient of x B. `[n, R]`
    pub d_low: &'a mut [R],
    /// Gradient of x from elsewhere (own residuals); added to. `[n, X]`
    pub d_blended: &'a mut [R],
    /// Gradient of m: after the hop on entry, before it on return. `[n, K·D]`
    pub d_banks: &'a mut [R],
    /// Set to the gradient of the logits of λ (of λ under the position blend). `[n, K·D]`
    pub d_gate: &'a mut [R],
    /// Set to the gradient of y. `[n, D]`
    pub d_before: &'a mut [R],
    /// Set to the gradient of z, which is also that of the previous h and of δ. `[n, D]`
    pub d_preactivation: &'a mut [R],
    /// Set to the gradient of β of the nodes reached. `[n, D]`
    pub d_target: &'a mut [R],
}

/// Backward pass of [`forward`], with a gain of 1.
pub fn backward<'f, R: Real>(
    shared: &Shared<'_, R>,
    gates: Gates<'_, R, R>,
    factors: impl Fn(usize) -> Factors<'f, R>,
    paths: &Paths<'_, R, R>,
    back: &mut Backward<'_, R>,
) {
    let (d, n) = (shared.width, paths.inverse_rms.len());
    let (x, g) = (paths.blended.len() / n, paths.banks.len() / n);
    output_backward(shared, &factors, x, back);

    // x = [c; 2 m], then m from c and the banks before.
    let zero = vec![R::zero(); g];
    for row in 0..n {
        let (at, banks) = (row * d..(row + 1) * d, row * g..(row + 1) * g);
        let d_x = &back.d_blended[row * x..(row + 1) * x];
        let d_signal = &mut back.d_before[at.clone()];
        let d_banks = &mut back.d_banks[banks.clone()];
        d_signal.copy_from_slice(&d_x[..d]);
        R::add_scaled(R::of(2.0), &d_x[d..], d_banks);
        blend::advance_backward(
            &paths.lambda[banks.clone()],
            &paths.signal[at],
            back.banks_before.get(banks.clone()).unwrap_or(&zero),
            d_banks,
            &mut back.d_gate[banks],
            d_signal,
        );
    }
    blend::gates_backward(gates, paths.lambda, back.d_gate, back.d_before);
    R::gelu_backward(paths.before, back.d_before);

    // y = g ⊙ z r + 10 κ β with r = (mean z² + ε)^(−1/2): dz = r g ⊙ dy − z r³ (z · (g ⊙ dy)) / D.
    for row in 0..n {
        let at = row * d..(row + 1) * d;
        let (d_y, z) = (&back.d_before[at.clone()], &paths.preactivation[at.clone()]);
        let inverse = paths.inverse_rms[row];
        let mut along = R::zero();
        for j in 0..d {
            along += z[j] * shared.gain[j] * d_y[j];
        }
        let pull = along * inverse * inverse * inverse / R::of(d as f64);
        let d_z = &mut back.d_preactivation[at.clone()];
        let d_target = &mut back.d_target[at.clone()];
        for j in 0..d {
            d_z[j] = inverse * shared.gain[j] * d_y[j] - z[j] * pull;
            // β is part of z, and of y with the factor 10 κ.
            d_target[j] = d_z[j] + shared.kappa * paths.mask[at.start + j] * d_y[j];
        }
    }
}

/// Backward pass of [`output`]: `dx += (dh ⊙ p) Aᵀ + ((dh Cᵀ) ⊙ s) Bᵀ`.
fn output_backward<'f, R: Real>(
    shared: &Shared<'_, R>,
    factors: &impl Fn(usize) -> Factors<'f, R>,
    x: usize,
    back: &mut Backward<'_, R>,
) {
    let (d, one) = (shared.width, R::one());
    let n = back.d_output.len() / d;
    for row in 0..n {
        let scale = factors(row).scale;
        for j in 0..d {
            back.d_mixed[row * d + j] = back.d_output[row * d + j] * scale[j];
        }
    }
    let mix = Operand::new(shared.mix, x, d).transposed();
    let d_mixed = Operand::new(back.d_mixed, n, d);
    multiply(one, d_mixed, mix, one, back.d_blended);
    let rank = shared.low_out.len() / d;
    if rank > 0 {
        let low_out = Operand::new(shared.low_out, rank, d).transposed();
        let d_output = Operand::new(back.d_output, n, d);
        multiply(one, d_output, low_out, R::zero(), back.d_low);
        for (row, d_low) in back.d_low.chunks_exact_mut(rank).enumerate() {
            for (d_low, &scale) in d_low.iter_mut().zip(factors(row).low_scale) {
                *d_low *= scale;
            }
        }
        let low_in = Operand::new(shared.low_in, x, rank).transposed();
        let d_low = Operand::new(back.d_low, n, rank);
        multiply(one, d_low, low_in, one, back.d_blended);
    }
}
