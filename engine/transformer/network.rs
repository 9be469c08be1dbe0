//! A network of attention layers and its weights, built from the description of its family.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;

use crate::transformer::family::{Family, Role};
use crate::transformer::weights::{Linear, Norm, Weights};
use crate::transformer::{Activation, Architecture, Configuration, Plan};
use crate::{Error, ErrorKind, Result};

/// A network of attention layers with its weights. Cheap to clone: weights are shared.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) shape: Configuration,
    pub(super) embedding: Embedding,
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Option<Norm>,
    pub(super) head: Head,
    /// Whether a text beyond the context was reported; shared by copies.
    reported: Arc<AtomicBool>,
}

/// Tables whose rows are added to form the input of the first layer, and their norm (BERT).
#[derive(Clone, Debug)]
pub(super) struct Embedding {
    pub(super) tokens: Tensor,
    pub(super) positions: Option<Tensor>,
    pub(super) types: Option<Tensor>,
    pub(super) norm: Option<Norm>,
}

/// One layer: attention and feed-forward, each with a norm.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Norms follow the residual sums (BERT) instead of preceding the sublayers.
    pub(super) post_norm: bool,
    pub(super) attention_norm: Norm,
    pub(super) query: Linear,
    /// Key and value projections; none where a plan makes the layer read another layer's cache.
    pub(super) key_value: Option<(Linear, Linear)>,
    pub(super) output: Linear,
    pub(super) feed_forward_norm: Norm,
    pub(super) feed_forward: FeedForward,
}

/// `down(activation(up x))`, or `down(silu(gate x) · up x)` with a gate.
#[derive(Clone, Debug)]
pub(super) struct FeedForward {
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
}

/// Output matrix, and BERT's transform before it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) transform: Option<(Linear, Norm)>,
    pub(super) matrix: Linear,
}

/// Loads weights by their role.
struct Loader<'a> {
    shape: &'a Configuration,
    family: &'static Family,
    weights: &'a Weights,
    prefix: &'static str,
}

impl<'a> Loader<'a> {
    fn new(shape: &'a Configuration, weights: &'a Weights) -> Self {
        let family = shape.family();
        // The base model alone is stored without the prefix.
        let prefixed = weights
            .iter()
            .any(|(name, _)| name.starts_with(family.prefix));
        Self {
            shape,
            family,
            weights,
            prefix: if prefixed { family.prefix } else { "" },
        }
    }

    fn path(&self, role: Role, layer: usize) -> Result<String> {
        self.family.path(self.prefix, role, layer).ok_or_else(|| {
            let family = self.family.architecture;
            Error::new(
                ErrorKind::Unsupported,
                format!("{family:?} has no {role:?} weights"),
            )
        })
    }

    /// Load what `load` loads where the family has the role.
    fn optional<T>(&self, role: Role, load: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.family.has(role).then(load).transpose()
    }

    fn table(&self, role: Role) -> Result<Tensor> {
        let (rows, columns) = self.shape.dimensions(role);
        let mut name = format!("{}.weight", self.path(role, 0)?);
        // Of tensors that share their numbers a file may hold one alone: for tied matrices that of the head.
        if role == Role::TokenEmbedding && self.shape.tied && !self.weights.has(&name) {
            let head = format!("{}.weight", self.path(Role::Head, 0)?);
            if self.weights.has(&head) {
                name = head;
            }
        }
        self.weights.get(&name, &[rows, columns])
    }

    fn norm(&self, role: Role, layer: usize) -> Result<Norm> {
        Norm::read(self.weights, &self.path(role, layer)?, self.shape)
    }

    fn linear(&self, role: Role, layer: usize) -> Result<Linear> {
        let (output, input) = self.shape.dimensions(role);
        let path = self.path(role, layer)?;
        if self.family.transposed {
            Linear::read_transposed(self.weights, &path, input, output)
        } else {
            Linear::read(self.weights, &path, input, output)
        }
    }

    fn layer(&self, layer: usize) -> Result<Layer> {
        let linear = |role| self.linear(role, layer);
        let (query, key, value) = if self.family.has(Role::QueryKeyValue) {
            let fused = linear(Role::QueryKeyValue)?;
            // The matrix is queries, keys and values side by side: `[D, q + 2 kv]`.
            let kv = self.shape.kv_width();
            let q = self.shape.dimensions(Role::QueryKeyValue).0 - 2 * kv;
            (
                fused.columns(0, q)?,
                fused.columns(q, kv)?,
                fused.columns(q + kv, kv)?,
            )
        } else {
            (
                linear(Role::Query)?,
                linear(Role::Key)?,
                linear(Role::Value)?,
            )
        };
        Ok(Layer {
            post_norm: self.family.post_norm,
            attention_norm: self.norm(Role::AttentionNorm, layer)?,
            query,
            key_value: Some((key, value)),
            output: linear(Role::AttentionOutput)?,
            feed_forward_norm: self.norm(Role::FeedForwardNorm, layer)?,
            feed_forward: FeedForward {
                gate: self.optional(Role::Gate, || linear(Role::Gate))?,
                up: linear(Role::Up)?,
                down: linear(Role::Down)?,
                activation: self.shape.activation,
            },
        })
    }

    fn head(&self, tokens: &Tensor) -> Result<Head> {
        let (vocabulary, width) = self.shape.dimensions(Role::Head);
        let bias = self.optional(Role::HeadBias, || {
            let path = self.path(Role::HeadBias, 0)?;
            self.weights.get(&format!("{path}.bias"), &[vocabulary])
        })?;
        let matrix = if self.shape.tied {
            // Tied: the output matrix is the transposed embedding (Press and Wolf 2017).
            Linear::new(tokens.t()?, bias)
        } else if bias.is_some() {
            Linear::new(self.table(Role::Head)?.t()?, bias)
        } else {
            Linear::read(self.weights, &self.path(Role::Head, 0)?, width, vocabulary)?
        };
        // BERT: logits = norm(gelu(W x + b)) · embeddingᵀ + bias.
        let transform = self.optional(Role::HeadTransform, || {
            let linear = self.linear(Role::HeadTransform, 0)?;
            Ok((linear, self.norm(Role::HeadNorm, 0)?))
        })?;
        Ok(Head { transform, matrix })
    }
}

impl Network {
    /// Build the network of a configuration from its weights.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor that is missing or has the wrong shape; [`ErrorKind::Unsupported`] for
    /// a recurrent network.
    pub fn new(shape: Configuration, weights: &Weights) -> Result<Self> {
        if shape.architecture == Architecture::Lstm {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a recurrent network has no attention layers",
            ));
        }
        let loader = Loader::new(&shape, weights);
        let tokens = loader.table(Role::TokenEmbedding)?;
        if loader.family.has(Role::Gate) && shape.activation != Activation::Silu {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "hidden_act: gated feed-forward layers support silu only",
            ));
        }
        let table = |role| loader.optional(role, || loader.table(role));
        let norm = |role| loader.optional(role, || loader.norm(role, 0));
        Ok(Self {
            layers: (0..shape.layers)
                .map(|layer| loader.layer(layer))
                .collect::<Result<_>>()?,
            head: loader.head(&tokens)?,
            embedding: Embedding {
                tokens,
                positions: table(Role::PositionEmbedding)?,
                types: table(Role::TypeEmbedding)?,
                norm: norm(Role::EmbeddingNorm)?,
            },
            final_norm: norm(Role::FinalNorm)?,
            shape,
            reported: Arc::default(),
        })
    }

    /// Warn, once for each opened model, that a text reaches the end of what the model was trained for.
    pub(super) fn warn_once(&self, warning: &str) {
        if !self.reported.swap(true, Ordering::Relaxed) {
            let context = self.shape.context;
            tracing::warn!("the text is longer than the model's {context} positions: {warning}");
        }
    }

    /// Return the network's sizes and options.
    pub fn configuration(&self) -> &Configuration {
        &self.shape
    }

    /// Copy the network without the key and value projections of layers that read another layer's cache.
    ///
    /// # Errors
    /// As [`Plan::check`].
    pub fn for_plan(&self, plan: &Plan) -> Result<Self> {
        plan.check(&self.shape)?;
        let mut network = self.clone();
        for (index, layer) in network.layers.iter_mut().enumerate() {
            if plan.layers[index].source != index {
                layer.key_value = None;
                // A view into a fused matrix would keep all of it in memory.
                layer.query = layer.query.copy()?;
            }
        }
        Ok(network)
    }

    /// Return the number of parameters; a tied matrix counts once.
    pub fn parameters(&self) -> usize {
        let tables = self.embedding.tables().map(Tensor::elem_count);
        let norms = [&self.embedding.norm, &self.final_norm];
        let transform = self.head.transform.as_ref();
        // The head's matrix is counted below: subtract it where it is the embedding.
        let shared = if self.shape.tied {
            self.embedding.tokens.elem_count()
        } else {
            0
        };
        tables.sum::<usize>()
            + self.layers.iter().map(Layer::count).sum::<usize>()
            + norms.into_iter().flatten().map(Norm::count).sum::<usize>()
            + transform.map_or(0, |(linear, norm)| linear.count() + norm.count())
            + self.head.matrix.count()
            - shared
    }

    /// Return the bytes of weights that decoding one token reads: all but the unused rows of embeddings.
    pub fn bytes_per_token(&self) -> usize {
        // A tied token embedding is read whole, as the output matrix.
        let unread: usize = self
            .embedding
            .tables()
            .skip(usize::from(self.shape.tied))
            .map(|table| table.elem_count().saturating_sub(self.shape.width))
            .sum();
        (self.parameters() - unread) * 4
    }
}

impl Embedding {
    /// Return all tables, that of tokens first.
    fn tables(&self) -> impl Iterator<Item = &Tensor> {
        let others = [&self.positions, &self.types];
        std::iter::once(&self.tokens).chain(others.into_iter().flatten())
    }
}

impl Layer {
    fn count(&self) -> usize {
        let feed_forward = &self.feed_forward;
        let key_value = self.key_value.iter().flat_map(|(key, value)| [key, value]);
        let linears = [
            &self.query,
            &self.output,
            &feed_forward.up,
            &feed_forward.down,
        ];
        self.attention_norm.count()
            + self.feed_forward_norm.count()
            + linears
                .into_iter()
                .chain(key_value)
                .chain(&feed_forward.gate)
                .map(Linear::count)
                .sum::<usize>()
    }
}
