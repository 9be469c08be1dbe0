//! What every hook is given: randomness, the log, and whether to stop.

use brillm_abi as abi;

use crate::view;

/// Whether a hook that writes in place wrote anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The buffers hold the answer.
    Given,
    /// No opinion: the engine ignores the buffers.
    Declined,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An error.
    Error,
    /// A warning.
    Warn,
    /// Worth knowing.
    Info,
    /// For whoever looks for a fault.
    Debug,
}

/// One call of a hook.
pub struct Call<'a> {
    raw: *mut abi::brl_call,
    host: &'a abi::brl_host,
}

impl<'a> Call<'a> {
    pub(crate) fn new(raw: *mut abi::brl_call, host: &'a abi::brl_host) -> Self {
        Self { raw, host }
    }

    /// 64 random bits that replay with the run's seed.
    pub fn random(&mut self) -> u64 {
        match self.host.random {
            // SAFETY: `raw` is the host's, for this call.
            Some(random) => unsafe { random(self.raw) },
            None => 0,
        }
    }

    /// A random number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.random() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Whether the run is to stop; then return [`crate::Error::cancelled`].
    pub fn cancelled(&mut self) -> bool {
        match self.host.cancelled {
            // SAFETY: `raw` is the host's, for this call.
            Some(cancelled) => unsafe { cancelled(self.raw) != 0 },
            None => false,
        }
    }

    /// Writes a line to the run's log.
    pub fn log(&self, level: Level, message: &str) {
        log(self.host, level, message);
    }

    pub(crate) fn fail(&self, message: &str) {
        if let Some(fail) = self.host.fail {
            // SAFETY: `raw` is the host's, for this call; the host copies the text.
            unsafe { fail(self.raw, view::lend(message)) }
        }
    }
}

pub(crate) fn log(host: &abi::brl_host, level: Level, message: &str) {
    let level = match level {
        Level::Error => abi::BRL_LOG_ERROR,
        Level::Warn => abi::BRL_LOG_WARN,
        Level::Info => abi::BRL_LOG_INFO,
        Level::Debug => abi::BRL_LOG_DEBUG,
    };
    if let Some(log) = host.log {
        // SAFETY: `ctx` is the host's, and the host copies the text.
        unsafe { log(host.ctx, level, view::lend(message)) }
    }
}
