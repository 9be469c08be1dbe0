//! One interface to both kinds of models: generation, scoring, evaluation, traces.
//!
//! In: an [`Engine`] and a [`Request`]. Out: a [`Generation`], an iterator of tokens with their text. The commands,
//! the server and the C interface are thin layers over this module.
#![forbid(unsafe_code)]

#[cfg(feature = "gpu")]
mod backend;
mod both_ways;
mod canvas;
mod contexts;
mod continuation;
mod engine;
mod evaluation;
pub mod explain;
#[cfg(feature = "transformer")]
mod filling;
mod fingerprint;
mod gap;
mod generation;
mod held_out;
mod ranking;
mod reader;
mod references;
mod scoring;
mod sequences;
pub(crate) mod shell;
mod speed;
mod steered;
mod subject;
pub mod trace;
mod train_source;
mod training;

#[cfg(all(feature = "gpu", feature = "cli"))]
pub(crate) use backend::taken_over;
#[cfg(feature = "gpu")]
pub use backend::{BackendChoice, device_for, mechanism_on};
pub use both_ways::grow_both_ways;
pub use canvas::{Grown, Placed, grow};
pub use contexts::{ContextEvaluation, ContextRow, Shuffle};
pub use continuation::{ContinuationReport, compare_continuations};
pub use engine::{Engine, EngineKind, EngineSummary, HookedEngine, SequenceOptions, open};
#[cfg(feature = "gpu")]
pub use evaluation::evaluate_windows_on;
pub use evaluation::{
    Evaluation, StreamOptions, evaluate_documents, evaluate_documents_over, evaluate_stream,
    evaluate_stream_over, evaluate_windows, evaluate_windows_over,
};
#[cfg(feature = "transformer")]
pub use filling::fill_text;
pub use fingerprint::{FINGERPRINTED, fingerprint, fingerprint_of_bytes, fingerprint_of_head};
pub use gap::{GapFill, GapSearch, fill_gap, same_tokens};
pub use generation::{Finish, Generation, Piece, Request};
pub use held_out::held_out_tokens;
pub use ranking::{Ranked, rerank};
pub use reader::Reader;
pub use references::{Speaker, write_records};
pub use scoring::{TokenScore, score_tokens};
pub use sequences::{Generated, SequenceRanks, generate_over};
pub use speed::FlowSpeed;
pub use steered::SteeredSession;
pub use subject::ProbedModel;
pub use train_source::{PreparedSource, TrainSource};
#[cfg(feature = "plugin")]
pub use training::{plugins_of, record_plugins};
pub use training::{prepare_training, prepare_training_over};
