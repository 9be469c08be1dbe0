//! Write plugins for the brillm engine: implement a trait, name it in [`export!`], build a `cdylib`.
//!
//! ```
//! use brillm_plugin::{Answer, EdgeHook, Fan, Host, Plugin, Result, export};
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
//! impl EdgeHook for Walked {
//!     fn resist(&mut self, _: &mut Host, fan: &Fan, resistance: &mut [f32]) -> Result<Answer> {
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
//!         hooks: [EdgeHook],
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Plugins are written without pointers. The engine reports a panic with its message and never calls the instance
//! again. A plugin may use no source of randomness but [`Host::random`], so that runs replay; [`Host::log`] writes into
//! the run's log. Calls of one instance never overlap. The data types are those of `brillm-hook`, which the engine uses
//! as well.
#![allow(
    clippy::missing_safety_doc,
    reason = "the functions behind the macro are the C interface, documented in brillm-abi"
)]

mod cache;
mod choice;
mod corpus;
#[doc(hidden)]
pub mod entry;
mod error;
mod graph;
mod host;
mod learning;
mod plugin;
mod probe;
mod random;
mod ranking;
mod schedule;

pub use brillm_hook::{
    Activations, Answer, Canvas, CodecAxis, CodecFormat, CodecQuestion, CodecSide, ColumnSum,
    Direction, Distance, Eviction, Fan, Fill, HeadReduction, Hop, KeepNeeds, KeepQuestion, KvShape,
    MaskMoment, MaskOutcome, MaskTokens, Phase, Planned, Prompt, Setting, Speech, Spoken, State,
    Step, SubjectKind, SubjectShape, Tap,
};
pub use cache::{CodecHook, HostTrial, KeepHook, PlanHook};
pub use choice::{OrderHook, SampleHook};
pub use corpus::{CorpusHook, HostReference, Records};
pub use error::{PluginError, Result};
pub use graph::{EdgeHook, PathHook, ShaderSource, SignalHook};
pub use host::{Host, LogLevel};
pub use learning::MaskHook;
pub use plugin::Plugin;
pub use probe::{HostModel, ProbeHook};
pub use random::RandomStream;
pub use ranking::{Amount, RankingOrder, highest};
pub use schedule::MaskSchedule;

#[doc(hidden)]
pub use brillm_abi as abi;
