//! Fit of the recall (Grave et al. 2017) of a finished model on a held-out stream.
//!
//! The model does not change. One pass over the text records, for each prediction and each θ of a list, how probable the
//! model and the remembered nodes make the true token; μ and the slope are then found by pattern search.

use std::sync::Arc;

use crate::kernel::logits;
use crate::learn::pattern_search;
use crate::path::{Recall, RecallSettings, similar};
use crate::signal::{Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// Factors θ that are tried.
const THETAS: [f32; 15] = [
    0.0, 1.0, 2.0, 4.0, 7.0, 10.0, 14.0, 18.0, 22.0, 28.0, 40.0, 60.0, 90.0, 130.0, 200.0,
];

/// Recall fitted to a stream, with the loss on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FittedRecall {
    /// Fitted constants.
    pub settings: RecallSettings,
    /// Nats per token without recall.
    pub before: f64,
    /// Nats per token with them.
    pub after: f64,
    /// The best constants with the same μ at every step, and nats per token with them.
    pub constant: (RecallSettings, f64),
}

/// What one θ makes of every prediction: ln N, and the recalled part r of the true token.
type Recalled = Vec<(f64, f64)>;

/// Fit θ, μ and the slope of [`Recall`] to `tokens`, one stream whose first token starts the signal.
///
/// # Errors
/// [`ErrorKind::Input`] for fewer than three tokens or a window out of range; else as [`Mechanism::hop`].
///
/// # Complexity
/// O(tokens · (hop + window · D)); memory for 30 numbers a token.
pub fn fit(mechanism: &Arc<Mechanism>, tokens: &[u32], window: usize) -> Result<FittedRecall> {
    if window == 0 {
        return Err(
            Error::new(ErrorKind::Input, "a window of 0 signals recalls nothing")
                .advice("choose a window of at least 1, such as 2000"),
        );
    }
    if tokens.len() < 3 {
        return Err(Error::new(
            ErrorKind::Input,
            "nothing to fit recall on: at least 3 tokens are needed",
        )
        .advice("add held-out text"));
    }
    let (model, by_theta) = predictions(mechanism, tokens, window)?;
    search(window, &model, &by_theta)
}

/// Find the best constants for recorded predictions.
fn search(window: usize, model: &[f64], by_theta: &[Recalled]) -> Result<FittedRecall> {
    // The first prediction has nothing to recall.
    let (first, model) = model.split_first().expect("two predictions");
    let first = -first.ln();
    let count = (model.len() + 1) as f64;
    let nats = |recalled: &Recalled, logit: f64, slope: f64| {
        let pairs = model.iter().zip(recalled);
        let sum: f64 = pairs
            .map(|(p, &(ln_n, r))| {
                let mu = sigmoid(logit + slope * ln_n);
                -((1.0 - mu) * p + mu * r).ln()
            })
            .sum();
        (sum + first) / count
    };
    let before = (first - model.iter().map(|p| p.ln()).sum::<f64>()) / count;
    let mut best: Option<FittedRecall> = None;
    for (theta, recalled) in THETAS.into_iter().zip(by_theta) {
        let of = |logit: f64, slope: f64| RecallSettings {
            window,
            theta,
            mu: sigmoid(logit) as f32,
            slope: slope as f32,
        };
        let (constant, level) = pattern_search::minimum([-1.5], [0.5], |points| {
            Ok(points
                .iter()
                .map(|point| nats(recalled, point[0], 0.0))
                .collect())
        })?;
        let gated = [constant[0], 0.0];
        let (gated, after) = pattern_search::minimum(gated, [0.5, 0.1], |points| {
            Ok(points
                .iter()
                .map(|point| nats(recalled, point[0], point[1]))
                .collect())
        })?;
        let constant = (of(constant[0], 0.0), level);
        let fitted = best.get_or_insert(FittedRecall {
            settings: constant.0,
            before,
            after: f64::INFINITY,
            constant,
        });
        if level < fitted.constant.1 {
            fitted.constant = constant;
        }
        if after < fitted.after {
            (fitted.settings, fitted.after) = (of(gated[0], gated[1]), after);
        }
    }
    Ok(best.expect("the list of factors has entries"))
}

/// Compute the model's probability of every true token, and what each θ makes of every prediction but the first.
fn predictions(
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    window: usize,
) -> Result<(Vec<f64>, Vec<Recalled>)> {
    let mut recall = Recall::new(RecallSettings {
        window,
        ..RecallSettings::default()
    })?;
    let mut flow = mechanism.begin(tokens[0], &Start::Profile)?;
    let nodes = mechanism.nodes();
    let (mut energies, mut logits) = (vec![0.0; nodes], vec![0.0; nodes]);
    let mut model = Vec::with_capacity(tokens.len());
    let mut by_theta = vec![Recalled::new(); THETAS.len()];
    for &next in &tokens[1..] {
        mechanism.check_node(next)?;
        mechanism.energies(&flow, &mut energies)?;
        mechanism.logits(&flow, &energies, &mut logits);
        model.push((-logits::cross_entropy(&mut logits, next as usize, None)).exp());
        let key = mechanism.key(&flow);
        if !recall.is_empty() {
            let similarities = recall.similarities(&key);
            for (theta, recalled) in THETAS.into_iter().zip(&mut by_theta) {
                let mut weights = similarities.clone();
                let ln_n = similar(&mut weights, f64::from(theta));
                let pairs = recall.nodes().iter().zip(weights);
                let r = pairs
                    .filter(|&(&node, _)| node == next)
                    .map(|(_, weight)| weight)
                    .sum();
                recalled.push((ln_n, r));
            }
        }
        recall.remember(&key, next);
        mechanism.hop(&mut flow, next)?;
    }
    Ok((model, by_theta))
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
