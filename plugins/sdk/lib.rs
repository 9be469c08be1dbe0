//! Writes plugins for the brillm engine: implement a trait, name it in [`export!`], build a `cdylib`.
//!
//! ```
//! use brillm_plugin::{Answer, Call, Edge, Fan, Plugin, Result, export};
//!
//! /// Options arrive checked against the schema, with defaults filled in.
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Options {
//!     strength: f32,
//! }
//!
//! /// Prefers edges that text has walked often.
//! struct Walked(Options);
//!
//! impl Plugin for Walked {
//!     type Options = Options;
//!     fn create(options: Options) -> Result<Self> {
//!         Ok(Self(options))
//!     }
//! }
//!
//! impl Edge for Walked {
//!     fn resist(&mut self, _: &mut Call, fan: &Fan, resistance: &mut [f32]) -> Result<Answer> {
//!         for (&target, &count) in fan.targets.iter().zip(fan.counts) {
//!             resistance[target as usize] -= self.0.strength * (count as f32).ln();
//!         }
//!         Ok(Answer::Given)
//!     }
//! }
//!
//! export! {
//!     Walked {
//!         id: "org.example.walked",
//!         about: "Prefers edges that text has walked often.",
//!         license: "MIT",
//!         schema: r#"{"type": "object", "additionalProperties": false, "properties":
//!             {"strength": {"type": "number", "default": 0.1, "minimum": 0}}}"#,
//!         hooks: [Edge],
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! An author sees no pointer. A panic stops at the door: the engine reports it with its message and never calls
//! the instance again. [`Call::random`] is the only source of randomness a plugin may use, so that runs replay;
//! [`Call::log`] writes into the run's log. Calls on one instance come one at a time.
#![allow(
    clippy::missing_safety_doc,
    reason = "the functions behind the macro are the C interface, documented in brillm-abi"
)]

mod cache;
mod call;
mod choice;
mod codec;
mod corpus;
#[doc(hidden)]
pub mod door;
mod error;
mod graph;
mod learning;
mod plugin;
mod probe;
mod random;
mod ranking;
mod schedule;
mod subject;
mod view;

pub use cache::{
    ColumnSum, Distance, Eviction, Heads, KeepQuestion, KeepWants, KvKeep, KvPlan, Phase,
    PlanQuestion, Storage, Trial,
};
pub use call::{Answer, Call, Level};
pub use choice::{Canvas, Direction, Order, Place, Prompt, Sample, Setting, Step};
pub use codec::{Axis, CodecPlan, CodecQuestion, KvCodec, Side};
pub use corpus::{Corpus, Records, Reference, Speech, Spoken};
pub use error::{Error, Result};
pub use graph::{Edge, Fan, Hop, Path, Shader, Signal, Start};
pub use learning::{Mask, MaskMoment, MaskOutcome, MaskTokens};
pub use plugin::Plugin;
pub use probe::{Activations, Probe, Tap};
pub use random::Random;
pub use ranking::{Amount, Preference, highest};
pub use schedule::Schedule;
pub use subject::{Kind, State, Subject};

#[doc(hidden)]
pub use brillm_abi as abi;
