//! `brillm completions`: completion scripts for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Result;

/// Print a completion script for a shell.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm completions bash > ~/.local/share/bash-completion/completions/brillm
  brillm completions zsh > ~/.zfunc/_brillm
  brillm completions fish > ~/.config/fish/completions/brillm.fish")]
pub(super) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let mut script = Vec::new();
        let mut command = super::Arguments::command();
        clap_complete::generate(self.shell, &mut command, "brillm", &mut script);
        super::stream(&String::from_utf8_lossy(&script))
    }
}
