//! One learner for both edge forms, as the training loop sees it.

use std::path::Path;

use serde_json::Value;

use crate::graph::TokenGraph;
use crate::kernel::pages;
use crate::kernel::table::Table;
use crate::learn::adamw::{AdamMode, Moments, gradient_norm};
use crate::learn::batch::Batch;
use crate::learn::composed::{Composed, Loss};
use crate::learn::own::Own;
use crate::learn::parameter::Parameter;
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::signal::{EdgeForm, Profile, Weights};
use crate::{Error, ErrorKind, Result};

/// What the training loop trains: a graph, or a model of the comparison path.
pub trait Trainable {
    /// One step, numbered from 1. Returns the loss before it and the gradient's norm, if it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite; nothing has moved then.
    fn learn(&mut self, batch: &mut Batch, step: u64) -> Result<(Loss, Option<f64>)>;

    /// The loss on held-out text, without learning.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when arithmetic fails.
    fn loss(&mut self, batch: &Batch) -> Result<Loss>;

    /// All parameters and their moments, in the same order.
    fn state(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]);

    /// What a checkpoint keeps besides.
    ///
    /// # Errors
    /// Whatever a hook meets.
    fn notes(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    /// Goes on from parameters that a checkpoint has put into [`Self::state`], and from its notes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the notes are not this learner's.
    fn restore(&mut self, notes: &Value) -> Result<()> {
        let _ = notes;
        Ok(())
    }

    /// Learns on a device from here on; unless `forced`, it may be done without when it fails.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where this learner knows no device; [`ErrorKind::Resource`] when it does not fit.
    #[cfg(feature = "gpu")]
    fn use_device(&mut self, device: &crate::kernel::gpu::Device, forced: bool) -> Result<()> {
        let _ = (device, forced);
        Err(Error::new(
            ErrorKind::Unsupported,
            "networks of the comparison path train on the processor",
        )
        .advice("use --backend cpu or auto"))
    }

    /// Whether a device failed that may be done without.
    #[cfg(feature = "gpu")]
    fn device_failed(&self) -> bool {
        false
    }

    /// Leaves the device; parameters and moments are as at the beginning of the run.
    #[cfg(feature = "gpu")]
    fn leave_device(&mut self) {}

    /// Brings the parameters and moments back from where they are, so that [`Self::state`] holds them.
    ///
    /// # Errors
    /// Those of a device, where one is used.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes the model as it is now; `training` is the record of how it was made.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a parameter is not finite; [`ErrorKind::Io`] or [`ErrorKind::Resource`].
    fn save(&mut self, path: &Path, training: Value) -> Result<()>;

    /// The name that a model is saved by, `best` for example, as a file or folder.
    fn file(&self, stem: &str) -> String;

    /// How large it is, in a few words.
    fn about(&self) -> String;

    /// Targets that a prediction chooses among, `V`.
    fn candidates(&self) -> usize;

    /// Whether the model of least validation loss is the result; else the last one is.
    fn keeps_best(&self) -> bool {
        true
    }
}

/// The parameters of a run with their moments.
pub struct EdgeTrainer {
    form: Form,
    moments: Vec<Moments<f32>>,
}

enum Form {
    Composed(Box<Composed<f32>>),
    Own(Box<Own<f32>>),
}

impl EdgeTrainer {
    /// Fresh parameters.
    pub fn new(profile: &Profile, graph: &TokenGraph, dropout: f64, seed: u64) -> Self {
        let mut form = match profile.form {
            EdgeForm::Composed => {
                let mut edge_trainer = Composed::new(profile, graph, seed);
                edge_trainer.dropout = dropout;
                edge_trainer.seed = seed;
                Form::Composed(Box::new(edge_trainer))
            }
            EdgeForm::Own => {
                let mut edge_trainer = Own::new(profile, graph, seed);
                edge_trainer.dropout = dropout;
                edge_trainer.seed = seed;
                Form::Own(Box::new(edge_trainer))
            }
        };
        let moments = form
            .parameters()
            .iter()
            .map(|parameter| {
                let mut first = vec![0.0; parameter.value.len()];
                let mut second = vec![0.0; parameter.value.len()];
                pages::prefer_large(&mut first);
                pages::prefer_large(&mut second);
                Moments { first, second }
            })
            .collect();
        Self { form, moments }
    }

    /// All parameters, in block order.
    pub fn parameters(&mut self) -> Vec<&mut Parameter<f32>> {
        self.form.parameters()
    }

    /// The moments, in the same order.
    pub fn moments(&mut self) -> &mut [Moments<f32>] {
        &mut self.moments
    }

    /// Both at once.
    pub fn both(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]) {
        (self.form.parameters(), &mut self.moments)
    }

    /// Loss without learning.
    pub fn loss(&mut self, graph: &TokenGraph, prior: &Prior<f32>, batch: &Batch) -> Loss {
        match &mut self.form {
            Form::Composed(edge_trainer) => edge_trainer.loss(graph, prior, batch),
            Form::Own(edge_trainer) => edge_trainer.loss(graph, prior, batch),
        }
    }

    /// One step, numbered from 1. Returns the loss before it and the gradient's norm, if it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite; nothing has moved then.
    pub fn learn(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
        train: &Train,
        step: u64,
    ) -> Result<(Loss, Option<f64>)> {
        let adam = train.adamw();
        let rate = train.rate_at(step - 1);
        let clip = (train.clip > 0.0).then_some(train.clip);
        let factor = |norm: f64| match clip {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        match &mut self.form {
            Form::Own(edge_trainer) if adam.mode == AdamMode::Touched => {
                let update = adam.update(step, rate * train.edge_rate, true);
                let (edge_weights, others) = self.moments.split_at_mut(1);
                let moments = (
                    edge_weights[0].first.as_mut_slice(),
                    edge_weights[0].second.as_mut_slice(),
                );
                let (loss, norm) = edge_trainer.learn(graph, prior, batch, &update, moments, clip);
                let loss = finite(loss, step)?;
                let scale = norm.map_or(1.0, factor);
                for (parameter, moments) in
                    edge_trainer.parameters().into_iter().skip(1).zip(others)
                {
                    adam.step(parameter, moments, step, rate, scale);
                }
                Ok((loss, norm))
            }
            form => {
                let loss = finite(
                    match form {
                        Form::Composed(edge_trainer) => edge_trainer.gradients(graph, prior, batch),
                        Form::Own(edge_trainer) => edge_trainer.gradients(graph, prior, batch),
                    },
                    step,
                )?;
                let mut parameters = form.parameters();
                let norm = gradient_norm(&parameters);
                for (parameter, moments) in parameters.iter_mut().zip(&mut self.moments) {
                    let rate = if parameter.name == "edge.arena" {
                        rate * train.edge_rate
                    } else {
                        rate
                    };
                    adam.step(parameter, moments, step, rate, factor(norm));
                }
                Ok((loss, Some(norm)))
            }
        }
    }

    /// The parameters as a model keeps them.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] for a parameter that is not finite.
    pub fn weights(&mut self, profile: &Profile, graph: &TokenGraph) -> Result<Weights> {
        let parameters = self.form.parameters();
        Weights::gather(profile, graph.nodes(), graph.own_edges(), |block| {
            let Some(parameter) = parameters
                .iter()
                .find(|parameter| parameter.name == block.name)
            else {
                return Ok(None);
            };
            if let Some(place) = parameter.value.iter().position(|value| !value.is_finite()) {
                return Err(
                    Error::new(ErrorKind::Numeric, format!("value {place} is not finite"))
                        .at(format!("block {}", block.name))
                        .advice("training diverged: lower train.rate"),
                );
            }
            Ok(Some(Table::of(&parameter.value, block.rows, block.columns)))
        })
    }
}

/// The loss of a step, where it is a number.
///
/// # Errors
/// [`ErrorKind::Numeric`] when it is not.
pub(super) fn finite(loss: Loss, step: u64) -> Result<Loss> {
    match loss.nats.is_finite() {
        true => Ok(loss),
        false => Err(
            Error::new(ErrorKind::Numeric, "the loss is no longer finite")
                .at(format!("step {step}"))
                .advice("lower train.rate or train.clip; the last checkpoint is whole"),
        ),
    }
}

impl Form {
    fn parameters(&mut self) -> Vec<&mut Parameter<f32>> {
        match self {
            Self::Composed(edge_trainer) => edge_trainer.parameters(),
            Self::Own(edge_trainer) => edge_trainer.parameters(),
        }
    }
}
