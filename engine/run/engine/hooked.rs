//! An engine with the hooks of a run: begins sessions, starts generations, evaluates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Engine;
use crate::Result;
use crate::hook::Hooks;
use crate::measure::Windows;
use crate::path::{
    BeamOptions, BeamPath, Charges, GraphSession, HookRunner, RecallSettings, Sampling, Session,
    SessionOptions, SessionState, beam, check_tokens,
};
use crate::run::evaluation::{self, Evaluation, StreamOptions};
use crate::run::{Generation, Request};
use crate::signal::Start;
#[cfg(feature = "transformer")]
use crate::transformer::{self, CalibrationText, HookAdapter, TransformerSession};
#[cfg(feature = "transformer")]
use crate::{Error, ErrorKind};

/// An engine with the hooks of a run.
///
/// `kv.plan/1` and `kv.codec/1` are called once here; every session uses their plan.
#[derive(Clone, Debug)]
pub struct HookedEngine {
    engine: Engine,
    hooks: Hooks,
    cancel: Option<Arc<AtomicBool>>,
    #[cfg(feature = "transformer")]
    adapter: HookAdapter,
}

/// How one sequence of a run begins.
#[derive(Clone, Debug, Default)]
pub struct SequenceOptions {
    /// The sequence's number, as hooks see it.
    pub sequence: u64,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Where a graph's signal starts.
    pub start: Start,
    /// Charges that visited nodes of a graph keep, those of the prompt too.
    pub charges: Option<Charges>,
    /// Recall of a graph; see [`Recall`](crate::path::Recall).
    pub recall: Option<RecallSettings>,
    /// A saved session of a graph to continue; the prompt is appended to it.
    pub state: Option<SessionState>,
    /// Factors of what the tokens at some positions add to a graph's signal; see [`SessionOptions::gains`].
    pub gains: BTreeMap<u64, f32>,
    /// Whether to record what explains each step: contributions on a graph, attention on a transformer.
    pub explain: bool,
    /// Whether a transformer computes the sequence apart from those of other sessions: it reads the tokens of a text that is
    /// given, as in scoring, many at a time.
    pub alone: bool,
}

impl HookedEngine {
    /// Combine an engine with hooks; `seed` is that of their random numbers.
    ///
    /// # Errors
    /// Those of the hooks; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for hooks of a cache where the
    /// model has none.
    pub fn new(engine: &Engine, hooks: &Hooks, seed: u64) -> Result<Self> {
        #[cfg(feature = "transformer")]
        return Self::calibrated(engine, hooks, seed, None);
        #[cfg(not(feature = "transformer"))]
        {
            let _ = seed;
            Ok(Self {
                engine: engine.clone(),
                hooks: hooks.clone(),
                cancel: None,
            })
        }
    }

    /// Combine an engine with hooks, and gives planners of a cache a text to try the model on.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(feature = "transformer")]
    pub fn calibrated(
        engine: &Engine,
        hooks: &Hooks,
        seed: u64,
        calibration: Option<&CalibrationText>,
    ) -> Result<Self> {
        let adapter = match engine {
            Engine::Transformer(model) => HookAdapter::new(model, hooks, seed, calibration)?,
            Engine::Graph(_) => HookAdapter::default(),
        };
        Ok(Self {
            engine: engine.clone(),
            hooks: hooks.clone(),
            cancel: None,
            adapter,
        })
    }

    /// Set the flag that tells hooks to stop.
    #[must_use]
    pub fn cancel(mut self, flag: Option<Arc<AtomicBool>>) -> Self {
        #[cfg(feature = "transformer")]
        {
            self.adapter = self.adapter.cancel(flag.clone());
        }
        self.cancel = flag;
        self
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The hooks.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// The hooks as a transformer calls them, with the plan they made for its cache.
    #[cfg(feature = "transformer")]
    pub fn adapter(&self) -> &HookAdapter {
        &self.adapter
    }

    /// Begin a session at a prompt.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for an empty prompt, a prompt longer than the context, a sampling
    /// option out of range, or a token of any of them outside the vocabulary;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for options of a graph on a transformer, or a masked
    /// language model; those of the hooks.
    pub fn session(&self, prompt: &[u32], options: &SequenceOptions) -> Result<Box<dyn Session>> {
        check_tokens(&options.sampling, self.engine.vocabulary())?;
        match &self.engine {
            Engine::Graph(model) => {
                let mechanism = model.mechanism().clone();
                let sampling = options.sampling.clone();
                let hook_runner = HookRunner::new(&self.hooks, options.sequence)
                    .map(|hook_runner| hook_runner.cancel(self.cancel.clone()));
                let session = match options.state.clone() {
                    Some(state) => {
                        let mut session = GraphSession::restore_with_hooks(
                            mechanism,
                            state,
                            sampling,
                            hook_runner,
                        )?;
                        if let Some(charges) = options.charges.clone() {
                            session.set_charges(charges);
                        }
                        if let Some(recall) = options.recall {
                            session.set_recall(recall)?;
                        }
                        session.walk(prompt)?;
                        session
                    }
                    None => GraphSession::begin_with(
                        mechanism,
                        prompt,
                        &options.start,
                        sampling,
                        SessionOptions {
                            hook_runner,
                            gains: options.gains.clone(),
                            charges: options.charges.clone(),
                            recall: options.recall,
                            attribution: options.explain,
                        },
                    )?,
                };
                Ok(Box::new(session))
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                if options.charges.is_some()
                    || options.recall.is_some()
                    || options.state.is_some()
                    || options.start != Start::Profile
                    || !options.gains.is_empty()
                {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "start signals, charges, recall, saved sessions and scaled signals need a graph",
                    )
                    .at(model.name())
                    .advice("leave them out, or use a .bril model"));
                }
                let shape = model.configuration();
                let adapted = self
                    .adapter
                    .options(shape, options.sequence, prompt.len())?;
                let session = TransformerSession::begin_with(
                    model,
                    prompt,
                    options.sampling.clone(),
                    transformer::SessionOptions {
                        attention: options.explain,
                        alone: options.alone,
                        ..adapted
                    },
                )?;
                Ok(Box::new(session))
            }
        }
    }

    /// Start a generation with this engine's hooks, in place of the request's.
    ///
    /// # Errors
    /// As [`Self::session`]; [`ErrorKind::Input`](crate::ErrorKind::Input) for an empty stop string, or a forced or
    /// injected token outside the vocabulary.
    pub fn start(&self, request: Request) -> Result<Generation> {
        request.begin(self)
    }

    /// Find the paths of least resistance; see [`beam()`].
    ///
    /// # Errors
    /// As [`beam()`]; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a recurrent network.
    pub fn beam(
        &self,
        prompt: &[u32],
        start: &Start,
        options: &BeamOptions,
    ) -> Result<Vec<BeamPath>> {
        let banned = Sampling::greedy().banned(options.banned.iter().copied());
        check_tokens(&banned, self.engine.vocabulary())?;
        match &self.engine {
            Engine::Graph(model) => beam(model.mechanism(), prompt, start, options, &self.hooks),
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => transformer::beam(model, prompt, options),
        }
    }

    /// Measure perplexity over windows of a text; the context begins anew in each.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when no window fits the text, or a window exceeds the context;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for hooks of a cache, which is not used.
    pub fn windows(&self, tokens: &[u32], windows: &Windows) -> Result<Evaluation> {
        match &self.engine {
            Engine::Graph(model) => {
                evaluation::evaluate_windows(model.mechanism(), tokens, windows, &self.hooks)
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                self.check_cache()?;
                transformer::evaluate_windows(model, tokens, windows).map(Evaluation::from)
            }
        }
    }

    /// Measure perplexity of `tokens[from..]` with a context that continues from the first token. A transformer
    /// reads overlapping blocks of its context.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when there is nothing to predict;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for options on a transformer, or hooks of a cache.
    pub fn stream(
        &self,
        tokens: &[u32],
        from: usize,
        options: &StreamOptions,
    ) -> Result<Evaluation> {
        match &self.engine {
            Engine::Graph(model) => {
                let mechanism = model.mechanism();
                evaluation::evaluate_stream(mechanism, tokens, from, options, &self.hooks)
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                if let Some(option) = options.used() {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("{option} need a graph"),
                    )
                    .at(model.name())
                    .advice("leave them out, or use a .bril model"));
                }
                self.check_cache()?;
                transformer::evaluate_stream(model, tokens, from).map(Evaluation::from)
            }
        }
    }

    /// Measure perplexity of documents, each from its own beginning, cut to a transformer's context.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) when no document has two tokens;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for hooks of a cache.
    pub fn documents(&self, documents: &[Vec<u32>]) -> Result<Evaluation> {
        match &self.engine {
            Engine::Graph(model) => {
                evaluation::evaluate_documents(model.mechanism(), documents, &self.hooks)
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                self.check_cache()?;
                transformer::evaluate_documents(model, documents).map(Evaluation::from)
            }
        }
    }

    /// Refuse hooks that manage a cache, where whole texts are computed without one.
    #[cfg(feature = "transformer")]
    fn check_cache(&self) -> Result<()> {
        if self.adapter.decides() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a text measured as a whole uses no KV cache for the plugins to manage",
            )
            .advice("pass --continuation PROMPT,NEW"));
        }
        Ok(())
    }
}
