//! The model in a GGUF file: its configuration, weights and tokenizer as a folder in Hugging Face's layout has them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::kernel::bytes::Bytes;
use crate::text::{GgufVocabulary, Tokenizer};
use crate::transformer::families::all;
use crate::transformer::family::{Family, Role};
use crate::transformer::gguf::{self, Gguf};
use crate::transformer::weights::{StoredTensor, Weights};
use crate::transformer::{ChatTemplate, Configuration};
use crate::{Error, ErrorKind, Result};

/// A file and what it says about its model.
pub(super) struct GgufModel {
    pub(super) configuration: Configuration,
    pub(super) weights: Weights,
    pub(super) tokenizer: Tokenizer,
    pub(super) chat_template: Option<ChatTemplate>,
    /// The name that the file states.
    pub(super) name: Option<String>,
    /// Tensors that the model does not use.
    pub(super) left_out: Vec<String>,
}

/// Names of modules in GGUF files; `{}` is the layer.
const MODULES: [(Role, &str); 23] = [
    (Role::TokenEmbedding, "token_embd"),
    (Role::PositionEmbedding, "position_embd"),
    (Role::TypeEmbedding, "token_types"),
    (Role::EmbeddingNorm, "token_embd_norm"),
    (Role::AttentionNorm, "blk.{}.attn_norm"),
    (Role::Query, "blk.{}.attn_q"),
    (Role::Key, "blk.{}.attn_k"),
    (Role::Value, "blk.{}.attn_v"),
    (Role::QueryKeyValue, "blk.{}.attn_qkv"),
    (Role::QueryNorm, "blk.{}.attn_q_norm"),
    (Role::KeyNorm, "blk.{}.attn_k_norm"),
    (Role::AttentionOutput, "blk.{}.attn_output"),
    (Role::AttentionPostNorm, "blk.{}.post_attention_norm"),
    (Role::FeedForwardNorm, "blk.{}.ffn_norm"),
    (Role::Gate, "blk.{}.ffn_gate"),
    (Role::Up, "blk.{}.ffn_up"),
    (Role::Down, "blk.{}.ffn_down"),
    (Role::FeedForwardPostNorm, "blk.{}.post_ffw_norm"),
    (Role::FinalNorm, "output_norm"),
    (Role::HeadTransform, "cls"),
    (Role::HeadNorm, "cls_norm"),
    (Role::HeadBias, "output"),
    (Role::Head, "output"),
];

/// Tensors that say how positions rotate.
const FREQUENCIES: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
];

/// Return the name of a role's module in GGUF files.
pub(super) fn module(family: &Family, role: Role, layer: usize) -> Option<String> {
    // BERT's norms follow the sums.
    let name = match role {
        Role::AttentionNorm if family.post_norm => "blk.{}.attn_output_norm",
        Role::FeedForwardNorm if family.post_norm => "blk.{}.layer_output_norm",
        role => MODULES.iter().find(|(found, _)| *found == role)?.1,
    };
    Some(name.replace("{}", &layer.to_string()))
}

/// List the modules of a model: those outside of layers, then those of each layer.
pub(super) fn modules(shape: &Configuration) -> impl Iterator<Item = (Role, usize)> {
    let family = shape.family();
    let outside = family.input.iter().chain(family.output);
    let outside = outside.map(|(role, _)| (*role, 0));
    let layers = 0..shape.layers;
    outside.chain(layers.flat_map(|layer| family.layer.iter().map(move |(role, _)| (*role, layer))))
}

/// Return whether a file begins as GGUF files do.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let mut first = [0; 4];
    let read = |mut file: std::fs::File| std::io::Read::read_exact(&mut file, &mut first);
    path.is_file() && std::fs::File::open(path).and_then(read).is_ok() && first == *gguf::MAGIC
}

/// Map a file.
///
/// # Errors
/// [`ErrorKind::Io`].
pub(super) fn mapped(path: &Path) -> Result<Bytes> {
    let (file, length) = crate::model::open_file(path)?;
    crate::model::map(&file, length).map_err(Error::io_at(path))
}

impl GgufModel {
    /// Open a file. Weights stay as the file stores them, which is mapped: replace it by renaming, do not write into it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] for a damaged file; [`ErrorKind::Unsupported`] naming an architecture,
    /// a number format or a tokenizer.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let in_file = |error: Error| error.at(path.display());
        Self::read(&mapped(path)?).map_err(in_file)
    }

    /// Read the bytes of a file, which the weights share.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn read(bytes: &Bytes) -> Result<Self> {
        let file = Gguf::parse(bytes)?;
        let family = family(&file)?;
        let configuration = Configuration::from_json(settings(&file, family)?)?;
        let (weights, left_out) = weights(&file, &configuration)?;
        let vocabulary = vocabulary(&file)?;
        let chat_template = file.text("tokenizer.chat_template")?.map(|source| {
            let named = vocabulary.special.iter();
            let tokens = named.filter_map(|(key, id)| {
                let token = vocabulary.tokens.get(*id as usize)?;
                Some((key.to_string(), token.clone().into()))
            });
            ChatTemplate::new(source, tokens.collect())
        });
        let name = file.text("general.name")?.unwrap_or_default().trim();
        Ok(Self {
            left_out,
            name: (!name.is_empty()).then(|| name.to_string()),
            chat_template,
            tokenizer: Tokenizer::of_gguf(&vocabulary, configuration.vocabulary)?,
            weights,
            configuration,
        })
    }
}

/// Find the family of a file's architecture.
pub(super) fn family(file: &Gguf<'_>) -> Result<&'static Family> {
    let name = file.text("general.architecture")?.unwrap_or("(none)");
    let found = all().find(|family| family.gguf == name);
    found.filter(|_| !name.is_empty()).ok_or_else(|| {
        let what = format!("general.architecture: {name:?} is not supported");
        Error::new(ErrorKind::Unsupported, what)
            .advice(format!("supported: {}", architectures().join(", ")))
    })
}

/// List the architectures of GGUF files that are supported.
pub(super) fn architectures() -> Vec<&'static str> {
    let names = all().map(|family| family.gguf);
    names.filter(|name| !name.is_empty()).collect()
}

/// Write the metadata as a `config.json`.
pub(super) fn settings(file: &Gguf<'_>, family: &Family) -> Result<Value> {
    let key = |name: &str| format!("{}.{name}", family.gguf);
    let keys = &family.keys;
    let mut json = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            json.insert(name.into(), value);
        }
    };
    set("model_type", family.model_types[0].into());
    let counts = [
        (Some(keys.width), "embedding_length"),
        (Some(keys.layers), "block_count"),
        (keys.heads, "attention.head_count"),
        (
            keys.feed_forward.map(|(name, _)| name),
            "feed_forward_length",
        ),
        (Some(keys.context.0[0]), "context_length"),
        (Some("num_key_value_heads"), "attention.head_count_kv"),
        (Some("head_dim"), "attention.key_length"),
        (Some("sliding_window"), "attention.sliding_window"),
    ];
    for (name, of) in counts {
        if let Some(name) = name {
            set(name, json!(file.integer(&key(of))?));
        }
    }
    for of in [
        "attention.layer_norm_rms_epsilon",
        "attention.layer_norm_epsilon",
    ] {
        set(keys.norm_epsilon.0, json!(file.positive(&key(of))?));
    }
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        set(name, json!(file.positive(&key(name))?));
    }
    set("query_pre_attn_scalar", attention_scalar(file, family)?);
    // What layers with windows rotate by; most files have no key for it.
    let local = file.positive(&key("rope.freq_base_swa"))?;
    let usual = (family.gguf == "gemma3").then_some(1e4);
    set("rope_local_base_freq", json!(local.or(usual)));
    set("rope_theta", json!(file.positive(&key("rope.freq_base"))?));
    set("rope_scaling", rope_scaling(file, &key)?);
    set("partial_rotary_factor", json!(rotated_part(file, &key)?));
    let table = |name: &str| file.tensors.get(name)?.shape.first().copied();
    set("vocab_size", json!(table("token_embd.weight")));
    set("type_vocab_size", json!(table("token_types.weight")));
    let tied = table("output.weight").is_none();
    set("tie_word_embeddings", tied.into());
    for (name, of) in [
        ("bos_token_id", "bos"),
        ("eos_token_id", "eos"),
        ("mask_token_id", "mask"),
    ] {
        set(
            name,
            json!(file.integer(&format!("tokenizer.ggml.{of}_token_id"))?),
        );
    }
    // Chat models end a turn with another token than a text.
    let ends: Vec<Value> = ["eos", "eot", "eom"]
        .iter()
        .filter_map(|of| {
            file.integer(&format!("tokenizer.ggml.{of}_token_id"))
                .transpose()
        })
        .map(|id| id.map(Value::from))
        .collect::<Result<_>>()?;
    if ends.len() > 1 {
        set("eos_token_id", ends.into());
    }
    Ok(Value::Object(json))
}

/// Return the number that the scale of Gemma's attention is the root of, for which files have no key: the width of a head, but
/// in its largest models the share of the width that a head has.
fn attention_scalar(file: &Gguf<'_>, family: &Family) -> Result<Value> {
    let largest = match family.gguf {
        "gemma2" => 46,
        "gemma3" => 62,
        _ => return Ok(Value::Null),
    };
    let count = |name: &str| file.integer(&format!("{}.{name}", family.gguf));
    if count("block_count")? == Some(largest) {
        let (width, heads) = (count("embedding_length")?, count("attention.head_count")?);
        let share = width.zip(heads).map(|(width, heads)| width / heads.max(1));
        return Ok(json!(share));
    }
    Ok(json!(count("attention.key_length")?))
}

/// Read the part of a head's components that is rotated; `None` for all of them.
fn rotated_part(file: &Gguf<'_>, key: &impl Fn(&str) -> String) -> Result<Option<f64>> {
    let Some(rotated) = file.integer(&key("rope.dimension_count"))? else {
        return Ok(None);
    };
    let divided = || -> Result<Option<usize>> {
        let width = file.integer(&key("embedding_length"))?;
        let heads = file.integer(&key("attention.head_count"))?;
        Ok(width.zip(heads).map(|(width, heads)| width / heads.max(1)))
    };
    let head = file.integer(&key("attention.key_length"))?;
    let head = head.map_or_else(divided, |head| Ok(Some(head)))?;
    let Some(head) = head.filter(|&head| head != rotated) else {
        return Ok(None);
    };
    if rotated == 0 || rotated > head {
        let what = format!("{rotated} of {head} components of a head cannot be rotated");
        return Err(Error::new(ErrorKind::Format, what).at(key("rope.dimension_count")));
    }
    // The product with the width is rounded down.
    let part = rotated as f64 / head as f64;
    let exact = (head as f64 * part) as usize == rotated;
    Ok(Some(if exact { part } else { part.next_up() }))
}

/// Read the scaling of rotary positions.
fn rope_scaling(file: &Gguf<'_>, key: &impl Fn(&str) -> String) -> Result<Value> {
    let original = file.integer(&key("rope.scaling.original_context_length"))?;
    let factor = file.positive(&key("rope.scaling.factor"))?;
    let attention = file.positive(&key("rope.scaling.attn_factor"))?;
    if let Some(factors) = file.tensors.get("rope_freqs.weight") {
        // Divisors of the frequencies, computed when the file was made (Llama 3.1).
        let factors = factors.values();
        let context = file.integer(&key("context_length"))?;
        return Ok(
            json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors,
            "original_max_position_embeddings": context, "attention_factor": 1.0}),
        );
    }
    let long = |of: &str| file.tensors.get(of).map(StoredTensor::values);
    if let (Some(short), Some(long)) = (
        long("rope_factors_short.weight"),
        long("rope_factors_long.weight"),
    ) {
        return Ok(
            json!({"rope_type": "longrope", "short_factor": short, "long_factor": long,
            "original_max_position_embeddings": original,
            "attention_factor": attention}),
        );
    }
    Ok(match file.text(&key("rope.scaling.type"))? {
        None | Some("none") => Value::Null,
        Some("longrope") => {
            let what =
                "the tensors rope_factors_short.weight and rope_factors_long.weight are missing";
            return Err(Error::new(ErrorKind::Format, what).at(key("rope.scaling.type")));
        }
        Some("yarn") => {
            let number = |name: &str| file.positive(&key(&format!("rope.scaling.{name}")));
            // Programs multiply this factor by the temperature of the scaling.
            let temperature = factor.map_or(1.0, yarn_temperature);
            let mut json = json!({"rope_type": "yarn", "factor": factor,
                "original_max_position_embeddings": original,
                "attention_factor": attention.map(|attention| attention * temperature),
                "beta_fast": number("yarn_beta_fast")?, "beta_slow": number("yarn_beta_slow")?});
            if let Value::Object(json) = &mut json {
                json.retain(|_, value| !value.is_null());
            }
            json
        }
        Some(kind) => json!({"rope_type": kind, "factor": factor,
            "original_max_position_embeddings": original}),
    })
}

/// Return the factor of queries and keys that a scaling by YaRN has by itself: 0.1 ln s + 1.
pub(super) fn yarn_temperature(factor: f64) -> f64 {
    if factor > 1.0 {
        0.1 * factor.ln() + 1.0
    } else {
        1.0
    }
}

/// Give the tensors the names of a folder's weights. Also returns the names of those that the model does not use.
fn weights(file: &Gguf<'_>, shape: &Configuration) -> Result<(Weights, Vec<String>)> {
    let family = shape.family();
    let names = file.tensors.keys().map(|name| name.to_string());
    let mut left_out: BTreeSet<String> = names.chain(file.unread.keys().cloned()).collect();
    left_out.retain(|name| !FREQUENCIES.contains(&name.as_str()));
    let mut stored = BTreeMap::new();
    let mut unread = BTreeMap::new();
    for (role, layer) in modules(shape) {
        let (Some(from), Some(to)) = (
            module(family, role, layer),
            family.path(family.prefix, role, layer),
        ) else {
            continue;
        };
        for kind in ["weight", "bias"] {
            let from = format!("{from}.{kind}");
            left_out.remove(&from);
            if let Some(format) = file.unread.get(&from) {
                unread.insert(format!("{to}.{kind}"), format.clone());
            }
            if let Some(tensor) = file.tensors.get(from.as_str()) {
                let tensor = original(tensor, role, shape).map_err(|error| error.at(from))?;
                stored.insert(format!("{to}.{kind}"), tensor);
            }
        }
    }
    let weights = Weights::of_stored(stored).with_unread(unread);
    Ok((weights, left_out.into_iter().collect()))
}

/// How a tensor of a GGUF file differs from that of a folder.
pub(super) enum Difference {
    None,
    /// The row of the file that each row of the folder is.
    Rows(Vec<usize>),
    /// The folder stores the matrix `[in, out]`.
    Transposed,
    /// The numbers of the file are larger by this.
    Added(f32),
}

/// Return how a tensor of a shape differs between files and folders.
pub(super) fn difference(role: Role, shape: &Configuration, tensor: &[usize]) -> Difference {
    if shape.family().transposed && tensor.len() == 2 && !role.is_embedding() {
        return Difference::Transposed;
    }
    let offset = shape.family().gain_offset;
    if role.is_norm() && offset != 0.0 {
        return Difference::Added(offset);
    }
    let heads = match role {
        Role::Query => shape.heads,
        Role::Key => shape.kv_heads,
        _ => 0,
    };
    let width = shape.head_width;
    let fits = tensor.first() == Some(&(heads * width)) && width % 2 == 0;
    if shape.family().gguf != "llama" || heads == 0 || !fits {
        return Difference::None;
    }
    // Component pairs (i, i + r/2) of the r rotated ones of a head are neighbours in the file: rows 2i and 2i + 1.
    let rotated = shape.rope.as_ref().map_or(width, |rope| rope.base().1);
    let half = rotated / 2;
    let row = |row: usize| {
        let (head, i) = (row / width, row % width);
        head * width
            + if i < half {
                2 * i
            } else if i < rotated {
                2 * (i - half) + 1
            } else {
                i
            }
    };
    Difference::Rows((0..heads * width).map(row).collect())
}

/// Undo what the conversion to GGUF changes of a tensor.
fn original(tensor: &StoredTensor, role: Role, shape: &Configuration) -> Result<StoredTensor> {
    match difference(role, shape, &tensor.shape) {
        Difference::None => Ok(tensor.clone()),
        Difference::Rows(order) => tensor.reordered(&order),
        Difference::Transposed => tensor.transposed(),
        Difference::Added(offset) => tensor.added(-offset),
    }
}

/// Read the vocabulary.
fn vocabulary(file: &Gguf<'_>) -> Result<GgufVocabulary> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let integers = |name: &str| -> Result<Vec<i64>> {
        let list = file.numbers(&key(name))?;
        Ok(list.into_iter().map(|value| value as i64).collect())
    };
    let text = |name: &str| -> Result<String> {
        Ok(file.text(&key(name))?.unwrap_or_default().to_string())
    };
    let mut vocabulary = GgufVocabulary {
        model: text("model")?,
        pre: text("pre")?,
        tokens: file.texts(&key("tokens"))?,
        scores: file.numbers(&key("scores"))?,
        types: integers("token_type")?,
        merges: file.texts(&key("merges"))?,
        characters: file.bytes(&key("precompiled_charsmap"))?,
        space_before: file.flag(&key("add_space_prefix"))?,
        huggingface: file.text("tokenizer.huggingface.json")?.map(str::to_string),
        ..GgufVocabulary::default()
    };
    for (name, of) in SPECIAL {
        if let Some(id) = file.integer(&key(&format!("{of}_token_id")))? {
            vocabulary
                .special
                .push((name, u32::try_from(id).unwrap_or(u32::MAX)));
        }
    }
    for name in ["add_bos_token", "add_eos_token"] {
        if let Some(flag) = file.flag(&key(name))? {
            vocabulary.flags.push((name, flag));
        }
    }
    Ok(vocabulary)
}

/// Special tokens by Hugging Face's keys, and their names in GGUF files.
pub(super) const SPECIAL: [(&str, &str); 7] = [
    ("bos_token", "bos"),
    ("eos_token", "eos"),
    ("unk_token", "unknown"),
    ("sep_token", "seperator"),
    ("pad_token", "padding"),
    ("cls_token", "cls"),
    ("mask_token", "mask"),
];
