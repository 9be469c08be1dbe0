//! The `[train]` section of a run file: batches, optimiser, schedule and logging.

use serde::{Deserialize, Serialize};

use crate::learn::adamw::{AdamMode, AdamW};
use crate::learn::dropout::Rates;
use crate::{Error, ErrorKind, Result};

/// Choice of the negatives of sampled softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegativeKind {
    /// The source's most frequent successors, the same at every visit, as the authors do.
    #[default]
    Frequent,
    /// Uniformly drawn targets.
    Uniform,
}

/// How gradients of a batch are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// As floats, in a fixed order.
    #[default]
    Float,
    /// In fixed point: the same bits on any number of ranks.
    Exact,
}

impl Reduction {
    /// Whether this is the default, which records of runs leave out.
    fn is_float(&self) -> bool {
        *self == Self::Float
    }
}

/// Learning-rate schedule after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine, down to `rate-floor`.
    #[default]
    Cosine,
    /// The highest rate throughout.
    Constant,
}

/// Settings of the training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Train {
    /// Whether each sequence of a batch continues where it ended in the batch before (layered edges only). The text is then
    /// read as `batch` streams; else as windows in random order.
    pub carry: bool,
    /// Probability that a sequence begins anew nevertheless, so that the model also learns to begin.
    pub reset: f64,
    /// Decay of the running average of the weights, which is what is validated and saved; 0 for the last weights.
    pub average: f64,
    /// Total number of predicted tokens.
    pub tokens: u64,
    /// Sequences per batch, `B`.
    pub batch: usize,
    /// Predictions per sequence, `T`.
    pub steps: usize,
    /// The highest learning rate.
    pub rate: f64,
    /// Factor of the learning rate for the weights of own edges.
    #[serde(alias = "arena-rate")]
    pub edge_rate: f64,
    /// Steps over which the rate rises linearly from 0.
    pub warmup: u64,
    /// Schedule of the rate after the warm-up.
    pub schedule: Schedule,
    /// Final rate as a fraction of the highest (cosine).
    pub rate_floor: f64,
    /// Largest norm of the gradient; 0 for no clipping.
    pub clip: f64,
    /// Dropout probability of signal components.
    pub dropout: f64,
    /// Dropout probability of what a layer blends (layered edges only).
    pub dropout_memory: f64,
    /// Dropout probability of the signal that reaches a node (layered edges only).
    pub dropout_input: f64,
    /// Probability that a node's signal is dropped, the same nodes in all sequences of a batch (layered edges only).
    pub dropout_node: f64,
    /// Rows that the optimiser updates.
    pub optimiser: AdamMode,
    /// AdamW's β₁.
    pub beta1: f64,
    /// AdamW's β₂.
    pub beta2: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Sampled negatives per prediction; 0 for the exact softmax.
    pub negatives: usize,
    /// Choice of the negatives.
    pub negative_kind: NegativeKind,
    /// Folds of the cross-fitted static resistances; 0 uses the full counts.
    pub folds: usize,
    /// Tokens per block; each block belongs to one fold, and each sequence to one block.
    pub block: usize,
    /// How the gradients of a batch are added; exactly in a run over ranks.
    #[serde(skip_serializing_if = "Reduction::is_float")]
    pub reduction: Reduction,
    /// In a run over ranks, own edges of a node that cost more than 1/(`cut` · ranks) of all work are divided among several
    /// ranks; 0 keeps them together. Results have the same bits, so that records of runs leave it out.
    #[serde(skip_serializing)]
    pub cut: usize,
    /// Steps between log records.
    pub log_every: u64,
    /// Steps between validations; 0 for one per epoch.
    pub validate_every: u64,
    /// Validations without improvement after which training stops; 0 for never.
    pub patience: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Number of checkpoints that are kept.
    pub checkpoints: usize,
    /// Whether to fit charges on the validation text, as one stream, after training.
    pub charges: bool,
    /// Window of the recall to fit on the validation text, as one stream, after training; 0 for none.
    pub recall: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            carry: false,
            reset: 0.5,
            average: 0.0,
            tokens: 2_000_000,
            batch: 32,
            steps: 32,
            rate: 8e-3,
            edge_rate: 1.0,
            warmup: 60,
            schedule: Schedule::Cosine,
            rate_floor: 0.03,
            clip: 1.0,
            dropout: 0.1,
            dropout_memory: 0.0,
            dropout_input: 0.0,
            dropout_node: 0.0,
            optimiser: AdamMode::Touched,
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.05,
            negatives: 0,
            negative_kind: NegativeKind::Frequent,
            folds: 10,
            block: 1500,
            reduction: Reduction::Float,
            cut: 8,
            log_every: 20,
            validate_every: 0,
            patience: 0,
            checkpoint_every: 1000,
            checkpoints: 2,
            charges: false,
            recall: 0,
        }
    }
}

impl Train {
    /// Total number of steps.
    pub fn total_steps(&self) -> u64 {
        (self.tokens / (self.batch * self.steps) as u64).max(1)
    }

    /// The learning rate of step `index`, counted from 0.
    pub fn rate_at(&self, index: u64) -> f64 {
        // Linear warm-up times the schedule; cosine: floor + (1 − floor) (1 + cos πt) / 2 for t from 0 to 1.
        let warm = ((index + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let shape = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                let along = index as f64 / self.total_steps() as f64;
                self.rate_floor
                    + (1.0 - self.rate_floor) * 0.5 * (1.0 + (std::f64::consts::PI * along).cos())
            }
        };
        self.rate * warm * shape
    }

    /// The dropout probabilities.
    pub(super) fn rates(&self) -> Rates {
        Rates {
            output: self.dropout,
            memory: self.dropout_memory,
            input: self.dropout_input,
            node: self.dropout_node,
        }
    }

    /// The optimiser with these settings.
    pub fn adamw(&self) -> AdamW {
        AdamW {
            mode: self.optimiser,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        }
    }

    /// Check the ranges of all numbers.
    pub(super) fn check(&self) -> Result<()> {
        let checks = [
            (
                (1..=65536).contains(&self.batch) && (1..=4096).contains(&self.steps),
                "train.batch must be 1 to 65536 and train.steps 1 to 4096",
            ),
            (
                [
                    self.dropout,
                    self.dropout_memory,
                    self.dropout_input,
                    self.dropout_node,
                ]
                .iter()
                .all(|rate| (0.0..1.0).contains(rate)),
                "train.dropout, dropout-memory, dropout-input and dropout-node must be at least 0 and below 1",
            ),
            (
                (0.0..=1.0).contains(&self.reset),
                "train.reset must be 0 to 1",
            ),
            (
                (0.0..1.0).contains(&self.average),
                "train.average must be at least 0 and below 1",
            ),
            (
                self.rate > 0.0 && self.rate.is_finite(),
                "train.rate must be above 0",
            ),
            (
                self.folds != 1 && self.folds <= 64,
                "train.folds must be 0, or 2 to 64",
            ),
            (self.block > 0, "train.block must be at least 1"),
            (
                self.log_every > 0 && self.checkpoint_every > 0 && self.checkpoints > 0,
                "train.log-every, checkpoint-every and checkpoints must be at least 1",
            ),
        ];
        match checks.into_iter().find(|(valid, _)| !valid) {
            Some((_, what)) => Err(Error::new(ErrorKind::Configuration, what)),
            None => Ok(()),
        }
    }
}
