//! What every question carries: which sequence, which step, and where random numbers come from.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernel::random::Random;

/// Whether a hook that writes in place wrote anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The buffers hold the answer.
    Given,
    /// No opinion: the buffers are as they were, and the engine does what it does without hooks.
    Declined,
}

/// One asking of one question.
///
/// Random numbers depend on the run's seed, the sequence, the step and the purpose alone, so a run replays
/// bit for bit whatever else is asked, and a saved session goes on as if it had not stopped.
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
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// The step: hops or tokens of the sequence, optimiser steps in training.
    pub step: u64,
    cancel: Option<&'a AtomicBool>,
}

impl<'a> Call<'a> {
    /// A question at `step` of `sequence` in a run of `seed`.
    pub fn new(seed: u64, sequence: u64, step: u64) -> Self {
        Self {
            seed,
            sequence,
            step,
            cancel: None,
        }
    }

    /// Lets whoever answers see that the run is to stop.
    #[must_use]
    pub fn cancel(mut self, flag: &'a AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Whether the run is to stop.
    pub fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The random numbers of this asking for one purpose, for example a plugin's name.
    pub fn random(&self, purpose: &str) -> Random {
        // FNV-1a: any fixed hash of the name does.
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
