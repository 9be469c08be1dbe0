//! Sizes and options of a model, read from `config.json` into one form for all families.

use serde_json::Value;

use crate::kernel::norm::NormKind;
use crate::transformer::family::{FAMILIES, Family, Role};
use crate::transformer::quantization;
use crate::transformer::rotary::Rope;
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
}

/// Sizes and options of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Model family.
    pub architecture: Architecture,
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
    /// Positions that a position attends to, itself included; 0 for no limit.
    pub window: usize,
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
            let supported: Vec<_> = FAMILIES.iter().flat_map(|f| f.model_types).collect();
            Error::new(
                ErrorKind::Unsupported,
                format!("unsupported architecture {name:?}"),
            )
            .advice(format!(
                "supported model_type: {}",
                supported
                    .iter()
                    .map(|name| **name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ))
        })?;
        quantization::check(&settings)?;
        let mut configuration = Self::read(family, &settings)?;
        match family.architecture {
            Architecture::Llama => configuration.read_llama(&settings, model_type)?,
            Architecture::Gpt2 => configuration.read_gpt2(&settings)?,
            Architecture::Bert => configuration.read_bert(&settings)?,
            Architecture::Lstm => {}
        }
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
    fn read(family: &Family, settings: &Settings<'_>) -> Result<Self> {
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
            vocabulary: settings.required("vocab_size")?,
            width,
            layers: settings.required(keys.layers)?,
            heads,
            kv_heads: heads,
            head_width: width / heads,
            feed_forward,
            context,
            norm: family.norm,
            norm_epsilon: settings
                .number(keys.norm_epsilon.0)?
                .unwrap_or(keys.norm_epsilon.1) as f32,
            activation: settings.activation(keys.activation.0, keys.activation.1)?,
            tied: settings.flag("tie_word_embeddings", keys.tied_default)?,
            rope: None,
            window: 0,
            scaled: true,
            scaled_by_layer: false,
            types: 0,
            begin: settings.id("bos_token_id")?,
            stop_tokens: settings.ids("eos_token_id")?,
            mask: settings.id("mask_token_id")?,
            json: Value::Null,
        })
    }

    fn read_llama(&mut self, settings: &Settings<'_>, model_type: Option<&str>) -> Result<()> {
        // The width of a head need not be width / heads.
        match settings.count("head_dim")? {
            Some(width) if width > 0 => self.head_width = width,
            _ => self.check_heads()?,
        }
        if let Some(heads) = settings.count("num_key_value_heads")? {
            // Grouped-query attention: fewer key heads than query heads.
            self.kv_heads = heads.max(1);
        }
        match model_type {
            // Mistral's positions attend to a sliding window (Jiang et al. 2023).
            Some("mistral") => self.window = settings.count("sliding_window")?.unwrap_or(0),
            Some("qwen2") if settings.flag("use_sliding_window", false)? => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "use_sliding_window: windows on some layers only are not supported",
                ));
            }
            _ => {}
        }
        self.rope = Some(Rope::read(settings.0, self.head_width, self.context)?);
        Ok(())
    }

    fn read_gpt2(&mut self, settings: &Settings<'_>) -> Result<()> {
        self.check_heads()?;
        self.scaled = settings.flag("scale_attn_weights", true)?;
        self.scaled_by_layer = settings.flag("scale_attn_by_inverse_layer_idx", false)?;
        Ok(())
    }

    fn read_bert(&mut self, settings: &Settings<'_>) -> Result<()> {
        self.check_heads()?;
        if let Some(kind) = settings.present("position_embedding_type")
            && kind != "absolute"
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("position_embedding_type: {kind} is not supported"),
            ));
        }
        if settings.flag("is_decoder", false)? {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "is_decoder: BERT is supported as an encoder only",
            ));
        }
        self.types = settings.count("type_vocab_size")?.unwrap_or(2);
        Ok(())
    }

    /// Check that the heads divide the width.
    fn check_heads(&self) -> Result<()> {
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
        self.architecture.family()
    }

    /// Return the width of all key heads together, or of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Return the factor of a layer's attention logits.
    pub fn scale(&self, layer: usize) -> f32 {
        let mut scale = 1.0;
        if self.scaled {
            scale /= (self.head_width as f32).sqrt();
        }
        if self.scaled_by_layer {
            scale /= (layer + 1) as f32;
        }
        scale
    }

    /// Return whether a position attends only to itself and earlier positions.
    pub fn causal(&self) -> bool {
        self.family().causal
    }

    /// Return the context beyond which a model with rotary positions was not trained, and may give worse text; `None`
    /// where attention is limited to a window or the scaling of the rotations serves longer texts.
    pub fn trained_context(&self) -> Option<usize> {
        let rope = self.rope.as_ref()?;
        (self.window == 0 && self.context > 0 && !rope.extends_context()).then_some(self.context)
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
