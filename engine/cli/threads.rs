//! `--threads`: how many threads compute.

use crate::{Error, ErrorKind, Result};

/// What rayon and candle read their numbers of threads from.
#[cfg(all(unix, feature = "transformer"))]
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Sets the number of threads of the whole program; 0 for all cores.
///
/// candle's own pool, whose threads wait by spinning, takes its number from the environment alone, and this process
/// cannot change its environment safely: it begins again with another one.
pub(super) fn set(threads: usize) -> Result<()> {
    #[cfg(all(unix, feature = "transformer"))]
    if threads > 0 && !asked(threads) {
        use std::os::unix::process::CommandExt;
        if let Ok(program) = std::env::current_exe() {
            let mut again = std::process::Command::new(program);
            let named = VARIABLES.map(|name| (name, threads.to_string()));
            // It returns only when it failed; then rayon's threads are set at least.
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
fn asked(threads: usize) -> bool {
    VARIABLES
        .iter()
        .all(|name| std::env::var(name).is_ok_and(|value| value == threads.to_string()))
}
