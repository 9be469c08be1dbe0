//! The program `brillm`, and its built-in model.

use std::ffi::OsString;
use std::io::Write;

use pyo3::prelude::*;

/// Bytes aligned so that the blocks of a model can be used where they are.
#[repr(C, align(64))]
pub(crate) struct Aligned<T: ?Sized>(pub(crate) T);

/// The built-in English model.
pub(crate) static ENGLISH: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/english.bril"));

/// Run a command line, the name of the program first, and return its exit code. `invocation` is the command that
/// starts the program again.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, invocation: Vec<OsString>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| {
        let code = brillm::cli::run(Some(&ENGLISH.0), invocation, arguments);
        // The interpreter does not flush Rust's output at its end.
        drop(std::io::stdout().flush());
        code
    })
}
