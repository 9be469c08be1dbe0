//! `brillm import`: convert a BriLLM checkpoint to a `.bril` model.

use std::path::PathBuf;

use clap::Args;

use crate::Result;

/// Convert a checkpoint of the BriLLM authors to a .bril model of the reference profile.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  brillm import --weights model_0.bin --vocabulary vocab.json --frequency word_frequency.json \\
      --out model.bril")]
pub(super) struct Arguments {
    /// Weights: a PyTorch state dict or checkpoint (zip or legacy format), or safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Vocabulary: JSON {token: id}, or a tokenizer.json.
    #[arg(long, alias = "vocab", value_name = "FILE")]
    vocabulary: PathBuf,
    /// Edge counts: JSON {source: {target: count}} [default: every edge has its own matrix].
    #[arg(long, value_name = "FILE")]
    frequency: Option<PathBuf>,
    /// Model to write: a .bril file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    #[cfg(feature = "import")]
    pub(super) fn run(self) -> Result<()> {
        crate::model::import::import(
            &self.weights,
            &self.vocabulary,
            self.frequency.as_deref(),
            &self.out,
        )?;
        let model = super::open_model(Some(&self.out))?;
        super::say(format!(
            "{}: {} nodes, {} own edges, signal width {}",
            self.out.display(),
            model.mechanism().nodes(),
            model.mechanism().graph().own_edges(),
            model.metadata().profile.width
        ))
    }

    #[cfg(not(feature = "import"))]
    pub(super) fn run(self) -> Result<()> {
        Err(crate::Error::new(
            crate::ErrorKind::Unsupported,
            "this build cannot import checkpoints",
        )
        .advice("build it with `cargo build --features import`"))
    }
}
