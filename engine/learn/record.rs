//! What is written down about a run: one record a training step or validation.
//!
//! Fields whose names begin with `wall_` depend on the clock and the machine; all others depend on the run
//! alone, so that two runs are compared by leaving the `wall_` fields out. A value that is not finite is
//! written as `null` (NaN in the other forms) and read back as not a number.

use crate::measure::Perplexity;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// What one optimiser step did.
    Training(Training),
    /// How well the model predicts held-out text after a step.
    Validation(Validation),
}

/// What one optimiser step (or the mean of the steps since the last record) did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Optimiser steps done, this one included.
    pub step: u64,
    /// Training tokens seen, those of this step included.
    pub tokens: u64,
    /// Mean −ln p of the batch, in nats a token.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// The learning rate.
    #[serde(deserialize_with = "number")]
    pub rate: f64,
    /// Euclidean norm of the whole gradient before clipping, where the optimiser forms one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Training tokens a second since the last record.
    #[serde(deserialize_with = "number")]
    pub wall_tokens_per_second: f64,
    /// Seconds of training so far, those before a resume included.
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    /// When: seconds since 1970, see [`wall_time`].
    #[serde(deserialize_with = "number")]
    pub wall_time: f64,
}

/// How well the model predicts held-out text after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Optimiser steps done.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Mean −ln p of the held-out tokens, in nats.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// `exp` of the loss.
    #[serde(deserialize_with = "number")]
    pub perplexity: f64,
    /// Held-out tokens predicted.
    pub predictions: u64,
    /// Over how many candidates each prediction was normalised.
    pub candidates: u64,
    /// Seconds of training so far, those before a resume included.
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    /// When: seconds since 1970, see [`wall_time`].
    #[serde(deserialize_with = "number")]
    pub wall_time: f64,
}

impl Validation {
    /// The record of a measured perplexity after `step` steps and `tokens` training tokens, now.
    pub fn new(step: u64, tokens: u64, measured: &Perplexity, wall_seconds: f64) -> Self {
        Self {
            step,
            tokens,
            loss: measured.nats_per_token(),
            perplexity: measured.perplexity(),
            predictions: measured.tokens(),
            candidates: measured.candidates(),
            wall_seconds,
            wall_time: wall_time(),
        }
    }
}

impl Record {
    /// Optimiser steps done when the record was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Training(training) => training.step,
            Self::Validation(validation) => validation.step,
        }
    }

    /// When: seconds since 1970.
    pub fn wall_time(&self) -> f64 {
        match self {
            Self::Training(training) => training.wall_time,
            Self::Validation(validation) => validation.wall_time,
        }
    }

    /// The columns of [`row`](Self::row).
    pub(super) const COLUMNS: &str = "kind,step,tokens,loss,perplexity,rate,gradient_norm,\
        predictions,candidates,wall_tokens_per_second,wall_seconds,wall_time";

    /// The record as comma-separated values; what a kind of record does not have is empty.
    pub(super) fn row(&self) -> String {
        match self {
            Self::Training(record) => format!(
                "training,{},{},{},,{},{},,,{},{},{}",
                record.step,
                record.tokens,
                finite(record.loss),
                finite(record.rate),
                record
                    .gradient_norm
                    .map_or_else(String::new, |norm| finite(norm).to_string()),
                finite(record.wall_tokens_per_second),
                finite(record.wall_seconds),
                finite(record.wall_time),
            ),
            Self::Validation(record) => format!(
                "validation,{},{},{},{},,,{},{},,{},{}",
                record.step,
                record.tokens,
                finite(record.loss),
                finite(record.perplexity),
                record.predictions,
                record.candidates,
                finite(record.wall_seconds),
                finite(record.wall_time),
            ),
        }
    }

    /// The record's values for charts, by tag.
    pub(super) fn scalars(&self) -> Vec<(&'static str, f64)> {
        let mut scalars = match self {
            Self::Training(record) => {
                let mut scalars = vec![
                    ("train/loss", record.loss),
                    ("train/rate", record.rate),
                    ("train/tokens_per_second", record.wall_tokens_per_second),
                    ("train/tokens", record.tokens as f64),
                ];
                scalars.extend(
                    record
                        .gradient_norm
                        .map(|norm| ("train/gradient_norm", norm)),
                );
                scalars
            }
            Self::Validation(record) => vec![
                ("validation/loss", record.loss),
                ("validation/perplexity", record.perplexity),
            ],
        };
        for (_, value) in &mut scalars {
            *value = finite(*value);
        }
        scalars
    }
}

/// The clock that records carry: seconds since 1970.
pub fn wall_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// JSON has no infinities, so no form of the log keeps them: each is rebuilt from the JSON when resuming.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
