//! A thread that ends the process when an exchange does not.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The exchange that the process is in, and when it began.
type Current = Option<(String, Instant)>;

/// Watches the exchanges of a rank.
#[derive(Debug)]
pub(super) struct Watchdog {
    current: Arc<(Mutex<Current>, Condvar)>,
}

impl Watchdog {
    /// Start the thread; it prints a line that begins with `rank` and ends the process when an exchange takes longer than
    /// `timeout`.
    pub(super) fn start(rank: String, timeout: Duration) -> Self {
        let current = Arc::new((Mutex::new(None), Condvar::new()));
        let watched = Arc::clone(&current);
        let watch = move || {
            let (current, changed) = &*watched;
            let mut state = lock(current);
            loop {
                let Some((name, since)) = &*state else {
                    state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                let Some(left) = timeout.checked_sub(since.elapsed()) else {
                    eprintln!(
                        "brillm: {rank}: the exchange \"{name}\" has not ended for {} s: another rank is stuck",
                        timeout.as_secs()
                    );
                    // The main thread is inside MPI, which this thread must not enter. The launcher ends the others when
                    // a process ends without MPI_Finalize.
                    std::process::exit(super::world::FAILED.into());
                };
                let waited = changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        // Without the thread, nothing is watched.
        drop(
            std::thread::Builder::new()
                .name("ranks-watchdog".into())
                .spawn(watch),
        );
        Self { current }
    }

    /// Note that an exchange begins.
    pub(super) fn begin(&self, name: &str) {
        self.set(Some((name.to_string(), Instant::now())));
    }

    /// Note that it has ended.
    pub(super) fn end(&self) {
        self.set(None);
    }

    fn set(&self, state: Current) {
        *lock(&self.current.0) = state;
        self.current.1.notify_one();
    }
}

fn lock(state: &Mutex<Current>) -> std::sync::MutexGuard<'_, Current> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
