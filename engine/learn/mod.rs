//! The way back: loss, gradients, optimiser, schedule, checkpoints and resume.
//!
//! In: a recipe and text. Out: a model, a log, checkpoints. The learners walk the same path as `signal`,
//! many sequences at once, and then back; the trainer repeats that until the recipe is done.
#![forbid(unsafe_code)]

pub mod adamw;
#[cfg(feature = "cli")]
mod axis;
pub mod batch;
pub mod charges;
pub mod checkpoint;
pub mod composed;
pub mod data;
mod data_recipe;
#[cfg(feature = "gpu")]
pub mod device;
mod dropout;
pub mod edge_trainer;
pub mod graph_model;
pub mod log;
mod network_recipe;
pub mod own;
pub mod parameter;
#[cfg(feature = "cli")]
pub mod plot;
pub mod preferences;
pub mod prior;
pub mod recipe;
mod record;
mod residual;
mod tensorboard;
mod trainer;
mod warm_start;

pub use edge_trainer::Trainable;
pub use recipe::Recipe;
pub use trainer::{Maker, Outcome, ProgressObserver, Trainer};
