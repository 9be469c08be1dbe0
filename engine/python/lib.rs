//! The native module of the Python package `brillm`.
//!
//! A thin layer over the crate: arguments come as ids, paths and JSON documents, results leave as numbers, JSON and
//! [`Buffer`](buffer::Buffer)s that NumPy reads without copying. What people call is in `brillm/`. Rules:
//!
//! * **Errors** are exceptions of `brillm.Error` with the parts what, where and advice.
//! * **Panics** are caught and become `brillm.InternalError`.
//! * **The interpreter's lock** is released while the engine computes; Ctrl-C ends long calls.
//! * **Threads.** A model never changes and is shared. Calls on one generation or session wait for each other.
#![forbid(unsafe_code)]

mod arguments;
mod buffer;
mod call;
mod command;
mod generation;
mod graph;
mod learn;
mod measure;
mod media;
mod model;
mod session;
mod trace;
mod train;

/// The engine; used by the package `brillm`, which documents it.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use super::buffer::Buffer;
    #[pymodule_export]
    use super::command::command;
    #[pymodule_export]
    use super::generation::Generation;
    #[pymodule_export]
    use super::graph::Graph;
    #[pymodule_export]
    use super::learn::{forget, learn, records, save};
    #[pymodule_export]
    use super::measure::{evaluate, kneser_ney};
    #[pymodule_export]
    use super::media::{decode_audio, decode_image, encode_media, save_media};
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::trace::Trace;
    #[pymodule_export]
    use super::train::{plot, train};
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name of Python's convention")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
