//! A checkpoint of any layout as named tensors that are read in place.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use crate::kernel::bytes::Bytes;
use crate::model::import::pickle::{Object, Pickle};
use crate::model::import::zip;
use crate::model::map_file;
use crate::{Error, ErrorKind, Result};

/// The number that legacy files begin with, as a pickled long.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// What a number of a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Bf16,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Where one tensor lies.
#[derive(Clone, Debug)]
pub struct CheckpointTensor {
    kind: Kind,
    /// Its axes.
    pub shape: Vec<usize>,
    range: Range<usize>,
}

/// A checkpoint: mapped, never read whole.
#[derive(Debug)]
pub struct Checkpoint {
    bytes: Bytes,
    tensors: BTreeMap<String, CheckpointTensor>,
}

impl Checkpoint {
    /// Opens a PyTorch file (zip or legacy pickle; a state dict, or a training checkpoint with one inside)
    /// or a safetensors file, of f32, f16 or bf16.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] or [`ErrorKind::Unsupported`] with what is wrong and where.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = map_file(path)?;
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

    /// Names and tensors.
    pub fn tensors(&self) -> &BTreeMap<String, CheckpointTensor> {
        &self.tensors
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], naming it and what is there instead.
    pub fn require(&self, name: &str) -> Result<&CheckpointTensor> {
        self.tensors.get(name).ok_or_else(|| {
            let found: Vec<&str> = self.tensors.keys().take(8).map(String::as_str).collect();
            Error::new(
                ErrorKind::Format,
                format!("there is no tensor {name}; there are {}", found.join(", ")),
            )
            .advice("is it a checkpoint of BriLLM?")
        })
    }

    /// Some numbers of a tensor, as f32. `values` gets those from `first` on, in row-major order.
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
                Error::new(ErrorKind::Input, "past the end").at(format!("tensor {name}"))
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
            Some(place) => Err(Error::new(
                ErrorKind::Numeric,
                format!("number {} is not finite", first + place),
            )
            .at(format!("tensor {name}"))),
            None => Ok(()),
        }
    }
}

fn fault(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, what)
}

/// Describes one tensor, whose `numbers` elements begin at `offset` of a storage that lies at `storage`.
fn tensor(
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
        _ => Err(fault(format!("shape {shape:?} reaches beyond its storage"))),
    }
}

/// One `_rebuild_tensor_v2` of a pickle.
struct Description {
    key: String,
    kind: Kind,
    numbers: usize,
    offset: usize,
    shape: Vec<usize>,
}

fn describe(pickle: &Pickle, index: usize) -> Result<Description> {
    let Object::Call { class, arguments } = pickle.object(index) else {
        return Err(fault("is not a tensor"));
    };
    let name = match pickle.object(*class) {
        Object::Class(name) => name.as_str(),
        _ => "",
    };
    let arguments = pickle.items(*arguments);
    match (name, arguments) {
        ("torch._utils._rebuild_parameter", [inner, ..]) if *inner < index => {
            describe(pickle, *inner)
        }
        ("torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
            let Object::Persistent(identity) = pickle.object(*storage) else {
                return Err(fault("its storage is not named"));
            };
            let &[_, class, key, _, numbers, ..] = pickle.items(*identity) else {
                return Err(fault("its storage is not described"));
            };
            let kind = match pickle.object(class) {
                Object::Class(name) => match name.as_str() {
                    "torch.FloatStorage" => Kind::F32,
                    "torch.HalfStorage" => Kind::F16,
                    "torch.BFloat16Storage" => Kind::Bf16,
                    other => {
                        return Err(Error::new(ErrorKind::Unsupported, format!("holds {other}")));
                    }
                },
                _ => return Err(fault("its storage has no type")),
            };
            let counts = |index: usize| -> Option<Vec<usize>> {
                pickle
                    .items(index)
                    .iter()
                    .map(|&item| pickle.count(item))
                    .collect()
            };
            let damaged = || fault("its shape cannot be read");
            let shape = counts(*shape).ok_or_else(damaged)?;
            let strides = counts(*strides).ok_or_else(damaged)?;
            let mut expected = 1usize;
            for (&axis, &stride) in shape.iter().zip(&strides).rev() {
                if axis > 1 && stride != expected {
                    return Err(Error::new(ErrorKind::Unsupported, "is not contiguous")
                        .advice("save it with .contiguous()"));
                }
                expected = expected.saturating_mul(axis.max(1));
            }
            Ok(Description {
                key: pickle
                    .text(key)
                    .ok_or_else(|| fault("its storage has no key"))?
                    .to_string(),
                kind,
                numbers: pickle.count(numbers).ok_or_else(damaged)?,
                offset: pickle.count(*offset).ok_or_else(damaged)?,
                shape,
            })
        }
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!("is made by {name}"),
        )),
    }
}

/// The tensors of a state dict, or of the one inside a training checkpoint.
fn describe_all(pickle: &Pickle) -> Result<Vec<(String, Description)>> {
    let root = pickle
        .value(pickle.root, "model_state_dict")
        .unwrap_or(pickle.root);
    let Object::Dictionary(pairs) = pickle.object(root) else {
        return Err(fault("the checkpoint is not a dictionary of tensors"));
    };
    pairs
        .iter()
        .filter_map(|&(key, value)| pickle.text(key).map(|name| (name.to_string(), value)))
        .map(|(name, value)| {
            describe(pickle, value)
                .map(|description| (name.clone(), description))
                .map_err(|error| error.at(format!("tensor {name}")))
        })
        .collect()
}

fn read_zip(bytes: &[u8]) -> Result<BTreeMap<String, CheckpointTensor>> {
    let entries = zip::entries(bytes)?;
    let (folder, range) = entries
        .iter()
        .find_map(|(name, range)| {
            name.strip_suffix("data.pkl")
                .map(|folder| (folder, range.clone()))
        })
        .ok_or_else(|| {
            fault("the archive has no data.pkl").advice("is it a file of torch.save?")
        })?;
    if let Some(order) = entries.get(&format!("{folder}byteorder"))
        && &bytes[order.clone()] != b"little"
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the checkpoint was saved on a big-endian machine",
        ));
    }
    let pickle = Pickle::read(&bytes[range])?;
    describe_all(&pickle)?
        .into_iter()
        .map(|(name, description)| {
            let storage = entries
                .get(&format!("{folder}data/{}", description.key))
                .ok_or_else(|| fault(format!("the archive has no storage {}", description.key)))
                .and_then(|storage| {
                    tensor(
                        description.kind,
                        description.shape,
                        description.offset,
                        storage,
                    )
                })
                .map_err(|error| error.at(format!("tensor {name}")))?;
            Ok((name, storage))
        })
        .collect()
}

/// Before 2020: magic, protocol, system, objects, storage keys, then each storage's length and numbers.
fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, CheckpointTensor>> {
    let mut at = 0;
    let mut next = || -> Result<Pickle> {
        let pickle = Pickle::read(&bytes[at..])?;
        at += pickle.length;
        Ok(pickle)
    };
    for _ in 0..3 {
        next()?;
    }
    let objects = next()?;
    let keys = next()?;
    let descriptions = describe_all(&objects)?;
    // A storage's type is known from the tensors, and from the optimizer's state where no tensor has it.
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for (_, description) in &descriptions {
        sizes.insert(&description.key, description.kind.size());
    }
    let mut storages: HashMap<String, Range<usize>> = HashMap::new();
    let mut wanted = descriptions.len();
    for &key in keys.items(keys.root) {
        let key = keys
            .text(key)
            .ok_or_else(|| fault("a storage has no key"))?;
        let length = bytes
            .get(at..at + 8)
            .ok_or_else(|| fault("the file ends before its storages"))?;
        let numbers = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let size = sizes.get(key).copied().unwrap_or(4) as u64;
        let start = at + 8;
        let end = numbers
            .checked_mul(size)
            .and_then(|length| length.checked_add(start as u64));
        let end = end.filter(|&end| end <= bytes.len() as u64);
        let end =
            end.ok_or_else(|| fault(format!("storage {key} reaches beyond the file")))? as usize;
        if sizes.contains_key(key) {
            wanted = wanted.saturating_sub(1);
        }
        storages.insert(key.to_string(), start..end);
        at = end;
        if wanted == 0 {
            break;
        }
    }
    descriptions
        .into_iter()
        .map(|(name, description)| {
            let found = storages
                .get(&description.key)
                .filter(|storage| {
                    storage.len() >= description.numbers.saturating_mul(description.kind.size())
                })
                .ok_or_else(|| fault(format!("the file has no whole storage {}", description.key)))
                .and_then(|storage| {
                    tensor(
                        description.kind,
                        description.shape,
                        description.offset,
                        storage,
                    )
                })
                .map_err(|error| error.at(format!("tensor {name}")))?;
            Ok((name, found))
        })
        .collect()
}

fn read_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, CheckpointTensor>> {
    let (length, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(|error| {
        fault(format!(
            "this is no PyTorch file, and as safetensors: {error}"
        ))
        .advice("the file may be damaged, or a Git LFS pointer")
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
                    return Err(
                        Error::new(ErrorKind::Unsupported, format!("holds {other:?}"))
                            .at(format!("tensor {name}")),
                    );
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
