//! Fine-tuning: a network and a fresh head learn labels of texts (Devlin et al. 2019, section 3.2).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernel::random::Random;
use crate::learn::adamw::AdamW;
use crate::measure::{Classification, Confusion};
use crate::text::Labelled;
use crate::transformer::batch::{Dropout, cross_entropy};
use crate::transformer::classifier::{self, Classifier, Encoded, HEAD, POOLER, Pooling};
use crate::transformer::model::{Body, Transformer};
use crate::transformer::operation::to_vec;
use crate::transformer::variables::{Variables, Weight};
use crate::transformer::{Weights, folder};
use crate::{Error, ErrorKind, Result};

/// The random streams of a run: the head's first weights, and the order of texts.
const FRESH: u64 = 0x6865_6164;
const ORDER: u64 = 0x6f72_6465;
/// The deviation of a fresh head.
const DEVIATION: f32 = 0.02;

/// How a network is fine-tuned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuning {
    /// Passes over the training texts.
    pub epochs: usize,
    /// Texts a step.
    pub batch: usize,
    /// The learning rate at its height; it rises over `warmup` of the steps and falls in a line to 0.
    pub rate: f64,
    /// The share of steps in which the rate rises.
    pub warmup: f64,
    /// Dropout.
    pub dropout: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// The norm that gradients are cut to.
    pub clip: f64,
    /// The seed of the head, the order and dropout.
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

/// A network under fine-tuning.
pub struct FineTuner {
    options: FineTuning,
    variables: Variables,
    /// Weights that labels do not reach, the head of tokens: kept as they are.
    idle: Vec<Weight>,
    classifier: Classifier,
    texts: Vec<(Encoded, u32)>,
    step: u64,
}

/// Whether only the head of tokens uses a weight.
fn is_idle(name: &str) -> bool {
    name.starts_with("cls.") || name.starts_with("lm_head.")
}

impl FineTuner {
    /// Opens the network in a folder and gives it a fresh head for the labels of the training texts; a head that
    /// is there already goes on, if it tells the same labels.
    ///
    /// # Errors
    /// As [`Transformer::open`] and [`Classifier::open`]; [`ErrorKind::Input`] for fewer than two labels.
    pub fn new(path: &Path, texts: &[Labelled], options: FineTuning) -> Result<Self> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Configuration, what.to_string()));
        if options.epochs == 0 || options.batch == 0 {
            return wrong("epochs and batch are at least 1");
        }
        if !(options.rate > 0.0 && (0.0..1.0).contains(&options.dropout)) {
            return wrong("the rate is above 0, dropout from 0 to below 1");
        }
        let transformer = Transformer::open(path)?;
        let shape = transformer.configuration().clone();
        let labels: BTreeSet<&str> = texts.iter().map(|text| text.label.as_str()).collect();
        let labels: Vec<String> = labels.into_iter().map(str::to_string).collect();
        if labels.len() < 2 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{} texts with {} labels", texts.len(), labels.len()),
            )
            .advice("give at least two labels to tell apart"));
        }
        let mut weights = folder::read_weights(path)?.copies()?;
        let pooling = Pooling::of(&shape, transformer.tokenizer());
        let d = shape.width;
        let mut fresh = vec![
            (format!("{HEAD}.weight"), vec![labels.len(), d]),
            (format!("{HEAD}.bias"), vec![labels.len()]),
        ];
        if pooling == Pooling::First {
            fresh.push((format!("{POOLER}.weight"), vec![d, d]));
            fresh.push((format!("{POOLER}.bias"), vec![d]));
        } else {
            weights.retain(|weight| !weight.name.starts_with(POOLER));
        }
        for (place, (name, shape)) in fresh.into_iter().enumerate() {
            if weights
                .iter()
                .any(|weight| weight.name == name && weight.shape == shape)
            {
                continue;
            }
            weights.retain(|weight| weight.name != name);
            let mut random = Random::stream(options.seed, FRESH, place as u64);
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
        let (idle, learning): (Vec<Weight>, Vec<Weight>) = weights
            .into_iter()
            .partition(|weight| is_idle(&weight.name));
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

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        (self.options.epochs * self.texts.len().div_ceil(self.options.batch)) as u64
    }

    /// The network as it is now.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    fn rate(&self) -> f64 {
        let share = self.step as f64 / self.steps() as f64;
        let rise = self.options.warmup.clamp(0.0, 1.0);
        self.options.rate
            * match share < rise {
                true => (share / rise).max(1e-3),
                false => (1.0 - share) / (1.0 - rise).max(1e-9),
            }
    }

    /// One pass over the training texts; `watch` is told of every step and its mean loss, and stops it with `false`.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite.
    pub fn epoch(&mut self, watch: &mut dyn FnMut(u64, f64) -> bool) -> Result<()> {
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
            let each = to_vec(&losses)?;
            let loss = each.iter().map(|&loss| f64::from(loss)).sum::<f64>() / each.len() as f64;
            if !loss.is_finite() {
                return Err(
                    Error::new(ErrorKind::Numeric, "the loss is no longer finite")
                        .at(format!("step {}", self.step))
                        .advice("use a lower rate"),
                );
            }
            self.variables.backward(&losses)?;
            let adam = AdamW {
                weight_decay: self.options.weight_decay,
                ..AdamW::default()
            };
            self.variables
                .step(adam, self.options.clip, self.step, rate)?;
            if !watch(self.step, loss) {
                break;
            }
        }
        Ok(())
    }

    /// All passes; whether it was not stopped.
    ///
    /// # Errors
    /// As [`Self::epoch`].
    pub fn run(&mut self, stop: &Arc<AtomicBool>, watch: &mut dyn FnMut(u64, f64)) -> Result<bool> {
        for _ in 0..self.options.epochs {
            self.epoch(&mut |step, loss| {
                watch(step, loss);
                !stop.load(Ordering::Relaxed)
            })?;
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a folder that [`Classifier::open`] opens. Of a BERT with `[CLS]` it is what Hugging Face's
    /// BertForSequenceClassification reads; other poolings are named as `classifier_pooling`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Numeric`] naming a weight that is not finite.
    pub fn save(&self, path: &Path) -> Result<()> {
        let transformer = self.classifier.transformer();
        let mut weights = self.variables.stored()?;
        weights.extend(self.idle.iter().cloned());
        let pooling = Pooling::of(transformer.configuration(), transformer.tokenizer());
        let json = classifier::configured(
            &transformer.configuration().json,
            self.classifier.labels(),
            pooling,
        );
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

/// How well a classifier tells the labels of texts.
///
/// # Errors
/// As [`Classifier::predict`]; [`ErrorKind::Input`] for a label it does not know.
pub fn evaluate_classifier(classifier: &Classifier, texts: &[Labelled]) -> Result<Classification> {
    let mut confusion = Confusion::new(classifier.labels().len());
    for (text, told) in texts.iter().zip(classifier.predict(texts)?) {
        confusion.add(classifier.label(&text.label)?, told.label);
    }
    Ok(confusion.figures())
}
