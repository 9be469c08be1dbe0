//! Sizes and options of a model, read from `config.json` into one form for all families.

use std::sync::Arc;

use serde_json::Value;

use crate::kernel::norm::NormKind;
use crate::transformer::families::all;
use crate::transformer::family::{Family, Role};
use crate::transformer::quantization;
use crate::transformer::rotary::{Rope, RotaryTable};
use crate::transformer::settings::Settings;
use crate::{Error, ErrorKind, Result};

/// Supported model families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama, Mistral and Qwen2: rotary positions, RMS norms, gated feed-forward layers.
    Llama,
    /// GPT-2: learned positions, layer norms, fused projections.
    Gpt2,
    /// BERT with its masked-language-model head: attention in both directions.
    Bert,
    /// Any other model of text from left to right.
    Decoder,
    /// Any other model of text in both directions.
    Encoder,
    /// A recurrent network of LSTM layers, a baseline whose state has a constant size.
    Lstm,
}

/// Activation function of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x σ(x).
    Silu,
    /// x Φ(x), exact.
    Gelu,
    /// Approximation of GELU by tanh, as in GPT-2.
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    ReluSquared,
}

/// Experts of a feed-forward layer, of which each token uses a few (Shazeer et al. 2017).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Experts {
    /// Number of experts.
    pub count: usize,
    /// Experts that a token uses.
    pub used: usize,
    /// Inner width of an expert.
    pub width: usize,
    /// Whether the weights of the used experts are divided by their sum.
    pub normalised: bool,
    /// Inner width of the expert of every token; 0 without one.
    pub shared: usize,
}

/// How a layer rotates queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerRotation {
    /// By the rope of the configuration.
    Global,
    /// By [`Configuration::local_rope`].
    Local,
    /// Not at all.
    None,
}

/// Sizes and options of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Model family.
    pub architecture: Architecture,
    pub(super) family: &'static Family,
    /// Vocabulary size, `V`.
    pub vocabulary: usize,
    /// Width of the residual stream, `D`.
    pub width: usize,
    /// Layers, `L`.
    pub layers: usize,
    /// Query heads, `H`.
    pub heads: usize,
    /// Key and value heads, `Hkv`; each serves `H / Hkv` query heads (grouped-query attention).
    pub kv_heads: usize,
    /// Components of one head, `d`.
    pub head_width: usize,
    /// Inner width of a feed-forward layer.
    pub feed_forward: usize,
    /// Positions the model was trained for; 0 for a recurrent network.
    pub context: usize,
    /// Kind of the norms.
    pub norm: NormKind,
    /// ε of the norms.
    pub norm_epsilon: f32,
    /// Activation of the feed-forward layers.
    pub activation: Activation,
    /// Whether the output matrix is the token embedding.
    pub tied: bool,
    /// Rotary positions, where the family has them.
    pub rope: Option<Rope>,
    /// Rotary positions of layers with [`LayerRotation::Local`].
    pub local_rope: Option<Rope>,
    /// How each layer rotates; empty for all by `rope`. `[L]`
    pub rotations: Vec<LayerRotation>,
    /// Positions that a position attends to in each layer, itself included, 0 for no limit; empty for none in all. `[L]`
    pub windows: Vec<usize>,
    /// Attention and feed-forward layer read the same stream.
    pub parallel: bool,
    /// Width of embeddings, `D` in all families but ELECTRA.
    pub embedding_width: usize,
    /// Rows of the position embedding before that of position 0.
    pub position_offset: usize,
    /// Factors of embeddings, of what a sublayer adds to the stream, and of logits.
    pub embedding_scale: f32,
    #[allow(missing_docs, reason = "described with the field above")]
    pub residual_scale: f32,
    #[allow(missing_docs, reason = "described with the field above")]
    pub logit_scale: f32,
    /// Factor of attention logits in the place of 1/√d.
    pub attention_scale: Option<f32>,
    /// Bounds c of attention logits and of logits, `c tanh(x / c)`; 0 for none.
    pub attention_cap: f32,
    #[allow(missing_docs, reason = "described with the field above")]
    pub logit_cap: f32,
    /// Experts of the feed-forward layers, but for those of `dense_layers`.
    pub experts: Option<Experts>,
    #[allow(missing_docs, reason = "described with the field above")]
    pub dense_layers: Vec<usize>,
    /// Whether `sliding_window` alone gives all layers a window.
    pub(super) windowed: bool,
    /// Whether attention logits are divided by √d.
    pub scaled: bool,
    /// Whether attention logits of layer l are also divided by l + 1.
    pub scaled_by_layer: bool,
    /// Token types (BERT).
    pub types: usize,
    /// Id that begins a text.
    pub begin: Option<u32>,
    /// Ids that end a text.
    pub stop_tokens: Vec<u32>,
    /// Id of a masked token.
    pub mask: Option<u32>,
    /// The `config.json` these values were read from.
    pub json: Value,
}

impl Configuration {
    /// Parse a `config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming the key; [`ErrorKind::Unsupported`] naming the architecture or feature.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let json: Value = serde_json::from_slice(text)
            .map_err(|error| Error::new(ErrorKind::Format, format!("invalid JSON: {error}")))?;
        Self::from_json(json)
    }

    /// Read a configuration from parsed JSON.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_json(json: Value) -> Result<Self> {
        let Value::Object(map) = &json else {
            return Err(Error::new(ErrorKind::Format, "expected a JSON object"));
        };
        let settings = Settings(map);
        let model_type = settings.present("model_type").and_then(Value::as_str);
        let class = settings
            .present("architectures")
            .and_then(|list| list.get(0)?.as_str());
        let family = Family::find(model_type, class).ok_or_else(|| {
            let name = model_type.or(class).unwrap_or("(none)");
            let supported: Vec<&str> = all().flat_map(|f| f.model_types).copied().collect();
            Error::new(
                ErrorKind::Unsupported,
                format!("unsupported architecture {name:?}"),
            )
            .advice(format!("supported model_type: {}", supported.join(", ")))
        })?;
        quantization::check(&settings)?;
        let mut configuration = Self::read(family, &settings)?;
        // Mistral's positions attend to a sliding window (Jiang et al. 2023); Llama's do not, whatever the file says.
        let windowed = [
            "mistral",
            "mixtral",
            "phi3",
            "starcoder2",
            "gemma2",
            "gemma3_text",
        ];
        configuration.windowed = model_type.is_some_and(|name| windowed.contains(&name));
        (family.details)(&mut configuration, &settings)?;
        if configuration.heads % configuration.kv_heads != 0 {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} query heads cannot share {} key heads",
                    configuration.heads, configuration.kv_heads
                ),
            ));
        }
        configuration.json = json;
        Ok(configuration)
    }

    /// Read the settings that all families have, by the family's keys.
    fn read(family: &'static Family, settings: &Settings<'_>) -> Result<Self> {
        let keys = &family.keys;
        let width = settings.required(keys.width)?;
        let heads = keys.heads.map_or(Ok(1), |key| settings.required(key))?;
        // GPT-2 has two names for the context.
        let (names, default) = keys.context;
        let name = names.iter().find(|name| settings.present(name).is_some());
        let context = match (default, name) {
            (Some(default), _) => settings.count(names[0])?.unwrap_or(default),
            (None, name) => settings.required(name.unwrap_or(&names[0]))?,
        };
        let feed_forward = match keys.feed_forward {
            None => 0,
            Some((key, None)) => settings.required(key)?,
            Some((key, Some(widths))) => settings.count(key)?.unwrap_or(widths * width),
        };
        Ok(Self {
            architecture: family.architecture,
            family,
            vocabulary: settings.required("vocab_size")?,
            width,
            layers: settings.required(keys.layers)?,
            heads,
            kv_heads: heads,
            head_width: width / heads,
            feed_forward,
            context,
            norm: family.norm,
            norm_epsilon: match settings.number(keys.norm_epsilon.0)? {
                Some(_) => settings.positive(keys.norm_epsilon.0)? as f32,
                None => keys.norm_epsilon.1 as f32,
            },
            activation: settings.activation(keys.activation.0, keys.activation.1)?,
            tied: settings.flag("tie_word_embeddings", keys.tied_default)?,
            rope: None,
            local_rope: None,
            rotations: Vec::new(),
            windows: Vec::new(),
            windowed: false,
            parallel: family.parallel,
            embedding_width: width,
            position_offset: 0,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            attention_scale: None,
            attention_cap: 0.0,
            logit_cap: 0.0,
            experts: None,
            dense_layers: Vec::new(),
            scaled: true,
            scaled_by_layer: false,
            types: 0,
            begin: settings.id("bos_token_id")?,
            stop_tokens: settings.ids("eos_token_id")?,
            mask: settings.id("mask_token_id")?,
            json: Value::Null,
        })
    }

    /// Read which layers have a window: those that `layer_types` lists, those from `max_window_layers` on, or all.
    pub(super) fn read_windows(&mut self, settings: &Settings<'_>) -> Result<()> {
        let window = settings.count("sliding_window")?.unwrap_or(0);
        let used = settings.flag("use_sliding_window", self.windowed)?;
        if window == 0 || !used {
            return Ok(());
        }
        let expected = "a list of sliding_attention and full_attention";
        let listed = settings.read("layer_types", expected, |list| {
            let sliding = |kind: &Value| match kind.as_str()? {
                "sliding_attention" => Some(window),
                "full_attention" => Some(0),
                _ => None,
            };
            list.as_array()?
                .iter()
                .map(sliding)
                .collect::<Option<Vec<_>>>()
        })?;
        let first = match settings.present("use_sliding_window") {
            Some(_) => settings.count("max_window_layers")?.unwrap_or(0),
            None => 0,
        };
        let of = |layer| if layer >= first { window } else { 0 };
        self.windows = listed.unwrap_or_else(|| (0..self.layers).map(of).collect());
        if self.windows.len() != self.layers {
            let what = format!(
                "layer_types: {} of {} layers",
                self.windows.len(),
                self.layers
            );
            return Err(Error::new(ErrorKind::Format, what));
        }
        Ok(())
    }

    /// Read the rotary positions of the layers of a kind.
    pub(super) fn rope(&self, settings: &Settings<'_>, kind: &str) -> Result<Rope> {
        let rope = Rope::read(settings.0, kind, self.head_width, self.context)?;
        Ok(rope.with_neighbours(self.family.neighbours))
    }

    /// Check that the heads divide the width.
    pub(super) fn check_heads(&self) -> Result<()> {
        if self.width % self.heads == 0 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Format,
            format!(
                "a width of {} cannot be divided among {} heads",
                self.width, self.heads
            ),
        ))
    }

    /// Return the family's description.
    pub(super) fn family(&self) -> &'static Family {
        self.family
    }

    /// Return the width of all key heads together, or of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Return the factor of a layer's attention logits.
    pub fn scale(&self, layer: usize) -> f32 {
        if let Some(scale) = self.attention_scale {
            return scale;
        }
        let mut scale = 1.0;
        if self.scaled {
            scale /= (self.head_width as f32).sqrt();
        }
        if self.scaled_by_layer {
            scale /= (layer + 1) as f32;
        }
        scale
    }

    /// Return the positions that a position attends to in a layer, itself included; 0 for no limit.
    pub fn window(&self, layer: usize) -> usize {
        self.windows.get(layer).copied().unwrap_or(0)
    }

    /// Return the length of a text as far as its rotations depend on it: texts of equal ones are rotated alike.
    pub(super) fn length_class(&self, length: usize) -> (usize, usize) {
        let class = |rope: &Option<Rope>| rope.as_ref().map_or(0, |rope| rope.length_class(length));
        (class(&self.rope), class(&self.local_rope))
    }

    /// Compute the rotations of each layer for texts of at most `length` tokens; layers share tables.
    pub(super) fn rotary_tables(&self, length: usize) -> Vec<Option<Arc<RotaryTable>>> {
        let table = |rope: &Option<Rope>| rope.as_ref().map(|rope| Arc::new(rope.table(length)));
        let (global, local) = (table(&self.rope), table(&self.local_rope));
        let of = |layer| match self.rotations.get(layer).unwrap_or(&LayerRotation::Global) {
            LayerRotation::Global => global.clone(),
            LayerRotation::Local => local.clone(),
            LayerRotation::None => None,
        };
        (0..self.layers).map(of).collect()
    }

    /// Check that the network can be trained.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a router of experts, whose choices have no gradients.
    pub(super) fn check_trainable(&self) -> Result<()> {
        if self.experts.is_none() {
            return Ok(());
        }
        let kind = self.family().model_types[0];
        let what = format!("{kind} cannot be trained: it chooses experts with a router");
        Err(Error::new(ErrorKind::Unsupported, what).advice("train a model without experts"))
    }

    /// Return whether a position attends only to itself and earlier positions.
    pub fn causal(&self) -> bool {
        self.family().causal
    }

    /// Return the context beyond which a model with rotary positions was not trained, and may give worse text; `None`
    /// where attention is limited to a window or the scaling of the rotations serves longer texts.
    pub fn trained_context(&self) -> Option<usize> {
        let rope = self.rope.as_ref()?;
        let all_windows = !self.windows.is_empty() && !self.windows.contains(&0);
        (!all_windows && self.context > 0 && !rope.extends_context()).then_some(self.context)
    }

    /// Refuse a sequence longer than [`Self::hard_context`].
    ///
    /// # Errors
    /// [`ErrorKind::Input`].
    pub(super) fn check_length(&self, length: usize) -> Result<()> {
        match self.hard_context() {
            Some(context) if length > context => Err(Error::new(
                ErrorKind::Input,
                format!("{length} tokens are more than the context of {context}"),
            )
            .advice("use a shorter prompt or fewer new tokens")),
            _ => Ok(()),
        }
    }

    /// Return the context beyond which there are no position embeddings; `None` for rotary positions and for
    /// recurrent networks.
    pub fn hard_context(&self) -> Option<usize> {
        self.family()
            .has(Role::PositionEmbedding)
            .then_some(self.context)
    }
}

/// Describe a feature of a family that is not supported.
pub(super) fn refuse(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}
