//! An opened model.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use brillm::kernel::block_format::Format;
use brillm::kernel::bytes::Bytes;
use brillm::kernel::element::Element;
use brillm::kernel::stored::Stored;
use brillm::kernel::table::Table;
use brillm::model::Verify;
use brillm::path::SessionState;
use brillm::run::explain::explain;
use brillm::run::trace::{ShownToken, Tracing};
use brillm::run::{Engine, SteeredSession, fingerprint, score_tokens};
use brillm::signal::blocks;
use brillm::text::Decoder;
use brillm::transformer::Weights;
use brillm::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::arguments::{self, Options, PluginOptions};
use crate::buffer::{Buffer, Kind};
use crate::call::{Interrupt, detached, exception, interruptible};
use crate::command::ENGLISH;
use crate::generation::Generation;
use crate::graph::Graph;
use crate::session::Session;
use crate::trace::Trace;

/// A model of either kind. It never changes: threads may share it.
#[pyclass(frozen, module = "brillm._native")]
pub(crate) struct Model {
    pub(crate) engine: Engine,
    origin: Origin,
}

/// Where a model comes from.
#[derive(Clone, Debug)]
enum Origin {
    /// The English model of the package.
    BuiltIn,
    /// A file or a folder.
    File(PathBuf),
    /// A model that has learned or forgotten a text, and has no file.
    Memory,
}

impl Model {
    /// A graph without a file.
    pub(crate) fn in_memory(model: &brillm::Model) -> Self {
        Self {
            engine: Engine::from(model),
            origin: Origin::Memory,
        }
    }
}

/// A block of weights: its name, its format, its numbers, and the scale of each row of int8.
type Block = (String, String, Buffer, Option<Buffer>);

/// The likeliest tokens of a step with their ln p.
type Likeliest = Vec<(u32, f64)>;

#[pymethods]
impl Model {
    /// Open a model file or folder; the built-in English model without a path.
    #[new]
    #[pyo3(signature = (path, verify))]
    fn new(py: Python<'_>, path: Option<PathBuf>, verify: bool) -> PyResult<Self> {
        let verify = if verify { Verify::Whole } else { Verify::Lazy };
        let file = path.clone();
        let engine = interruptible(py, Interrupt::Leave(None), move || match file {
            Some(path) => Engine::open(&path, verify),
            None => {
                let model = brillm::Model::from_bytes(Bytes::of_program(&ENGLISH.0))?;
                Ok(Engine::from(&model))
            }
        })?;
        let origin = path.map_or(Origin::BuiltIn, Origin::File);
        Ok(Self { engine, origin })
    }

    /// The metadata, sizes and options, as JSON.
    fn about(&self) -> String {
        let (engine, summary) = (&self.engine, self.engine.summary());
        serde_json::json!({
            "name": engine.name(),
            "path": match &self.origin {
                Origin::File(path) => Some(path),
                Origin::BuiltIn | Origin::Memory => None,
            },
            "in_memory": matches!(self.origin, Origin::Memory),
            "kind": summary.kind,
            "profile": summary.profile,
            "vocabulary": engine.vocabulary(),
            "width": summary.width,
            "layers": summary.layers,
            "heads": summary.heads,
            "context": engine.context_limit(),
            "edges": summary.edges,
            "own_edges": summary.own_edges,
            "order": engine.order(),
            "parameters": engine.parameters(),
            "causal": engine.is_causal(),
            "direction": engine.direction(),
            "stop_tokens": engine.stop_tokens(),
            "license": summary.license,
            "metadata": engine.metadata(),
        })
        .to_string()
    }

    /// The tokens of a text, after the marks that the model expects before one.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        detached(py, || self.engine.encode(text))
    }

    /// The text of tokens.
    fn decode(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<String> {
        detached(py, || {
            brillm::measure::check_ids(&ids, self.engine.vocabulary())?;
            Ok(self.engine.tokenizer().decode(&ids))
        })
    }

    /// The text of tokens that follow others.
    fn decode_after(&self, py: Python<'_>, before: Vec<u32>, ids: Vec<u32>) -> PyResult<String> {
        detached(py, || {
            let tokenizer = self.engine.tokenizer();
            brillm::measure::check_ids(&before, self.engine.vocabulary())?;
            brillm::measure::check_ids(&ids, self.engine.vocabulary())?;
            let mut decoder = Decoder::after(tokenizer, &before);
            let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
            text.push_str(&decoder.finish());
            Ok(text)
        })
    }

    /// Tokens made readable, as JSON.
    fn show(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<String> {
        detached(py, || {
            brillm::measure::check_ids(&ids, self.engine.vocabulary())?;
            let vocabulary = self.engine.tokenizer().vocabulary();
            let shown: Vec<ShownToken> = ids
                .iter()
                .map(|&id| ShownToken::of(vocabulary, id))
                .collect();
            Ok(serde_json::json!(shown).to_string())
        })
    }

    /// The node whose token is a text.
    fn find(&self, text: &str) -> Option<u32> {
        self.engine.tokenizer().vocabulary().find(text)
    }

    /// Begin a generation.
    fn generate(
        &self,
        py: Python<'_>,
        prompt: Vec<u32>,
        options: &str,
        state: Option<Vec<u8>>,
    ) -> PyResult<Generation> {
        let options: Options = arguments::read(options).map_err(|error| exception(py, error))?;
        let (engine, cancel) = (self.engine.clone(), Arc::<AtomicBool>::default());
        let flag = cancel.clone();
        let begun = interruptible(py, Interrupt::Leave(Some(&cancel)), move || {
            let engine = engine.forward()?;
            let (hooked, plugins) = options.hooked(&engine, &flag)?;
            let mut request = options.request(&engine, plugins.hooks(), prompt, &flag)?;
            if let Some(state) = state {
                request = request.resume(SessionState::from_bytes(&state)?);
            }
            hooked.start(request)
        })?;
        Ok(Generation::new(begun, cancel))
    }

    /// ln p of each token of a text after those before it: ids, ln p (NaN for the first), and the likeliest at each.
    fn score(
        &self,
        py: Python<'_>,
        ids: Vec<u32>,
        top: usize,
        plugins: &str,
    ) -> PyResult<(Buffer, Vec<Likeliest>)> {
        let plugins: PluginOptions =
            arguments::read(plugins).map_err(|error| exception(py, error))?;
        let (engine, cancel) = (self.engine.clone(), Arc::<AtomicBool>::default());
        let flag = cancel.clone();
        let scores = interruptible(py, Interrupt::Leave(Some(&cancel)), move || {
            let engine = engine.forward()?;
            let plugins = plugins.load(Vec::new())?;
            score_tokens(&engine, &ids, top, plugins.hooks(), Some(&flag))
        })?;
        let values = scores
            .iter()
            .map(|one| one.ln_probability.unwrap_or(f64::NAN));
        let values = Buffer::of(values.collect());
        Ok((values, scores.into_iter().map(|one| one.top).collect()))
    }

    /// Trace a generation.
    fn trace(&self, py: Python<'_>, prompt: Vec<u32>, options: &str) -> PyResult<Trace> {
        let options: Options = arguments::read(options).map_err(|error| exception(py, error))?;
        let (engine, cancel) = (self.engine.clone(), Arc::<AtomicBool>::default());
        let flag = cancel.clone();
        let origin = self.origin.clone();
        let trace = interruptible(py, Interrupt::Leave(Some(&cancel)), move || {
            let (hooked, plugins) = options.hooked(&engine, &flag)?;
            let request = options.trace(&engine, prompt)?;
            let mut tracing = Tracing::begin_on(&hooked, request)?.cancel(flag);
            let record = tracing.trace_mut();
            record.plugins = plugins.record();
            record.model.sha256 = match origin {
                Origin::File(path) => fingerprint(&path).ok(),
                Origin::BuiltIn => Some(brillm::run::fingerprint_of_bytes(&ENGLISH.0)),
                Origin::Memory => None,
            };
            tracing.collect()
        })?;
        Ok(Trace::new(trace))
    }

    /// Begin a session, or continue a saved one.
    fn session(
        &self,
        py: Python<'_>,
        prompt: Vec<u32>,
        options: &str,
        state: Option<Vec<u8>>,
    ) -> PyResult<Session> {
        let options: Options = arguments::read(options).map_err(|error| exception(py, error))?;
        let (engine, cancel) = (self.engine.clone(), Arc::<AtomicBool>::default());
        let flag = cancel.clone();
        let session = interruptible(py, Interrupt::Leave(Some(&cancel)), move || {
            let (hooked, _) = options.hooked(&engine, &flag)?;
            let mut sequence = options.sequence(&engine)?;
            sequence.state = state
                .map(|state| SessionState::from_bytes(&state))
                .transpose()?;
            SteeredSession::begin(&hooked, &prompt, &sequence)
        })?;
        Ok(Session::new(session))
    }

    /// The graph.
    fn graph(&self, py: Python<'_>) -> PyResult<Graph> {
        let graph = self.engine.clone().graph();
        graph.map(Graph::new).map_err(|error| exception(py, error))
    }

    /// The blocks of weights: of a graph by the engine's names, of a transformer by those of its files.
    fn weights(&self, py: Python<'_>) -> PyResult<Vec<Block>> {
        let blocks = match self.engine.as_transformer() {
            Some(transformer) => stored_views(transformer.weights()),
            None => self
                .engine
                .clone()
                .graph()
                .and_then(|model| graph_views(&model)),
        };
        blocks.map_err(|error| exception(py, error))
    }

    /// Explain choices of greedy decoding, as JSON.
    fn explain(
        &self,
        py: Python<'_>,
        prompt: Vec<u32>,
        tokens: usize,
        alternative: Option<u32>,
    ) -> PyResult<String> {
        let engine = self.engine.clone();
        let explanations = interruptible(py, Interrupt::Leave(None), move || {
            let model = engine.forward()?.graph()?;
            let stop: Vec<u32> = model.tokenizer().vocabulary().stop().into_iter().collect();
            explain(model.mechanism(), &prompt, tokens, alternative, &stop)
        })?;
        Ok(serde_json::json!(explanations).to_string())
    }
}

/// Views of the weights of a graph.
fn graph_views(model: &brillm::Model) -> brillm::Result<Vec<Block>> {
    let mechanism = model.mechanism();
    let (profile, graph) = (mechanism.profile(), mechanism.graph());
    let stored = blocks(profile, graph.nodes(), graph.own_edges());
    let stored = stored.iter().filter(|block| block.rows * block.columns > 0);
    stored
        .map(|block| {
            let (name, shape) = (block.name, vec![block.rows, block.columns]);
            if !block.narrows {
                let values = Buffer::new(model.clone(), shape, move |model: &brillm::Model| {
                    model.mechanism().weights().values(name)
                });
                return Ok((name.to_string(), "f32".to_string(), values, None));
            }
            let table = mechanism.weights().table(name);
            let (values, scales) = table_views(table, shape)?;
            Ok((
                name.to_string(),
                table.element().to_string(),
                values,
                scales,
            ))
        })
        .collect()
}

/// Views of the weights of a transformer: numbers in the shape of the tensor where NumPy has their type, otherwise the
/// bytes of each row.
fn stored_views(weights: &Weights) -> brillm::Result<Vec<Block>> {
    let view = |(name, shape, matrix): (&str, &[usize], &Stored)| {
        let (format, bytes) = (matrix.format(), matrix.bytes().clone());
        let kind = match format {
            Format::F32 => Some(Kind::F32),
            Format::F16 => Some(Kind::F16),
            Format::Bf16 => Some(Kind::U16),
            _ => None,
        };
        let rows = matrix.dimensions().0;
        let values = match kind {
            Some(kind) => Buffer::of_bytes(bytes, kind, shape.to_vec()),
            None => {
                let row = bytes.len() / rows.max(1);
                Buffer::of_bytes(bytes, Kind::U8, vec![rows, row])
            }
        };
        // Floats as graphs name them, blocks as GGUF does.
        let format = match format.is_float() {
            true => format.name().to_lowercase(),
            false => format.name().to_string(),
        };
        (name.to_string(), format, values, None)
    };
    Ok(weights.stored().map(view).collect())
}

/// Views of the numbers of a table, and of the scales of its rows.
fn table_views(table: &Table, shape: Vec<usize>) -> brillm::Result<(Buffer, Option<Buffer>)> {
    let kind = match table.element() {
        Element::F32 => Kind::F32,
        Element::F16 => Kind::F16,
        Element::I8 => Kind::I8,
        other => {
            let what = format!("weights of {other} have no view");
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
    };
    let scales = table.scales().cloned();
    Ok((
        Buffer::of_bytes(table.bytes().clone(), kind, shape),
        scales.map(|scales| Buffer::of_bytes(scales, Kind::F32, vec![table.rows()])),
    ))
}
