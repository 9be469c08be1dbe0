//! Continual learning: texts that a graph learns and forgets, and the file of the model that results.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brillm::learn::ProgressObserver;
use brillm::learn::{ContinualSettings, NewText, learn_text};
use brillm::measure::check_ids;
use brillm::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use serde::Deserialize;

use crate::arguments;
use crate::call::{Interrupt, detached, exception, interruptible};
use crate::model::Model;
use crate::train::{Observer, Raised, unless_raised};

/// A text itself, or a file, folder or glob.
type Source = (Option<String>, Option<PathBuf>);

/// Options of learning a text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Name of the record; that of the first file, or "text", without one.
    name: Option<String>,
    weight: u32,
    passes: u32,
    rate: f64,
    new_nodes: usize,
    seed: u64,
}

/// The texts of sources, in their order. The number of images and sounds that the model has no codes for is a warning.
fn documents(
    model: &brillm::Model,
    sources: &[Source],
    observer: &mut Observer,
) -> Result<Vec<String>> {
    let (mut documents, mut left_out) = (Vec::new(), 0);
    for (text, file) in sources {
        documents.extend(text.clone());
        if let Some(file) = file {
            let mut corpus = model.tokenizer().corpus(&[file])?;
            for document in corpus.by_ref() {
                documents.push(document?);
            }
            left_out += corpus.left_out();
        }
    }
    if left_out > 0 {
        observer.warn(&brillm::text::describe_left_out(left_out));
    }
    Ok(documents)
}

/// Teach a graph a text: the new model.
#[pyfunction]
pub(crate) fn learn(
    py: Python<'_>,
    model: &Model,
    texts: Vec<Source>,
    ids: Vec<u32>,
    replay: Vec<Source>,
    options: &str,
    callback: Option<Py<PyAny>>,
) -> PyResult<Model> {
    let options: Options = arguments::read(options).map_err(|error| exception(py, error))?;
    let engine = model.engine.clone();
    let (cancel, raised) = (Arc::<AtomicBool>::default(), Raised::default());
    let mut observer = Observer::new(callback, &cancel, &raised);
    let flag = cancel.clone();
    let learned = interruptible(py, Interrupt::Finish(&cancel), move || {
        let model = engine.graph()?;
        check_ids(&ids, model.mechanism().nodes())?;
        let name = options.name.unwrap_or_else(|| {
            let first = texts
                .first()
                .and_then(|(_, file)| file.as_ref()?.file_stem());
            let stem = first.map_or("text".into(), |stem| stem.to_string_lossy());
            model.record_name(&stem)
        });
        let files = texts.iter().filter_map(|(_, file)| file.as_ref());
        let text = NewText {
            name,
            sources: files.map(|file| file.display().to_string()).collect(),
            documents: documents(&model, &texts, &mut observer)?,
            ids,
            replay: documents(&model, &replay, &mut observer)?,
        };
        let settings = ContinualSettings {
            weight: options.weight,
            passes: options.passes,
            rate: options.rate,
            new_nodes: options.new_nodes,
            seed: options.seed,
        };
        let go_on = || !flag.load(Ordering::Relaxed);
        if !go_on() {
            return Err(Error::new(ErrorKind::Cancelled, "learning was cancelled"));
        }
        let lesson = learn_text(&model, &text, &settings, &mut |progress| {
            if go_on() {
                observer.call(&serde_json::json!({
                    "kind": "step",
                    "step": progress.step,
                    "steps": progress.steps,
                    "loss": progress.nats,
                }));
            }
            go_on()
        })?;
        Ok(lesson.model)
    });
    unless_raised(&raised, learned).map(|model| Model::in_memory(&model))
}

/// Take back a text that a graph has learned, by its number, from 1, or its name: the new model.
#[pyfunction]
pub(crate) fn forget(py: Python<'_>, model: &Model, record: String) -> PyResult<Model> {
    let engine = model.engine.clone();
    let forgotten = interruptible(py, Interrupt::Leave(None), move || {
        let model = engine.graph()?;
        let index = model.record_index(&record)?;
        Ok(model.forget(index)?.0)
    });
    forgotten.map(|model| Model::in_memory(&model))
}

/// The records of what a model has learned, as JSON.
#[pyfunction]
pub(crate) fn records(py: Python<'_>, model: &Model) -> PyResult<String> {
    detached(py, || {
        let records = model.engine.as_graph().map(|model| model.records());
        let records: Vec<_> = records.into_iter().flatten().collect();
        Ok(serde_json::json!(records).to_string())
    })
}

/// Write a graph to a file.
#[pyfunction]
pub(crate) fn save(py: Python<'_>, model: &Model, path: PathBuf) -> PyResult<()> {
    let engine = model.engine.clone();
    interruptible(py, Interrupt::Leave(None), move || {
        engine.graph()?.save(&path)
    })
}
