//! SentencePiece's models (`tokenizer.model`, `spiece.model`): unigram and byte-pair encoding with its normalizer.
//!
//! The tokenizer is built as `transformers` does in `SpmConverter.build_tokenizer_from_spm_proto`; it encodes as
//! SentencePiece does, except that control tokens in a text are recognised.

use serde_json::{Map, Value, json};
use tokenizers::normalizers::Precompiled;

use super::malformed;
use super::protobuf::{Field, fields};
use super::settings::{Settings, Template};
use super::vocabulary_files::ROBERTA;
use crate::text::Tokenizer;
use crate::text::pipeline::Pipeline;
use crate::{Error, ErrorKind, Result};

/// The types of pieces, as the file numbers them.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
#[cfg(feature = "transformer")]
const BYTE: i64 = 6;

/// A token with its score.
struct Piece {
    text: String,
    score: f64,
    kind: i64,
}

/// The content of a model file, with SentencePiece's defaults.
pub(super) struct Spec {
    pieces: Vec<Piece>,
    /// 1 unigram, 2 byte pairs, 3 words, 4 characters.
    model: i64,
    byte_fallback: bool,
    space_as_suffix: bool,
    unknown: i64,
    /// Ids of the begin and end tokens, negative without one.
    begin: i64,
    end: i64,
    characters: Vec<u8>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

impl Spec {
    /// Parse a `ModelProto`.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut spec = Self {
            pieces: Vec::new(),
            model: 1,
            byte_fallback: false,
            space_as_suffix: false,
            unknown: 0,
            begin: 1,
            end: 2,
            characters: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        fields(bytes, |number, field| match number {
            1 => piece(field.bytes()).map(|piece| spec.pieces.push(piece)),
            2 => fields(field.bytes(), |number, field| {
                spec.trainer(number, field);
                Ok(())
            }),
            3 => fields(field.bytes(), |number, field| {
                spec.normalizer(number, field);
                Ok(())
            }),
            _ => Ok(()),
        })?;
        if spec.pieces.is_empty() {
            return Err(malformed("not a SentencePiece model: it has no pieces"));
        }
        Ok(spec)
    }

    fn trainer(&mut self, number: u64, field: Field<'_>) {
        match number {
            3 => self.model = field.integer(),
            24 => self.space_as_suffix = field.integer() != 0,
            35 => self.byte_fallback = field.integer() != 0,
            40 => self.unknown = field.integer(),
            41 => self.begin = field.integer(),
            42 => self.end = field.integer(),
            _ => {}
        }
    }

    fn normalizer(&mut self, number: u64, field: Field<'_>) {
        match number {
            2 => self.characters = field.bytes().to_vec(),
            3 => self.add_dummy_prefix = field.integer() != 0,
            4 => self.remove_extra_whitespaces = field.integer() != 0,
            5 => self.escape_whitespaces = field.integer() != 0,
            _ => {}
        }
    }

    /// Create a model of byte pairs or unigrams from pieces with scores and types, the ids of the unknown, begin and
    /// end tokens, and a character map.
    #[cfg(feature = "transformer")]
    pub(super) fn of_tokens(
        pieces: impl Iterator<Item = (String, f64, i64)>,
        unigram: bool,
        [unknown, begin, end]: [i64; 3],
        characters: Vec<u8>,
        add_dummy_prefix: bool,
    ) -> Self {
        let piece = |(text, score, kind)| Piece { text, score, kind };
        let pieces: Vec<Piece> = pieces.map(piece).collect();
        Self {
            model: if unigram { 1 } else { 2 },
            byte_fallback: pieces.iter().any(|piece| piece.kind == BYTE),
            pieces,
            space_as_suffix: false,
            unknown,
            begin,
            end,
            remove_extra_whitespaces: unigram,
            characters,
            add_dummy_prefix,
            escape_whitespaces: true,
        }
    }

    /// The text of the piece with an id that may be negative or too large.
    fn name(&self, id: i64) -> Option<&str> {
        let id = usize::try_from(id).ok()?;
        Some(self.pieces.get(id)?.text.as_str())
    }
}

/// Parse a piece.
fn piece(bytes: &[u8]) -> Result<Piece> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: NORMAL,
    };
    fields(bytes, |number, field| {
        match (number, field) {
            (1, field) => piece.text = field.text()?,
            (2, Field::Float(score)) => piece.score = f64::from(score),
            (3, field) => piece.kind = field.integer(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(piece)
}

/// Build the tokenizer of a model file.
///
/// # Errors
/// [`ErrorKind::Format`] for a damaged file; [`ErrorKind::Unsupported`] for a model of words.
pub(super) fn open(bytes: &[u8], settings: &Settings) -> Result<Tokenizer> {
    if is_tiktoken(bytes) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this is a vocabulary of tiktoken, not a SentencePiece model",
        )
        .advice("convert the tokenizer to tokenizer.json"));
    }
    let mut spec = Spec::parse(bytes)?;
    let unknown = spec.name(spec.unknown).unwrap_or("<unk>").to_string();
    let mut defaults = vec![("unk_token", unknown.clone())];
    let marks = [("bos_token", spec.begin), ("eos_token", spec.end)];
    defaults.extend(
        marks
            .iter()
            .filter_map(|&(key, id)| Some((key, spec.name(id)?.into()))),
    );
    let mut template = Template::Marks {
        begin: settings.is_llama(),
    };
    let by_key = |key| settings.name(key, &ROBERTA).into_iter().collect();
    let special = |text: String| Piece {
        text,
        score: 0.0,
        kind: CONTROL,
    };
    match settings.class.as_str() {
        "T5Tokenizer" | "MT5Tokenizer" => {
            let extra = settings.count("extra_ids").unwrap_or(100).min(10_000);
            let extra = (0..extra).rev().map(|id| format!("<extra_id_{id}>"));
            spec.pieces.extend(extra.map(special));
            defaults.push(("pad_token", "<pad>".into()));
            template = Template::Fixed(Vec::new(), by_key("eos_token"));
        }
        // Fairseq's order of the special tokens.
        "XLMRobertaTokenizer" => {
            let first = ["bos_token", "pad_token", "eos_token", "unk_token"];
            let first = first
                .into_iter()
                .filter_map(|key| settings.name(key, &ROBERTA));
            let rest: Vec<Piece> = spec.pieces.drain(..).skip(3).collect();
            spec.pieces = first.map(special).chain(rest).collect();
            spec.pieces.push(special("<mask>".into()));
            spec.unknown = 3;
            defaults = ROBERTA.map(|(key, name)| (key, name.to_string())).to_vec();
            template = Template::Fixed(by_key("cls_token"), by_key("sep_token"));
        }
        _ => {}
    }
    let defaults: Vec<(&str, &str)> = defaults
        .iter()
        .map(|(key, name)| (*key, name.as_str()))
        .collect();
    build_with(&spec, settings, &unknown, &defaults, template)
}

/// Build the tokenizer of a model whose special tokens the settings name.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "transformer")]
pub(super) fn build(spec: &Spec, settings: &Settings, template: Template) -> Result<Tokenizer> {
    let unknown = spec.name(spec.unknown).unwrap_or("<unk>");
    build_with(spec, settings, unknown, &[], template)
}

fn build_with(
    spec: &Spec,
    settings: &Settings,
    unknown: &str,
    defaults: &[(&str, &str)],
    template: Template,
) -> Result<Tokenizer> {
    let pieces = spec.pieces.iter();
    let control = pieces.filter(|piece| piece.kind == CONTROL);
    let control = control.map(|piece| piece.text.clone());
    let legacy = settings.flag("legacy").unwrap_or(true);
    let mut pipeline = Pipeline::build(json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer(spec, legacy)?,
        "pre_tokenizer": pre_tokenizer(spec, legacy),
        "decoder": decoder(spec.byte_fallback, spec.add_dummy_prefix),
        "model": model(spec, unknown)?,
    }))?;
    let token = |name| tokenizers::AddedToken::from(name, true).normalized(false);
    pipeline.add_tokens(control.map(token).collect())?;
    settings.apply(pipeline, defaults, template)
}

/// Whether the first line is a token in base64 and its rank.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    line.and_then(|line| line.split_once(' '))
        .is_some_and(|(_, rank)| rank.trim().parse::<u32>().is_ok())
}

/// The model of a `tokenizer.json`.
fn model(spec: &Spec, unknown: &str) -> Result<Value> {
    let unsupported = |what: &str| {
        Error::new(
            ErrorKind::Unsupported,
            format!("{what} of SentencePiece are not supported"),
        )
        .advice("convert the tokenizer to tokenizer.json")
    };
    if spec.space_as_suffix {
        return Err(unsupported("spaces as suffixes"));
    }
    if spec.model == 1 {
        let vocab: Vec<Value> = spec
            .pieces
            .iter()
            .map(|piece| json!([piece.text, piece.score]))
            .collect();
        return Ok(
            json!({"type": "Unigram", "unk_id": spec.unknown, "vocab": vocab,
            "byte_fallback": spec.byte_fallback}),
        );
    }
    let merges = match spec.model {
        2 => merges(&spec.pieces),
        4 => Vec::new(),
        _ => return Err(unsupported("models of words")),
    };
    let mut vocab = Map::new();
    for (id, piece) in spec.pieces.iter().enumerate() {
        vocab.insert(piece.text.clone(), id.into());
    }
    Ok(json!({
        "type": "BPE",
        "unk_token": unknown,
        "fuse_unk": true,
        "byte_fallback": spec.byte_fallback,
        // User-defined pieces have no merges.
        "ignore_merges": spec.pieces.iter().any(|piece| piece.kind == USER_DEFINED),
        "vocab": vocab,
        "merges": merges,
    }))
}

/// All pairs of pieces whose concatenation is a piece, in the order of its score.
fn merges(pieces: &[Piece]) -> Vec<Value> {
    let normal = pieces.iter().enumerate();
    let normal: std::collections::HashMap<&str, (f64, usize)> = normal
        .filter(|(_, piece)| piece.kind == NORMAL)
        .map(|(id, piece)| (piece.text.as_str(), (piece.score, id)))
        .collect();
    let mut ranked = Vec::new();
    for (text, (score, id)) in &normal {
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if normal.contains_key(left) && normal.contains_key(right) {
                ranked.push((-score, *id, left, right));
            }
        }
    }
    ranked.sort_by(|a, b| {
        let by_score = a.0.total_cmp(&b.0);
        by_score.then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3)))
    });
    let pairs = ranked.into_iter();
    pairs
        .map(|(_, _, left, right)| json!([left, right]))
        .collect()
}

/// The normalizer, in SentencePiece's order.
fn normalizer(spec: &Spec, legacy: bool) -> Result<Value> {
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let mut steps = Vec::new();
    if !spec.characters.is_empty() {
        crate::text::character_map::check(&spec.characters)?;
        let characters = Precompiled::from(&spec.characters)
            .map_err(|_| malformed("not a SentencePiece model: invalid character map"))?;
        steps.push(json!(characters));
    }
    if spec.remove_extra_whitespaces {
        steps.push(replace(json!({"Regex": r"\A +| +\z"}), ""));
        steps.push(replace(json!({"Regex": " {2,}"}), " "));
    }
    if spec.escape_whitespaces {
        steps.push(replace(json!({"String": " "}), "▁"));
    }
    if spec.add_dummy_prefix && legacy {
        // Metaspace adds no prefix to a text that begins with one.
        steps.push(replace(json!({"Regex": r"\A▁"}), "▁▁"));
    }
    Ok(json!({"type": "Sequence", "normalizers": steps}))
}

/// The pre-tokenizer: the space before a text, and user-defined pieces on their own.
fn pre_tokenizer(spec: &Spec, legacy: bool) -> Value {
    let mut steps = Vec::new();
    if spec.add_dummy_prefix {
        let scheme = if legacy { "always" } else { "first" };
        steps.push(json!({"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": scheme, "split": false}));
    }
    let pieces = spec.pieces.iter();
    let mut whole: Vec<&str> = pieces
        .filter(|piece| piece.kind == USER_DEFINED)
        .map(|piece| piece.text.as_str())
        .collect();
    if !whole.is_empty() {
        whole.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
        let pattern: Vec<String> = whole.into_iter().map(escape).collect();
        steps.push(
            json!({"type": "Split", "pattern": {"Regex": pattern.join("|")}, "behavior": "Isolated",
            "invert": false}),
        );
    }
    match steps.is_empty() {
        true => Value::Null,
        false => json!({"type": "Sequence", "pretokenizers": steps}),
    }
}

/// Escape a text for a regular expression.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = c.is_alphanumeric() || !c.is_ascii();
            (!plain).then_some('\\').into_iter().chain([c])
        })
        .collect()
}

/// The decoder: `▁` is a space, and the one before a text is removed.
pub(super) fn decoder(byte_fallback: bool, dummy_prefix: bool) -> Value {
    let mut steps = vec![json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})];
    if byte_fallback {
        steps.push(json!({"type": "ByteFallback"}));
    }
    steps.push(json!({"type": "Fuse"}));
    if dummy_prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}
