//! The metadata of a model as GGUF files have it: the inverse of [`gguf_model`](super::gguf_model).
//!
//! Files have keys for a part of what a configuration can say. What was written is read back and compared, so that a model
//! that a file would turn into another one is refused.

use std::collections::BTreeMap;

use crate::kernel::block_format::Format;
use crate::kernel::bytes::Bytes;
use crate::kernel::norm::NormKind;
use crate::kernel::stored::Stored;
use crate::text::GgufVocabulary;
use crate::transformer::Configuration;
use crate::transformer::gguf::Gguf;
use crate::transformer::gguf_model::{self, SPECIAL};
use crate::transformer::gguf_writer::{Change, Metadata, OutputTensor};
use crate::transformer::rotary::{Rope, RopeScaling};
use crate::transformer::weights::StoredTensor;
use crate::{Error, ErrorKind, Result};

/// Add the sizes and options of a model.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for an architecture that is not read from GGUF files.
pub(super) fn add_settings(metadata: &mut Metadata, shape: &Configuration) -> Result<()> {
    let family = shape.family();
    if family.gguf.is_empty() {
        let kind = family.model_types[0];
        let what = format!("models of type {kind} cannot be written as GGUF");
        let supported = gguf_model::architectures().join(", ");
        return Err(Error::new(ErrorKind::Unsupported, what).advice(format!(
            "architectures of GGUF files: {supported}; convert to a folder instead"
        )));
    }
    metadata.text("general.architecture", family.gguf);
    let key = |name: &str| format!("{}.{name}", family.gguf);
    let counts = [
        ("vocab_size", shape.vocabulary),
        ("context_length", shape.context),
        ("embedding_length", shape.width),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.feed_forward),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
    ];
    for (name, count) in counts {
        metadata.integer(&key(name), count)?;
    }
    let epsilon = match shape.norm {
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
        NormKind::Layer => "attention.layer_norm_epsilon",
    };
    metadata.number(&key(epsilon), shape.norm_epsilon);
    if !shape.causal() {
        metadata.flag(&key("attention.causal"), false);
    }
    let window = shape.windows.iter().copied().max().unwrap_or(0);
    if window > 0 {
        metadata.integer(&key("attention.sliding_window"), window)?;
    }
    for (name, cap) in [
        ("attn_logit_softcapping", shape.attention_cap),
        ("final_logit_softcapping", shape.logit_cap),
    ] {
        if cap > 0.0 {
            metadata.number(&key(name), cap);
        }
    }
    if let Some(rope) = &shape.local_rope {
        metadata.number(&key("rope.freq_base_swa"), rope.base().0 as f32);
    }
    if shape.types > 0 {
        metadata.integer("tokenizer.ggml.token_type_count", shape.types)?;
    }
    let Some(rope) = &shape.rope else {
        return Ok(());
    };
    let (theta, rotated) = rope.base();
    metadata.integer(&key("attention.key_length"), shape.head_width)?;
    metadata.integer(&key("attention.value_length"), shape.head_width)?;
    metadata.integer(&key("rope.dimension_count"), rotated)?;
    metadata.number(&key("rope.freq_base"), theta as f32);
    let scaling = match rope.scaling() {
        RopeScaling::Linear(factor) => ("linear", *factor, None),
        RopeScaling::Yarn {
            factor,
            original,
            length,
            fast,
            slow,
            ..
        } => {
            let own = length / gguf_model::yarn_temperature(*factor);
            for (name, value, default) in [
                ("attn_factor", own, 1.0),
                ("yarn_beta_fast", *fast, 32.0),
                ("yarn_beta_slow", *slow, 1.0),
            ] {
                if (value - default).abs() > 1e-9 {
                    metadata.number(&key(&format!("rope.scaling.{name}")), value as f32);
                }
            }
            ("yarn", *factor, Some(*original as usize))
        }
        // One list of divisors, as a tensor: see `rotary_tensors`.
        RopeScaling::Long { .. } if divisors(shape).len() == 1 => return Ok(()),
        RopeScaling::Long {
            original, length, ..
        } => {
            metadata.text(&key("rope.scaling.type"), "longrope");
            metadata.number(&key("rope.scaling.attn_factor"), *length as f32);
            metadata.integer(&key("rope.scaling.original_context_length"), *original)?;
            return Ok(());
        }
        // The divisors of Llama 3 are a tensor. Files have no key for dynamic scaling.
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Dynamic(_) => return Ok(()),
    };
    let (kind, factor, original) = scaling;
    metadata.text(&key("rope.scaling.type"), kind);
    metadata.number(&key("rope.scaling.factor"), factor as f32);
    if let Some(original) = original {
        metadata.integer(&key("rope.scaling.original_context_length"), original)?;
    }
    Ok(())
}

/// Return the tensors that hold the divisors of rotary frequencies.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for an architecture that has no such tensors.
pub(super) fn rotary_tensors(shape: &Configuration) -> Result<Vec<OutputTensor>> {
    let lists = divisors(shape);
    let architecture = shape.family().gguf;
    if !lists.is_empty() && architecture != "llama" {
        let what = format!(
            "a GGUF file of the architecture {architecture} cannot hold its rotary positions"
        );
        return Err(Error::new(ErrorKind::Unsupported, what).advice("convert to a folder instead"));
    }
    let tensor = |(name, values): (&str, Vec<f32>)| {
        let count = values.len();
        Ok(OutputTensor {
            name: name.into(),
            source: StoredTensor {
                shape: vec![count],
                matrix: Stored::pack(Format::F32, &values, 1, count)?,
            },
            change: Change::None,
            format: Format::F32,
        })
    };
    lists.into_iter().map(tensor).collect()
}

/// Return the divisors of rotary frequencies, by the names of their tensors.
fn divisors(shape: &Configuration) -> Vec<(&'static str, Vec<f32>)> {
    match shape.rope.as_ref().map(|rope| (rope, rope.scaling())) {
        Some((rope, RopeScaling::Llama3 { .. })) => {
            let (theta, rotated) = rope.base();
            let plain = Rope::new(theta, rotated, shape.context).frequencies(1).0;
            let scaled = rope.frequencies(1).0;
            let divisors = plain
                .iter()
                .zip(&scaled)
                .map(|(plain, scaled)| plain / scaled);
            vec![("rope_freqs.weight", divisors.collect())]
        }
        Some((
            _,
            RopeScaling::Long {
                short,
                long,
                length,
                ..
            },
        )) => {
            let list = |list: &[f64]| list.iter().map(|value| *value as f32).collect();
            if short == long && *length == 1.0 {
                vec![("rope_freqs.weight", list(short))]
            } else {
                vec![
                    ("rope_factors_short.weight", list(short)),
                    ("rope_factors_long.weight", list(long)),
                ]
            }
        }
        _ => Vec::new(),
    }
}

/// Add a vocabulary, and the ids that end a text: that of the whole text, then those of a turn.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for more ends than files have keys for.
pub(super) fn add_vocabulary(
    metadata: &mut Metadata,
    vocabulary: &GgufVocabulary,
    ends: &[u32],
) -> Result<()> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    metadata.text(&key("model"), &vocabulary.model);
    if !vocabulary.pre.is_empty() {
        metadata.text(&key("pre"), &vocabulary.pre);
    }
    if !vocabulary.tokens.is_empty() {
        metadata.texts(&key("tokens"), &vocabulary.tokens);
        metadata.integers(&key("token_type"), &vocabulary.types);
    }
    if !vocabulary.scores.is_empty() {
        metadata.numbers(&key("scores"), &vocabulary.scores);
    }
    if vocabulary.model == "gpt2" {
        metadata.texts(&key("merges"), &vocabulary.merges);
    }
    if !vocabulary.characters.is_empty() {
        metadata.list_of_bytes(&key("precompiled_charsmap"), &vocabulary.characters);
    }
    if let Some(space) = vocabulary.space_before {
        metadata.flag(&key("add_space_prefix"), space);
    }
    if let Some(json) = &vocabulary.huggingface {
        metadata.text("tokenizer.huggingface.json", json);
    }
    for (name, flag) in &vocabulary.flags {
        metadata.flag(&key(name), *flag);
    }
    for (name, id) in &vocabulary.special {
        let found = SPECIAL.iter().find(|(known, _)| known == name);
        if let Some((_, of)) = found {
            metadata.integer(&key(&format!("{of}_token_id")), *id as usize)?;
        }
    }
    let turns = ["eot", "eom"];
    let more = ends.get(1..).unwrap_or_default();
    if more.len() > turns.len() {
        let what = format!(
            "{} tokens end a text; GGUF files have keys for {}",
            ends.len(),
            turns.len() + 1
        );
        return Err(Error::new(ErrorKind::Unsupported, what)
            .at("eos_token_id")
            .advice("leave fewer in config.json and generation_config.json"));
    }
    for (of, id) in turns.iter().zip(more) {
        metadata.integer(&key(&format!("{of}_token_id")), *id as usize)?;
    }
    Ok(())
}

/// Check that a file with these metadata and tensors is read as the same model.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming what files cannot say.
pub(super) fn check(
    shape: &Configuration,
    metadata: &Metadata,
    tensors: &[OutputTensor],
) -> Result<()> {
    let header = Bytes::copy_of(&metadata.header(&[])?);
    let file = Gguf::parse(&header)?;
    let named = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.source.clone()));
    let file = Gguf {
        tensors: named.collect::<BTreeMap<_, _>>(),
        ..file
    };
    let json = gguf_model::settings(&file, gguf_model::family(&file)?)?;
    let read = Configuration::from_json(json)?;
    match difference(shape, &read) {
        None => Ok(()),
        Some(what) => {
            let kind = shape.family().model_types[0];
            let what = format!("a GGUF file of a {kind} model cannot hold {what}");
            Err(Error::new(ErrorKind::Unsupported, what).advice("convert to a folder instead"))
        }
    }
}

/// Name the first difference of two configurations that changes a model's outputs.
fn difference(a: &Configuration, b: &Configuration) -> Option<&'static str> {
    let context = a.context.max(1);
    let rope = |a: &Option<Rope>, b: &Option<Rope>| match (a, b) {
        (Some(x), Some(y)) => {
            let lengths = [1, context, 2 * context + 1];
            lengths.iter().all(|&length| same_frequencies(x, y, length))
        }
        (None, None) => true,
        _ => false,
    };
    let checks = [
        ("its vocabulary", a.vocabulary == b.vocabulary),
        (
            "its sizes",
            (
                a.width,
                a.layers,
                a.feed_forward,
                a.types,
                a.embedding_width,
            ) == (
                b.width,
                b.layers,
                b.feed_forward,
                b.types,
                b.embedding_width,
            ),
        ),
        (
            "its heads",
            (a.heads, a.kv_heads, a.head_width) == (b.heads, b.kv_heads, b.head_width),
        ),
        ("its context", a.context == b.context),
        ("the ε of its norms", a.norm_epsilon == b.norm_epsilon),
        ("its activation", a.activation == b.activation),
        ("its output matrix", a.tied == b.tied),
        (
            "the windows of its attention",
            (0..a.layers).all(|layer| a.window(layer) == b.window(layer)),
        ),
        (
            "the scale of its attention",
            (0..a.layers).all(|layer| a.scale(layer) == b.scale(layer)),
        ),
        (
            "its rotary positions",
            rope(&a.rope, &b.rope)
                && rope(&a.local_rope, &b.local_rope)
                && a.rotations == b.rotations,
        ),
        (
            "its factors, caps or experts",
            a.parallel == b.parallel
                && a.position_offset == b.position_offset
                && (a.embedding_scale, a.residual_scale, a.logit_scale)
                    == (b.embedding_scale, b.residual_scale, b.logit_scale)
                && (a.attention_cap, a.logit_cap) == (b.attention_cap, b.logit_cap)
                && a.experts == b.experts,
        ),
    ];
    let different = checks.iter().find(|(_, same)| !same);
    different.map(|(what, _)| *what)
}

/// Return whether two rotations of a text are the same, up to rounding.
fn same_frequencies(a: &Rope, b: &Rope, length: usize) -> bool {
    let ((a, by), (b, other)) = (a.frequencies(length), b.frequencies(length));
    let near = |(x, y): (&f32, &f32)| (x - y).abs() <= 1e-5 * x.abs();
    a.len() == b.len() && near((&by, &other)) && a.iter().zip(&b).all(near)
}
