//! The files of a folder that hold its weights: one safetensors file, or shards that an index lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::kernel::block_format::Format;
use crate::kernel::bytes::Bytes;
use crate::kernel::stored::Stored;
use crate::text::download;
use crate::transformer::Weights;
use crate::transformer::weights::StoredTensor;
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
    ("", ".gguf", "pass the GGUF file itself"),
    ("", ".bin", CONVERT),
    ("", ".pt", CONVERT),
    ("", ".pth", CONVERT),
    ("", ".h5", CONVERT),
    ("", ".msgpack", CONVERT),
    ("", ".onnx", "use the model's safetensors files"),
];

/// Open all weights; they stay in memory as the files store them.
///
/// # Errors
/// [`ErrorKind::Io`] naming a missing file or shard; [`ErrorKind::Format`] naming a damaged tensor or file.
pub(super) fn open_weights(folder: &Path) -> Result<Weights> {
    let (files, shards) = files(folder)?;
    let (mut tensors, mut unread) = (BTreeMap::new(), BTreeMap::new());
    for file in files {
        let in_file = |error: Error| error.at(file.display());
        let bytes = read(&file)?;
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
            match viewed(&bytes, &view).map_err(|error| in_file(error.at(&name)))? {
                Some(tensor) => _ = tensors.insert(name, tensor),
                None => _ = unread.insert(name, format!("{:?}", view.dtype())),
            }
        }
    }
    Ok(Weights::of_stored(tensors).with_unread(unread))
}

/// Read a file of weights into memory, so that later changes of it have no effect.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Resource`] when it does not fit.
pub(super) fn read(path: &Path) -> Result<Bytes> {
    let (file, length) = crate::model::open_file(path)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Bytes::read(file, length).map_err(|error| error.at(path.display()))
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

/// View a tensor of a file; `None` for types other than floats of at least 16 bits, such as masks.
fn viewed(file: &Bytes, view: &TensorView<'_>) -> Result<Option<StoredTensor>> {
    let shape = view.shape().to_vec();
    // Rows run along the last dimension.
    let columns = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().rev().skip(1).product();
    let data = view.data();
    // The view lies within the file: its offset is the distance of the addresses.
    let start = (data.as_ptr() as usize).saturating_sub(file.as_ptr() as usize);
    let (format, bytes) = match view.dtype() {
        Dtype::F32 => (Format::F32, file.slice(start..start + data.len())?),
        Dtype::F16 => (Format::F16, file.slice(start..start + data.len())?),
        Dtype::BF16 => (Format::Bf16, file.slice(start..start + data.len())?),
        Dtype::F64 => {
            let values = data.chunks_exact(8);
            let values = values.map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes")));
            let values: Vec<f32> = values.map(|value| value as f32).collect();
            (Format::F32, Bytes::copy_of(&values))
        }
        _ => return Ok(None),
    };
    let matrix = Stored::new(format, rows, columns, bytes)?;
    Ok(Some(StoredTensor { shape, matrix }))
}
