//! The `kind` key and the `[network]` section of a run file: the shape of a gpt, bert or lstm.

use serde::{Deserialize, Serialize};

use crate::learn::recipe::Train;
use crate::{Error, ErrorKind, Result};

/// Kind of model that a recipe trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A token graph.
    #[default]
    Graph,
    /// A causal transformer.
    Gpt,
    /// A bidirectional transformer that predicts masked tokens.
    Bert,
    /// A recurrent network of LSTM layers.
    Lstm,
}

impl Kind {
    pub(super) fn is_graph(&self) -> bool {
        *self == Self::Graph
    }
}

/// Architecture of a gpt's layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Rotary positions, RMS norms, gated feed-forward layers.
    #[default]
    Llama,
    /// Learned positions, layer norms, GELU.
    Gpt2,
}

/// How a bert's masked tokens are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskDraw {
    /// Exactly `mask-fraction` of the tokens, without replacement, in proportion to their weights.
    #[default]
    Quota,
    /// One pass in random order; a weight is the probability that a word is masked.
    SinglePass,
}

/// Shape of a gpt, bert or lstm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkRecipe {
    /// Architecture of a gpt's layers.
    pub style: Style,
    /// Width of the residual stream, `D`.
    pub width: usize,
    /// Layers, `L`.
    pub layers: usize,
    /// Query heads, `H`.
    pub heads: usize,
    /// Key-value heads of a llama; as many as query heads by default.
    pub kv_heads: Option<usize>,
    /// Width of a feed-forward layer; the style's own by default.
    pub feed_forward: Option<usize>,
    /// Longest sequence; `train.steps` by default.
    pub context: Option<usize>,
    /// Whether the output matrix is the embedding matrix.
    pub tied: bool,
    /// Base θ of the rotary embedding.
    pub rope_theta: f64,
    /// Fraction of tokens that are masked for a bert.
    #[serde(alias = "mask-share")]
    pub mask_fraction: f64,
    /// How a bert's masked tokens are drawn.
    pub mask_draw: MaskDraw,
    /// Whether a bert's words are masked whole.
    pub mask_words: bool,
    /// Token tags for techniques of `mask/1`: `deciles` of frequency, or a file with one line per token id, a number
    /// or `-` for none.
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
            mask_fraction: 0.15,
            mask_draw: MaskDraw::Quota,
            mask_words: false,
            mask_tags: None,
            half: false,
        }
    }
}

impl NetworkRecipe {
    /// Check the shape against the kind of model and its training.
    pub(super) fn check(&self, kind: Kind, train: &Train) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::Configuration, what).at("[network]"));
        let network = self;
        let sizes = [network.width, network.layers, network.heads];
        if sizes.contains(&0) || network.width > 1 << 14 || network.layers > 256 {
            return invalid("width must be 1 to 16384, layers 1 to 256, and heads at least 1");
        }
        if network.width % network.heads != 0 || network.width / network.heads % 2 != 0 {
            return invalid("heads must divide width into an even number of components per head");
        }
        if let Some(kv) = network.kv_heads
            && (kv == 0
                || network.heads % kv != 0
                || kind != Kind::Gpt
                || network.style != Style::Llama)
        {
            return invalid("kv-heads must divide heads, and needs a gpt of style llama");
        }
        if network.context.is_some_and(|context| context < train.steps) {
            return invalid("context is shorter than train.steps");
        }
        if network.feed_forward == Some(0) || network.feed_forward > Some(1 << 17) {
            return invalid("feed-forward must be 1 to 131072");
        }
        if !(network.mask_fraction > 0.0 && network.mask_fraction < 1.0) {
            return invalid("mask-fraction must be 0 to 1");
        }
        if !(network.rope_theta > 1.0 && network.rope_theta.is_finite()) {
            return invalid("rope-theta must be above 1");
        }
        if train.negatives > 0 || train.charges || train.recall > 0 {
            return invalid("sampled negatives, charges and recall need a graph");
        }
        Ok(())
    }
}
