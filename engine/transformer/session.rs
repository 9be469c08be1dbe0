//! A session: one text going through a model, token by token, with what the model remembers of it.

use std::collections::VecDeque;

use crate::kernel::random::Random;
use crate::kernel::softmax;
use crate::path::{Sampling, Walk};
use crate::transformer::flow::{Taps, Want};
use crate::transformer::keeper::{Keeper, Phase};
use crate::transformer::model::Body;
use crate::transformer::probe::Probe;
use crate::transformer::recurrent::Memory;
use crate::transformer::{Cache, CacheReport, Network, Plan, Transformer};
use crate::{Error, ErrorKind, Result};

/// One text going through a shared model.
pub struct Session {
    model: Transformer,
    sampling: Sampling,
    state: State,
    random: Random,
    recent: VecDeque<u32>,
    token: u32,
    length: usize,
    /// Scores of the next token. `[V]`
    scores: Vec<f32>,
    /// The last row after the last norm. `[D]`
    hidden: Vec<f32>,
    spent: Vec<f32>,
}

/// What a technique decides or sees of a session.
#[derive(Default)]
pub struct SessionOptions {
    /// What each layer keeps and how; everything, as it is, without one.
    pub plan: Option<Plan>,
    /// Decides which tokens stay.
    pub keeper: Option<Box<dyn Keeper>>,
    /// Looks on.
    pub probe: Option<Box<dyn Probe>>,
}

enum State {
    Cached {
        /// The network without what the plan does not need.
        network: Box<Network>,
        cache: Cache,
        keeper: Option<Box<dyn Keeper>>,
        probe: Option<Box<dyn Probe>>,
    },
    Recurrent(Memory),
}

impl Session {
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
            keeper,
            probe,
        } = options;
        let plain = plan.is_none() && keeper.is_none() && probe.is_none();
        let state = match &**model.body() {
            Body::Network(network) => {
                let plan = plan.unwrap_or_else(|| Plan::whole(network.shape.layers));
                State::Cached {
                    cache: Cache::new(&network.shape, plan.clone(), 1)?,
                    network: Box::new(network.planned(&plan)?),
                    keeper,
                    probe,
                }
            }
            Body::Recurrent(recurrent) if plain => State::Recurrent(recurrent.memory()),
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
            scores: Vec::new(),
            hidden: Vec::new(),
            spent: Vec::new(),
        };
        session.take(prompt, Phase::Prefill)?;
        Ok(session)
    }

    fn take(&mut self, tokens: &[u32], phase: Phase) -> Result<()> {
        match &mut self.state {
            State::Cached {
                network,
                cache,
                keeper,
                probe,
            } => {
                let mut taps = Taps::default();
                if let Some(keeper) = keeper {
                    taps.keeper = Some(&mut **keeper);
                }
                if let Some(probe) = probe {
                    taps.probe = Some(&mut **probe);
                }
                let passed = network.advance(cache, &[tokens], phase, Want::Last, &mut taps)?;
                self.scores = passed.scores;
                self.hidden = passed.hidden;
            }
            State::Recurrent(memory) => {
                let Body::Recurrent(recurrent) = &**self.model.body() else {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "the model is not recurrent",
                    ));
                };
                for &token in tokens {
                    self.scores = recurrent.step(memory, token)?;
                }
            }
        }
        for &token in tokens {
            self.token = token;
            self.length += 1;
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
    pub fn scores(&self) -> &[f32] {
        &self.scores
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
    pub fn resistance(&mut self, token: u32) -> f64 {
        let score = self.scores.get(token as usize).copied();
        self.spent.clone_from(&self.scores);
        let normaliser = softmax::softmax(&mut self.spent);
        score.map_or(f64::INFINITY, |score| normaliser - f64::from(score))
    }

    /// Bytes and lengths of what is remembered.
    pub fn report(&self) -> CacheReport {
        match &self.state {
            State::Cached { cache, .. } => cache.report(),
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

impl Walk for Session {
    fn step(&mut self) -> Result<Option<u32>> {
        if let Some(token) = self.scores.iter().position(|score| score.is_nan()) {
            return Err(Error::new(ErrorKind::Numeric, "the score is not a number")
                .at(format!("token {token} after {} tokens", self.length))
                .advice("the weights hold values that are not finite"));
        }
        self.spent.clone_from(&self.scores);
        let recent = self.recent.make_contiguous();
        let Some(token) = self
            .sampling
            .choose(&mut self.spent, recent, &mut self.random)
        else {
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

    fn inject(&mut self, token: u32, energy: f32) -> Result<()> {
        match self.scores.get_mut(token as usize) {
            // The scores are those of the next choice, and are made anew after it.
            Some(score) if energy.is_finite() => {
                *score += energy;
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
