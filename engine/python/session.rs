//! A session: one text that a model extends token by token.

use std::sync::Mutex;

use brillm::run::SteeredSession;
use brillm::run::trace::Contributions;
use pyo3::prelude::*;

use crate::buffer::Buffer;
use crate::call::{detached, lock};
use crate::generation::saved;

/// One text that a model extends token by token.
#[pyclass(frozen, module = "brillm._native")]
pub(crate) struct Session {
    inner: Mutex<SteeredSession>,
}

impl Session {
    pub(crate) fn new(inner: SteeredSession) -> Self {
        Self {
            inner: Mutex::new(inner),
        }
    }

    fn call<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&mut SteeredSession) -> brillm::Result<T> + Send,
    ) -> PyResult<T> {
        detached(py, || body(&mut lock(&self.inner)))
    }
}

#[pymethods]
impl Session {
    /// Energies and logits of all tokens as the next one. `[V]`, `[V]`
    fn look(&self, py: Python<'_>) -> PyResult<(Buffer, Buffer)> {
        let (energies, logits) = self.call(py, |session| {
            let (energies, logits) = session.session().look()?;
            Ok((energies.to_vec(), logits.to_vec()))
        })?;
        Ok((Buffer::of(energies), Buffer::of(logits)))
    }

    /// Choose the next token and append it.
    fn step(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        self.call(py, SteeredSession::step)
    }

    /// Append a token.
    fn force(&self, py: Python<'_>, token: u32) -> PyResult<()> {
        self.call(py, |session| session.force(token))
    }

    /// Add energy to a token for the next choice.
    fn inject(&self, py: Python<'_>, token: u32, energy: f32) -> PyResult<()> {
        self.call(py, |session| session.session().inject(token, energy))
    }

    /// Multiply the odds of a node, or of the edge from a source to it.
    fn scale(&self, py: Python<'_>, source: Option<u32>, target: u32, factor: f32) -> PyResult<()> {
        self.call(py, |session| match source {
            Some(source) => session.scale_edge(source, target, factor),
            None => session.scale_node(target, factor),
        })
    }

    /// −ln p of a token as the next one.
    fn resistance(&self, py: Python<'_>, token: u32) -> PyResult<f64> {
        self.call(py, |session| session.session().resistance(token))
    }

    /// The contributions to the edge to a token, as JSON; `None` on a transformer.
    fn contributions(&self, py: Python<'_>, target: u32) -> PyResult<Option<String>> {
        self.call(py, |session| {
            let split = session.session().attribution(target)?;
            let split = split.map(|split| Contributions::of(&split, false));
            Ok(split.map(|split| serde_json::json!(split).to_string()))
        })
    }

    /// The last token, the number of tokens, and whether the context is full.
    fn state(&self, py: Python<'_>) -> PyResult<(u32, usize, bool)> {
        self.call(py, |session| {
            let session = session.session();
            Ok((session.token(), session.length(), session.is_full()))
        })
    }

    /// The state as saved bytes.
    fn save(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.call(py, |session| saved(session.session()))
    }
}
