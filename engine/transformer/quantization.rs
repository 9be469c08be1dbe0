//! Recognises quantised models. Their weights are not read: an error names the quantisation.

use std::path::Path;

use serde_json::Value;

use crate::text::download;
use crate::transformer::settings::Settings;
use crate::{Error, ErrorKind, Result};

/// Keys of `config.json` that describe a quantisation (the last one is of MLX).
const KEYS: [&str; 3] = ["quantization_config", "compression_config", "quantization"];
/// Files that describe one, written by older tools.
const FILES: [&str; 3] = [
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
];
/// Names that take the place of `weight`, or accompany it, in a quantised layer.
const PARTS: [&str; 8] = [
    "qweight",
    "qzeros",
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "scales",
    "SCB",
    "codes",
];
/// What is supported instead.
pub(super) const ADVICE: &str = "supported are weights of f32, f16, bf16 and f64 in safetensors: use the model that was quantised";

/// Check that a `config.json` describes no quantisation.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming the method and its bits.
pub(super) fn check(settings: &Settings<'_>) -> Result<()> {
    for key in KEYS {
        if let Some(value) = settings.present(key) {
            return Err(unsupported(key, value));
        }
    }
    Ok(())
}

/// Check that no other file of the folder describes a quantisation.
///
/// # Errors
/// As [`check`], naming the file; [`ErrorKind::Io`] for a file that cannot be read, as a pipe.
pub(super) fn check_files(folder: &Path) -> Result<()> {
    for name in FILES {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            let text = download::read_text(&path)?;
            let value = serde_json::from_str(&text).unwrap_or(Value::Null);
            return Err(unsupported(name, &value).at(folder.display()));
        }
    }
    Ok(())
}

/// Find the tensor that a quantised layer has in the place of `weight`.
pub(super) fn part_of<'a>(
    weight: &str,
    mut names: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let layer = weight.strip_suffix("weight")?;
    names.find(|name| {
        let part = name.strip_prefix(layer);
        part.is_some_and(|part| PARTS.contains(&part))
    })
}

fn unsupported(place: &str, value: &Value) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "{place}: the weights are quantised ({})",
            describe(place, value)
        ),
    )
    .advice(ADVICE)
}

/// Describe a quantisation by its method and bits: `gptq, 4 bits`.
fn describe(place: &str, value: &Value) -> String {
    // The settings of some methods are nested.
    let value = value.get("quantization").unwrap_or(value);
    let is = |key: &str| value[key] == true;
    let text = |key: &str| value[key].as_str();
    let method = ["quant_method", "quant_algo", "quant_type"]
        .into_iter()
        .find_map(text);
    let by_keys = if is("load_in_8bit") || is("load_in_4bit") {
        "bitsandbytes"
    } else if value.get("w_bit").is_some() {
        "awq"
    } else if value.get("desc_act").is_some() {
        "gptq"
    } else if place == "quantization" {
        "mlx"
    } else {
        "an unnamed method"
    };
    let method = method.unwrap_or(by_keys);
    // compressed-tensors: {"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}}.
    let groups = value["config_groups"].as_object();
    let group = groups.and_then(|groups| Some(&groups.values().next()?["weights"]));
    let bits = ["bits", "w_bit", "num_bits", "nbits"]
        .into_iter()
        .find_map(|key| value[key].as_u64().or_else(|| group?[key].as_u64()));
    match bits {
        Some(bits) => format!("{method}, {bits} bits"),
        None if is("load_in_8bit") => format!("{method}, 8 bits"),
        None if is("load_in_4bit") => format!("{method}, 4 bits"),
        None => method.to_string(),
    }
}
