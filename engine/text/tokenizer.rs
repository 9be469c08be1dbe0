//! The tokenizer: encodes text as token ids, by characters, byte pairs, pieces, or bare ids.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::text::bpe;
use crate::text::pairs::Pairs;
use crate::text::scored::{self, Scored};
use crate::text::special::{plain_bytes, special};
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
    kind: Kind,
    vocabulary: Vocabulary,
    byte_tokens: Option<Box<[u32; 256]>>,
}

#[derive(Clone, Debug)]
enum Kind {
    Characters,
    Bpe(Box<tokenizers::Tokenizer>),
    Pieces { longest: usize },
    Scored(Box<Scored>),
    Ids,
}

/// The form of a tokenizer in a model file: self-contained JSON.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Stored {
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
        Self::of_bpe(bpe::train(texts, size)?)
    }

    /// Load a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Vocabulary`] when it is not a BPE tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        let json = std::fs::read(path).map_err(Error::io_at(&path))?;
        Self::of_bpe(bpe::load(&json).map_err(|error| error.at(path.display()))?)
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
        if let Ok(tokenizer) = bpe::load(json) {
            return Self::of_bpe(tokenizer);
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
        let file = std::fs::read(path).map_err(Error::io_at(&path))?;
        let (pieces, scores) = scored::read(&file).map_err(locate)?;
        let tokens = scored::names(&pieces);
        Self::from_stored(Stored::Scored { tokens, scores }).map_err(locate)
    }

    /// The ids before and after every separate text: begin marks, or `[CLS]` and `[SEP]`.
    pub fn frame(&self) -> (Vec<u32>, Vec<u32>) {
        match &self.kind {
            Kind::Scored(_) => (vec![scored::BEGIN], Vec::new()),
            Kind::Bpe(tokenizer) => bpe::frame(tokenizer),
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// The `tokenizer.json` of a byte-pair tokenizer; `None` for other kinds, which have no such form.
    pub fn to_json(&self) -> Option<String> {
        match &self.kind {
            Kind::Bpe(tokenizer) => tokenizer.to_string(false).ok(),
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

    /// Add special tokens such as `<l2r>`; existing ones are kept.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for pieces with scores.
    pub fn with_marks(self, marks: &[&str]) -> Result<Self> {
        let new: Vec<String> = marks
            .iter()
            .filter(|mark| self.vocabulary.id(mark).is_none())
            .map(|mark| mark.to_string())
            .collect();
        if new.is_empty() {
            return Ok(self);
        }
        let mut tokens: Vec<String> = (0..self.vocabulary.len() as u32)
            .filter_map(|id| self.vocabulary.token(id))
            .map(String::from)
            .collect();
        match self.kind {
            Kind::Bpe(tokenizer) => Self::of_bpe(bpe::with_marks(*tokenizer, &new)?),
            Kind::Characters | Kind::Pieces { .. } => {
                tokens.extend(new);
                Self::from_stored(match self.kind {
                    Kind::Characters => Stored::Characters { tokens },
                    _ => Stored::Pieces { tokens },
                })
            }
            Kind::Scored(_) | Kind::Ids => Err(Error::new(
                ErrorKind::Unsupported,
                "this kind of vocabulary cannot be extended with special tokens",
            )
            .advice("use characters or byte pairs")),
        }
    }

    fn of_bpe(tokenizer: tokenizers::Tokenizer) -> Result<Self> {
        let vocabulary = bpe::vocabulary(&tokenizer)?;
        Ok(Self {
            kind: Kind::Bpe(Box::new(tokenizer)),
            vocabulary,
            byte_tokens: None,
        })
    }

    fn from_stored(stored: Stored) -> Result<Self> {
        match stored {
            Stored::Characters { tokens } => Self::of_characters(tokens),
            Stored::Pieces { tokens } => {
                let bytes: Vec<Vec<u8>> = tokens.iter().map(|token| piece_bytes(token)).collect();
                let longest = bytes.iter().map(Vec::len).max().unwrap_or(0);
                Self::of_tokens(Kind::Pieces { longest }, tokens, bytes)
            }
            Stored::Scored { tokens, scores } => {
                let bytes: Vec<Vec<u8>> = scored::bytes(&tokens);
                let kind = Kind::Scored(Box::new(Scored::new(&bytes, scores)?));
                Ok(Self {
                    kind,
                    vocabulary: Vocabulary::new(tokens, bytes, Some(0), Some(scored::BEGIN))?,
                    byte_tokens: None,
                })
            }
            Stored::Bpe { tokenizer } => {
                let json = serde_json::to_vec(&tokenizer).expect("JSON writes as JSON");
                Self::of_bpe(bpe::load(&json)?)
            }
            Stored::Ids { size } if size > 1 << 24 => Err(Error::new(
                ErrorKind::Configuration,
                format!("a vocabulary of {size} ids is too large"),
            )),
            Stored::Ids { size } => {
                let tokens: Vec<String> = (0..size).map(|id| id.to_string()).collect();
                let bytes = tokens
                    .iter()
                    .map(|token| format!("{token} ").into_bytes())
                    .collect();
                Ok(Self {
                    kind: Kind::Ids,
                    vocabulary: Vocabulary::new(tokens, bytes, None, None)?,
                    byte_tokens: None,
                })
            }
        }
    }

    /// A tokenizer whose unknown and end tokens are found by their names.
    fn of_tokens(kind: Kind, tokens: Vec<String>, bytes: Vec<Vec<u8>>) -> Result<Self> {
        let id = |name: &str| tokens.iter().position(|token| token == name);
        let unknown = id("<unk>").or_else(|| id("[UNK]")).map(|id| id as u32);
        let stop = id(END).map(|id| id as u32);
        Ok(Self {
            kind,
            vocabulary: Vocabulary::new(tokens, bytes, unknown, stop)?,
            byte_tokens: None,
        })
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
        match &self.kind {
            Kind::Bpe(tokenizer) => bpe::encode(tokenizer, text),
            Kind::Characters => self.encode_characters(text),
            Kind::Pieces { longest } => self.encode_pieces(text, *longest),
            Kind::Scored(scored) => Ok(scored.encode(text)),
            Kind::Ids => Err(Error::new(
                ErrorKind::Unsupported,
                "this model is trained on token ids and has no text",
            )
            .advice("give the prompt as --prompt-ids 3,4,5")),
        }
    }

    fn encode_characters(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 2);
        let mut buffer = [0; 4];
        for (offset, character) in text.char_indices() {
            let written: &str = character.encode_utf8(&mut buffer);
            match (
                self.vocabulary.id(written),
                &self.byte_tokens,
                self.vocabulary.unknown(),
            ) {
                (Some(id), ..) => ids.push(id),
                (None, Some(bytes), _) => {
                    ids.extend(written.bytes().map(|byte| bytes[byte as usize]))
                }
                (None, None, Some(unknown)) => ids.push(unknown),
                (None, None, None) => return Err(outside(character, offset)),
            }
        }
        Ok(ids)
    }

    fn encode_pieces(&self, text: &str, longest: usize) -> Result<Vec<u32>> {
        let pieces: HashMap<&[u8], u32> = (0..self.vocabulary.len() as u32)
            .map(|id| (self.vocabulary.bytes(id), id))
            .filter(|(bytes, _)| !bytes.is_empty())
            .collect();
        let bytes = text.as_bytes();
        let mut ids = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let reach = longest.min(bytes.len() - at);
            let found = (1..=reach)
                .rev()
                .find_map(|n| pieces.get(&bytes[at..at + n]).map(|&id| (n, id)));
            match (found, self.vocabulary.unknown()) {
                (Some((n, id)), _) => {
                    ids.push(id);
                    at += n;
                }
                (None, Some(unknown)) => {
                    ids.push(unknown);
                    at += 1;
                    while !text.is_char_boundary(at) {
                        at += 1;
                    }
                }
                (None, None) => return Err(outside(text[at..].chars().next().unwrap_or(' '), at)),
            }
        }
        Ok(ids)
    }

    /// Decode tokens to bytes; ids outside the vocabulary are skipped.
    ///
    /// Where encoding puts a space before a text, the space after the begin mark is removed.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let mut bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| self.vocabulary.bytes(id))
            .copied()
            .collect();
        let spaced = match &self.kind {
            Kind::Scored(_) => ids.first() == Some(&scored::BEGIN),
            Kind::Bpe(tokenizer) => {
                bpe::spaced(tokenizer)
                    && ids
                        .first()
                        .is_some_and(|&id| self.vocabulary.bytes(id).is_empty())
            }
            _ => false,
        };
        if spaced && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// Decode tokens to text; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// Serialise the tokenizer as self-contained JSON, the form in model files.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tokens = || {
            (0..self.vocabulary.len() as u32)
                .filter_map(|id| self.vocabulary.token(id))
                .map(String::from)
                .collect()
        };
        let stored = match &self.kind {
            Kind::Characters => Stored::Characters { tokens: tokens() },
            Kind::Pieces { .. } => Stored::Pieces { tokens: tokens() },
            Kind::Scored(scored) => Stored::Scored {
                tokens: tokens(),
                scores: scored.scores.clone(),
            },
            Kind::Ids => Stored::Ids {
                size: self.vocabulary.len() as u32,
            },
            Kind::Bpe(tokenizer) => {
                let json = tokenizer
                    .to_string(false)
                    .expect("a loaded tokenizer can be written");
                Stored::Bpe {
                    tokenizer: serde_json::from_str(&json).expect("it is JSON"),
                }
            }
        };
        serde_json::to_vec(&stored).expect("strings and numbers write as JSON")
    }

    /// Deserialise a tokenizer from the output of [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] or [`ErrorKind::Format`] for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Format, format!("invalid vocabulary: {error}"))
        })?;
        Self::from_stored(stored)
    }
}

/// The bytes of a piece; none for a special token.
fn piece_bytes(token: &str) -> Vec<u8> {
    if special(token) {
        Vec::new()
    } else {
        bpe::token_bytes(token)
    }
}

fn outside(character: char, offset: usize) -> Error {
    Error::new(
        ErrorKind::Vocabulary,
        format!(
            "the vocabulary has no token for {character:?} (U+{:04X}), at byte {offset}",
            character as u32
        ),
    )
    .advice("leave it out, or use a model whose vocabulary has bytes")
}
