//! `brillm init`: write a run file with the meaning of each key.

use std::path::PathBuf;

use clap::Args;

use crate::learn::Recipe;
use crate::run::shell::quoted;
use crate::{Error, ErrorKind, Result};

/// Write a run file with the usual keys, their defaults and meanings.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm init
  brillm init story.toml --force")]
pub(super) struct Arguments {
    /// File to write.
    #[arg(value_name = "FILE.toml", default_value = "run.toml")]
    file: PathBuf,
    /// Overwrite an existing file.
    #[arg(long)]
    force: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let file = self.file.display();
        if self.file.exists() && !self.force {
            return Err(Error::new(ErrorKind::Input, "the file exists")
                .at(file)
                .advice("name another file, or overwrite it with --force"));
        }
        brillm_file::write(&self.file, Recipe::template()).map_err(Error::io_at(&self.file))?;
        super::say(format!(
            "{file}: set data.train to your text, then run: brillm train {}",
            quoted(&self.file)
        ))
    }
}
