//! The host services of a call: randomness, log, cancellation.

use brillm_abi as abi;

/// The severity of a log message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// An error.
    Error,
    /// A warning.
    Warn,
    /// Information.
    Info,
    /// Details for debugging.
    Debug,
}

/// The host during one call of a hook.
pub struct Host<'a> {
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Hops or tokens of the sequence so far, including the prompt; optimiser steps in training.
    pub step: u64,
    call: *mut abi::brl_call,
    table: &'a abi::brl_host,
}

impl<'a> Host<'a> {
    pub(crate) fn new(call: *mut abi::brl_call, table: &'a abi::brl_host) -> Self {
        Self {
            sequence: 0,
            step: 0,
            call,
            table,
        }
    }

    /// Return 64 random bits. They depend on the run's seed, the sequence and the step, so that runs replay.
    pub fn random(&mut self) -> u64 {
        match self.table.random {
            // SAFETY: `call` is the host's, for this call.
            Some(random) => unsafe { random(self.call) },
            None => 0,
        }
    }

    /// Return a random number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.random() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Whether the run is being cancelled; if so, return [`crate::PluginError::cancelled`].
    pub fn cancelled(&mut self) -> bool {
        match self.table.cancelled {
            // SAFETY: `call` is the host's, for this call.
            Some(cancelled) => unsafe { cancelled(self.call) != 0 },
            None => false,
        }
    }

    /// Write a line to the run's log.
    pub fn log(&self, level: LogLevel, message: &str) {
        log(self.table, level, message);
    }

    pub(crate) fn fail(&self, message: &str) {
        if let Some(fail) = self.table.fail {
            // SAFETY: `call` is the host's, for this call; the host copies the text.
            unsafe { fail(self.call, abi::brl_str::new(message)) }
        }
    }
}

pub(crate) fn log(host: &abi::brl_host, level: LogLevel, message: &str) {
    let level = match level {
        LogLevel::Error => abi::BRL_LOG_ERROR,
        LogLevel::Warn => abi::BRL_LOG_WARN,
        LogLevel::Info => abi::BRL_LOG_INFO,
        LogLevel::Debug => abi::BRL_LOG_DEBUG,
    };
    if let Some(log) = host.log {
        // SAFETY: `ctx` is the host's, and the host copies the text.
        unsafe { log(host.ctx, level, abi::brl_str::new(message)) }
    }
}
