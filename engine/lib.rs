//! A language-model engine whose core data structure is a graph.
//!
//! A token is a node; a directed edge carries a small matrix and a bias; a signal flows from node to node,
//! and the node it reaches with the most energy — over the least resistance — is the next token (BriLLM and
//! its SiFu mechanism, arXiv 2503.11299). State does not grow with the text, every node and edge can be
//! looked at, and a step reads only the edges that leave the current node.
//!
//! # The way of the data
//!
//! [`text`] → tokens → [`graph`] → [`signal`] → energies → [`path`] → text; [`learn`] walks the same way and
//! back. A room uses only rooms before it: `error`, [`text`], [`kernel`], [`hook`], [`graph`], [`signal`], [`path`],
//! [`model`], [`measure`], [`learn`], `transformer` (the comparison path, a feature), [`run`], `serve` (the server and the
//! visualiser, a feature).
//!
//! # Three lines
//!
//! ```no_run
//! # fn main() -> brillm::Result<()> {
//! let model = brillm::Model::open("model.bril".as_ref(), Default::default())?;
//! let (text, _ids) = brillm::Request::text(&model, "Once upon a time")?.start(&model)?.collect_text()?;
//! println!("{text}");
//! # Ok(())
//! # }
//! ```
//!
//! # Literature
//!
//! * BriLLM: Brain-inspired Large Language Model, arXiv 2503.11299: the mechanism.
//! * Chen and Goodman, *An empirical study of smoothing techniques for language modeling*, 1999:
//!   static resistances and the baseline.
//! * Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019: the optimiser.
#![warn(missing_docs)]

mod error;
pub mod graph;
pub mod hook;
pub mod kernel;
pub mod learn;
pub mod measure;
pub mod model;
pub mod path;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod run;
#[cfg(feature = "serve")]
pub mod serve;
pub mod signal;
pub mod text;
#[cfg(feature = "transformer")]
pub mod transformer;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

pub use error::{Error, ErrorKind, Result};
pub use model::Model;
pub use run::{Generation, Request};
