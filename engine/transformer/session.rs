//! A session: one text going through a model, token by token, with what the model remembers of it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hook;
use crate::kernel::random::Random;
use crate::kernel::softmax;
use crate::path::{SamplerChain, Sampling, Session, StepContext};
use crate::transformer::advance::{LogitsFor, Taps};
use crate::transformer::eviction::{EvictionPolicy, Phase};
use crate::transformer::model::Body;
use crate::transformer::probe::Probe;
use crate::transformer::recurrent::RecurrentState;
use crate::transformer::{Cache, CacheReport, Network, Plan, Transformer};
use crate::{Error, ErrorKind, Result};

/// One text going through a shared model.
pub struct TransformerSession {
    model: Transformer,
    sampling: Sampling,
    state: State,
    random: Random,
    recent: VecDeque<u32>,
    token: u32,
    length: usize,
    /// Scores of the next token. `[V]`
    logits: Vec<f32>,
    /// The last row after the last norm. `[D]`
    hidden: Vec<f32>,
    spent: Vec<f32>,
    /// Rows of the prompt that each layer computed. `[L]`
    computed: Vec<usize>,
    sampler_chain: Option<SamplerChain>,
    order: Option<Arc<dyn hook::Order>>,
    /// The text so far, where `order/1` is asked.
    text: Vec<u32>,
}

/// What a technique decides or sees of a session.
#[derive(Default)]
pub struct SessionOptions {
    /// What each layer keeps and how; everything, as it is, without one.
    pub plan: Option<Plan>,
    /// Decides which tokens stay.
    pub eviction: Option<Box<dyn EvictionPolicy>>,
    /// Looks on.
    pub probe: Option<Box<dyn Probe>>,
    /// Reshapes scores and chooses (`sample/1`).
    pub sampler_chain: Option<SamplerChain>,
    /// Says where the text grows (`order/1`).
    pub order: Option<Arc<dyn hook::Order>>,
}

enum State {
    Cached {
        /// The network without what the plan does not need.
        network: Box<Network>,
        cache: Cache,
        eviction: Option<Box<dyn EvictionPolicy>>,
        probe: Option<Box<dyn Probe>>,
    },
    Recurrent(RecurrentState),
}

impl TransformerSession {
    /// A session that has taken the prompt, every layer keeping all of it.
    ///
    /// # Errors
    /// As [`Self::begin_with`].
    pub fn begin(model: &Transformer, prompt: &[u32], sampling: Sampling) -> Result<Self> {
        Self::begin_with(model, prompt, sampling, SessionOptions::default())
    }

    /// A session that has taken the prompt, with what a technique decides about its cache or sees of it.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty prompt, a token outside the vocabulary, a prompt longer than a learned
    /// context, a sampling option out of range; [`ErrorKind::Unsupported`] for a model that sees both sides, or
    /// a plan for one without layers of attention.
    pub fn begin_with(
        model: &Transformer,
        prompt: &[u32],
        sampling: Sampling,
        options: SessionOptions,
    ) -> Result<Self> {
        sampling.check()?;
        let Some(&token) = prompt.last() else {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: there is nothing to follow",
            )
            .advice("give at least one token"));
        };
        let SessionOptions {
            plan,
            eviction,
            probe,
            sampler_chain,
            order,
        } = options;
        let plain = plan.is_none() && eviction.is_none() && probe.is_none();
        let state = match &**model.body() {
            Body::Network(network) => {
                let plan = plan.unwrap_or_else(|| Plan::full(network.shape.layers));
                State::Cached {
                    cache: Cache::new(&network.shape, plan.clone(), 1)?,
                    network: Box::new(network.for_plan(&plan)?),
                    eviction,
                    probe,
                }
            }
            Body::Recurrent(recurrent) if plain => State::Recurrent(recurrent.initial_state()),
            Body::Recurrent(_) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "a recurrent net has no cache to plan and no taps",
                ));
            }
        };
        let mut session = Self {
            random: Random::new(sampling.seed),
            model: model.clone(),
            sampling,
            state,
            recent: VecDeque::new(),
            token,
            length: 0,
            logits: Vec::new(),
            hidden: Vec::new(),
            spent: Vec::new(),
            computed: Vec::new(),
            sampler_chain,
            order,
            text: Vec::new(),
        };
        session.take(prompt, Phase::Prefill)?;
        Ok(session)
    }

    fn take(&mut self, tokens: &[u32], phase: Phase) -> Result<()> {
        match &mut self.state {
            State::Cached {
                network,
                cache,
                eviction,
                probe,
            } => {
                let mut taps = Taps::default();
                if let Some(eviction) = eviction {
                    taps.eviction = Some(&mut **eviction);
                }
                if let Some(probe) = probe {
                    taps.probe = Some(&mut **probe);
                }
                // The mean over a prompt needs all of its rows.
                let pools = self.sampler_chain.as_ref().is_some_and(SamplerChain::pools);
                let logits_for = if pools {
                    LogitsFor::All
                } else {
                    LogitsFor::Last
                };
                let passed = network.advance(cache, &[tokens], phase, logits_for, &mut taps)?;
                if phase == Phase::Prefill {
                    self.computed = passed.computed.clone();
                }
                let last = passed.rows.len().saturating_sub(1);
                self.logits = passed.row(last).to_vec();
                let width = passed.hidden.len() / passed.rows.len().max(1);
                self.hidden = passed.hidden[last * width..].to_vec();
                if let Some(sampler_chain) = &mut self.sampler_chain {
                    let mut rows = passed
                        .rows
                        .iter()
                        .zip(passed.hidden.chunks(width))
                        .peekable();
                    for (&token, position) in tokens.iter().zip(self.length as u32..) {
                        // A row that was pruned on the way has no state at the end.
                        let row = rows.next_if(|(row, _)| row.position == position);
                        sampler_chain.pass(token, row.map_or(&[], |(_, hidden)| hidden));
                    }
                }
            }
            State::Recurrent(memory) => {
                let Body::Recurrent(recurrent) = &**self.model.body() else {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "the model is not recurrent",
                    ));
                };
                for &token in tokens {
                    self.logits = recurrent.step(memory, token)?;
                    if let Some(sampler_chain) = &mut self.sampler_chain {
                        sampler_chain.pass(token, &[]);
                    }
                }
            }
        }
        for &token in tokens {
            self.token = token;
            self.length += 1;
            if self.order.is_some() {
                self.text.push(token);
            }
            if self.sampling.repetition_penalty != 1.0 && self.sampling.penalty_window > 0 {
                while self.recent.len() >= self.sampling.penalty_window {
                    self.recent.pop_front();
                }
                self.recent.push_back(token);
            }
        }
        Ok(())
    }

    /// Scores of all V tokens as the next one; their softmax is the model's distribution. `[V]`
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The hidden state that the scores come from, after the last norm; empty for a recurrent net. `[D]`
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }

    /// The model.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// Tokens taken so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How tokens are chosen; may be changed between steps.
    pub fn sampling_mut(&mut self) -> &mut Sampling {
        &mut self.sampling
    }

    /// −ln p of `token` as the next one, over all V.
    ///
    /// With hooks of `sample/1`, p is what would be drawn from.
    ///
    /// # Errors
    /// Whatever a hook meets.
    pub fn resistance(&mut self, token: u32) -> Result<f64> {
        let logit = self.logits.get(token as usize).copied();
        self.spent.clone_from(&self.logits);
        if let Some(sampler_chain) = &mut self.sampler_chain {
            let context = StepContext {
                step: (self.length - 1) as u64,
                token: self.token,
                hidden: &self.hidden,
            };
            return sampler_chain.resistance(&context, &mut self.spent, token);
        }
        let normaliser = softmax::softmax(&mut self.spent);
        Ok(logit.map_or(f64::INFINITY, |logit| normaliser - f64::from(logit)))
    }

    /// `order/1`: a causal model grows at its end alone.
    fn check_order(&mut self) -> Result<()> {
        let Some(order) = self.order.clone() else {
            return Ok(());
        };
        self.spent.clone_from(&self.logits);
        let normaliser = softmax::softmax(&mut self.spent);
        let best = self
            .logits
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let canvas = hook::Canvas {
            tokens: &self.text,
            left: 0,
            right: self.text.len() as u64,
            left_resistance: f64::NAN,
            right_resistance: normaliser - f64::from(best),
        };
        let call = hook::Call::new(self.sampling.seed, 0, (self.length - 1) as u64);
        match order.next(&call, &canvas)? {
            None => Ok(()),
            Some(place)
                if place.position == canvas.right
                    && place.direction == hook::Direction::Forward =>
            {
                Ok(())
            }
            Some(place) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "place {} of a text that grows at its end alone",
                    place.position
                ),
            )
            .at(format!("order/1, step {}", call.step))
            .advice("use a bert, which fills any place, or a graph")),
        }
    }

    /// Bytes and lengths of what is remembered.
    pub fn report(&self) -> CacheReport {
        match &self.state {
            State::Cached { cache, .. } => CacheReport {
                computed: self.computed.clone(),
                ..cache.report()
            },
            State::Recurrent(memory) => CacheReport {
                live_bytes: memory.bytes(),
                allocated_bytes: memory.bytes(),
                ..CacheReport::default()
            },
        }
    }

    /// The cache, where the model has one.
    pub fn cache(&self) -> Option<&Cache> {
        match &self.state {
            State::Cached { cache, .. } => Some(cache),
            State::Recurrent(_) => None,
        }
    }
}

impl Session for TransformerSession {
    fn step(&mut self) -> Result<Option<u32>> {
        if let Some(token) = self.logits.iter().position(|logit| logit.is_nan()) {
            return Err(Error::new(ErrorKind::Numeric, "the score is not a number")
                .at(format!("token {token} after {} tokens", self.length))
                .advice("the weights hold values that are not finite"));
        }
        self.check_order()?;
        self.spent.clone_from(&self.logits);
        let recent = self.recent.make_contiguous();
        let (logits, random) = (&mut self.spent, &mut self.random);
        let chosen = match &mut self.sampler_chain {
            Some(sampler_chain) => {
                let context = StepContext {
                    step: (self.length - 1) as u64,
                    token: self.token,
                    hidden: &self.hidden,
                };
                sampler_chain.pick(&context, &self.sampling, logits, recent, random)?
            }
            None => self.sampling.choose(logits, recent, random),
        };
        let Some(token) = chosen else {
            return Ok(None);
        };
        if self.is_full() {
            // The last token has a place in the text, but none in the model's context.
            self.token = token;
            self.length += 1;
            return Ok(Some(token));
        }
        self.force(token)?;
        Ok(Some(token))
    }

    fn force(&mut self, token: u32) -> Result<()> {
        self.take(&[token], Phase::Decode)
    }

    fn resistance(&mut self, token: u32) -> Result<f64> {
        Self::resistance(self, token)
    }

    fn inject(&mut self, token: u32, energy: f32) -> Result<()> {
        match self.logits.get_mut(token as usize) {
            // The scores are those of the next choice, and are made anew after it.
            Some(logit) if energy.is_finite() => {
                *logit += energy;
                Ok(())
            }
            _ => Err(Error::new(
                ErrorKind::Input,
                format!("energy {energy} cannot be injected at token {token}"),
            )),
        }
    }

    fn token(&self) -> u32 {
        self.token
    }

    fn is_full(&self) -> bool {
        self.model
            .configuration()
            .hard_context()
            .is_some_and(|context| self.length >= context)
    }
}
