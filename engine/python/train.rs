//! Training, and the curves of runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use brillm::learn::log::Record;
use brillm::learn::{Outcome, ProgressObserver, Recipe, keep_changes};
use brillm::run::{PreparedSource, TrainSource, plugins_of, prepare_training, record_plugins};
use brillm::{Error, ErrorKind, Result};
use pyo3::prelude::*;

use crate::arguments::{self, PluginOptions};
use crate::call::{Interrupt, detached, exception, interruptible, lock};

/// What is trained, and where.
struct Source {
    files: Vec<PathBuf>,
    /// A recipe as JSON, instead of files.
    recipe: Option<String>,
    changes: Vec<String>,
    data: Option<PathBuf>,
    out: Option<PathBuf>,
    resume: bool,
}

/// The exception of a function of Python, which ended a run.
pub(crate) type Raised = Arc<Mutex<Option<PyErr>>>;

/// Passes progress to a function of Python.
pub(crate) struct Observer {
    callback: Option<Py<PyAny>>,
    cancel: Arc<AtomicBool>,
    raised: Raised,
}

impl Observer {
    /// Pass progress to `callback`, which may set `cancel`; its exception is put into `raised`.
    pub(crate) fn new(
        callback: Option<Py<PyAny>>,
        cancel: &Arc<AtomicBool>,
        raised: &Raised,
    ) -> Self {
        Self {
            callback,
            cancel: cancel.clone(),
            raised: raised.clone(),
        }
    }

    /// Call the function with an event as JSON; `False` ends the run, and so does an exception.
    pub(crate) fn call(&mut self, event: &serde_json::Value) {
        let Some(callback) = &self.callback else {
            return;
        };
        let again = Python::attach(|py| {
            let answer = callback.bind(py).call1((event.to_string(),))?;
            answer.extract::<bool>()
        });
        match again {
            Ok(true) => {}
            Ok(false) => self.cancel.store(true, Ordering::Relaxed),
            Err(error) => {
                self.cancel.store(true, Ordering::Relaxed);
                self.callback = None;
                *lock(&self.raised) = Some(error);
            }
        }
    }
}

impl ProgressObserver for Observer {
    fn note(&mut self, text: &str) {
        self.call(&serde_json::json!({"kind": "note", "text": text}));
    }

    fn step(&mut self, step: u64, of: u64, loss: f64, tokens: u64) {
        let event = serde_json::json!(
            {"kind": "step", "step": step, "steps": of, "loss": loss, "tokens": tokens}
        );
        self.call(&event);
    }

    fn warn(&mut self, text: &str) {
        self.call(&serde_json::json!({"kind": "warning", "text": text}));
    }

    fn record(&mut self, record: &Record) {
        self.call(&serde_json::json!(record));
    }
}

impl Source {
    fn prepare(&self, observer: &mut Observer) -> Result<Prepared> {
        if let Some(json) = &self.recipe {
            return self.of_recipe(json);
        }
        let source = TrainSource {
            sources: &self.files,
            changes: &self.changes,
            data: self.data.as_deref(),
            out: self.out.as_deref(),
            resume: self.resume,
        };
        let PreparedSource {
            recipe,
            base,
            folder,
            run_file,
            changes,
            ..
        } = source.prepare(&mut |line| observer.note(line))?;
        Ok(Prepared {
            recipe,
            base,
            folder,
            kept: Some((run_file, changes)),
        })
    }

    /// A recipe whose keys are those of a run file.
    fn of_recipe(&self, json: &str) -> Result<Prepared> {
        let value: serde_json::Value = arguments::read(json)?;
        let invalid = |error: toml::ser::Error| {
            Error::new(
                ErrorKind::Configuration,
                format!("the recipe cannot be written as a run file: {error}"),
            )
            .advice("leave out values that are None")
        };
        let text = toml::to_string(&value).map_err(invalid)?;
        let recipe = Recipe::parse(&text, &self.changes)?;
        let folder = self.out.clone();
        Ok(Prepared {
            folder: folder.unwrap_or_else(|| Path::new("runs").join(&recipe.name)),
            base: self.data.clone().unwrap_or_default(),
            recipe,
            kept: None,
        })
    }
}

struct Prepared {
    recipe: Recipe,
    base: PathBuf,
    folder: PathBuf,
    /// The run file and its changes, for a later start that resumes the run.
    kept: Option<(PathBuf, Vec<String>)>,
}

/// Train a model: its outcome and the folder of the run, as JSON.
#[pyfunction]
#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of a Python function"
)]
pub(crate) fn train(
    py: Python<'_>,
    files: Vec<PathBuf>,
    recipe: Option<String>,
    changes: Vec<String>,
    data: Option<PathBuf>,
    out: Option<PathBuf>,
    resume: bool,
    plugins: &str,
    callback: Option<Py<PyAny>>,
) -> PyResult<String> {
    let plugins: PluginOptions = arguments::read(plugins).map_err(|error| exception(py, error))?;
    let source = Source {
        files,
        recipe,
        changes,
        data,
        out,
        resume,
    };
    let (cancel, raised) = (Arc::<AtomicBool>::default(), Raised::default());
    let mut observer = Observer::new(callback, &cancel, &raised);
    let flag = cancel.clone();
    let trained = interruptible(py, Interrupt::Finish(&cancel), move || {
        let mut prepared = source.prepare(&mut observer)?;
        let plugins = plugins.load(plugins_of(&prepared.recipe)?)?;
        record_plugins(&mut prepared.recipe, &plugins)?;
        let Prepared {
            recipe,
            base,
            folder,
            kept,
        } = prepared;
        let (hooks, resume) = (plugins.hooks(), source.resume);
        let mut trainer = prepare_training(recipe, &base, &folder, resume, hooks, &mut observer)?;
        if let Some((run_file, changes)) = kept {
            keep_changes(&folder, &run_file, &changes)?;
        }
        observer.note(&trainer.about());
        let outcome = trainer.run(&flag, &mut observer)?;
        Ok(report(&outcome, &folder))
    });
    unless_raised(&raised, trained)
}

/// The outcome of a run, or the exception of the callback that ended it, whatever the run returned.
pub(crate) fn unless_raised<T>(raised: &Raised, outcome: PyResult<T>) -> PyResult<T> {
    let raised = lock(raised).take();
    match raised {
        Some(error) => Err(error),
        None => outcome,
    }
}

fn report(outcome: &Outcome, folder: &Path) -> String {
    serde_json::json!({
        "folder": folder,
        "model": outcome.model,
        "steps": outcome.steps,
        "parameters": outcome.parameters,
        "validation_perplexity": outcome.validation_perplexity,
        "cancelled": outcome.cancelled,
    })
    .to_string()
}

/// Draw the curves of runs as SVG.
#[pyfunction]
pub(crate) fn plot(py: Python<'_>, folders: Vec<PathBuf>) -> PyResult<String> {
    detached(py, || brillm::learn::plot::draw(&folders))
}
