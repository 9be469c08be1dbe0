//! Pages of the KV cache: keys and values of neighbouring slots, in single precision or quantised.

use std::borrow::Cow;

use crate::transformer::Codec;
use crate::transformer::packed::Packed;

/// A page of slots.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) keys: Block,
    pub(super) values: Block,
    /// Occupied slots.
    pub(super) live: usize,
}

/// One page's keys `[heads][width][page]` or values `[heads][page][width]`.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Open(Vec<f32>),
    Packed {
        packed: Packed,
        /// Whether the last two axes were exchanged before packing.
        transposed: bool,
    },
}

impl Block {
    pub(super) fn open(length: usize) -> Self {
        Self::Open(vec![0.0; length])
    }

    /// Set the numbers with these indices to 0, in an open block.
    pub(super) fn clear(&mut self, indices: impl Iterator<Item = usize>) {
        if let Self::Open(values) = self {
            indices.for_each(|index| values[index] = 0.0);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Open(values) => values.len() * 4,
            Self::Packed { packed, .. } => packed.bytes(),
        }
    }

    /// Return the numbers in the layout of an open block.
    pub(super) fn read(&self, rows: usize, columns: usize) -> Cow<'_, [f32]> {
        match self {
            Self::Open(values) => Cow::Borrowed(values),
            Self::Packed { packed, transposed } => {
                let values = packed.unpack();
                Cow::Owned(if *transposed {
                    transpose(&values, columns, rows)
                } else {
                    values
                })
            }
        }
    }

    /// Quantise an open block `[…][rows][columns]`, in groups along its columns or along its rows.
    pub(super) fn pack(&mut self, rows: usize, columns: usize, along_columns: bool, codec: Codec) {
        let Self::Open(open) = self else {
            return;
        };
        // A group is a run of neighbouring numbers: quantising along the other axis needs the transpose.
        let packed = if along_columns {
            Packed::new(open, columns, codec)
        } else {
            Packed::new(&transpose(open, rows, columns), rows, codec)
        };
        *self = Self::Packed {
            packed,
            transposed: !along_columns,
        };
    }
}

/// Exchange the last two axes of `[…][rows][columns]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut output = vec![0.0; values.len()];
    // The leading axes are independent matrices.
    let size = rows * columns;
    for (from, to) in values.chunks_exact(size).zip(output.chunks_exact_mut(size)) {
        for row in 0..rows {
            for column in 0..columns {
                to[column * rows + row] = from[row * columns + column];
            }
        }
    }
    output
}
