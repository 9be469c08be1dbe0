//! Differentiable operations over the kernels of this crate, for tensors of candle.
//!
//! candle-nn's layer norm, RMS norm, softmax over the last dimension and rotary embedding have fast paths without a
//! backward pass: variables before them get no gradient, and no error. Each [`Operation`] has its backward pass next
//! to its forward pass.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor,
};
use rayon::prelude::*;

use crate::kernel::norm::{self, NormKind};
use crate::kernel::vector::{add_scaled, scale};
use crate::kernel::{activation, gate, softmax};
use crate::transformer::rotary::RotaryTable;

/// Rows that one task of the thread pool takes at least.
const ROWS: usize = 16;

/// Numbers that one task of the thread pool takes in element-wise operations.
const ELEMENTS: usize = 1 << 14;

/// Rows whose weight gradients are summed by one task: fixed, so that sums do not depend on the number of threads.
const SUMMED_ROWS: usize = 128;

/// An operation on `N` tensors of f32 with its gradients.
pub(super) trait Operation<const N: usize>: Send + Sync + 'static {
    /// Name in candle's error messages.
    const NAME: &'static str;

    /// Compute the output from the operands' numbers.
    fn forward(&self, operands: [&[f32]; N]) -> Result<Vec<f32>>;

    /// Compute the gradient of each operand from the operands and the output's gradient.
    fn backward(&self, operands: [&[f32]; N], gradient: &[f32]) -> Result<[Vec<f32>; N]>;

    /// Return the output's shape, by default the first operand's.
    fn shape(&self, operands: [&Shape; N]) -> Shape {
        operands[0].clone()
    }
}

/// Adapter of an [`Operation`] to candle's traits.
struct Custom<O>(O);

/// Apply an operation to one tensor.
pub(super) fn apply1(x: &Tensor, operation: impl Operation<1>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Custom(operation))
}

/// Apply an operation to two tensors.
pub(super) fn apply2(x: &Tensor, y: &Tensor, operation: impl Operation<2>) -> Result<Tensor> {
    x.contiguous()?
        .apply_op2(&y.contiguous()?, Custom(operation))
}

/// Apply an operation to three tensors.
pub(super) fn apply3(
    x: &Tensor,
    y: &Tensor,
    z: &Tensor,
    operation: impl Operation<3>,
) -> Result<Tensor> {
    x.contiguous()?
        .apply_op3(&y.contiguous()?, &z.contiguous()?, Custom(operation))
}

/// Implement one of candle's traits, which differ in their number of operands only.
macro_rules! custom_operation {
    ($name:ident, $count:literal, $gradients:ty, $($x:ident $layout:ident $to:ident),+) => {
        impl<O: Operation<$count>> $name for Custom<O> {
            fn name(&self) -> &'static str {
                O::NAME
            }

            fn cpu_fwd(&self, $($x: &CpuStorage, $layout: &Layout),+) -> Result<(CpuStorage, Shape)> {
                let output = self.0.forward([$(slice($x, $layout)?),+])?;
                Ok((CpuStorage::F32(output), self.0.shape([$($layout.shape()),+])))
            }

            fn bwd(&self, $($x: &Tensor),+, _: &Tensor, gradient: &Tensor) -> Result<$gradients> {
                let gradients = with_values([$($x),+, gradient], |[$($x),+, gradient]| {
                    self.0.backward([$($x),+], gradient)
                })??;
                let [$($to),+] = gradients;
                Ok(($(Some(Tensor::from_vec($to, $x.shape(), $x.device())?)),+))
            }
        }
    };
}

type Gradient = Option<Tensor>;
custom_operation!(CustomOp1, 1, Gradient, x lx to_x);
custom_operation!(CustomOp2, 2, (Gradient, Gradient), x lx to_x, y ly to_y);
custom_operation!(CustomOp3, 3, (Gradient, Gradient, Gradient), x lx to_x, y ly to_y, z lz to_z);

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => candle_core::bail!("the operand is not contiguous"),
    }
}

/// Call `read` with the numbers of tensors in main memory, without copying those that are contiguous.
pub(super) fn with_values<const N: usize, T>(
    tensors: [&Tensor; N],
    read: impl FnOnce([&[f32]; N]) -> T,
) -> Result<T> {
    let tensors: Vec<Tensor> = tensors
        .into_iter()
        .map(Tensor::contiguous)
        .collect::<Result<_>>()?;
    // The guards keep the storages locked while `read` runs.
    let storages: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut values: [&[f32]; N] = [&[]; N];
    for (values, (storage, layout)) in values.iter_mut().zip(&storages) {
        *values = match &**storage {
            Storage::Cpu(storage) => slice(storage, layout)?,
            _ => candle_core::bail!("the tensor is not in main memory"),
        };
    }
    Ok(read(values))
}

/// Copy the numbers of a tensor.
pub(super) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    with_values([tensor], |[values]| values.to_vec())
}

/// Normalisation of rows: `[x, weight]` by their root mean square, `[x, weight, bias]` by mean and deviation.
pub(super) struct Normalise {
    pub(super) kind: NormKind,
    pub(super) epsilon: f32,
}

impl Normalise {
    fn rows(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let width = weight.len();
        let mut output = vec![0.0; x.len()];
        output
            .par_chunks_mut(width)
            .with_min_len(ROWS)
            .zip(x.par_chunks(width))
            .for_each(|(output, row)| {
                norm::forward(self.kind, self.epsilon, row, weight, bias, output);
            });
        output
    }

    /// Compute the gradients of rows, weight and bias; `bias_width` is 0 without a bias.
    fn gradients(
        &self,
        x: &[f32],
        weight: &[f32],
        bias_width: usize,
        gradient: &[f32],
    ) -> [Vec<f32>; 3] {
        // ∂L/∂weight and ∂L/∂bias are sums over all rows.
        let width = weight.len();
        let chunk = SUMMED_ROWS * width;
        let mut to_rows = vec![0.0; x.len()];
        let sums: Vec<[Vec<f32>; 2]> = to_rows
            .par_chunks_mut(chunk)
            .zip(x.par_chunks(chunk))
            .zip(gradient.par_chunks(chunk))
            .map(|((to_rows, x), gradient)| {
                let (mut to_weight, mut to_bias) = (vec![0.0; width], vec![0.0; bias_width]);
                let rows = x.chunks(width).zip(gradient.chunks(width));
                for (to_row, (row, gradient)) in to_rows.chunks_mut(width).zip(rows) {
                    norm::backward(
                        self.kind,
                        self.epsilon,
                        row,
                        weight,
                        gradient,
                        to_row,
                        &mut to_weight,
                        &mut to_bias,
                    );
                }
                [to_weight, to_bias]
            })
            .collect();
        // Chunks are added in order: the result is the same for any number of threads.
        let mut totals = [vec![0.0; width], vec![0.0; bias_width]];
        for sums in &sums {
            for (total, sum) in totals.iter_mut().zip(sums) {
                add_scaled(1.0, sum, total);
            }
        }
        let [to_weight, to_bias] = totals;
        [to_rows, to_weight, to_bias]
    }
}

impl Operation<2> for Normalise {
    const NAME: &'static str = "rms-norm";

    fn forward(&self, [x, weight]: [&[f32]; 2]) -> Result<Vec<f32>> {
        Ok(self.rows(x, weight, &[]))
    }

    fn backward(&self, [x, weight]: [&[f32]; 2], gradient: &[f32]) -> Result<[Vec<f32>; 2]> {
        let [to_x, to_weight, _] = self.gradients(x, weight, 0, gradient);
        Ok([to_x, to_weight])
    }
}

impl Operation<3> for Normalise {
    const NAME: &'static str = "layer-norm";

    fn forward(&self, [x, weight, bias]: [&[f32]; 3]) -> Result<Vec<f32>> {
        Ok(self.rows(x, weight, bias))
    }

    fn backward(&self, [x, weight, bias]: [&[f32]; 3], gradient: &[f32]) -> Result<[Vec<f32>; 3]> {
        Ok(self.gradients(x, weight, bias.len(), gradient))
    }
}

/// Rotary embedding of the heads of each row. `[N, heads · d]`
pub(super) struct Rotate {
    pub(super) table: Arc<RotaryTable>,
    pub(super) positions: Arc<[u32]>,
    /// Components of one head.
    pub(super) head_width: usize,
}

impl Rotate {
    fn rotated(&self, x: &[f32], inverse: bool) -> Vec<f32> {
        // A rotation is orthogonal up to its scale: the gradient is rotated back.
        let mut output = x.to_vec();
        self.table
            .rotate(&mut output, &self.positions, self.head_width, inverse);
        output
    }
}

impl Operation<1> for Rotate {
    const NAME: &'static str = "rotary";

    fn forward(&self, [x]: [&[f32]; 1]) -> Result<Vec<f32>> {
        Ok(self.rotated(x, false))
    }

    fn backward(&self, _: [&[f32]; 1], gradient: &[f32]) -> Result<[Vec<f32>; 1]> {
        Ok([self.rotated(gradient, true)])
    }
}

/// `silu(gate) · up`, the inner product of a gated feed-forward layer (SwiGLU, Shazeer 2020).
pub(super) struct Gate;

impl Operation<2> for Gate {
    const NAME: &'static str = "gate";

    fn forward(&self, [gate, up]: [&[f32]; 2]) -> Result<Vec<f32>> {
        let mut output = vec![0.0; gate.len()];
        output
            .par_chunks_mut(ELEMENTS)
            .zip(gate.par_chunks(ELEMENTS))
            .zip(up.par_chunks(ELEMENTS))
            .for_each(|((output, gate), up)| gate::forward(gate, up, output));
        Ok(output)
    }

    fn backward(&self, [gate, up]: [&[f32]; 2], gradient: &[f32]) -> Result<[Vec<f32>; 2]> {
        let (mut to_gate, mut to_up) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
        // y = silu(g) u: ∂y/∂g = silu'(g) u and ∂y/∂u = silu(g).
        to_gate
            .par_chunks_mut(ELEMENTS)
            .zip(to_up.par_chunks_mut(ELEMENTS))
            .zip(gate.par_chunks(ELEMENTS))
            .zip(up.par_chunks(ELEMENTS))
            .zip(gradient.par_chunks(ELEMENTS))
            .for_each(|((((to_gate, to_up), gate), up), gradient)| {
                gate::backward(gate, up, gradient, to_gate, to_up);
            });
        Ok([to_gate, to_up])
    }
}

/// Exact GELU.
pub(super) struct Gelu;

impl Operation<1> for Gelu {
    const NAME: &'static str = "gelu";

    fn forward(&self, [x]: [&[f32]; 1]) -> Result<Vec<f32>> {
        let mut output = vec![0.0; x.len()];
        output
            .par_chunks_mut(ELEMENTS)
            .zip(x.par_chunks(ELEMENTS))
            .for_each(|(output, x)| activation::forward(x, output));
        Ok(output)
    }

    fn backward(&self, [x]: [&[f32]; 1], gradient: &[f32]) -> Result<[Vec<f32>; 1]> {
        // The kernel multiplies the gradient by GELU'(x) in place.
        let mut to_x = gradient.to_vec();
        to_x.par_chunks_mut(ELEMENTS)
            .zip(x.par_chunks(ELEMENTS))
            .for_each(|(to_x, x)| activation::backward(x, to_x));
        Ok([to_x])
    }
}

/// Cross-entropy of each row with its target, −ln softmax(logits)[target]. `[N, V]` → `[N]`
pub(super) struct CrossEntropy {
    pub(super) targets: Arc<[u32]>,
}

impl CrossEntropy {
    fn width(&self, logits: &[f32]) -> usize {
        (logits.len() / self.targets.len().max(1)).max(1)
    }
}

impl Operation<1> for CrossEntropy {
    const NAME: &'static str = "cross-entropy";

    fn forward(&self, [logits]: [&[f32]; 1]) -> Result<Vec<f32>> {
        Ok(self
            .targets
            .par_iter()
            .zip(logits.par_chunks(self.width(logits)))
            .map(|(&target, row)| {
                // −ln p = ln Σ e^logit − logit[target]; the softmax returns the first term.
                let mut scratch = row.to_vec();
                (softmax::softmax(&mut scratch) - f64::from(row[target as usize])) as f32
            })
            .collect())
    }

    /// The gradient of −ln p by the logits is p, less 1 at the target.
    fn backward(&self, [logits]: [&[f32]; 1], gradient: &[f32]) -> Result<[Vec<f32>; 1]> {
        let mut to_logits = logits.to_vec();
        to_logits
            .par_chunks_mut(self.width(logits))
            .zip(self.targets.par_iter())
            .zip(gradient.par_iter())
            .for_each(|((row, &target), &gradient)| {
                softmax::softmax(row);
                // The row holds p now.
                row[target as usize] -= 1.0;
                scale(gradient, row);
            });
        Ok([to_logits])
    }

    fn shape(&self, _: [&Shape; 1]) -> Shape {
        self.targets.len().into()
    }
}
