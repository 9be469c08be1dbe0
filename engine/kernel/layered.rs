//! Layered edges, for one path or the positions of a batch.
//!
//! The signal of a node passes through L layers. Each reads the edge u → v that the path takes, that is the normalised
//! signals of both of its nodes; a gated running sum carries the past; what a layer computes is added to the signal:
//!
//! ```text
//! s⁰_v = 10 κ β_v                                the signal that reaches v
//! n    = g ⊙ s / rms(s)                          rms(s) = √(mean s² + ε)  (RMSNorm: Zhang and Sennrich 2019)
//! [p | q | o] = W [n_v; n_u] + b                 the edge; n_u = 0 at the first node of a path
//! c    = GELU(p),   λ = σ(q)
//! m    ← λ ⊙ m + (1 − λ) ⊙ c                     K banks (see kernel::blend)
//! s    ← s + 2 σ(o) ⊙ A [c; 2 m]
//! h    = R (g' ⊙ s / rms(s)) + a                 the output, after the last layer
//! E_t  = ‖h + β_t‖²
//! ```
//!
//! The recurrence of m is linear and gated by the edge alone, so every other step is a matrix product over all
//! positions of a text at once. Matrices are stored with a row for each output. Sizes: D signal width, w inner width,
//! `Z = w + K·w + D` columns of an edge, `X = (1 + K)·w` blended columns; n rows, ordered by step and then by
//! sequence.

use crate::kernel::blend;
use crate::kernel::composed::EPSILON;
use crate::kernel::real::Real;

/// Widths of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Signal width, D.
    pub signal: usize,
    /// Inner width, w.
    pub inner: usize,
    /// Banks, K.
    pub banks: usize,
}

impl Widths {
    /// Columns of the memory, K·w.
    pub fn memory(self) -> usize {
        self.banks * self.inner
    }

    /// Columns of an edge, `Z = w + K·w + D`.
    pub fn edge(self) -> usize {
        self.inner + self.memory() + self.signal
    }

    /// Blended columns, `X = (1 + K)·w`.
    pub fn blended(self) -> usize {
        self.inner + self.memory()
    }
}

/// Compute `scale g ⊙ s / rms(s)` of n signals into the first D columns of the rows of `normal`.
///
/// `signals [n, D]`, `gain [D]`, `inverse_rms [n]`, `normal [n, ≥ D]`.
pub fn normalise<R: Real>(
    signals: &[R],
    gain: &[R],
    scale: R,
    inverse_rms: &mut [R],
    normal: &mut [R],
) {
    let d = gain.len();
    let columns = normal.len() / inverse_rms.len();
    let rows = signals
        .chunks_exact(d)
        .zip(normal.chunks_exact_mut(columns));
    for ((signal, normal), inverse) in rows.zip(inverse_rms) {
        let mean = R::dot(signal, signal) / R::of(d as f64);
        *inverse = R::one() / (mean + R::of(EPSILON)).sqrt();
        let factor = scale * *inverse;
        for ((normal, &s), &g) in normal.iter_mut().zip(signal).zip(gain) {
            *normal = g * s * factor;
        }
    }
}

/// Backward pass of [`normalise`] with a scale of 1: adds to `d_signals [n, D]` and `d_gain [D]`.
pub fn normalise_backward<R: Real>(
    signals: &[R],
    gain: &[R],
    inverse_rms: &[R],
    d_normal: &[R],
    d_signals: &mut [R],
    d_gain: &mut [R],
) {
    let d = gain.len();
    let columns = d_normal.len() / inverse_rms.len();
    let rows = signals.chunks_exact(d).zip(d_normal.chunks_exact(columns));
    let rows = rows.zip(inverse_rms).zip(d_signals.chunks_exact_mut(d));
    for (((signal, d_normal), &inverse), d_signal) in rows {
        // With r = 1/rms: ds = r g ⊙ dn − s r³ (s · (g ⊙ dn)) / D.
        let mut along = R::zero();
        for j in 0..d {
            d_gain[j] += d_normal[j] * signal[j] * inverse;
            along += signal[j] * gain[j] * d_normal[j];
        }
        let pull = along * inverse * inverse * inverse / R::of(d as f64);
        for j in 0..d {
            d_signal[j] += inverse * gain[j] * d_normal[j] - signal[j] * pull;
        }
    }
}

/// What the memory of a layer computes and keeps, for n rows.
pub struct Memory<'a, R, B> {
    /// `[p | q | o]`. `[n, Z]`
    pub edge: &'a [R],
    /// m before the first step. `[n of a step, K·w]`
    pub before: &'a [B],
    /// c. `[n, w]`
    pub signal: &'a mut [R],
    /// λ. `[n, K·w]`
    pub lambda: &'a mut [R],
    /// m. `[n, K·w]`
    pub banks: &'a mut [B],
    /// `[c; 2 m]`. `[n, X]`
    pub blended: &'a mut [R],
}

impl<R: Real, B: Real> Memory<'_, R, B> {
    /// Compute c, λ, m and the blended rows from the edges.
    pub fn forward(&mut self, widths: Widths) {
        let (w, g, x) = (widths.inner, widths.memory(), widths.blended());
        for (row, edge) in self.edge.chunks_exact(widths.edge()).enumerate() {
            let signal = &mut self.signal[row * w..(row + 1) * w];
            R::gelu(&edge[..w], signal);
            let lambda = &mut self.lambda[row * g..(row + 1) * g];
            R::sigmoid(&edge[w..w + g], lambda);
            // The row before of the same sequence lies a whole step back.
            let (earlier, rest) = self.banks.split_at_mut(row * g);
            let banks = &mut rest[..g];
            banks.copy_from_slice(match earlier.len().checked_sub(self.before.len()) {
                Some(start) => &earlier[start..start + g],
                None => &self.before[row * g..(row + 1) * g],
            });
            blend::advance(lambda, signal, banks);
            let blended = &mut self.blended[row * x..(row + 1) * x];
            blended[..w].copy_from_slice(signal);
            for (blended, bank) in blended[w..].iter_mut().zip(banks) {
                *blended = R::of(2.0 * bank.wide());
            }
        }
    }
}

impl<R: Real> Memory<'_, R, R> {
    /// Backward pass of [`Self::forward`]: sets the first `w + K·w` columns of `d_edge [n, Z]`.
    ///
    /// `d_blended [n, X]`; `d_banks`, of one step, is the gradient of m after the last step, and on return that of m
    /// before the first.
    pub fn backward(&self, widths: Widths, d_blended: &[R], d_banks: &mut [R], d_edge: &mut [R]) {
        let (w, g, x, z) = (
            widths.inner,
            widths.memory(),
            widths.blended(),
            widths.edge(),
        );
        let width = self.before.len() / g;
        for row in (0..self.edge.len() / z).rev() {
            let banks_before = match row.checked_sub(width) {
                Some(earlier) => &self.banks[earlier * g..(earlier + 1) * g],
                None => &self.before[row * g..(row + 1) * g],
            };
            let (lambda, d_blended) = (
                &self.lambda[row * g..(row + 1) * g],
                &d_blended[row * x..(row + 1) * x],
            );
            let d_banks = &mut d_banks[row % width * g..][..g];
            R::add_scaled(R::of(2.0), &d_blended[w..], d_banks);
            let (d_signal, rest) = d_edge[row * z..(row + 1) * z].split_at_mut(w);
            d_signal.copy_from_slice(&d_blended[..w]);
            blend::advance_backward(
                lambda,
                &self.signal[row * w..(row + 1) * w],
                banks_before,
                d_banks,
                &mut rest[..g],
                d_signal,
            );
            for (d_gate, &l) in rest[..g].iter_mut().zip(lambda) {
                *d_gate *= l * (R::one() - l);
            }
            R::gelu_backward(&self.edge[row * z..row * z + w], d_signal);
        }
    }
}

/// Add what a layer computed to the signals: `s + 2 σ(o) ⊙ y`, with `y = A [c; 2 m]`.
///
/// `edge [n, Z]`, `mixed [n, D]` holds y, `signals [n, D]` → `next [n, D]`.
pub fn add<R: Real>(widths: Widths, edge: &[R], mixed: &[R], signals: &[R], next: &mut [R]) {
    let d = widths.signal;
    for (row, edge) in edge.chunks_exact(widths.edge()).enumerate() {
        let at = row * d..(row + 1) * d;
        let next = &mut next[at.clone()];
        R::sigmoid(&edge[widths.blended()..], next);
        for ((next, &y), &s) in next.iter_mut().zip(&mixed[at.clone()]).zip(&signals[at]) {
            *next = s + R::of(2.0) * *next * y;
        }
    }
}

/// Backward pass of [`add`] but for s, whose gradient is that of the sum: sets `d_mixed [n, D]` and the last D columns
/// of `d_edge [n, Z]`.
pub fn add_backward<R: Real>(
    widths: Widths,
    edge: &[R],
    mixed: &[R],
    d_next: &[R],
    d_mixed: &mut [R],
    d_edge: &mut [R],
) {
    let d = widths.signal;
    let rows = edge.chunks_exact(widths.edge());
    for (row, (edge, d_edge)) in rows.zip(d_edge.chunks_exact_mut(widths.edge())).enumerate() {
        let at = row * d..(row + 1) * d;
        let d_gate = &mut d_edge[widths.blended()..];
        R::sigmoid(&edge[widths.blended()..], d_gate);
        let (d_next, d_mixed, mixed) = (&d_next[at.clone()], &mut d_mixed[at.clone()], &mixed[at]);
        for j in 0..d {
            // y enters with 2 σ, and σ' = σ (1 − σ).
            let gate = d_gate[j];
            d_mixed[j] = R::of(2.0) * gate * d_next[j];
            d_gate[j] = d_mixed[j] * mixed[j] * (R::one() - gate);
        }
    }
}
