//! A tokenizer as the metadata of a GGUF file: the inverse of [`gguf`](super::gguf).
//!
//! GGUF files name the kind of a tokenizer, and how byte pairs split a text. What the names do not cover would give other ids,
//! so the vocabulary is read back, and both tokenizers must encode and decode sample texts and every token alike. Where they do not, the
//! file also gets the whole `tokenizer.json`, under the key that the format has for it.

use serde_json::Value;

use super::gguf::{
    BYTE, CONTROL, GgufVocabulary, NORMAL, SPLITTINGS, UNKNOWN, UNUSED, USER_DEFINED,
};
use crate::text::Tokenizer;
use crate::text::special::byte_token;
use crate::text::tokenizer::Kind;
use crate::{Error, ErrorKind, Result};

/// Texts that tokenizers split in different ways.
const SAMPLES: [&str; 12] = [
    "Once upon a time, there was a little girl named Lily.",
    " two  spaces,   three;\ttabs\t\tand\n\nlines \r\n end ",
    "I'll don't WE'VE it's 'quoted' “curly” (brackets) [x] {y}",
    "1 12 123 1234567890 3.14159 1,000,000 0x1F 50% $5.00 №7 ½ ²",
    "naïve café cafe\u{301} Ångström Straße İstanbul ǅ ﬁ",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "你好，世界。こんにちは世界！ 안녕하세요 ภาษาไทย हिन्दी",
    "👋🏽 👨‍👩‍👧 🇪🇺 ☃ \u{200b}zero\u{a0}width \u{feff}mark",
    "snake_case camelCase HTMLParser x+=1; if(a&&b){return c->d;} // ...",
    "http://example.org/a?b=c&d=%20#e user@example.com C:\\path\\to",
    "",
    " ",
];
/// Tokens that one sample text has.
const TOKENS: usize = 16;

/// Describe why a tokenizer cannot be written.
fn unsupported(what: impl std::fmt::Display) -> Error {
    let what = format!("the tokenizer cannot be written to a GGUF file: {what}");
    Error::new(ErrorKind::Unsupported, what)
        .advice("convert to a folder, which holds any tokenizer.json")
}

impl Tokenizer {
    /// Return the vocabulary as GGUF files have it, with at least `rows` tokens; `special` are the ids of special tokens by
    /// Hugging Face's keys.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a tokenizer that would give other ids when it is read back.
    pub(crate) fn to_gguf(
        &self,
        rows: usize,
        special: &[(&'static str, u32)],
    ) -> Result<GgufVocabulary> {
        if self.codecs().is_some() {
            return Err(unsupported("it has tokens of images or sounds"));
        }
        let mut vocabulary = GgufVocabulary {
            special: special.to_vec(),
            ..GgufVocabulary::default()
        };
        let (candidates, json) = match &self.kind {
            Kind::Ids => {
                vocabulary.model = "none".into();
                return Ok(vocabulary);
            }
            Kind::Scored(scored) => {
                self.pieces(&mut vocabulary, rows);
                vocabulary.scores = scored.scores.iter().map(|&s| f64::from(s)).collect();
                vocabulary.scores.resize(vocabulary.tokens.len(), 0.0);
                (vec![vocabulary.clone()], None)
            }
            Kind::Pipeline(pipeline) => {
                let text = pipeline.to_json()?;
                let json = serde_json::from_str(&text).map_err(unsupported)?;
                let candidates = self.candidates(&json, vocabulary.clone(), rows)?;
                (candidates, Some(text))
            }
            Kind::Characters | Kind::Pieces { .. } => {
                return Err(unsupported(
                    "it has characters or pieces without merges or scores",
                ));
            }
        };
        let first = candidates.first().cloned();
        let mut fault = None;
        for mut candidate in candidates {
            match self
                .mark(&mut candidate)
                .and_then(|()| self.compare(&candidate, rows))
            {
                Ok(()) => return Ok(candidate),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        let Some(json) = json else {
            return Err(fault.unwrap_or_else(|| unsupported("it has no vocabulary")));
        };
        // The whole tokenizer.json; what the other keys say is close to it, or nothing.
        vocabulary.model = "none".into();
        let copied = GgufVocabulary {
            huggingface: Some(json),
            ..first.unwrap_or(vocabulary)
        };
        self.compare(&copied, rows)?;
        Ok(copied)
    }

    /// Set whether the begin and end token are put around a text.
    fn mark(&self, vocabulary: &mut GgufVocabulary) -> Result<()> {
        if vocabulary.model == "bert" {
            return Ok(());
        }
        let marked = |ids: &[u32], key: &str| {
            let id = vocabulary.special.iter().find(|(name, _)| *name == key);
            match ids {
                [] => Ok(false),
                [one] if id.is_some_and(|(_, id)| id == one) => Ok(true),
                _ => Err(unsupported(
                    "it puts other tokens than the begin and end token around a text",
                )),
            }
        };
        let (before, after) = self.frame();
        vocabulary.flags = vec![
            ("add_bos_token", marked(&before, "bos_token")?),
            ("add_eos_token", marked(&after, "eos_token")?),
        ];
        Ok(())
    }

    /// List vocabularies that may encode as a `tokenizer.json` does.
    fn candidates(
        &self,
        json: &Value,
        mut vocabulary: GgufVocabulary,
        rows: usize,
    ) -> Result<Vec<GgufVocabulary>> {
        let model = &json["model"];
        let byte_level = json["decoder"]["type"] == "ByteLevel";
        self.tokens(&mut vocabulary, json, rows);
        Ok(match model["type"].as_str().unwrap_or_default() {
            "BPE" if byte_level => {
                vocabulary.model = "gpt2".into();
                vocabulary.merges = merges(model)?;
                let splits = |name: &&&str| splits(name, json);
                let named = SPLITTINGS.iter().filter(splits).map(|name| GgufVocabulary {
                    pre: (*name).into(),
                    ..vocabulary.clone()
                });
                named.collect()
            }
            "BPE" => {
                self.pieces(&mut vocabulary, rows);
                mark_added(&mut vocabulary, json);
                score(&mut vocabulary, &merges(model)?);
                let spaced = |space| GgufVocabulary {
                    space_before: Some(space),
                    ..vocabulary.clone()
                };
                vec![spaced(true), spaced(false)]
            }
            "WordPiece" => {
                vocabulary.model = "bert".into();
                let continued = model["continuing_subword_prefix"].as_str().unwrap_or("##");
                for (token, kind) in vocabulary.tokens.iter_mut().zip(&vocabulary.types) {
                    let bracketed = token.starts_with('[') && token.ends_with(']');
                    if let Some(rest) = token.strip_prefix(continued) {
                        *token = rest.to_string();
                    } else if !bracketed && *kind == NORMAL {
                        token.insert(0, '▁');
                    }
                }
                vec![vocabulary]
            }
            _ => Vec::new(),
        })
    }

    /// Set the tokens and their types.
    fn tokens(&self, vocabulary: &mut GgufVocabulary, json: &Value, rows: usize) {
        vocabulary.tokens = self.token_names();
        let known = vocabulary.tokens.iter().enumerate();
        let kind = |(id, token): (usize, &String)| match *token == format!("#{id}") {
            true if self.vocabulary().bytes(id as u32).is_empty() => UNUSED,
            _ => NORMAL,
        };
        vocabulary.types = known.map(kind).collect();
        // Rows of the embedding without a token.
        let missing = vocabulary.tokens.len()..rows;
        let padded = missing.map(|id| format!("[PAD{id}]"));
        vocabulary.tokens.extend(padded);
        vocabulary.types.resize(vocabulary.tokens.len(), UNUSED);
        mark_added(vocabulary, json);
    }

    /// Set the tokens and types of SentencePiece.
    fn pieces(&self, vocabulary: &mut GgufVocabulary, rows: usize) {
        if vocabulary.tokens.is_empty() {
            self.tokens(vocabulary, &Value::Null, rows);
        }
        vocabulary.model = "llama".into();
        let scored = matches!(self.kind, Kind::Scored(_));
        let unknown = self.vocabulary().unknown();
        let each = vocabulary.tokens.iter_mut().zip(&mut vocabulary.types);
        for (id, (token, kind)) in each.enumerate() {
            if byte_token(token).is_some() {
                *kind = BYTE;
            } else if Some(id as u32) == unknown {
                *kind = UNKNOWN;
            } else if scored && id < 3 {
                *kind = CONTROL;
            } else {
                *token = token.replace(' ', "▁");
            }
        }
    }

    /// Check that a vocabulary encodes as this tokenizer does.
    fn compare(&self, vocabulary: &GgufVocabulary, rows: usize) -> Result<()> {
        let other = Self::of_gguf(vocabulary, rows)?;
        if self.frame() != other.frame() {
            return Err(unsupported("it puts other tokens around a text"));
        }
        let mut texts: Vec<String> = SAMPLES.iter().map(ToString::to_string).collect();
        let ids: Vec<u32> = (0..self.vocabulary().len() as u32).collect();
        for ids in ids.chunks(TOKENS) {
            let bytes = ids.iter().flat_map(|&id| self.vocabulary().bytes(id));
            let bytes: Vec<u8> = bytes.copied().collect();
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        // Added tokens may take the spaces around them, or be found as whole words only.
        let added = std::iter::zip(&vocabulary.types, 0..self.vocabulary().len() as u32);
        for (_, id) in added.filter(|(kind, _)| [CONTROL, USER_DEFINED].contains(kind)) {
            let token = String::from_utf8_lossy(self.vocabulary().bytes(id)).into_owned();
            texts.push(format!("x {token} y{token}z  {token}\nx"));
        }
        let pipeline = matches!(self.kind, Kind::Pipeline(_));
        for text in texts {
            // What this tokenizer refuses has no ids to compare.
            let Ok(mine) = self.encode(&text) else {
                continue;
            };
            let theirs = other.encode(&text)?;
            if mine != theirs {
                return Err(unsupported(format!(
                    "read back, it would encode {text:?} as {theirs:?} instead of {mine:?}"
                )));
            }
            let decoded = other.decode(&mine);
            if pipeline && decoded != self.decode(&mine) {
                return Err(unsupported(format!(
                    "read back, it would decode the ids of {text:?} as {decoded:?}"
                )));
            }
        }
        Ok(())
    }
}

/// Mark the added tokens of a `tokenizer.json`.
fn mark_added(vocabulary: &mut GgufVocabulary, json: &Value) {
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let id = added["id"].as_u64().and_then(|id| usize::try_from(id).ok());
        let kind = id.and_then(|id| vocabulary.types.get_mut(id));
        let special = added["special"] == true;
        if let Some(kind) = kind.filter(|kind| **kind != UNKNOWN) {
            *kind = if special { CONTROL } else { USER_DEFINED };
        }
    }
}

/// Return whether byte pairs split a text as a `tokenizer.json` does.
fn splits(name: &str, json: &Value) -> bool {
    let whole_words = json["model"]["ignore_merges"] == true;
    GgufVocabulary::named(name).is_some_and(|(splitting, whole)| {
        let same = |key: &str| comparable(&splitting[key]) == comparable(&json[key]);
        whole == whole_words && same("normalizer") && same("pre_tokenizer")
    })
}

/// Leave out what does not change ids: offsets, and a sequence of one.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let list = map.get("pretokenizers").or(map.get("normalizers"));
            if let Some([one]) = list.and_then(Value::as_array).map(Vec::as_slice) {
                return comparable(one);
            }
            let kept = map.iter().filter(|(key, _)| *key != "trim_offsets");
            kept.map(|(key, value)| (key.clone(), comparable(value)))
                .collect()
        }
        Value::Array(list) => list.iter().map(comparable).collect(),
        other => other.clone(),
    }
}

/// List the merges of a model, `left right`.
fn merges(model: &Value) -> Result<Vec<String>> {
    let pair = |merge: &Value| match merge {
        Value::String(pair) => Some(pair.clone()),
        other => {
            let (left, right) = (other[0].as_str()?, other[1].as_str()?);
            // GGUF files separate the two by a space.
            let plain = !left.contains(' ') && !right.contains(' ');
            plain.then(|| format!("{left} {right}"))
        }
    };
    let list = model["merges"].as_array().into_iter().flatten();
    let list: Option<Vec<String>> = list.map(pair).collect();
    list.ok_or_else(|| unsupported("a merge has a space"))
}

/// Give tokens scores in the order in which their merges are done.
fn score(vocabulary: &mut GgufVocabulary, merges: &[String]) {
    let mut ranks = std::collections::HashMap::new();
    for (rank, merge) in merges.iter().enumerate() {
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    let tokens = vocabulary.tokens.iter().enumerate();
    let score = |(id, token): (usize, &String)| match ranks.get(token) {
        Some(rank) => -(*rank as f64),
        None => -((merges.len() + id) as f64),
    };
    vocabulary.scores = tokens.map(score).collect();
}
