//! Checkpoints as named tensors, read from the file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::kernel::bytes::Bytes;
use crate::model::import::torch::{read_legacy, read_zip};
use crate::model::read_or_map;
use crate::text::download;
use crate::{Error, ErrorKind, Result};

/// The magic number at the start of legacy files, a pickled long.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
}

impl Kind {
    pub(super) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Element type, shape and byte range of a tensor.
#[derive(Clone, Debug)]
pub struct CheckpointTensor {
    kind: Kind,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    range: Range<usize>,
}

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    bytes: Bytes,
    tensors: BTreeMap<String, CheckpointTensor>,
}

impl Checkpoint {
    /// Open a PyTorch file (zip or legacy pickle; a state dict, or a training checkpoint with one inside)
    /// or a safetensors file, of f32, f16 or bf16.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] or [`ErrorKind::Unsupported`] with what is wrong and where.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = read_or_map(path)?;
        download::check(&bytes).map_err(|error| error.at(path.display()))?;
        let tensors = if bytes.starts_with(b"PK\x03\x04") {
            read_zip(&bytes)
        } else if bytes.starts_with(LEGACY) {
            read_legacy(&bytes)
        } else {
            read_safetensors(&bytes)
        };
        let tensors = tensors.map_err(|error| error.at(path.display()))?;
        Ok(Self { bytes, tensors })
    }

    /// Tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, CheckpointTensor> {
        &self.tensors
    }

    /// Return a tensor by name.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is missing, with the names of others.
    pub fn require(&self, name: &str) -> Result<&CheckpointTensor> {
        self.tensors.get(name).ok_or_else(|| {
            let found: Vec<&str> = self.tensors.keys().take(8).map(String::as_str).collect();
            Error::new(
                ErrorKind::Format,
                format!("tensor {name} is missing; found {}", found.join(", ")),
            )
            .advice("pass a checkpoint of the BriLLM authors")
        })
    }

    /// Read elements of a tensor as f32: from `first` on, in row-major order, as many as `values` holds.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] past the end; [`ErrorKind::Numeric`] for a number that is not finite.
    pub fn read(&self, name: &str, first: usize, values: &mut [f32]) -> Result<()> {
        let tensor = self.require(name)?;
        let size = tensor.kind.size();
        let start = first
            .checked_mul(size)
            .and_then(|offset| tensor.range.start.checked_add(offset));
        let bytes = start
            .and_then(|start| start.checked_add(values.len() * size).map(|end| start..end))
            .filter(|range| range.end <= tensor.range.end)
            .map(|range| &self.bytes[range])
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Input,
                    format!("element {} is past the end", first + values.len()),
                )
                .at(format!("tensor {name}"))
            })?;
        match tensor.kind {
            Kind::F32 => {
                for (value, b) in values.iter_mut().zip(bytes.chunks_exact(4)) {
                    *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            Kind::F16 => {
                for (value, b) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = half::f16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
            Kind::Bf16 => {
                for (value, b) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = half::bf16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::new(
                ErrorKind::Numeric,
                format!("element {} is not finite", first + index),
            )
            .at(format!("tensor {name}"))),
            None => Ok(()),
        }
    }
}

pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, what)
}

/// Describe a tensor that begins `offset` elements into a storage, whose byte range is `storage`.
pub(super) fn tensor(
    kind: Kind,
    shape: Vec<usize>,
    offset: usize,
    storage: &Range<usize>,
) -> Result<CheckpointTensor> {
    let numbers = shape
        .iter()
        .try_fold(1usize, |product, &axis| product.checked_mul(axis));
    let start = offset
        .checked_mul(kind.size())
        .and_then(|offset| storage.start.checked_add(offset));
    let length = numbers.and_then(|numbers| numbers.checked_mul(kind.size()));
    match (
        start,
        start
            .zip(length)
            .and_then(|(start, length)| start.checked_add(length)),
    ) {
        (Some(start), Some(end)) if end <= storage.end => Ok(CheckpointTensor {
            kind,
            shape,
            range: start..end,
        }),
        _ => Err(invalid(format!("shape {shape:?} exceeds its storage"))),
    }
}

fn read_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, CheckpointTensor>> {
    let (length, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(|error| {
        invalid(format!("neither a PyTorch nor a safetensors file: {error}"))
            .advice("check that the file is complete and not a Git LFS pointer")
    })?;
    header
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let kind = match info.dtype {
                safetensors::Dtype::F32 => Kind::F32,
                safetensors::Dtype::F16 => Kind::F16,
                safetensors::Dtype::BF16 => Kind::Bf16,
                other => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("unsupported element type {other:?}"),
                    )
                    .at(format!("tensor {name}")));
                }
            };
            let start = length + 8 + info.data_offsets.0;
            let storage = start..(length + 8 + info.data_offsets.1).min(bytes.len());
            let found = tensor(kind, info.shape.clone(), 0, &storage)
                .map_err(|error| error.at(format!("tensor {name}")))?;
            Ok((name, found))
        })
        .collect()
}
