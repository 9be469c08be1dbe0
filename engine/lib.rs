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
//! ```
//! let model = brillm::open("models/english.bril")?;
//! let (text, _) = model.start(model.request("Once upon a time")?.tokens(5))?.collect_text()?;
//! println!("Once upon a time{text}");
//! # Ok::<(), brillm::Error>(())
//! ```
//!
//! # Where to begin
//!
//! | to | take |
//! |---|---|
//! | open a model of either kind | [`open`], an [`Engine`] |
//! | continue a text, token by token | [`Request`], a [`Generation`]; [`path::Sampling`] says how tokens are chosen |
//! | stop it from another thread | [`Request::cancel`] |
//! | look at a step: energies, probabilities | [`path::GraphSession::look`] |
//! | steer a path: given nodes, energy, a state to go on from | [`Request::force`], [`Request::inject`], [`path::SessionState`] |
//! | find the paths of least resistance | [`path::beam()`] |
//! | measure a model, and its rival | [`run::evaluate_stream`], [`measure::Perplexity`], [`measure::KneserNey`] |
//! | train a model | [`learn::Recipe`], [`learn::Trainer`] |
//! | walk a model's graph with petgraph | [`graph::TokenGraph`] |
//! | decide something yourself on the way | [`hook::Hooks`] |
//!
//! Models are cheap to clone and shared by threads; a session belongs to one. There is no global state: two models, or
//! two versions of this library, do not know of each other. Nothing panics on input; an [`Error`] says what, where and
//! what to do.
//!
//! # Features
//!
//! An app that embeds the engine takes `default-features = false`: a small engine on the processor. `transformer` adds
//! the comparison path, `gpu` the WGSL backend, `plugin` dynamic plugins, `import` the authors' checkpoints; `cli` and
//! `model` are the program's. From C and C++: `engine/capi`.
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
pub use run::{Engine, Generation, Request, open};
