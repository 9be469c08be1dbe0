//! The session of a graph: one flow, and how its next node is chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(feature = "gpu")]
use crate::path::ahead::DecodedAhead;
use crate::path::beam::split_prompt;
use crate::path::hook_runner::HopLogits;
use crate::path::session_state::VERSION;
use crate::path::{
    Charges, HookRunner, Recall, RecallSettings, RecallShare, Sampler, Sampling, Session,
    SessionOptions, SessionState, StepContext,
};
#[cfg(feature = "gpu")]
use crate::signal::DeviceMechanism;
use crate::signal::{Attribution, EdgeAttribution, Flow, Margin, Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// One signal flowing through a shared [`Mechanism`].
///
/// Its memory does not grow with the path: a million tokens need as much as one, or as the window of its [`Recall`].
///
/// ```
/// use brillm::path::{GraphSession, Sampling, Session};
/// use brillm::signal::Start;
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let prompt = model.tokenizer().encode("Once upon a")?;
/// let begin = |sampling| GraphSession::begin(model.mechanism().clone(), &prompt, &Start::Profile, sampling);
/// let mut session = begin(Sampling::greedy())?;
/// let (energies, logits) = session.look()?; // of every node as the next one
/// assert_eq!((energies.len(), logits.len()), (model.mechanism().nodes(), model.mechanism().nodes()));
/// let saved = session.state();
/// let first = session.step()?;
///
/// let mut again = GraphSession::restore(model.mechanism().clone(), saved, Sampling::greedy())?;
/// assert_eq!(again.step()?, first);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GraphSession {
    pub(super) mechanism: Arc<Mechanism>,
    pub(super) flow: Flow,
    pub(super) sampler: Sampler,
    pub(super) charges: Charges,
    pub(super) recall: Recall,
    /// Energy added to nodes for the next choice.
    pub(super) injected: BTreeMap<u32, f32>,
    /// Energies of the next node. `[V]`
    energies: Vec<f32>,
    /// Logits of the next node. `[V]`
    logits: Vec<f32>,
    /// Whether energies and logits belong to the current node.
    looked: bool,
    /// Pre-activation of the hop to a node that is likely to be the next, if another process has sent it.
    known: Option<(u32, Vec<f32>)>,
    /// What each token contributes to the signal, where it is recorded.
    pub(super) attribution: Option<Box<Attribution>>,
    /// Factors of what the tokens at some positions add to the signal; 1 elsewhere.
    pub(super) gains: BTreeMap<u64, f32>,
    pub(super) hook_runner: Option<Box<HookRunner>>,
    #[cfg(feature = "gpu")]
    pub(super) ahead: Option<DecodedAhead>,
}

impl GraphSession {
    /// Begin a session at `prompt[0]` and follow the rest of the prompt.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty prompt, a token outside the vocabulary, or a sampling option out
    /// of range.
    pub fn begin(
        mechanism: Arc<Mechanism>,
        prompt: &[u32],
        start: &Start,
        sampling: Sampling,
    ) -> Result<Self> {
        Self::begin_with_hooks(mechanism, prompt, start, sampling, None)
    }

    /// Begin a session with hooks.
    ///
    /// # Errors
    /// As [`Self::begin`]; those of the hooks.
    pub fn begin_with_hooks(
        mechanism: Arc<Mechanism>,
        prompt: &[u32],
        start: &Start,
        sampling: Sampling,
        hook_runner: Option<Box<HookRunner>>,
    ) -> Result<Self> {
        let options = SessionOptions {
            hook_runner,
            ..SessionOptions::default()
        };
        Self::begin_with(mechanism, prompt, start, sampling, options)
    }

    /// Begin a session with hooks, scaled signals, or attribution.
    ///
    /// # Errors
    /// As [`Self::begin_with_hooks`]; [`ErrorKind::Input`] for a factor that is not finite.
    pub fn begin_with(
        mechanism: Arc<Mechanism>,
        prompt: &[u32],
        start: &Start,
        sampling: Sampling,
        options: SessionOptions,
    ) -> Result<Self> {
        let SessionOptions {
            mut hook_runner,
            gains,
            charges,
            recall,
            attribution,
        } = options;
        if let Some((position, gain)) = gains.iter().find(|(_, gain)| !gain.is_finite()) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("the signal at position {position} cannot be multiplied by {gain}"),
            ));
        }
        let (first, rest) = split_prompt(prompt)?;
        let seed = sampling.seed;
        let mut sampler = Sampler::new(sampling, None)?;
        let mut vector = None;
        if let Some(hook_runner) = &mut hook_runner {
            hook_runner.seeded(seed);
            vector = hook_runner.start(&mechanism, prompt, start)?;
            sampler.chain = hook_runner.sampler_chain();
        }
        let gain = gains.get(&0).copied().unwrap_or(1.0);
        let flow = mechanism.begin_scaled(first, vector.as_ref().unwrap_or(start), gain)?;
        if let Some(hook_runner) = &hook_runner {
            hook_runner.begun(&flow)?;
        }
        // The prompt counts for the repetition penalty and the hooks of sample/1, as generated tokens do.
        sampler.observe(first, &flow.output);
        let mut session = Self {
            energies: Vec::new(),
            logits: Vec::new(),
            looked: false,
            known: None,
            attribution: attribution.then(|| Box::new(Attribution::begin(&mechanism, &flow))),
            flow,
            sampler,
            charges: charges.unwrap_or_default(),
            recall: Recall::new(recall.unwrap_or_default())?,
            injected: BTreeMap::new(),
            gains,
            hook_runner,
            #[cfg(feature = "gpu")]
            ahead: None,
            mechanism,
        };
        session.walk(rest)?;
        Ok(session)
    }

    /// Restore a session from a saved state; it continues as if it had not stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the state belongs to another model; [`ErrorKind::Format`] when it is damaged.
    pub fn restore(
        mechanism: Arc<Mechanism>,
        state: SessionState,
        sampling: Sampling,
    ) -> Result<Self> {
        Self::restore_with_hooks(mechanism, state, sampling, None)
    }

    /// Restore a session with hooks. The state does not contain what hooks saw before: for them the text begins here.
    ///
    /// # Errors
    /// As [`Self::restore`]; those of the hooks.
    pub fn restore_with_hooks(
        mechanism: Arc<Mechanism>,
        state: SessionState,
        sampling: Sampling,
        mut hook_runner: Option<Box<HookRunner>>,
    ) -> Result<Self> {
        state.check(&mechanism)?;
        let SessionState {
            flow,
            random,
            recent,
            counts,
            charges,
            recall,
            injected,
            ..
        } = state;
        let seed = sampling.seed;
        let mut sampler = Sampler::new(sampling, None)?;
        (sampler.random, sampler.recent, sampler.counts) = (random, recent, counts);
        if let Some(hook_runner) = &mut hook_runner {
            hook_runner.seeded(seed);
            hook_runner.begun(&flow)?;
            sampler.chain = hook_runner.sampler_chain();
        }
        if let Some(chain) = &mut sampler.chain {
            chain.observe(flow.node, &flow.output);
        }
        Ok(Self {
            energies: Vec::new(),
            logits: Vec::new(),
            looked: false,
            known: None,
            attribution: None,
            gains: BTreeMap::new(),
            hook_runner,
            #[cfg(feature = "gpu")]
            ahead: None,
            sampler,
            mechanism,
            flow,
            charges,
            recall,
            injected,
        })
    }

    /// Copy the state that [`Self::restore`] continues from.
    pub fn state(&self) -> SessionState {
        SessionState {
            version: VERSION,
            model: self.mechanism.fingerprint(),
            flow: self.flow.clone(),
            random: self.sampler.random.clone(),
            recent: self.sampler.recent.clone(),
            counts: self.sampler.counts.clone(),
            charges: self.charges.clone(),
            recall: self.recall.clone(),
            injected: self.injected.clone(),
        }
    }

    /// The flow: node, step, signal and blend.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The mechanism that the signal flows through.
    pub fn mechanism(&self) -> &Arc<Mechanism> {
        &self.mechanism
    }

    /// Discard tokens decoded ahead on a device, which hold only until the session changes.
    fn discard_ahead(&mut self) {
        #[cfg(feature = "gpu")]
        if let Some(ahead) = &mut self.ahead {
            ahead.forget();
        }
    }

    /// The sampling options, which may change between steps.
    pub fn sampling_mut(&mut self) -> &mut Sampling {
        #[cfg(feature = "gpu")]
        if let Some(ahead) = &mut self.ahead {
            ahead.reset();
        }
        self.sampler.sampling_mut()
    }

    /// Set the constants of charges; nodes and edges that the session has charged so far stay so.
    pub fn set_charges(&mut self, charges: Charges) {
        self.discard_ahead();
        self.charges = std::mem::take(&mut self.charges).with_constants(charges);
        self.looked = false;
    }

    /// Continue with a mechanism of the same graph and profile; the state and what is recalled stay.
    pub(crate) fn set_mechanism(&mut self, mechanism: Arc<Mechanism>) {
        self.discard_ahead();
        self.mechanism = mechanism;
        (self.looked, self.known) = (false, None);
    }

    /// Set the constants of recall; what the session remembers so far stays, as far as it fits the window.
    ///
    /// # Errors
    /// As [`RecallSettings::check`].
    pub fn set_recall(&mut self, settings: RecallSettings) -> Result<()> {
        self.discard_ahead();
        self.recall = std::mem::take(&mut self.recall).with_settings(settings)?;
        self.looked = false;
        Ok(())
    }

    /// Append given nodes, one hop each.
    ///
    /// # Errors
    /// As [`Mechanism::hop`]; those of the hooks.
    pub fn walk(&mut self, nodes: &[u32]) -> Result<()> {
        nodes.iter().try_for_each(|&node| self.force(node))
    }

    /// Hop to `node`; `chosen` holds the logits it was chosen from, where a hook of `path/1` wants them.
    fn hop(&mut self, node: u32, chosen: Option<&HopLogits>) -> Result<()> {
        let source = self.flow.node;
        self.looked = false;
        let recalls = self.recall.is_active();
        let key = recalls.then(|| self.mechanism.key(&self.flow));
        // Gains are numbered by position: hop i reaches position i, and the first node is position 0.
        let gain = self.gains.get(&(self.flow.step + 1)).copied();
        let known = self.known.take().filter(|known| known.0 == node);
        let known = known.map(|known| known.1);
        self.mechanism
            .hop_known(&mut self.flow, node, gain.unwrap_or(1.0), known)?;
        if let Some(attribution) = &mut self.attribution {
            attribution.hop(&self.mechanism, &self.flow);
        }
        self.sampler.observe(node, &self.flow.output);
        if let Some(hook_runner) = &self.hook_runner {
            hook_runner.hopped(source, &self.flow, chosen)?;
        }
        // Injected energy affects one choice.
        self.injected.clear();
        self.charges.visit(source, node);
        if let Some(key) = key {
            self.recall.remember(&key, node);
        }
        Ok(())
    }

    /// Compute energies and logits of the next node, once per hop. It is likely to be `next`.
    fn gather(&mut self, next: Option<u32>) -> Result<()> {
        if self.looked {
            return Ok(());
        }
        let nodes = self.mechanism.nodes();
        self.energies.resize(nodes, 0.0);
        self.logits.resize(nodes, 0.0);
        let known = self
            .mechanism
            .energies_before(&self.flow, next, &mut self.energies)?;
        self.known = next.zip(known);
        self.mechanism
            .logits(&self.flow, &self.energies, &mut self.logits);
        // Injected energy is added to the logit unscaled: α does not apply.
        for (&node, &energy) in &self.injected {
            self.energies[node as usize] += energy;
            self.logits[node as usize] += energy;
        }
        self.charges.apply(self.flow.node, &mut self.logits);
        if !self.recall.is_empty() {
            let key = self.mechanism.key(&self.flow);
            self.recall.apply(&key, &mut self.logits);
        }
        // Hooks of edge/1 come last: they see and rewrite resistances with everything else applied.
        if let Some(hook_runner) = &self.hook_runner {
            hook_runner.see_energies(&self.flow, &self.energies)?;
            hook_runner.resist(
                &self.mechanism,
                &self.flow,
                &self.energies,
                &mut self.logits,
            )?;
        }
        self.looked = true;
        Ok(())
    }
}

/// Where the flow is, as the sampler's hooks see it.
fn context(flow: &Flow) -> StepContext<'_> {
    StepContext {
        step: flow.step,
        token: flow.node,
        hidden: &flow.output,
    }
}

impl Session for GraphSession {
    fn look(&mut self) -> Result<(&[f32], &[f32])> {
        self.gather(None)?;
        Ok((&self.energies, &self.logits))
    }

    fn step(&mut self) -> Result<Option<u32>> {
        self.mechanism.check_step(&self.flow)?;
        #[cfg(feature = "gpu")]
        if let Some(node) = self.decoded()? {
            self.hop(node, None)?;
            return Ok(Some(node));
        }
        self.gather(None)?;
        // The choice overwrites the logits.
        self.looked = false;
        if !self.mechanism.profile().self_loops {
            self.logits[self.flow.node as usize] = f32::NEG_INFINITY;
        }
        let hook_runner = self.hook_runner.as_ref();
        // A copy for path/1, made before the choice overwrites the logits.
        let chosen = hook_runner.and_then(|hook_runner| hook_runner.chosen(&self.logits));
        let node = self
            .sampler
            .choose(&context(&self.flow), &mut self.logits)?;
        if let Some(node) = node {
            self.hop(node, chosen.as_ref())?;
        }
        Ok(node)
    }

    fn force(&mut self, node: u32) -> Result<()> {
        self.discard_ahead();
        self.hop(node, None)
    }

    fn resistance(&mut self, node: u32) -> Result<f64> {
        // A text that is measured continues with the node.
        self.gather(Some(node))?;
        // Normalising overwrites the logits.
        self.looked = false;
        self.sampler
            .resistance(&context(&self.flow), &mut self.logits, node)
    }

    fn inject(&mut self, node: u32, energy: f32) -> Result<()> {
        if node as usize >= self.mechanism.nodes() || !energy.is_finite() {
            return Err(Error::new(
                ErrorKind::Input,
                format!("energy {energy} cannot be injected at node {node}"),
            ));
        }
        self.discard_ahead();
        *self.injected.entry(node).or_insert(0.0) += energy;
        self.looked = false;
        Ok(())
    }

    fn token(&self) -> u32 {
        self.flow.node
    }

    fn earlier(&self) -> &[u32] {
        &self.flow.earlier
    }

    fn length(&self) -> usize {
        self.flow.step as usize + 1
    }

    fn fork(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.clone()))
    }

    /// Signal, output, banks and what is recalled, in f32.
    fn state_bytes(&self) -> usize {
        let profile = self.mechanism.profile();
        (profile.banks + 2) * profile.width * 4 + self.recall.bytes()
    }

    fn mechanism(&self) -> Option<&Mechanism> {
        Some(&self.mechanism)
    }

    fn snapshot(&self) -> Option<SessionState> {
        Some(self.state())
    }

    fn recall(&self) -> Vec<RecallShare> {
        self.recall.shares(&self.mechanism.key(&self.flow))
    }

    fn attribution(&self, target: u32) -> Result<Option<EdgeAttribution>> {
        self.split(target).map(Some)
    }

    fn margin(&self, chosen: u32, alternative: u32) -> Result<Option<Margin>> {
        self.split_margin(chosen, alternative).map(Some)
    }

    /// Let a device choose the nodes. Steps with charges, recall, injected energy, or hooks whose shaders the device lacks
    /// stay on the CPU, and so do all once the device fails, unless `forced`.
    #[cfg(feature = "gpu")]
    fn use_device(
        &mut self,
        mechanism: Arc<DeviceMechanism>,
        chunk: usize,
        forced: bool,
    ) -> Result<()> {
        if !Arc::ptr_eq(mechanism.mechanism(), &self.mechanism) {
            return Err(Error::new(
                ErrorKind::Input,
                "the device holds another mechanism than the session",
            ));
        }
        self.check_device(forced)?;
        self.ahead = Some(DecodedAhead::new(mechanism, chunk, forced));
        Ok(())
    }

    #[cfg(feature = "gpu")]
    fn device_error(&self) -> Option<&Error> {
        self.ahead.as_ref().and_then(DecodedAhead::error)
    }
}
