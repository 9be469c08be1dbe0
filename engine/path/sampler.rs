//! The sampler of a session: its options, hooks, random numbers and recent tokens.

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::random::Random;
use crate::kernel::softmax;
use crate::path::{History, SamplerChain, Sampling, StepContext};
use crate::{Error, ErrorKind, Result};

/// Chooses the tokens of one sequence. Sessions of both engines choose through it.
#[derive(Clone, Debug)]
pub struct Sampler {
    pub(super) sampling: Sampling,
    pub(super) chain: Option<SamplerChain>,
    pub(super) random: Random,
    /// Tokens of the penalty window; empty without a penalty.
    pub(super) recent: VecDeque<u32>,
    /// How often each new token was chosen; empty without presence and frequency penalties.
    pub(super) counts: BTreeMap<u32, u32>,
}

impl Sampler {
    /// Create the sampler of a new sequence.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an option out of range.
    pub fn new(sampling: Sampling, chain: Option<SamplerChain>) -> Result<Self> {
        sampling.check()?;
        Ok(Self {
            random: Random::new(sampling.seed),
            recent: VecDeque::new(),
            counts: BTreeMap::new(),
            sampling,
            chain,
        })
    }

    /// Return the options, which may change between steps.
    pub fn sampling_mut(&mut self) -> &mut Sampling {
        &mut self.sampling
    }

    /// Whether hooks take part in choices.
    pub fn has_hooks(&self) -> bool {
        self.chain.is_some()
    }

    /// Whether hooks still need the hidden state of each prompt token.
    pub fn pools(&self) -> bool {
        self.chain.as_ref().is_some_and(SamplerChain::pools)
    }

    /// Record a token of the sequence. `hidden [D]` is the state there; empty where it is unknown.
    pub fn observe(&mut self, token: u32, hidden: &[f32]) {
        if let Some(chain) = &mut self.chain {
            chain.observe(token, hidden);
        }
        if self.sampling.repetition_penalty == 1.0 || self.sampling.penalty_window == 0 {
            return;
        }
        // More than one may leave: the window can be changed between steps.
        while self.recent.len() >= self.sampling.penalty_window {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// Choose the next token; see [`Sampling::choose`]. `logits [V]` are overwritten. `None` when no token is left.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] for logits without a softmax; those of the hooks.
    pub fn choose(&mut self, context: &StepContext<'_>, logits: &mut [f32]) -> Result<Option<u32>> {
        let history = History {
            recent: self.recent.make_contiguous(),
            counts: &self.counts,
        };
        let hooks = self.chain.as_mut().map(|chain| (chain, context));
        let chosen = self
            .sampling
            .choose_with(logits, &history, &mut self.random, hooks)
            .map_err(|error| match error.kind() {
                ErrorKind::Numeric => error.at(format!("step {}", context.step)),
                _ => error,
            })?;
        if let Some(token) = chosen
            && self.sampling.counts_nodes()
        {
            *self.counts.entry(token).or_default() += 1;
        }
        Ok(chosen)
    }

    /// Return −ln p of `token`, with the hooks' changes to the logits and temperature. `logits [V]` are overwritten.
    ///
    /// # Errors
    /// Those of the hooks; [`ErrorKind::Input`] when one sets the temperature to 0, which leaves no probabilities;
    /// [`ErrorKind::Numeric`] for logits without a softmax.
    pub fn resistance(
        &mut self,
        context: &StepContext<'_>,
        logits: &mut [f32],
        token: u32,
    ) -> Result<f64> {
        if let Some(chain) = &mut self.chain
            && let Some(temperature) = chain.sample(context, logits)?.temperature
        {
            if temperature == 0.0 {
                return Err(Error::new(
                    ErrorKind::Input,
                    "perplexity is undefined at temperature 0",
                )
                .advice("set the plugin's temperature above 0"));
            }
            logits.iter_mut().for_each(|logit| *logit /= temperature);
        }
        check_logits(logits)?;
        // −ln p = ln Σ exp(logit) − logit. Read first: the softmax overwrites the logits and returns the sum's
        // logarithm.
        let logit = logits.get(token as usize).copied();
        let normaliser = softmax::softmax(logits);
        Ok(logit.map_or(f64::INFINITY, |logit| normaliser - f64::from(logit)))
    }
}

/// Check that the biased and banned tokens are in a vocabulary of `vocabulary` tokens.
///
/// # Errors
/// [`ErrorKind::Input`], naming the option and the token.
pub(crate) fn check_tokens(sampling: &Sampling, vocabulary: usize) -> Result<()> {
    let biased = sampling
        .logit_bias
        .iter()
        .map(|bias| ("logit bias", bias.0));
    let banned = sampling.banned.iter().map(|&token| ("banned token", token));
    let mut tokens = biased.chain(banned);
    match tokens.find(|&(_, token)| token as usize >= vocabulary) {
        None => Ok(()),
        Some((option, token)) => Err(Error::new(
            ErrorKind::Input,
            format!("{option}: token {token} is outside the vocabulary of {vocabulary}"),
        )),
    }
}

/// Check that the softmax of logits consists of numbers: none is NaN or +∞, and one is above −∞. `[V]`
///
/// # Errors
/// [`ErrorKind::Numeric`].
pub fn check_logits(logits: &[f32]) -> Result<()> {
    let invalid = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    let overflowed = match logits.iter().position(invalid) {
        None if logits.len() < 2 || logits.iter().any(|logit| logit.is_finite()) => return Ok(()),
        None => "no logit is finite".to_string(),
        Some(token) => format!("the logit of token {token} is {}", logits[token]),
    };
    Err(not_a_number(overflowed))
}

/// Describe logits without a softmax; `what` is the number that shows it.
pub(super) fn not_a_number(what: String) -> Error {
    Error::new(ErrorKind::Numeric, "a probability is not a number")
        .at(what)
        .advice("the weights or their products are too large for f32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_without_a_softmax_are_an_error() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for sampling in [Sampling::greedy(), Sampling::default()] {
            for logits in [[1.0, inf], [nan, 1.0], [-inf, -inf], [inf, inf], [nan, nan]] {
                let error = sampling
                    .choose(
                        &mut logits.clone(),
                        &History::default(),
                        &mut Random::new(1),
                    )
                    .expect_err(&format!("{logits:?}"));
                assert_eq!(error.kind(), ErrorKind::Numeric, "{error}");
            }
            let mut one = [1.0, -inf];
            let chosen = sampling.choose(&mut one, &History::default(), &mut Random::new(1));
            assert_eq!(chosen.unwrap(), Some(0));
        }
    }
}
