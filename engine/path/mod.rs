//! A signal becomes a path: which node is next, and what it costs.
//!
//! In: a [`Mechanism`](crate::signal::Mechanism) and a prompt of tokens. Out: tokens, one hop at a time
//! ([`GraphSession`]), or the paths of least resistance ([`beam()`]). `run` turns them into text.
#![forbid(unsafe_code)]

#[cfg(feature = "gpu")]
mod ahead;
mod beam;
mod charge;
#[cfg(feature = "gpu")]
mod decoder;
mod graph_session;
mod hook_runner;
mod sampler_chain;
mod sampling;
mod session;
mod session_options;
mod session_state;

#[cfg(feature = "gpu")]
pub use beam::beam_on;
pub use beam::{BeamPath, beam};
pub use charge::Charges;
#[cfg(feature = "gpu")]
pub use decoder::{Decoder, Nearest};
pub use graph_session::GraphSession;
pub use hook_runner::HookRunner;
pub use sampler_chain::{SamplerChain, StepContext};
pub use sampling::{Sampling, draw, likeliest};
pub use session::Session;
pub use session_options::SessionOptions;
pub use session_state::SessionState;
