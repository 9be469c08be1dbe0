//! `brillm convert`: write a transformer as a GGUF file or a folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::json;

use super::quantize::Storage;
use crate::transformer::{Conversion, Converted};
use crate::{Error, ErrorKind, Result};

/// Convert a transformer between a folder in Hugging Face's layout and a GGUF file.
///
/// A folder gets config.json, model.safetensors and tokenizer.json; it cannot hold q8_0 and q4_0. A GGUF file gets the
/// architectures llama, qwen2, qwen3, gpt2, gemma, gemma2 and gemma3. What a file cannot hold is refused. A tokenizer that GGUF has no name
/// for is stored as its tokenizer.json too, which not every program reads.
///
/// Norms and biases stay f32 in a GGUF file. Matrices whose rows are not whole blocks of 32 become f16; with q4_0 the
/// output matrix is q8_0.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm convert FOLDER model.gguf
  brillm convert FOLDER model-q8_0.gguf --element q8_0
  brillm convert model.gguf FOLDER --element bf16")]
pub(super) struct Arguments {
    /// Model to read: a folder in Hugging Face's layout or a .gguf file.
    source: PathBuf,
    /// Model to write: a file that ends in .gguf, or a new folder.
    out: PathBuf,
    /// Number format of the matrices [default: as they are stored].
    #[arg(long, value_enum, value_name = "FORMAT")]
    element: Option<Storage>,
    /// New name of the model [default: unchanged].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let conversion = Conversion {
            element: self.element.map(Storage::format).transpose()?,
            name: self.name,
        };
        convert(&conversion, &self.source, &self.out, self.json)
    }
}

/// Convert a model and print a report. Ctrl-C ends the conversion; nothing is then written.
pub(super) fn convert(
    conversion: &Conversion,
    source: &Path,
    out: &Path,
    json: bool,
) -> Result<()> {
    super::catch_interrupt()?;
    // The output may take the place of the source.
    let before = size(source);
    let template = "{bar:40} {bytes}/{total_bytes}, {eta} left";
    let bar = super::progress::bar(json, None, template);
    let converted = conversion.run(source, out, &mut |bytes, total| {
        if super::interrupted().load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        bar.set_length(total);
        bar.set_position(bytes);
        Ok(())
    });
    bar.finish_and_clear();
    report(&converted?, before, out, json)
}

fn report(converted: &Converted, before: u64, out: &Path, json: bool) -> Result<()> {
    let Converted {
        tensors,
        bytes,
        half,
        left_out,
        tokenizer_json,
    } = converted;
    if json {
        return super::say_json(&json!({
            "model": out.display().to_string(), "tensors": tensors, "bytes_before": before, "bytes": bytes, "f16": half,
            "left_out": left_out, "tokenizer_json": tokenizer_json,
        }));
    }
    let mut text = format!(
        "{}: {tensors} tensors, {bytes} bytes (was {before})",
        out.display()
    );
    if !half.is_empty() {
        text += &format!(
            "; {} matrices are f16: their rows are not whole blocks",
            half.len()
        );
    }
    if !left_out.is_empty() {
        text += &format!(
            "; tensors that are not used were left out: {}",
            left_out.join(", ")
        );
    }
    if *tokenizer_json {
        text += "; GGUF has no name for the tokenizer, so that other programs may split texts in another way";
    }
    super::say(text)
}

/// Return the bytes of a file, or of the weights of a folder.
fn size(path: &Path) -> u64 {
    let bytes = |path: &Path| std::fs::metadata(path).map(|file| file.len()).unwrap_or(0);
    if !path.is_dir() {
        return bytes(path);
    }
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    let weights = files.map(|entry| entry.path()).filter(|path| {
        path.extension()
            .is_some_and(|ending| ending == "safetensors")
    });
    weights.map(|path| bytes(&path)).sum()
}
