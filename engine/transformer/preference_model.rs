//! Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7): no reward model and no
//! sampling, only likelihoods of pairs.
//!
//! ```text
//! loss = −ln σ( β [ ln p(chosen | prompt) − ln p₀(chosen | prompt) − ln p(rejected | prompt) + ln p₀(rejected | prompt) ] )
//! ```
//!
//! p₀ is the network as it was when training began. BatGPT says that preferences were used; how is not published.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;

use crate::kernel::random::Random;
use crate::learn::Trainable;
use crate::learn::adamw::Moments;
use crate::learn::batch::Batch;
use crate::learn::composed::Loss;
use crate::learn::data::TokenData;
use crate::learn::parameter::Parameter;
use crate::learn::preferences::{Preference, Preferences};
use crate::learn::recipe::{Kind, Recipe, Train};
use crate::text::{Reading, Tokenizer};
use crate::transformer::batch::{Dropout, TokenBatch, cross_entropy};
use crate::transformer::model::Body;
use crate::transformer::network_model::NetworkModel;
use crate::transformer::operation::to_vec;
use crate::{Error, ErrorKind, Result};

/// The random stream of the order of pairs.
const ORDER: u64 = 0x7072_6566;

/// A text whose last tokens are an answer.
#[derive(Clone, Debug)]
struct Answer {
    ids: Vec<u32>,
    /// The first token of the answer.
    from: usize,
}

/// Two answers to one prompt, and how much likelier the chosen one was when training began.
#[derive(Clone, Debug)]
struct Pair {
    chosen: Answer,
    rejected: Answer,
    margin: f64,
}

/// A gpt or lstm that learns preferences.
pub struct PreferenceModel {
    own: NetworkModel,
    settings: Preferences,
    seed: u64,
    pairs: Vec<Pair>,
}

impl PreferenceModel {
    /// The network of a recipe and its pairs; files are relative to `base`. Weights must not have moved yet: what they
    /// say of the pairs is the measure.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a recipe without preferences or of another kind; as [`Preferences::read`].
    pub fn new(recipe: &Recipe, data: &TokenData, base: &Path, own: NetworkModel) -> Result<Self> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Configuration, what.to_string()));
        let Some(settings) = recipe.preferences.clone() else {
            return wrong("the recipe has no [preferences]");
        };
        if !matches!(recipe.kind, Kind::Gpt | Kind::Lstm)
            || recipe.data.direction != Reading::Forward
        {
            return wrong("preferences are learned by a gpt or lstm that reads forward");
        }
        let context = own.body().configuration().hard_context();
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
                            format!(
                                "{} tokens are beyond the network's context",
                                answer.ids.len()
                            ),
                        )
                        .at(format!("preference {}", number + 1)));
                    }
                }
                Ok(Pair {
                    chosen,
                    rejected,
                    margin: 0.0,
                })
            })
            .collect::<Result<Vec<Pair>>>()?;
        let mut network_model = Self {
            own,
            seed: recipe.seed,
            settings,
            pairs,
        };
        // Whoever resumes finds the weights moved only after this.
        for first in (0..network_model.pairs.len()).step_by(32) {
            let group: Vec<usize> = (first..(first + 32).min(network_model.pairs.len())).collect();
            let margins = to_vec(&network_model.margins(&group, None)?.detach())?;
            for (&pair, margin) in group.iter().zip(margins) {
                network_model.pairs[pair].margin = f64::from(margin);
            }
        }
        Ok(network_model)
    }

    /// ln p(chosen) − ln p(rejected) of pairs, as the weights are now. `[P]`
    fn margins(&self, pairs: &[usize], dropout: Option<Dropout>) -> Result<Tensor> {
        let answers: Vec<&Answer> = pairs
            .iter()
            .flat_map(|&pair| [&self.pairs[pair].chosen, &self.pairs[pair].rejected])
            .collect();
        let length = answers.iter().map(|answer| answer.ids.len() - 1).max();
        let length = length.unwrap_or(1);
        let mut input = TokenBatch {
            length,
            ..TokenBatch::default()
        };
        let (mut targets, mut counted) = (Vec::new(), Vec::new());
        for (at, answer) in answers.iter().enumerate() {
            let valid = answer.ids.len() - 1;
            let sign = if at % 2 == 0 { -1.0f32 } else { 1.0 };
            for place in 0..length {
                // What stands beyond the end is seen by nobody before it, and not counted.
                input.tokens.push(answer.ids[place.min(valid - 1)]);
                targets.push(answer.ids[(place + 1).min(valid)]);
                let inside = place + 1 >= answer.from && place < valid;
                counted.push(if inside { sign } else { 0.0 });
            }
        }
        let body: &Body = self.own.body();
        let losses = cross_entropy(&body.logits(&body.forward(&input, dropout)?)?, &targets)?;
        let counted = Tensor::from_vec(counted, losses.dims(), &Device::Cpu)?;
        Ok((losses * counted)?
            .reshape((pairs.len(), 2 * length))?
            .sum(1)?)
    }

    /// The loss of each pair. `[P]`
    fn losses(&self, pairs: &[usize], dropout: Option<Dropout>) -> Result<Tensor> {
        let begun: Vec<f32> = pairs
            .iter()
            .map(|&pair| self.pairs[pair].margin as f32)
            .collect();
        let begun = Tensor::from_vec(begun, pairs.len(), &Device::Cpu)?;
        let gain = ((self.margins(pairs, dropout)? - begun)? * -self.settings.beta)?;
        // ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|), which no x makes infinite.
        let rest = (gain.abs()?.neg()?.exp()? + 1.0)?.log()?;
        Ok((gain.relu()? + rest)?)
    }

    /// The gradients of the mean loss of pairs, put into [`Trainable::state`], and the sum of their losses.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a pair that is not there; [`ErrorKind::Numeric`] for a loss that is not finite.
    pub fn gradients(&mut self, pairs: &[usize], dropout: Option<Dropout>) -> Result<Loss> {
        if pairs.is_empty() || pairs.iter().any(|&pair| pair >= self.pairs.len()) {
            return Err(Error::new(ErrorKind::Input, "there is no such pair"));
        }
        let losses = self.losses(pairs, dropout)?;
        let losses_now = to_vec(&losses.detach())?;
        let nats: f64 = losses_now.iter().map(|&loss| f64::from(loss)).sum();
        if !nats.is_finite() {
            return Err(
                Error::new(ErrorKind::Numeric, "the loss is no longer finite")
                    .advice("lower train.rate; the last checkpoint is whole"),
            );
        }
        self.own.backward(&losses)?;
        Ok(Loss {
            nats,
            tokens: pairs.len(),
        })
    }

    /// Pairs, and how many of them have the chosen answer gained on the rejected one.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when arithmetic fails.
    pub fn preferred(&self) -> Result<(usize, usize)> {
        let mut won = 0;
        for first in 0..self.pairs.len() {
            let now = to_vec(&self.margins(&[first], None)?.detach())?;
            won += usize::from(f64::from(now[0]) > self.pairs[first].margin);
        }
        Ok((self.pairs.len(), won))
    }

    /// The pairs of a step: each once before any comes again, in an order of its own.
    fn of_step(&self, step: u64) -> Vec<usize> {
        let (batch, all) = (self.settings.batch as u64, self.pairs.len() as u64);
        (0..batch)
            .map(|index| {
                let at = (step - 1) * batch + index;
                let mut order: Vec<usize> = (0..all as usize).collect();
                Random::stream(self.seed, ORDER, at / all).shuffle(&mut order);
                order[(at % all) as usize]
            })
            .collect()
    }
}

/// Both answers behind their prompt.
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
    fn learn(
        &mut self,
        _batch: &mut Batch,
        train: &Train,
        step: u64,
    ) -> Result<(Loss, Option<f64>)> {
        let dropout = Dropout {
            rate: train.dropout,
            seed: self.seed,
            step,
        };
        let loss = self.gradients(&self.of_step(step), Some(dropout))?;
        let norm = self.own.advance(train, step)?;
        Ok((loss, Some(norm)))
    }

    /// The text's loss, as of any network: what preferences cost.
    fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        self.own.loss(batch)
    }

    fn state(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]) {
        self.own.state()
    }

    fn restore(&mut self, notes: &Value) -> Result<()> {
        self.own.restore(notes)
    }

    fn save(&mut self, path: &Path, training: Value) -> Result<()> {
        self.own.save(path, training)
    }

    fn file(&self, stem: &str) -> String {
        self.own.file(stem)
    }

    fn about(&self) -> String {
        format!("{}, {} preferences", self.own.about(), self.pairs.len())
    }

    fn candidates(&self) -> usize {
        self.own.candidates()
    }

    fn keeps_best(&self) -> bool {
        false
    }
}
