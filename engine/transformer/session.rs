//! The session of a transformer: one text, and the cache of its keys and values.

use std::sync::Arc;

use crate::hook::{self, Phase, Probe};
use crate::path::{CacheReport, Sampler, Sampling, Session, StepContext, Visit};
use crate::transformer::advance::{ForwardOutput, LogitsFor, Taps};
use crate::transformer::batch_decoder::Lane;
use crate::transformer::eviction::EvictionPolicy;
use crate::transformer::model::Body;
use crate::transformer::observer::Observer;
use crate::transformer::recurrent::RecurrentState;
use crate::transformer::session_options::SessionOptions;
use crate::transformer::text_end;
use crate::transformer::{Cache, Network, Plan, Transformer};
use crate::{Error, ErrorKind, Result};

/// Tokens that a network without plugins predicts in one pass.
const ROWS: usize = 64;

/// One text going through a shared transformer or recurrent network.
pub struct TransformerSession {
    model: Transformer,
    sampler: Sampler,
    seed: u64,
    state: State,
    token: u32,
    length: usize,
    /// The network's logits of the next token, with injected energy. `[V]`
    energies: Vec<f32>,
    /// The energies with what was added to logits alone. `[V]`
    logits: Vec<f32>,
    /// The last row after the last norm; empty for a recurrent network. `[D]`
    hidden: Vec<f32>,
    /// Logits that a choice may overwrite. `[V]`
    scratch: Vec<f32>,
    /// Rows of the prompt that each layer computed. `[L]`
    computed: Vec<usize>,
    /// Tokens of the prompt that another session had computed.
    reused: usize,
    order: Option<Arc<dyn hook::Order>>,
    /// The tokens so far, where `order/1` is called.
    text: Vec<u32>,
}

enum State {
    Cached {
        /// The network without what the plan does not need.
        network: Box<Network>,
        cache: Cache,
        eviction: Option<EvictionPolicy>,
        observer: Option<Observer>,
    },
    /// A sequence of a decoder that other sessions share, and the tokens whose last row it has not read yet.
    Shared {
        lane: Lane,
        unread: Vec<u32>,
    },
    Recurrent(RecurrentState),
}

impl TransformerSession {
    /// Begin a session at a prompt; every layer keeps all of it.
    ///
    /// # Errors
    /// As [`Self::begin_with`].
    pub fn begin(model: &Transformer, prompt: &[u32], sampling: Sampling) -> Result<Self> {
        Self::begin_with(model, prompt, sampling, SessionOptions::default())
    }

    /// Begin a session at a prompt, with plugins that manage or observe its cache.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty prompt, a token outside the vocabulary, a prompt longer than a learned
    /// context, a sampling option out of range; [`ErrorKind::Unsupported`] for a masked language model, or a plan for
    /// a model without layers of attention.
    pub fn begin_with(
        model: &Transformer,
        prompt: &[u32],
        sampling: Sampling,
        options: SessionOptions,
    ) -> Result<Self> {
        let SessionOptions {
            plan,
            eviction,
            probe,
            attention,
            alone,
            sampler_chain,
            order,
        } = options;
        let seed = sampling.seed;
        let sampler = Sampler::new(sampling, sampler_chain)?;
        let Some(&token) = prompt.last() else {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: there is nothing to continue",
            )
            .advice("pass at least one token"));
        };
        let plain = plan.is_none() && eviction.is_none() && probe.is_none();
        // Plugins observe or change a sequence of its own.
        let own = alone || !plain || attention || order.is_some() || sampler.pools();
        let shared = model.decoder().filter(|_| !own);
        let mut reused = 0;
        let state = match &**model.body() {
            Body::Network(_) if let Some(decoder) = shared => {
                let lane;
                (lane, reused) = Lane::open(decoder, prompt, !sampler.has_hooks());
                State::Shared {
                    lane,
                    unread: Vec::new(),
                }
            }
            Body::Network(network) => {
                let plan = plan.unwrap_or_else(|| Plan::full(network.shape.layers));
                State::Cached {
                    cache: Cache::new(&network.shape, plan.clone(), 1)?,
                    network: Box::new(network.for_plan(&plan)?),
                    eviction,
                    observer: Observer::new(attention, probe),
                }
            }
            Body::Recurrent(recurrent) if plain => State::Recurrent(recurrent.initial_state()),
            // A plan, a policy or a probe was given.
            Body::Recurrent(_) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "a recurrent network has no KV cache to manage and no taps",
                )
                .advice("remove the plugin, or use a causal transformer"));
            }
        };
        let mut session = Self {
            model: model.clone(),
            sampler,
            seed,
            state,
            token,
            length: reused,
            energies: Vec::new(),
            logits: Vec::new(),
            hidden: Vec::new(),
            scratch: Vec::new(),
            computed: Vec::new(),
            reused,
            order,
            text: Vec::new(),
        };
        for &token in &prompt[..reused] {
            session.sampler.observe(token, &[]);
        }
        session.take(&prompt[reused..], Phase::Prefill, LogitsFor::Last)?;
        Ok(session)
    }

    /// Run the network over new tokens. A recurrent network, which reads one at a time, gives no output.
    fn take(
        &mut self,
        tokens: &[u32],
        phase: Phase,
        mut logits_for: LogitsFor,
    ) -> Result<Option<ForwardOutput>> {
        // One call is one pass, in a shared decoder too.
        self.settle()?;
        let output = match &mut self.state {
            State::Cached {
                network,
                cache,
                eviction,
                observer,
            } => {
                let mut taps = Taps {
                    eviction: eviction.as_mut(),
                    probe: observer.as_ref().map(|observer| observer as &dyn Probe),
                };
                // The mean over a prompt needs all of its rows.
                if self.sampler.pools() {
                    logits_for = LogitsFor::All;
                }
                let output = network.advance(cache, &[tokens], phase, logits_for, &mut taps)?;
                if let Some(observer) = observer {
                    observer.finish();
                }
                if phase == Phase::Prefill {
                    self.computed.clone_from(&output.computed);
                }
                // The last row is that of the newest token: eviction never drops it.
                let last = output.rows.len().saturating_sub(1);
                self.energies = output.row(last).to_vec();
                let width = output.hidden.len() / output.rows.len().max(1);
                self.hidden = output.hidden[last * width..].to_vec();
                let rows = output.rows.iter().zip(output.hidden.chunks(width));
                let mut rows = rows.peekable();
                for (&token, position) in tokens.iter().zip(self.length as u32..) {
                    // A row that was pruned on the way has no hidden state at the end.
                    let row = rows.next_if(|(row, _)| row.position == position);
                    self.sampler
                        .observe(token, row.map_or(&[], |(_, hidden)| hidden));
                }
                Some(output)
            }
            State::Shared { lane, unread } => {
                lane.append(self.length, tokens)?;
                unread.extend(tokens);
                if phase == Phase::Prefill {
                    let layers = self.model.configuration().layers;
                    self.computed = vec![tokens.len(); layers];
                }
                None
            }
            State::Recurrent(memory) => {
                let Body::Recurrent(recurrent) = &**self.model.body() else {
                    let what = "the model is not recurrent";
                    return Err(Error::new(ErrorKind::Unsupported, what));
                };
                for &token in tokens {
                    self.energies = recurrent.step(memory, token)?;
                    self.sampler.observe(token, &[]);
                }
                None
            }
        };
        self.logits.clone_from(&self.energies);
        self.length += tokens.len();
        self.token = tokens.last().copied().unwrap_or(self.token);
        if self.order.is_some() {
            self.text.extend(tokens);
        }
        Ok(output)
    }

    /// Read what a shared decoder computes for the tokens so far.
    fn settle(&mut self) -> Result<()> {
        let State::Shared { lane, unread } = &mut self.state else {
            return Ok(());
        };
        let Some((&last, before)) = unread.split_last() else {
            return Ok(());
        };
        let row = lane.settle()?;
        for &token in before {
            self.sampler.observe(token, &[]);
        }
        self.sampler.observe(last, &row.hidden);
        self.energies = row.logits;
        self.hidden = row.hidden;
        self.logits.clone_from(&self.energies);
        unread.clear();
        Ok(())
    }

    /// Whether no plugin manages or observes the cache of a network.
    fn is_plain(&self) -> bool {
        matches!(
            self.state,
            State::Cached {
                eviction: None,
                observer: None,
                ..
            }
        )
    }

    /// Logits of all V tokens as the next one; of a batched model those of the last [`look`](Session::look). `[V]`
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The hidden state that the logits come from, after the last norm; empty for a recurrent network. `[D]`
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// The sampling options, which may change between steps.
    pub fn sampling_mut(&mut self) -> &mut Sampling {
        self.sampler.sampling_mut()
    }

    /// Let `order/1` choose, where a plugin has it.
    fn check_order(&mut self) -> Result<()> {
        let Some(order) = &self.order else {
            return Ok(());
        };
        let call = hook::Call::new(self.seed, 0, (self.length - 1) as u64);
        self.scratch.clone_from(&self.logits);
        text_end::check(&**order, &call, &self.text, &mut self.scratch)
    }

    /// Report bytes and lengths of the cache; of a recurrent network only the bytes of its memory.
    pub fn report(&self) -> CacheReport {
        match &self.state {
            State::Cached { cache, .. } => CacheReport {
                computed: self.computed.clone(),
                ..cache.report()
            },
            State::Shared { lane, .. } => CacheReport {
                computed: self.computed.clone(),
                ..lane.report()
            },
            State::Recurrent(memory) => CacheReport {
                live_bytes: memory.bytes(),
                allocated_bytes: memory.bytes(),
                ..CacheReport::default()
            },
        }
    }

    /// The cache, where the session has one of its own.
    pub fn cache(&self) -> Option<&Cache> {
        match &self.state {
            State::Cached { cache, .. } => Some(cache),
            State::Shared { .. } | State::Recurrent(_) => None,
        }
    }
}

/// The sampler's hooks see the last token and its hidden state.
macro_rules! context {
    ($session:expr) => {
        StepContext {
            step: ($session.length - 1) as u64,
            token: $session.token,
            hidden: &$session.hidden,
        }
    };
}

impl Session for TransformerSession {
    fn look(&mut self) -> Result<(&[f32], &[f32])> {
        self.settle()?;
        Ok((&self.energies, &self.logits))
    }

    fn step(&mut self) -> Result<Option<u32>> {
        self.settle()?;
        self.check_order()?;
        // A copy: a choice overwrites its logits, and `look` returns these afterwards.
        self.scratch.clone_from(&self.logits);
        let Some(token) = self.sampler.choose(&context!(self), &mut self.scratch)? else {
            return Ok(None);
        };
        if self.is_full() {
            // The last token belongs to the text, but has no position in the model's context.
            self.token = token;
            self.length += 1;
            return Ok(Some(token));
        }
        self.force(token)?;
        Ok(Some(token))
    }

    fn force(&mut self, token: u32) -> Result<()> {
        self.take(&[token], Phase::Decode, LogitsFor::Last)
            .map(drop)
    }

    fn resistance(&mut self, token: u32) -> Result<f64> {
        self.settle()?;
        self.scratch.clone_from(&self.logits);
        self.sampler
            .resistance(&context!(self), &mut self.scratch, token)
    }

    /// Without plugins, the network reads many tokens at a time.
    fn predict(&mut self, tokens: &[u32], visit: &mut Visit<'_>) -> Result<()> {
        // Hooks expect one token at a time.
        let whole = !self.sampler.has_hooks() && self.is_plain();
        let rows = if whole { ROWS } else { 1 };
        let Some((_, before)) = tokens.split_last() else {
            return Ok(());
        };
        self.settle()?;
        // The first token is predicted by the logits that the session already has.
        visit(0, &self.logits)?;
        for (chunk, first) in before.chunks(rows).zip((1..).step_by(rows)) {
            let output = self.take(chunk, Phase::Decode, LogitsFor::All)?;
            match &output {
                Some(output) => {
                    for row in 0..chunk.len() {
                        visit(first + row, output.row(row))?;
                    }
                }
                None => {
                    self.settle()?;
                    visit(first, &self.logits)?;
                }
            }
        }
        Ok(())
    }

    fn inject(&mut self, token: u32, energy: f32) -> Result<()> {
        self.add_logit(token, energy)?;
        self.energies[token as usize] += energy;
        Ok(())
    }

    fn add_logit(&mut self, token: u32, logit: f32) -> Result<()> {
        self.settle()?;
        match self.logits.get_mut(token as usize) {
            // The next token's logits are computed anew.
            Some(sum) if logit.is_finite() => {
                *sum += logit;
                Ok(())
            }
            _ => Err(Error::new(
                ErrorKind::Input,
                format!("energy {logit} cannot be injected at token {token}"),
            )),
        }
    }

    fn token(&self) -> u32 {
        self.token
    }

    fn length(&self) -> usize {
        self.length
    }

    fn reused(&self) -> usize {
        self.reused
    }

    fn is_full(&self) -> bool {
        self.model
            .configuration()
            .hard_context()
            .is_some_and(|context| self.length >= context)
    }

    fn fork(&self) -> Result<Box<dyn Session>> {
        let state = match &self.state {
            State::Cached {
                network,
                cache,
                eviction: None,
                observer: None,
            } => State::Cached {
                network: network.clone(),
                cache: cache.clone(),
                eviction: None,
                observer: None,
            },
            State::Shared { lane, unread } => State::Shared {
                lane: lane.fork(!unread.is_empty())?,
                unread: unread.clone(),
            },
            State::Recurrent(memory) => State::Recurrent(memory.clone()),
            State::Cached { .. } => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "a session whose cache plugins manage or observe cannot be copied",
                )
                .advice("begin another session at the same tokens"));
            }
        };
        Ok(Box::new(Self {
            state,
            model: self.model.clone(),
            sampler: self.sampler.clone(),
            energies: self.energies.clone(),
            logits: self.logits.clone(),
            hidden: self.hidden.clone(),
            scratch: Vec::new(),
            computed: self.computed.clone(),
            order: self.order.clone(),
            text: self.text.clone(),
            ..*self
        }))
    }

    fn state_bytes(&self) -> usize {
        self.report().live_bytes
    }

    fn cache(&self) -> Option<CacheReport> {
        Some(self.report())
    }

    fn attention(&self) -> Option<&[Vec<f32>]> {
        match &self.state {
            State::Cached { observer, .. } => {
                let observer = observer.as_ref().filter(|observer| observer.records)?;
                Some(&observer.attention)
            }
            State::Shared { .. } | State::Recurrent(_) => None,
        }
    }
}
