//! `brillm quantize`: the same model in fewer bytes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::Result;
use crate::kernel::element::Element;

/// Writes a model with its node and edge tables as f32, f16 or int8 with a scale per row.
#[derive(Args)]
pub(super) struct Arguments {
    /// The model to read.
    model: PathBuf,
    /// What a number is stored as.
    #[arg(long, value_enum)]
    element: Storage,
    /// The model to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Gives the model another name.
    #[arg(long)]
    name: Option<String>,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

/// Element types that weights can be stored in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Storage {
    F32,
    F16,
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
        let model = super::open_model(Some(&self.model))?.quantized(self.element.into())?;
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
            "{}: {after} bytes, was {before}",
            self.out.display()
        ))
    }
}
