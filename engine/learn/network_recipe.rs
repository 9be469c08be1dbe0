//! What a run file says about a gpt, bert or lstm: its `kind` and its `[network]`.

use serde::{Deserialize, Serialize};

use crate::learn::recipe::Train;
use crate::{Error, ErrorKind, Result};

/// What a recipe trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A token graph.
    #[default]
    Graph,
    /// A transformer that sees what came before.
    Gpt,
    /// A transformer that sees both sides and fills in what is masked.
    Bert,
    /// A recurrent net of LSTM layers.
    Lstm,
}

impl Kind {
    pub(super) fn is_graph(&self) -> bool {
        *self == Self::Graph
    }
}

/// How the layers of a gpt are built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Rotary positions, RMS norms, gated feed-forward layers.
    #[default]
    Llama,
    /// Learned positions, layer norms, GELU.
    Gpt2,
}

/// How the tokens that a bert has to fill in are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskDraw {
    /// Exactly the share, without replacement, in proportion to the weights.
    #[default]
    Quota,
    /// One walk in random order; a weight is the probability that a word is taken.
    SinglePass,
}

/// The shape of a network that is trained from scratch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkRecipe {
    /// How a gpt's layers are built.
    pub style: Style,
    /// Components of the hidden stream, `D`.
    pub width: usize,
    /// Layers, `L`.
    pub layers: usize,
    /// Query heads, `H`.
    pub heads: usize,
    /// Key heads of a llama; as many as query heads without it.
    pub kv_heads: Option<usize>,
    /// Components within a feed-forward layer; by the style without it.
    pub feed_forward: Option<usize>,
    /// Positions; `train.steps` without it.
    pub context: Option<usize>,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// θ of rotary positions.
    pub rope_theta: f64,
    /// The share of tokens that a bert has to fill in.
    pub mask_share: f64,
    /// How a bert's hidden tokens are drawn.
    pub mask_draw: MaskDraw,
    /// Whether a bert's words are hidden whole.
    pub mask_words: bool,
    /// Tags that techniques of `mask/1` are told: `deciles` of frequency, or a file with a line for each token id,
    /// a number or `-` for none.
    pub mask_tags: Option<String>,
    /// Whether the model is saved in half precision.
    pub half: bool,
}

impl Default for NetworkRecipe {
    fn default() -> Self {
        Self {
            style: Style::Llama,
            width: 128,
            layers: 4,
            heads: 4,
            kv_heads: None,
            feed_forward: None,
            context: None,
            tied: true,
            rope_theta: 10_000.0,
            mask_share: 0.15,
            mask_draw: MaskDraw::Quota,
            mask_words: false,
            mask_tags: None,
            half: false,
        }
    }
}

impl NetworkRecipe {
    /// Whether the shape makes sense, for what is trained and how.
    pub(super) fn check(&self, kind: Kind, train: &Train) -> Result<()> {
        let fault = |what: &str| {
            Err(Error::new(ErrorKind::Configuration, what.to_string()).at("[network]"))
        };
        let network = self;
        let sizes = [network.width, network.layers, network.heads];
        if sizes.contains(&0) || network.width > 1 << 14 || network.layers > 256 {
            return fault("width must lie in 1..=16384, layers in 1..=256, heads above 0");
        }
        if network.width % network.heads != 0 || network.width / network.heads % 2 != 0 {
            return fault("heads must divide width into parts of an even size");
        }
        if let Some(kv) = network.kv_heads
            && (kv == 0
                || network.heads % kv != 0
                || kind != Kind::Gpt
                || network.style != Style::Llama)
        {
            return fault("kv-heads must divide heads, and belongs to a gpt of style llama");
        }
        if network.context.is_some_and(|context| context < train.steps) {
            return fault("context is shorter than train.steps");
        }
        if network.feed_forward == Some(0) || network.feed_forward > Some(1 << 17) {
            return fault("feed-forward must lie in 1..=131072");
        }
        if !(network.mask_share > 0.0 && network.mask_share < 1.0) {
            return fault("mask-share must lie between 0 and 1");
        }
        if !(network.rope_theta > 1.0 && network.rope_theta.is_finite()) {
            return fault("rope-theta must be above 1");
        }
        if train.negatives > 0 || train.charges {
            return fault("sampled negatives and charges belong to a graph");
        }
        Ok(())
    }
}
