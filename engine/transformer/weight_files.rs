//! The files of a folder that hold its weights: one safetensors file, or shards that an index lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::text::download;
use crate::transformer::Weights;
use crate::{Error, ErrorKind, Result};

/// All weights in one file.
pub(super) const WHOLE: &str = "model.safetensors";
/// Index of the shards that hold the tensors.
const INDEX: &str = "model.safetensors.index.json";

const CONVERT: &str = "convert it with the Python package transformers: \
    AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER, safe_serialization=True)";
/// Part and ending of the names of files with weights that are not read, and what to do.
const OTHERS: [(&str, &str, &str); 11] = [
    (
        "adapter_model",
        "",
        "merge the adapter into its base model first (Python package peft: merge_and_unload, save_pretrained)",
    ),
    (
        "",
        ".safetensors.index.json",
        "rename the index to model.safetensors.index.json",
    ),
    (
        "-of-",
        ".safetensors",
        "download the index model.safetensors.index.json of the shards as well",
    ),
    (
        "",
        ".safetensors",
        "name the file model.safetensors if it holds all weights",
    ),
    (
        "",
        ".gguf",
        "GGUF is not supported: use the folder with safetensors that the file was made from",
    ),
    ("", ".bin", CONVERT),
    ("", ".pt", CONVERT),
    ("", ".pth", CONVERT),
    ("", ".h5", CONVERT),
    ("", ".msgpack", CONVERT),
    ("", ".onnx", "use the model's safetensors files"),
];

/// Read all weights as f32.
///
/// # Errors
/// [`ErrorKind::Io`] naming a missing file or shard; [`ErrorKind::Format`] naming a damaged tensor or file.
pub fn read_weights(folder: &Path) -> Result<Weights> {
    let (files, shards) = files(folder)?;
    let (mut tensors, mut unread) = (Vec::new(), BTreeMap::new());
    for file in files {
        let in_file = |error: Error| error.at(file.display());
        let bytes = crate::model::read_or_map(&file)?;
        download::check(&bytes).map_err(in_file)?;
        let stored = SafeTensors::deserialize(&bytes).map_err(|error| {
            let what = format!("invalid safetensors file: {error}");
            in_file(
                Error::new(ErrorKind::Format, what)
                    .advice("check that the file is complete, or download it again"),
            )
        })?;
        let listed = shards.iter().filter(|(_, shard)| **shard == file);
        for (name, _) in listed {
            if stored.tensor(name).is_err() {
                let what = format!("the shard does not have the tensor {name} that {INDEX} lists");
                return Err(in_file(
                    Error::new(ErrorKind::Format, what).advice("download index and shards again"),
                ));
            }
        }
        for (name, view) in stored.tensors() {
            // A tensor may be in two shards: the index decides.
            if shards.get(&name).is_some_and(|shard| *shard != file) {
                continue;
            }
            let Some(values) = numbers(view.dtype(), view.data()) else {
                unread.insert(name, format!("{:?}", view.dtype()));
                continue;
            };
            let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)
                .map_err(|error| in_file(Error::from(error).at(&name)))?;
            tensors.push((name, tensor));
        }
    }
    Ok(Weights::new(tensors)?.with_unread(unread))
}

/// The shard of each tensor that the index lists.
type Shards = BTreeMap<String, PathBuf>;

/// List the files that hold weights, and the tensors that an index assigns to them.
fn files(folder: &Path) -> Result<(BTreeSet<PathBuf>, Shards)> {
    let (whole, index) = (folder.join(WHOLE), folder.join(INDEX));
    if whole.symlink_metadata().is_ok() {
        return Ok((BTreeSet::from([whole]), Shards::new()));
    }
    if index.symlink_metadata().is_err() {
        return Err(absent(folder));
    }
    let in_index = |error: Error| error.at(index.display());
    let invalid = |what: String| in_index(Error::new(ErrorKind::Format, what));
    let json: serde_json::Value = serde_json::from_str(&download::read_text(&index)?)
        .map_err(|error| invalid(format!("invalid JSON: {error}")))?;
    let map = json["weight_map"]
        .as_object()
        .filter(|map| !map.is_empty())
        .ok_or_else(|| invalid("weight_map: expected an object with entries".into()))?;
    let mut shards = Shards::new();
    for (tensor, shard) in map {
        // Shards are in the folder of the index: a path to elsewhere must not be read.
        match shard.as_str().map(Path::new) {
            Some(name) if name.components().count() == 1 && name.file_name().is_some() => {
                shards.insert(tensor.clone(), folder.join(name));
            }
            _ => {
                return Err(in_index(
                    Error::new(ErrorKind::Format, format!("invalid shard name {shard}"))
                        .at(tensor)
                        .advice("a shard is a file in the folder of the index"),
                ));
            }
        }
    }
    let files: BTreeSet<PathBuf> = shards.values().cloned().collect();
    let missing: Vec<_> = files
        .iter()
        .filter(|file| file.symlink_metadata().is_err())
        .map(|file| file.file_name().unwrap_or_default().to_string_lossy())
        .collect();
    if missing.is_empty() {
        return Ok((files, shards));
    }
    let (count, all, names) = (missing.len(), files.len(), missing.join(", "));
    Err(in_index(
        Error::new(
            ErrorKind::Io,
            format!("{count} of {all} shards are missing: {names}"),
        )
        .advice("download them to the folder of the index"),
    ))
}

/// Describe a folder without weights by the files with weights in other formats that it has.
fn absent(folder: &Path) -> Error {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    // Tokenizers and the record of a training run have the same endings.
    names.retain(|name| !name.starts_with("tok") && !name.ends_with("_args.bin"));
    let other = OTHERS.iter().find_map(|(part, ending, advice)| {
        let mut names = names.iter();
        let found = names.find(|name| name.contains(part) && name.ends_with(ending))?;
        Some((found, *advice))
    });
    let what = format!("the folder has neither {WHOLE} nor {INDEX}");
    let error = match other {
        Some((name, advice)) => {
            Error::new(ErrorKind::Io, format!("{what}, but {name}")).advice(advice)
        }
        None => Error::new(ErrorKind::Io, what).advice("download the model's weights as well"),
    };
    error.at(folder.display())
}

/// Convert the numbers of a tensor to f32; `None` for types other than floats of at least 16 bits, such as masks.
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
