//! Folders in Hugging Face's layout: `config.json`, safetensors in one file or shards, a tokenizer.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value};

use crate::text::{OWN_TOKENIZER, Tokenizer, download};
use crate::transformer::gguf_model::{GgufModel, is_gguf};
use crate::transformer::settings::Settings;
use crate::transformer::variables::Weight;
use crate::transformer::weight_files::{self, WHOLE};
use crate::transformer::{Configuration, Weights, quantization};
use crate::{Error, ErrorKind, Result};

/// Record of how the model was made.
pub(super) const RECORD: &str = "brillm.json";

/// Open all weights of a folder or GGUF file; they stay in memory as the files store them.
///
/// # Errors
/// As [`read_weights`].
pub(super) fn open_weights(path: &Path) -> Result<Weights> {
    if is_gguf(path) {
        return Ok(GgufModel::open(path)?.weights);
    }
    weight_files::open_weights(path)
}

/// Read all weights of a folder or GGUF file as f32.
///
/// # Errors
/// [`ErrorKind::Io`] naming a missing file or shard; [`ErrorKind::Format`] naming a damaged tensor or file.
pub fn read_weights(path: &Path) -> Result<Weights> {
    open_weights(path)?.into_tensors()
}

/// Read `config.json`, and the ids that end a text from `generation_config.json`.
///
/// # Errors
/// [`ErrorKind::Io`], and as [`Configuration::parse`].
pub fn read_configuration(folder: &Path) -> Result<Configuration> {
    if is_gguf(folder) {
        return Ok(GgufModel::open(folder)?.configuration);
    }
    let path = folder.join("config.json");
    let mut configuration = Configuration::parse(download::read_text(&path)?.as_bytes())
        .map_err(|error| error.at(path.display()))?;
    quantization::check_files(folder)?;
    let mut more = generation_stop_tokens(folder)?;
    more.retain(|id| !configuration.stop_tokens.contains(id));
    if !more.is_empty() {
        configuration.stop_tokens.extend(more);
        // A copy of the model is written with the ids of both files.
        configuration.json["eos_token_id"] = configuration.stop_tokens.clone().into();
    }
    Ok(configuration)
}

/// Return the ids that end a text by `generation_config.json`; none where the folder has no such file.
fn generation_stop_tokens(folder: &Path) -> Result<Vec<u32>> {
    match object(folder, "generation_config.json")? {
        Some((path, map)) => Settings(&map)
            .ids("eos_token_id")
            .map_err(|error| error.at(path.display())),
        None => Ok(Vec::new()),
    }
}

/// Read a JSON object that a folder may have.
pub(super) fn object(folder: &Path, file: &str) -> Result<Option<(PathBuf, Map<String, Value>)>> {
    let path = folder.join(file);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    match serde_json::from_str(&download::read_text(&path)?) {
        Ok(map) => Ok(Some((path, map))),
        Err(error) => {
            let what = format!("expected a JSON object: {error}");
            Err(Error::new(ErrorKind::Format, what).at(path.display()))
        }
    }
}

/// Read the folder's tokenizer; without one, tokens are written as their ids. It may have more tokens than the network:
/// only a text that needs one of them is an error.
///
/// # Errors
/// As [`Tokenizer::open_folder`].
pub fn read_tokenizer(folder: &Path, vocabulary: usize) -> Result<Tokenizer> {
    if is_gguf(folder) {
        return Ok(GgufModel::open(folder)?.tokenizer);
    }
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
    configuration: &Value,
    weights: &[Weight],
    tokenizer: &Tokenizer,
    record: &Value,
    half: bool,
) -> Result<()> {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        brillm_file::write(&path, bytes).map_err(Error::io_at(&path))
    };
    std::fs::create_dir_all(folder).map_err(|error| Error::io(error, folder.display()))?;
    let json = |value: &Value| {
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
