//! The way back: loss, gradients, optimiser, schedule, resume.

pub mod adamw;
pub mod batch;
pub mod composed;
pub mod parameter;
pub mod prior;
mod residual;
