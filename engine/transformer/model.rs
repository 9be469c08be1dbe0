//! An opened model: a network of attention layers or a recurrent network, with its tokenizer.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use serde_json::Value;

use crate::Result;
use crate::kernel::allocator;
use crate::kernel::bytes::Bytes;
use crate::text::{LEFT_TO_RIGHT, ReadingDirection, Tokenizer, download};
use crate::transformer::batch::{Dropout, TokenBatch};
use crate::transformer::batch_decoder::BatchDecoder;
use crate::transformer::folder;
use crate::transformer::gguf_model::{self, GgufModel, is_gguf};
use crate::transformer::{Architecture, ChatTemplate, Configuration, Network, Recurrent, Weights};

/// A transformer or recurrent network with its tokenizer. Cheap to clone; `Send + Sync`.
///
/// ```
/// use brillm::{Request, transformer::{HookAdapter, Transformer}};
/// let model = Transformer::open("models/stories260K".as_ref())?;
/// let request = Request::ids(model.encode("Once upon a time")?).tokens(5);
/// let (text, _) = request.start(&model)?.collect_text()?;
/// assert!(!text.is_empty());
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Transformer {
    name: String,
    record: Value,
    /// Ids that end a text by the settings of the tokenizer.
    tokenizer: Arc<Tokenizer>,
    body: Arc<Body>,
    /// What the model's files store; none for layers that were changed or built in memory.
    weights: Arc<Weights>,
    decoder: Option<Arc<BatchDecoder>>,
    chat_template: Option<Arc<ChatTemplate>>,
}

/// The layers of a model.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each model, behind an Arc"
)]
pub enum Body {
    /// Attention layers.
    Network(Network),
    /// LSTM layers.
    Recurrent(Recurrent),
}

impl Body {
    /// Build the layers of a configuration from their weights.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] naming a tensor that is missing or has another shape.
    pub fn new(shape: Configuration, weights: &Weights) -> Result<Self> {
        match shape.architecture {
            Architecture::Lstm => Recurrent::new(shape, weights).map(Self::Recurrent),
            _ => Network::new(shape, weights).map(Self::Network),
        }
    }

    /// Build layers whose rows are used rather than their logits: they may have no language-model head.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn encoder(shape: Configuration, weights: &Weights) -> Result<Self> {
        match shape.architecture {
            Architecture::Lstm => Self::new(shape, weights),
            _ => Network::encoder(shape, weights).map(Self::Network),
        }
    }

    /// Return the sizes and options.
    pub fn configuration(&self) -> &Configuration {
        match self {
            Self::Network(network) => &network.shape,
            Self::Recurrent(recurrent) => &recurrent.shape,
        }
    }

    /// Compute the rows after the last layer for every position. `[B · T, D]`
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward(&self, input: &TokenBatch, dropout: Option<Dropout>) -> Result<Tensor> {
        match self {
            Self::Network(network) => network.forward(input, dropout, None),
            Self::Recurrent(recurrent) => recurrent.forward(input, dropout),
        }
    }

    /// Compute the logits of all V tokens. `[N, D]` → `[N, V]`
    ///
    /// # Errors
    /// [`crate::ErrorKind::Numeric`] when arithmetic fails.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Network(network) => network.logits(x),
            Self::Recurrent(recurrent) => recurrent.logits(x),
        }
    }

    /// Return the number of parameters.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Network(network) => network.parameters(),
            Self::Recurrent(recurrent) => recurrent.parameters(),
        }
    }

    /// Return the bytes of weights that decoding one token reads.
    pub fn bytes_per_token(&self) -> usize {
        match self {
            Self::Network(network) => network.bytes_per_token(),
            Self::Recurrent(recurrent) => recurrent.bytes_per_token(),
        }
    }
}

impl Transformer {
    /// Create a model.
    pub fn new(name: impl Into<String>, record: Value, tokenizer: Tokenizer, body: Body) -> Self {
        Self {
            name: name.into(),
            record,
            tokenizer: Arc::new(tokenizer),
            body: Arc::new(body),
            weights: Arc::default(),
            decoder: None,
            chat_template: None,
        }
    }

    /// Let the sessions of the returned model, and of its clones, share forward passes: the tokens of all sessions that
    /// wait are computed together. Texts in flight on several threads, or in turn on one, then read the weights once per
    /// step. Sessions with plugins for cache or activations keep passes of their own; so do all of a recurrent network,
    /// and of one with attention in both directions.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] as [`Network::for_plan`].
    pub fn batched(&self) -> Result<Self> {
        self.batched_with(0)
    }

    /// Let the sessions of the returned model share forward passes, and keep up to `prefix_bytes` of keys and values of
    /// finished sessions, those used least recently going first. A session whose prompt begins with the same tokens copies
    /// them, and computes the rest; the last token of a prompt is always computed. Sessions with plugins neither take nor
    /// leave anything. Logits after reused tokens may differ by rounding, since the sums of a product depend on its rows.
    ///
    /// # Errors
    /// As [`Self::batched`].
    pub fn batched_with(&self, prefix_bytes: usize) -> Result<Self> {
        let network = self.network().filter(|network| network.shape.causal());
        let decoder = network.map(|network| BatchDecoder::new(network, prefix_bytes));
        Ok(Self {
            decoder: decoder.transpose()?,
            ..self.clone()
        })
    }

    /// What sessions share after [`Self::batched`].
    pub(super) fn decoder(&self) -> Option<&Arc<BatchDecoder>> {
        self.decoder.as_ref()
    }

    /// Replace the layers by others of the same sizes.
    pub(super) fn with_body(&self, body: Body) -> Self {
        Self {
            body: Arc::new(body),
            weights: Arc::default(),
            decoder: None,
            ..self.clone()
        }
    }

    /// Open a folder in Hugging Face's layout, or a GGUF file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] for a missing file; [`crate::ErrorKind::Unsupported`] naming an
    /// architecture that is not built here; [`crate::ErrorKind::Format`] naming a tensor that is missing or
    /// has another shape; [`crate::ErrorKind::Numeric`] naming one that holds values that are not finite.
    pub fn open(path: &Path) -> Result<Self> {
        let model = if is_gguf(path) {
            let bytes = gguf_model::mapped(path)?;
            let model = Self::of_bytes(path, &bytes)?;
            // What was read once, vocabulary and copied weights among it, stays in the file.
            bytes.release();
            model
        } else {
            Self::open_folder(path, Body::new)?
        };
        // Reading a vocabulary leaves tens of megabytes of free pages.
        allocator::trim();
        Ok(model)
    }

    /// Open a folder whose rows are used rather than its logits: the model may have no language-model head.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_encoder(path: &Path) -> Result<Self> {
        match is_gguf(path) {
            true => Self::open(path),
            false => Self::open_folder(path, Body::encoder),
        }
    }

    fn open_folder(
        path: &Path,
        build: fn(Configuration, &Weights) -> Result<Body>,
    ) -> Result<Self> {
        let shape = folder::read_configuration(path)?;
        let chat_template = ChatTemplate::open_folder(path)?;
        let weights = folder::open_weights(path)?;
        let in_path = |error: crate::Error| error.at(path.display());
        weights.check().map_err(in_path)?;
        let body = build(shape, &weights).map_err(in_path)?;
        // After the weights, which show that the vocabulary has the stated size.
        let tokenizer = folder::read_tokenizer(path, body.configuration().vocabulary)?;
        let record: Value = download::read_text(&path.join(folder::RECORD))
            .ok()
            .and_then(|bytes| serde_json::from_str(&bytes).ok())
            .unwrap_or(Value::Null);
        Ok(Self {
            weights: Arc::new(weights),
            chat_template: chat_template.map(Arc::new),
            ..Self::new(name(&record, path), record, tokenizer, body)
        })
    }

    /// Build the model of the GGUF file at `path` from its bytes, which it shares.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn of_bytes(path: &Path, bytes: &Bytes) -> Result<Self> {
        let gguf = GgufModel::read(bytes).map_err(|error| error.at(path.display()))?;
        Self::of_gguf(path, gguf)
    }

    /// Build the model of the GGUF file at `path`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn of_gguf(path: &Path, gguf: GgufModel) -> Result<Self> {
        let in_path = |error: crate::Error| error.at(path.display());
        gguf.weights.check().map_err(in_path)?;
        let body = Body::new(gguf.configuration, &gguf.weights).map_err(in_path)?;
        let record = gguf
            .name
            .map_or(Value::Null, |name| serde_json::json!({"name": name}));
        Ok(Self {
            weights: Arc::new(gguf.weights),
            chat_template: gguf.chat_template.map(Arc::new),
            ..Self::new(name(&record, path), record, gguf.tokenizer, body)
        })
    }

    /// Return the template that writes conversations as prompts, if the model has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_deref()
    }

    /// Return the weights as the model's files store them, in the memory that the model computes with; none for a model
    /// that was not opened from files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Return the model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Return the record of how the model was made, null without one.
    pub fn record(&self) -> &Value {
        &self.record
    }

    /// Return the record as an object to add to; a model without a record gets one with its name.
    pub(super) fn record_object(&self) -> Value {
        if self.record.is_object() {
            return self.record.clone();
        }
        serde_json::json!({"name": self.name})
    }

    /// Return the direction of reading, from the record.
    pub fn direction(&self) -> ReadingDirection {
        serde_json::from_value(self.record["direction"].clone()).unwrap_or_default()
    }

    /// Return the sizes and options.
    pub fn configuration(&self) -> &Configuration {
        self.body.configuration()
    }

    /// Return the tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Return the layers.
    pub fn body(&self) -> &Arc<Body> {
        &self.body
    }

    /// Return the network of attention layers, `None` for a recurrent network.
    pub fn network(&self) -> Option<&Network> {
        match &*self.body {
            Body::Network(network) => Some(network),
            Body::Recurrent(_) => None,
        }
    }

    /// Encode a text after the tokenizer's initial special tokens, and after the left-to-right mark for a model trained
    /// in both directions.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.frame().0;
        if self.direction() == ReadingDirection::Both {
            ids.extend(self.tokenizer.vocabulary().id(LEFT_TO_RIGHT));
        }
        ids.extend(self.tokenizer.encode(text)?);
        self.tokenizer.check(&ids)?;
        if let Some(warning) = self.tokenizer.doubled_begin(&ids) {
            tracing::warn!("{warning}");
        }
        Ok(ids)
    }

    /// Return the ids that end a text: those of `config.json`, `generation_config.json` and the tokenizer.
    pub fn stop_tokens(&self) -> Vec<u32> {
        let mut stop_tokens = self.configuration().stop_tokens.clone();
        stop_tokens.extend(self.tokenizer.vocabulary().stop());
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        stop_tokens
    }
}

/// Return the name in the record of a model, or that of its file or folder.
fn name(record: &Value, path: &Path) -> String {
    let of_path = || {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = if path.is_dir() {
            path.file_name()
        } else {
            path.file_stem()
        };
        name.unwrap_or_default().to_string_lossy().into_owned()
    };
    record["name"].as_str().map_or_else(of_path, str::to_string)
}
