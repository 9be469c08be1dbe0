//! Records the attention of a session, and forwards activations to a probe.

use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::hook::{Activations, Call, Probe, Tap};

/// Records the attention of the last row, and forwards activations to a probe.
pub(super) struct Observer {
    /// Whether attention is recorded.
    pub(super) records: bool,
    /// Attention of the pass in progress. `[L][length]`
    pending: Mutex<Vec<Vec<f32>>>,
    /// Attention of the last pass. `[L][length]`
    pub(super) attention: Vec<Vec<f32>>,
    probe: Option<Box<dyn Probe>>,
}

impl Observer {
    /// Create an observer that records attention or calls a probe; `None` where there is neither.
    pub(super) fn new(records: bool, probe: Option<Box<dyn Probe>>) -> Option<Self> {
        (records || probe.is_some()).then(|| Self {
            records,
            pending: Mutex::default(),
            attention: Vec::new(),
            probe,
        })
    }

    /// End a pass: its attention becomes that of the last pass.
    pub(super) fn finish(&mut self) {
        // Probes are called through `&self`, hence the mutex; no call is in progress here.
        let pending = self.pending.get_mut();
        self.attention = std::mem::take(pending.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Probe for Observer {
    fn wants(&self, tap: Tap) -> bool {
        self.records && tap == Tap::Attention
            || self.probe.as_ref().is_some_and(|probe| probe.wants(tap))
    }

    fn see(&self, call: &Call<'_>, activations: &Activations<'_>) -> Result<()> {
        let layer = activations.layer;
        if self.records && activations.tap == Tap::Attention {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let layers = pending.len().max(layer + 1);
            pending.resize(layers, Vec::new());
            pending[layer] = activations.values.to_vec();
        }
        match &self.probe {
            Some(probe) if probe.wants(activations.tap) => probe.see(call, activations),
            _ => Ok(()),
        }
    }
}
