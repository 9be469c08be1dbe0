//! Matrix products of few rows: a block of sums stays in registers while the rows of `b` stream past.
//!
//! `c [m, columns] = begin + a [m, inner] · b [inner, columns]`. Every sum runs over `inner` in order, in one
//! accumulator, so a row of the product is the same bit for bit whatever rows are computed with it. That makes
//! inference a batch of one. Large products go through [`multiply`].

use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

use crate::kernel::real::Real;
use crate::kernel::simd::{Arithmetic, dispatch};

/// Columns of one accumulator.
pub(super) const LANES: usize = 16;

/// Initial value of the sums.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a> {
    /// What `c` holds.
    Sum,
    /// A row of `base [m, columns]` plus `bias [columns]`.
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

/// Compute `c = begin + a · b`, reading `a` at `row · stride.0 + k · stride.1`.
#[inline(always)]
pub(super) fn product<A: Arithmetic>(
    a: &[f32],
    stride: (usize, usize),
    b: &[f32],
    begin: Begin<'_>,
    c: &mut [f32],
    inner: usize,
    columns: usize,
) {
    // 16 vector registers hold the sums of six rows and the operands; more rows would spill.
    let mut row = 0;
    row = tiles::<A, 6>(a, stride, b, begin, c, inner, columns, row);
    row = tiles::<A, 4>(a, stride, b, begin, c, inner, columns, row);
    row = tiles::<A, 2>(a, stride, b, begin, c, inner, columns, row);
    tiles::<A, 1>(a, stride, b, begin, c, inner, columns, row);
}

/// Compute all whole tiles of `M` rows from `row` on; returns the first row after them.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a product and its current row")]
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
    // A multiply-add takes 4 cycles: few rows need wide blocks to keep enough independent sums in flight.
    while M == 1 && column + 4 * LANES <= columns {
        let (b, begin) = (&b[column..], begin.from(0, column, columns));
        block::<A, M, { 4 * LANES }>(a, stride, b, begin, &mut c[column..], inner, columns);
        column += 4 * LANES;
    }
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
fn add_body<A: Arithmetic>(a: &[f32], b: &[f32], columns: usize, c: &mut [f32]) {
    if b.is_empty() {
        return;
    }
    let inner = b.len() / columns;
    product::<A>(a, (inner, 1), b, Begin::Sum, c, inner, columns);
}

dispatch! {
    /// Add `a [m, inner] · b [inner, columns]` to `c [m, columns]`.
    pub fn add, add_at(a: &[f32], b: &[f32], columns: usize, c: &mut [f32]) = add_body
}

/// [`add`] in f64.
pub fn reference(a: &[f64], b: &[f64], columns: usize, c: &mut [f64]) {
    if b.is_empty() {
        return;
    }
    let inner = b.len() / columns;
    for (a, c) in a.chunks_exact(inner).zip(c.chunks_exact_mut(columns)) {
        for (&x, row) in a.iter().zip(b.chunks_exact(columns)) {
            for (sum, &b) in c.iter_mut().zip(row) {
                *sum += x * b;
            }
        }
    }
}

/// A view of a slice as a matrix, possibly transposed.
#[derive(Clone, Copy)]
pub struct Operand<'a, R> {
    data: &'a [R],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a, R: Real> Operand<'a, R> {
    /// View `data` as a row-major matrix `[rows, columns]`.
    pub fn new(data: &'a [R], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// View `data` as a matrix `[rows, columns]` whose rows begin `stride` elements apart.
    pub fn strided(data: &'a [R], rows: usize, columns: usize, stride: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            stride,
            transposed: false,
        }
    }

    /// Transpose the view: `[columns, rows]`.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    fn view(&self) -> ArrayView2<'a, R> {
        let shape = (self.rows, self.columns).strides((self.stride, 1));
        let view = ArrayView2::from_shape(shape, self.data).expect("a matrix fits its slice");
        if self.transposed {
            view.reversed_axes()
        } else {
            view
        }
    }
}

/// Compute `c = alpha · a · b + beta · c`, with `c [rows of a, columns of b]` row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn multiply<R: Real>(alpha: R, a: Operand<'_, R>, b: Operand<'_, R>, beta: R, c: &mut [R]) {
    let (a, b) = (a.view(), b.view());
    let mut c =
        ArrayViewMut2::from_shape((a.nrows(), b.ncols()), c).expect("the product fits its slice");
    ndarray::linalg::general_mat_mul(alpha, &a, &b, beta, &mut c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::Level;

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        for level in Level::available() {
            for columns in [1usize, 16, 33, 64, 100, 128] {
                let (rows, inner) = (7, 9);
                let draw = |n: usize, step: f32| -> Vec<f32> {
                    (0..n).map(|i| (i as f32 * step).sin()).collect()
                };
                let (a, b) = (draw(rows * inner, 0.7), draw(inner * columns, 0.3));
                let mut together = draw(rows * columns, 0.1);
                let mut alone = together.clone();
                add_at(level, &a, &b, columns, &mut together);
                for (a, c) in a.chunks(inner).zip(alone.chunks_mut(columns)) {
                    add_at(level, a, &b, columns, c);
                }
                assert_eq!(together, alone, "{level:?}, {columns} columns");
                let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&x| f64::from(x)).collect() };
                let mut exact = wide(&draw(rows * columns, 0.1));
                reference(&wide(&a), &wide(&b), columns, &mut exact);
                for (found, exact) in together.iter().zip(exact) {
                    assert!((f64::from(*found) - exact).abs() < 1e-5, "{level:?}");
                }
            }
        }
    }
}
