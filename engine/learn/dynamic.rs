//! Dynamic evaluation: a model that learns from a stream after predicting it (Mikolov et al. 2010, Krause et al. 2018).

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::learn::batch::{BEFORE, Batch};
use crate::learn::dropout::Rates;
use crate::learn::edge_trainer::EdgeTrainer;
use crate::learn::prior::Prior;
use crate::learn::warm_start::copy_weights;
use crate::signal::{EdgeForm, Mechanism};
use crate::{Error, ErrorKind, Result};

/// Predictions between two steps of learning.
const STEPS: usize = 32;
/// Largest norm of a step's gradient.
const CLIP: f64 = 1.0;

/// Constants of dynamic evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DynamicSettings {
    /// Learning rate of plain gradient descent.
    pub rate: f64,
    /// Fraction of the distance to the trained weights that each step goes back.
    pub pull: f64,
}

impl FromStr for DynamicSettings {
    type Err = Error;

    /// Parse `RATE[,PULL]`.
    fn from_str(text: &str) -> Result<Self> {
        let (rate, pull) = text.split_once(',').unwrap_or((text, "0"));
        let number = |text: &str| text.trim().parse().ok().filter(|n: &f64| n.is_finite());
        match (number(rate), number(pull)) {
            (Some(rate), Some(pull)) if rate >= 0.0 && (0.0..=1.0).contains(&pull) => {
                Ok(Self { rate, pull })
            }
            _ => Err(Error::new(
                ErrorKind::Input,
                format!(
                    "invalid rate {text:?}: expected RATE[,PULL], RATE at least 0 and PULL from 0 to 1"
                ),
            )),
        }
    }
}

impl std::fmt::Display for DynamicSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{},{}", self.rate, self.pull)
    }
}

/// Adapts a model to a stream: all weights take a step after each 32 predictions.
pub struct DynamicLearner {
    settings: DynamicSettings,
    mechanism: Arc<Mechanism>,
    edge_trainer: EdgeTrainer,
    prior: Prior<f32>,
    /// Trained weights of each parameter, where steps go back to them.
    trained: Vec<Vec<f32>>,
    /// Index of the last token learned from.
    learned: usize,
}

impl DynamicLearner {
    /// Prepare to learn from a stream, from its first token on.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for own edges, and for an order of static resistances between 2 and that of the graph.
    pub fn new(mechanism: &Arc<Mechanism>, settings: DynamicSettings) -> Result<Self> {
        let unsupported = |what| Err(Error::new(ErrorKind::Unsupported, what));
        let (profile, graph) = (mechanism.profile(), mechanism.graph());
        if profile.form == EdgeForm::Own {
            return unsupported("dynamic evaluation needs composed or layered edges");
        }
        let order = mechanism.order();
        if order > 2 && order < graph.order() {
            return unsupported("dynamic evaluation needs order 2 or the order of the model");
        }
        let mut edge_trainer = EdgeTrainer::new(profile, graph, Rates::default(), 0);
        copy_weights(mechanism, &mut edge_trainer);
        let trained = match settings.pull > 0.0 {
            true => edge_trainer
                .parameters()
                .iter()
                .map(|one| one.value.clone())
                .collect(),
            false => Vec::new(),
        };
        Ok(Self {
            settings,
            prior: Prior::of_model(graph, order),
            mechanism: mechanism.clone(),
            edge_trainer,
            trained,
            learned: 0,
        })
    }

    /// Learn from the end of `tokens`, all of the stream so far, once 32 of them are new. Returns the changed mechanism
    /// when it has taken a step.
    ///
    /// Layered edges continue from the state of the step before; composed edges begin anew.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss or a weight is no longer finite.
    pub fn learn(&mut self, tokens: &[u32]) -> Result<Option<Arc<Mechanism>>> {
        let first = self.learned;
        if tokens.len() <= first + STEPS {
            return Ok(None);
        }
        self.learned = first + STEPS;
        let before = BEFORE.min(first);
        let batch = Batch {
            tokens: tokens[first - before..=self.learned].to_vec(),
            before,
            steps: STEPS,
            // The counts of the whole training text, which does not contain the stream.
            folds: vec![0],
            continued: vec![first > 0],
            candidates: None,
            index: (first / STEPS) as u64,
        };
        let mechanism = self.step(&batch).map_err(|error| {
            error
                .at(format!("token {}", self.learned))
                .advice("lower the rate of dynamic evaluation")
        })?;
        Ok(Some(Arc::new(mechanism)))
    }

    /// Take one step and return the mechanism with the new weights.
    fn step(&mut self, batch: &Batch) -> Result<Mechanism> {
        let (profile, graph) = (self.mechanism.profile(), self.mechanism.graph());
        let trainer = &mut self.edge_trainer;
        trainer.descend(graph, &self.prior, batch, self.settings.rate, CLIP)?;
        let pull = self.settings.pull as f32;
        for (parameter, trained) in trainer.parameters().into_iter().zip(&self.trained) {
            for (value, trained) in parameter.value.iter_mut().zip(trained) {
                *value += pull * (trained - *value);
            }
        }
        self.mechanism
            .with_weights(trainer.weights(profile, graph)?)
    }
}
