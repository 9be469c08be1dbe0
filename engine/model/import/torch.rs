//! PyTorch checkpoints: the tensors that their pickle describes, in the zip and in the legacy layout.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::model::import::checkpoint::{CheckpointTensor, Kind, invalid, tensor};
use crate::model::import::pickle::{LONGEST_NAME, Object, Pickle};
use crate::{Error, ErrorKind, Result};

/// Axes of a tensor at most.
const MOST_AXES: usize = 8;

/// Arguments of a `_rebuild_tensor_v2` call in a pickle.
struct Description<'a> {
    key: &'a str,
    kind: Kind,
    numbers: usize,
    offset: usize,
    shape: Vec<usize>,
}

/// The name and arguments of a call.
fn call(pickle: &Pickle, index: usize) -> Result<(&str, &[usize])> {
    let Object::Call { class, arguments } = pickle.object(index) else {
        return Err(invalid("the object is not a tensor"));
    };
    let name = match pickle.object(*class) {
        Object::Class(name) => name.as_str(),
        _ => "",
    };
    Ok((name, pickle.items(*arguments)))
}

fn describe(pickle: &Pickle, index: usize) -> Result<Description<'_>> {
    let (mut name, mut arguments) = call(pickle, index)?;
    // A parameter is a tensor with a mark; parameters of parameters do not occur.
    if let ("torch._utils._rebuild_parameter", [inner, ..]) = (name, arguments) {
        (name, arguments) = call(pickle, *inner)?;
    }
    match (name, arguments) {
        ("torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
            let Object::Persistent(identity) = pickle.object(*storage) else {
                return Err(invalid("the storage has no identity"));
            };
            let &[_, class, key, _, numbers, ..] = pickle.items(*identity) else {
                return Err(invalid("the storage is not described"));
            };
            let kind = match pickle.object(class) {
                Object::Class(name) => match name.as_str() {
                    "torch.FloatStorage" => Kind::F32,
                    "torch.HalfStorage" => Kind::F16,
                    "torch.BFloat16Storage" => Kind::Bf16,
                    other => {
                        return Err(Error::new(
                            ErrorKind::Unsupported,
                            format!("unsupported element type {other}"),
                        ));
                    }
                },
                _ => return Err(invalid("the storage has no element type")),
            };
            let counts = |index: usize| -> Option<Vec<usize>> {
                let items = pickle.items(index).iter().take(MOST_AXES + 1);
                items.map(|&item| pickle.count(item)).collect()
            };
            let damaged = || invalid("the shape is not a tuple of counts");
            let shape = counts(*shape).ok_or_else(damaged)?;
            if shape.len() > MOST_AXES {
                return Err(invalid(format!("a tensor has more than {MOST_AXES} axes")));
            }
            let strides = counts(*strides).ok_or_else(damaged)?;
            let mut expected = 1usize;
            for (&axis, &stride) in shape.iter().zip(&strides).rev() {
                if axis > 1 && stride != expected {
                    return Err(
                        Error::new(ErrorKind::Unsupported, "the tensor is not contiguous")
                            .advice("save it with .contiguous()"),
                    );
                }
                expected = expected.saturating_mul(axis.max(1));
            }
            Ok(Description {
                key: pickle
                    .name(key)
                    .ok_or_else(|| invalid("the storage has no key"))?,
                kind,
                numbers: pickle.count(numbers).ok_or_else(damaged)?,
                offset: pickle.count(*offset).ok_or_else(damaged)?,
                shape,
            })
        }
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!("unsupported constructor {name}"),
        )),
    }
}

/// The tensors of a state dict, or of the one inside a training checkpoint.
fn describe_all(pickle: &Pickle) -> Result<Vec<(&str, Description<'_>)>> {
    let root = pickle
        .value(pickle.root, "model_state_dict")
        .unwrap_or(pickle.root);
    let Object::Dictionary(pairs) = pickle.object(root) else {
        return Err(invalid("the checkpoint is not a dictionary of tensors"));
    };
    pairs
        .iter()
        .filter(|&&(key, _)| matches!(pickle.object(key), Object::Text(_)))
        .map(|&(key, value)| {
            let name = pickle.name(key).ok_or_else(|| {
                invalid(format!(
                    "a tensor's name has more than {LONGEST_NAME} bytes"
                ))
            })?;
            describe(pickle, value)
                .map(|description| (name, description))
                .map_err(|error| error.at(format!("tensor {name}")))
        })
        .collect()
}

/// Byte range of each entry of a zip archive.
///
/// # Errors
/// [`ErrorKind::Format`] for a damaged archive or an entry that exceeds the file; [`ErrorKind::Unsupported`] for a
/// compressed entry.
fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>> {
    let damaged = |error: ZipError| {
        Error::new(ErrorKind::Format, "the zip archive is damaged")
            .advice("copy the file again; it may be cut short")
            .because(error)
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        if entry.compression() != CompressionMethod::Stored && entry.size() > 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("entry {name} is compressed"),
            )
            .advice("save the checkpoint with torch.save, which stores its entries"));
        }
        let start = entry.data_start();
        let end = start.and_then(|start| start.checked_add(entry.size()));
        match (start, end) {
            (Some(start), Some(end)) if end <= bytes.len() as u64 => {
                entries.insert(name, start as usize..end as usize);
            }
            _ => return Err(invalid(format!("entry {name} exceeds the zip archive"))),
        }
    }
    Ok(entries)
}

/// Read the archive that `torch.save` has written since 2020: `data.pkl`, and one entry per storage.
pub(super) fn read_zip(bytes: &[u8]) -> Result<BTreeMap<String, CheckpointTensor>> {
    let entries = entries(bytes)?;
    let pickle = entries.iter().find_map(|(name, range)| {
        let folder = name.strip_suffix("data.pkl")?;
        Some((folder, range.clone()))
    });
    let (folder, range) = pickle.ok_or_else(|| {
        invalid("the archive has no data.pkl").advice("pass a file written by torch.save")
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
    locate(describe_all(&pickle)?, |description| {
        let storage = entries.get(&format!("{folder}data/{}", description.key));
        storage.cloned()
    })
}

/// Read the layout before 2020: magic, protocol, system, objects, storage keys, then each storage's length and
/// elements.
pub(super) fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, CheckpointTensor>> {
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
    // The element type of a storage is known from its tensors; storages that only the optimizer uses hold f32.
    let sizes: HashMap<&str, usize> = descriptions
        .iter()
        .map(|(_, description)| (description.key, description.kind.size()))
        .collect();
    let mut storages: HashMap<String, Range<usize>> = HashMap::new();
    let mut wanted = descriptions.len();
    for &key in keys.items(keys.root) {
        let key = keys.name(key);
        let key = key.ok_or_else(|| invalid("a storage has no key"))?;
        let length = bytes
            .get(at..at + 8)
            .ok_or_else(|| invalid("the file ends before its storages"))?;
        let numbers = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let size = sizes.get(key).copied().unwrap_or(4) as u64;
        let start = at + 8;
        let end = numbers
            .checked_mul(size)
            .and_then(|length| length.checked_add(start as u64))
            .filter(|&end| end <= bytes.len() as u64);
        at = end.ok_or_else(|| invalid(format!("storage {key} exceeds the file")))? as usize;
        wanted -= usize::from(sizes.contains_key(key)).min(wanted);
        storages.insert(key.to_string(), start..at);
        if wanted == 0 {
            break;
        }
    }
    locate(descriptions, |description| {
        let whole = description.numbers.saturating_mul(description.kind.size());
        let storage = storages.get(description.key);
        storage.filter(|storage| storage.len() >= whole).cloned()
    })
}

/// Find each described tensor in its storage, whose byte range `storage` returns.
fn locate(
    descriptions: Vec<(&str, Description<'_>)>,
    storage: impl Fn(&Description<'_>) -> Option<Range<usize>>,
) -> Result<BTreeMap<String, CheckpointTensor>> {
    descriptions
        .into_iter()
        .map(|(name, description)| {
            let missing = || {
                invalid(format!(
                    "storage {} is missing or cut short",
                    description.key
                ))
            };
            let found = storage(&description).ok_or_else(missing).and_then(|range| {
                let Description {
                    kind,
                    shape,
                    offset,
                    ..
                } = description;
                tensor(kind, shape, offset, &range)
            });
            match found {
                Ok(tensor) => Ok((name.to_string(), tensor)),
                Err(error) => Err(error.at(format!("tensor {name}"))),
            }
        })
        .collect()
}
