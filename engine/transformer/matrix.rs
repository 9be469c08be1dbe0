//! A matrix of a network: a tensor that can be trained, or numbers that stay as their file stores them.

use candle_core::{Device, Shape, Tensor};

use crate::Result;
use crate::kernel::block_format::Format;
use crate::kernel::bytes::Bytes;
use crate::kernel::stored::{self, Stored};
use crate::transformer::operation::{Operation, apply1, apply2};

/// A matrix `[out, in]`. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Matrix {
    /// May be a view of another tensor.
    Tensor(Tensor),
    Stored(Stored),
}

impl Matrix {
    /// Compute `x · matrixᵀ`. `[N, in]` → `[N, out]`
    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            // The same sums as of a stored matrix: a trained network and its saved copy agree bit for bit.
            Self::Tensor(tensor) => {
                let columns = tensor.dim(1)?;
                apply2(x, tensor, TensorProduct { columns })?
            }
            Self::Stored(stored) => apply1(x, Product(stored.clone()))?,
        })
    }

    /// Look up rows. `[N]` → `[N, in]`
    pub(super) fn rows(&self, indices: &[u32]) -> Result<Tensor> {
        Ok(match self {
            Self::Tensor(tensor) => rows(tensor, indices)?,
            Self::Stored(stored) => {
                let width = stored.dimensions().1;
                let mut rows = vec![0.0; indices.len() * width];
                stored.unpack(indices.iter().map(|&index| index as usize), &mut rows);
                Tensor::from_vec(rows, (indices.len(), width), &Device::Cpu)?
            }
        })
    }

    /// Return `count` rows from `first` on, sharing memory.
    pub(super) fn slice(&self, first: usize, count: usize) -> Result<Self> {
        Ok(match self {
            Self::Tensor(tensor) => Self::Tensor(tensor.narrow(0, first, count)?),
            Self::Stored(stored) => Self::Stored(stored.slice(first, count)?),
        })
    }

    /// Copy the matrix to memory of its own. A stored matrix shares its file's memory in any case.
    pub(super) fn copy(&self) -> Result<Self> {
        Ok(match self {
            Self::Tensor(tensor) => Self::Tensor(tensor.copy()?),
            Self::Stored(stored) => Self::Stored(stored.clone()),
        })
    }

    /// Transpose the matrix; stored numbers are copied, blocks as f32.
    pub(super) fn transposed(&self) -> Result<Self> {
        Ok(match self {
            Self::Tensor(tensor) => Self::Tensor(tensor.t()?),
            Self::Stored(stored) => Self::Stored(transposed(stored)?),
        })
    }

    /// Return the number of weights.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.elem_count(),
            Self::Stored(stored) => stored.dimensions().0 * stored.dimensions().1,
        }
    }

    /// Return the bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.elem_count() * 4,
            Self::Stored(stored) => stored.bytes().len(),
        }
    }
}

/// Select rows of a tensor. `[R, D]` → `[N, D]`
pub(super) fn rows(table: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let indices = Tensor::from_slice(indices, indices.len(), &Device::Cpu)?;
    Ok(table.index_select(&indices, 0)?)
}

/// Copy a stored matrix with rows and columns exchanged: in its format, or as f32 where it is stored in blocks.
pub(super) fn transposed(stored: &Stored) -> Result<Stored> {
    let (rows, columns) = stored.dimensions();
    let (format, bytes) = match stored.format() {
        format if format.is_float() => (format, stored.bytes().clone()),
        _ => (Format::F32, Bytes::copy_of(&unpacked(stored))),
    };
    let size = format.block().1;
    let column = |column: usize| {
        let elements = bytes.chunks_exact(size).skip(column);
        elements.step_by(columns.max(1)).flatten().copied()
    };
    let exchanged: Vec<u8> = (0..columns).flat_map(column).collect();
    Stored::new(format, columns, rows, Bytes::copy_of(&exchanged))
}

/// Convert all numbers of a stored matrix.
pub(super) fn unpacked(stored: &Stored) -> Vec<f32> {
    let (rows, columns) = stored.dimensions();
    let mut values = vec![0.0; rows * columns];
    stored.unpack(0..rows, &mut values);
    values
}

/// The product with a stored matrix; its weights are constants. `[N, in]` → `[N, out]`
struct Product(Stored);

impl Operation<1> for Product {
    const NAME: &'static str = "stored-product";

    fn forward(&self, [x]: [&[f32]; 1]) -> candle_core::Result<Vec<f32>> {
        Ok(self.0.product(x))
    }

    fn backward(&self, [x]: [&[f32]; 1], gradient: &[f32]) -> candle_core::Result<[Vec<f32>; 1]> {
        let columns = self.0.dimensions().1;
        Ok([stored::product_gradients(x, &unpacked(&self.0), columns, gradient).0])
    }

    fn shape(&self, [first]: [&Shape; 1]) -> Shape {
        let (rows, columns) = self.0.dimensions();
        Shape::from((first.elem_count() / columns.max(1), rows))
    }
}

/// The product with a tensor `[out, in]`. `[N, in]` → `[N, out]`
struct TensorProduct {
    columns: usize,
}

impl Operation<2> for TensorProduct {
    const NAME: &'static str = "product";

    fn forward(&self, [x, matrix]: [&[f32]; 2]) -> candle_core::Result<Vec<f32>> {
        Ok(stored::product(x, matrix, self.columns))
    }

    fn backward(
        &self,
        [x, matrix]: [&[f32]; 2],
        gradient: &[f32],
    ) -> candle_core::Result<[Vec<f32>; 2]> {
        let (to_x, to_matrix) = stored::product_gradients(x, matrix, self.columns, gradient);
        Ok([to_x, to_matrix])
    }

    fn shape(&self, [x, matrix]: [&Shape; 2]) -> Shape {
        Shape::from((
            x.elem_count() / self.columns.max(1),
            matrix.elem_count() / self.columns.max(1),
        ))
    }
}
