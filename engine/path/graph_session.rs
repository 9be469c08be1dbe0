//! A session: one flow, and how it goes on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::kernel::random::Random;
use crate::kernel::softmax;
#[cfg(feature = "gpu")]
use crate::path::ahead::DecodedAhead;
use crate::path::hook_runner::HopLogits;
use crate::path::{Charges, HookRunner, Sampling, SessionOptions, SessionState};
use crate::signal::{Attribution, EdgeAttribution, Flow, Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// One signal flowing through a shared [`Mechanism`].
///
/// Its memory does not grow with the path: a million tokens need what one needs.
///
/// ```
/// use brillm::path::{Sampling, GraphSession};
/// use brillm::signal::Start;
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let prompt = model.tokenizer().encode("Once upon a")?;
/// let begin = |sampling| GraphSession::begin(model.mechanism().clone(), &prompt, &Start::Profile, sampling);
/// let mut session = begin(Sampling::greedy())?;
/// let (energies, logits) = session.look()?; // of every node as the next one
/// assert_eq!((energies.len(), logits.len()), (model.mechanism().nodes(), model.mechanism().nodes()));
/// let saved = session.state().clone();
/// let first = session.step()?;
///
/// let mut again = GraphSession::restore(model.mechanism().clone(), saved, Sampling::greedy())?;
/// assert_eq!(again.step()?, first);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GraphSession {
    mechanism: Arc<Mechanism>,
    sampling: Sampling,
    state: SessionState,
    energies: Vec<f32>,
    logits: Vec<f32>,
    /// Whether energies and scores are those of where the flow is now.
    looked: bool,
    /// What every token has in the signal, where somebody wants to know.
    attribution: Option<Box<Attribution>>,
    /// By how much what the token at a position adds to the signal is multiplied, where not by 1.
    gains: BTreeMap<u64, f32>,
    hook_runner: Option<Box<HookRunner>>,
    #[cfg(feature = "gpu")]
    ahead: Option<DecodedAhead>,
}

impl GraphSession {
    /// A session that begins at `prompt[0]` and walks the rest of the prompt.
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

    /// As [`Self::begin`], with hooks that are asked on the way.
    ///
    /// # Errors
    /// As [`Self::begin`], and whatever a hook meets.
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

    /// As [`Self::begin`], with hooks, scaled signals, or a record of shares.
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
        sampling.check()?;
        let SessionOptions {
            mut hook_runner,
            gains,
            attribution,
        } = options;
        if let Some((position, gain)) = gains.iter().find(|(_, gain)| !gain.is_finite()) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("the signal at position {position} cannot be multiplied by {gain}"),
            ));
        }
        let Some((&first, rest)) = prompt.split_first() else {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: a signal needs a node to start at",
            )
            .advice("give at least one token"));
        };
        let mut own = None;
        if let Some(hook_runner) = &mut hook_runner {
            hook_runner.seeded(sampling.seed);
            own = hook_runner.start(&mechanism, prompt, start)?;
        }
        let gain = gains.get(&0).copied().unwrap_or(1.0);
        let flow = mechanism.begin_scaled(first, own.as_ref().unwrap_or(start), gain)?;
        if let Some(hook_runner) = &mut hook_runner {
            hook_runner.begun(&flow)?;
        }
        let mut session = Self {
            energies: Vec::new(),
            logits: Vec::new(),
            looked: false,
            attribution: attribution.then(|| Box::new(Attribution::begin(&mechanism, &flow))),
            state: SessionState {
                flow,
                random: Random::new(sampling.seed),
                recent: VecDeque::new(),
                charges: Charges::default(),
                injected: BTreeMap::new(),
            },
            gains,
            hook_runner,
            #[cfg(feature = "gpu")]
            ahead: None,
            sampling,
            mechanism,
        };
        session.remember(first);
        session.walk(rest)?;
        Ok(session)
    }

    /// A session that goes on from a saved state as if it had not stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the state belongs to a model of another shape.
    pub fn restore(
        mechanism: Arc<Mechanism>,
        state: SessionState,
        sampling: Sampling,
    ) -> Result<Self> {
        Self::restore_with_hooks(mechanism, state, sampling, None)
    }

    /// As [`Self::restore`], with hooks that are asked from here on. What they were told before is not in the
    /// state: a prompt begins for them here.
    ///
    /// # Errors
    /// As [`Self::restore`], and whatever a hook meets.
    pub fn restore_with_hooks(
        mechanism: Arc<Mechanism>,
        state: SessionState,
        sampling: Sampling,
        mut hook_runner: Option<Box<HookRunner>>,
    ) -> Result<Self> {
        sampling.check()?;
        let profile = mechanism.profile();
        let fits = state.flow.signal.len() == profile.width
            && state.flow.output.len() == profile.width
            && state.flow.banks.len() == profile.banks * profile.width
            && (state.flow.node as usize) < mechanism.nodes()
            && state
                .recent
                .iter()
                .chain(state.injected.keys())
                .all(|&node| (node as usize) < mechanism.nodes());
        if !fits {
            return Err(Error::new(
                ErrorKind::Input,
                "the saved session belongs to another model",
            )
            .advice("restore it with the model it was saved from"));
        }
        if let Some(hook_runner) = &mut hook_runner {
            hook_runner.seeded(sampling.seed);
            hook_runner.begun(&state.flow)?;
        }
        Ok(Self {
            energies: Vec::new(),
            logits: Vec::new(),
            looked: false,
            attribution: None,
            gains: BTreeMap::new(),
            hook_runner,
            #[cfg(feature = "gpu")]
            ahead: None,
            sampling,
            mechanism,
            state,
        })
    }

    /// What [`Self::restore`] needs to go on from here.
    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// The flow: node, step, signal and blend.
    pub fn flow(&self) -> &Flow {
        &self.state.flow
    }

    /// The mechanism the session flows through.
    pub fn mechanism(&self) -> &Arc<Mechanism> {
        &self.mechanism
    }

    /// Has a device choose the nodes, `chunk` of them in a submission. Steps with charges, injected energy
    /// or hooks whose shaders the device lacks stay on the processor, and so do all once the device fails,
    /// unless `forced`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the device holds another mechanism.
    #[cfg(feature = "gpu")]
    pub fn use_device(
        &mut self,
        mechanism: Arc<crate::signal::DeviceMechanism>,
        chunk: usize,
        forced: bool,
    ) -> Result<()> {
        if !Arc::ptr_eq(mechanism.mechanism(), &self.mechanism) {
            return Err(Error::new(
                ErrorKind::Input,
                "the device holds another mechanism than the session's",
            ));
        }
        self.ahead = Some(DecodedAhead::new(mechanism, chunk, forced));
        Ok(())
    }

    /// Why the processor took over from the device, if it did.
    #[cfg(feature = "gpu")]
    pub fn device_fault(&self) -> Option<&Error> {
        self.ahead.as_ref().and_then(DecodedAhead::fault)
    }

    /// What a device decoded ahead no longer holds.
    fn forget_ahead(&mut self) {
        #[cfg(feature = "gpu")]
        if let Some(ahead) = &mut self.ahead {
            ahead.forget();
        }
    }

    /// How nodes are chosen; may be changed between steps.
    pub fn sampling_mut(&mut self) -> &mut Sampling {
        #[cfg(feature = "gpu")]
        if let Some(ahead) = &mut self.ahead {
            ahead.reset();
        }
        &mut self.sampling
    }

    /// Sets the charges that visited nodes keep (an option for streams).
    pub fn set_charges(&mut self, charges: Charges) {
        self.forget_ahead();
        self.state.charges = charges;
        self.looked = false;
    }

    /// Adds energy at a node, for the next choice only ("recall activation").
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a node outside the vocabulary or an energy that is not finite.
    pub fn inject(&mut self, node: u32, energy: f32) -> Result<()> {
        if node as usize >= self.mechanism.nodes() || !energy.is_finite() {
            return Err(Error::new(
                ErrorKind::Input,
                format!("energy {energy} cannot be injected at node {node}"),
            ));
        }
        self.forget_ahead();
        *self.state.injected.entry(node).or_insert(0.0) += energy;
        self.looked = false;
        Ok(())
    }

    /// Walks given nodes, one hop each.
    ///
    /// # Errors
    /// As [`Mechanism::hop`].
    pub fn walk(&mut self, nodes: &[u32]) -> Result<()> {
        for &node in nodes {
            self.force(node)?;
        }
        Ok(())
    }

    /// Hops to a given node.
    ///
    /// # Errors
    /// As [`Mechanism::hop`], and whatever a hook meets.
    pub fn force(&mut self, node: u32) -> Result<()> {
        self.forget_ahead();
        self.take(node, None)
    }

    fn take(&mut self, node: u32, chosen: Option<&HopLogits>) -> Result<()> {
        let source = self.state.flow.node;
        self.looked = false;
        let position = self.state.flow.step + 1;
        let gain = self.gains.get(&position).copied().unwrap_or(1.0);
        self.mechanism
            .hop_scaled(&mut self.state.flow, node, gain)?;
        if let Some(attribution) = &mut self.attribution {
            attribution.hop(&self.mechanism, &self.state.flow);
        }
        if let Some(hook_runner) = &mut self.hook_runner {
            hook_runner.hopped(source, &self.state.flow, chosen)?;
        }
        self.state.injected.clear();
        self.state.charges.visit(source, node);
        self.remember(node);
        Ok(())
    }

    /// Energies and scores of all V nodes as the next one, before any choice. `[V]`, `[V]`
    ///
    /// Injected energy and charges are in both, and what hooks of `edge/1` answer is in the scores; a softmax of
    /// the scores is the model's distribution. Looking twice asks once.
    ///
    /// # Errors
    /// Whatever a hook meets.
    pub fn look(&mut self) -> Result<(&[f32], &[f32])> {
        self.gather()?;
        Ok((&self.energies, &self.logits))
    }

    fn gather(&mut self) -> Result<()> {
        if self.looked {
            return Ok(());
        }
        let nodes = self.mechanism.nodes();
        self.energies.resize(nodes, 0.0);
        self.logits.resize(nodes, 0.0);
        self.mechanism
            .energies(&self.state.flow, &mut self.energies);
        self.mechanism
            .logits(&self.state.flow, &self.energies, &mut self.logits);
        for (&node, &energy) in &self.state.injected {
            self.energies[node as usize] += energy;
            self.logits[node as usize] += energy;
        }
        self.state
            .charges
            .apply(self.state.flow.node, &mut self.logits);
        if let Some(hook_runner) = &self.hook_runner {
            let flow = &self.state.flow;
            hook_runner.see_energies(flow, &self.energies)?;
            hook_runner.resist(&self.mechanism, flow, &self.energies, &mut self.logits)?;
        }
        self.looked = true;
        Ok(())
    }

    /// The exact parts of the pre-activation of the edge from here to `target`, token by token; see [`Attribution`].
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a session that keeps no shares ([`SessionOptions::attribution`]);
    /// [`ErrorKind::Input`] for a target outside the vocabulary.
    pub fn split(&self, target: u32) -> Result<EdgeAttribution> {
        match &self.attribution {
            Some(attribution) => attribution.split(&self.mechanism, &self.state.flow, target),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                "the session does not keep the shares of its tokens",
            )
            .advice("begin it with SessionOptions { shares: true, .. }")),
        }
    }

    /// −ln p of `node` as the next one, over all V. With hooks of `sample/1`, p is what would be drawn from.
    ///
    /// # Errors
    /// Whatever a hook meets; [`ErrorKind::Input`] when one sets the temperature 0, which leaves no
    /// probabilities.
    pub fn resistance(&mut self, node: u32) -> Result<f64> {
        self.gather()?;
        // The scores are spent.
        self.looked = false;
        if let Some(hook_runner) = &mut self.hook_runner
            && let Some(resistance) =
                hook_runner.resistance(&self.state.flow, &mut self.logits, node)
        {
            return resistance;
        }
        let logit = f64::from(self.logits[node as usize]);
        Ok(softmax::softmax(&mut self.logits) - logit)
    }

    /// Chooses the next node and hops to it. `None` when no node is left to choose.
    ///
    /// # Errors
    /// As [`Mechanism::hop`], and whatever a hook meets.
    pub fn step(&mut self) -> Result<Option<u32>> {
        self.mechanism.check_step(&self.state.flow)?;
        #[cfg(feature = "gpu")]
        if let Some(node) = self.foreseen()? {
            self.take(node, None)?;
            return Ok(Some(node));
        }
        self.gather()?;
        // The scores are spent.
        self.looked = false;
        if let Some(node) = self.logits.iter().position(|logit| logit.is_nan()) {
            return Err(Error::new(ErrorKind::Numeric, "the energy is not a number")
                .at(format!("step {}, node {node}", self.state.flow.step))
                .advice("the weights hold values that are not finite"));
        }
        if !self.mechanism.profile().self_loops {
            self.logits[self.state.flow.node as usize] = f32::NEG_INFINITY;
        }
        let recent = self.state.recent.make_contiguous();
        let Some(hook_runner) = &mut self.hook_runner else {
            let Some(node) = self
                .sampling
                .choose(&mut self.logits, recent, &mut self.state.random)
            else {
                return Ok(None);
            };
            self.take(node, None)?;
            return Ok(Some(node));
        };
        let chosen = hook_runner.chosen(&self.logits);
        let node = hook_runner.pick(
            &self.state.flow,
            &self.sampling,
            &mut self.logits,
            recent,
            &mut self.state.random,
        )?;
        if let Some(node) = node {
            self.take(node, chosen.as_ref())?;
        }
        Ok(node)
    }

    /// The node that a device has chosen, with the draw it took.
    #[cfg(feature = "gpu")]
    fn foreseen(&mut self) -> Result<Option<u32>> {
        let Some(ahead) = &mut self.ahead else {
            return Ok(None);
        };
        // Hooks see every step: they are asked on the processor, unless the device has their shaders.
        let here = match &self.hook_runner {
            None => !ahead.resists(),
            Some(hook_runner) => hook_runner.on_device(ahead.resists()),
        };
        if !here {
            return Ok(None);
        }
        let state = &mut self.state;
        if state.charges.is_active() || !state.injected.is_empty() || !self.gains.is_empty() {
            ahead.forget();
            return Ok(None);
        }
        let recent = state.recent.make_contiguous();
        let node = ahead.next(&state.flow, &state.random, recent, &self.sampling)?;
        if node.is_some() && self.sampling.temperature > 0.0 {
            state.random.bits();
        }
        Ok(node)
    }

    fn remember(&mut self, node: u32) {
        if self.sampling.repetition_penalty == 1.0 || self.sampling.penalty_window == 0 {
            return;
        }
        while self.state.recent.len() >= self.sampling.penalty_window {
            self.state.recent.pop_front();
        }
        self.state.recent.push_back(node);
    }
}
