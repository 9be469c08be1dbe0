//! The tokenizer: encodes text as token ids, by characters, byte pairs, pieces, or bare ids.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::modality::Codecs;
use crate::text::bpe;
use crate::text::decoder_stage::{Stage, run, take_complete};
use crate::text::folder;
use crate::text::pairs::Pairs;
use crate::text::pipeline::Pipeline;
use crate::text::scored::{self, Scored};
use crate::text::special::{plain_bytes, special};
use crate::text::spelling;
use crate::text::vocabulary::{END, Vocabulary};
use crate::{Error, ErrorKind, Result};

/// Encoder and decoder between text and token ids.
///
/// ```
/// use brillm::text::Tokenizer;
/// let tokenizer = Tokenizer::train_characters(["天地玄黄，宇宙洪荒。"].map(String::from).into_iter(), 300)?;
/// let ids = tokenizer.encode("天地 naïve ☃")?;
/// assert_eq!(tokenizer.decode(&ids), "天地 naïve ☃"); // unseen characters are encoded as bytes
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(super) kind: Kind,
    pub(super) vocabulary: Vocabulary,
    byte_tokens: Option<Box<[u32; 256]>>,
    /// Number of tokens that the network knows.
    rows: Option<usize>,
    /// Where no tokenizer was found.
    missing: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Characters,
    Pipeline(Box<Pipeline>),
    Pieces { longest: usize },
    Scored(Box<Scored>),
    Ids,
}

/// Tokens of a vocabulary of bare ids at most.
pub(super) const MOST_IDS: usize = 1 << 24;

/// The form of a tokenizer in a model file: self-contained JSON.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Stored {
    Characters {
        tokens: Vec<String>,
    },
    Bpe {
        tokenizer: serde_json::Value,
    },
    Pieces {
        tokens: Vec<String>,
    },
    Scored {
        tokens: Vec<String>,
        scores: Vec<f32>,
    },
    Ids {
        size: u32,
    },
    /// A tokenizer whose vocabulary has the tokens of the codecs too.
    Modalities {
        text: Box<Stored>,
        codecs: Codecs,
    },
}

impl Tokenizer {
    /// Create a character tokenizer; `<0x00>`…`<0xFF>` are bytes, `<unk>` or `[UNK]` is the unknown token.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] for a token that occurs twice.
    pub fn characters(tokens: Vec<String>) -> Result<Self> {
        Self::from_stored(Stored::Characters { tokens })
    }

    /// Train a character tokenizer: `<end>`, the 256 bytes, and the most frequent characters up to `size` tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a size below 257.
    pub fn train_characters(texts: impl Iterator<Item = String>, size: usize) -> Result<Self> {
        if size < 257 {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("a character vocabulary of {size} tokens is too small"),
            )
            .advice("256 bytes and the end token need at least 257"));
        }
        let mut counts: HashMap<char, u64> = HashMap::new();
        for text in texts {
            for character in text.chars() {
                *counts.entry(character).or_default() += 1;
            }
        }
        let mut ranked: Vec<(char, u64)> = counts.into_iter().collect();
        ranked.sort_unstable_by_key(|&(character, count)| (std::cmp::Reverse(count), character));
        ranked.truncate(size - 257);
        let mut tokens = vec![END.to_string()];
        tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        tokens.extend(
            ranked
                .into_iter()
                .map(|(character, _)| character.to_string()),
        );
        Self::characters(tokens)
    }

    /// Train a byte-level BPE of `size` tokens on a corpus.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a size below 257.
    pub fn train_bpe(texts: impl Iterator<Item = String> + Send, size: usize) -> Result<Self> {
        Self::of_pipeline(bpe::train(texts, size)?)
    }

    /// Load a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Vocabulary`] when it is not a tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        folder::at(path, |json| {
            Pipeline::read(&json).and_then(Self::of_pipeline)
        })
    }

    /// Read the authors' vocabulary, `{token: id}`, or a `tokenizer.json`.
    ///
    /// A vocabulary of single characters becomes a character tokenizer; longer tokens without merges are matched
    /// greedily, the longest first.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] for ids with gaps, or an order of ids that differs from the order in the
    /// file (the authors number edges by the latter and look them up by the former).
    pub fn from_authors(json: &[u8]) -> Result<Self> {
        if let Ok(pipeline) = Pipeline::read(json) {
            return Self::of_pipeline(pipeline);
        }
        let pairs: Pairs = serde_json::from_slice(json).map_err(|error| {
            Error::new(
                ErrorKind::Vocabulary,
                format!("not a vocabulary of the form {{token: id}}: {error}"),
            )
        })?;
        let mut tokens = Vec::with_capacity(pairs.0.len());
        for (index, (token, id)) in pairs.0.into_iter().enumerate() {
            if id != index as u64 {
                return Err(Error::new(
                    ErrorKind::Vocabulary,
                    format!("token {token:?} is at index {index} but has id {id}"),
                )
                .advice("number the tokens from 0 in the order of the file"));
            }
            tokens.push(token);
        }
        let single = |token: &String| token.chars().count() == 1 || special(token);
        Self::from_stored(if tokens.iter().all(single) {
            Stored::Characters { tokens }
        } else {
            Stored::Pieces { tokens }
        })
    }

    /// Load a tokenizer of llama2.c, `tok*.bin`: pieces with scores.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Format`] with the offset of the first invalid bytes.
    pub fn open_scored(path: &Path) -> Result<Self> {
        let locate = |error: Error| error.at(path.display());
        let file = crate::text::download::read(path)?;
        let (pieces, scores) = scored::read(&file).map_err(locate)?;
        let tokens = scored::names(&pieces);
        Self::from_stored(Stored::Scored { tokens, scores }).map_err(locate)
    }

    /// The ids before and after every separate text: begin marks, or `[CLS]` and `[SEP]`.
    pub fn frame(&self) -> (Vec<u32>, Vec<u32>) {
        match &self.kind {
            Kind::Scored(_) => (vec![scored::BEGIN], Vec::new()),
            Kind::Pipeline(pipeline) => pipeline.frame(),
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// The `tokenizer.json` of a tokenizer that has this form; `None` for characters, pieces and bare ids.
    pub fn to_json(&self) -> Option<String> {
        match &self.kind {
            Kind::Pipeline(pipeline) => pipeline.to_json().ok(),
            _ => None,
        }
    }

    /// Create a tokenizer of bare ids, for models trained on files of token ids; it cannot encode text.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for more than 2^24 ids.
    pub fn ids(size: usize) -> Result<Self> {
        Self::from_stored(Stored::Ids {
            size: u32::try_from(size).unwrap_or(u32::MAX),
        })
    }

    /// The names of all tokens, in the order of their ids.
    pub(super) fn token_names(&self) -> Vec<String> {
        let ids = 0..self.vocabulary.len() as u32;
        ids.filter_map(|id| self.vocabulary.token(id))
            .map(String::from)
            .collect()
    }

    pub(super) fn of_pipeline(pipeline: Pipeline) -> Result<Self> {
        let vocabulary = pipeline.vocabulary()?;
        Ok(Self::of(Kind::Pipeline(Box::new(pipeline)), vocabulary))
    }

    fn of(kind: Kind, vocabulary: Vocabulary) -> Self {
        Self {
            kind,
            vocabulary,
            byte_tokens: None,
            rows: None,
            missing: None,
        }
    }

    pub(super) fn from_stored(stored: Stored) -> Result<Self> {
        match stored {
            Stored::Characters { tokens } => Self::of_characters(tokens),
            Stored::Pieces { tokens } => {
                let bytes: Vec<Vec<u8>> = tokens
                    .iter()
                    .map(|token| spelling::piece_bytes(token))
                    .collect();
                let longest = bytes.iter().map(Vec::len).max().unwrap_or(0);
                Self::of_tokens(Kind::Pieces { longest }, tokens, bytes)
            }
            Stored::Scored { tokens, scores } => {
                let bytes: Vec<Vec<u8>> = scored::bytes(&tokens);
                let kind = Kind::Scored(Box::new(Scored::new(&bytes, scores)?));
                let vocabulary = Vocabulary::new(tokens, bytes, Some(0), Some(scored::BEGIN))?;
                Ok(Self::of(kind, vocabulary))
            }
            Stored::Bpe { tokenizer } => {
                let json = serde_json::to_vec(&tokenizer).expect("JSON writes as JSON");
                Self::of_pipeline(Pipeline::read(&json)?)
            }
            Stored::Modalities { text, codecs } => {
                Self::from_stored(*text)?.with_stored_codecs(codecs)
            }
            Stored::Ids { size } if size as usize > MOST_IDS => Err(Error::new(
                ErrorKind::Configuration,
                format!("a vocabulary of {size} ids is too large"),
            )),
            Stored::Ids { size } => {
                let tokens: Vec<String> = (0..size).map(|id| id.to_string()).collect();
                let bytes = tokens
                    .iter()
                    .map(|token| format!("{token} ").into_bytes())
                    .collect();
                let vocabulary = Vocabulary::new(tokens, bytes, None, None)?;
                Ok(Self::of(Kind::Ids, vocabulary))
            }
        }
    }

    /// A tokenizer whose unknown and end tokens are found by their names.
    fn of_tokens(kind: Kind, tokens: Vec<String>, bytes: Vec<Vec<u8>>) -> Result<Self> {
        let id = |name: &str| tokens.iter().position(|token| token == name);
        let unknown = id("<unk>").or_else(|| id("[UNK]")).map(|id| id as u32);
        let stop = id(END).map(|id| id as u32);
        let vocabulary = Vocabulary::new(tokens, bytes, unknown, stop)?;
        Ok(Self::of(kind, vocabulary))
    }

    fn of_characters(tokens: Vec<String>) -> Result<Self> {
        let bytes = tokens.iter().map(|token| plain_bytes(token)).collect();
        let mut tokenizer = Self::of_tokens(Kind::Characters, tokens, bytes)?;
        let vocabulary = &tokenizer.vocabulary;
        let all: Option<Vec<u32>> = (0..=255u8)
            .map(|byte| vocabulary.id(&format!("<0x{byte:02X}>")))
            .collect();
        tokenizer.byte_tokens =
            all.map(|ids| Box::new(<[u32; 256]>::try_from(ids).expect("256 bytes")));
        Ok(tokenizer)
    }

    /// The codecs of images and sounds, for a vocabulary that has their tokens.
    pub fn codecs(&self) -> Option<&Codecs> {
        self.vocabulary.codecs()
    }

    /// The names and bytes of all tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Encode a text.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] for a character outside a vocabulary that has neither bytes nor an unknown token;
    /// [`ErrorKind::Unsupported`] for a model over bare ids.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // A pipeline finds the tokens of modalities itself, because they were added to it.
        if self.codecs().is_some() && !matches!(self.kind, Kind::Pipeline(_)) {
            return self.encode_around_marks(text);
        }
        self.encode_text(text)
    }

    /// Encode a text in which the names of tokens have no meaning, except to a pipeline.
    pub(super) fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let ids = match &self.kind {
            Kind::Pipeline(pipeline) => pipeline.encode(text)?,
            Kind::Characters => {
                spelling::characters(&self.vocabulary, self.byte_tokens.as_deref(), text)?
            }
            Kind::Pieces { longest } => spelling::pieces(&self.vocabulary, *longest, text)?,
            Kind::Scored(scored) => scored.encode(text),
            Kind::Ids => {
                let without = "this model is trained on token ids and has no text";
                let message = self.missing.as_deref().unwrap_or(without);
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .advice("pass token ids, for example --prompt-ids 3,4,5"));
            }
        };
        self.check(&ids)?;
        Ok(ids)
    }

    /// Set the number of tokens that the network knows. A tokenizer may have more: encoding gives none of them.
    #[must_use]
    #[cfg(feature = "transformer")]
    pub(crate) fn with_rows(mut self, rows: usize) -> Self {
        self.rows = Some(rows);
        self.vocabulary.limit_stop(rows);
        self
    }

    /// Set the error message of encoding text without a tokenizer.
    #[cfg(feature = "transformer")]
    pub(super) fn missing(mut self, message: String) -> Self {
        self.missing = Some(message);
        self
    }

    /// Set the token that ends a text.
    pub(super) fn set_stop(&mut self, stop: u32) {
        self.vocabulary.set_stop(stop);
    }

    /// Check that the network knows tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] naming the first that it does not know.
    pub(crate) fn check(&self, ids: &[u32]) -> Result<()> {
        let Some(rows) = self.rows else { return Ok(()) };
        match ids.iter().find(|&&id| id as usize >= rows) {
            None => Ok(()),
            Some(&id) => Err(Error::new(
                ErrorKind::Vocabulary,
                format!(
                    "the model has no row for token {:?} (id {id}): its vocabulary has {rows} tokens",
                    self.vocabulary.token(id).unwrap_or_default()
                ),
            )
            .advice("leave the token out of the text")),
        }
    }

    /// The stages of decoding, before the first token.
    pub(super) fn stages(&self) -> Vec<Stage> {
        match &self.kind {
            Kind::Pipeline(pipeline) => pipeline.stages(),
            _ => vec![
                Stage::Bytes { held: Vec::new() },
                Stage::Strip {
                    content: ' ',
                    start: 0,
                    stop: 0,
                    // Known from the first token.
                    left: None,
                },
            ],
        }
    }

    /// Pass a token through the stages of decoding. Returns the text that is complete.
    pub(super) fn push(&self, stages: &mut [Stage], id: u32, special: bool) -> String {
        if let Kind::Pipeline(pipeline) = &self.kind {
            return run(
                stages,
                pipeline.token(id, special).into_iter().collect(),
                false,
            );
        }
        let [Stage::Bytes { held }, Stage::Strip { left, .. }] = stages else {
            return String::new();
        };
        // Encoding with scores puts a space before a text, after the begin mark.
        let begins = matches!(self.kind, Kind::Scored(_)) && id == scored::BEGIN;
        left.get_or_insert(usize::from(begins));
        match self.vocabulary.bytes(id) {
            [] if special => held.extend(self.vocabulary.token(id).unwrap_or_default().bytes()),
            bytes => held.extend(bytes),
        }
        let complete = take_complete(held);
        run(&mut stages[1..], vec![complete], false)
    }

    /// Decode tokens to bytes; ids outside the vocabulary and special tokens are skipped.
    ///
    /// These are the bytes of the text, except for tokens that are bytes: a part of a character stays as it is.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let bytes = match &self.kind {
            Kind::Pipeline(pipeline) => pipeline.is_byte_level(),
            Kind::Scored(_) => ids.first() != Some(&scored::BEGIN),
            _ => true,
        };
        if !bytes {
            return self.decode(ids).into_bytes();
        }
        let bytes = ids.iter().flat_map(|&id| self.vocabulary.bytes(id));
        bytes.copied().collect()
    }

    /// Serialise the tokenizer as self-contained JSON, the form in model files.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tokens = || self.token_names();
        let text = match &self.kind {
            Kind::Characters => Stored::Characters { tokens: tokens() },
            Kind::Pieces { .. } => Stored::Pieces { tokens: tokens() },
            Kind::Scored(scored) => Stored::Scored {
                tokens: tokens(),
                scores: scored.scores.clone(),
            },
            Kind::Ids => Stored::Ids {
                size: self.vocabulary.len() as u32,
            },
            Kind::Pipeline(pipeline) => {
                let json = pipeline
                    .to_json()
                    .expect("a loaded tokenizer can be written");
                Stored::Bpe {
                    tokenizer: serde_json::from_str(&json).expect("it is JSON"),
                }
            }
        };
        let stored = match self.codecs() {
            None => text,
            Some(codecs) => Stored::Modalities {
                text: Box::new(text),
                codecs: codecs.clone(),
            },
        };
        serde_json::to_vec(&stored).expect("strings and numbers write as JSON")
    }

    /// Deserialise a tokenizer from the output of [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] or [`ErrorKind::Format`] for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_for(bytes, MOST_IDS)
    }

    /// Deserialise the tokenizer of a model of `rows` tokens. Bare ids are a number alone, which the model must match.
    ///
    /// # Errors
    /// As [`Self::from_bytes`]; [`ErrorKind::Format`] for more ids than rows.
    pub(crate) fn from_bytes_for(bytes: &[u8], rows: usize) -> Result<Self> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Format, format!("invalid vocabulary: {error}"))
        })?;
        match stored {
            Stored::Ids { size } if size as usize > rows => Err(Error::new(
                ErrorKind::Format,
                format!(
                    "a vocabulary of {size} ids is larger than the model, which has {rows} tokens"
                ),
            )),
            stored => Self::from_stored(stored),
        }
    }
}
