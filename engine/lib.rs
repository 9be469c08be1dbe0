//! A language-model engine whose core data structure is a graph.
#![warn(missing_docs)]

mod error;
pub mod graph;
pub mod kernel;
pub mod learn;
pub mod measure;
pub mod model;
pub mod path;
pub mod signal;
pub mod text;

pub use error::{Error, ErrorKind, Result};
