//! Rows of stored matrices: conversion to f32, and products with a few vectors.
//!
//! Sums are in f32 over exact weights. The compiler makes vector instructions of these loops as they are written, over arrays
//! of constant length and without branches between the rows; look at the machine code after a change
//! (`brillm bench --model FILE.gguf`).

use crate::kernel::block_format::{Block, PART};
use crate::kernel::lanes::{self, LANES};
use crate::kernel::simd::{Arithmetic, dispatch, prefetch};

#[inline(always)]
fn unpack_body<A: Arithmetic, B: Block>(bytes: &[u8], weights: &mut [f32]) {
    let whole = weights.len() / B::WEIGHTS;
    let blocks = bytes.chunks_exact(B::BYTES);
    for (bytes, weights) in blocks.zip(weights.chunks_exact_mut(B::WEIGHTS)) {
        // The weights of one block are converted together, not those of one index of many blocks.
        let bytes = std::hint::black_box(bytes);
        for (part, weights) in weights.as_chunks_mut::<PART>().0.iter_mut().enumerate() {
            *weights = B::unpack::<A>(bytes, part);
        }
    }
    let rest = &mut weights[whole * B::WEIGHTS..];
    if !rest.is_empty() {
        let unpacked = unpack_rest::<A, B>(&bytes[whole * B::BYTES..]);
        rest.copy_from_slice(&unpacked[..rest.len()]);
    }
}

/// Convert the end of a row that is not a whole block, which only float formats have; zeros follow.
#[inline(always)]
fn unpack_rest<A: Arithmetic, B: Block>(bytes: &[u8]) -> [f32; PART] {
    let mut padded = [0; 4 * PART];
    padded[..bytes.len()].copy_from_slice(bytes);
    B::unpack::<A>(&padded, 0)
}

dispatch! {
    /// Convert a row to f32.
    pub(super) fn unpack_row, unpack_row_at [B: Block] [B] (bytes: &[u8], weights: &mut [f32]) = unpack_body
}

#[inline(always)]
fn dot_body<A: Arithmetic, B: Block>(bytes: &[u8], columns: usize, x: &[f32], output: &mut [f32]) {
    let (whole, rest) = (columns / B::WEIGHTS, columns % B::WEIGHTS);
    let row_bytes = whole * B::BYTES + rest * (B::BYTES / B::WEIGHTS);
    let count = x.len() / columns;
    // Four sums at a time, those of four rows: an addition waits for the one before it in its own sum only.
    for (rows, output) in bytes
        .chunks(4 * row_bytes)
        .zip(output.chunks_mut(4 * count))
    {
        let rows: [&[u8]; 4] = if rows.len() == 4 * row_bytes {
            let (first, second) = rows.split_at(2 * row_bytes);
            let (a, b) = first.split_at(row_bytes);
            let (c, d) = second.split_at(row_bytes);
            [a, b, c, d]
        } else {
            // The last rows: the first one stands in for those that are missing.
            let mut last = [&rows[..row_bytes]; 4];
            for (last, row) in last.iter_mut().zip(rows.chunks_exact(row_bytes)) {
                *last = row;
            }
            last
        };
        for (n, x) in x.chunks_exact(columns).enumerate() {
            let products = four_rows::<A, B>(rows, x);
            for (output, product) in output.chunks_exact_mut(count).zip(products) {
                output[n] = product;
            }
        }
    }
}

/// Groups of four rows from one that is multiplied to the one that is fetched from memory meanwhile.
const AHEAD: usize = 2;

/// Compute the products of four neighbouring matrix rows with a row of `x`.
#[inline(always)]
fn four_rows<A: Arithmetic, B: Block>(rows: [&[u8]; 4], x: &[f32]) -> [f32; 4] {
    let mut sums = [[0.0f32; LANES]; 4];
    // Four streams in one page of memory are more than processors follow by themselves: with blocks of 8 bits, a row of 576
    // weights was read at a fifth of the speed.
    let mut ahead = rows[0].as_ptr().wrapping_add(4 * AHEAD * rows[0].len());
    let [a, b, c, d] = rows.map(|row| row.chunks_exact(B::BYTES));
    for (blocks, x) in a.zip(b).zip(c.zip(d)).zip(x.chunks_exact(B::WEIGHTS)) {
        let ((a, b), (c, d)) = blocks;
        let blocks = [a, b, c, d];
        for line in 0..(4 * B::BYTES).div_ceil(64) {
            prefetch(ahead.wrapping_add(64 * line));
        }
        ahead = ahead.wrapping_add(4 * B::BYTES);
        for (part, x) in x.as_chunks::<PART>().0.iter().enumerate() {
            for r in 0..4 {
                sums[r] = add_products::<A>(B::unpack::<A>(blocks[r], part), x, sums[r]);
            }
        }
    }
    let mut products = [0.0; 4];
    for r in 0..4 {
        products[r] = total::<A, B>(rows[r], x, sums[r]);
    }
    products
}

/// Add the products of the weights of a part with as many numbers of `x` to sums.
#[inline(always)]
fn add_products<A: Arithmetic>(
    weights: [f32; PART],
    x: &[f32; PART],
    mut sums: [f32; LANES],
) -> [f32; LANES] {
    for lane in 0..LANES {
        sums[lane] = A::multiply_add(weights[lane], x[lane], sums[lane]);
    }
    for lane in 0..LANES {
        let i = LANES + lane;
        sums[lane] = A::multiply_add(weights[i], x[i], sums[lane]);
    }
    sums
}

/// Add the sums of a row's whole blocks up. The rest of a float row is added to the first sum.
#[inline(always)]
fn total<A: Arithmetic, B: Block>(row: &[u8], x: &[f32], sums: [f32; LANES]) -> f32 {
    let whole = x.len() / B::WEIGHTS;
    let rest = &x[whole * B::WEIGHTS..];
    let mut sums = sums;
    if !rest.is_empty() {
        let weights = unpack_rest::<A, B>(&row[whole * B::BYTES..]);
        for (x, weight) in rest.iter().zip(&weights) {
            sums[0] += x * weight;
        }
    }
    lanes::total(sums)
}

/// Add the products of `R` rows of weights with a row of `x`, of [`LANES`] columns, to the sums of each row.
#[inline(always)]
fn add_column<A: Arithmetic, const R: usize>(
    weights: &[&[[f32; LANES]]; R],
    chunk: usize,
    x: &[f32; LANES],
    mut sums: [[f32; LANES]; R],
) -> [[f32; LANES]; R] {
    for r in 0..R {
        sums[r] = lanes::add::<A>(&weights[r][chunk], x, sums[r]);
    }
    sums
}

/// Return the columns of a row that belong to whole parts.
#[inline(always)]
fn whole(row: &[f32]) -> &[[f32; LANES]] {
    let parts = row.len() / PART;
    &row.as_chunks::<LANES>().0[..parts * (PART / LANES)]
}

/// Add the rest of the columns and the lanes of each row of weights up.
#[inline(always)]
fn totals<const R: usize>(weights: &[&[f32]; R], x: &[f32], sums: [[f32; LANES]; R]) -> [f32; R] {
    let rest = x.len() / PART * PART;
    let mut products = [0.0; R];
    for r in 0..R {
        let mut sums = sums[r];
        for (x, weight) in x[rest..].iter().zip(&weights[r][rest..]) {
            sums[0] += x * weight;
        }
        products[r] = lanes::total(sums);
    }
    products
}

/// Compute the products of `R` rows of weights with a row of `x`.
#[inline(always)]
fn one_of_x<A: Arithmetic, const R: usize>(weights: &[&[f32]; R], x: &[f32]) -> [f32; R] {
    let (rows, whole_x) = (weights.map(whole), whole(x));
    let mut sums = [[0.0; LANES]; R];
    for chunk in 0..whole_x.len() {
        sums = add_column::<A, R>(&rows, chunk, &whole_x[chunk], sums);
    }
    totals(weights, x, sums)
}

/// Compute the products of `R` rows of weights with four rows of `x`. The sums have names: in one array, the compiler would
/// keep them in memory.
#[inline(always)]
fn four_of_x<A: Arithmetic, const R: usize>(
    weights: &[&[f32]; R],
    x: [&[f32]; 4],
) -> [[f32; R]; 4] {
    let rows = weights.map(whole);
    let chunks = whole(x[0]).len();
    let rows = rows.map(|row| &row[..chunks]);
    let [x0, x1, x2, x3] = x.map(|row| &whole(row)[..chunks]);
    let (mut s0, mut s1) = ([[0.0; LANES]; R], [[0.0; LANES]; R]);
    let (mut s2, mut s3) = ([[0.0; LANES]; R], [[0.0; LANES]; R]);
    for chunk in 0..chunks {
        s0 = add_column::<A, R>(&rows, chunk, &x0[chunk], s0);
        s1 = add_column::<A, R>(&rows, chunk, &x1[chunk], s1);
        s2 = add_column::<A, R>(&rows, chunk, &x2[chunk], s2);
        s3 = add_column::<A, R>(&rows, chunk, &x3[chunk], s3);
    }
    [
        totals(weights, x[0], s0),
        totals(weights, x[1], s1),
        totals(weights, x[2], s2),
        totals(weights, x[3], s3),
    ]
}

/// Compute the products of `R` rows of weights with all rows of `x`. `weights [R, columns]`, `output [R, N]`
#[inline(always)]
fn products_of_rows<A: Arithmetic, const R: usize, const WIDE: bool>(
    weights: &[f32],
    columns: usize,
    x: &[f32],
    output: &mut [f32],
) {
    let count = x.len() / columns;
    let mut rows: [&[f32]; R] = [&[]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &weights[r * columns..(r + 1) * columns];
    }
    let mut put = |n: usize, products: [f32; R]| {
        for r in 0..R {
            output[r * count + n] = products[r];
        }
    };
    let of_x = |n: usize| &x[n * columns..(n + 1) * columns];
    let mut n = 0;
    while WIDE && n + 4 <= count {
        let four = [of_x(n), of_x(n + 1), of_x(n + 2), of_x(n + 3)];
        let products = four_of_x::<A, R>(&rows, four);
        for m in 0..4 {
            put(n + m, products[m]);
        }
        n += 4;
    }
    while n < count {
        put(n, one_of_x::<A, R>(&rows, of_x(n)));
        n += 1;
    }
}

#[inline(always)]
fn products_body<A: Arithmetic, const WIDE: bool>(
    weights: &[f32],
    columns: usize,
    x: &[f32],
    output: &mut [f32],
) {
    let count = x.len() / columns;
    let parts = weights.chunks(4 * columns);
    for (weights, output) in parts.zip(output.chunks_mut(4 * count)) {
        if weights.len() == 4 * columns {
            products_of_rows::<A, 4, WIDE>(weights, columns, x, output);
            continue;
        }
        let rows = weights.chunks_exact(columns);
        for (weights, output) in rows.zip(output.chunks_exact_mut(count)) {
            products_of_rows::<A, 1, WIDE>(weights, columns, x, output);
        }
    }
}

dispatch! {
    /// Compute the products of rows of f32 with each row of `x`, with the sums of [`dot`]; with `WIDE`, sums of four rows of
    /// either fill 16 registers of 16 numbers. `output [rows, N]`
    pub(super) fn products, products_at [const WIDE: bool] [WIDE] (weights: &[f32], columns: usize, x: &[f32], output: &mut [f32]) = products_body
}

dispatch! {
    /// Compute the products of matrix rows with each row of `x`. `output [rows, N]`
    pub(super) fn dot, dot_at [B: Block] [B] (bytes: &[u8], columns: usize, x: &[f32], output: &mut [f32]) = dot_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::block_format::{
        Bf16, F16, F32, Format, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
    };
    use crate::kernel::simd::Level;

    /// Rows of random bytes whose scales are small halves.
    fn random_rows(format: Format, rows: usize, columns: usize) -> Vec<u8> {
        let (weights, bytes) = format.block();
        let mut random = crate::kernel::random::Random::new(5);
        let mut data: Vec<u8> = (0..rows * columns / weights * bytes)
            .map(|_| random.below(256) as u8)
            .collect();
        let small = |data: &mut [u8], offset: usize| {
            data[offset..offset + 2].copy_from_slice(&half::f16::from_f32(0.03).to_le_bytes());
        };
        for block in data.chunks_exact_mut(bytes) {
            match format {
                Format::F32 => {
                    block.copy_from_slice(&(random.uniform() as f32 - 0.5).to_le_bytes())
                }
                Format::Bf16 => block.copy_from_slice(&half::bf16::from_f32(0.5).to_le_bytes()),
                Format::F16 => small(block, 0),
                Format::Q6K => small(block, 208),
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => small(block, 0),
                _ => {
                    small(block, 0);
                    small(block, 2);
                }
            }
        }
        data
    }

    fn check<B: Block>(format: Format, columns: usize) {
        for (rows, count) in [(1, 1), (4, 1), (7, 3), (9, 4), (6, 11)] {
            let bytes = random_rows(format, rows, columns);
            let x: Vec<f32> = (0..count * columns)
                .map(|i| (i as f32 * 0.37).sin())
                .collect();
            let mut weights = vec![0.0; columns];
            let row_bytes = bytes.len() / rows;
            for level in Level::available() {
                let mut output = vec![f32::NAN; rows * count];
                dot_at::<B>(level, &bytes, columns, &x, &mut output);
                let mut unpacked = vec![0.0; rows * columns];
                let each = bytes.chunks_exact(row_bytes);
                for (bytes, weights) in each.zip(unpacked.chunks_exact_mut(columns)) {
                    unpack_row_at::<B>(level, bytes, weights);
                }
                let mut tiled = vec![f32::NAN; rows * count];
                products_at::<true>(level, &unpacked, columns, &x, &mut tiled);
                assert_eq!(output, tiled, "{} at {}", format.name(), level.name());
                products_at::<false>(level, &unpacked, columns, &x, &mut tiled);
                assert_eq!(output, tiled, "{} at {}", format.name(), level.name());
                for row in 0..rows {
                    let bytes = &bytes[row * row_bytes..(row + 1) * row_bytes];
                    unpack_row_at::<B>(level, bytes, &mut weights);
                    for (n, x) in x.chunks_exact(columns).enumerate() {
                        let products = weights.iter().zip(x);
                        let products: Vec<f64> = products
                            .map(|(&w, &x)| f64::from(w) * f64::from(x))
                            .collect();
                        let scale: f64 = products.iter().map(|p| p.abs()).sum();
                        let error =
                            f64::from(output[row * count + n]) - products.iter().sum::<f64>();
                        let place =
                            format!("{} at {}, {rows}×{count}", format.name(), level.name());
                        assert!(error.abs() <= 1e-6 * scale.max(1.0), "{place}: {error}");
                        // A product does not depend on the rows beside it.
                        let mut alone = [f32::NAN];
                        dot_at::<B>(level, bytes, columns, x, &mut alone);
                        assert_eq!(
                            alone[0].to_bits(),
                            output[row * count + n].to_bits(),
                            "{place}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn products_are_those_of_the_unpacked_rows() {
        // Rows of floats need not be whole blocks.
        check::<F32>(Format::F32, 75);
        check::<F16>(Format::F16, 75);
        check::<Bf16>(Format::Bf16, 96);
        check::<Q4_0>(Format::Q4_0, 96);
        check::<Q4_1>(Format::Q4_1, 96);
        check::<Q5_0>(Format::Q5_0, 96);
        check::<Q5_1>(Format::Q5_1, 96);
        check::<Q8_0>(Format::Q8_0, 96);
        check::<Q4K>(Format::Q4K, 512);
        check::<Q5K>(Format::Q5K, 512);
        check::<Q6K>(Format::Q6K, 512);
    }
}
