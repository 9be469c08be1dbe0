//! A model of either kind: a `.bril` file is a graph, a folder with a `config.json` or a GGUF file a transformer.
//!
//! This folder is the only place that distinguishes the two; everything above works with [`Engine`],
//! [`HookedEngine`] and [`Session`].

mod chat;
mod hooked;
mod properties;
mod states;

use std::path::Path;

pub use self::hooked::{HookedEngine, SequenceOptions};
pub use self::properties::{EngineKind, EngineSummary};
use crate::hook::Hooks;
use crate::model::{Model, Verify};
use crate::path::{Sampling, Session};
use crate::run::{Generation, Request};
#[cfg(feature = "transformer")]
use crate::transformer::Transformer;
use crate::{Error, ErrorKind, Result};

/// An opened model of either kind: cheap to clone, `Send + Sync`, shared by any number of sessions.
///
/// There are three levels. [`start`](Self::start) generates text. [`session`](Self::session) gives the logits of each
/// step. [`with_hooks`](Self::with_hooks) does both with plugins' hooks, and also evaluates:
///
/// ```
/// use brillm::hook::Hooks;
/// use brillm::path::{Sampling, Session};
/// let engine = brillm::open("models/english.bril")?;
///
/// // Text that continues a prompt.
/// let (text, ids) = engine.start(engine.request("Once upon a time")?.tokens(5))?.collect_text()?;
/// assert_eq!(ids.len(), 5);
/// assert_eq!(engine.tokenizer().decode(&ids), text);
///
/// // Step by step: the logits of all tokens as the next one.
/// let mut session = engine.session(&engine.encode("Once upon a time")?, Sampling::greedy())?;
/// assert_eq!(session.look()?.1.len(), engine.vocabulary());
/// assert_eq!(session.step()?, Some(ids[0]));
///
/// // Perplexity of a text, its tokens predicted one after the other.
/// let tokens = engine.encode("Once upon a time there was a little girl.")?;
/// let measured = engine.with_hooks(&Hooks::default(), 0)?.stream(&tokens, 1, &Default::default())?;
/// assert_eq!(measured.tokens, tokens.len() - 1);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Engine {
    /// A graph.
    Graph(Model),
    /// A transformer or a recurrent network.
    #[cfg(feature = "transformer")]
    Transformer(Transformer),
}

impl From<&Model> for Engine {
    fn from(model: &Model) -> Self {
        Self::Graph(model.clone())
    }
}

#[cfg(feature = "transformer")]
impl From<&Transformer> for Engine {
    fn from(model: &Transformer) -> Self {
        Self::Transformer(model.clone())
    }
}

impl From<&Engine> for Engine {
    fn from(engine: &Engine) -> Self {
        engine.clone()
    }
}

/// Open the model at `path`: a `.bril` file is a graph, a folder with a `config.json` or a GGUF file a transformer.
///
/// Blocks of a file are verified when they are first used ([`Verify::Lazy`]); [`Engine::open`] takes another policy.
///
/// ```
/// let error = brillm::open("absent.bril").unwrap_err();
/// assert_eq!(error.kind(), brillm::ErrorKind::Io);
/// assert!(error.to_string().ends_with("(check the path)"));
/// ```
///
/// # Errors
/// As [`Engine::open`].
pub fn open(path: impl AsRef<Path>) -> Result<Engine> {
    Engine::open(path.as_ref(), Verify::Lazy)
}

impl Engine {
    /// Open the model at `path`.
    ///
    /// # Errors
    /// As [`Model::open`] and `Transformer::open`; [`ErrorKind::Unsupported`] for a folder in a build without
    /// transformers.
    pub fn open(path: &Path, verify: Verify) -> Result<Self> {
        if !Self::is_transformer(path) {
            return Model::open(path, verify).map(Self::Graph);
        }
        #[cfg(feature = "transformer")]
        if path.is_file() {
            return Transformer::open(path).map(Self::Transformer);
        }
        if !path.join("config.json").exists() {
            let of_run = ["model.bril", "model"].map(|name| path.join(name));
            let advice = match of_run.iter().find(|model| model.exists()) {
                Some(model) => format!("the model of this run is {}", model.display()),
                None => {
                    "a model is a .bril file, a folder in Hugging Face's layout, or a .gguf file"
                        .into()
                }
            };
            return Err(
                Error::new(ErrorKind::Format, "the folder has no config.json")
                    .at(path.display())
                    .advice(advice),
            );
        }
        #[cfg(feature = "transformer")]
        return Transformer::open(path).map(Self::Transformer);
        #[cfg(not(feature = "transformer"))]
        Err(Error::new(
            ErrorKind::Unsupported,
            "this build does not include transformers",
        )
        .at(path.display())
        .advice("build it with the feature transformer"))
    }

    /// Return whether the model at `path` is a transformer: a folder or, in builds with transformers, a GGUF file.
    pub(crate) fn is_transformer(path: &Path) -> bool {
        #[cfg(feature = "transformer")]
        if crate::transformer::gguf_model::is_gguf(path) {
            return true;
        }
        path.is_dir()
    }

    /// Create a request for text that continues `prompt`; [`Self::start`] runs it.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn request(&self, prompt: &str) -> Result<Request> {
        self.encode(prompt).map(Request::ids)
    }

    /// Start a generation with the request's hooks.
    ///
    /// # Errors
    /// As [`HookedEngine::start`].
    pub fn start(&self, request: Request) -> Result<Generation> {
        let hooked = self.with_hooks(request.requested_hooks(), request.seed())?;
        hooked.cancel(request.cancellation()).start(request)
    }

    /// Begin a session at a prompt, without hooks.
    ///
    /// # Errors
    /// As [`HookedEngine::session`].
    pub fn session(&self, prompt: &[u32], sampling: Sampling) -> Result<Box<dyn Session>> {
        let options = SequenceOptions {
            sampling,
            ..SequenceOptions::default()
        };
        self.with_hooks(&Hooks::default(), 0)?
            .session(prompt, &options)
    }

    /// Let the sessions of a transformer share forward passes; see `Transformer::batched`. Graphs stay as they are.
    ///
    /// # Errors
    /// As `Transformer::batched`.
    pub fn batched(&self) -> Result<Self> {
        self.batched_with(0)
    }

    /// Let the sessions of a transformer share forward passes, and keep up to `prefix_bytes` of keys and values of finished
    /// ones: a session whose prompt begins with the same tokens continues there. Graphs stay as they are.
    ///
    /// Products of few and of many rows add up in different orders, so logits after reused tokens may differ by rounding
    /// from those of a session that reads its whole prompt.
    ///
    /// ```
    /// use brillm::path::Sampling;
    /// let engine = brillm::open("models/stories260K")?.batched_with(64 << 20)?;
    /// let prompt = engine.encode("Once upon a time there was a little girl who liked to play.")?;
    /// let mut session = engine.session(&prompt, Sampling::greedy())?;
    /// let first = session.step()?;
    /// drop(session);
    /// let mut session = engine.session(&prompt, Sampling::greedy())?;
    /// assert_eq!(session.reused(), prompt.len() - 1);
    /// assert_eq!(session.step()?, first);
    /// # Ok::<(), brillm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `Transformer::batched`.
    pub fn batched_with(
        &self,
        #[cfg_attr(not(feature = "transformer"), allow(unused_variables))] prefix_bytes: usize,
    ) -> Result<Self> {
        match self {
            Self::Graph(_) => Ok(self.clone()),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.batched_with(prefix_bytes).map(Self::Transformer),
        }
    }

    /// Combine the engine with the hooks of a run; `seed` is that of the hooks' random numbers.
    ///
    /// # Errors
    /// As [`HookedEngine::new`].
    pub fn with_hooks(&self, hooks: &Hooks, seed: u64) -> Result<HookedEngine> {
        HookedEngine::new(self, hooks, seed)
    }

    /// Return the model if it reads from left to right.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model that reads backward.
    pub fn forward(self) -> Result<Self> {
        if self.direction().reads_forward() {
            return Ok(self);
        }
        Err(
            Error::new(ErrorKind::Unsupported, "the model reads backward")
                .at(self.name())
                .advice(
                    "brillm generate extends text to the left with it, brillm eval measures it",
                ),
        )
    }

    /// Use static resistances of a lower order than those of a graph; see [`Model::with_order`]. `None` changes nothing.
    ///
    /// # Errors
    /// As [`Model::with_order`]; [`ErrorKind::Unsupported`] for a transformer.
    pub fn with_order(self, order: Option<usize>) -> Result<Self> {
        match order {
            None => Ok(self),
            Some(order) => self.graph()?.with_order(order).map(Self::Graph),
        }
    }

    /// Order of the static resistances in use: 2 for those of edges, up to 5 with longer walks; `None` for a transformer.
    pub fn order(&self) -> Option<usize> {
        self.as_graph().map(|model| model.mechanism().order())
    }

    /// The graph, if the model is one.
    pub fn as_graph(&self) -> Option<&Model> {
        match self {
            Self::Graph(model) => Some(model),
            #[cfg(feature = "transformer")]
            Self::Transformer(_) => None,
        }
    }

    /// The transformer, if the model is one.
    #[cfg(feature = "transformer")]
    pub fn as_transformer(&self) -> Option<&Transformer> {
        match self {
            Self::Transformer(model) => Some(model),
            Self::Graph(_) => None,
        }
    }

    /// Return the graph.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a transformer.
    pub fn graph(self) -> Result<Model> {
        match self {
            Self::Graph(model) => Ok(model),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => Err(Error::new(
                ErrorKind::Unsupported,
                "the model is a transformer, and this needs a graph",
            )
            .at(model.name())
            .advice("pass a .bril file")),
        }
    }
}
