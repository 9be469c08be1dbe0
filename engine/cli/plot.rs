//! `brillm plot`: the curves of runs as an SVG.

use std::path::PathBuf;

use clap::Args;

use crate::Result;

/// Draws training loss and validation perplexity of one or more runs.
#[derive(Args)]
pub(super) struct Arguments {
    /// Run folders.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The picture; plot.svg in the first run folder by default.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let out = self.out.unwrap_or_else(|| self.runs[0].join("plot.svg"));
        crate::learn::plot::write(&self.runs, &out)?;
        super::say(out.display())
    }
}
