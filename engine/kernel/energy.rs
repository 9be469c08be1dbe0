//! Energies of one signal over a run of own edges, for decoding: bound by memory bandwidth.
//!
//! `E_e = ‖GELU(x W_e + b_e + base)‖` for edges whose matrices and biases lie one after another, as f32,
//! f16 or int8 with a scale per edge. Elements are widened in registers: a converted copy would cost more
//! than the product. Two sets of accumulators hide the latency of the multiply-add. [`crate::kernel::fan`] computes
//! the same energies of many signals over one edge, with derivatives, for training.

use crate::kernel::activation::gelu;
use crate::kernel::lanes::{self, LANES};
use crate::kernel::simd::{Arithmetic, dispatch};

/// An element of an edge as it is stored.
pub trait Cell: bytemuck::Pod + Sync {
    /// Widen to f32, before the scale of its row.
    fn wide(self) -> f32;
}

impl Cell for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}

impl Cell for i8 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from(self)
    }
}

/// The bits of an f16.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Half(pub u16);

impl Cell for Half {
    #[inline(always)]
    fn wide(self) -> f32 {
        // Shifting exponent and fraction into place and multiplying by 2^112 corrects the bias, and is exact
        // for subnormals too. Infinities do not occur: saving rejects them.
        let magnitude =
            f32::from_bits(u32::from(self.0 & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        f32::from_bits(magnitude.to_bits() | (u32::from(self.0 & 0x8000) << 16))
    }
}

/// Compute `x W + b` over `N` columns from `column` on.
#[inline(always)]
fn strip<A: Arithmetic, C: Cell, const N: usize>(
    signal: &[f32],
    edge: &[C],
    column: usize,
) -> [f32; N] {
    let width = signal.len();
    let row = |k: usize| -> &[C; N] {
        edge[k * width + column..][..N]
            .try_into()
            .expect("N columns")
    };
    let (mut even, mut odd) = ([0.0f32; N], [0.0f32; N]);
    // Even and odd rows have sums of their own: a sum waits 4 cycles for the one before.
    let mut k = 0;
    while k + 1 < width {
        let (first, second) = (row(k), row(k + 1));
        for lane in 0..N {
            even[lane] = A::multiply_add(signal[k], first[lane].wide(), even[lane]);
            odd[lane] = A::multiply_add(signal[k + 1], second[lane].wide(), odd[lane]);
        }
        k += 2;
    }
    if k < width {
        let last = row(k);
        for lane in 0..N {
            even[lane] = A::multiply_add(signal[k], last[lane].wide(), even[lane]);
        }
    }
    // The bias is the row after the matrix.
    let bias = row(width);
    for lane in 0..N {
        even[lane] += odd[lane] + bias[lane].wide();
    }
    even
}

/// Return Σ GELU(z)² over one strip of columns.
#[inline(always)]
fn square<A: Arithmetic, const N: usize>(sums: &[f32; N], scale: f32, base: &[f32]) -> f32 {
    let base: &[f32; N] = base[..N].try_into().expect("N columns");
    let mut squares = [0.0f32; N];
    for lane in 0..N {
        let value = gelu::<A>(A::multiply_add(scale, sums[lane], base[lane]));
        squares[lane] = value * value;
    }
    squares.iter().sum()
}

#[inline(always)]
fn energies_body<A: Arithmetic, C: Cell>(
    signal: &[f32],
    base: &[f32],
    edges: &[C],
    scales: &[f32],
    squared: bool,
    energies: &mut [f32],
) {
    let width = signal.len();
    let stride = width * width + width;
    for (index, energy) in energies.iter_mut().enumerate() {
        let edge = &edges[index * stride..(index + 1) * stride];
        // The scale of an int8 row multiplies the sums, not every element.
        let scale = scales.get(index).copied().unwrap_or(1.0);
        let mut sum = 0.0;
        let mut column = 0;
        while column + 2 * LANES <= width {
            let sums = strip::<A, C, { 2 * LANES }>(signal, edge, column);
            sum += square::<A, { 2 * LANES }>(&sums, scale, &base[column..]);
            column += 2 * LANES;
        }
        while column + LANES <= width {
            let sums = strip::<A, C, LANES>(signal, edge, column);
            sum += square::<A, LANES>(&sums, scale, &base[column..]);
            column += LANES;
        }
        while column < width {
            let sums = strip::<A, C, 1>(signal, edge, column);
            sum += square::<A, 1>(&sums, scale, &base[column..]);
            column += 1;
        }
        *energy = if squared { sum } else { sum.sqrt() };
    }
}

dispatch! {
    /// Compute the energies of a run of edges.
    ///
    /// `signal [D]`, `base [D]`, `edges [F, D·D + D]`, `scales [F]` or empty → `energies [F]`.
    pub fn energies, energies_at[C: Cell][C](
        signal: &[f32], base: &[f32], edges: &[C], scales: &[f32], squared: bool, energies: &mut [f32],
    ) = energies_body
}

/// Rows of one pass of [`dots`]: a multiply-add waits 4 cycles for the sum before, and what is read of the vector serves all.
const ROWS: usize = 4;

/// Compute the dot products of a vector with `M` rows. The order of a row's sum does not depend on `M`.
#[inline(always)]
fn dots_of<A: Arithmetic, C: Cell, const M: usize>(vector: &[f32], rows: &[C], dots: &mut [f32]) {
    let width = vector.len();
    let (blocks, vector_rest) = vector.as_chunks::<LANES>();
    let mut sums = [[0.0f32; LANES]; M];
    for (index, block) in blocks.iter().enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            let cells = &rows[row * width + index * LANES..][..LANES];
            let cells = wide::<C>(cells.try_into().expect("LANES cells"));
            *sums = lanes::add::<A>(&cells, block, *sums);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let rest = &rows[row * width + blocks.len() * LANES..(row + 1) * width];
        let mut sum = lanes::total(*sums);
        for (cell, &value) in rest.iter().zip(vector_rest) {
            sum = A::multiply_add(cell.wide(), value, sum);
        }
        dots[row] = sum;
    }
}

/// Widen as many cells as there are lanes.
#[inline(always)]
fn wide<C: Cell>(cells: &[C; LANES]) -> [f32; LANES] {
    let mut wide = [0.0f32; LANES];
    for lane in 0..LANES {
        wide[lane] = cells[lane].wide();
    }
    wide
}

#[inline(always)]
fn dots_body<A: Arithmetic, C: Cell>(vector: &[f32], rows: &[C], scales: &[f32], dots: &mut [f32]) {
    let width = vector.len();
    let whole = dots.len() / ROWS * ROWS;
    for first in (0..whole).step_by(ROWS) {
        dots_of::<A, C, ROWS>(vector, &rows[first * width..], &mut dots[first..]);
    }
    for row in whole..dots.len() {
        dots_of::<A, C, 1>(vector, &rows[row * width..], &mut dots[row..]);
    }
    for (dot, scale) in dots.iter_mut().zip(scales) {
        *dot *= scale;
    }
}

dispatch! {
    /// Compute the dot products of one vector with a run of rows: all V energies of composed edges are one call.
    ///
    /// `vector [D]`, `rows [N, D]`, `scales [N]` or empty → `dots [N]`.
    pub fn dots, dots_at[C: Cell][C](vector: &[f32], rows: &[C], scales: &[f32], dots: &mut [f32]) = dots_body
}

#[inline(always)]
fn widen_body<A: Arithmetic, C: Cell>(cells: &[C], scale: f32, values: &mut [f32]) {
    for (value, cell) in values.iter_mut().zip(cells) {
        *value = cell.wide() * scale;
    }
}

dispatch! {
    /// Widen a row: `values = scale · cells`. `[N]`
    pub fn widen, widen_at[C: Cell][C](cells: &[C], scale: f32, values: &mut [f32]) = widen_body
}

/// Read every element once: the bandwidth that decoding is compared with.
#[inline(always)]
fn read_body<A: Arithmetic>(values: &[f32]) -> f32 {
    // Written as the product with ones is: the shape that every compiler turns into four wide accumulators.
    let mut lanes = [[0.0f32; LANES]; 4];
    let (blocks, rest) = values.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        for group in 0..4 {
            for lane in 0..LANES {
                let value = block[group * LANES + lane];
                lanes[group][lane] = A::multiply_add(value, 1.0, lanes[group][lane]);
            }
        }
    }
    let mut sum = 0.0;
    for lane in 0..LANES {
        sum += (lanes[0][lane] + lanes[1][lane]) + (lanes[2][lane] + lanes[3][lane]);
    }
    rest.iter().fold(sum, |sum, value| sum + value)
}

dispatch! {
    /// Return the sum of a slice, as fast as memory delivers it. `[N]`
    pub fn read, read_at(values: &[f32]) -> f32 = read_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::activation::reference;
    use crate::kernel::random::Random;
    use crate::kernel::simd::Level;

    fn exact(signal: &[f32], base: &[f32], edge: &[f32]) -> f64 {
        let width = signal.len();
        (0..width)
            .map(|j| {
                let mut z = f64::from(base[j]) + f64::from(edge[width * width + j]);
                for k in 0..width {
                    z += f64::from(signal[k]) * f64::from(edge[k * width + j]);
                }
                reference(z).0.powi(2)
            })
            .sum::<f64>()
            .sqrt()
    }

    #[test]
    fn every_level_and_element_follows_f64() {
        let mut random = Random::new(3);
        for width in [1usize, 7, 16, 20, 32, 40, 64] {
            let stride = width * width + width;
            let mut draw =
                |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32 * 0.4).collect() };
            let (signal, base, edges) = (draw(width), draw(width), draw(3 * stride));
            let halves: Vec<half::f16> = edges.iter().map(|&x| half::f16::from_f32(x)).collect();
            let half_bits: Vec<Half> = halves.iter().map(|h| Half(h.to_bits())).collect();
            let scales = [0.011f32, 0.007, 0.02];
            let bytes: Vec<i8> = (0..3 * stride)
                .map(|i| ((i * 37 + 11) % 255) as i8)
                .collect();
            for level in Level::available() {
                let mut found = [0.0f32; 3];
                let check = |found: &[f32; 3], rows: &dyn Fn(usize) -> Vec<f32>| {
                    for edge in 0..3 {
                        let expected = exact(&signal, &base, &rows(edge));
                        assert!(
                            (f64::from(found[edge]) - expected).abs() < 2e-6 * (1.0 + expected),
                            "{level:?} {width}"
                        );
                    }
                };
                energies_at(level, &signal, &base, &edges, &[], false, &mut found);
                check(&found, &|e| edges[e * stride..(e + 1) * stride].to_vec());
                energies_at(level, &signal, &base, &half_bits, &[], false, &mut found);
                check(&found, &|e| {
                    halves[e * stride..(e + 1) * stride]
                        .iter()
                        .map(|h| h.to_f32())
                        .collect()
                });
                energies_at(level, &signal, &base, &bytes, &scales, false, &mut found);
                check(&found, &|e| {
                    bytes[e * stride..(e + 1) * stride]
                        .iter()
                        .map(|&b| f32::from(b) * scales[e])
                        .collect()
                });
                let mut dots = [0.0f32; 3];
                dots_at(level, &signal, &edges[..3 * width], &[], &mut dots);
                for row in 0..3 {
                    let expected: f32 =
                        (0..width).map(|k| signal[k] * edges[row * width + k]).sum();
                    assert!((dots[row] - expected).abs() < 1e-5 * (1.0 + expected.abs()));
                }
            }
        }
    }

    #[test]
    fn a_dot_product_does_not_depend_on_the_rows_beside_it() {
        fn check<C: Cell>(level: Level, vector: &[f32], rows: &[C], scales: &[f32]) {
            let width = vector.len();
            let mut together = vec![0.0f32; rows.len() / width];
            dots_at(level, vector, rows, scales, &mut together);
            for (row, (cells, &found)) in rows.chunks(width).zip(&together).enumerate() {
                let scale = scales.get(row..row + 1).unwrap_or_default();
                let mut alone = [0.0];
                dots_at(level, vector, cells, scale, &mut alone);
                assert_eq!(alone[0], found, "{level:?}, width {width}, row {row}");
                let terms = cells.iter().zip(vector);
                let exact: f64 = terms
                    .map(|(cell, &x)| f64::from(cell.wide()) * f64::from(x))
                    .sum();
                let exact = exact * f64::from(scale.first().copied().unwrap_or(1.0));
                assert!((f64::from(found) - exact).abs() < 1e-4 * (1.0 + exact.abs()));
            }
        }
        let mut random = Random::new(5);
        for width in [1usize, 15, 16, 33, 64, 100, 160] {
            let mut draw =
                |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32 * 0.4).collect() };
            let (vector, rows) = (draw(width), draw(7 * width));
            let halves = rows.iter().map(|&x| Half(half::f16::from_f32(x).to_bits()));
            let halves: Vec<Half> = halves.collect();
            let bytes: Vec<i8> = rows.iter().map(|&x| (x * 60.0) as i8).collect();
            let scales: Vec<f32> = draw(7);
            for level in Level::available() {
                check(level, &vector, &rows, &[]);
                check(level, &vector, &halves, &[]);
                check(level, &vector, &bytes, &scales);
            }
        }
    }

    #[test]
    fn halves_widen_exactly() {
        for bits in (0u16..0x7c00).chain(0x8000..0xfc00) {
            assert_eq!(
                Half(bits).wide().to_bits(),
                half::f16::from_bits(bits).to_f32().to_bits(),
                "{bits:#x}"
            );
        }
    }
}
