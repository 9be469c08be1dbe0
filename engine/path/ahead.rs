//! Decoding ahead on a device: a session's next nodes, many per submission, followed one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kernel::random::Random;
use crate::path::{Decoder, Sampling};
use crate::signal::{DeviceMechanism, Flow};
use crate::{Error, Result};

/// Nodes already decoded on the GPU; valid until the session changes.
///
/// The session itself hops on the CPU, which is cheap; the device chooses the nodes.
#[derive(Debug)]
pub(super) struct DecodedAhead {
    mechanism: Arc<DeviceMechanism>,
    decoder: Option<Decoder>,
    nodes: VecDeque<u32>,
    chunk: usize,
    forced: bool,
    error: Option<Error>,
}

impl Clone for DecodedAhead {
    fn clone(&self) -> Self {
        Self {
            mechanism: self.mechanism.clone(),
            // A decoder holds the state of one session: the copy creates its own.
            decoder: None,
            nodes: VecDeque::new(),
            error: None,
            ..*self
        }
    }
}

impl DecodedAhead {
    /// Decode `chunk` nodes per submission. Unless `forced`, the CPU takes over when the device fails.
    pub(super) fn new(mechanism: Arc<DeviceMechanism>, chunk: usize, forced: bool) -> Self {
        Self {
            mechanism,
            decoder: None,
            nodes: VecDeque::new(),
            chunk: chunk.max(1),
            forced,
            error: None,
        }
    }

    /// Whether shaders of plugins rewrite resistances on the device.
    pub(super) fn resists(&self) -> bool {
        self.mechanism.edge_shaders().is_some()
    }

    /// Discard the decoded nodes, because the session changed.
    pub(super) fn forget(&mut self) {
        self.nodes.clear();
    }

    /// Discard the decoded nodes and the decoder, because the sampling changed.
    pub(super) fn reset(&mut self) {
        self.nodes.clear();
        self.decoder = None;
    }

    /// The error after which the CPU took over.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Return the next node; `None` where the CPU must choose, and report the error if there is one.
    ///
    /// # Errors
    /// Those of [`Decoder::decode`], when forced.
    pub(super) fn next(
        &mut self,
        flow: &Flow,
        random: &Random,
        recent: &[u32],
        sampling: &Sampling,
    ) -> Result<Option<u32>> {
        if self.error.is_some() {
            return Ok(None);
        }
        if self.nodes.is_empty() {
            match self.decode(flow, random, recent, sampling) {
                Ok(nodes) => self.nodes = nodes.into(),
                Err(error) if self.forced => return Err(error),
                Err(error) => self.error = Some(error),
            }
        }
        Ok(self.nodes.pop_front())
    }

    fn decode(
        &mut self,
        flow: &Flow,
        random: &Random,
        recent: &[u32],
        sampling: &Sampling,
    ) -> Result<Vec<u32>> {
        // Taken out: after an error its state on the device is unknown, and the next call creates another.
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => Decoder::new(
                self.mechanism.clone(),
                1,
                self.chunk,
                sampling.clone(),
                &[],
                0,
            )?,
        };
        // Each chunk starts from the host's flow, so that the device's rounding does not accumulate.
        decoder.set(0, flow, random, recent)?;
        let nodes = decoder.decode(self.chunk)?.swap_remove(0);
        self.decoder = Some(decoder);
        Ok(nodes)
    }
}
