//! `--threads`: the number of compute threads.

use crate::{Error, ErrorKind, Result};

/// Environment variables from which rayon and candle read their number of threads.
#[cfg(all(unix, feature = "transformer"))]
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Set the number of threads of the whole program; 0 for all cores.
///
/// candle's thread pool reads its size from the environment only, and a process with threads cannot change its
/// environment safely, so the program restarts itself with the variables set.
pub(super) fn set(threads: usize) -> Result<()> {
    #[cfg(all(unix, feature = "transformer"))]
    if threads > 0 && !requested(threads) {
        use std::os::unix::process::CommandExt;
        if let Ok(program) = std::env::current_exe() {
            let mut again = std::process::Command::new(program);
            let named = VARIABLES.map(|name| (name, threads.to_string()));
            // exec returns only on failure; rayon's threads are set below in any case.
            let _failed = again.args(std::env::args_os().skip(1)).envs(named).exec();
        }
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| {
            Error::new(ErrorKind::Resource, "the number of threads cannot be set").because(error)
        })
}

#[cfg(all(unix, feature = "transformer"))]
fn requested(threads: usize) -> bool {
    VARIABLES
        .iter()
        .all(|name| std::env::var(name).is_ok_and(|value| value == threads.to_string()))
}
