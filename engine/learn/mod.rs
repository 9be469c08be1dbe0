//! The way back: loss, gradients, optimiser, schedule, resume.

pub mod adamw;
pub mod batch;
pub mod composed;
mod dropout;
pub mod own;
pub mod parameter;
pub mod prior;
mod residual;
