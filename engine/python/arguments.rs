//! The options of calls, which come as JSON documents.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use brillm::hook::Hooks;
use brillm::path::Sampling;
use brillm::plugin::{Finder, Plugins, Selection};
use brillm::run::trace::{Intervention, TraceRequest, TraceSampling};
use brillm::run::{Engine, HookedEngine, Request, SequenceOptions};
use brillm::signal::Start;
use brillm::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Options of generations, sessions and traces.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) tokens: usize,
    candidates: usize,
    seed: u64,
    sampling: TraceSampling,
    stop: Vec<String>,
    ignore_eos: bool,
    /// Continue with an image or a sound instead of text.
    modality: Option<String>,
    start: Start,
    /// Constants, or the empty text for those that the model was fitted with.
    recall: Option<String>,
    charges: Option<String>,
    /// Step, token, energy.
    inject: Vec<(usize, u32, f32)>,
    /// Step, token.
    force: Vec<(usize, u32)>,
    interventions: Vec<Intervention>,
    pub(crate) explain: bool,
    plugins: PluginOptions,
}

/// The plugins of a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PluginOptions {
    names: Vec<PluginName>,
    folders: Vec<PathBuf>,
}

/// `NAME:KEY=VALUE,…`, or a table as in a run file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PluginName {
    Text(String),
    Table(Selection),
}

/// Read options.
///
/// # Errors
/// [`brillm::ErrorKind::Input`] for an option that is unknown or of another type, at its name.
pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    let mut document = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut document).map_err(|error| {
        let path = error.path().to_string();
        let error = Error::json(error.into_inner());
        match path.strip_prefix("sampling.").unwrap_or(&path) {
            "" | "." => error,
            name => error.at(name),
        }
    })
}

impl PluginOptions {
    /// The plugins that are named, after `before`.
    pub(crate) fn selections(&self, before: Vec<Selection>) -> Result<Vec<Selection>> {
        let mut all = before;
        for name in &self.names {
            let selection = match name {
                PluginName::Text(text) => text.parse()?,
                PluginName::Table(selection) => selection.clone(),
            };
            // A plugin of the call replaces the one of the same name in a run file.
            all.retain(|earlier| earlier.name != selection.name);
            all.push(selection);
        }
        Ok(all)
    }

    /// Load the plugins, after those of a run file.
    pub(crate) fn load(&self, before: Vec<Selection>) -> Result<Plugins> {
        let finder = Finder::standard(self.folders.iter().cloned());
        Plugins::load(&self.selections(before)?, &finder)
    }
}

impl Options {
    fn sampling(&self) -> Sampling {
        self.sampling.sampling(self.seed)
    }

    /// Load the plugins and combine their hooks with an engine.
    pub(crate) fn hooked(
        &self,
        engine: &Engine,
        cancel: &Arc<AtomicBool>,
    ) -> Result<(HookedEngine, Plugins)> {
        let plugins = self.plugins.load(Vec::new())?;
        let hooked = engine.with_hooks(plugins.hooks(), self.seed)?;
        Ok((hooked.cancel(Some(cancel.clone())), plugins))
    }

    /// The request for a generation.
    pub(crate) fn request(
        &self,
        engine: &Engine,
        hooks: &Hooks,
        prompt: Vec<u32>,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Request> {
        let mut request = Request::ids(prompt)
            .tokens(self.tokens)
            .sampling(self.sampling())
            .start_signal(self.start.clone())
            .ignore_eos(self.ignore_eos)
            .hooks(hooks.clone())
            .cancel(cancel.clone());
        if let Some(text) = &self.charges {
            request = request.charges(engine.clone().graph()?.charges(text)?);
        }
        if let Some(text) = &self.recall {
            request = request.recall(engine.clone().graph()?.recall(text)?);
        }
        for stop in &self.stop {
            request = request.stop(stop);
        }
        for &(step, token, energy) in &self.inject {
            request = request.inject(step, token, energy);
        }
        for &(step, token) in &self.force {
            request = request.force(step, token);
        }
        match &self.modality {
            Some(name) => request.continue_as(crate::media::modality(name)?, engine.tokenizer()),
            None => Ok(request),
        }
    }

    /// How a session begins.
    pub(crate) fn sequence(&self, engine: &Engine) -> Result<SequenceOptions> {
        let mut options = SequenceOptions {
            sampling: self.sampling(),
            start: self.start.clone(),
            explain: self.explain,
            ..SequenceOptions::default()
        };
        if let Some(text) = &self.charges {
            let settings = engine.clone().graph()?.charges(text)?;
            options.charges = Some(settings.charges());
        }
        if let Some(text) = &self.recall {
            options.recall = Some(engine.clone().graph()?.recall(text)?);
        }
        Ok(options)
    }

    /// The request for a trace.
    pub(crate) fn trace(&self, engine: &Engine, prompt: Vec<u32>) -> Result<TraceRequest> {
        let mut request = TraceRequest::new(prompt)
            .tokens(self.tokens)
            .candidates(self.candidates)
            .sampling(self.sampling());
        request.start = self.start.clone();
        request.ignore_eos = self.ignore_eos;
        request.interventions.clone_from(&self.interventions);
        if let Some(text) = &self.recall {
            request.recall = Some(engine.clone().graph()?.recall(text)?);
        }
        Ok(request)
    }
}
