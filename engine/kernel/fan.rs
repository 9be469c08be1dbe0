//! The fan: signals through the matrices of edges, in the small, and back.
//!
//! An edge is a row of the arena: its matrix `W [D, D]`, then its bias `b [D]`. For n signals at one node
//!
//! ```text
//! forward    z_i = x_i W + b + base_i        c_i = GELU(z_i)       E_i = ‖c_i‖ or ‖c_i‖²
//! slope      u_i = c_i ⊙ GELU'(z_i)          so that dz_i = (dE_i / E_i) u_i, or 2 dE_i u_i
//! backward   dx_i += dz_i Wᵀ                 dW = Σ_i x_iᵀ dz_i    db = Σ_i dz_i
//! ```
//!
//! All three products run through one kernel that keeps up to six rows in registers.

use crate::kernel::activation::gelu_with_derivative;
use crate::kernel::simd::{Arithmetic, Level, dispatch};

/// Columns that one accumulator holds.
const LANES: usize = 16;

/// What a product begins with: what is there already, or a row of its own beside the bias of the edge.
#[derive(Clone, Copy)]
enum Begin<'a> {
    Sum,
    Bias { base: &'a [f32], bias: &'a [f32] },
}

impl<'a> Begin<'a> {
    #[inline(always)]
    fn from(self, row: usize, column: usize, columns: usize) -> Self {
        match self {
            Self::Sum => self,
            Self::Bias { base, bias } => Self::Bias {
                base: &base[row * columns + column..],
                bias: &bias[column..],
            },
        }
    }
}

/// `c [m, columns] = begin + a [m, inner] · b [inner, columns]`, with `a` read at `row·stride.0 + k·stride.1`.
#[inline(always)]
fn product<A: Arithmetic>(
    a: &[f32],
    stride: (usize, usize),
    b: &[f32],
    begin: Begin<'_>,
    c: &mut [f32],
    inner: usize,
    columns: usize,
) {
    // Sixteen vector registers hold the sums of six rows and what is being multiplied; more would spill.
    let mut row = 0;
    row = tiles::<A, 6>(a, stride, b, begin, c, inner, columns, row);
    row = tiles::<A, 4>(a, stride, b, begin, c, inner, columns, row);
    row = tiles::<A, 2>(a, stride, b, begin, c, inner, columns, row);
    tiles::<A, 1>(a, stride, b, begin, c, inner, columns, row);
}

/// As many tiles of `M` rows as are left from `row`; returns the first row after them.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "a product and where it has come to"
)]
fn tiles<A: Arithmetic, const M: usize>(
    a: &[f32],
    stride: (usize, usize),
    b: &[f32],
    begin: Begin<'_>,
    c: &mut [f32],
    inner: usize,
    columns: usize,
    mut row: usize,
) -> usize {
    while (row + M) * columns <= c.len() {
        tile::<A, M>(
            &a[row * stride.0..],
            stride,
            b,
            begin.from(row, 0, columns),
            &mut c[row * columns..],
            inner,
            columns,
        );
        row += M;
    }
    row
}

#[inline(always)]
fn tile<A: Arithmetic, const M: usize>(
    a: &[f32],
    stride: (usize, usize),
    b: &[f32],
    begin: Begin<'_>,
    c: &mut [f32],
    inner: usize,
    columns: usize,
) {
    let mut column = 0;
    // Few rows need wide blocks, so that enough sums are under way to hide the latency of the product.
    while M <= 2 && column + 2 * LANES <= columns {
        let (b, begin) = (&b[column..], begin.from(0, column, columns));
        block::<A, M, { 2 * LANES }>(a, stride, b, begin, &mut c[column..], inner, columns);
        column += 2 * LANES;
    }
    while column + LANES <= columns {
        let (b, begin) = (&b[column..], begin.from(0, column, columns));
        block::<A, M, LANES>(a, stride, b, begin, &mut c[column..], inner, columns);
        column += LANES;
    }
    for column in column..columns {
        let (b, begin) = (&b[column..], begin.from(0, column, columns));
        block::<A, M, 1>(a, stride, b, begin, &mut c[column..], inner, columns);
    }
}

#[inline(always)]
fn block<A: Arithmetic, const M: usize, const N: usize>(
    a: &[f32],
    stride: (usize, usize),
    b: &[f32],
    begin: Begin<'_>,
    c: &mut [f32],
    inner: usize,
    columns: usize,
) {
    let mut sums = [[0.0f32; N]; M];
    for (row, sums) in sums.iter_mut().enumerate() {
        match begin {
            Begin::Sum => sums.copy_from_slice(&c[row * columns..row * columns + N]),
            Begin::Bias { base, bias } => {
                let base: &[f32; N] = base[row * columns..row * columns + N]
                    .try_into()
                    .expect("N columns");
                let bias: &[f32; N] = bias[..N].try_into().expect("N columns");
                for lane in 0..N {
                    sums[lane] = base[lane] + bias[lane];
                }
            }
        }
    }
    for k in 0..inner {
        let line: &[f32; N] = b[k * columns..k * columns + N]
            .try_into()
            .expect("N columns");
        for (row, sums) in sums.iter_mut().enumerate() {
            let factor = a[row * stride.0 + k * stride.1];
            for lane in 0..N {
                sums[lane] = A::multiply_add(factor, line[lane], sums[lane]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        c[row * columns..row * columns + N].copy_from_slice(sums);
    }
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
    let (matrix, bias) = edge.split_at(width * width);
    let begin = Begin::Bias { base, bias };
    product::<A>(signals, (width, 1), matrix, begin, slopes, width, width);
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
    /// Energies and slopes of n signals over one edge.
    ///
    /// `signals [n, D]`, `base [n, D]` (the position rows), `edge [D·D + D]` → `slopes [n, D]`, `energies [n]`.
    pub fn forward_at(
        signals: &[f32], base: &[f32], edge: &[f32], squared: bool, slopes: &mut [f32], energies: &mut [f32],
    ) = forward_body
}

dispatch! {
    /// `d_signals [n, D] += d_z [n, D] · Wᵀ`; `scratch` holds at least D² numbers.
    pub fn signals_backward_at(
        d_z: &[f32], edge: &[f32], scratch: &mut [f32], width: usize, d_signals: &mut [f32],
    ) = signals_backward_body
}

dispatch! {
    /// `d_edge [D·D + D] += (Σ_i x_iᵀ dz_i, Σ_i dz_i)`.
    pub fn edge_backward_at(signals: &[f32], d_z: &[f32], width: usize, d_edge: &mut [f32]) = edge_backward_body
}

/// What training asks of the fan, in f32 or f64.
pub trait FanArithmetic: Sized {
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
    fn fan_forward(
        signals: &[Self],
        base: &[Self],
        edge: &[Self],
        squared: bool,
        slopes: &mut [Self],
        energies: &mut [Self],
    ) {
        let width = signals.len() / energies.len().max(1);
        for (row, energy) in energies.iter_mut().enumerate() {
            let mut square = 0.0;
            for column in 0..width {
                let mut z = base[row * width + column] + edge[width * width + column];
                for k in 0..width {
                    z += signals[row * width + k] * edge[k * width + column];
                }
                let (value, slope) = crate::kernel::activation::reference(z);
                square += value * value;
                slopes[row * width + column] = value * slope;
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
