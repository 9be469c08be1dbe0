//! Decoding ahead on a device: a session's next nodes, many per submission, followed one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kernel::random::Random;
use crate::path::{Decoder, GraphSession, Sampler, Sampling};
use crate::signal::{DeviceMechanism, Flow};
use crate::{Error, ErrorKind, Result};

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

impl GraphSession {
    /// Name what changes the logits of every step and is computed on the CPU only.
    pub(super) fn cpu_only(&self) -> Option<&'static str> {
        let charges = self.charges.is_active().then_some("charges");
        charges.or_else(|| (!self.recall.is_off()).then_some("recalled tokens"))
    }

    /// Refuse a forced device for a session with such an option.
    pub(super) fn check_device(&self, forced: bool) -> Result<()> {
        let Some(option) = self.cpu_only().filter(|_| forced) else {
            return Ok(());
        };
        let what = format!("{option} are supported on the CPU only");
        Err(Error::new(ErrorKind::Unsupported, what).advice("use --backend cpu or auto"))
    }

    /// Return the node that a device has chosen, and take the random number that the choice used.
    pub(super) fn decoded(&mut self) -> Result<Option<u32>> {
        // The kernels on the device know neither charges, recall, injected energy nor gains.
        let changed =
            self.cpu_only().is_some() || !self.injected.is_empty() || !self.gains.is_empty();
        let Some(ahead) = &mut self.ahead else {
            return Ok(None);
        };
        // Hooks see every step, so they run on the CPU unless the device has their shaders.
        let on_device = match &self.hook_runner {
            None => !ahead.resists(),
            Some(hook_runner) => hook_runner.on_device(ahead.resists()),
        };
        if !on_device {
            return Ok(None);
        }
        if changed || self.sampler.sampling.unsupported_on_device().is_some() {
            ahead.forget();
            return Ok(None);
        }
        let Sampler {
            sampling,
            random,
            recent,
            ..
        } = &mut self.sampler;
        let node = ahead.next(&self.flow, random, recent.make_contiguous(), sampling)?;
        // The device drew from a copy of the stream. Take the same number here, so that the CPU can continue from it.
        if node.is_some() && sampling.temperature > 0.0 {
            random.bits();
        }
        Ok(node)
    }
}
