//! `brillm quantize`: store a model's weights in fewer bytes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::Result;
use crate::kernel::element::Element;

/// Convert the weights of a model to f32, f16 or int8 (with one scale per row).
#[derive(Args)]
#[command(after_long_help = "\
Example:
  brillm quantize model.bril --element i8 --out model-i8.bril")]
pub(super) struct Arguments {
    /// Model to read: a .bril file.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Number format of the weights; i8 is int8 with one scale per row.
    #[arg(long, value_enum, value_name = "FORMAT")]
    element: Storage,
    /// Model to write: a .bril file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// New name of the model [default: unchanged].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Element types that weights can be stored in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Storage {
    F32,
    F16,
    #[value(alias = "int8")]
    I8,
}

impl From<Storage> for Element {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32,
            Storage::F16 => Self::F16,
            Storage::I8 => Self::I8,
        }
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let model = super::open_whole(&self.model)?
            .graph()?
            .quantized(self.element.into())?;
        let name = self.name.clone();
        model
            .described(|metadata| metadata.name = name.unwrap_or(metadata.name.clone()))
            .save(&self.out)?;
        let size = |path: &PathBuf| std::fs::metadata(path).map(|meta| meta.len()).unwrap_or(0);
        let (before, after) = (size(&self.model), size(&self.out));
        if self.json {
            return super::say_json(&serde_json::json!({
                "model": self.out, "bytes_before": before, "bytes": after,
            }));
        }
        super::say(format!(
            "{}: {after} bytes (was {before})",
            self.out.display()
        ))
    }
}
