//! Fine-tuning of a network with a new classification head (Devlin et al. 2019, section 3.2).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernel::random::Random;
use crate::learn::adamw::AdamW;
use crate::measure::{Classification, Confusion};
use crate::text::LabelledText;
use crate::transformer::batch::{Dropout, cross_entropy};
use crate::transformer::classifier::{self, Classifier, HEAD, POOLER};
use crate::transformer::model::{Body, Transformer};
use crate::transformer::operation::to_vec;
use crate::transformer::pooling::{Encoded, Pooling};
use crate::transformer::variables::{Variables, Weight};
use crate::transformer::{Weights, folder};
use crate::{Error, ErrorKind, Result};

/// Random streams of a run: the new head's weights, and the order of texts.
const FRESH: u64 = 0x6865_6164;
const ORDER: u64 = 0x6f72_6465;
/// Standard deviation of a new head's weights.
const DEVIATION: f32 = 0.02;

/// Options of fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuning {
    /// Epochs, passes over the training texts.
    pub epochs: usize,
    /// Texts per step.
    pub batch: usize,
    /// Peak learning rate: it rises linearly over the warm-up and falls linearly to 0.
    pub rate: f64,
    /// Fraction of the steps in which the learning rate rises.
    pub warmup: f64,
    /// Dropout rate.
    pub dropout: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Largest norm of the gradients; larger ones are scaled down.
    pub clip: f64,
    /// Seed of the head, the order of texts and dropout.
    pub seed: u64,
}

impl Default for FineTuning {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch: 32,
            rate: 3e-4,
            warmup: 0.1,
            dropout: 0.1,
            weight_decay: 0.01,
            clip: 1.0,
            seed: 0,
        }
    }
}

impl FineTuning {
    fn check(&self) -> Result<()> {
        let problem = if self.epochs == 0 || self.batch == 0 {
            "epochs and batch size must be at least 1"
        } else if !(self.rate > 0.0 && (0.0..1.0).contains(&self.dropout)) {
            "the learning rate must be above 0, and the dropout rate at least 0 and below 1"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Configuration, problem))
    }
}

/// A network in fine-tuning.
pub struct FineTuner {
    options: FineTuning,
    variables: Variables,
    /// Weights of the language-model head, which the loss does not depend on: saved unchanged.
    idle: Vec<Weight>,
    classifier: Classifier,
    texts: Vec<(Encoded, u32)>,
    step: u64,
}

/// Return whether only the language-model head uses a weight.
fn is_idle(name: &str) -> bool {
    name.starts_with("cls.") || name.starts_with("lm_head.")
}

/// Add random weights of a classification head where there are none of its shape.
fn add_head(weights: &mut Vec<Weight>, pooling: Pooling, labels: usize, d: usize, seed: u64) {
    let mut head = vec![
        (format!("{HEAD}.weight"), vec![labels, d]),
        (format!("{HEAD}.bias"), vec![labels]),
    ];
    if pooling == Pooling::Cls {
        head.push((format!("{POOLER}.weight"), vec![d, d]));
        head.push((format!("{POOLER}.bias"), vec![d]));
    } else {
        weights.retain(|weight| !weight.name.starts_with(POOLER));
    }
    // Matrices are random, biases 0 (Devlin et al. 2019).
    for (index, (name, shape)) in head.into_iter().enumerate() {
        // A head of another number of labels is replaced.
        let known = weights.iter().position(|weight| weight.name == name);
        if known.is_some_and(|known| weights[known].shape == shape) {
            continue;
        }
        if let Some(known) = known {
            weights.remove(known);
        }
        let mut random = Random::stream(seed, FRESH, index as u64);
        let mut value = || match shape.len() {
            2 => random.normal() as f32 * DEVIATION,
            _ => 0.0,
        };
        weights.push(Weight {
            values: (0..shape.iter().product()).map(|_| value()).collect(),
            name,
            shape,
        });
    }
}

impl FineTuner {
    /// Open the network in a folder and add a new head for the labels of the training texts. A head that exists already
    /// is trained further if it has as many labels.
    ///
    /// # Errors
    /// As [`Transformer::open`] and [`Classifier::open`]; [`ErrorKind::Input`] for fewer than two labels.
    pub fn new(path: &Path, texts: &[LabelledText], options: FineTuning) -> Result<Self> {
        options.check()?;
        let transformer = Transformer::open(path)?;
        let shape = transformer.configuration().clone();
        shape
            .check_trainable()
            .map_err(|error| error.at(path.display()))?;
        let labels: BTreeSet<String> = texts.iter().map(|text| text.label.clone()).collect();
        let labels: Vec<String> = labels.into_iter().collect();
        if labels.len() < 2 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{} texts have {} labels", texts.len(), labels.len()),
            )
            .advice("pass texts with at least two labels"));
        }
        let mut weights = folder::read_weights(path)?.copies()?;
        let pooling = Pooling::of(&shape, transformer.tokenizer());
        add_head(
            &mut weights,
            pooling,
            labels.len(),
            shape.width,
            options.seed,
        );
        let (idle, learning): (Vec<Weight>, Vec<Weight>) = weights
            .into_iter()
            .partition(|weight| is_idle(&weight.name));
        // The network is built on the variables, so that it changes with them, and on constants for the rest.
        let (variables, mut named) = Variables::new(learning)?;
        let idle_weights = Weights::from_values(&idle)?;
        named.extend(
            idle_weights
                .iter()
                .map(|(name, tensor)| (name.to_string(), tensor.clone())),
        );
        let named = Weights::new(named)?;
        let transformer = transformer.with_body(Body::new(shape, &named)?);
        let classifier = Classifier::new(transformer, &named, labels)?;
        let texts = texts
            .iter()
            .map(|text| {
                Ok((
                    classifier.encode(text)?,
                    classifier.label(&text.label)? as u32,
                ))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            options,
            variables,
            idle,
            classifier,
            texts,
            step: 0,
        })
    }

    /// Return the number of steps of the run.
    pub fn steps(&self) -> u64 {
        (self.options.epochs * self.texts.len().div_ceil(self.options.batch)) as u64
    }

    /// Return the classifier with its current weights.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Return the learning rate of the next step.
    fn rate(&self) -> f64 {
        // Linear rise during the warm-up, then linear fall to 0 (Devlin et al. 2019).
        let done = self.step as f64 / self.steps() as f64;
        let warmup = self.options.warmup.clamp(0.0, 1.0);
        self.options.rate
            * if done < warmup {
                (done / warmup).max(1e-3)
            } else {
                (1.0 - done) / (1.0 - warmup).max(1e-9)
            }
    }

    /// Train one epoch. `observe` receives each step and its mean loss, and stops the epoch by returning false.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite.
    pub fn epoch(&mut self, observe: &mut dyn FnMut(u64, f64) -> bool) -> Result<()> {
        let mut order: Vec<usize> = (0..self.texts.len()).collect();
        Random::stream(self.options.seed, ORDER, self.step).shuffle(&mut order);
        for batch in order.chunks(self.options.batch) {
            let rate = self.rate();
            self.step += 1;
            let dropout = Dropout {
                rate: self.options.dropout,
                seed: self.options.seed,
                step: self.step,
            };
            let texts: Vec<&Encoded> = batch.iter().map(|&text| &self.texts[text].0).collect();
            let targets: Vec<u32> = batch.iter().map(|&text| self.texts[text].1).collect();
            let logits = self.classifier.logits(&texts, Some(dropout))?;
            let losses = cross_entropy(&logits, &targets)?;
            let sum: f64 = to_vec(&losses)?.into_iter().map(f64::from).sum();
            let loss = sum / batch.len() as f64;
            if !loss.is_finite() {
                return Err(Error::new(ErrorKind::Numeric, "the loss is not finite")
                    .at(format!("step {}", self.step))
                    .advice("use a lower rate"));
            }
            self.variables.backward(&losses)?;
            let adam = AdamW {
                weight_decay: self.options.weight_decay,
                ..AdamW::default()
            };
            self.variables
                .step(adam, self.options.clip, self.step, rate)?;
            if !observe(self.step, loss) {
                break;
            }
        }
        Ok(())
    }

    /// Train all epochs; return false if stopped.
    ///
    /// # Errors
    /// As [`Self::epoch`].
    pub fn run(
        &mut self,
        stop: &Arc<AtomicBool>,
        observe: &mut dyn FnMut(u64, f64),
    ) -> Result<bool> {
        for _ in 0..self.options.epochs {
            self.epoch(&mut |step, loss| {
                observe(step, loss);
                !stop.load(Ordering::Relaxed)
            })?;
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Save a folder for [`Classifier::open`]. That of a BERT with `[CLS]` can be read by Hugging Face's
    /// BertForSequenceClassification; other poolings are named by `classifier_pooling`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Numeric`] naming a weight that is not finite.
    pub fn save(&self, path: &Path) -> Result<()> {
        let transformer = self.classifier.transformer();
        let mut weights = self.variables.stored()?;
        weights.extend(self.idle.iter().cloned());
        let pooling = Pooling::of(transformer.configuration(), transformer.tokenizer());
        let labels = self.classifier.labels();
        let json = classifier::classifier_json(transformer.configuration(), labels, pooling);
        let mut record = transformer.record_object();
        record["fine_tuning"] = json!({
            "options": self.options, "texts": self.texts.len(), "steps": self.step,
        });
        let half = matches!(&json["torch_dtype"], Value::String(kind) if kind == "float16");
        folder::write(
            path,
            &json,
            &weights,
            transformer.tokenizer(),
            &record,
            half,
        )
    }
}

/// Measure a classifier on labelled texts.
///
/// # Errors
/// As [`Classifier::predict`]; [`ErrorKind::Input`] for an unknown label.
pub fn evaluate_classifier(
    classifier: &Classifier,
    texts: &[LabelledText],
) -> Result<Classification> {
    let mut confusion = Confusion::new(classifier.labels().len());
    for (text, prediction) in texts.iter().zip(classifier.predict(texts)?) {
        confusion.add(classifier.label(&text.label)?, prediction.label);
    }
    Ok(confusion.figures())
}
