//! Weights by name, and the layers that hold them: linear layers and norms.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::kernel::block_format::Format;
use crate::kernel::norm::NormKind;
use crate::kernel::stored::Stored;
use crate::transformer::matrix::{self, Matrix, unpacked};
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

/// A stored tensor: its shape, and its numbers as rows along the last dimension.
#[derive(Clone, Debug)]
pub(super) struct StoredTensor {
    pub(super) shape: Vec<usize>,
    pub(super) matrix: Stored,
}

impl StoredTensor {
    fn to_tensor(&self) -> Result<Tensor> {
        let shape = self.shape.as_slice();
        Ok(Tensor::from_vec(self.values(), shape, &Device::Cpu)?)
    }

    /// Return the numbers as f32.
    pub(super) fn values(&self) -> Vec<f32> {
        unpacked(&self.matrix)
    }

    /// Copy the parts along the first dimension in another order.
    pub(super) fn reordered(&self, order: &[usize]) -> Result<Self> {
        let matrix = if self.shape.len() == 1 {
            let values = self.values();
            let values: Vec<f32> = order.iter().map(|&i| values[i]).collect();
            Stored::pack(Format::F32, &values, 1, values.len())?
        } else {
            self.matrix.reordered(order)?
        };
        let shape = self.shape.clone();
        Ok(Self { shape, matrix })
    }

    /// Copy a tensor with a number added to each of its numbers, as f32.
    pub(super) fn added(&self, number: f32) -> Result<Self> {
        let values: Vec<f32> = self.values().iter().map(|value| value + number).collect();
        let (rows, columns) = self.matrix.dimensions();
        Ok(Self {
            shape: self.shape.clone(),
            matrix: Stored::pack(Format::F32, &values, rows, columns)?,
        })
    }

    /// Copy a matrix with rows and columns exchanged, blocks as f32.
    pub(super) fn transposed(&self) -> Result<Self> {
        let (rows, columns) = self.matrix.dimensions();
        Ok(Self {
            shape: vec![columns, rows],
            matrix: matrix::transposed(&self.matrix)?,
        })
    }
}

/// Weights by the names of Hugging Face's files: tensors of f32, and what stays as its file stores it.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    stored: BTreeMap<String, StoredTensor>,
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

    /// Create weights from stored tensors.
    pub(super) fn of_stored(stored: BTreeMap<String, StoredTensor>) -> Self {
        Self {
            stored,
            ..Self::default()
        }
    }

    /// Convert all weights to tensors of f32.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when memory for one cannot be had.
    pub(super) fn into_tensors(mut self) -> Result<Self> {
        for (name, stored) in std::mem::take(&mut self.stored) {
            self.tensors.insert(name, stored.to_tensor()?);
        }
        Ok(self)
    }

    /// Return the names of tensors that were not read: those of other element types.
    pub(super) fn unread(&self) -> impl Iterator<Item = &String> {
        self.unread.keys()
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

    /// Iterate over all tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Iterate over the tensors that stay as their file stores them, in the order of their names: name, shape, and the
    /// numbers as rows along the last dimension.
    pub fn stored(&self) -> impl Iterator<Item = (&str, &[usize], &Stored)> {
        self.stored
            .iter()
            .map(|(name, one)| (name.as_str(), one.shape.as_slice(), &one.matrix))
    }

    /// Iterate over the names of all weights.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors
            .keys()
            .chain(self.stored.keys())
            .map(String::as_str)
    }

    /// Return whether a weight exists.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.stored.contains_key(name)
    }

    /// Return whether a weight exists and has a shape.
    pub(super) fn has_shape(&self, name: &str, shape: &[usize]) -> bool {
        self.tensors
            .get(name)
            .is_some_and(|tensor| tensor.dims() == shape)
            || self
                .stored
                .get(name)
                .is_some_and(|stored| stored.shape == shape)
    }

    /// Return a weight of a given shape.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor that is missing or has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let stored = self.stored.get(name);
        let tensor = self.tensors.get(name);
        let found = tensor
            .map(Tensor::dims)
            .or(stored.map(|stored| stored.shape.as_slice()));
        let Some(found) = found else {
            return Err(self.missing(name).at(name));
        };
        if found != shape {
            return Err(Error::new(
                ErrorKind::Format,
                format!("the shape is {found:?}, config.json requires {shape:?}"),
            )
            .at(name));
        }
        match (tensor, stored) {
            (None, Some(stored)) => stored.to_tensor(),
            (tensor, _) => tensor.cloned().ok_or_else(|| self.missing(name)),
        }
    }

    /// Return a matrix of a given shape, without copying stored numbers.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Matrix> {
        match self.stored.get(name) {
            Some(stored) if stored.shape == shape => Ok(Matrix::Stored(stored.matrix.clone())),
            _ => self.get(name, &shape).map(Matrix::Tensor),
        }
    }

    /// Describe a missing tensor by what the file has instead.
    fn missing(&self, name: &str) -> Error {
        let unsupported =
            |what: String| Error::new(ErrorKind::Unsupported, what).advice(quantization::ADVICE);
        if let Some(dtype) = self.unread.get(name) {
            return unsupported(format!("the tensor is stored as {dtype}"));
        }
        let names = || {
            self.tensors
                .keys()
                .chain(self.stored.keys())
                .chain(self.unread.keys())
        };
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
        let invalid = |name: &str| Error::new(ErrorKind::Numeric, "a value is not finite").at(name);
        for (name, tensor) in &self.tensors {
            if !with_values([tensor], |[values]| values.iter().all(|v| v.is_finite()))? {
                return Err(invalid(name));
            }
        }
        if let Some((name, _)) = self.stored.iter().find(|(_, s)| !s.matrix.is_finite()) {
            return Err(invalid(name));
        }
        Ok(())
    }
}

/// A linear layer, `x W + b`. `[N, in]` → `[N, out]`
#[derive(Clone, Debug)]
pub(super) struct Linear {
    matrix: Matrix,
    bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn new(matrix: Matrix, bias: Option<Tensor>) -> Self {
        Self { matrix, bias }
    }

    /// Read a matrix stored `[out, in]` as `name.weight`, with `name.bias` if present.
    pub(super) fn read(weights: &Weights, name: &str, input: usize, output: usize) -> Result<Self> {
        let matrix = weights.matrix(&format!("{name}.weight"), [output, input])?;
        let bias = weights.get_optional(&format!("{name}.bias"), &[output])?;
        Ok(Self::new(matrix, bias))
    }

    /// Read a matrix stored `[in, out]`, as in GPT-2's files.
    pub(super) fn read_transposed(
        weights: &Weights,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let matrix = weights.matrix(&format!("{name}.weight"), [input, output])?;
        let bias = weights.get_optional(&format!("{name}.bias"), &[output])?;
        Ok(Self::new(matrix.transposed()?, bias))
    }

    /// Return the outputs `from..from + count`, sharing memory.
    pub(super) fn outputs(&self, from: usize, count: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, from, count));
        Ok(Self::new(
            self.matrix.slice(from, count)?,
            bias.transpose()?,
        ))
    }

    /// Copy the outputs `rows`, in that order.
    pub(super) fn reordered(&self, rows: &[usize]) -> Result<Self> {
        let indices: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let indices = Tensor::new(indices, &Device::Cpu)?;
        let matrix = match &self.matrix {
            Matrix::Tensor(tensor) => Matrix::Tensor(tensor.index_select(&indices, 0)?),
            Matrix::Stored(stored) => Matrix::Stored(stored.reordered(rows)?),
        };
        let bias = self
            .bias
            .as_ref()
            .map(|bias| bias.index_select(&indices, 0));
        Ok(Self::new(matrix, bias.transpose()?))
    }

    /// Copy the layer to memory of its own.
    pub(super) fn copy(&self) -> Result<Self> {
        let bias = self.bias.as_ref().map(Tensor::copy);
        Ok(Self::new(self.matrix.copy()?, bias.transpose()?))
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.matrix.product(x)?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    /// Return the number of parameters.
    pub(super) fn count(&self) -> usize {
        self.matrix.count() + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }

    /// Return the bytes of the parameters.
    pub(super) fn bytes(&self) -> usize {
        self.matrix.bytes() + self.bias.as_ref().map_or(0, Tensor::elem_count) * 4
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
    /// Read the norm of rows of `width` numbers.
    pub(super) fn read(
        weights: &Weights,
        name: &str,
        shape: &Configuration,
        width: usize,
    ) -> Result<Self> {
        // Old BERT files name gain and bias gamma and beta.
        let get = |new: &str, old: &str| {
            let (new, old) = (format!("{name}.{new}"), format!("{name}.{old}"));
            let name = if weights.has(&old) { old } else { new };
            weights.get(&name, &[width])
        };
        let (family, gain) = (shape.family(), get("weight", "gamma")?);
        Ok(Self {
            kind: shape.norm,
            epsilon: shape.norm_epsilon,
            weight: match family.gain_offset {
                0.0 => gain,
                offset => (gain + f64::from(offset))?,
            },
            bias: match shape.norm {
                NormKind::Layer if family.norm_biased => Some(get("bias", "beta")?),
                NormKind::Layer => Some(Tensor::zeros(width, DType::F32, &Device::Cpu)?),
                NormKind::Rms => None,
            },
        })
    }

    /// Create a layer norm without weights.
    pub(super) fn plain(shape: &Configuration) -> Result<Self> {
        Ok(Self {
            kind: shape.norm,
            epsilon: shape.norm_epsilon,
            weight: Tensor::ones(shape.width, DType::F32, &Device::Cpu)?,
            bias: Some(Tensor::zeros(shape.width, DType::F32, &Device::Cpu)?),
        })
    }

    /// Normalise parts of rows, each as wide as the gain.
    pub(super) fn forward_parts(&self, x: &Tensor) -> Result<Tensor> {
        let parts = x.reshape(((), self.weight.elem_count()))?;
        Ok(self.forward(&parts)?.reshape(x.shape())?)
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
            Self::ReluSquared => x.relu()?.sqr()?,
        })
    }
}
