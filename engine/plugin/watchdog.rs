//! Names a plugin and hook that do not return.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, Weak};
use std::time::Duration;

/// How often calls are looked at.
const BEAT: Duration = Duration::from_millis(250);

static PATIENCE: AtomicU64 = AtomicU64::new(10_000);
static CALLS: Mutex<Vec<Weak<InFlightCall>>> = Mutex::new(Vec::new());
static BEGUN: Once = Once::new();

/// How long a call may take before it is named on standard error; 10 seconds by default.
pub fn set_patience(patience: Duration) {
    PATIENCE.store(patience.as_millis() as u64, Ordering::Relaxed);
}

/// An instance that is watched.
#[derive(Debug)]
pub(crate) struct InFlightCall {
    plugin: String,
    /// Odd while a call is under way: entering and leaving cost one store each, and no look at the clock.
    serial: AtomicU64,
    hook: AtomicU64,
    step: AtomicU64,
}

impl InFlightCall {
    /// Watches the calls of a plugin's instance.
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
        BEGUN.call_once(|| {
            // Without a thread to spare nothing is watched, and everything else works.
            let _ = std::thread::Builder::new()
                .name("plugin watchdog".into())
                .spawn(watch);
        });
        in_flight
    }

    /// A call begins. `hook` is an index into [`super::HOOKS`].
    pub fn enter(&self, hook: usize, step: u64) {
        self.hook.store(hook as u64, Ordering::Relaxed);
        self.step.store(step, Ordering::Relaxed);
        let serial = self.serial.load(Ordering::Relaxed);
        self.serial.store(serial + 1, Ordering::Release);
    }

    /// It asked the host something: it is alive.
    pub fn beat(&self) {
        let serial = self.serial.load(Ordering::Relaxed);
        self.serial.store(serial + 2, Ordering::Release);
    }

    /// It has returned.
    pub fn leave(&self) {
        let serial = self.serial.load(Ordering::Relaxed);
        self.serial.store(serial + 1, Ordering::Release);
    }
}

fn watch() {
    // For each slot: the serial last seen, for how many beats, and how many of these pass until it is told.
    let mut seen: Vec<(Weak<InFlightCall>, u64, u64, u64)> = Vec::new();
    loop {
        std::thread::sleep(BEAT);
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
            let waited = *beats * BEAT.as_millis() as u64;
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
