//! Products of a few rows with keys or values: the logits of query heads that share keys, and their outputs.

use crate::kernel::simd::{Arithmetic, dispatch};

/// Add the products of `M` rows with `N` neighbouring columns, whose sums stay in registers. `a [M][inner]`,
/// `b [inner, columns]`
#[inline(always)]
fn add_tile<A: Arithmetic, const M: usize, const N: usize>(
    a: &[&[f32]; M],
    b: &[f32],
    columns: usize,
    first: usize,
    output: &mut [&mut [f32]; M],
) {
    let mut sums = [[0.0f32; N]; M];
    for k in 0..a[0].len() {
        let b: &[f32] = &b[k * columns + first..][..N];
        for m in 0..M {
            let factor = a[m][k];
            for n in 0..N {
                sums[m][n] = A::multiply_add(factor, b[n], sums[m][n]);
            }
        }
    }
    for m in 0..M {
        for (output, sum) in output[m][first..first + N].iter_mut().zip(&sums[m]) {
            *output += sum;
        }
    }
}

/// Rows of `b` whose products with 8 columns or one are added up apart: an addition waits for the one before it.
const CHAINS: usize = 4;

/// Add the products of `M` rows with `N` neighbouring columns, too few to fill the time of an addition: of every
/// [`CHAINS`] rows of `b`, each has sums of its own.
#[inline(always)]
fn add_narrow_tile<A: Arithmetic, const M: usize, const N: usize>(
    a: &[&[f32]; M],
    b: &[f32],
    columns: usize,
    first: usize,
    output: &mut [&mut [f32]; M],
) {
    let inner = a[0].len();
    let row = |k: usize| -> &[f32; N] {
        let row = b[k * columns + first..].first_chunk();
        row.expect("as many columns as sums")
    };
    // Sums have names: in one array, the compiler would keep them in memory.
    let (mut s0, mut s1, mut s2, mut s3) =
        ([[0.0; N]; M], [[0.0; N]; M], [[0.0; N]; M], [[0.0; N]; M]);
    let mut k = 0;
    while k + CHAINS <= inner {
        s0 = add_row::<A, M, N>(a, k, row(k), s0);
        s1 = add_row::<A, M, N>(a, k + 1, row(k + 1), s1);
        s2 = add_row::<A, M, N>(a, k + 2, row(k + 2), s2);
        s3 = add_row::<A, M, N>(a, k + 3, row(k + 3), s3);
        k += CHAINS;
    }
    while k < inner {
        s0 = add_row::<A, M, N>(a, k, row(k), s0);
        k += 1;
    }
    for m in 0..M {
        for n in 0..N {
            output[m][first + n] += (s0[m][n] + s1[m][n]) + (s2[m][n] + s3[m][n]);
        }
    }
}

/// Add the products of component `k` of `M` rows with a row of `b` to sums.
#[inline(always)]
fn add_row<A: Arithmetic, const M: usize, const N: usize>(
    a: &[&[f32]; M],
    k: usize,
    b: &[f32; N],
    mut sums: [[f32; N]; M],
) -> [[f32; N]; M] {
    for m in 0..M {
        sums[m] = add_scaled_row::<A, N>(a[m][k], b, sums[m]);
    }
    sums
}

/// Add a multiple of a row to sums.
#[inline(always)]
fn add_scaled_row<A: Arithmetic, const N: usize>(
    factor: f32,
    row: &[f32; N],
    mut sums: [f32; N],
) -> [f32; N] {
    for n in 0..N {
        sums[n] = A::multiply_add(factor, row[n], sums[n]);
    }
    sums
}

/// Add the products of `M` rows with all columns, `N` at a time, then 8, then one.
#[inline(always)]
fn add_rows<A: Arithmetic, const M: usize, const N: usize>(
    a: [&[f32]; M],
    b: &[f32],
    columns: usize,
    mut output: [&mut [f32]; M],
) {
    let mut first = 0;
    while first + N <= columns {
        add_tile::<A, M, N>(&a, b, columns, first, &mut output);
        first += N;
    }
    while first + 8 <= columns {
        add_narrow_tile::<A, M, 8>(&a, b, columns, first, &mut output);
        first += 8;
    }
    while first < columns {
        add_narrow_tile::<A, M, 1>(&a, b, columns, first, &mut output);
        first += 1;
    }
}

#[inline(always)]
fn add_products_body<A: Arithmetic>(
    a: Rows<'_>,
    rows: usize,
    b: &[f32],
    columns: usize,
    output: &mut [f32],
    stride: usize,
) {
    let inner = b.len() / columns;
    let mut outputs = output
        .chunks_mut(stride)
        .map(|output| &mut output[..columns]);
    let mut next = || outputs.next().expect("as many rows of output as of `a`");
    let row = |row: usize| &a.numbers[row * a.stride..][..inner];
    let mut done = 0;
    // The more rows share the numbers of `b`, the fewer columns there are registers for.
    while done < rows {
        done += match rows - done {
            1 => {
                add_rows::<A, 1, 64>([row(done)], b, columns, [next()]);
                1
            }
            2 => {
                let a = [row(done), row(done + 1)];
                add_rows::<A, 2, 32>(a, b, columns, [next(), next()]);
                2
            }
            _ => {
                let a = [row(done), row(done + 1), row(done + 2)];
                add_rows::<A, 3, 32>(a, b, columns, [next(), next(), next()]);
                3
            }
        };
    }
}

/// Rows of numbers that lie `stride` apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// From the first number of the first row on.
    pub numbers: &'a [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
}

dispatch! {
    /// Add the matrix product of `rows` rows with `b [inner, columns]` to rows of `output` that lie `stride` apart: the
    /// logits of query heads that share keys, `q K` with `keys [width][slots]`, and the outputs of them, `p V` with
    /// `values [slots][width]`.
    ///
    /// The order of a sum depends on its column alone. O(rows · inner · columns)
    pub fn add_products, add_products_at(a: Rows<'_>, rows: usize, b: &[f32], columns: usize, output: &mut [f32], stride: usize) = add_products_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::Level;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn products_follow_the_definition_at_every_level() {
        for (rows, inner, columns) in [(1, 3, 64), (2, 5, 40), (3, 64, 64), (4, 7, 13), (9, 2, 81)]
        {
            let (a_stride, stride) = (inner + 2, columns + 3);
            let (a, b) = (wave(rows * a_stride, 0.7), wave(inner * columns, 1.3));
            for level in Level::available() {
                let mut output = vec![0.5; rows * stride];
                let rows_of_a = Rows {
                    numbers: &a,
                    stride: a_stride,
                };
                add_products_at(level, rows_of_a, rows, &b, columns, &mut output, stride);
                for (i, &found) in output.iter().enumerate() {
                    let (row, column) = (i / stride, i % stride);
                    let product =
                        |k| f64::from(a[row * a_stride + k]) * f64::from(b[k * columns + column]);
                    // The numbers between the rows stay as they are.
                    let expected = match column < columns {
                        true => 0.5 + (0..inner).map(product).sum::<f64>(),
                        false => 0.5,
                    };
                    let place = format!("{rows}×{inner}×{columns}, {i}, {}", level.name());
                    assert!((f64::from(found) - expected).abs() < 1e-5, "{place}");
                }
            }
        }
    }
}
