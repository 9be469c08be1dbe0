//! How well a model predicts held-out text, and the bar it must pass.
//!
//! In: token ids and any model's probabilities. Out: a [`Perplexity`] over the [`Windows`] of a text, and the
//! same figure of the n-gram model [`KneserNey`], the rival that every figure of this engine stands next to.
//! `learn` validates with it; the commands that evaluate and compare models print it.
#![forbid(unsafe_code)]

mod classification;
mod context_tree;
mod continuation;
#[cfg(feature = "gpu")]
mod device_speed;
mod kneser_ney;
mod perplexity;
mod speed;
mod windows;

pub use classification::{Classification, Confusion};
pub use continuation::Continuations;
#[cfg(feature = "gpu")]
pub use device_speed::{DeviceDecodeBench, DeviceDecodeSpeed, copy_speed};
pub use kneser_ney::KneserNey;
pub use perplexity::Perplexity;
pub use speed::{DecodeBench, DecodeSpeed};
pub use windows::{Prediction, Windows, check_ids};
