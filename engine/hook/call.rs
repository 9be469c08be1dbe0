//! The context of a hook call.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernel::random::Random;

/// The sequence and step of a hook call, its random numbers, and whether the run is being cancelled.
///
/// Random numbers depend only on the run's seed, the sequence, the step and the purpose. A run therefore replays bit for
/// bit, and a restored session continues as if it had not been interrupted.
///
/// ```
/// use brillm::hook::Call;
/// let call = Call::new(7, 0, 3);
/// assert_eq!(call.random("sample/1").bits(), call.random("sample/1").bits());
/// assert_ne!(call.random("sample/1").bits(), call.random("order/1").bits());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Hops or tokens of the sequence, or optimiser steps in training.
    pub step: u64,
    cancel: Option<&'a AtomicBool>,
}

impl<'a> Call<'a> {
    /// Create the context of a call at `step` of `sequence` in a run with `seed`.
    pub fn new(seed: u64, sequence: u64, step: u64) -> Self {
        Self {
            seed,
            sequence,
            step,
            cancel: None,
        }
    }

    /// Set the flag that cancels the run.
    #[must_use]
    pub fn cancel(mut self, flag: &'a AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Whether the run is being cancelled.
    pub fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Create the random numbers of this call for one purpose, for example a plugin's id.
    pub fn random(&self, purpose: &str) -> Random {
        // FNV-1a; any fixed hash of the name would do.
        let purpose = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Random::stream(
            self.seed ^ self.sequence.rotate_left(32),
            purpose,
            self.step,
        )
    }
}
