//! Matrices that stay in memory as their file stores them, and products with them.

use rayon::prelude::*;

use crate::kernel::block_format::{
    Bf16, F16, F32, Format, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
};
use crate::kernel::block_product::{dot, products, unpack_row};
use crate::kernel::bytes::Bytes;
use crate::kernel::simd::Level;
use crate::{Error, ErrorKind, Result};

/// Multiplications that one task of the thread pool does at least.
const TASK: usize = 1 << 17;
/// Rows of `x` from which the matrix is unpacked in tiles for a blocked product. The result of a row does not depend on the
/// number of rows below it.
pub const BLOCKED: usize = 33;
/// Rows of `x` from which a row of the matrix is unpacked before it is multiplied.
const FEW: usize = 4;
/// Numbers of an unpacked tile at most: it stays in the second-level cache.
const TILE: usize = 1 << 17;

/// A matrix `[rows, columns]` in its stored format. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stored {
    format: Format,
    rows: usize,
    columns: usize,
    row_bytes: usize,
    bytes: Bytes,
}

/// Run `$body` with `$block` bound to the type of a format.
macro_rules! with_block {
    ($format:expr, $block:ident => $body:expr) => {
        match $format {
            Format::F32 => {
                type $block = F32;
                $body
            }
            Format::F16 => {
                type $block = F16;
                $body
            }
            Format::Bf16 => {
                type $block = Bf16;
                $body
            }
            Format::Q4_0 => {
                type $block = Q4_0;
                $body
            }
            Format::Q4_1 => {
                type $block = Q4_1;
                $body
            }
            Format::Q5_0 => {
                type $block = Q5_0;
                $body
            }
            Format::Q5_1 => {
                type $block = Q5_1;
                $body
            }
            Format::Q8_0 => {
                type $block = Q8_0;
                $body
            }
            Format::Q4K => {
                type $block = Q4K;
                $body
            }
            Format::Q5K => {
                type $block = Q5K;
                $body
            }
            Format::Q6K => {
                type $block = Q6K;
                $body
            }
        }
    };
}

impl Stored {
    /// View `bytes` as a matrix.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where the rows are not whole blocks, or the bytes are not those of the matrix.
    pub fn new(format: Format, rows: usize, columns: usize, bytes: Bytes) -> Result<Self> {
        let row_bytes = format.row_bytes(columns).ok_or_else(|| {
            let block = format.block().0;
            Error::new(
                ErrorKind::Format,
                format!(
                    "rows of {columns} weights cannot be divided into blocks of {block} ({})",
                    format.name()
                ),
            )
        })?;
        if row_bytes.checked_mul(rows) != Some(bytes.len()) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} bytes are not a matrix [{rows}, {columns}] of {}",
                    bytes.len(),
                    format.name()
                ),
            ));
        }
        Ok(Self {
            format,
            rows,
            columns,
            row_bytes,
            bytes,
        })
    }

    /// Store numbers in a format.
    ///
    /// # Errors
    /// As [`Self::new`] and [`Format::pack`].
    pub fn pack(format: Format, values: &[f32], rows: usize, columns: usize) -> Result<Self> {
        let mut bytes = Vec::new();
        if format.row_bytes(columns).is_some() {
            format.pack(values, &mut bytes)?;
        }
        Self::new(format, rows, columns, Bytes::copy_of(&bytes))
    }

    /// Return the format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Return the numbers of rows and columns.
    pub fn dimensions(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Return the stored bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Return `count` rows from `first` on, sharing memory.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when there are fewer rows.
    pub fn slice(&self, first: usize, count: usize) -> Result<Self> {
        let range = first * self.row_bytes..(first + count) * self.row_bytes;
        Self::new(self.format, count, self.columns, self.bytes.slice(range)?)
    }

    /// Return a copy of the rows `order`, in that order.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reordered(&self, order: &[usize]) -> Result<Self> {
        let rows = order.iter().flat_map(|&row| self.row(row));
        let bytes: Vec<u8> = rows.copied().collect();
        let bytes = Bytes::copy_of(&bytes);
        Self::new(self.format, order.len(), self.columns, bytes)
    }

    fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes..][..self.row_bytes]
    }

    /// Convert rows to f32. `weights [indices.len(), columns]`
    ///
    /// # Panics
    /// For a row beyond the last.
    pub fn unpack(&self, rows: impl Iterator<Item = usize>, weights: &mut [f32]) {
        for (row, weights) in rows.zip(weights.chunks_exact_mut(self.columns.max(1))) {
            with_block!(self.format, B => unpack_row::<B>(self.row(row), weights));
        }
    }

    /// Return whether every weight is finite.
    pub fn is_finite(&self) -> bool {
        // A half with all bits of the exponent set is not finite; a block's scales are halves.
        let finite = |bytes: &[u8], mask: u16| {
            let halves = bytes.chunks_exact(2);
            halves
                .map(|b| u16::from_le_bytes([b[0], b[1]]))
                .all(|half| half & mask != mask)
        };
        let scales: std::ops::Range<usize> = match self.format {
            Format::F32 => {
                let values = self.bytes.par_chunks_exact(4);
                return values.all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite());
            }
            Format::F16 => return self.bytes.par_chunks(1 << 16).all(|b| finite(b, 0x7c00)),
            Format::Bf16 => return self.bytes.par_chunks(1 << 16).all(|b| finite(b, 0x7f80)),
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => 0..2,
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => 0..4,
            Format::Q6K => 208..210,
        };
        let block = self.format.block().1;
        let found = self.bytes.par_chunks_exact(block);
        found.all(|block| finite(&block[scales.clone()], 0x7c00))
    }

    /// Compute `x · matrixᵀ`. `x [N, columns]` → `[N, rows]`
    pub fn product(&self, x: &[f32]) -> Vec<f32> {
        let view = View {
            format: self.format,
            rows: self.rows,
            columns: self.columns,
            row_bytes: self.row_bytes,
            bytes: &self.bytes,
        };
        view.product(x)
    }
}

/// Compute `x · matrixᵀ` with a matrix of f32, with the sums of [`Stored::product`]. `x [N, columns]`,
/// `matrix [rows, columns]` → `[N, rows]`
pub fn product(x: &[f32], matrix: &[f32], columns: usize) -> Vec<f32> {
    let view = View {
        format: Format::F32,
        rows: matrix.len() / columns.max(1),
        columns,
        row_bytes: 4 * columns,
        bytes: bytemuck::cast_slice(matrix),
    };
    view.product(x)
}

/// A matrix in memory.
struct View<'a> {
    format: Format,
    rows: usize,
    columns: usize,
    row_bytes: usize,
    bytes: &'a [u8],
}

impl View<'_> {
    /// Sums are in f32 over exact weights: activations are not quantised. A row of the result does not depend on the
    /// number of threads, nor on that of the rows below [`BLOCKED`].
    fn product(&self, x: &[f32]) -> Vec<f32> {
        let count = x.len() / self.columns.max(1);
        let mut output = vec![0.0; count * self.rows];
        if output.is_empty() {
            return output;
        }
        // A task computes neighbouring rows of the matrix: `[rows, N]`, transposed at the end where N > 1.
        let blocked = count >= BLOCKED;
        let rows = if blocked {
            (TILE / self.columns).clamp(16, 512)
        } else {
            let least = TASK.div_ceil(self.columns * count);
            let share = self.rows.div_ceil(4 * rayon::current_num_threads());
            least.max(share).next_multiple_of(4)
        };
        let task = |(index, output): (usize, &mut [f32])| {
            let first = index * rows;
            let part = first..first + output.len() / count;
            if blocked {
                self.tile(x, part, output);
            } else if count >= FEW {
                self.few(x, part, output);
            } else {
                let bytes = &self.bytes[part.start * self.row_bytes..part.end * self.row_bytes];
                with_block!(self.format, B => dot::<B>(bytes, self.columns, x, output));
            }
        };
        if rows >= self.rows {
            task((0, &mut output));
        } else {
            let parts = output.par_chunks_mut(rows * count);
            parts.enumerate().for_each(task);
        }
        if count > 1 {
            transposed(&output, self.rows, count)
        } else {
            output
        }
    }

    /// Compute columns of the product with a few rows of `x`: a row of the matrix is unpacked once for all of them.
    /// `output [rows, N]`
    fn few(&self, x: &[f32], rows: std::ops::Range<usize>, output: &mut [f32]) {
        /// Rows that are unpacked at once; they stay in the first-level cache.
        const ROWS: usize = 4;
        thread_local! {
            static WEIGHTS: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        // As many sums as the registers of the instruction set hold.
        let multiply = match Level::current().has_wide_registers() {
            true => products::<true>,
            false => products::<false>,
        };
        let count = x.len() / self.columns;
        let bytes = &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes];
        if let (Format::F32, Ok(weights)) = (self.format, bytemuck::try_cast_slice(bytes)) {
            return multiply(weights, self.columns, x, output);
        }
        WEIGHTS.with_borrow_mut(|weights| {
            let parts = bytes.chunks(ROWS * self.row_bytes);
            for (bytes, output) in parts.zip(output.chunks_mut(ROWS * count)) {
                weights.resize(bytes.len() / self.row_bytes * self.columns, 0.0);
                self.unpack(bytes, weights);
                multiply(weights, self.columns, x, output);
            }
        });
    }

    /// Convert whole rows to f32.
    fn unpack(&self, bytes: &[u8], weights: &mut [f32]) {
        let rows = bytes.chunks_exact(self.row_bytes);
        for (bytes, weights) in rows.zip(weights.chunks_exact_mut(self.columns)) {
            with_block!(self.format, B => unpack_row::<B>(bytes, weights));
        }
    }

    /// Compute columns of the product by unpacking rows of the matrix. `output [rows, N]`
    fn tile(&self, x: &[f32], rows: std::ops::Range<usize>, output: &mut [f32]) {
        thread_local! {
            static WEIGHTS: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        let bytes = &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes];
        if let (Format::F32, Ok(weights)) = (self.format, bytemuck::try_cast_slice(bytes)) {
            return multiply_transposed(weights, x, self.columns, output);
        }
        WEIGHTS.with_borrow_mut(|weights| {
            weights.resize(rows.len() * self.columns, 0.0);
            self.unpack(bytes, weights);
            multiply_transposed(weights, x, self.columns, output);
        });
    }
}

/// Compute `a · bᵀ` on this thread. `a [m, inner]`, `b [n, inner]`, `output [m, n]`
fn multiply_transposed(a: &[f32], b: &[f32], inner: usize, output: &mut [f32]) {
    let (m, n) = (a.len() / inner, b.len() / inner);
    assert!(a.len() == m * inner && b.len() == n * inner);
    let (inner_stride, none) = ((inner, 1), gemm::Parallelism::None);
    general(a, inner_stride, b, (1, inner), (m, n, inner), output, none);
}

/// Compute the gradients of [`product`] from that of its result. `gradient [N, rows]` → `[N, columns]`,
/// `[rows, columns]`
pub fn product_gradients(
    x: &[f32],
    matrix: &[f32],
    columns: usize,
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (count, rows) = (x.len() / columns, matrix.len() / columns);
    assert!(gradient.len() == count * rows);
    let (mut to_x, mut to_matrix) = (vec![0.0; x.len()], vec![0.0; matrix.len()]);
    let threads = gemm::Parallelism::Rayon(rayon::current_num_threads());
    // y = x Wᵀ: dx = dy W and dW = dyᵀ x.
    let size = (count, columns, rows);
    general(
        gradient,
        (rows, 1),
        matrix,
        (columns, 1),
        size,
        &mut to_x,
        threads,
    );
    let size = (rows, columns, count);
    general(
        gradient,
        (1, rows),
        x,
        (columns, 1),
        size,
        &mut to_matrix,
        threads,
    );
    (to_x, to_matrix)
}

/// Compute `a · b` of matrices `[m, inner]` and `[inner, n]` with strides of rows and columns. `output [m, n]`
fn general(
    a: &[f32],
    a_strides: (usize, usize),
    b: &[f32],
    b_strides: (usize, usize),
    (m, n, inner): (usize, usize, usize),
    output: &mut [f32],
    parallelism: gemm::Parallelism,
) {
    let last = |rows: usize, columns: usize, (row, column): (usize, usize)| {
        rows.saturating_sub(1) * row + columns.saturating_sub(1) * column
    };
    assert!(last(m, inner, a_strides) < a.len().max(1));
    assert!(last(inner, n, b_strides) < b.len().max(1));
    assert!(output.len() == m * n);
    if output.is_empty() || inner == 0 {
        return;
    }
    // SAFETY: by the assertions above, the last number of each of the three matrices lies within its slice, and so all
    // of them do; the output is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            inner,
            output.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_strides.1 as isize,
            a_strides.0 as isize,
            b.as_ptr(),
            b_strides.1 as isize,
            b_strides.0 as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Exchange rows and columns. `[rows, columns]` → `[columns, rows]`
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut output = vec![0.0; values.len()];
    let block = |(first, output): (usize, &mut [f32])| {
        for (row, values) in values.chunks_exact(columns).enumerate() {
            for (k, output) in output.chunks_exact_mut(rows).enumerate() {
                output[row] = values[first * 16 + k];
            }
        }
    };
    if values.len() < TASK {
        output.chunks_mut(16 * rows).enumerate().for_each(block);
    } else {
        output.par_chunks_mut(16 * rows).enumerate().for_each(block);
    }
    output
}
