//! The trace: every step of a path with what it chose among, and why.
//!
//! In: an engine, a [`TraceRequest`], hooks. Out: a [`Tracing`], which gives one [`Step`] at a time, and
//! at its end a [`Trace`]: the document `brillm-trace/1`, whose JSON Schema is [`SCHEMA`]. It records the model (by
//! checksum), seed, sampling, plugins and interventions, and for every step the candidates with energy,
//! probability and rank and the exact contribution of every earlier token (see [`crate::signal::Attribution`]). The
//! command `trace` and the server write and read the same documents.

mod comparison;
mod document;
mod explanation;
mod export;
mod fan;
mod intervention;
mod open;
mod step;
mod token;
mod tracing;

pub use comparison::{CandidateRank, Choice, ComparedStep, Comparison};
pub use document::{
    Annotations, Group, Pin, Trace, TraceFinish, TraceModel, TraceRequest, TraceSampling,
};
pub use explanation::{Explanation, FixedKind, Term, TermKind};
pub use export::{Theme, TraceFormat};
pub use fan::{FanLook, FanRequest};
pub use intervention::Intervention;
pub(crate) use intervention::Steering;
pub use step::{
    Attention, Candidate, CandidateRecall, CandidateWalk, Contributions, EdgeKind, Entry,
    EntryKind, RecalledPosition, Rest, Step,
};
pub use token::{ShownCode, ShownToken, show_tokens};
pub use tracing::{Traced, Tracing};

/// The name of the document, in every one of them.
pub const NAME: &str = "brillm-trace/1";

/// The JSON Schema of the document.
pub const SCHEMA: &str = include_str!("brillm-trace-1.schema.json");
