//! Looking ahead on a device: a session's next nodes, decoded many at a time, followed one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kernel::random::Random;
use crate::path::{Decoder, Sampling};
use crate::signal::{DeviceMechanism, Flow};
use crate::{Error, Result};

/// What a session has on a device: the nodes it will walk as long as nothing else happens to it.
///
/// The session itself hops on the processor, which is cheap; finding out where to is what the device does.
#[derive(Debug)]
pub(super) struct DecodedAhead {
    mechanism: Arc<DeviceMechanism>,
    decoder: Option<Decoder>,
    nodes: VecDeque<u32>,
    chunk: usize,
    forced: bool,
    fault: Option<Error>,
}

impl Clone for DecodedAhead {
    fn clone(&self) -> Self {
        Self {
            mechanism: self.mechanism.clone(),
            decoder: None,
            nodes: VecDeque::new(),
            fault: None,
            ..*self
        }
    }
}

impl DecodedAhead {
    /// Decodes `chunk` nodes at a time. Without `forced`, a device that fails leaves the session to the CPU.
    pub(super) fn new(mechanism: Arc<DeviceMechanism>, chunk: usize, forced: bool) -> Self {
        Self {
            mechanism,
            decoder: None,
            nodes: VecDeque::new(),
            chunk: chunk.max(1),
            forced,
            fault: None,
        }
    }

    /// Whether shaders of plugins rewrite resistances on the device.
    pub(super) fn resists(&self) -> bool {
        self.mechanism.edge_shaders().is_some()
    }

    /// Forgets what was decoded ahead: the session went elsewhere.
    pub(super) fn forget(&mut self) {
        self.nodes.clear();
    }

    /// Forgets how nodes were chosen, too.
    pub(super) fn reset(&mut self) {
        self.nodes.clear();
        self.decoder = None;
    }

    /// The fault after which the processor took over.
    pub(super) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    /// The next node; `None` where the processor must choose, and say what is wrong if something is.
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
        if self.fault.is_some() {
            return Ok(None);
        }
        if self.nodes.is_empty() {
            match self.decode(flow, random, recent, sampling) {
                Ok(nodes) => self.nodes = nodes.into(),
                Err(error) if self.forced => return Err(error),
                Err(error) => self.fault = Some(error),
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
        decoder.set(0, flow, random, recent)?;
        let nodes = decoder.decode(self.chunk)?.swap_remove(0);
        self.decoder = Some(decoder);
        Ok(nodes)
    }
}
