//! From a signal to a path: which token comes next, and its resistance.
//!
//! In: a [`Mechanism`](crate::signal::Mechanism) and a prompt of tokens. Out: tokens, one hop at a time
//! ([`Session`]), or the paths of least resistance ([`beam()`]). Every token is chosen by
//! [`Sampling::choose`], in `sampling.rs`; sessions of both engines reach it through a [`Sampler`].
#![forbid(unsafe_code)]

#[cfg(feature = "gpu")]
mod ahead;
mod beam;
mod cache_report;
mod charge;
#[cfg(feature = "gpu")]
mod decoder;
mod explained;
mod graph_session;
mod hook_runner;
mod recall;
mod sampler;
mod sampler_chain;
mod sampling;
mod session;
mod session_options;
mod session_state;

#[cfg(feature = "gpu")]
pub use beam::beam_on;
pub use beam::{BeamOptions, BeamPath, beam};
#[cfg(feature = "transformer")]
pub(crate) use beam::{nearest, search};
pub use cache_report::CacheReport;
pub use charge::Charges;
#[cfg(feature = "gpu")]
pub use decoder::{Decoder, Nearest};
pub use graph_session::GraphSession;
pub use hook_runner::HookRunner;
pub(crate) use recall::similar;
pub use recall::{Recall, RecallSettings, RecallShare};
pub use sampler::Sampler;
pub(crate) use sampler::check_tokens;
pub use sampler_chain::{SamplerChain, StepContext};
pub use sampling::{History, Sampling, draw, likeliest};
pub use session::{Session, Visit};
pub use session_options::SessionOptions;
pub use session_state::SessionState;
