//! A model of either path, opened by what lies at a path: a `.bril` file is a graph, a folder with a
//! `config.json` is a transformer.

use std::path::Path;
use std::sync::Arc;

use crate::model::{Model, Verify};
use crate::path::Session;
use crate::run::{Generation, Request};
use crate::text::{ReadingDirection, Tokenizer};
#[cfg(feature = "transformer")]
use crate::transformer::Transformer;
use crate::{Error, ErrorKind, Result};

/// An opened model of either kind: cheap to clone, `Send + Sync`, shared by any number of generations.
///
/// ```
/// let model = brillm::open("models/english.bril")?;
/// let (text, ids) = model.start(model.request("Once upon a time")?.tokens(5))?.collect_text()?;
/// assert_eq!(ids.len(), 5);
/// assert_eq!(model.tokenizer().decode(&ids), text);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Engine {
    /// A graph.
    Graph(Model),
    /// A transformer, or a recurrent net.
    #[cfg(feature = "transformer")]
    Transformer(Transformer),
}

/// Opens the model at `path`: a `.bril` file is a graph, a folder with a `config.json` a transformer.
///
/// [`Engine::open`] also says how much of a file is verified; here that is what [`Verify::Lazy`] says.
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
    /// Opens whatever lies at `path`.
    ///
    /// # Errors
    /// As [`Model::open`] and `Transformer::open`; [`ErrorKind::Unsupported`] for a folder in a build without
    /// transformers.
    pub fn open(path: &Path, verify: Verify) -> Result<Self> {
        if !path.is_dir() {
            return Model::open(path, verify).map(Self::Graph);
        }
        if !path.join("config.json").exists() {
            return Err(
                Error::new(ErrorKind::Format, "the folder has no config.json")
                    .at(path.display())
                    .advice("a model is a .bril file, or a folder in Hugging Face's layout"),
            );
        }
        #[cfg(feature = "transformer")]
        return Transformer::open(path).map(Self::Transformer);
        #[cfg(not(feature = "transformer"))]
        Err(
            Error::new(ErrorKind::Unsupported, "this build opens no transformers")
                .at(path.display())
                .advice("build it with the feature transformer"),
        )
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Graph(model) => &model.metadata().name,
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.name(),
        }
    }

    /// Which way it reads.
    pub fn direction(&self) -> ReadingDirection {
        match self {
            Self::Graph(model) => model.metadata().direction,
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.direction(),
        }
    }

    /// Refuses a model that reads backward, for what goes from left to right only.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn forward(self) -> Result<Self> {
        match self.direction().reads_forward() {
            true => Ok(self),
            false => Err(
                Error::new(ErrorKind::Unsupported, "the model reads backward")
                    .at(self.name())
                    .advice(
                        "brillm generate extends text to the left with it, brillm eval measures it",
                    ),
            ),
        }
    }

    /// Tokens, `V`.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Graph(model) => model.mechanism().nodes(),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.configuration().vocabulary,
        }
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        match self {
            Self::Graph(model) => model.shared_tokenizer(),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.tokenizer(),
        }
    }

    /// Encodes a text, with the marks that the model expects before one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Graph(model) => model.tokenizer().encode(text),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.encode(text),
        }
    }

    /// A request for text that continues `prompt`; [`Self::start`] begins.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn request(&self, prompt: &str) -> Result<Request> {
        self.encode(prompt).map(Request::ids)
    }

    /// Begins a generation, of one type for either kind of model.
    ///
    /// # Errors
    /// As [`Request::start`] and `Request::start_transformer`.
    pub fn start(&self, request: Request) -> Result<Generation<Box<dyn Session + Send>>> {
        match self {
            Self::Graph(model) => request.start(model).map(Generation::boxed),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => {
                let seed = request.sampling.seed;
                let asked =
                    crate::transformer::HookAdapter::new(model, &request.hooks, seed, None)?
                        .cancel(request.cancel.clone());
                request
                    .start_transformer(model, &asked)
                    .map(Generation::boxed)
            }
        }
    }

    /// The graph.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model of the other path.
    pub fn graph(self) -> Result<Model> {
        match self {
            Self::Graph(model) => Ok(model),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => Err(Error::new(
                ErrorKind::Unsupported,
                "this works on graphs, and the model is a transformer",
            )
            .at(model.name())
            .advice("give a .bril file")),
        }
    }
}
