//! Training of all edge forms behind one type.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::graph::TokenGraph;
use crate::kernel::pages;
use crate::kernel::table::Table;
use crate::learn::adamw::{AdamMode, Moments, gradient_norm};
use crate::learn::batch::{Batch, Loss};
use crate::learn::composed::Composed;
use crate::learn::dropout::Rates;
use crate::learn::layered::Layered;
use crate::learn::own::{Fans, Own, OwnedStep};
use crate::learn::parameter::{Parameter, Touched};
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::learn::shard_sums::ShardSums;
use crate::ranks::Ranks;
use crate::signal::{EdgeForm, Profile, Weights};
use crate::{Error, ErrorKind, Result};

/// The parameters of a graph's edges in training, with their moments.
pub struct EdgeTrainer {
    pub(super) form: Form,
    pub(super) moments: Vec<Moments<f32>>,
    /// Running averages of the parameters; empty before the first step, and where none are kept.
    pub(super) averages: Vec<Vec<f32>>,
    /// Exact sums of gradients of composed and layered edges, where they are wanted.
    exact_sums: Option<ShardSums>,
    /// Owners of the fans of own edges, where gradients are summed exactly.
    pub(super) fans: Option<Fans>,
}

/// The parameters of one form of edges.
pub(super) enum Form {
    Composed(Box<Composed<f32>>),
    Own(Box<Own<f32>>),
    Layered(Box<Layered<f32>>),
}

impl EdgeTrainer {
    /// Create fresh parameters.
    pub fn new(
        profile: &Profile,
        graph: &TokenGraph,
        dropout: impl Into<Rates>,
        seed: u64,
    ) -> Self {
        Self::of_form(Form::new(profile, graph, dropout.into(), seed))
    }

    /// Create fresh parameters whose gradients are summed exactly over all ranks: own edges on the ranks that own their
    /// fans, by their visits in `text`; composed and layered edges on every rank.
    ///
    /// # Errors
    /// As [`crate::graph::Owners::assign`], and those of an exchange between ranks.
    pub fn exact(
        ranks: &Arc<dyn Ranks>,
        profile: &Profile,
        graph: &TokenGraph,
        train: &Train,
        seed: u64,
        text: &[u32],
    ) -> Result<Self> {
        if profile.form == EdgeForm::Own {
            let fans = Fans::new(ranks, graph, profile, train, text)?;
            let mut edges = Own::holding(fans.held(graph), profile, graph, seed);
            edges.dropout = train.dropout;
            let mut trainer = Self::of_form(Form::Own(Box::new(edges)));
            trainer.fans = Some(fans);
            return Ok(trainer);
        }
        let form = || Form::new(profile, graph, train.rates(), seed);
        let mut trainer = Self::of_form(form());
        trainer.exact_sums = Some(ShardSums::new(Arc::clone(ranks), train.batch, form));
        Ok(trainer)
    }

    fn of_form(mut form: Form) -> Self {
        let moments = form
            .parameters()
            .iter()
            .map(|parameter| {
                // Moments are as large as the weights: with large pages the optimiser reads them faster.
                let mut first = vec![0.0; parameter.value.len()];
                let mut second = vec![0.0; parameter.value.len()];
                pages::prefer_large(&mut first);
                pages::prefer_large(&mut second);
                Moments { first, second }
            })
            .collect();
        Self {
            form,
            moments,
            averages: Vec::new(),
            exact_sums: None,
            fans: None,
        }
    }

    /// Collect on rank 0 what ranks have some each of and is not held in parts: the states that sequences continue from,
    /// and the rows of nodes.
    ///
    /// # Errors
    /// Those of an exchange.
    pub fn collect(&mut self) -> Result<()> {
        if let Some(sums) = &self.exact_sums {
            sums.collect_states(&mut self.form)?;
        }
        self.collect_nodes()
    }

    /// Return all parameters, in block order.
    pub fn parameters(&mut self) -> Vec<&mut Parameter<f32>> {
        self.form.parameters()
    }

    /// Return the moments, in the same order.
    pub fn moments(&mut self) -> &mut [Moments<f32>] {
        &mut self.moments
    }

    /// Return parameters and moments.
    pub fn both(&mut self) -> (Vec<&mut Parameter<f32>>, &mut [Moments<f32>]) {
        (self.form.parameters(), &mut self.moments)
    }

    /// Return the running averages, and the state that sequences continue from, by name.
    pub fn buffers(&mut self, train: &Train) -> Vec<(String, &mut Vec<f32>)> {
        let parameters = self.form.parameters();
        if train.average > 0.0 {
            self.averages.resize_with(parameters.len(), Vec::new);
        }
        let names = parameters.iter().map(|one| format!("{}.average", one.name));
        let names: Vec<String> = names.collect();
        // The average of edge weights that ranks own is theirs.
        let owned = usize::from(self.fans.is_some());
        let all = names.into_iter().zip(&mut self.averages).skip(owned);
        let mut all: Vec<_> = all.collect();
        if let Form::Layered(edges) = &mut self.form {
            all.push(("carried".into(), edges.state()));
        }
        all
    }

    /// Return the running averages of the parameters, in the same order; those of no step are empty.
    pub fn averages(&mut self) -> &mut Vec<Vec<f32>> {
        &mut self.averages
    }

    /// Return the state that sequences continue from, where edges have one.
    pub fn carried(&mut self) -> Option<&mut Vec<f32>> {
        self.form.state()
    }

    /// Swap the parameters with their running averages, where they are kept.
    pub fn swap_averages(&mut self) {
        let parameters = self.form.parameters();
        for (parameter, average) in parameters.into_iter().zip(&mut self.averages) {
            if !average.is_empty() {
                std::mem::swap(&mut parameter.value, average);
            }
        }
    }

    /// Move the running averages towards the parameters after step `step`, counted from 1.
    fn average(&mut self, decay: f64, step: u64) {
        let decay = average_decay(decay, step);
        let parameters = self.form.parameters();
        self.averages.resize_with(parameters.len(), Vec::new);
        for (parameter, average) in parameters.into_iter().zip(&mut self.averages) {
            if average.is_empty() {
                average.clone_from(&parameter.value);
            }
            let pairs = average.par_chunks_mut(1 << 14);
            pairs
                .zip(parameter.value.par_chunks(1 << 14))
                .for_each(|(average, value)| {
                    for (average, value) in average.iter_mut().zip(value) {
                        *average += (1.0 - decay) * (value - *average);
                    }
                });
        }
    }

    /// Compute the loss of a batch without gradients; on all ranks together where they own fans.
    ///
    /// # Errors
    /// Those of an exchange.
    pub fn loss(&mut self, graph: &TokenGraph, prior: &Prior<f32>, batch: &Batch) -> Result<Loss> {
        Ok(match (&mut self.form, &self.fans) {
            (Form::Composed(edges), _) => edges.loss(graph, prior, batch),
            (Form::Own(edges), Some(fans)) => edges.loss_over(fans, graph, prior, batch)?,
            (Form::Own(edges), None) => edges.loss(graph, prior, batch),
            (Form::Layered(edges), _) => edges.loss(graph, prior, batch),
        })
    }

    /// Take one step, numbered from 1. Returns the loss before it, and the norm of the gradient where it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite.
    pub fn learn(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
        train: &Train,
        step: u64,
    ) -> Result<(Loss, Option<f64>)> {
        let learned = self.take_step(graph, prior, batch, train, step)?;
        if train.average > 0.0 {
            self.average(train.average, step);
        }
        Ok(learned)
    }

    fn take_step(
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
        // Clipping by the norm of all gradients together (Pascanu et al. 2013) keeps the direction of the step.
        let factor = |norm: f64| match clip {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        let owned = self.fans.is_some() || adam.mode == AdamMode::Touched;
        match &mut self.form {
            // Edge weights move inside the backward pass: their gradients, the largest array, are never stored.
            Form::Own(edges) if owned => {
                let update = adam.update(step, rate * train.edge_rate, true);
                let (edge_weights, others) = self.moments.split_at_mut(1);
                let moments = (
                    edge_weights[0].first.as_mut_slice(),
                    edge_weights[0].second.as_mut_slice(),
                );
                let (loss, norm) = match &self.fans {
                    None => {
                        let (loss, norm) = edges.learn(graph, prior, batch, &update, moments, clip);
                        (finite(loss, step)?, norm)
                    }
                    Some(fans) => {
                        let dense = adam.mode == AdamMode::Dense;
                        let settings = OwnedStep {
                            step,
                            update,
                            moments,
                            clip,
                            dense,
                        };
                        edges.learn_over(fans, graph, prior, batch, settings)?
                    }
                };
                let scale = norm.map_or(1.0, factor);
                // The first parameter, the edge weights, has moved already.
                for (parameter, moments) in edges.parameters().into_iter().skip(1).zip(others) {
                    adam.step(parameter, moments, step, rate, scale);
                }
                Ok((loss, norm))
            }
            form => {
                let loss = match &mut self.exact_sums {
                    Some(sums) => sums.gradients(form, graph, prior, batch, step)?,
                    None => finite(form.gradients(graph, prior, batch), step)?,
                };
                let mut parameters = form.parameters();
                let norm = gradient_norm(&parameters);
                // Edge weights have a learning rate of their own: each is touched far more rarely than a node.
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

    /// Take one step, numbered from 1, that moves only `rows` of each parameter, by name; others have none. Returns the loss
    /// before it.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite.
    pub fn learn_rows(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
        train: &Train,
        step: u64,
        rows: &BTreeMap<&'static str, Vec<u32>>,
    ) -> Result<Loss> {
        let loss = finite(self.form.gradients(graph, prior, batch), step)?;
        let mut parameters = self.form.parameters();
        let with_gradient: Vec<Touched> = parameters
            .iter_mut()
            .map(|parameter| {
                let moving = rows.get(&*parameter.name).map_or(&[][..], Vec::as_slice);
                let moving = match &parameter.touched {
                    Touched::All => moving.to_vec(),
                    Touched::Rows(touched) => {
                        let allowed = |row: &&u32| moving.binary_search(row).is_ok();
                        touched.iter().filter(allowed).copied().collect()
                    }
                };
                std::mem::replace(&mut parameter.touched, Touched::Rows(moving))
            })
            .collect();
        let norm = gradient_norm(&parameters);
        let scale = match train.clip > 0.0 && norm > train.clip {
            true => train.clip / norm,
            false => 1.0,
        };
        let (adam, rate) = (train.adamw(), train.rate_at(step - 1));
        let all = parameters.into_iter().zip(&mut self.moments);
        for ((parameter, moments), touched) in all.zip(with_gradient) {
            adam.step(parameter, moments, step, rate, scale);
            // The next batch clears every row that has a gradient.
            parameter.touched = touched;
        }
        Ok(loss)
    }

    /// Take one step of plain gradient descent with a gradient of norm `clip` at most. Returns the loss before it.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when the loss is no longer finite.
    pub fn descend(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
        rate: f64,
        clip: f64,
    ) -> Result<Loss> {
        let loss = finite(self.form.gradients(graph, prior, batch), batch.index + 1)?;
        let parameters = self.form.parameters();
        let norm = gradient_norm(&parameters);
        let scale = -(rate * (clip / norm).min(1.0)) as f32;
        for parameter in parameters {
            // Rows that the batch did not touch have a gradient of zero.
            let pairs = parameter.value.iter_mut().zip(&parameter.gradient);
            pairs.for_each(|(value, gradient)| *value += scale * gradient);
        }
        Ok(loss)
    }

    /// Convert the parameters to the weights of a model.
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
            if let Some(index) = parameter.value.iter().position(|value| !value.is_finite()) {
                return Err(
                    Error::new(ErrorKind::Numeric, format!("value {index} is not finite"))
                        .at(format!("block {}", block.name))
                        .advice("training diverged: lower train.rate"),
                );
            }
            Ok(Some(Table::of(&parameter.value, block.rows, block.columns)))
        })
    }
}

/// Return the part of a running average that stays in step `step`, counted from 1.
pub(super) fn average_decay(decay: f64, step: u64) -> f32 {
    // Early averages follow the weights closely: the first ones are far from the last.
    decay.min((1 + step) as f64 / (10 + step) as f64) as f32
}

/// Check that the loss of a step is finite.
///
/// # Errors
/// [`ErrorKind::Numeric`] when it is not.
pub(super) fn finite(loss: Loss, step: u64) -> Result<Loss> {
    if loss.nats.is_finite() {
        return Ok(loss);
    }
    Err(
        Error::new(ErrorKind::Numeric, "the loss is no longer finite")
            .at(format!("step {step}"))
            .advice("lower train.rate or train.clip; the last checkpoint is valid"),
    )
}

impl Form {
    /// Create fresh parameters.
    fn new(profile: &Profile, graph: &TokenGraph, dropout: Rates, seed: u64) -> Self {
        match profile.form {
            EdgeForm::Composed => {
                let mut edges = Composed::new(profile, graph, seed);
                edges.dropout = dropout.output;
                Self::Composed(Box::new(edges))
            }
            EdgeForm::Own => {
                let mut edges = Own::new(profile, graph, seed);
                edges.dropout = dropout.output;
                Self::Own(Box::new(edges))
            }
            EdgeForm::Layered => {
                let mut edges = Layered::new(profile, graph, seed);
                edges.dropout = dropout;
                Self::Layered(Box::new(edges))
            }
        }
    }

    /// Return the state that sequences continue from, where edges have one.
    pub(super) fn state(&mut self) -> Option<&mut Vec<f32>> {
        match self {
            Self::Layered(edges) => Some(edges.state()),
            Self::Composed(_) | Self::Own(_) => None,
        }
    }

    /// Return the number of sequences of the training step before those of the next batch.
    pub(super) fn first_sequence(&mut self) -> &mut usize {
        match self {
            Self::Composed(edges) => &mut edges.first_sequence,
            Self::Own(edges) => &mut edges.first_sequence,
            Self::Layered(edges) => &mut edges.first_sequence,
        }
    }

    /// Compute the loss of a batch, and leave its gradient in the parameters.
    pub(super) fn gradients(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
    ) -> Loss {
        match self {
            Self::Composed(edges) => edges.gradients(graph, prior, batch),
            Self::Own(edges) => edges.gradients(graph, prior, batch),
            Self::Layered(edges) => edges.gradients(graph, prior, batch),
        }
    }

    pub(super) fn parameters(&mut self) -> Vec<&mut Parameter<f32>> {
        match self {
            Self::Composed(edges) => edges.parameters(),
            Self::Own(edges) => edges.parameters(),
            Self::Layered(edges) => edges.parameters(),
        }
    }
}
