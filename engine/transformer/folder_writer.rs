//! Writes a converted model as a folder in Hugging Face's layout: the weights as a stream, the settings, the tokenizer.

use std::io::Write;
use std::path::Path;

use brillm_file::OutputFile;
use serde_json::{Map, Value, json};

use crate::kernel::block_format::Format;
use crate::text::{OWN_TOKENIZER, Tokenizer};
use crate::transformer::chat_template;
use crate::transformer::conversion::{Conversion, ConversionProgress, Converted, ends};
use crate::transformer::folder::RECORD;
use crate::transformer::gguf_model::is_gguf;
use crate::transformer::gguf_writer::{Change, OutputTensor};
use crate::transformer::weight_files::WHOLE;
use crate::transformer::weights::StoredTensor;
use crate::transformer::{Configuration, Transformer, Weights};
use crate::{Error, ErrorKind, Result};

/// Files of a folder that are copied as they are.
const COPIED: [&str; 6] = [
    chat_template::SETTINGS,
    chat_template::FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    RECORD,
];
/// Endings of the names of files; a folder with one of them would be a mistake.
const ENDINGS: [&str; 4] = ["bril", "safetensors", "bin", "json"];

/// Check that a folder can be written.
///
/// # Errors
/// [`ErrorKind::Input`] for a folder that has files, or a name that is that of a file; [`ErrorKind::Unsupported`] for
/// weights in blocks; [`ErrorKind::Io`].
pub(super) fn check(folder: &Path, element: Option<Format>) -> Result<()> {
    let invalid = |what: &str, advice: &str| {
        let error = Error::new(ErrorKind::Input, what);
        Err(error.at(folder.display()).advice(advice))
    };
    let ending = folder.extension().and_then(|ending| ending.to_str());
    if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
        return invalid(
            "the model is written as a GGUF file or a folder",
            "let the name end in .gguf, or leave the ending out",
        );
    }
    if let Some(element) = element.filter(|element| !element.is_float()) {
        return Err(blocks(element.name()).at(folder.display()));
    }
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => invalid(
            "the folder is not empty",
            "name a new folder, so that no file of another model stays in it",
        ),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(error, folder.display()))
        }
        _ => Ok(()),
    }
}

/// Describe weights that safetensors cannot hold.
fn blocks(format: &str) -> Error {
    let what = format!("a folder cannot hold weights of {format}");
    Error::new(ErrorKind::Unsupported, what)
        .advice("pass --element f32, f16 or bf16, or write a .gguf file")
}

/// Write a model. `special` are the ids of special tokens by Hugging Face's keys.
///
/// # Errors
/// As [`Conversion::run`].
pub(super) fn write(
    conversion: &Conversion,
    source: &Path,
    folder: &Path,
    model: &Transformer,
    special: &[(&'static str, u32)],
    progress: &mut ConversionProgress<'_>,
) -> Result<Converted> {
    let tensors = tensors(conversion, model.weights())?;
    let tokenizer = tokenizer_file(model, special)?;
    let existed = folder.exists();
    std::fs::create_dir_all(folder).map_err(|error| Error::io(error, folder.display()))?;
    let bytes = write_weights(&folder.join(WHOLE), &tensors, progress).inspect_err(|_| {
        // Nothing was written: neither does an empty folder stay. One that another process uses cannot be removed.
        if !existed {
            drop(std::fs::remove_dir(folder));
        }
    })?;
    let put = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        brillm_file::write(&path, text).map_err(Error::io_at(&path))
    };
    put(tokenizer.0, &tokenizer.1)?;
    if is_gguf(source) {
        let named = special.iter().filter_map(|(key, id)| {
            let token = model.tokenizer().vocabulary().token(*id)?;
            Some((key.to_string(), token.into()))
        });
        let mut settings: Map<String, Value> = named.collect();
        settings.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        put(chat_template::SETTINGS, &text(&settings.into())?)?;
        if let Some(template) = model.chat_template() {
            put(chat_template::FILE, template.source().as_bytes())?;
        }
    } else {
        for name in COPIED {
            let (from, to) = (source.join(name), folder.join(name));
            if from.symlink_metadata().is_ok() {
                brillm_file::copy(&from, &to).map_err(Error::io_at(&to))?;
            }
        }
    }
    // A GGUF file states its name in its metadata.
    let stated = (is_gguf(source) && model.record().is_object()).then(|| model.name());
    if let Some(name) = conversion.name.as_deref().or(stated) {
        let mut record = model.record_object();
        record["name"] = name.into();
        put(RECORD, &text(&record)?)?;
    }
    // config.json last: an interrupted write leaves a folder that is not opened as a model.
    put(
        "config.json",
        &text(&settings(source, model, most(&tensors)))?,
    )?;
    Ok(Converted {
        tensors: tensors.len(),
        bytes,
        half: Vec::new(),
        left_out: Vec::new(),
        tokenizer_json: false,
    })
}

/// Return the format of most weights.
fn most(tensors: &[OutputTensor]) -> Format {
    let count = |format: Format| -> usize {
        let alike = tensors.iter().filter(|tensor| tensor.format == format);
        alike
            .map(|tensor| tensor.source.shape.iter().product::<usize>())
            .sum()
    };
    let formats = [Format::F32, Format::F16, Format::Bf16];
    formats
        .into_iter()
        .rev()
        .max_by_key(|&format| count(format))
        .unwrap_or(Format::F32)
}

/// List the tensors with their formats, the wider ones first, so that all are aligned.
fn tensors(conversion: &Conversion, weights: &Weights) -> Result<Vec<OutputTensor>> {
    let tensor = |(name, shape, matrix): (&str, &[usize], &crate::kernel::stored::Stored)| {
        let format = conversion.element.unwrap_or(matrix.format());
        if !format.is_float() {
            return Err(blocks(format.name()).at(name));
        }
        Ok(OutputTensor {
            name: name.into(),
            source: StoredTensor {
                shape: shape.to_vec(),
                matrix: matrix.clone(),
            },
            change: Change::None,
            format,
        })
    };
    let mut tensors: Vec<OutputTensor> = weights.stored().map(tensor).collect::<Result<_>>()?;
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.format.block().1));
    Ok(tensors)
}

/// Write a safetensors file: the length of the header, the header, the tensors. Returns its bytes.
fn write_weights(
    path: &Path,
    tensors: &[OutputTensor],
    progress: &mut ConversionProgress<'_>,
) -> Result<u64> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.length()?;
        let entry = json!({"dtype": tensor.format.name(), "shape": tensor.shape(),
            "data_offsets": [offset, end]});
        header.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(unwritten)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let total = (8 + header.len() + offset) as u64;
    let failed = Error::io_at(path);
    let mut file = OutputFile::create(path).map_err(&failed)?;
    let mut bytes = 0;
    let mut put = |part: &[u8]| {
        file.write_all(part).map_err(&failed)?;
        bytes += part.len() as u64;
        progress(bytes, total)
    };
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for tensor in tensors {
        tensor.write(&mut put)?;
    }
    file.finish().map_err(failed)?;
    Ok(total)
}

/// Return the name and the content of the tokenizer's file: a `tokenizer.json` where it has this form.
fn tokenizer_file(
    model: &Transformer,
    special: &[(&'static str, u32)],
) -> Result<(&'static str, Vec<u8>)> {
    let tokenizer: &Tokenizer = model.tokenizer();
    let rows = model.configuration().vocabulary;
    let pieces = || {
        // Pieces with scores have the form of byte pairs that merge in the order of scores.
        let vocabulary = tokenizer.to_gguf(rows, special).ok()?;
        Tokenizer::of_gguf(&vocabulary, rows).ok()?.to_json()
    };
    Ok(match tokenizer.to_json().or_else(pieces) {
        Some(json) => ("tokenizer.json", json.into_bytes()),
        None => (OWN_TOKENIZER, tokenizer.to_bytes()),
    })
}

/// Return the content of `config.json`.
fn settings(source: &Path, model: &Transformer, format: Format) -> Value {
    let shape = model.configuration();
    let mut json = shape.json.clone();
    let dtype = match format {
        Format::F16 => "float16",
        Format::Bf16 => "bfloat16",
        _ => "float32",
    };
    let key = if json.get("dtype").is_some() {
        "dtype"
    } else {
        "torch_dtype"
    };
    json[key] = dtype.into();
    let ends = ends(model);
    if !ends.is_empty() {
        json["eos_token_id"] = match ends[..] {
            [one] => one.into(),
            _ => ends.into(),
        };
    }
    if is_gguf(source) {
        complete(&mut json, shape, model.weights());
    }
    json
}

/// Add what Hugging Face needs and the metadata of a GGUF file do not say.
fn complete(json: &mut Value, shape: &Configuration, weights: &Weights) {
    let family = shape.family();
    json["architectures"] = json!([format!("{}{}", family.class, family.task)]);
    let has = |name: &str| weights.has(&format!("model.layers.0.{name}.bias"));
    for (key, name) in [
        ("attention_bias", "self_attn.q_proj"),
        ("mlp_bias", "mlp.up_proj"),
    ] {
        if has(name) {
            json[key] = true.into();
        }
    }
    if let Some(Value::Object(scaling)) = json.get_mut("rope_scaling") {
        scaling.retain(|_, value| !value.is_null());
    }
    // GGUF files have an f32: the shortest decimal that is read as the same one.
    if let Ok(epsilon) = shape.norm_epsilon.to_string().parse::<f64>() {
        json[family.keys.norm_epsilon.0] = epsilon.into();
    }
}

fn text(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(unwritten)
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Numeric, "JSON serialisation failed").because(error)
}
