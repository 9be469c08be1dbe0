//! Operations that candle's own set lacks or gives without a way back, over the kernels of this engine.
//!
//! candle-nn's layer norm, RMS norm, softmax over the last dimension and rotary embedding take fast paths
//! that have no backward pass and leave variables without a gradient, silently. Each operation here has one.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor,
};
use rayon::prelude::*;

use crate::kernel::norm::{self, NormKind};
use crate::kernel::{activation, gate, softmax};
use crate::transformer::rotary::RotaryTable;

/// Rows that one task of the pool takes, at least.
const ROWS: usize = 16;

/// The numbers of an operand.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => candle_core::bail!("the operand is not contiguous"),
    }
}

/// Looks at the numbers of a tensor.
pub(super) fn look<T>(tensor: &Tensor, see: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(see(slice(storage, layout)?)),
        _ => candle_core::bail!("the tensor is not in main memory"),
    }
}

pub(super) fn made(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

pub(super) fn like(values: Vec<f32>, tensor: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, tensor.shape(), tensor.device())
}

/// Normalises rows: RMS with a weight, or layer with weight and bias.
pub(super) struct Normalise {
    pub(super) kind: NormKind,
    pub(super) epsilon: f32,
}

impl Normalise {
    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
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

    /// Gradients of rows, weight and bias. Rows are added up in pieces of a fixed size, so that the result
    /// does not depend on the number of threads.
    fn backward(&self, x: &[f32], weight: &[f32], biased: bool, gradient: &[f32]) -> [Vec<f32>; 3] {
        let width = weight.len();
        let bias_width = if biased { width } else { 0 };
        let piece = 128 * width;
        let mut to_rows = vec![0.0; x.len()];
        let parts: Vec<(Vec<f32>, Vec<f32>)> = to_rows
            .par_chunks_mut(piece)
            .zip(x.par_chunks(piece))
            .zip(gradient.par_chunks(piece))
            .map(|((to_rows, x), gradient)| {
                let (mut to_weight, mut to_bias) = (vec![0.0; width], vec![0.0; bias_width]);
                for ((to_row, row), back) in to_rows
                    .chunks_mut(width)
                    .zip(x.chunks(width))
                    .zip(gradient.chunks(width))
                {
                    norm::backward(
                        self.kind,
                        self.epsilon,
                        row,
                        weight,
                        back,
                        to_row,
                        &mut to_weight,
                        &mut to_bias,
                    );
                }
                (to_weight, to_bias)
            })
            .collect();
        let (mut to_weight, mut to_bias) = (vec![0.0; width], vec![0.0; bias_width]);
        for (weight, bias) in parts {
            for (sum, part) in to_weight.iter_mut().zip(weight) {
                *sum += part;
            }
            for (sum, part) in to_bias.iter_mut().zip(bias) {
                *sum += part;
            }
        }
        [to_rows, to_weight, to_bias]
    }
}

impl CustomOp2 for Normalise {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        made(self.forward(slice(x, lx)?, slice(w, lw)?, &[]), lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [rows, weight, _] = look(x, |values| {
            look(w, |weight| {
                look(gradient, |back| self.backward(values, weight, false, back))
            })
        })???;
        Ok((Some(like(rows, x)?), Some(like(weight, w)?)))
    }
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        made(
            self.forward(slice(x, lx)?, slice(w, lw)?, slice(b, lb)?),
            lx.shape(),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [rows, weight, bias] = look(x, |values| {
            look(w, |weight| {
                look(gradient, |back| self.backward(values, weight, true, back))
            })
        })???;
        Ok((
            Some(like(rows, x)?),
            Some(like(weight, w)?),
            Some(like(bias, b)?),
        ))
    }
}

/// Turns the heads of each row to its position.
pub(super) struct Rotate {
    pub(super) turns: Arc<RotaryTable>,
    pub(super) positions: Arc<[u32]>,
    /// Components of one head.
    pub(super) head: usize,
}

impl Rotate {
    fn all(&self, x: &[f32], back: bool) -> Vec<f32> {
        let width = x.len() / self.positions.len().max(1);
        let mut output = x.to_vec();
        if width > 0 {
            output
                .par_chunks_mut(width)
                .with_min_len(ROWS)
                .zip(self.positions.par_iter())
                .for_each(|(row, &position)| self.turns.turn(row, self.head, position, back));
        }
        output
    }
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "turn"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        made(self.all(slice(x, layout)?, false), layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(like(look(gradient, |back| self.all(back, true))?, x)?))
    }
}

/// Numbers that one task of the pool takes in operations by element.
const ELEMENTS: usize = 1 << 14;

/// `silu(gate) · up`.
pub(super) struct Gate;

impl CustomOp2 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        lg: &Layout,
        u: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (g, u) = (slice(g, lg)?, slice(u, lu)?);
        let mut output = vec![0.0; g.len()];
        output
            .par_chunks_mut(ELEMENTS)
            .zip(g.par_chunks(ELEMENTS))
            .zip(u.par_chunks(ELEMENTS))
            .for_each(|((output, g), u)| gate::forward(g, u, output));
        made(output, lg.shape())
    }

    fn bwd(
        &self,
        g: &Tensor,
        u: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (to_g, to_u) = look(g, |g| {
            look(u, |u| {
                look(gradient, |back| {
                    let (mut to_g, mut to_u) = (vec![0.0; g.len()], vec![0.0; g.len()]);
                    to_g.par_chunks_mut(ELEMENTS)
                        .zip(to_u.par_chunks_mut(ELEMENTS))
                        .zip(g.par_chunks(ELEMENTS))
                        .zip(u.par_chunks(ELEMENTS))
                        .zip(back.par_chunks(ELEMENTS))
                        .for_each(|((((to_g, to_u), g), u), back)| {
                            gate::backward(g, u, back, to_g, to_u);
                        });
                    (to_g, to_u)
                })
            })
        })???;
        Ok((Some(like(to_g, g)?), Some(like(to_u, u)?)))
    }
}

/// Exact GELU.
pub(super) struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let mut output = vec![0.0; x.len()];
        output
            .par_chunks_mut(ELEMENTS)
            .zip(x.par_chunks(ELEMENTS))
            .for_each(|(output, x)| activation::forward(x, output));
        made(output, layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = look(x, |x| {
            look(gradient, |back| {
                let mut output = back.to_vec();
                output
                    .par_chunks_mut(ELEMENTS)
                    .zip(x.par_chunks(ELEMENTS))
                    .for_each(|(output, x)| activation::backward(x, output));
                output
            })
        })??;
        Ok(Some(like(values, x)?))
    }
}

/// −ln p of each row's target, from scores `[N, V]`. `[N]`
pub(super) struct CrossEntropy {
    pub(super) targets: Arc<[u32]>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "surprise"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = slice(logits, layout)?;
        let width = logits.len() / self.targets.len().max(1);
        let losses: Vec<f32> = self
            .targets
            .par_iter()
            .zip(logits.par_chunks(width.max(1)))
            .map(|(&target, row)| {
                let mut scratch = row.to_vec();
                (softmax::softmax(&mut scratch) - f64::from(row[target as usize])) as f32
            })
            .collect();
        made(losses, self.targets.len())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = look(logits, |values| {
            look(gradient, |back| {
                let width = values.len() / self.targets.len().max(1);
                let mut output = values.to_vec();
                output
                    .par_chunks_mut(width.max(1))
                    .zip(self.targets.par_iter())
                    .zip(back.par_iter())
                    .for_each(|((row, &target), &back)| {
                        softmax::softmax(row);
                        row[target as usize] -= 1.0;
                        crate::kernel::vector::scale(back, row);
                    });
                output
            })
        })??;
        Ok(Some(like(values, logits)?))
    }
}
