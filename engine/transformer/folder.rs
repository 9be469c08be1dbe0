//! Folders in Hugging Face's layout: `config.json`, safetensors in one file or shards, a tokenizer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::text::{OWN_TOKENIZER, Tokenizer};
use crate::transformer::variables::Weight;
use crate::transformer::{Configuration, Weights};
use crate::{Error, ErrorKind, Result};

/// All weights in one file.
const WHOLE: &str = "model.safetensors";
/// Index of the shards that hold the tensors.
const INDEX: &str = "model.safetensors.index.json";
/// Record of how the model was made.
pub(super) const RECORD: &str = "brillm.json";

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    // Refuses pipes, which wait for a writer, and devices, which have no end.
    crate::model::open_file(path)?;
    crate::text::read_text(path).map(String::into_bytes)
}

/// Read `config.json`.
///
/// # Errors
/// [`ErrorKind::Io`], and as [`Configuration::parse`].
pub fn read_configuration(folder: &Path) -> Result<Configuration> {
    let path = folder.join("config.json");
    Configuration::parse(&read(&path)?).map_err(|error| error.at(path.display()))
}

/// Read all weights as f32.
///
/// # Errors
/// [`ErrorKind::Io`] naming a missing file or shard; [`ErrorKind::Format`] naming a damaged tensor or file.
pub fn read_weights(folder: &Path) -> Result<Weights> {
    let mut tensors = Vec::new();
    for file in files(folder)? {
        let in_file = |error: Error| error.at(file.display());
        let bytes = crate::model::read_or_map(&file)?;
        let stored = SafeTensors::deserialize(&bytes).map_err(|error| {
            in_file(
                Error::new(
                    ErrorKind::Format,
                    format!("invalid safetensors file: {error}"),
                )
                .advice("check that the file is complete"),
            )
        })?;
        for (name, view) in stored.tensors() {
            if let Some(values) = numbers(view.dtype(), view.data()) {
                let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)
                    .map_err(|error| in_file(Error::from(error).at(&name)))?;
                tensors.push((name, tensor));
            }
        }
    }
    Weights::new(tensors)
}

/// List the files that hold weights.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let whole = folder.join(WHOLE);
    if whole.exists() {
        return Ok(vec![whole]);
    }
    let index = folder.join(INDEX);
    if !index.exists() {
        return Err(Error::new(
            ErrorKind::Io,
            format!("the folder has neither {WHOLE} nor {INDEX}"),
        )
        .at(folder.display())
        .advice("convert weights in other formats to safetensors"));
    }
    let in_index = |error: Error| error.at(index.display());
    let json: serde_json::Value = serde_json::from_slice(&read(&index)?).map_err(|error| {
        in_index(Error::new(
            ErrorKind::Format,
            format!("invalid JSON: {error}"),
        ))
    })?;
    let map = json["weight_map"]
        .as_object()
        .filter(|map| !map.is_empty())
        .ok_or_else(|| {
            in_index(Error::new(
                ErrorKind::Format,
                "weight_map: expected an object with entries",
            ))
        })?;
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        // Shards are in the folder of the index: a path to elsewhere must not be read.
        match shard.as_str().map(Path::new) {
            Some(name) if name.components().count() == 1 && name.file_name().is_some() => {
                shards.insert(folder.join(name));
            }
            _ => {
                return Err(in_index(
                    Error::new(ErrorKind::Format, format!("invalid shard name {shard}")).at(tensor),
                ));
            }
        }
    }
    Ok(shards.into_iter().collect())
}

/// Convert the numbers of a tensor to f32; `None` for types other than floats, such as masks.
fn numbers(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let two = |convert: fn(u16) -> f32| {
        bytes
            .chunks_exact(2)
            .map(|pair| convert(u16::from_le_bytes([pair[0], pair[1]])))
            .collect()
    };
    match dtype {
        Dtype::F32 => Some(
            bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
        ),
        Dtype::F16 => Some(two(|bits| half::f16::from_bits(bits).to_f32())),
        Dtype::BF16 => Some(two(|bits| half::bf16::from_bits(bits).to_f32())),
        Dtype::F64 => Some(
            bytes
                .chunks_exact(8)
                .map(|eight| f64::from_le_bytes(eight.try_into().expect("eight bytes")) as f32)
                .collect(),
        ),
        _ => None,
    }
}

/// Read the folder's tokenizer; without one, tokens are written as their ids. It may have more tokens than the network:
/// only a text that needs one of them is an error.
///
/// # Errors
/// As [`Tokenizer::open_folder`].
pub fn read_tokenizer(folder: &Path, vocabulary: usize) -> Result<Tokenizer> {
    match Tokenizer::open_folder(folder)? {
        Some(tokenizer) => Ok(tokenizer.with_rows(vocabulary)),
        None => Tokenizer::without_text(folder, vocabulary),
    }
}

/// Write a folder for [`super::Transformer::open`]. Every file is complete before it gets its final name.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Resource`].
pub(super) fn write(
    folder: &Path,
    configuration: &serde_json::Value,
    weights: &[Weight],
    tokenizer: &Tokenizer,
    record: &serde_json::Value,
    half: bool,
) -> Result<()> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        brillm_file::write(&path, bytes).map_err(Error::io_at(&path))
    };
    std::fs::create_dir_all(folder).map_err(|error| Error::io(error, folder.display()))?;
    let json = |value: &serde_json::Value| {
        serde_json::to_vec_pretty(value).map_err(|error| {
            Error::new(ErrorKind::Numeric, "JSON serialisation failed").because(error)
        })
    };
    // safetensors wants the bytes of each tensor, little-endian.
    let stored: Vec<Vec<u8>> = weights
        .iter()
        .map(|weight| {
            let values = weight.values.iter();
            if half {
                let halves = values.map(|&value| half::f16::from_f32(value));
                halves.flat_map(half::f16::to_le_bytes).collect()
            } else {
                values.flat_map(|value| value.to_le_bytes()).collect()
            }
        })
        .collect();
    let dtype = if half { Dtype::F16 } else { Dtype::F32 };
    let views = weights
        .iter()
        .zip(&stored)
        .map(|(weight, bytes)| {
            safetensors::tensor::TensorView::new(dtype, weight.shape.clone(), bytes)
                .map(|view| (weight.name.as_str(), view))
                .map_err(|error| {
                    Error::new(ErrorKind::Format, format!("serialisation failed: {error}"))
                        .at(&weight.name)
                })
        })
        .collect::<Result<Vec<_>>>()?;
    let format = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(format))
        .map_err(|error| Error::new(ErrorKind::Format, format!("serialisation failed: {error}")))?;
    // config.json last: an interrupted write leaves a folder that is not opened as a model.
    write(WHOLE, &bytes)?;
    match tokenizer.to_json() {
        Some(json) => write("tokenizer.json", json.as_bytes())?,
        None => write(OWN_TOKENIZER, &tokenizer.to_bytes())?,
    }
    write(RECORD, &json(record)?)?;
    write("config.json", &json(configuration)?)
}
