//! `brillm plot`: training curves as SVG.

use std::path::PathBuf;

use clap::Args;

use crate::Result;

/// Plot the training loss and validation perplexity of training runs as SVG.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  brillm plot runs/small runs/large --out curves.svg")]
pub(super) struct Arguments {
    /// Folders of training runs.
    #[arg(required = true, value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// SVG file to write [default: plot.svg in the first folder].
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
