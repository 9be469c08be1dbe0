//! `brillm man`: manual pages.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::{Error, ErrorKind, Result};

/// Print a manual page, or write those of all commands.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm man | man -l -
  brillm man plugin build | man -l -
  brillm man --out ~/.local/share/man/man1")]
pub(super) struct Arguments {
    /// Command whose page to print, for example `plugin build` [default: the page of brillm].
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let mut program = super::Arguments::command().disable_help_subcommand(true);
        // Gives every command its full name.
        program.build();
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder).map_err(Error::io_at(folder))?;
            return write_all(&program, folder);
        }
        let mut found = &program;
        for name in &self.command {
            found = found.find_subcommand(name).ok_or_else(|| {
                let what = format!("no command is named {:?}", self.command.join(" "));
                Error::new(ErrorKind::Input, what).advice("brillm --help lists the commands")
            })?;
        }
        super::stream(&String::from_utf8_lossy(&page(found)?))
    }
}

/// Render the page of a command.
fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .manual("brillm")
        .render(&mut page)
        .map_err(|error| Error::io(error, command.get_name()))?;
    Ok(page)
}

/// Write the pages of a command and of those below it.
fn write_all(command: &clap::Command, folder: &Path) -> Result<()> {
    let file = folder.join(Man::new(command.clone()).get_filename());
    brillm_file::write(&file, page(command)?).map_err(Error::io_at(&file))?;
    let below = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set());
    for below in below {
        write_all(below, folder)?;
    }
    Ok(())
}
