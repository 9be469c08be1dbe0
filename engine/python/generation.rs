//! A running generation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use brillm::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::call::{detached, lock};

/// An iterator of pieces of text.
#[pyclass(frozen, module = "brillm._native")]
pub(crate) struct Generation {
    inner: Mutex<brillm::Generation>,
    /// What was computed when Ctrl-C ended a call, for the next one.
    held: Mutex<Option<brillm::run::Piece>>,
    cancel: Arc<AtomicBool>,
}

impl Generation {
    pub(crate) fn new(inner: brillm::Generation, cancel: Arc<AtomicBool>) -> Self {
        Self {
            inner: Mutex::new(inner),
            held: Mutex::default(),
            cancel,
        }
    }
}

#[pymethods]
impl Generation {
    /// The next piece: its text, and its token unless it has none; `None` at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<(String, Option<u32>)>> {
        let held = lock(&self.held).take();
        let piece = match held {
            Some(piece) => Some(piece),
            None => detached(py, || lock(&self.inner).next().transpose())?,
        };
        // The interpreter would raise the interrupt in place of what this call returns, which would be lost.
        if let Err(interrupt) = py.check_signals() {
            *lock(&self.held) = piece;
            return Err(interrupt);
        }
        Ok(piece.map(|piece| (piece.text, (!piece.text_only).then_some(piece.id))))
    }

    /// Why it ended; `None` while it runs.
    fn finish(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let finish = detached(py, || Ok(lock(&self.inner).finish()))?;
        let name = finish.map(|finish| serde_json::json!(finish));
        Ok(name.and_then(|name| name.as_str().map(String::from)))
    }

    /// End before the next token, from any thread.
    fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// The session as saved bytes.
    fn save(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        detached(py, || saved(lock(&self.inner).session()))
    }
}

/// The saved state of a session.
pub(crate) fn saved(session: &mut dyn brillm::path::Session) -> brillm::Result<Vec<u8>> {
    let state = session.snapshot().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "the session of a transformer cannot be saved",
        )
        .advice("keep its tokens, and begin a session with them")
    })?;
    state.to_bytes()
}
