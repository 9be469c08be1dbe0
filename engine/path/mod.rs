//! A signal becomes a path: which node is next, and what it costs.
//!
//! In: a [`Mechanism`](crate::signal::Mechanism) and a prompt of tokens. Out: tokens, one hop at a time
//! ([`Session`]), or the paths of least resistance ([`beam()`]). `run` turns them into text.
#![forbid(unsafe_code)]

mod beam;
mod charge;
mod sampling;
mod session;
mod walk;

pub use beam::{BeamPath, beam};
pub use charge::Charges;
pub use sampling::{Sampling, likeliest};
pub use session::{Session, SessionState};
pub use walk::Walk;
