//! Model families as data: the settings of their `config.json`, the names of their weights, and what their layers
//! are made of.
//!
//! The network is one program; a family is a [`Family`] in [`FAMILIES`]. [`Configuration::parse`] reads sizes by the
//! family's keys, [`initial`](super::initial) lists its weights, [`Network::new`](super::Network::new) loads them by
//! role, and [`growth`](super::growth) finds the role of a stored weight. None of these names a tensor itself.

use crate::kernel::norm::NormKind;
use crate::transformer::{Architecture, Configuration};

/// What a stored weight does in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    TokenEmbedding,
    PositionEmbedding,
    TypeEmbedding,
    EmbeddingNorm,
    AttentionNorm,
    Query,
    Key,
    Value,
    /// Query, key and value projections side by side in one matrix.
    QueryKeyValue,
    AttentionOutput,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    FinalNorm,
    /// Matrix, activation and norm before the output matrix (BERT).
    HeadTransform,
    HeadNorm,
    /// Output bias stored apart from the output matrix (BERT).
    HeadBias,
    /// Output matrix; absent where the token embedding is reused.
    Head,
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

/// Modules of a network, each a role and the name of its weights without `.weight` and `.bias`.
type Modules = &'static [(Role, &'static str)];

/// One family.
pub(super) struct Family {
    pub(super) architecture: Architecture,
    /// Values of `model_type` that this family reads.
    pub(super) model_types: &'static [&'static str],
    /// Class names in `architectures` are this, then the task.
    pub(super) class: &'static str,
    pub(super) task: &'static str,
    pub(super) keys: Keys,
    pub(super) norm: NormKind,
    /// Norms follow the residual sums (BERT) instead of preceding each sublayer.
    pub(super) post_norm: bool,
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

/// All families.
pub(super) static FAMILIES: [Family; 4] = [LLAMA, GPT2, BERT, LSTM];

/// Llama, Mistral and Qwen2: rotary positions, RMS norms, gated feed-forward layers, no biases of their own.
const LLAMA: Family = Family {
    architecture: Architecture::Llama,
    model_types: &["llama", "mistral", "qwen2"],
    class: "Llama",
    task: "ForCausalLM",
    keys: Keys {
        width: "hidden_size",
        layers: "num_hidden_layers",
        heads: Some("num_attention_heads"),
        feed_forward: Some(("intermediate_size", None)),
        context: (&["max_position_embeddings"], Some(2048)),
        norm_epsilon: ("rms_norm_eps", 1e-6),
        activation: ("hidden_act", "silu"),
        tied_default: false,
    },
    norm: NormKind::Rms,
    post_norm: false,
    causal: true,
    biased: false,
    transposed: false,
    position_deviation: 0.0,
    prefix: "model.",
    layers: "layers",
    input: &[(Role::TokenEmbedding, "embed_tokens")],
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Gate, "mlp.gate_proj"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
    ],
    output: &[(Role::FinalNorm, "norm"), (Role::Head, "lm_head")],
};

/// GPT-2: learned positions, layer norms, one matrix for queries, keys and values.
const GPT2: Family = Family {
    architecture: Architecture::Gpt2,
    model_types: &["gpt2"],
    class: "GPT2",
    task: "LMHeadModel",
    keys: Keys {
        width: "n_embd",
        layers: "n_layer",
        heads: Some("n_head"),
        feed_forward: Some(("n_inner", Some(4))),
        context: (&["n_positions", "n_ctx"], None),
        norm_epsilon: ("layer_norm_epsilon", 1e-5),
        activation: ("activation_function", "gelu_new"),
        tied_default: true,
    },
    norm: NormKind::Layer,
    biased: true,
    transposed: true,
    position_deviation: 0.01,
    prefix: "transformer.",
    layers: "h",
    input: &[
        (Role::TokenEmbedding, "wte"),
        (Role::PositionEmbedding, "wpe"),
    ],
    layer: &[
        (Role::AttentionNorm, "ln_1"),
        (Role::QueryKeyValue, "attn.c_attn"),
        (Role::AttentionOutput, "attn.c_proj"),
        (Role::FeedForwardNorm, "ln_2"),
        (Role::Up, "mlp.c_fc"),
        (Role::Down, "mlp.c_proj"),
    ],
    output: &[(Role::FinalNorm, "ln_f"), (Role::Head, "lm_head")],
    ..LLAMA
};

/// BERT with its masked-language-model head: learned positions, post-norm, attention in both directions.
const BERT: Family = Family {
    architecture: Architecture::Bert,
    model_types: &["bert"],
    class: "Bert",
    task: "ForMaskedLM",
    keys: Keys {
        context: (LLAMA.keys.context.0, None),
        norm_epsilon: ("layer_norm_eps", 1e-12),
        activation: ("hidden_act", "gelu"),
        tied_default: true,
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    post_norm: true,
    causal: false,
    biased: true,
    position_deviation: 0.02,
    prefix: "bert.",
    layers: "encoder.layer",
    input: &[
        (Role::TokenEmbedding, "embeddings.word_embeddings"),
        (Role::PositionEmbedding, "embeddings.position_embeddings"),
        (Role::TypeEmbedding, "embeddings.token_type_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
    ],
    layer: &[
        (Role::Query, "attention.self.query"),
        (Role::Key, "attention.self.key"),
        (Role::Value, "attention.self.value"),
        (Role::AttentionOutput, "attention.output.dense"),
        (Role::AttentionNorm, "attention.output.LayerNorm"),
        (Role::Up, "intermediate.dense"),
        (Role::Down, "output.dense"),
        (Role::FeedForwardNorm, "output.LayerNorm"),
    ],
    output: &[
        (Role::HeadTransform, "cls.predictions.transform.dense"),
        (Role::HeadNorm, "cls.predictions.transform.LayerNorm"),
        (Role::HeadBias, "cls.predictions"),
        (Role::Head, "cls.predictions.decoder"),
    ],
    ..LLAMA
};

/// LSTM layers: sizes only, since [`Recurrent`](super::Recurrent) is another network with weights of its own.
const LSTM: Family = Family {
    architecture: Architecture::Lstm,
    model_types: &["lstm"],
    class: "Lstm",
    keys: Keys {
        heads: None,
        feed_forward: None,
        context: (LLAMA.keys.context.0, Some(0)),
        tied_default: true,
        ..LLAMA.keys
    },
    prefix: "",
    input: &[],
    layer: &[],
    output: &[],
    ..LLAMA
};

impl Architecture {
    /// Return the description of this family.
    pub(super) fn family(self) -> &'static Family {
        match self {
            Self::Llama => &FAMILIES[0],
            Self::Gpt2 => &FAMILIES[1],
            Self::Bert => &FAMILIES[2],
            Self::Lstm => &FAMILIES[3],
        }
    }
}

impl Family {
    /// Find the family of a `config.json` by its `model_type`, else by the class in its `architectures`.
    pub(super) fn find(model_type: Option<&str>, class: Option<&str>) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| match (model_type, class) {
            (Some(name), _) => family.model_types.contains(&name),
            (None, Some(class)) => class.strip_prefix(family.class) == Some(family.task),
            (None, None) => false,
        })
    }

    /// Return the name of a role's module, without prefix and layer.
    fn module(&self, role: Role) -> Option<&'static str> {
        [self.input, self.layer, self.output]
            .into_iter()
            .flatten()
            .find(|(found, _)| *found == role)
            .map(|(_, name)| *name)
    }

    /// Return whether the family has a module of this role.
    pub(super) fn has(&self, role: Role) -> bool {
        self.module(role).is_some()
    }

    /// Return the full name of a role's module, with `prefix` before all but the head's.
    pub(super) fn path(&self, prefix: &str, role: Role, layer: usize) -> Option<String> {
        let name = self.module(role)?;
        Some(if role.is_head() {
            name.to_string()
        } else if self.layer.iter().any(|(found, _)| *found == role) {
            format!("{prefix}{}.{layer}.{name}", self.layers)
        } else {
            format!("{prefix}{name}")
        })
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
        use Role::{AttentionNorm, EmbeddingNorm, FeedForwardNorm, FinalNorm, HeadNorm};
        matches!(
            self,
            AttentionNorm | EmbeddingNorm | FeedForwardNorm | FinalNorm | HeadNorm
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
        let (d, queries) = (self.width, self.heads * self.head_width);
        match role {
            Role::TokenEmbedding | Role::Head | Role::HeadBias => (self.vocabulary, d),
            Role::PositionEmbedding => (self.context, d),
            Role::TypeEmbedding => (self.types, d),
            Role::Query => (queries, d),
            Role::Key | Role::Value => (self.kv_width(), d),
            Role::QueryKeyValue => (queries + 2 * self.kv_width(), d),
            Role::AttentionOutput => (d, queries),
            Role::Gate | Role::Up => (self.feed_forward, d),
            Role::Down => (d, self.feed_forward),
            Role::HeadTransform => (d, d),
            Role::EmbeddingNorm
            | Role::AttentionNorm
            | Role::FeedForwardNorm
            | Role::FinalNorm
            | Role::HeadNorm => (d, d),
        }
    }
}
