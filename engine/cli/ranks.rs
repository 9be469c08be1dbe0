//! The ranks of a command: started by `mpirun` or `srun`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;

use crate::kernel::simd::Level;
use crate::ranks::{Launcher, Ranks};
use crate::{Error, ErrorKind, Result};

/// Options of commands that run over ranks.
#[derive(Args)]
#[command(next_help_heading = "Ranks")]
pub(super) struct RankArguments {
    /// Number of ranks that mpirun or srun has started; another number is an error. Needs a build with the feature mpi.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: Option<u16>,
    /// Seconds after which the job ends when its ranks wait for one of them.
    #[arg(long, value_name = "SECONDS", default_value_t = crate::ranks::TIMEOUT.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    exchange_timeout: u64,
}

static RANKS: OnceLock<Arc<dyn Ranks>> = OnceLock::new();

impl RankArguments {
    /// Join the ranks of the job.
    ///
    /// # Errors
    /// As [`crate::ranks::start`].
    pub(super) fn start(&self) -> Result<Arc<dyn Ranks>> {
        let timeout = Duration::from_secs(self.exchange_timeout);
        let ranks = crate::ranks::start(self.ranks.map(usize::from), timeout)?;
        Ok(Arc::clone(RANKS.get_or_init(|| ranks)))
    }

    /// Check that all ranks have the same program and command line.
    ///
    /// # Errors
    /// As [`crate::ranks::agree`].
    pub(super) fn agree(ranks: &dyn Ranks) -> Result<()> {
        let arguments: Vec<_> = std::env::args_os().collect();
        let arguments = arguments.iter().map(|one| one.to_string_lossy());
        let properties = [
            ("the version", env!("CARGO_PKG_VERSION").into()),
            ("the command line", arguments.collect::<Vec<_>>().join(" ")),
            // Other instructions round differently.
            ("the SIMD level", Level::current().name().into()),
        ];
        crate::ranks::agree(ranks, &properties)
    }

    /// Whether the user or a launcher has chosen ranks, of any number.
    pub(super) fn are_given(&self) -> bool {
        self.ranks.is_some() || cfg!(feature = "mpi") && Launcher::detect().is_some()
    }
}

/// Refuse a command that does not divide its work, where a launcher has started several processes.
///
/// # Errors
/// [`ErrorKind::Configuration`].
pub(super) fn refuse_launcher() -> Result<()> {
    match Launcher::detect().filter(|launcher| launcher.tasks > 1) {
        Some(launcher) => {
            let advice =
                "start it without a launcher; `brillm train`, `eval` and `generate` run over ranks";
            Err(launcher.refused("this command runs in one process", advice))
        }
        None => Ok(()),
    }
}

/// End the job when one of several ranks has failed, after `error` was printed where it is the only one.
pub(super) fn fail(error: &Error, code: u8) {
    let Some(ranks) = RANKS.get().filter(|ranks| ranks.size() > 1) else {
        // Processes of a launcher that are not ranks all meet the same error.
        if Launcher::detect().is_none_or(|launcher| launcher.task == 0) {
            super::say_error(format_args!("brillm: {error}"));
        }
        return;
    };
    if ranks.rank() > 0 {
        // Rank 0 meets most errors too, and ends the job when it has printed its own.
        std::thread::sleep(Duration::from_secs(3));
    }
    if error.kind() != ErrorKind::Cancelled {
        let (rank, size) = (ranks.rank(), ranks.size());
        super::say_error(format_args!("brillm: rank {rank} of {size}: {error}"));
    }
    ranks.abort(code)
}

/// End the job where there are several ranks, without a message.
pub(super) fn end(code: u8) {
    if let Some(ranks) = RANKS.get().filter(|ranks| ranks.size() > 1) {
        ranks.abort(code)
    }
}

/// Leave the ranks after a command.
///
/// # Errors
/// Those of an exchange.
pub(super) fn finish() -> Result<()> {
    RANKS.get().map_or(Ok(()), |ranks| ranks.finish())
}
