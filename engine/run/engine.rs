//! A model of either path, opened by what lies at a path: a `.bril` file is a graph, a folder with a
//! `config.json` is a transformer.

use std::path::Path;
use std::sync::Arc;

use crate::model::{Model, Verify};
use crate::text::Tokenizer;
#[cfg(feature = "transformer")]
use crate::transformer::Transformer;
use crate::{Error, ErrorKind, Result};

/// An opened model.
#[derive(Clone, Debug)]
pub enum Engine {
    /// A graph.
    Graph(Model),
    /// A transformer, or a recurrent net.
    #[cfg(feature = "transformer")]
    Transformer(Transformer),
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
