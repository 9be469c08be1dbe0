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

use crate::kernel::product::{self, Begin, LANES};
use crate::kernel::simd::{Arithmetic, dispatch};
use crate::kernel::{activation, vector};

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
    product::product::<A>(signals, (width, 1), matrix, begin, z, width, width);
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
                let (c, slope) = activation::gelu_with_derivative::<A>(block[lane]);
                lanes[lane] = A::multiply_add(c, c, lanes[lane]);
                block[lane] = c * slope;
            }
        }
        for z in rest {
            let (c, slope) = activation::gelu_with_derivative::<A>(*z);
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
    // Transposing W once lets the product read rows; its columns are far apart in memory.
    let transposed = &mut scratch[..width * width];
    for row in 0..width {
        for column in 0..width {
            transposed[column * width + row] = edge[row * width + column];
        }
    }
    product::product::<A>(
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
    // dW = xᵀ dz: exchanging the strides of x transposes it.
    product::product::<A>(signals, (1, width), d_z, Begin::Sum, d_matrix, rows, width);
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
    pub fn preactivations, preactivations_at(
        signals: &[f32], base: &[f32], edge: &[f32], width: usize, z: &mut [f32],
    ) = preactivations_body
}

dispatch! {
    /// Compute energies and slopes of n signals over one edge.
    ///
    /// `signals [n, D]`, `base [n, D]` (the position rows), `edge [D·D + D]` → `slopes [n, D]`, `energies [n]`.
    pub fn forward, forward_at(
        signals: &[f32], base: &[f32], edge: &[f32], squared: bool, slopes: &mut [f32], energies: &mut [f32],
    ) = forward_body
}

dispatch! {
    /// Add `d_z · Wᵀ` to the signals' gradient: `d_signals [n, D] += d_z [n, D] · Wᵀ`; `scratch` holds D² numbers.
    pub fn signals_backward, signals_backward_at(
        d_z: &[f32], edge: &[f32], scratch: &mut [f32], width: usize, d_signals: &mut [f32],
    ) = signals_backward_body
}

dispatch! {
    /// Add to an edge's gradient: `d_edge [D·D + D] += (Σ_i x_iᵀ dz_i, Σ_i dz_i)`.
    pub fn edge_backward, edge_backward_at(
        signals: &[f32], d_z: &[f32], width: usize, d_edge: &mut [f32],
    ) = edge_backward_body
}

/// [`preactivations`] in f64.
pub fn reference_preactivations(
    signals: &[f64],
    base: &[f64],
    edge: &[f64],
    width: usize,
    z: &mut [f64],
) {
    let (matrix, bias) = edge.split_at(width * width);
    for (z, base) in z.chunks_exact_mut(width).zip(base.chunks_exact(width)) {
        for j in 0..width {
            z[j] = base[j] + bias[j];
        }
    }
    product::reference(signals, matrix, width, z);
}

/// [`forward`] in f64.
pub fn reference_forward(
    signals: &[f64],
    base: &[f64],
    edge: &[f64],
    squared: bool,
    slopes: &mut [f64],
    energies: &mut [f64],
) {
    let width = signals.len() / energies.len().max(1);
    reference_preactivations(signals, base, edge, width, slopes);
    for (slopes, energy) in slopes.chunks_exact_mut(width).zip(energies) {
        let mut square = 0.0;
        for z in slopes {
            let (value, slope) = activation::reference(*z);
            square += value * value;
            *z = value * slope;
        }
        *energy = if squared { square } else { square.sqrt() };
    }
}

/// [`signals_backward`] in f64.
pub fn reference_signals_backward(
    d_z: &[f64],
    edge: &[f64],
    _scratch: &mut [f64],
    width: usize,
    d_signals: &mut [f64],
) {
    let rows = d_z.chunks_exact(width);
    for (d_z, d_x) in rows.zip(d_signals.chunks_exact_mut(width)) {
        for (d_x, row) in d_x.iter_mut().zip(edge.chunks_exact(width)) {
            *d_x += vector::reference_dot(d_z, row);
        }
    }
}

/// [`edge_backward`] in f64.
pub fn reference_edge_backward(signals: &[f64], d_z: &[f64], width: usize, d_edge: &mut [f64]) {
    for (x, d_z) in signals.chunks_exact(width).zip(d_z.chunks_exact(width)) {
        // The bias counts as a row of W that every signal reaches with 1.
        let factors = x.iter().chain(std::iter::once(&1.0));
        for (&x, d_row) in factors.zip(d_edge.chunks_exact_mut(width)) {
            vector::reference_add_scaled(x, d_z, d_row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::random::Random;
    use crate::kernel::simd::Level;

    #[test]
    fn every_level_follows_f64_forward_and_backward() {
        let mut random = Random::new(5);
        for (width, rows) in [8usize, 16, 20, 32, 48]
            .into_iter()
            .flat_map(|width| [1usize, 3, 4, 9].map(|rows| (width, rows)))
        {
            let (n, e) = (rows * width, width * width + width);
            let mut draw = |length: usize| -> Vec<f32> {
                (0..length).map(|_| random.normal() as f32 * 0.5).collect()
            };
            let (x, base, edge, d_z) = (draw(n), draw(n), draw(e), draw(n));
            let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| v.into()).collect() };
            let (x64, base64, edge64, d_z64) = (wide(&x), wide(&base), wide(&edge), wide(&d_z));
            let (mut u64s, mut e64) = (vec![0.0; n], vec![0.0; rows]);
            let (mut dx64, mut de64) = (vec![0.0; n], vec![0.0; e]);
            reference_forward(&x64, &base64, &edge64, false, &mut u64s, &mut e64);
            reference_signals_backward(&d_z64, &edge64, &mut [], width, &mut dx64);
            reference_edge_backward(&x64, &d_z64, width, &mut de64);
            for level in Level::available() {
                let (mut u, mut energies) = (vec![0.0; n], vec![0.0; rows]);
                let (mut dx, mut de) = (vec![0.0; n], vec![0.0; e]);
                forward_at(level, &x, &base, &edge, false, &mut u, &mut energies);
                let mut scratch = vec![0.0; width * width];
                signals_backward_at(level, &d_z, &edge, &mut scratch, width, &mut dx);
                edge_backward_at(level, &x, &d_z, width, &mut de);
                for (what, found, exact) in [
                    ("slopes", &u, &u64s),
                    ("energies", &energies, &e64),
                    ("signals", &dx, &dx64),
                    ("edge", &de, &de64),
                ] {
                    for (a, b) in found.iter().zip(exact) {
                        let near = (f64::from(*a) - b).abs() < 2e-6 * (1.0 + b.abs());
                        assert!(near, "{level:?} width {width}, {rows} rows: {what}");
                    }
                }
            }
        }
    }
}
