//! Records of a run: one per logged training step or validation.
//!
//! Fields whose names begin with `wall_` depend on the clock and the machine; all others are
//! determined by the run, so that two runs can be compared without the `wall_` fields. A value that is not finite is
//! written as `null` (NaN in the other formats) and read back as NaN.

use crate::measure::Perplexity;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// Mean over the optimiser steps since the last record.
    Training(Training),
    /// Validation after a step.
    Validation(Validation),
}

/// Mean over the optimiser steps since the last record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Number of optimiser steps, including this one.
    pub step: u64,
    /// Number of training tokens, including those of this step.
    pub tokens: u64,
    /// Mean −ln p of the batch, in nats per token.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// The learning rate.
    #[serde(deserialize_with = "number")]
    pub rate: f64,
    /// Euclidean norm of the whole gradient before clipping, where the optimiser forms one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Training tokens per second since the last record.
    #[serde(deserialize_with = "number")]
    pub wall_tokens_per_second: f64,
    /// Seconds of training so far.
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    /// Time in seconds since 1970, see [`wall_time`].
    #[serde(deserialize_with = "number")]
    pub wall_time: f64,
}

/// Validation after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Number of optimiser steps.
    pub step: u64,
    /// Number of training tokens.
    pub tokens: u64,
    /// Mean −ln p of the held-out tokens, in nats.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// `exp` of the loss.
    #[serde(deserialize_with = "number")]
    pub perplexity: f64,
    /// Number of predictions.
    pub predictions: u64,
    /// Number of candidates that each prediction is normalised over.
    pub candidates: u64,
    /// Seconds of training so far.
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    /// Time in seconds since 1970, see [`wall_time`].
    #[serde(deserialize_with = "number")]
    pub wall_time: f64,
}

impl Validation {
    /// Create the record of a perplexity measured after `step` steps and `tokens` training tokens, with the current time.
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
    /// Number of optimiser steps.
    pub fn step(&self) -> u64 {
        match self {
            Self::Training(training) => training.step,
            Self::Validation(validation) => validation.step,
        }
    }

    /// Time in seconds since 1970.
    pub fn wall_time(&self) -> f64 {
        match self {
            Self::Training(training) => training.wall_time,
            Self::Validation(validation) => validation.wall_time,
        }
    }

    /// The columns of [`row`](Self::row).
    pub(super) const COLUMNS: &str = "kind,step,tokens,loss,perplexity,rate,gradient_norm,\
        predictions,candidates,wall_tokens_per_second,wall_seconds,wall_time";

    /// Format the record as comma-separated values; fields of the other kind are empty.
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

    /// The values for charts, by tag.
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

/// Current time in seconds since 1970, as records contain it.
pub fn wall_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// Replace infinities, which JSON does not have, by NaN: all formats are rebuilt from the JSON when resuming.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
