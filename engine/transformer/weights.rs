//! Weights by name, and the layers that hold them: linear layers and norms.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::kernel::norm::NormKind;
use crate::transformer::operation::{Gelu, Normalise, apply1, apply2, apply3, with_values};
use crate::transformer::quantization;
use crate::transformer::variables::Weight;
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

/// Weights by the names of Hugging Face's files, all f32.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    /// Element types of tensors that were not read.
    unread: BTreeMap<String, String>,
}

impl Weights {
    /// Create weights from named tensors, converted to f32.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a tensor cannot be converted.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let tensors = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            tensors,
            ..Self::default()
        })
    }

    /// Add the names and element types of tensors that were not read, for error messages.
    pub(super) fn with_unread(self, unread: BTreeMap<String, String>) -> Self {
        Self { unread, ..self }
    }

    /// Create weights from copies of their values.
    pub(super) fn from_values<'a>(list: impl IntoIterator<Item = &'a Weight>) -> Result<Self> {
        let tensors = list.into_iter().map(|weight| {
            let shape = weight.shape.as_slice();
            let tensor = Tensor::from_slice(&weight.values, shape, &Device::Cpu)?;
            Ok((weight.name.clone(), tensor))
        });
        Ok(Self {
            tensors: tensors.collect::<Result<_>>()?,
            ..Self::default()
        })
    }

    /// Iterate over all weights in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Return whether a weight exists.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Return a weight of a given shape.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor that is missing or has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(self.missing(name).at(name));
        };
        if tensor.dims() != shape {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "the shape is {:?}, config.json requires {shape:?}",
                    tensor.dims()
                ),
            )
            .at(name));
        }
        Ok(tensor.clone())
    }

    /// Describe a missing tensor by what the file has instead.
    fn missing(&self, name: &str) -> Error {
        let unsupported =
            |what: String| Error::new(ErrorKind::Unsupported, what).advice(quantization::ADVICE);
        if let Some(dtype) = self.unread.get(name) {
            return unsupported(format!("the tensor is stored as {dtype}"));
        }
        let names = || self.tensors.keys().chain(self.unread.keys());
        if let Some(part) = quantization::part_of(name, names().map(String::as_str)) {
            return unsupported(format!("the layer is quantised: it has {part} instead"));
        }
        // Characters that the names have in common at the beginning, which names the layer, and at the end.
        let likeness = |other: &str| {
            let same = |(a, b): &(char, char)| a == b;
            let first = name.chars().zip(other.chars()).take_while(same).count();
            let last = name.chars().rev().zip(other.chars().rev());
            (first, last.take_while(same).count())
        };
        let is_near = |other: &&String| {
            let (first, last) = likeness(other);
            2 * (first + last) >= name.len()
        };
        let mut near: Vec<&String> = names().filter(is_near).collect();
        near.sort_by_key(|other| Reverse(likeness(other)));
        if near.is_empty() {
            near = names().collect();
        }
        near.truncate(3);
        let near: Vec<&str> = near.into_iter().map(String::as_str).collect();
        let what = match near.as_slice() {
            [] => "the tensor is missing: the file has no tensors".to_string(),
            near => format!("the tensor is missing; the file has {}", near.join(", ")),
        };
        Error::new(ErrorKind::Format, what).advice(if name == "lm_head.weight" {
            "set tie_word_embeddings to true in config.json if the token embedding is the output matrix"
        } else {
            "check that the file is complete and of the architecture in config.json"
        })
    }

    /// Return a weight of a given shape, or `None` where there is none of the name.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor of another shape.
    pub fn get_optional(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        self.has(name).then(|| self.get(name, shape)).transpose()
    }

    /// Check that every number is finite.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] naming the tensor.
    pub fn check(&self) -> Result<()> {
        for (name, tensor) in &self.tensors {
            if !with_values([tensor], |[values]| values.iter().all(|v| v.is_finite()))? {
                return Err(Error::new(ErrorKind::Numeric, "a value is not finite").at(name));
            }
        }
        Ok(())
    }
}

/// A linear layer, `x W + b`. `[N, in]` → `[N, out]`
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// `[in, out]`, a view of the stored tensor.
    matrix: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn new(matrix: Tensor, bias: Option<Tensor>) -> Self {
        Self { matrix, bias }
    }

    /// Read a matrix stored `[out, in]` as `name.weight`, with `name.bias` if present.
    pub(super) fn read(weights: &Weights, name: &str, input: usize, output: usize) -> Result<Self> {
        let matrix = weights.get(&format!("{name}.weight"), &[output, input])?;
        let bias = weights.get_optional(&format!("{name}.bias"), &[output])?;
        // Transposed as a view: files store `[out, in]`.
        Ok(Self::new(matrix.t()?, bias))
    }

    /// Read a matrix stored `[in, out]`, as in GPT-2's files.
    pub(super) fn read_transposed(
        weights: &Weights,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let matrix = weights.get(&format!("{name}.weight"), &[input, output])?;
        let bias = weights.get_optional(&format!("{name}.bias"), &[output])?;
        Ok(Self::new(matrix, bias))
    }

    /// Return the output columns `from..from + count` as a view.
    pub(super) fn columns(&self, from: usize, count: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, from, count));
        Ok(Self::new(
            self.matrix.narrow(1, from, count)?,
            bias.transpose()?,
        ))
    }

    /// Copy the layer to memory of its own.
    pub(super) fn copy(&self) -> Result<Self> {
        let bias = self.bias.as_ref().map(Tensor::copy);
        Ok(Self::new(self.matrix.copy()?, bias.transpose()?))
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // `[N, in] · [in, out]`; a transposed view needs no copy of the stored matrix.
        let y = x.matmul(&self.matrix)?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    /// Return the number of parameters.
    pub(super) fn count(&self) -> usize {
        self.matrix.elem_count() + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }
}

/// Normalisation of rows: RMS with a gain, or layer norm with a gain and a bias.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    kind: NormKind,
    epsilon: f32,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Norm {
    pub(super) fn read(weights: &Weights, name: &str, shape: &Configuration) -> Result<Self> {
        // Old BERT files name gain and bias gamma and beta.
        let get = |new: &str, old: &str| {
            let (new, old) = (format!("{name}.{new}"), format!("{name}.{old}"));
            let name = if weights.has(&old) { old } else { new };
            weights.get(&name, &[shape.width])
        };
        Ok(Self {
            kind: shape.norm,
            epsilon: shape.norm_epsilon,
            weight: get("weight", "gamma")?,
            bias: match shape.norm {
                NormKind::Layer => Some(get("bias", "beta")?),
                NormKind::Rms => None,
            },
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let operation = Normalise {
            kind: self.kind,
            epsilon: self.epsilon,
        };
        Ok(match &self.bias {
            Some(bias) => apply3(x, &self.weight, bias, operation)?,
            None => apply2(x, &self.weight, operation)?,
        })
    }

    /// Return the number of parameters.
    pub(super) fn count(&self) -> usize {
        self.weight.elem_count() + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }
}

impl Activation {
    pub(super) fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => x.silu()?,
            Self::Gelu => apply1(x, Gelu)?,
            // candle's name for the approximation by tanh.
            Self::GeluTanh => x.gelu()?,
            Self::Relu => x.relu()?,
        })
    }
}
