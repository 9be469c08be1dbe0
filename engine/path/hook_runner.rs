//! Calls of a graph session's hooks.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::Result;
use crate::graph::NodeId;
use crate::hook::{Activations, Answer, Call, Fan, Hooks, Hop, Tap};
use crate::kernel::select::top_k;
use crate::kernel::softmax;
use crate::path::SamplerChain;
use crate::signal::{Flow, Mechanism, Start};

/// Nodes of least resistance that `path/1` receives besides the target.
const RUNNERS_UP: usize = 8;

/// The hooks of a sequence.
///
/// ```
/// use brillm::hook::Hooks;
/// use brillm::path::HookRunner;
/// let hook_runner = HookRunner::new(&Hooks::default(), 0);
/// assert!(hook_runner.is_none());
/// ```
#[derive(Clone, Debug)]
pub struct HookRunner {
    hooks: Hooks,
    sequence: u64,
    seed: u64,
    cancel: Option<Arc<AtomicBool>>,
    energies: bool,
    signals: bool,
}

/// The logits a hop was chosen from, for `path/1`.
#[derive(Clone, Debug, Default)]
pub(crate) struct HopLogits {
    normaliser: f64,
    logits: Vec<f32>,
}

impl HookRunner {
    /// The hooks of sequence `sequence` of a run; `None` without hooks.
    pub fn new(hooks: &Hooks, sequence: u64) -> Option<Box<Self>> {
        (!hooks.is_empty()).then(|| {
            Box::new(Self {
                // Looked up once, not in every hop.
                energies: hooks.probes(Tap::Energy).next().is_some(),
                signals: hooks.probes(Tap::Signal).next().is_some(),
                hooks: hooks.clone(),
                sequence,
                seed: 0,
                cancel: None,
            })
        })
    }

    /// Set the flag that tells hooks to stop.
    #[must_use]
    pub fn cancel(mut self: Box<Self>, flag: Option<Arc<AtomicBool>>) -> Box<Self> {
        self.cancel = flag;
        self
    }

    /// Whether a device can run instead; `shaders` is whether it has those of `edge/1`.
    #[cfg(feature = "gpu")]
    pub(crate) fn on_device(&self, shaders: bool) -> bool {
        // The device runs the shaders of all edge/1 hooks, if there are any.
        self.hooks.flow_on_device() && self.hooks.edge.is_empty() != shaders
    }

    pub(crate) fn seeded(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Create the chain of `sample/1` hooks of the sequence; `None` where there are none.
    pub(crate) fn sampler_chain(&self) -> Option<SamplerChain> {
        SamplerChain::new(&self.hooks, self.sequence, self.seed, self.cancel.clone())
    }

    fn call(&self, flow: &Flow) -> Call<'_> {
        let call = Call::new(self.seed, self.sequence, flow.step);
        match &self.cancel {
            Some(flag) => call.cancel(flag),
            None => call,
        }
    }

    /// `signal/1`: where the signal starts.
    pub(crate) fn start(
        &self,
        mechanism: &Mechanism,
        prompt: &[u32],
        start: &Start,
    ) -> Result<Option<Start>> {
        let Some(signal) = &self.hooks.signal else {
            return Ok(None);
        };
        let mut vector = mechanism.start_vector(start);
        let call = Call::new(self.seed, self.sequence, 0);
        Ok(match signal.start(&call, prompt, &mut vector)? {
            Answer::Given => Some(Start::Vector(vector)),
            Answer::Declined => None,
        })
    }

    /// Let the chain of `edge/1` rewrite the logits of all nodes.
    pub(crate) fn resist(
        &self,
        mechanism: &Mechanism,
        flow: &Flow,
        energies: &[f32],
        logits: &mut [f32],
    ) -> Result<()> {
        resist(
            &self.hooks,
            &self.call(flow),
            mechanism,
            flow,
            energies,
            logits,
        )
    }

    /// `probe/1`: the energies of a step.
    pub(crate) fn see_energies(&self, flow: &Flow, energies: &[f32]) -> Result<()> {
        if !self.energies {
            return Ok(());
        }
        self.see(Tap::Energy, flow, energies)
    }

    fn see(&self, tap: Tap, flow: &Flow, values: &[f32]) -> Result<()> {
        let activations = Activations {
            tap,
            layer: 0,
            layers: 1,
            tokens: &[flow.node],
            values,
            width: values.len(),
        };
        let call = self.call(flow);
        self.hooks
            .probes(tap)
            .try_for_each(|probe| probe.see(&call, &activations))
    }

    /// Copy the logits that the next hop is chosen from, where `path/1` wants them.
    pub(crate) fn chosen(&self, logits: &[f32]) -> Option<HopLogits> {
        self.hooks.path.iter().any(|path| path.ranks()).then(|| {
            let mut spent = logits.to_vec();
            HopLogits {
                normaliser: softmax::softmax(&mut spent),
                logits: logits.to_vec(),
            }
        })
    }

    /// Report the first node to `probe/1`.
    pub(crate) fn begun(&self, flow: &Flow) -> Result<()> {
        if self.signals {
            self.see(Tap::Signal, flow, &flow.signal)?;
        }
        Ok(())
    }

    /// Report a hop to `path/1` and `probe/1`.
    pub(crate) fn hopped(
        &self,
        source: u32,
        flow: &Flow,
        chosen: Option<&HopLogits>,
    ) -> Result<()> {
        if self.signals {
            self.see(Tap::Signal, flow, &flow.signal)?;
        }
        if self.hooks.path.is_empty() {
            return Ok(());
        }
        let mut runners_up = Vec::new();
        let (mut rank, mut resistance) = (None, f64::NAN);
        if let Some(chosen) = chosen {
            let own = chosen.logits[flow.node as usize];
            resistance = chosen.normaliser - f64::from(own);
            // Rank 0 is the likeliest; nodes of equal logits have the same rank.
            rank = Some(chosen.logits.iter().filter(|&&logit| logit > own).count() as u64);
            runners_up = top_k(&chosen.logits, RUNNERS_UP, |node| {
                node != flow.node && chosen.logits[node as usize] > f32::NEG_INFINITY
            });
        }
        let hop = Hop {
            source,
            target: flow.node,
            rank,
            resistance,
            runners_up: &runners_up,
            signal: &flow.signal,
        };
        let call = self.call(flow);
        self.hooks
            .path
            .iter()
            .try_for_each(|path| path.hop(&call, &hop))
    }
}

/// Let the chain of `edge/1` rewrite logits, as resistances above the least.
pub(crate) fn resist(
    hooks: &Hooks,
    call: &Call<'_>,
    mechanism: &Mechanism,
    flow: &Flow,
    energies: &[f32],
    logits: &mut [f32],
) -> Result<()> {
    if hooks.edge.is_empty() {
        return Ok(());
    }
    // −ln p up to a constant, which cancels in the softmax: the likeliest node has 0.
    let top = softmax::highest(logits);
    if !top.is_finite() {
        return Ok(());
    }
    let mut resistance: Vec<f32> = logits.iter().map(|logit| top - logit).collect();
    let own = mechanism.graph().fan(NodeId(flow.node));
    let fan = Fan {
        source: flow.node,
        energies,
        targets: own.targets,
        counts: own.counts,
    };
    let mut given = false;
    for edge in &hooks.edge {
        given |= edge.resist(call, &fan, &mut resistance)? == Answer::Given;
    }
    // Unless a hook answered, the logits keep their bits.
    if given {
        for (logit, &resistance) in logits.iter_mut().zip(&resistance) {
            *logit = -resistance;
        }
    }
    Ok(())
}
