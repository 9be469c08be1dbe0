//! A network of attention layers and its weights, built from the description of its family.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::transformer::family::{Family, Fused, Role};
use crate::transformer::head::Head;
use crate::transformer::matrix::Matrix;
use crate::transformer::weights::{Linear, Norm, Weights};
use crate::transformer::{Activation, Architecture, Configuration, Experts, Plan};
use crate::{Error, ErrorKind, Result};

/// A network of attention layers with its weights. Cheap to clone: weights are shared.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) shape: Configuration,
    pub(super) embedding: Embedding,
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Option<Norm>,
    /// None for an encoder of texts or a classifier.
    pub(super) head: Option<Head>,
    /// Whether a text beyond the context was reported; shared by copies.
    reported: Arc<AtomicBool>,
}

/// Tables whose rows are added to form the input of the first layer, and their norm (BERT).
#[derive(Clone, Debug)]
pub(super) struct Embedding {
    pub(super) tokens: Matrix,
    pub(super) positions: Option<Matrix>,
    pub(super) types: Option<Matrix>,
    pub(super) norm: Option<Norm>,
    pub(super) projection: Option<Linear>,
}

/// One layer: attention and feed-forward, each with norms before or after it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Norms follow the residual sums (BERT) instead of preceding the sublayers.
    pub(super) post_norm: bool,
    /// Both sublayers read the same stream.
    pub(super) parallel: bool,
    /// Factor of what a sublayer adds to the stream.
    pub(super) residual_scale: f32,
    pub(super) attention_norm: Option<Norm>,
    pub(super) attention_post_norm: Option<Norm>,
    pub(super) query_norm: Option<Norm>,
    pub(super) key_norm: Option<Norm>,
    pub(super) query: Linear,
    /// Key and value projections; none where a plan makes the layer read another layer's cache.
    pub(super) key_value: Option<(Linear, Linear)>,
    pub(super) output: Linear,
    pub(super) feed_forward_norm: Option<Norm>,
    pub(super) feed_forward_post_norm: Option<Norm>,
    pub(super) feed_forward: FeedForwardKind,
}

/// The second half of a layer.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each layer of a model")]
pub(super) enum FeedForwardKind {
    Dense(FeedForward),
    Mixture(Mixture),
}

/// Experts that a router chooses for each token.
#[derive(Clone, Debug)]
pub(super) struct Mixture {
    pub(super) sizes: Experts,
    pub(super) router: Linear,
    pub(super) experts: Vec<FeedForward>,
    /// The expert of every token, and the factor of its output.
    pub(super) shared: Option<(FeedForward, Linear)>,
}

/// `down(activation(up x))`, or `down(activation(gate x) · up x)` with a gate.
#[derive(Clone, Debug)]
pub(super) struct FeedForward {
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
}

/// Loads weights by their role.
pub(super) struct Loader<'a> {
    pub(super) shape: &'a Configuration,
    pub(super) family: &'static Family,
    pub(super) weights: &'a Weights,
    prefix: &'static str,
}

impl<'a> Loader<'a> {
    pub(super) fn new(shape: &'a Configuration, weights: &'a Weights) -> Self {
        let family = shape.family();
        // The base model alone is stored without the prefix.
        let prefixed = weights.names().any(|name| name.starts_with(family.prefix));
        Self {
            shape,
            family,
            weights,
            prefix: if prefixed { family.prefix } else { "" },
        }
    }

    /// Return the name of a role's module: of several, the one that the file has.
    pub(super) fn path(&self, role: Role, layer: usize) -> Result<String> {
        let mut paths = self.family.paths(self.prefix, role, layer);
        let first = paths.next().ok_or_else(|| {
            let family = self.family.model_types[0];
            let what = format!("{family} has no {role:?} weights");
            Error::new(ErrorKind::Unsupported, what)
        })?;
        let present = |path: &String| self.weights.has(&format!("{path}.weight"));
        let other = if present(&first) {
            None
        } else {
            paths.find(present)
        };
        Ok(other.unwrap_or(first))
    }

    /// Load what `load` loads where the family has the role.
    pub(super) fn optional<T>(
        &self,
        role: Role,
        load: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        self.family.has(role).then(load).transpose()
    }

    pub(super) fn table(&self, role: Role) -> Result<Matrix> {
        let (rows, columns) = self.shape.dimensions(role);
        let mut name = format!("{}.weight", self.path(role, 0)?);
        // Of tensors that share their numbers a file may hold one alone: for tied matrices that of the head.
        if role == Role::TokenEmbedding && self.shape.tied && !self.weights.has(&name) {
            let head = format!("{}.weight", self.path(Role::Head, 0)?);
            if self.weights.has(&head) {
                name = head;
            }
        }
        self.weights.matrix(&name, [rows, columns])
    }

    /// Load a norm that the family has. One that the file may lack is without weights where the family's norms are so,
    /// and else left out.
    fn norm(&self, role: Role, layer: usize) -> Result<Option<Norm>> {
        if !self.family.has(role) {
            return Ok(None);
        }
        let path = self.path(role, layer)?;
        if self.family.optional.contains(&role) && !self.weights.has(&format!("{path}.weight")) {
            let plain = self.family.optional.contains(&Role::FinalNorm);
            return plain.then(|| Norm::plain(self.shape)).transpose();
        }
        let width = match self.shape.dimensions(role).0 {
            // Some families normalise all heads together.
            width if matches!(role, Role::QueryNorm | Role::KeyNorm) => {
                let (heads, _) = self.shape.dimensions(match role {
                    Role::QueryNorm => Role::Query,
                    _ => Role::Key,
                });
                let whole = self.weights.has_shape(&format!("{path}.weight"), &[heads]);
                if whole { heads } else { width }
            }
            width => width,
        };
        Norm::read(self.weights, &path, self.shape, width).map(Some)
    }

    /// Load the feed-forward layer of three roles; `expert` replaces `{}` in their names.
    fn feed_forward(&self, roles: [Role; 3], layer: usize, expert: usize) -> Result<FeedForward> {
        let linear = |role| self.linear_of(role, layer, expert);
        let [gate, up, down] = roles;
        let (gate, up) = if self.family.has(Role::GateUp) {
            let (both, width) = (linear(Role::GateUp)?, self.shape.feed_forward);
            (Some(both.outputs(0, width)?), both.outputs(width, width)?)
        } else {
            (self.optional(gate, || linear(gate))?, linear(up)?)
        };
        Ok(FeedForward {
            gate,
            up,
            down: linear(down)?,
            activation: self.shape.activation,
        })
    }

    fn feed_forward_kind(&self, layer: usize) -> Result<FeedForwardKind> {
        let dense = [Role::Gate, Role::Up, Role::Down];
        let sizes = match self.shape.experts {
            Some(sizes) if !self.shape.dense_layers.contains(&layer) => sizes,
            _ => return Ok(FeedForwardKind::Dense(self.feed_forward(dense, layer, 0)?)),
        };
        let expert = [Role::ExpertGate, Role::ExpertUp, Role::ExpertDown];
        let experts = (0..sizes.count).map(|expert_| self.feed_forward(expert, layer, expert_));
        let shared = [Role::SharedGate, Role::SharedUp, Role::SharedDown];
        let shared = (sizes.shared > 0).then(|| {
            let router = self.linear(Role::SharedRouter, layer)?;
            Ok::<_, Error>((self.feed_forward(shared, layer, 0)?, router))
        });
        Ok(FeedForwardKind::Mixture(Mixture {
            sizes,
            router: self.linear(Role::Router, layer)?,
            experts: experts.collect::<Result<_>>()?,
            shared: shared.transpose()?,
        }))
    }

    /// Split a matrix of queries, keys and values.
    fn split(&self, fused: &Linear) -> Result<(Linear, Linear, Linear)> {
        let (q, kv) = (self.shape.dimensions(Role::Query).0, self.shape.kv_width());
        if self.family.fused == Fused::Joined {
            let keys = fused.outputs(q, kv)?;
            return Ok((fused.outputs(0, q)?, keys, fused.outputs(q + kv, kv)?));
        }
        // Of each key head: its queries, then the key and the value.
        let (width, groups) = (self.shape.head_width, self.shape.kv_heads);
        let queries = self.shape.heads / groups;
        let rows = |first: usize, heads: usize| -> Vec<usize> {
            let group = (queries + 2) * width;
            let of =
                |g: usize| (first * width..(first + heads) * width).map(move |row| g * group + row);
            (0..groups).flat_map(of).collect()
        };
        let pick = |first, heads| fused.reordered(&rows(first, heads));
        Ok((pick(0, queries)?, pick(queries, 1)?, pick(queries + 1, 1)?))
    }

    pub(super) fn linear(&self, role: Role, layer: usize) -> Result<Linear> {
        self.linear_of(role, layer, 0)
    }

    fn linear_of(&self, role: Role, layer: usize, expert: usize) -> Result<Linear> {
        let (output, input) = self.shape.dimensions(role);
        let path = self.path(role, layer)?.replace("{}", &expert.to_string());
        if self.family.transposed {
            Linear::read_transposed(self.weights, &path, input, output)
        } else {
            Linear::read(self.weights, &path, input, output)
        }
    }

    fn layer(&self, layer: usize) -> Result<Layer> {
        let linear = |role| self.linear(role, layer);
        let (query, key, value) = if self.family.has(Role::QueryKeyValue) {
            self.split(&linear(Role::QueryKeyValue)?)?
        } else {
            (
                linear(Role::Query)?,
                linear(Role::Key)?,
                linear(Role::Value)?,
            )
        };
        let norm = |role| self.norm(role, layer);
        Ok(Layer {
            post_norm: self.family.post_norm,
            parallel: self.shape.parallel,
            residual_scale: self.shape.residual_scale,
            attention_norm: norm(Role::AttentionNorm)?,
            attention_post_norm: norm(Role::AttentionPostNorm)?,
            query_norm: norm(Role::QueryNorm)?,
            key_norm: norm(Role::KeyNorm)?,
            query,
            key_value: Some((key, value)),
            output: linear(Role::AttentionOutput)?,
            feed_forward_norm: norm(Role::FeedForwardNorm)?,
            feed_forward_post_norm: norm(Role::FeedForwardPostNorm)?,
            feed_forward: self.feed_forward_kind(layer)?,
        })
    }
}

impl Network {
    /// Build the network of a configuration from its weights.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor that is missing or has the wrong shape; [`ErrorKind::Unsupported`] for
    /// a recurrent network, and for weights without a language-model head.
    pub fn new(shape: Configuration, weights: &Weights) -> Result<Self> {
        let network = Self::encoder(shape, weights)?;
        match network.head {
            Some(_) => Ok(network),
            None => Err(network.lacks_head()),
        }
    }

    /// Build a network whose rows are used rather than its logits: it may have no language-model head.
    ///
    /// # Errors
    /// As [`Self::new`], but for the head.
    pub fn encoder(shape: Configuration, weights: &Weights) -> Result<Self> {
        if shape.architecture == Architecture::Lstm {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a recurrent network has no attention layers",
            ));
        }
        let loader = Loader::new(&shape, weights);
        let tokens = loader.table(Role::TokenEmbedding)?;
        let table = |role| loader.optional(role, || loader.table(role));
        let norm = |role| loader.norm(role, 0);
        let projection = Role::EmbeddingProjection;
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
                projection: loader.optional(projection, || loader.linear(projection, 0))?,
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
        let tables = self.embedding.tables().map(Matrix::count);
        let norms = [&self.embedding.norm, &self.final_norm];
        let head = self.head.as_ref();
        let transform = head.and_then(|head| head.transform.as_ref());
        // The head's matrix is counted below: subtract it where it is the embedding.
        let shared = if self.shape.tied && head.is_some() {
            self.embedding.tokens.count()
        } else {
            0
        };
        tables.sum::<usize>()
            + self.layers.iter().map(Layer::count).sum::<usize>()
            + self.embedding.projection.as_ref().map_or(0, Linear::count)
            + norms.into_iter().flatten().map(Norm::count).sum::<usize>()
            + transform.map_or(0, |(linear, norm)| linear.count() + norm.count())
            + head.map_or(0, |head| head.matrix.count())
            - shared
    }

    /// Return the bytes of weights that decoding one token reads: all but the unused rows of embeddings.
    pub fn bytes_per_token(&self) -> usize {
        let rows: usize = self
            .embedding
            .tables()
            .map(|table| table.bytes() * self.shape.embedding_width / table.count().max(1))
            .sum();
        let norms = [&self.embedding.norm, &self.final_norm];
        let head = self.head.as_ref();
        let transform = head.and_then(|head| head.transform.as_ref());
        rows + self.layers.iter().map(Layer::bytes).sum::<usize>()
            + 4 * norms.into_iter().flatten().map(Norm::count).sum::<usize>()
            + transform.map_or(0, |(linear, norm)| linear.bytes() + 4 * norm.count())
            + head.map_or(0, |head| head.matrix.bytes())
    }
}

impl Embedding {
    /// Return all tables, that of tokens first.
    fn tables(&self) -> impl Iterator<Item = &Matrix> {
        let others = [&self.positions, &self.types];
        std::iter::once(&self.tokens).chain(others.into_iter().flatten())
    }
}

impl FeedForward {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.up, &self.down].into_iter().chain(&self.gate)
    }
}

impl Layer {
    fn linears(&self) -> Vec<&Linear> {
        let key_value = self.key_value.iter().flat_map(|(key, value)| [key, value]);
        let mut linears = vec![&self.query, &self.output];
        linears.extend(key_value);
        match &self.feed_forward {
            FeedForwardKind::Dense(layer) => linears.extend(layer.linears()),
            FeedForwardKind::Mixture(mixture) => {
                linears.push(&mixture.router);
                linears.extend(mixture.experts.iter().flat_map(FeedForward::linears));
                if let Some((layer, router)) = &mixture.shared {
                    linears.extend(layer.linears().chain([router]));
                }
            }
        }
        linears
    }

    fn norms(&self) -> usize {
        let norms = [
            &self.attention_norm,
            &self.attention_post_norm,
            &self.query_norm,
            &self.key_norm,
            &self.feed_forward_norm,
            &self.feed_forward_post_norm,
        ];
        norms.into_iter().flatten().map(Norm::count).sum()
    }

    fn count(&self) -> usize {
        self.norms() + self.linears().into_iter().map(Linear::count).sum::<usize>()
    }

    /// Return the bytes that a token reads: of experts, those it uses.
    fn bytes(&self) -> usize {
        let all: usize = self.linears().into_iter().map(Linear::bytes).sum();
        let unused = match &self.feed_forward {
            FeedForwardKind::Dense(_) => 0,
            FeedForwardKind::Mixture(mixture) => {
                let unused = mixture.experts.iter().skip(mixture.sizes.used);
                unused
                    .flat_map(FeedForward::linears)
                    .map(Linear::bytes)
                    .sum()
            }
        };
        4 * self.norms() + all - unused
    }
}
