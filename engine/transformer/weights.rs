//! Named weights, and the parts of a network that hold them: matrices with their bias, norms.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::kernel::norm::NormKind;
use crate::transformer::operation::{Gelu, Normalise};
use crate::transformer::{Activation, Configuration};
use crate::{Error, ErrorKind, Result};

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::new(
            ErrorKind::Numeric,
            format!("tensor arithmetic failed: {error}"),
        )
    }
}

/// Weights by the names that Hugging Face's files give them, all f32.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Weights from their names.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a tensor cannot be converted to f32.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let tensors = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)))
            .collect::<Result<_>>()?;
        Ok(Self { tensors })
    }

    /// All weights, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether there is a weight of a name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A weight of a given shape.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor that is missing or of another shape.
    pub fn need(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(Error::new(ErrorKind::Format, "the tensor is missing")
                .at(name)
                .advice("is the file complete, and of the architecture that config.json names?"));
        };
        if tensor.dims() != shape {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "the shape is {:?}, config.json wants {shape:?}",
                    tensor.dims()
                ),
            )
            .at(name));
        }
        Ok(tensor.clone())
    }

    /// A weight that may be missing.
    ///
    /// # Errors
    /// As [`Self::need`], for one that is there.
    pub fn find(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        self.has(name).then(|| self.need(name, shape)).transpose()
    }

    /// Numbers in all weights.
    pub fn count(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }

    /// Whether every number is finite, else the name of a weight that has one that is not.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] naming the tensor.
    pub fn check(&self) -> Result<()> {
        for (name, tensor) in &self.tensors {
            let finite = super::operation::look(tensor, |values| {
                values.iter().all(|value| value.is_finite())
            })?;
            if !finite {
                return Err(
                    Error::new(ErrorKind::Numeric, "holds a value that is not finite").at(name),
                );
            }
        }
        Ok(())
    }
}

/// A matrix with its bias: rows `[N, in]` become `[N, out]`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// `[in, out]`, as a view of what the file has.
    matrix: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A matrix stored `[out, in]` under `name.weight`, with `name.bias` where there is one.
    pub(super) fn read(weights: &Weights, name: &str, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            matrix: weights
                .need(&format!("{name}.weight"), &[output, input])?
                .t()?,
            bias: weights.find(&format!("{name}.bias"), &[output])?,
        })
    }

    /// A matrix stored `[in, out]`, as GPT-2 stores it.
    pub(super) fn read_wide(
        weights: &Weights,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        Ok(Self {
            matrix: weights.need(&format!("{name}.weight"), &[input, output])?,
            bias: weights.find(&format!("{name}.bias"), &[output])?,
        })
    }

    pub(super) fn of(matrix: Tensor, bias: Option<Tensor>) -> Self {
        Self { matrix, bias }
    }

    /// The columns `from..from + count` of the output, as a view.
    pub(super) fn columns(&self, from: usize, count: usize) -> Result<Self> {
        Ok(Self {
            matrix: self.matrix.narrow(1, from, count)?,
            bias: match &self.bias {
                Some(bias) => Some(bias.narrow(0, from, count)?),
                None => None,
            },
        })
    }

    /// The same with memory of its own, so that what it was a view of can go.
    pub(super) fn alone(&self) -> Result<Self> {
        Ok(Self {
            matrix: self.matrix.copy()?,
            bias: match &self.bias {
                Some(bias) => Some(bias.copy()?),
                None => None,
            },
        })
    }

    /// `x W + b`. `[N, in]` → `[N, out]`
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.matrix)?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    /// Numbers in it.
    pub(super) fn count(&self) -> usize {
        self.matrix.elem_count() + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }
}

/// A norm of rows.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    kind: NormKind,
    epsilon: f32,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Norm {
    pub(super) fn read(weights: &Weights, name: &str, shape: &Configuration) -> Result<Self> {
        // Old BERT files say gamma and beta.
        let named = |new: &str, old: &str| {
            let old = format!("{name}.{old}");
            let name = if weights.has(&old) {
                old
            } else {
                format!("{name}.{new}")
            };
            weights.need(&name, &[shape.width])
        };
        Ok(Self {
            kind: shape.norm,
            epsilon: shape.norm_epsilon,
            weight: named("weight", "gamma")?,
            bias: match shape.norm {
                NormKind::Layer => Some(named("bias", "beta")?),
                NormKind::Rms => None,
            },
        })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let operation = Normalise {
            kind: self.kind,
            epsilon: self.epsilon,
        };
        let x = x.contiguous()?;
        Ok(match &self.bias {
            Some(bias) => x.apply_op3(&self.weight, bias, operation)?,
            None => x.apply_op2(&self.weight, operation)?,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.weight.elem_count() + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }
}

impl Activation {
    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => x.silu()?,
            Self::Gelu => x.contiguous()?.apply_op1(Gelu)?,
            Self::GeluTanh => x.gelu()?,
            Self::Relu => x.relu()?,
        })
    }
}
