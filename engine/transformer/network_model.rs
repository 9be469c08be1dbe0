//! A network as the training loop sees it: the same batches, optimiser, logs and checkpoints as a graph.

use std::path::Path;

use candle_core::Tensor;
use serde_json::{Value, json};

use crate::hook::Hooks;
use crate::kernel::random::Random;
use crate::learn::Trainable;
use crate::learn::adamw::Moments;
use crate::learn::batch::Batch;
use crate::learn::composed::Loss;
use crate::learn::data::TokenData;
use crate::learn::parameter::Parameter;
use crate::learn::recipe::{Kind, Recipe, Train};
use crate::text::{LEFT_TO_RIGHT, RIGHT_TO_LEFT, Reading, Tokenizer};
use crate::transformer::batch::{Dropout, TokenBatch, cross_entropy};
use crate::transformer::masked_training::MaskedTraining;
use crate::transformer::masking::{MASK_FRACTION, Masking, mask_tokens};
use crate::transformer::model::Body;
use crate::transformer::operation::to_vec;
use crate::transformer::variables::{Variables, Weight};
use crate::transformer::{Architecture, Configuration, Weights, folder, initial};
use crate::{Error, ErrorKind, Result};

/// The random stream of hidden tokens in validation.
const HIDING: u64 = 0x6869_6465;
const HELD_OUT: u64 = 0x6865_6c64;
/// The random stream of sequences that are read backward.
const TURNING: u64 = 0x7475_726e;

/// A gpt, bert or lstm under training.
pub struct NetworkModel {
    recipe: Recipe,
    tokenizer: Tokenizer,
    body: Body,
    variables: Variables,
    masking: MaskedTraining,
    /// `<l2r>` and `<r2l>`, where it learns to read both ways.
    marks: Option<[u32; 2]>,
}

impl NetworkModel {
    /// Fresh weights for a recipe and its tokens; its files are relative to `base`. Of the hooks `mask/1` is asked.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a recipe of a graph.
    pub fn new(recipe: &Recipe, data: &TokenData, base: &Path, hooks: &Hooks) -> Result<Self> {
        if recipe.kind == Kind::Graph {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the recipe trains a graph",
            ));
        }
        let tokens = data.tokenizer.vocabulary();
        let (shape, weights) = match &recipe.initial {
            Some(model) => beginning(&base.join(model), tokens.len())?,
            None => {
                let shape = initial::configuration(
                    recipe,
                    tokens.len(),
                    tokens.id("[MASK]"),
                    tokens.stop(),
                )?;
                let weights = initial::weights(&shape, recipe.seed);
                (shape, weights)
            }
        };
        let marks = match recipe.data.direction {
            Reading::Both => tokens.id(LEFT_TO_RIGHT).zip(tokens.id(RIGHT_TO_LEFT)),
            _ => None,
        };
        let (variables, named) = Variables::new(weights)?;
        Ok(Self {
            body: Body::new(shape, &Weights::new(named)?)?,
            recipe: recipe.clone(),
            tokenizer: data.tokenizer.clone(),
            variables,
            masking: MaskedTraining::new(recipe, data, base, hooks.mask.clone())?,
            marks: marks.map(|(forward, backward)| [forward, backward]),
        })
    }

    /// The network as it is now; its weights move with training.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// A sequence as it is read: where both ways are learned, a mark stands in its first token's place, and every
    /// other sequence is turned round. `[T + 1]`
    fn read(&self, batch: &Batch, index: usize, step: Option<u64>) -> Vec<u32> {
        let mut tokens = batch.sequence(index).to_vec();
        if let Some(marks) = self.marks {
            let turned = match step {
                Some(step) => Random::stream(self.recipe.seed, TURNING, step << 20 | index as u64)
                    .below(2) as usize,
                None => index % 2,
            };
            if turned == 1 {
                tokens.reverse();
            }
            tokens[0] = marks[turned];
        }
        tokens
    }

    /// The gradients of the mean of losses, put into [`Trainable::state`].
    pub(super) fn backward(&mut self, losses: &Tensor) -> Result<()> {
        self.variables.backward(losses)
    }

    /// Moves the weights by the gradients gathered. Returns their norm.
    pub(super) fn advance(&mut self, train: &Train, step: u64) -> Result<f64> {
        let rate = train.rate_at(step - 1);
        self.variables.step(train.adamw(), train.clip, step, rate)
    }

    /// −ln p of each prediction of a batch, and the tokens predicted. In training a step is named: dropout and
    /// hidden tokens then follow from it; else from the batch's number alone. `[N]`, `[N]`
    fn losses(&mut self, batch: &Batch, step: Option<u64>) -> Result<(Tensor, Vec<u32>)> {
        let dropout = step.map(|step| Dropout {
            rate: self.recipe.train.dropout,
            seed: self.recipe.seed,
            step,
        });
        let sequences = batch.sequences();
        if self.body.configuration().architecture != Architecture::Bert {
            let read: Vec<Vec<u32>> = (0..sequences)
                .map(|index| self.read(batch, index, step))
                .collect();
            let pick = |from: usize| -> Vec<u32> {
                read.iter()
                    .flat_map(|sequence| &sequence[from..from + batch.steps])
                    .copied()
                    .collect()
            };
            let targets = pick(1);
            let input = TokenBatch {
                tokens: pick(0),
                length: batch.steps,
                ..TokenBatch::default()
            };
            let x = self.body.forward(&input, dropout)?;
            return Ok((cross_entropy(&self.body.logits(&x)?, &targets)?, targets));
        }
        let input = TokenBatch {
            tokens: (0..sequences)
                .flat_map(|index| &batch.sequence(index)[..batch.steps])
                .copied()
                .collect(),
            length: batch.steps,
            ..TokenBatch::default()
        };
        let shape = self.body.configuration();
        let mask = shape.mask.ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "the network has no token for what is hidden",
            )
        })?;
        let masked = match step {
            Some(step) => self.masking.mask(&input, mask, step)?,
            None => {
                let masking = Masking {
                    fraction: MASK_FRACTION,
                    ..Masking::default()
                };
                let mut random = Random::stream(HELD_OUT, HIDING, batch.index);
                let vocabulary = self.tokenizer.vocabulary().len();
                mask_tokens(&input, &masking, mask, vocabulary, &mut random)
            }
        };
        let Body::Network(network) = &self.body else {
            return Err(Error::new(ErrorKind::Unsupported, "only a bert has masks"));
        };
        let losses = network.masked_losses(&masked, dropout)?;
        Ok((losses, masked.targets))
    }

    /// The gradients of the mean loss of a batch, put into [`Trainable::state`]; the loss of each prediction.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is not finite, or naming a weight that the loss does not reach:
    /// an operation without a way back.
    pub fn gradients(&mut self, batch: &Batch, step: u64) -> Result<Loss> {
        let (losses, targets) = self.losses(batch, Some(step))?;
        let each = to_vec(&losses)?;
        let loss = total(&each);
        if !loss.nats.is_finite() {
            return Err(
                Error::new(ErrorKind::Numeric, "the loss is no longer finite")
                    .at(format!("step {step}"))
                    .advice("lower train.rate or train.clip; the last checkpoint is whole"),
            );
        }
        if self.body.configuration().architecture == Architecture::Bert {
            self.masking.learn(step, &targets, &each)?;
        }
        self.variables.backward(&losses)?;
        Ok(loss)
    }
}

/// The network that training begins with.
fn beginning(path: &Path, tokens: usize) -> Result<(Configuration, Vec<Weight>)> {
    let shape = folder::read_configuration(path)?;
    if shape.vocabulary < tokens {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("{tokens} tokens for a network of {}", shape.vocabulary),
        )
        .at(path.display())
        .advice("leave out data.tokenizer: the model's own is used"));
    }
    let weights = folder::read_weights(path)?;
    weights.check().map_err(|error| error.at(path.display()))?;
    Ok((shape, weights.copies()?))
}

fn total(losses: &[f32]) -> Loss {
    Loss {
        nats: losses.iter().map(|&loss| f64::from(loss)).sum(),
        tokens: losses.len(),
    }
}

impl Trainable for NetworkModel {
    fn learn(
        &mut self,
        batch: &mut Batch,
        train: &Train,
        step: u64,
    ) -> Result<(Loss, Option<f64>)> {
        let loss = self.gradients(batch, step)?;
        let norm = self.advance(train, step)?;
        Ok((loss, Some(norm)))
    }

    fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        // A few sequences at a time: the scores of all V tokens for each position are the largest thing there is.
        let together = (4096 / batch.steps.max(1)).max(1);
        let mut loss = Loss::default();
        for first in (0..batch.sequences()).step_by(together) {
            let sequences = first..(first + together).min(batch.sequences());
            let part = Batch {
                tokens: sequences
                    .clone()
                    .flat_map(|index| batch.sequence(index))
                    .copied()
                    .collect(),
                folds: vec![0; sequences.len()],
                steps: batch.steps,
                candidates: None,
                index: batch.index << 20 | first as u64,
            };
            let (losses, _) = self.losses(&part, None)?;
            let part = total(&to_vec(&losses.detach())?);
            loss.nats += part.nats;
            loss.tokens += part.tokens;
        }
        Ok(loss)
    }

    fn state(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]) {
        (
            self.variables.parameters.iter_mut().collect(),
            &mut self.variables.moments,
        )
    }

    fn notes(&self) -> Result<Value> {
        self.masking.notes()
    }

    fn restore(&mut self, notes: &Value) -> Result<()> {
        if !notes.is_null() {
            self.masking.restore(notes)?;
        }
        self.variables.publish()
    }

    fn save(&mut self, path: &Path, training: Value) -> Result<()> {
        let half = self
            .recipe
            .network
            .as_ref()
            .is_some_and(|network| network.half);
        let mut json = self.body.configuration().json.clone();
        if half {
            json["torch_dtype"] = "float16".into();
        }
        let record = json!({
            "name": self.recipe.name,
            "license": self.recipe.license,
            "direction": self.recipe.data.direction,
            "training": training,
        });
        let weights = self.variables.stored()?;
        folder::write(path, &json, &weights, &self.tokenizer, &record, half)
    }

    fn file(&self, stem: &str) -> String {
        stem.to_string()
    }

    fn about(&self) -> String {
        format!("{} parameters", self.body.parameters())
    }

    fn candidates(&self) -> usize {
        self.body.configuration().vocabulary
    }
}
