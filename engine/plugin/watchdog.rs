//! Warns about plugin calls that do not return.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, Weak};
use std::time::Duration;

/// Interval between checks.
const INTERVAL: Duration = Duration::from_millis(250);

static PATIENCE: AtomicU64 = AtomicU64::new(10_000);
static CALLS: Mutex<Vec<Weak<InFlightCall>>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

/// Set how long a call may take before a warning is reported; 10 seconds by default.
pub fn set_patience(patience: Duration) {
    PATIENCE.store(patience.as_millis() as u64, Ordering::Relaxed);
}

/// The call in progress of an instance.
#[derive(Debug)]
pub(crate) struct InFlightCall {
    plugin: String,
    /// Odd during a call. Entering and leaving cost one store each and do not read the clock.
    serial: AtomicU64,
    hook: AtomicU64,
    step: AtomicU64,
}

impl InFlightCall {
    /// Watch the calls of a plugin's instance.
    pub fn new(plugin: &str) -> Arc<Self> {
        let in_flight = Arc::new(Self {
            plugin: plugin.to_string(),
            serial: AtomicU64::new(0),
            hook: AtomicU64::new(0),
            step: AtomicU64::new(0),
        });
        if let Ok(mut calls) = CALLS.lock() {
            calls.retain(|in_flight| in_flight.strong_count() > 0);
            calls.push(Arc::downgrade(&in_flight));
        }
        STARTED.call_once(|| {
            // If no thread can be started, calls are not watched.
            let _ = std::thread::Builder::new()
                .name("plugin watchdog".into())
                .spawn(watch);
        });
        in_flight
    }

    /// Begin a call. `hook` is an index into [`super::HOOKS`].
    pub fn enter(&self, hook: usize, step: u64) {
        self.hook.store(hook as u64, Ordering::Relaxed);
        self.step.store(step, Ordering::Relaxed);
        let serial = self.serial.load(Ordering::Relaxed);
        self.serial.store(serial + 1, Ordering::Release);
    }

    /// Note that the plugin called the host: it has not hung.
    pub fn beat(&self) {
        let serial = self.serial.load(Ordering::Relaxed);
        self.serial.store(serial + 2, Ordering::Release);
    }

    /// End a call.
    pub fn leave(&self) {
        let serial = self.serial.load(Ordering::Relaxed);
        self.serial.store(serial + 1, Ordering::Release);
    }
}

fn watch() {
    // For each call: the last serial, the number of intervals since it changed, and milliseconds until the next warning.
    let mut seen: Vec<(Weak<InFlightCall>, u64, u64, u64)> = Vec::new();
    loop {
        std::thread::sleep(INTERVAL);
        let Ok(calls) = CALLS.lock() else { return };
        for in_flight in calls.iter() {
            if !seen.iter().any(|(known, ..)| known.ptr_eq(in_flight)) {
                seen.push((in_flight.clone(), 0, 0, 0));
            }
        }
        drop(calls);
        seen.retain(|(in_flight, ..)| in_flight.strong_count() > 0);
        for (in_flight, last, beats, next) in &mut seen {
            let Some(in_flight) = in_flight.upgrade() else {
                continue;
            };
            let serial = in_flight.serial.load(Ordering::Acquire);
            if serial % 2 == 0 || serial != *last {
                (*last, *beats, *next) = (serial, 0, 0);
                continue;
            }
            *beats += 1;
            let waited = *beats * INTERVAL.as_millis() as u64;
            let patience = PATIENCE.load(Ordering::Relaxed).max(1);
            if waited >= patience.max(*next) {
                *next = waited * 2;
                let hook = super::HOOKS
                    .get(in_flight.hook.load(Ordering::Relaxed) as usize)
                    .unwrap_or(&"create");
                tracing::warn!(
                    plugin = %in_flight.plugin,
                    "{hook}: step {}: has not returned for {:.1} s; press Ctrl-C twice to end the program",
                    in_flight.step.load(Ordering::Relaxed),
                    waited as f64 / 1000.0
                );
            }
        }
    }
}
