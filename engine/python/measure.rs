//! Evaluation on held-out text, and the n-gram baseline.

use std::path::PathBuf;

use brillm::learn::DynamicSettings;
use brillm::measure::{KneserNey, Windows};
use brillm::run::{StreamOptions, held_out_tokens};
use brillm::text::ReadingDirection;
use brillm::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use serde::Deserialize;

use crate::arguments::{self, PluginOptions};
use crate::call::{Interrupt, exception, interruptible};
use crate::model::Model;

/// Options of an evaluation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Length and count.
    windows: Option<(usize, usize)>,
    first_window: usize,
    documents: bool,
    charges: Option<String>,
    recall: Option<String>,
    dynamic: Option<String>,
    seed: u64,
    plugins: PluginOptions,
}

/// Measure perplexity of texts, or of ids: perplexity, nats per token, predictions, candidates, bytes of text.
#[pyfunction]
pub(crate) fn evaluate(
    py: Python<'_>,
    model: &Model,
    texts: Vec<PathBuf>,
    ids: Option<Vec<u32>>,
    options: &str,
) -> PyResult<(f64, f64, usize, usize, usize)> {
    let options: Options = arguments::read(options).map_err(|error| exception(py, error))?;
    let engine = model.engine.clone();
    interruptible(py, Interrupt::Leave(None), move || {
        if engine.direction() == ReadingDirection::Both {
            let what = "a model of both directions is measured by the command only";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .at(engine.name())
                .advice("use brillm eval"));
        }
        let plugins = options.plugins.load(Vec::new())?;
        let hooked = engine.with_hooks(plugins.hooks(), options.seed)?;
        let backward = !engine.direction().reads_forward();
        let measured = if options.documents {
            let mut documents = match ids {
                Some(ids) => vec![ids],
                None => engine
                    .tokenizer()
                    .corpus(&texts)?
                    .map(|text| engine.encode(&text?))
                    .collect::<Result<Vec<_>>>()?,
            };
            if backward {
                documents.iter_mut().for_each(|document| document.reverse());
            }
            (hooked.documents(&documents)?, 0)
        } else {
            let (mut tokens, bytes) = match ids {
                Some(ids) => (ids, 0),
                None => held_out_tokens(&engine, &texts)?,
            };
            if backward {
                tokens.reverse();
            }
            let evaluation = match options.windows {
                Some((length, count)) => {
                    let windows = Windows::new(length, count).starting_at(options.first_window);
                    hooked.windows(&tokens, &windows)?
                }
                None => hooked.stream(&tokens, 1, &stream_options(&options, &engine)?)?,
            };
            (evaluation, bytes)
        };
        let (evaluation, bytes) = measured;
        Ok((
            evaluation.perplexity,
            evaluation.nats_per_token,
            evaluation.tokens,
            evaluation.candidates,
            bytes,
        ))
    })
}

/// What changes the predictions of a stream.
fn stream_options(options: &Options, engine: &brillm::Engine) -> Result<StreamOptions> {
    let mut stream = StreamOptions::default();
    if let Some(text) = &options.charges {
        stream.charges = Some(engine.clone().graph()?.charges(text)?);
    }
    if let Some(text) = &options.recall {
        stream.recall = Some(engine.clone().graph()?.recall(text)?);
    }
    if let Some(text) = &options.dynamic {
        stream.dynamic = Some(text.parse::<DynamicSettings>()?);
    }
    Ok(stream)
}

/// Perplexity of interpolated modified Kneser-Ney models of the orders from 2 on.
#[pyfunction]
pub(crate) fn kneser_ney(
    py: Python<'_>,
    train: Vec<u32>,
    test: Vec<u32>,
    vocabulary: usize,
    order: usize,
    windows: (usize, usize),
    stream: bool,
) -> PyResult<Vec<(usize, f64)>> {
    interruptible(py, Interrupt::Leave(None), move || {
        let windows = Windows::new(windows.0, windows.1).streaming(stream);
        (2..=order.max(2))
            .map(|order| {
                let model = KneserNey::train(&train, vocabulary, order)?;
                Ok((order, model.evaluate(&test, &windows, order)?.perplexity()))
            })
            .collect()
    })
}
