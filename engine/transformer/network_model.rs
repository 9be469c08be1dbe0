//! A network in the training loop: the same batches, optimiser, logs and checkpoints as for a graph.

use std::path::Path;

use candle_core::Tensor;
use serde_json::{Value, json};

use crate::hook::Hooks;
use crate::kernel::random::Random;
use crate::learn::Trainable;
use crate::learn::adamw::Moments;
use crate::learn::batch::Batch;
use crate::learn::batch::Loss;
use crate::learn::data::TokenData;
use crate::learn::parameter::Parameter;
use crate::learn::recipe::{Kind, Recipe};
use crate::text::{LEFT_TO_RIGHT, RIGHT_TO_LEFT, ReadingDirection, Tokenizer};
use crate::transformer::batch::{Dropout, TokenBatch, cross_entropy};
use crate::transformer::masked_training::MaskedTraining;
use crate::transformer::masking::{MASK_FRACTION, Masking, mask_tokens};
use crate::transformer::model::Body;
use crate::transformer::operation::to_vec;
use crate::transformer::variables::{Variables, Weight};
use crate::transformer::{Configuration, Weights, folder, initial};
use crate::{Error, ErrorKind, Result};

/// Random stream of masks in validation.
const MASKS: u64 = 0x6869_6465;
const HELD_OUT: u64 = 0x6865_6c64;
/// Random stream of the sequences that are read backward.
const DIRECTION: u64 = 0x7475_726e;

/// A gpt, bert or lstm in training.
pub struct NetworkModel {
    recipe: Recipe,
    tokenizer: Tokenizer,
    body: Body,
    variables: Variables,
    masking: MaskedTraining,
    /// Ids of `<l2r>` and `<r2l>`, where both directions are trained.
    marks: Option<[u32; 2]>,
}

impl NetworkModel {
    /// Create the network of a recipe; paths in it are relative to `base`. Of the hooks, `mask/1` is used.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a recipe of a graph.
    pub fn new(recipe: &Recipe, data: &TokenData, base: &Path, hooks: &Hooks) -> Result<Self> {
        if recipe.kind == Kind::Graph {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the run file is for a graph, not a network",
            ));
        }
        let tokens = data.tokenizer.vocabulary();
        let (shape, weights) = match &recipe.initial {
            Some(model) => warm_start(&base.join(model), tokens.len())?,
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
        // A mark at the start tells the network the direction of the text.
        let marks = match recipe.data.direction {
            ReadingDirection::Both => tokens.id(LEFT_TO_RIGHT).zip(tokens.id(RIGHT_TO_LEFT)),
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

    /// Return the network with its current weights.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Return a sequence as it is trained. `[T + 1]`
    ///
    /// Where both directions are trained, half of the sequences are reversed (at random in training, every other one in
    /// validation), and a mark of the direction replaces the first token.
    fn read(&self, batch: &Batch, index: usize, step: Option<u64>) -> Vec<u32> {
        let mut tokens = batch.sequence(index).to_vec();
        if let Some(marks) = self.marks {
            // Validation must not depend on the step.
            let reversed = match step {
                Some(step) => {
                    Random::stream(self.recipe.seed, DIRECTION, step << 20 | index as u64).below(2)
                        as usize
                }
                None => index % 2,
            };
            if reversed == 1 {
                tokens.reverse();
            }
            tokens[0] = marks[reversed];
        }
        tokens
    }

    /// Compute the gradients of the mean of `losses`.
    pub(super) fn backward(&mut self, losses: &Tensor) -> Result<()> {
        self.variables.backward(losses)
    }

    /// Update the weights by their gradients. Returns the gradients' norm.
    pub(super) fn update(&mut self, step: u64) -> Result<f64> {
        let train = &self.recipe.train;
        let rate = train.rate_at(step - 1);
        self.variables.step(train.adamw(), train.clip, step, rate)
    }

    /// Return the dropout of a training step.
    pub(super) fn dropout(&self, step: u64) -> Dropout {
        Dropout {
            rate: self.recipe.train.dropout,
            seed: self.recipe.seed,
            step,
        }
    }

    /// Compute −ln p of each prediction of a batch, and return the tokens predicted. `[N]`, `[N]`
    ///
    /// In training (`step`), dropout and masks depend on the step; in validation, masks depend on the batch's number.
    fn losses(&mut self, batch: &Batch, step: Option<u64>) -> Result<(Tensor, Vec<u32>)> {
        let dropout = step.map(|step| self.dropout(step));
        if !self.body.configuration().causal() {
            return self.masked_losses(batch, step, dropout);
        }
        // Inputs are positions 0 … T − 1, targets positions 1 … T.
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for index in 0..batch.sequences() {
            let tokens = self.read(batch, index, step);
            inputs.extend_from_slice(&tokens[..batch.steps]);
            targets.extend_from_slice(&tokens[1..=batch.steps]);
        }
        let input = TokenBatch::new(inputs, batch.steps);
        // `[B · T, D]`, then logits `[B · T, V]` and their cross-entropies `[B · T]`.
        let x = self.body.forward(&input, dropout)?;
        Ok((cross_entropy(&self.body.logits(&x)?, &targets)?, targets))
    }

    fn masked_losses(
        &self,
        batch: &Batch,
        step: Option<u64>,
        dropout: Option<Dropout>,
    ) -> Result<(Tensor, Vec<u32>)> {
        let sequences = (0..batch.sequences()).map(|index| &batch.sequence(index)[..batch.steps]);
        let input = TokenBatch::new(sequences.flatten().copied().collect(), batch.steps);
        let (Body::Network(network), Some(mask)) = (&self.body, self.body.configuration().mask)
        else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the network has no mask token",
            ));
        };
        // The hook adapts to training only: validation masks a fixed fraction, the same for each batch.
        let masked = match step {
            Some(step) => self.masking.mask(&input, mask, step)?,
            None => {
                let masking = Masking {
                    fraction: MASK_FRACTION,
                    ..Masking::default()
                };
                let mut random = Random::stream(HELD_OUT, MASKS, batch.index);
                let vocabulary = self.tokenizer.vocabulary().len();
                mask_tokens(&input, &masking, mask, vocabulary, &mut random)
            }
        };
        let losses = network.masked_losses(&masked, dropout)?;
        Ok((losses, masked.targets))
    }

    /// Compute the gradients of the mean loss of a batch. Returns the loss.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] for a loss that is not finite, and naming a weight without a gradient.
    pub fn gradients(&mut self, batch: &Batch, step: u64) -> Result<Loss> {
        let (losses, targets) = self.losses(batch, Some(step))?;
        let each = to_vec(&losses)?;
        let loss = total(&each);
        if !loss.nats.is_finite() {
            return Err(Error::new(ErrorKind::Numeric, "the loss is not finite")
                .at(format!("step {step}"))
                .advice("lower train.rate or train.clip; the last checkpoint is valid"));
        }
        if !self.body.configuration().causal() {
            self.masking.learn(step, &targets, &each)?;
        }
        self.variables.backward(&losses)?;
        Ok(loss)
    }
}

/// Read the network that training continues from.
fn warm_start(path: &Path, tokens: usize) -> Result<(Configuration, Vec<Weight>)> {
    let shape = folder::read_configuration(path)?;
    shape
        .check_trainable()
        .map_err(|error| error.at(path.display()))?;
    if shape.vocabulary < tokens {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!(
                "{tokens} tokens do not fit a vocabulary of {}",
                shape.vocabulary
            ),
        )
        .at(path.display())
        .advice("remove data.tokenizer to use the model's own"));
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
    fn learn(&mut self, batch: &mut Batch, step: u64) -> Result<(Loss, Option<f64>)> {
        let loss = self.gradients(batch, step)?;
        let norm = self.update(step)?;
        Ok((loss, Some(norm)))
    }

    fn loss(&mut self, batch: &Batch) -> Result<Loss> {
        // A few sequences at a time: the logits of all V tokens for each position need the most memory.
        let together = (4096 / batch.steps.max(1)).max(1);
        let mut loss = Loss::default();
        for first in (0..batch.sequences()).step_by(together) {
            let sequences = first..(first + together).min(batch.sequences());
            let group = Batch {
                tokens: sequences
                    .clone()
                    .flat_map(|index| batch.sequence(index))
                    .copied()
                    .collect(),
                folds: vec![0; sequences.len()],
                steps: batch.steps,
                before: 0,
                continued: Vec::new(),
                candidates: None,
                // Masks of validation depend on this number alone.
                index: batch.index << 20 | first as u64,
            };
            let (losses, _) = self.losses(&group, None)?;
            let sum = total(&to_vec(&losses.detach())?);
            loss.nats += sum.nats;
            loss.tokens += sum.tokens;
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
