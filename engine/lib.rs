//! A language-model engine whose core data structure is a graph.
//!
//! A token is a node; a directed edge carries a small matrix and a bias; a signal flows from node to node,
//! and the node it reaches with the most energy — over the least resistance — is the next token (BriLLM and
//! its SiFu mechanism, arXiv 2503.11299). State does not grow with the text, every node and edge can be
//! inspected, and a step reads only the edges that leave the current node.
//!
//! # Modules
//!
//! [`text`] → tokens → [`graph`] → [`signal`] → energies → [`path`] → text; [`learn`] runs the same steps forward and
//! backward. A module uses only modules before it: `error`, [`kernel`], [`ranks`], [`modality`], [`text`], [`hook`], [`graph`], [`signal`],
//! [`path`], [`model`], [`measure`], [`learn`], `transformer` (transformers and recurrent networks, a feature), `plugin`
//! (a feature), [`run`], `serve` (the server and the visualiser, a feature).
//!
//! # First steps
//!
//! ```
//! let model = brillm::open("models/english.bril")?;
//! let (text, _) = model.start(model.request("Once upon a time")?.tokens(5))?.collect_text()?;
//! println!("Once upon a time{text}");
//! # Ok::<(), brillm::Error>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | open a model of either kind | [`open`], an [`Engine`] |
//! | continue a text, token by token | [`Request`], a [`Generation`]; [`path::Sampling`] sets how tokens are chosen |
//! | cancel it from another thread | [`Request::cancel`] |
//! | inspect a step: energies, probabilities | [`path::Session::look`] |
//! | control a path: given tokens, added energy, a saved state | [`Request::force`], [`Request::inject`], [`path::SessionState`] |
//! | find the paths of least resistance | [`run::HookedEngine::beam`] |
//! | measure a model and an n-gram baseline | [`run::HookedEngine::windows`], [`measure::Perplexity`], [`measure::KneserNey`] |
//! | train a model | [`learn::Recipe`], [`learn::Trainer`] |
//! | use a model's graph with petgraph | [`graph::TokenGraph`] |
//! | change what the engine computes or chooses | [`hook::Hooks`] |
//!
//! Models are cheap to clone and shared by threads; a session belongs to one thread. There is no global state: two
//! models, or two versions of this library, do not affect each other. Nothing panics on input; an [`Error`] states what
//! is wrong, where, and what to do.
//!
//! # Features
//!
//! An application that embeds the engine uses `default-features = false`: a small engine on the CPU. `transformer` adds
//! transformers and recurrent networks, `gpu` the WGSL backend, `mpi` training over several processes, `plugin` dynamic plugins, `import` reading of the
//! authors' checkpoints, `modality` reading and writing of images and sounds; `cli` and `model` belong to the program. From C and C++: `engine/capi`.
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
pub mod modality;
pub mod model;
pub mod path;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod ranks;
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

pub use error::{Error, ErrorKind, ErrorParts, Result};
pub use model::Model;
pub use run::{Engine, Generation, Request, open};
