//! What a model is: the numbers of a `config.json`, read for each architecture into one form.

use serde_json::{Map, Value};

use crate::kernel::norm::NormKind;
use crate::transformer::rotary::Rope;
use crate::{Error, ErrorKind, Result};

/// The families that are built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and its kin (Mistral, Qwen2): rotary positions, RMS norms, gated feed-forward layers.
    Llama,
    /// GPT-2: learned positions, layer norms, fused projections.
    Gpt2,
    /// BERT with its masked-language-model head: sees both sides.
    Bert,
    /// A recurrent net of LSTM layers: a rival whose state does not grow.
    Lstm,
}

/// What stands between the two matrices of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x σ(x).
    Silu,
    /// x Φ(x), exact.
    Gelu,
    /// Its approximation by tanh, as GPT-2 has it.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// The shape of a model, whatever its architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The family.
    pub architecture: Architecture,
    /// Tokens, `V`.
    pub vocabulary: usize,
    /// Components of the hidden stream, `D`.
    pub width: usize,
    /// Layers, `L`.
    pub layers: usize,
    /// Query heads, `H`.
    pub heads: usize,
    /// Key and value heads; fewer than `heads` are shared by groups of queries.
    pub kv_heads: usize,
    /// Components of one head.
    pub head_width: usize,
    /// Components within a feed-forward layer.
    pub feed_forward: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// How rows are normalised.
    pub norm: NormKind,
    /// ε of the norms.
    pub norm_epsilon: f32,
    /// Within feed-forward layers.
    pub activation: Activation,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// Rotary positions, where the architecture has them.
    pub rope: Option<Rope>,
    /// How far back a position sees; 0 for no limit.
    pub window: usize,
    /// Whether scores are divided by √head width.
    pub scaled: bool,
    /// Whether scores of layer l are divided by l + 1 besides.
    pub scaled_by_layer: bool,
    /// Token types (BERT).
    pub types: usize,
    /// The id that begins a text.
    pub begin: Option<u32>,
    /// The ids that end one.
    pub ends: Vec<u32>,
    /// The id of a masked token.
    pub mask: Option<u32>,
    /// The `config.json` as it was read.
    pub json: Value,
}

/// A JSON object whose mistakes are named.
struct Reader<'a>(&'a Map<String, Value>);

impl Reader<'_> {
    fn fault(key: &str, what: &str) -> Error {
        Error::new(ErrorKind::Format, format!("{key}: {what}"))
    }

    fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.present(key)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|number| usize::try_from(number).ok())
                    .filter(|&number| number < 1 << 31)
                    .ok_or_else(|| Self::fault(key, "is not a count below 2^31"))
            })
            .transpose()
    }

    fn need(&self, key: &str) -> Result<usize> {
        match self.count(key)? {
            Some(0) => Err(Self::fault(key, "is zero")),
            Some(number) => Ok(number),
            None => Err(Self::fault(key, "is missing")),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.present(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| Self::fault(key, "is not a number")),
        }
    }

    fn truth(&self, key: &str, default: bool) -> Result<bool> {
        match self.present(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| Self::fault(key, "is not true or false")),
        }
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        Ok(self.count(key)?.map(|id| id as u32))
    }

    /// An id, or a list of them.
    fn ids(&self, key: &str) -> Result<Vec<u32>> {
        match self.present(key) {
            Some(Value::Array(list)) => list
                .iter()
                .map(|value| {
                    value
                        .as_u64()
                        .and_then(|id| u32::try_from(id).ok())
                        .ok_or_else(|| Self::fault(key, "is not a list of ids"))
                })
                .collect(),
            _ => Ok(self.id(key)?.into_iter().collect()),
        }
    }

    fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        match self.present(key).map_or(Some(default), Value::as_str) {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            Some("relu") => Ok(Activation::Relu),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{key}: the activation {other:?} is not built here"),
            )
            .advice("silu, gelu, gelu_new and relu are")),
        }
    }
}

impl Configuration {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming the key; [`ErrorKind::Unsupported`] naming the architecture or feature.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let json: Value = serde_json::from_slice(text)
            .map_err(|error| Error::new(ErrorKind::Format, format!("not JSON: {error}")))?;
        Self::from_json(json)
    }

    /// Reads a configuration that is JSON already.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_json(json: Value) -> Result<Self> {
        let Value::Object(map) = &json else {
            return Err(Error::new(ErrorKind::Format, "is not a JSON object"));
        };
        let reader = Reader(map);
        let named = reader
            .present("architectures")
            .and_then(|list| list.get(0))
            .and_then(Value::as_str);
        let kind = reader.present("model_type").and_then(Value::as_str);
        let mut configuration = match (kind, named) {
            (Some("llama" | "mistral" | "qwen2"), _) => Self::llama(&reader, kind)?,
            (Some("gpt2"), _) => Self::gpt2(&reader)?,
            (Some("bert"), _) => Self::bert(&reader)?,
            (Some("lstm"), _) => Self::lstm(&reader)?,
            (None, Some("LlamaForCausalLM")) => Self::llama(&reader, Some("llama"))?,
            (None, Some("GPT2LMHeadModel")) => Self::gpt2(&reader)?,
            (None, Some("BertForMaskedLM")) => Self::bert(&reader)?,
            (kind, named) => {
                let name = kind.or(named).unwrap_or("none named");
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("the architecture {name:?} is not built here"),
                )
                .advice("llama, mistral, qwen2, gpt2, bert and lstm are"));
            }
        };
        if configuration.heads % configuration.kv_heads != 0 {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{} query heads cannot share {} key heads",
                    configuration.heads, configuration.kv_heads
                ),
            ));
        }
        configuration.begin = reader.id("bos_token_id")?;
        configuration.ends = reader.ids("eos_token_id")?;
        configuration.mask = reader.id("mask_token_id")?;
        configuration.json = json;
        Ok(configuration)
    }

    fn empty(architecture: Architecture, reader: &Reader<'_>) -> Result<Self> {
        Ok(Self {
            architecture,
            vocabulary: reader.need("vocab_size")?,
            width: 0,
            layers: 0,
            heads: 1,
            kv_heads: 1,
            head_width: 0,
            feed_forward: 0,
            context: 0,
            norm: NormKind::Layer,
            norm_epsilon: 1e-5,
            activation: Activation::Gelu,
            tied: true,
            rope: None,
            window: 0,
            scaled: true,
            scaled_by_layer: false,
            types: 0,
            begin: None,
            ends: Vec::new(),
            mask: None,
            json: Value::Null,
        })
    }

    fn llama(reader: &Reader<'_>, kind: Option<&str>) -> Result<Self> {
        let (width, heads) = (
            reader.need("hidden_size")?,
            reader.need("num_attention_heads")?,
        );
        let head_width = match reader.count("head_dim")? {
            Some(width) if width > 0 => width,
            _ => divided(width, heads)?,
        };
        let context = reader.count("max_position_embeddings")?.unwrap_or(2048);
        let window = match kind {
            Some("mistral") => reader.count("sliding_window")?.unwrap_or(0),
            Some("qwen2") if reader.truth("use_sliding_window", false)? => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "use_sliding_window: windows on some layers only are not built here",
                ));
            }
            _ => 0,
        };
        Ok(Self {
            width,
            heads,
            head_width,
            context,
            window,
            kv_heads: reader.count("num_key_value_heads")?.unwrap_or(heads).max(1),
            layers: reader.need("num_hidden_layers")?,
            feed_forward: reader.need("intermediate_size")?,
            norm: NormKind::Rms,
            norm_epsilon: reader.number("rms_norm_eps", 1e-6)? as f32,
            activation: reader.activation("hidden_act", "silu")?,
            tied: reader.truth("tie_word_embeddings", false)?,
            rope: Some(Rope::read(reader.0, head_width, context)?),
            ..Self::empty(Architecture::Llama, reader)?
        })
    }

    fn gpt2(reader: &Reader<'_>) -> Result<Self> {
        let (width, heads) = (reader.need("n_embd")?, reader.need("n_head")?);
        Ok(Self {
            width,
            heads,
            kv_heads: heads,
            head_width: divided(width, heads)?,
            layers: reader.need("n_layer")?,
            feed_forward: reader.count("n_inner")?.unwrap_or(4 * width),
            context: match reader.count("n_positions")? {
                Some(context) => context,
                None => reader.need("n_ctx")?,
            },
            norm_epsilon: reader.number("layer_norm_epsilon", 1e-5)? as f32,
            activation: reader.activation("activation_function", "gelu_new")?,
            tied: reader.truth("tie_word_embeddings", true)?,
            scaled: reader.truth("scale_attn_weights", true)?,
            scaled_by_layer: reader.truth("scale_attn_by_inverse_layer_idx", false)?,
            ..Self::empty(Architecture::Gpt2, reader)?
        })
    }

    fn bert(reader: &Reader<'_>) -> Result<Self> {
        if let Some(kind) = reader.present("position_embedding_type")
            && kind != "absolute"
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("position_embedding_type: {kind} is not built here"),
            ));
        }
        if reader.truth("is_decoder", false)? {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "is_decoder: BERT is built as an encoder here",
            ));
        }
        let (width, heads) = (
            reader.need("hidden_size")?,
            reader.need("num_attention_heads")?,
        );
        Ok(Self {
            width,
            heads,
            kv_heads: heads,
            head_width: divided(width, heads)?,
            layers: reader.need("num_hidden_layers")?,
            feed_forward: reader.need("intermediate_size")?,
            context: reader.need("max_position_embeddings")?,
            norm_epsilon: reader.number("layer_norm_eps", 1e-12)? as f32,
            activation: reader.activation("hidden_act", "gelu")?,
            tied: reader.truth("tie_word_embeddings", true)?,
            types: reader.count("type_vocab_size")?.unwrap_or(2),
            ..Self::empty(Architecture::Bert, reader)?
        })
    }

    fn lstm(reader: &Reader<'_>) -> Result<Self> {
        let width = reader.need("hidden_size")?;
        Ok(Self {
            width,
            head_width: width,
            layers: reader.need("num_hidden_layers")?,
            context: reader.count("max_position_embeddings")?.unwrap_or(0),
            tied: reader.truth("tie_word_embeddings", true)?,
            ..Self::empty(Architecture::Lstm, reader)?
        })
    }

    /// Components of all key heads together, or of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// What scores of a layer are multiplied by.
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

    /// Whether a position sees only itself and those before it.
    pub fn causal(&self) -> bool {
        self.architecture != Architecture::Bert
    }

    /// Positions beyond which the model has none; `None` where positions are rotated or there are none.
    pub fn hard_context(&self) -> Option<usize> {
        matches!(self.architecture, Architecture::Gpt2 | Architecture::Bert).then_some(self.context)
    }
}

fn divided(width: usize, heads: usize) -> Result<usize> {
    match width % heads {
        0 => Ok(width / heads),
        _ => Err(Error::new(
            ErrorKind::Format,
            format!("a width of {width} cannot be divided among {heads} heads"),
        )),
    }
}
