//! Joins the rooms: a model, a prompt, and text that streams out.
//!
//! In: a [`Model`](crate::Model) and a [`Request`]. Out: a [`Generation`], an iterator of tokens with
//! their text. The commands, the server and the C interface are thin over this room.
#![forbid(unsafe_code)]

mod engine;
mod evaluation;
mod generation;
mod speed;
mod training;

pub use engine::Engine;
pub use evaluation::{Evaluation, evaluate_stream, evaluate_windows};
pub use generation::{Finish, Generation, Piece, Request};
pub use speed::FlowSpeed;
pub use training::prepare_training;
