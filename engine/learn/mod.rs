//! Training: loss, gradients, optimiser, schedule, checkpoints and resume.
//!
//! A [`Trainer`] takes a [`Recipe`] and text, and writes a model, a log and checkpoints. A [`Trainable`] computes the
//! loss and the gradients of a batch: the same forward pass as in [`crate::signal`], many sequences at once, and its
//! backward pass.
#![forbid(unsafe_code)]

pub mod adamw;
pub mod batch;
mod buffers;
pub mod charges;
pub mod checkpoint;
pub mod composed;
mod continual;
mod corpus_size;
pub mod data;
mod data_recipe;
mod default_recipe;
#[cfg(feature = "gpu")]
pub mod device;
pub mod dropout;
mod dynamic;
pub mod edge_trainer;
pub mod graph_model;
mod kept_changes;
pub mod layered;
pub mod log;
mod network_recipe;
pub mod own;
mod owned_edges;
pub mod parameter;
mod pattern_search;
pub mod plan;
#[cfg(feature = "cli")]
pub mod plot;
pub mod preferences;
pub mod prior;
mod readout;
pub mod recall;
pub mod recipe;
mod record;
mod residual;
mod run_file;
mod shard_file;
mod shard_sums;
mod source_files;
mod step_model;
mod tensorboard;
mod train_recipe;
mod trainable;
mod trainer;
mod warm_start;

pub use continual::{ContinualProgress, ContinualSettings, Lesson, NewText, learn_text};
pub use corpus_size::CorpusSize;
pub use dynamic::{DynamicLearner, DynamicSettings};
pub use kept_changes::{keep_changes, kept_changes};
pub use recipe::Recipe;
pub use trainable::{HeldRows, Trainable};
pub use trainer::{Maker, Outcome, ProgressObserver, Trainer};
