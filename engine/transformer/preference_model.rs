//! Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7) from likelihoods of pairs, without
//! a reward model and sampling.
//!
//! ```text
//! loss = −ln σ( β [ ln p(chosen | prompt) − ln p₀(chosen | prompt) − ln p(rejected | prompt) + ln p₀(rejected | prompt) ] )
//! ```
//!
//! p₀ is the network at the start of training. BatGPT reports training on preferences without publishing how.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;

use crate::kernel::random::Random;
use crate::learn::Trainable;
use crate::learn::adamw::Moments;
use crate::learn::batch::Batch;
use crate::learn::batch::Loss;
use crate::learn::data::TokenData;
use crate::learn::parameter::Parameter;
use crate::learn::preferences::{Preference, Preferences};
use crate::learn::recipe::{Kind, Recipe};
use crate::text::{ReadingDirection, Tokenizer};
use crate::transformer::batch::{Dropout, TokenBatch, cross_entropy};
use crate::transformer::model::Body;
use crate::transformer::network_model::NetworkModel;
use crate::transformer::operation::to_vec;
use crate::{Error, ErrorKind, Result};

/// Random stream of the order of pairs.
const ORDER: u64 = 0x7072_6566;

/// Tokens of a prompt and an answer.
#[derive(Clone, Debug)]
struct Answer {
    ids: Vec<u32>,
    /// Index of the answer's first token.
    from: usize,
}

/// Two answers to one prompt.
#[derive(Clone, Debug)]
struct Pair {
    chosen: Answer,
    rejected: Answer,
    /// ln p₀(chosen) − ln p₀(rejected).
    reference: f64,
}

/// A gpt or lstm in training on preferences.
pub struct PreferenceModel {
    network: NetworkModel,
    settings: Preferences,
    seed: u64,
    pairs: Vec<Pair>,
}

impl PreferenceModel {
    /// Read the pairs of a recipe; paths in it are relative to `base`. The network must have its initial weights: the
    /// likelihoods they give are the reference.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a recipe without preferences or of another kind; as [`Preferences::read`].
    pub fn new(
        recipe: &Recipe,
        data: &TokenData,
        base: &Path,
        network: NetworkModel,
    ) -> Result<Self> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::Configuration, what.to_string()));
        let Some(settings) = recipe.preferences.clone() else {
            return invalid("the run file has no [preferences]");
        };
        if !matches!(recipe.kind, Kind::Gpt | Kind::Lstm)
            || recipe.data.direction != ReadingDirection::Forward
        {
            return invalid("[preferences] needs kind gpt or lstm and direction forward");
        }
        let context = network.body().configuration().hard_context();
        let pairs = settings
            .read(base)?
            .iter()
            .enumerate()
            .map(|(number, preference)| {
                let [chosen, rejected] = answers(preference, &data.tokenizer)?;
                for answer in [&chosen, &rejected] {
                    if context.is_some_and(|context| answer.ids.len() > context + 1) {
                        return Err(Error::new(
                            ErrorKind::Input,
                            format!("{} tokens exceed the network's context", answer.ids.len()),
                        )
                        .at(format!("preference {}", number + 1)));
                    }
                }
                Ok(Pair {
                    chosen,
                    rejected,
                    reference: 0.0,
                })
            })
            .collect::<Result<Vec<Pair>>>()?;
        let mut network_model = Self {
            network,
            seed: recipe.seed,
            settings,
            pairs,
        };
        // A resumed run restores its weights after this: the reference is that of the initial weights.
        // In groups: the logits of all tokens of all pairs would not fit in memory.
        for first in (0..network_model.pairs.len()).step_by(32) {
            let group: Vec<usize> = (first..(first + 32).min(network_model.pairs.len())).collect();
            let margins = to_vec(&network_model.margins(&group, None)?.detach())?;
            for (&pair, margin) in group.iter().zip(margins) {
                network_model.pairs[pair].reference = f64::from(margin);
            }
        }
        Ok(network_model)
    }

    /// Compute ln p(chosen) − ln p(rejected) of pairs with the current weights. `[P]`
    fn margins(&self, pairs: &[usize], dropout: Option<Dropout>) -> Result<Tensor> {
        let answers: Vec<&Answer> = pairs
            .iter()
            .flat_map(|&pair| [&self.pairs[pair].chosen, &self.pairs[pair].rejected])
            .collect();
        // Chosen and rejected answers alternate in one batch: one forward pass for both.
        let length = answers.iter().map(|answer| answer.ids.len() - 1).max();
        let length = length.unwrap_or(1);
        let mut input = TokenBatch::new(Vec::new(), length);
        // The sum of signed losses of answer tokens, −1 · −ln p for chosen and 1 · −ln p for rejected ones.
        let (mut targets, mut signs) = (Vec::new(), Vec::new());
        for (index, answer) in answers.iter().enumerate() {
            let valid = answer.ids.len() - 1;
            // Σ sign · (−ln p) = ln p(chosen) − ln p(rejected).
            let sign = if index % 2 == 0 { -1.0f32 } else { 1.0 };
            for t in 0..length {
                // Padding at the end is not visible to earlier positions, and has sign 0.
                input.tokens.push(answer.ids[t.min(valid - 1)]);
                targets.push(answer.ids[(t + 1).min(valid)]);
                let inside = t + 1 >= answer.from && t < valid;
                signs.push(if inside { sign } else { 0.0 });
            }
        }
        let body: &Body = self.network.body();
        let losses = cross_entropy(&body.logits(&body.forward(&input, dropout)?)?, &targets)?;
        let signs = Tensor::from_vec(signs, losses.dims(), &Device::Cpu)?;
        Ok((losses * signs)?
            .reshape((pairs.len(), 2 * length))?
            .sum(1)?)
    }

    /// Compute the loss of each pair. `[P]`
    fn losses(&self, pairs: &[usize], dropout: Option<Dropout>) -> Result<Tensor> {
        let reference: Vec<f32> = pairs
            .iter()
            .map(|&pair| self.pairs[pair].reference as f32)
            .collect();
        let reference = Tensor::from_vec(reference, pairs.len(), &Device::Cpu)?;
        // x = −β (margin − reference margin).
        let gain = ((self.margins(pairs, dropout)? - reference)? * -self.settings.beta)?;
        // −ln σ(−x) = ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|), finite for every x.
        let rest = (gain.abs()?.neg()?.exp()? + 1.0)?.log()?;
        Ok((gain.relu()? + rest)?)
    }

    /// Compute the gradients of the mean loss of pairs. Returns the sum of their losses.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a pair that does not exist; [`ErrorKind::Numeric`] for a loss that is not finite.
    pub fn gradients(&mut self, pairs: &[usize], dropout: Option<Dropout>) -> Result<Loss> {
        if pairs.is_empty() || pairs.iter().any(|&pair| pair >= self.pairs.len()) {
            return Err(Error::new(
                ErrorKind::Input,
                "no pair, or one that does not exist",
            ));
        }
        let losses = self.losses(pairs, dropout)?;
        let losses_now = to_vec(&losses.detach())?;
        let nats: f64 = losses_now.iter().map(|&loss| f64::from(loss)).sum();
        if !nats.is_finite() {
            return Err(Error::new(ErrorKind::Numeric, "the loss is not finite")
                .advice("lower train.rate; the last checkpoint is valid"));
        }
        self.network.backward(&losses)?;
        Ok(Loss {
            nats,
            tokens: pairs.len(),
        })
    }

    /// Count the pairs, and those whose chosen answer gained on the rejected one since the start.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when arithmetic fails.
    pub fn preferred(&self) -> Result<(usize, usize)> {
        let mut won = 0;
        for first in 0..self.pairs.len() {
            let now = to_vec(&self.margins(&[first], None)?.detach())?;
            // The margin of ln p grew over that of the initial network.
            won += usize::from(f64::from(now[0]) > self.pairs[first].reference);
        }
        Ok((self.pairs.len(), won))
    }

    /// Return the pairs of a step. Each pair is used once in an epoch, in a new random order.
    fn of_step(&self, step: u64) -> Vec<usize> {
        let (batch, all) = (self.settings.batch as u64, self.pairs.len() as u64);
        (0..batch)
            .map(|index| {
                let at = (step - 1) * batch + index;
                // Pair number `at` of the run is entry `at mod P` of epoch ⌊at / P⌋'s permutation.
                let mut order: Vec<usize> = (0..all as usize).collect();
                Random::stream(self.seed, ORDER, at / all).shuffle(&mut order);
                order[(at % all) as usize]
            })
            .collect()
    }
}

/// Encode both answers of a prompt.
fn answers(preference: &Preference, tokenizer: &Tokenizer) -> Result<[Answer; 2]> {
    let mut prompt = tokenizer.frame().0;
    prompt.extend(tokenizer.encode(&preference.prompt)?);
    let answer = |text: &str| -> Result<Answer> {
        let new = tokenizer.encode(text)?;
        if prompt.is_empty() || new.is_empty() {
            return Err(Error::new(ErrorKind::Input, "a prompt or answer is empty")
                .at(format!("{:?}", preference.prompt)));
        }
        Ok(Answer {
            from: prompt.len(),
            ids: [prompt.as_slice(), &new].concat(),
        })
    };
    Ok([answer(&preference.chosen)?, answer(&preference.rejected)?])
}

impl Trainable for PreferenceModel {
    fn learn(&mut self, _batch: &mut Batch, step: u64) -> Result<(Loss, Option<f64>)> {
        let dropout = self.network.dropout(step);
        let loss = self.gradients(&self.of_step(step), Some(dropout))?;
        let norm = self.network.update(step)?;
        Ok((loss, Some(norm)))
    }

    /// Measure the loss on text, to see what training on preferences costs.
    fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        self.network.loss(batch)
    }

    fn state(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]) {
        self.network.state()
    }

    fn restore(&mut self, notes: &Value) -> Result<()> {
        self.network.restore(notes)
    }

    fn save(&mut self, path: &Path, training: Value) -> Result<()> {
        self.network.save(path, training)
    }

    fn file(&self, stem: &str) -> String {
        self.network.file(stem)
    }

    fn about(&self) -> String {
        format!("{}, {} preferences", self.network.about(), self.pairs.len())
    }

    fn candidates(&self) -> usize {
        self.network.candidates()
    }

    fn keeps_best(&self) -> bool {
        false
    }
}
