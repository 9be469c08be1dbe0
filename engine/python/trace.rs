//! A trace.

use brillm::run::trace::{Theme, Trace as Document, TraceFormat};
use pyo3::prelude::*;

use crate::call::detached;

/// The document `brillm-trace/1`.
#[pyclass(frozen, module = "brillm._native")]
pub(crate) struct Trace {
    document: Document,
}

impl Trace {
    pub(crate) fn new(document: Document) -> Self {
        Self { document }
    }
}

#[pymethods]
impl Trace {
    /// Read a trace from its JSON, or from an SVG that carries it.
    #[staticmethod]
    fn read(py: Python<'_>, text: &str) -> PyResult<Self> {
        detached(py, || Document::read(text)).map(Self::new)
    }

    /// The document as JSON.
    fn json(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || self.document.to_json())
    }

    /// The trace in a format.
    fn export(&self, py: Python<'_>, format: &str, theme: &str) -> PyResult<String> {
        detached(py, || {
            let format: TraceFormat = format.parse()?;
            let theme: Theme = theme.parse()?;
            self.document.export(format, theme)
        })
    }
}
