//! Measures of models: perplexity on held-out text, an n-gram baseline, classification and speed.
//!
//! A [`Perplexity`] sums the −ln p of predicted tokens over the [`Windows`] of a text. [`KneserNey`] is the n-gram
//! baseline that perplexities are compared with. [`crate::learn`] validates with these; the commands that evaluate and
//! compare models print them.
#![forbid(unsafe_code)]

#[cfg(feature = "gpu")]
mod bandwidth;
mod classification;
mod continuation;
#[cfg(feature = "gpu")]
mod device_speed;
mod kneser_ney;
mod perplexity;
mod speed;
mod windows;

#[cfg(feature = "gpu")]
pub use bandwidth::Bandwidth;
pub use classification::{Classification, Confusion};
pub use continuation::Continuations;
#[cfg(feature = "gpu")]
pub use device_speed::{DeviceDecodeBench, DeviceDecodeSpeed};
pub use kneser_ney::KneserNey;
pub use perplexity::Perplexity;
pub use speed::{DecodeBench, DecodeSpeed};
pub use windows::{Prediction, Windows, check_ids};
