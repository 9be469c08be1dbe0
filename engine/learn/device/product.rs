//! Matrix products in the workspace of a batch.

use super::lists::{Groups, NONE};
use super::stage::{Bound, Stage};
use crate::Result;
use crate::kernel::gpu::{Device, KernelShape, Size, multiply};

/// Workgroups that fill a device; a product of fewer tiles is divided along its inner dimension.
const FILLING: usize = 512;
/// Inner indices of a piece of a product at least, and numbers of the pieces of a product together at most.
const PIECE: usize = 256;
const PARTIALS: usize = 4 << 20;

/// A matrix product; offsets, and distances between rows and columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Rows, columns and inner dimension.
    pub shape: [usize; 3],
    /// A in the workspace: offset, distances of rows and of columns.
    pub a: [u32; 3],
    /// B in the workspace or, see `b_in_values`, among the parameters.
    pub b: [u32; 3],
    pub b_in_values: bool,
    /// C in the workspace or, see `c_in_gradients`, added to the gradients: offset and distance of rows.
    pub c: [u32; 2],
    pub c_in_gradients: bool,
    /// Offset of ln α, where the product is multiplied by 2 α.
    pub alpha: Option<u32>,
}

/// Numbers of the workspace for pieces of products; none where a device is filled by few workgroups.
pub(super) fn partial_numbers(device: &Device) -> usize {
    match device.shape() {
        KernelShape::Lanes => PARTIALS.min((device.workspace_bytes() / 32) as usize),
        KernelShape::Thread => 0,
    }
}

impl Stage {
    /// Record a matrix product. One whose tiles are too few for the device is computed in pieces of its inner dimension, which
    /// are added up in their order.
    pub fn multiply(&mut self, product: &Product) -> Result<()> {
        let [rows, columns, inner] = product.shape;
        if rows * columns * inner == 0 {
            return Ok(());
        }
        // Large tiles reuse more, small ones are faster where barriers are slow.
        let lanes = self.device.shape() == KernelShape::Lanes;
        let side: usize = if lanes { 16 } else { 4 };
        // A workgroup of side × side threads computes a tile of 8 side rows and 4 side columns.
        let tiles = [columns.div_ceil(4 * side), rows.div_ceil(8 * side)];
        let contiguous = product.c[1] as usize == columns;
        let most = partial_numbers(&self.device) / (rows * columns);
        let pieces = (FILLING / (tiles[0] * tiles[1]))
            .min(inner / PIECE)
            .min(if contiguous { most } else { 1 })
            .max(1);
        let piece = inner.div_ceil(pieces).next_multiple_of(8);
        let pieces = inner.div_ceil(piece);
        let whole = pieces == 1;
        let (to, in_gradients) = match whole {
            true => (product.c[0], product.c_in_gradients),
            false => (self.partials, false),
        };
        let ([a, a_row, a_column], [b, b_row, b_column]) = (product.a, product.b);
        let parameters = multiply::Parameters {
            rows: rows as u32,
            columns: columns as u32,
            inner: inner as u32,
            a,
            a_row,
            a_column,
            b,
            b_row,
            b_column,
            b_in_values: u32::from(product.b_in_values),
            c: to,
            c_row: product.c[1],
            c_in_gradients: u32::from(in_gradients),
            add: u32::from(in_gradients),
            log_alpha: product.alpha.unwrap_or(NONE),
            piece: piece as u32,
            factor: if product.alpha.is_some() { 2.0 } else { 1.0 },
        };
        let constants = [
            ("SIDE", side as u32),
            ("A_VECTORS", (2 * side * 8) as u32),
            ("B_VECTORS", (side * 8) as u32),
        ];
        let buffers = [Bound::Values, Bound::Gradients];
        let size = Size::Direct(tiles[0] as u32, tiles[1] as u32, pieces as u32);
        self.run(&multiply::MULTIPLY, &constants, &parameters, &buffers, size)?;
        // A, B and C, and C once more where it is added to.
        let written = if in_gradients { 2 } else { pieces };
        let numbers = rows * inner + columns * inner + written * rows * columns;
        self.program.note_bytes((numbers * 4) as u64);
        if whole {
            return Ok(());
        }
        let all = Groups::first(pieces);
        let numbers = rows * columns;
        let (from, to) = ((self.partials, numbers), product.c[0]);
        self.sum_groups(&all, numbers, from, None, to, product.c_in_gradients)
    }
}
