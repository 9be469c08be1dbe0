//! `--threads`: the number of compute threads.

use std::ffi::OsString;

use crate::{Error, ErrorKind, Result};

/// Environment variables from which rayon and candle read their number of threads.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Most threads for each core: more only take memory and time.
const PER_CORE: usize = 4;

/// Set the number of threads that `--threads` or the environment requests, at most four for each core.
///
/// # Errors
/// [`ErrorKind::Resource`] if they cannot be started.
pub(super) fn choose(given: Option<usize>, command_line: &[OsString]) -> Result<()> {
    let most = PER_CORE * std::thread::available_parallelism().map_or(1, usize::from);
    let number = |name: &str| std::env::var(name).ok()?.trim().parse::<usize>().ok();
    let in_environment = || {
        VARIABLES
            .iter()
            .filter_map(|name| Some((number(name)?, *name)))
            .max()
    };
    let (name, wanted) = match given {
        Some(threads) => ("--threads", Some(threads)),
        None => in_environment().map_or(("", None), |(threads, name)| (name, Some(threads))),
    };
    match wanted {
        Some(wanted) if wanted > most => {
            // A restarted program has warned before.
            if !requested(most) {
                super::warn(&format!(
                    "{name} {wanted} is more than {PER_CORE} for each core: using {most} threads"
                ));
            }
            set(most, command_line)
        }
        Some(wanted) if given.is_some() => set(wanted, command_line),
        _ => Ok(()),
    }
}

/// Set the number of threads of the whole program; 0 for all cores.
///
/// candle's thread pool reads its size from the environment only, and a process with threads cannot change its
/// environment safely, so the program restarts itself with the variables set.
fn set(threads: usize, command_line: &[OsString]) -> Result<()> {
    #[cfg(not(all(unix, feature = "transformer")))]
    let _ = command_line;
    #[cfg(all(unix, feature = "transformer"))]
    if threads > 0 && !requested(threads) {
        use std::os::unix::process::CommandExt;
        if let Ok((program, before)) = super::program() {
            let mut again = std::process::Command::new(program);
            again.args(before).args(&command_line[1..]);
            let named = VARIABLES.map(|name| (name, threads.to_string()));
            // exec returns only on failure; rayon's threads are set below in any case.
            let _failed = again.envs(named).exec();
        }
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| {
            Error::new(ErrorKind::Resource, "the number of threads cannot be set").because(error)
        })
}

/// Return whether the environment requests this number of threads of every library.
fn requested(threads: usize) -> bool {
    VARIABLES
        .iter()
        .all(|name| std::env::var(name).is_ok_and(|value| value == threads.to_string()))
}
