//! Model families as data: the settings of their `config.json`, the names of their weights, and what their layers
//! are made of.
//!
//! The network is one program; a family is a [`Family`] in [`families`](super::families). [`Configuration::parse`] reads sizes by the
//! family's keys, [`initial`](super::initial) lists its weights, [`Network::new`](super::Network::new) loads them by
//! role, and [`growth`](super::growth) finds the role of a stored weight. None of these names a tensor itself.

use crate::Result;
use crate::kernel::norm::NormKind;
use crate::transformer::families::all;
use crate::transformer::settings::Settings;
use crate::transformer::{Architecture, Configuration};

/// What a stored weight does in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    TokenEmbedding,
    PositionEmbedding,
    TypeEmbedding,
    EmbeddingNorm,
    /// Matrix from the width of embeddings to that of the layers (ELECTRA).
    EmbeddingProjection,
    AttentionNorm,
    Query,
    Key,
    Value,
    /// Query, key and value projections in one matrix; [`Family::fused`] is their order.
    QueryKeyValue,
    /// Norms of queries and keys before their rotation, of each head or of all together.
    QueryNorm,
    KeyNorm,
    AttentionOutput,
    /// Norm of what attention adds to the stream.
    AttentionPostNorm,
    FeedForwardNorm,
    Gate,
    Up,
    /// Gate and up projection, one below the other.
    GateUp,
    Down,
    /// Norm of what the feed-forward layer adds to the stream.
    FeedForwardPostNorm,
    /// Scores of the experts, and the matrices of each: `{}` in a name is the expert.
    Router,
    ExpertGate,
    ExpertUp,
    ExpertDown,
    /// The expert of every token, and the factor of its output.
    SharedGate,
    SharedUp,
    SharedDown,
    SharedRouter,
    FinalNorm,
    /// Matrix, activation and norm before the output matrix (BERT).
    HeadTransform,
    HeadNorm,
    /// Output bias stored apart from the output matrix (BERT).
    HeadBias,
    /// Output matrix; absent where the token embedding is reused.
    Head,
}

/// Order of the rows of a matrix of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fused {
    /// All queries, all keys, all values.
    Joined,
    /// For each key head its queries, the key and the value.
    ByKeyHead,
}

/// Keys of `config.json` for sizes that every family has; `None` where the family has no such setting.
pub(super) struct Keys {
    pub(super) width: &'static str,
    pub(super) layers: &'static str,
    pub(super) heads: Option<&'static str>,
    /// Feed-forward width, and its default in model widths; required without one.
    pub(super) feed_forward: Option<(&'static str, Option<usize>)>,
    /// Context length under the first of these keys that is present, and its default; required without one.
    pub(super) context: (&'static [&'static str], Option<usize>),
    /// ε of the norms and the activation, with their defaults.
    pub(super) norm_epsilon: (&'static str, f64),
    pub(super) activation: (&'static str, &'static str),
    /// Whether `tie_word_embeddings` is true by default.
    pub(super) tied_default: bool,
}

/// Modules of a network, each a role and the name of its weights without `.weight` and `.bias`. Of several names of one
/// role, the file has one.
type Modules = &'static [(Role, &'static str)];

/// One family.
pub(super) struct Family {
    pub(super) architecture: Architecture,
    /// Values of `model_type` that this family reads.
    pub(super) model_types: &'static [&'static str],
    /// Value of `general.architecture` in GGUF files; empty where there are none.
    pub(super) gguf: &'static str,
    /// Class names in `architectures` are this, then the task.
    pub(super) class: &'static str,
    pub(super) task: &'static str,
    pub(super) keys: Keys,
    pub(super) norm: NormKind,
    /// What is added to the gains of norms.
    pub(super) gain_offset: f32,
    /// Whether layer norms have a bias.
    pub(super) norm_biased: bool,
    /// Norms follow the residual sums (BERT) instead of preceding each sublayer.
    pub(super) post_norm: bool,
    /// Attention and feed-forward layer read the same stream and add to it together.
    pub(super) parallel: bool,
    /// Norms that a model of the family may lack.
    pub(super) optional: &'static [Role],
    pub(super) fused: Fused,
    /// Component pairs of rotations are neighbours instead of half a head apart.
    pub(super) neighbours: bool,
    /// Reads what only some families have.
    pub(super) details: fn(&mut Configuration, &Settings<'_>) -> Result<()>,
    /// A position attends to itself and earlier positions only.
    pub(super) causal: bool,
    /// Linear layers are created with biases.
    pub(super) biased: bool,
    /// Matrices of layers are stored `[in, out]` (GPT-2) instead of `[out, in]`.
    pub(super) transposed: bool,
    /// Standard deviation of fresh position embeddings.
    pub(super) position_deviation: f32,
    /// First part of the names of all weights but the head's; missing where the base model was saved alone.
    pub(super) prefix: &'static str,
    /// Name of the list of layers; layer 3's weights are `{prefix}{layers}.3.{module}`.
    pub(super) layers: &'static str,
    /// Modules before the layers, of each layer, and after the layers, in the order in which weights are created.
    pub(super) input: Modules,
    pub(super) layer: Modules,
    pub(super) output: Modules,
}

impl std::fmt::Debug for Family {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Family({})", self.model_types[0])
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_types == other.model_types
    }
}

impl Family {
    /// Find the family of a `config.json` by its `model_type`, else by the class in its `architectures`.
    pub(super) fn find(model_type: Option<&str>, class: Option<&str>) -> Option<&'static Self> {
        all().find(|family| match (model_type, class) {
            (Some(name), _) => family.model_types.contains(&name),
            (None, Some(class)) => class.strip_prefix(family.class) == Some(family.task),
            (None, None) => false,
        })
    }

    /// Return the names of a role's module, without prefix and layer.
    fn modules(&self, role: Role) -> impl Iterator<Item = &'static str> {
        let all = [self.input, self.layer, self.output].into_iter().flatten();
        all.filter(move |(found, _)| *found == role)
            .map(|(_, name)| *name)
    }

    /// Return whether the family has a module of this role.
    pub(super) fn has(&self, role: Role) -> bool {
        self.modules(role).next().is_some()
    }

    /// Return the full names of a role's module, with `prefix` before all but the head's.
    pub(super) fn paths(
        &self,
        prefix: &str,
        role: Role,
        layer: usize,
    ) -> impl Iterator<Item = String> {
        let in_layer = self.layer.iter().any(|(found, _)| *found == role);
        self.modules(role).map(move |name| {
            if role.is_head() {
                name.to_string()
            } else if in_layer {
                format!("{prefix}{}.{layer}.{name}", self.layers)
            } else {
                format!("{prefix}{name}")
            }
        })
    }

    /// Return the first of [`Self::paths`].
    pub(super) fn path(&self, prefix: &str, role: Role, layer: usize) -> Option<String> {
        self.paths(prefix, role, layer).next()
    }

    /// Find the role and the layer of a stored weight, and whether it is a bias.
    pub(super) fn locate(&self, weight: &str) -> Option<(Role, Option<usize>)> {
        let (module, _) = weight.rsplit_once('.')?;
        let module = module.strip_prefix(self.prefix).unwrap_or(module);
        let role = |modules: Modules, name: &str| {
            let found = modules.iter().find(|(_, module)| *module == name);
            found.map(|(role, _)| *role)
        };
        let in_layer = module
            .strip_prefix(self.layers)
            .and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
        if let Some((number, name)) = in_layer {
            return Some((role(self.layer, name)?, Some(number.parse().ok()?)));
        }
        let found = role(self.input, module).or_else(|| role(self.output, module))?;
        Some((found, None))
    }
}

impl Role {
    /// Return whether the weight belongs to the head, whose names have no prefix.
    pub(super) fn is_head(self) -> bool {
        use Role::{Head, HeadBias, HeadNorm, HeadTransform};
        matches!(self, Head | HeadBias | HeadNorm | HeadTransform)
    }

    /// Return whether the weight is a norm's gain or bias.
    pub(super) fn is_norm(self) -> bool {
        use Role::{AttentionNorm, AttentionPostNorm, EmbeddingNorm, FeedForwardNorm};
        use Role::{FeedForwardPostNorm, FinalNorm, HeadNorm, KeyNorm, QueryNorm};
        matches!(
            self,
            AttentionNorm
                | AttentionPostNorm
                | EmbeddingNorm
                | FeedForwardNorm
                | FeedForwardPostNorm
                | FinalNorm
                | HeadNorm
                | KeyNorm
                | QueryNorm
        )
    }

    /// Return whether the matrix adds its product to the residual stream.
    pub(super) fn adds_to_stream(self) -> bool {
        matches!(self, Self::AttentionOutput | Self::Down)
    }

    /// Return whether the matrix is an embedding: rows are looked up, or multiplied as the output matrix.
    pub(super) fn is_embedding(self) -> bool {
        use Role::{Head, PositionEmbedding, TokenEmbedding, TypeEmbedding};
        matches!(
            self,
            TokenEmbedding | PositionEmbedding | TypeEmbedding | Head
        )
    }
}

impl Configuration {
    /// Return the output and input width of a role's matrix; a norm or bias has its output width alone.
    pub(super) fn dimensions(&self, role: Role) -> (usize, usize) {
        let (d, queries, narrow) = (
            self.width,
            self.heads * self.head_width,
            self.embedding_width,
        );
        let experts = self.experts.unwrap_or_default();
        match role {
            Role::TokenEmbedding | Role::Head | Role::HeadBias => (self.vocabulary, narrow),
            Role::PositionEmbedding => (self.context + self.position_offset, narrow),
            Role::TypeEmbedding => (self.types, narrow),
            Role::EmbeddingProjection => (d, narrow),
            Role::Query => (queries, d),
            Role::Key | Role::Value => (self.kv_width(), d),
            Role::QueryKeyValue => (queries + 2 * self.kv_width(), d),
            Role::AttentionOutput => (d, queries),
            Role::Gate | Role::Up => (self.feed_forward, d),
            Role::GateUp => (2 * self.feed_forward, d),
            Role::Down => (d, self.feed_forward),
            Role::Router => (experts.count, d),
            Role::ExpertGate | Role::ExpertUp => (experts.width, d),
            Role::ExpertDown => (d, experts.width),
            Role::SharedGate | Role::SharedUp => (experts.shared, d),
            Role::SharedDown => (d, experts.shared),
            Role::SharedRouter => (1, d),
            Role::HeadTransform => (narrow, d),
            Role::HeadNorm | Role::EmbeddingNorm => (narrow, narrow),
            // Of each head; `Norm::read` takes one of all heads as well.
            Role::QueryNorm | Role::KeyNorm => (self.head_width, self.head_width),
            Role::AttentionNorm
            | Role::AttentionPostNorm
            | Role::FeedForwardNorm
            | Role::FeedForwardPostNorm
            | Role::FinalNorm => (d, d),
        }
    }
}
