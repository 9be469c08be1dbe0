//! Methods that say what each token of a text means for a choice, on a graph or a transformer.

use super::{Walk, best_two, logits};
use crate::kernel::random::Random;
use crate::path::Sampling;
use crate::run::Engine;
use crate::signal::ContributionSource;
use crate::signal::MarginSource;
use crate::{Error, ErrorKind, Result};

/// What a method says of a text.
pub(super) struct Attributed {
    pub(super) method: &'static str,
    /// What each token adds to the margin; of methods without a unit, shares of it. `[T]`
    pub(super) values: Vec<f64>,
}

/// A choice to explain.
pub(super) struct Choice {
    pub(super) chosen: u32,
    pub(super) alternative: u32,
    pub(super) margin: f64,
}

/// Return the logits of the next token. `[V]`
pub(super) fn predict(engine: &Engine, ids: &[u32]) -> Result<Vec<f32>> {
    let mut session = engine.session(ids, Sampling::greedy())?;
    Ok(session.look()?.1.to_vec())
}

/// Return the choice after a text, and its probability.
pub(super) fn choose(engine: &Engine, ids: &[u32]) -> Result<Choice> {
    let logits = predict(engine, ids)?;
    let Some((chosen, alternative)) = best_two(&logits) else {
        return Err(Error::new(
            ErrorKind::Numeric,
            "no two tokens are left to choose from",
        ));
    };
    let choice = Choice {
        chosen,
        alternative,
        margin: 0.0,
    };
    Ok(Choice {
        margin: choice.margin_of(&logits),
        ..choice
    })
}

impl Choice {
    /// The margin of the chosen token over the alternative.
    pub(super) fn margin_of(&self, logits: &[f32]) -> f64 {
        f64::from(logits[self.chosen as usize]) - f64::from(logits[self.alternative as usize])
    }

    /// The probability of the chosen token.
    pub(super) fn probability(&self, logits: &[f32]) -> f64 {
        let mut probabilities = logits.to_vec();
        crate::kernel::softmax::softmax(&mut probabilities);
        f64::from(probabilities[self.chosen as usize])
    }

    /// Scale shares so that they add up to the margin.
    #[cfg(feature = "transformer")]
    fn shares(&self, mut values: Vec<f64>) -> Vec<f64> {
        let sum: f64 = values.iter().sum();
        let scale = if sum > 0.0 { self.margin / sum } else { 0.0 };
        values.iter_mut().for_each(|value| *value *= scale);
        values
    }

    /// Explain the choice by every method that the model has, and by random numbers.
    pub(super) fn attribute(
        &self,
        engine: &Engine,
        ids: &[u32],
        random: &mut Random,
    ) -> Result<Vec<Attributed>> {
        let mut attributed = match engine {
            Engine::Graph(model) => {
                let walk = Walk::new(model.mechanism(), ids)?;
                let values = self.contributions(&walk, ids.len())?;
                vec![
                    Attributed {
                        method: "contribution, counts",
                        values: self.with_counts(&walk, values.clone()),
                    },
                    Attributed {
                        method: "contribution",
                        values,
                    },
                ]
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                let targets = (self.chosen, self.alternative);
                let saliency = crate::transformer::saliency(model, ids, targets)?;
                [
                    ("attention", self.shares(saliency.attention)),
                    ("attention rollout", self.shares(saliency.rollout)),
                    ("gradient x input", saliency.gradient_input),
                    ("integrated gradients", saliency.integrated),
                ]
                .map(|(method, values)| Attributed { method, values })
                .into()
            }
        };
        attributed.push(Attributed {
            method: "random",
            values: ids
                .iter()
                .map(|_| (random.uniform() - 0.5) * 2.0 * self.margin)
                .collect(),
        });
        Ok(attributed)
    }

    /// The term of each token in the margin; 0 for a token that left no signal. `[T]`
    fn contributions(&self, walk: &Walk<'_>, length: usize) -> Result<Vec<f64>> {
        let targets = (self.chosen, self.alternative);
        let margin = walk
            .attribution
            .margin(walk.mechanism, &walk.flow, &walk.logits, targets)?;
        let mut values = vec![0.0; length];
        for (source, value) in margin.terms {
            if let MarginSource::Signal(ContributionSource::Token { position, .. }) = source {
                values[position] = value;
            }
        }
        Ok(values)
    }

    /// Add what the counts of the training text lose without a token. Without the last token the choice is that of the
    /// step before; without another, a walk of the counts that contains it is a walk of the tokens that are left.
    fn with_counts(&self, walk: &Walk<'_>, mut values: Vec<f64>) -> Vec<f64> {
        let flow = &walk.flow;
        let counts = |earlier: &[u32]| {
            let part = |target| walk.mechanism.fixed_parts(flow.node, earlier, target).1;
            part(self.chosen) - part(self.alternative)
        };
        let whole = counts(&flow.earlier);
        let last = values.len() - 1;
        for index in 0..flow.earlier.len() {
            let mut rest = flow.earlier.clone();
            rest.remove(index);
            // The walk then reaches a token further back, which the flow does not keep: its longest part is left out.
            values[last - (flow.earlier.len() - index)] += whole - counts(&rest);
        }
        if let Some(before) = &walk.before {
            values[last] = self.margin - self.margin_of(before);
        }
        values
    }

    /// Compare what the margin loses without each token's signal at this step with its term: pairs of predicted and
    /// observed change; empty where the engine has no such step.
    pub(super) fn muted(&self, engine: &Engine, ids: &[u32]) -> Result<Vec<(f64, f64)>> {
        let Some(model) = engine.as_graph() else {
            return Ok(Vec::new());
        };
        let walk = Walk::new(model.mechanism(), ids)?;
        if model.mechanism().profile().residual.is_some() {
            return Ok(Vec::new());
        }
        let predicted = self.contributions(&walk, ids.len())?;
        let mut pairs = Vec::with_capacity(ids.len());
        for (position, predicted) in predicted.into_iter().enumerate() {
            // The paper's start leaves no signal in the blend.
            let Ok(muted) = walk.attribution.mute(walk.mechanism, &walk.flow, position) else {
                continue;
            };
            let margin = self.margin_of(&logits(walk.mechanism, &muted)?);
            pairs.push((predicted, self.margin - margin));
        }
        Ok(pairs)
    }
}
