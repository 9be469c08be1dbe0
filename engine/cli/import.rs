//! `brillm import`: the authors' checkpoints become `.bril` models.

use std::path::PathBuf;

use clap::Args;

use crate::Result;

/// Reads a checkpoint of the authors and writes a model of the reference profile.
#[derive(Args)]
pub(super) struct Arguments {
    /// Weights: PyTorch (zip or legacy, state dict or training checkpoint) or safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Their vocabulary {token: id}, or a tokenizer.json.
    #[arg(long, value_name = "FILE")]
    vocab: PathBuf,
    /// Their word frequencies {source: {target: count}}; without, every edge has its own matrix.
    #[arg(long, value_name = "FILE")]
    frequency: Option<PathBuf>,
    /// The model to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    #[cfg(feature = "import")]
    pub(super) fn run(self) -> Result<()> {
        crate::model::import::import(
            &self.weights,
            &self.vocab,
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
        .advice("build it with --features import"))
    }
}
