//! The fan of a node: many signals over one own edge at a time, forward and backward.
//!
//! [`crate::kernel::energy`] computes the same energies for one signal over many edges, as decoding needs them.
//! An edge is a row of the edge weights: its matrix `W [D, D]`, then its bias `b [D]`. For n signals at one node
//!
//! ```text
//! forward    z_i = x_i W + b + base_i        c_i = GELU(z_i)       E_i = ‖c_i‖ or ‖c_i‖²
//! slope      u_i = c_i ⊙ GELU'(z_i)          so that dz_i = (dE_i / E_i) u_i, or 2 dE_i u_i
//! backward   dx_i += dz_i Wᵀ                 dW = Σ_i x_iᵀ dz_i    db = Σ_i dz_i
//! ```
//!
//! All three products run through [`crate::kernel::product`].

use crate::kernel::activation::gelu_with_derivative;
use crate::kernel::product::{Begin, LANES, add_reference, product};
use crate::kernel::simd::{Arithmetic, Level, dispatch};

#[inline(always)]
fn preactivations_body<A: Arithmetic>(
    signals: &[f32],
    base: &[f32],
    edge: &[f32],
    width: usize,
    z: &mut [f32],
) {
    let (matrix, bias) = edge.split_at(width * width);
    let begin = Begin::Bias { base, bias };
    product::<A>(signals, (width, 1), matrix, begin, z, width, width);
}

#[inline(always)]
fn forward_body<A: Arithmetic>(
    signals: &[f32],
    base: &[f32],
    edge: &[f32],
    squared: bool,
    slopes: &mut [f32],
    energies: &mut [f32],
) {
    let rows = energies.len();
    if rows == 0 {
        return;
    }
    let width = signals.len() / rows;
    preactivations_body::<A>(signals, base, edge, width, slopes);
    // E² = Σ c², summed in lanes; u = c ⊙ GELU'(z) overwrites z.
    for (slope, energy) in slopes.chunks_exact_mut(width).zip(energies) {
        let mut square = 0.0f32;
        let (blocks, rest) = slope.as_chunks_mut::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for block in blocks {
            for lane in 0..LANES {
                let (c, slope) = gelu_with_derivative::<A>(block[lane]);
                lanes[lane] = A::multiply_add(c, c, lanes[lane]);
                block[lane] = c * slope;
            }
        }
        for z in rest {
            let (c, slope) = gelu_with_derivative::<A>(*z);
            square = A::multiply_add(c, c, square);
            *z = c * slope;
        }
        let square: f32 = square + lanes.iter().sum::<f32>();
        *energy = if squared { square } else { square.sqrt() };
    }
}

#[inline(always)]
fn signals_backward_body<A: Arithmetic>(
    d_z: &[f32],
    edge: &[f32],
    scratch: &mut [f32],
    width: usize,
    d_signals: &mut [f32],
) {
    let transposed = &mut scratch[..width * width];
    for row in 0..width {
        for column in 0..width {
            transposed[column * width + row] = edge[row * width + column];
        }
    }
    product::<A>(
        d_z,
        (width, 1),
        transposed,
        Begin::Sum,
        d_signals,
        width,
        width,
    );
}

#[inline(always)]
fn edge_backward_body<A: Arithmetic>(
    signals: &[f32],
    d_z: &[f32],
    width: usize,
    d_edge: &mut [f32],
) {
    let rows = signals.len() / width;
    let (d_matrix, d_bias) = d_edge.split_at_mut(width * width);
    product::<A>(signals, (1, width), d_z, Begin::Sum, d_matrix, rows, width);
    for d_z in d_z.chunks_exact(width) {
        for (sum, &d_z) in d_bias.iter_mut().zip(d_z) {
            *sum += d_z;
        }
    }
}

dispatch! {
    /// Compute `z = x W + b + base` of n signals over one edge.
    ///
    /// `signals [n, D]`, `base [n, D]` (the position rows), `edge [D·D + D]` → `z [n, D]`.
    pub fn preactivations_at(
        signals: &[f32], base: &[f32], edge: &[f32], width: usize, z: &mut [f32],
    ) = preactivations_body
}

dispatch! {
    /// Compute energies and slopes of n signals over one edge.
    ///
    /// `signals [n, D]`, `base [n, D]` (the position rows), `edge [D·D + D]` → `slopes [n, D]`, `energies [n]`.
    pub fn forward_at(
        signals: &[f32], base: &[f32], edge: &[f32], squared: bool, slopes: &mut [f32], energies: &mut [f32],
    ) = forward_body
}

dispatch! {
    /// Add `d_z · Wᵀ` to the signals' gradient: `d_signals [n, D] += d_z [n, D] · Wᵀ`; `scratch` holds at least D² numbers.
    pub fn signals_backward_at(
        d_z: &[f32], edge: &[f32], scratch: &mut [f32], width: usize, d_signals: &mut [f32],
    ) = signals_backward_body
}

dispatch! {
    /// Add to an edge's gradient: `d_edge [D·D + D] += (Σ_i x_iᵀ dz_i, Σ_i dz_i)`.
    pub fn edge_backward_at(signals: &[f32], d_z: &[f32], width: usize, d_edge: &mut [f32]) = edge_backward_body
}

/// The kernels above in f32 and f64.
pub trait FanArithmetic: Sized {
    /// See [`preactivations_at`].
    fn preactivations(signals: &[Self], base: &[Self], edge: &[Self], width: usize, z: &mut [Self]);
    /// See [`forward_at`].
    fn fan_forward(
        signals: &[Self],
        base: &[Self],
        edge: &[Self],
        squared: bool,
        slopes: &mut [Self],
        energies: &mut [Self],
    );
    /// See [`signals_backward_at`].
    fn fan_signals_backward(
        d_z: &[Self],
        edge: &[Self],
        scratch: &mut [Self],
        width: usize,
        d_signals: &mut [Self],
    );
    /// See [`edge_backward_at`].
    fn fan_edge_backward(signals: &[Self], d_z: &[Self], width: usize, d_edge: &mut [Self]);
}

impl FanArithmetic for f32 {
    fn preactivations(
        signals: &[Self],
        base: &[Self],
        edge: &[Self],
        width: usize,
        z: &mut [Self],
    ) {
        preactivations_at(Level::current(), signals, base, edge, width, z);
    }
    fn fan_forward(
        signals: &[Self],
        base: &[Self],
        edge: &[Self],
        squared: bool,
        slopes: &mut [Self],
        energies: &mut [Self],
    ) {
        forward_at(
            Level::current(),
            signals,
            base,
            edge,
            squared,
            slopes,
            energies,
        );
    }
    fn fan_signals_backward(
        d_z: &[Self],
        edge: &[Self],
        scratch: &mut [Self],
        width: usize,
        d_signals: &mut [Self],
    ) {
        signals_backward_at(Level::current(), d_z, edge, scratch, width, d_signals);
    }
    fn fan_edge_backward(signals: &[Self], d_z: &[Self], width: usize, d_edge: &mut [Self]) {
        edge_backward_at(Level::current(), signals, d_z, width, d_edge);
    }
}

impl FanArithmetic for f64 {
    fn preactivations(
        signals: &[Self],
        base: &[Self],
        edge: &[Self],
        width: usize,
        z: &mut [Self],
    ) {
        let (matrix, bias) = edge.split_at(width * width);
        for (z, base) in z.chunks_exact_mut(width).zip(base.chunks_exact(width)) {
            for j in 0..width {
                z[j] = base[j] + bias[j];
            }
        }
        add_reference(signals, matrix, width, z);
    }
    fn fan_forward(
        signals: &[Self],
        base: &[Self],
        edge: &[Self],
        squared: bool,
        slopes: &mut [Self],
        energies: &mut [Self],
    ) {
        let width = signals.len() / energies.len().max(1);
        Self::preactivations(signals, base, edge, width, slopes);
        for (slopes, energy) in slopes.chunks_exact_mut(width).zip(energies) {
            let mut square = 0.0;
            for z in slopes {
                let (value, slope) = crate::kernel::activation::reference(*z);
                square += value * value;
                *z = value * slope;
            }
            *energy = if squared { square } else { square.sqrt() };
        }
    }
    fn fan_signals_backward(
        d_z: &[Self],
        edge: &[Self],
        _: &mut [Self],
        width: usize,
        d_signals: &mut [Self],
    ) {
        for (d_z, d_x) in d_z
            .chunks_exact(width)
            .zip(d_signals.chunks_exact_mut(width))
        {
            for k in 0..width {
                d_x[k] += (0..width)
                    .map(|j| d_z[j] * edge[k * width + j])
                    .sum::<f64>();
            }
        }
    }
    fn fan_edge_backward(signals: &[Self], d_z: &[Self], width: usize, d_edge: &mut [Self]) {
        for (x, d_z) in signals.chunks_exact(width).zip(d_z.chunks_exact(width)) {
            for k in 0..width {
                for j in 0..width {
                    d_edge[k * width + j] += x[k] * d_z[j];
                }
            }
            for j in 0..width {
                d_edge[width * width + j] += d_z[j];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::random::Random;

    #[test]
    fn every_level_follows_f64_there_and_back() {
        let mut random = Random::new(5);
        for width in [8usize, 16, 20, 32, 48] {
            for rows in [1usize, 3, 4, 9] {
                let mut draw = |length: usize| -> Vec<f32> {
                    (0..length).map(|_| random.normal() as f32 * 0.5).collect()
                };
                let (x, base, edge) = (
                    draw(rows * width),
                    draw(rows * width),
                    draw(width * width + width),
                );
                let d_z = draw(rows * width);
                let wide =
                    |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
                let (mut u64s, mut e64) = (vec![0.0; rows * width], vec![0.0; rows]);
                f64::fan_forward(
                    &wide(&x),
                    &wide(&base),
                    &wide(&edge),
                    false,
                    &mut u64s,
                    &mut e64,
                );
                let mut dx64 = vec![0.0; rows * width];
                f64::fan_signals_backward(&wide(&d_z), &wide(&edge), &mut [], width, &mut dx64);
                let mut de64 = vec![0.0; width * width + width];
                f64::fan_edge_backward(&wide(&x), &wide(&d_z), width, &mut de64);
                for level in Level::available() {
                    let (mut u, mut e) = (vec![0.0; rows * width], vec![0.0; rows]);
                    forward_at(level, &x, &base, &edge, false, &mut u, &mut e);
                    let mut dx = vec![0.0; rows * width];
                    let mut scratch = vec![0.0; width * width];
                    signals_backward_at(level, &d_z, &edge, &mut scratch, width, &mut dx);
                    let mut de = vec![0.0; width * width + width];
                    edge_backward_at(level, &x, &d_z, width, &mut de);
                    let near = |a: &[f32], b: &[f64], what: &str| {
                        for (a, b) in a.iter().zip(b) {
                            assert!(
                                (f64::from(*a) - b).abs() < 2e-6 * (1.0 + b.abs()),
                                "{level:?} {width} {rows} {what}"
                            );
                        }
                    };
                    near(&u, &u64s, "slopes");
                    near(&e, &e64, "energies");
                    near(&dx, &dx64, "signals");
                    near(&de, &de64, "edge");
                }
            }
        }
    }
}
