//! The vocabulary: the name and the bytes of each token id.

use std::collections::HashMap;
use std::sync::Arc;

use crate::modality::{Codecs, Modality};
use crate::{Error, ErrorKind, Result};

/// Tokens in the order of their ids.
///
/// ```
/// let tokenizer = brillm::text::Tokenizer::train_characters(std::iter::once("ab".to_string()), 300)?;
/// let vocabulary = tokenizer.vocabulary();
/// let id = vocabulary.id("a").expect("it was in the text");
/// assert_eq!((vocabulary.token(id), vocabulary.bytes(id)), (Some("a"), &b"a"[..]));
/// assert_eq!(vocabulary.display(1), "<0x00>"); // bytes encode all other text
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Vocabulary {
    tokens: Vec<String>,
    bytes: Vec<Vec<u8>>,
    index: HashMap<String, u32>,
    unknown: Option<u32>,
    stop: Option<u32>,
    /// The codecs of images and sounds, whose tokens are in the vocabulary.
    pub(super) codecs: Option<Arc<Codecs>>,
}

/// The end token of vocabularies that the engine trains.
pub const END: &str = "<end>";

impl Vocabulary {
    /// Create a vocabulary from its tokens and the bytes that each decodes to.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] for a token that occurs twice or an id outside the vocabulary.
    pub(crate) fn new(
        tokens: Vec<String>,
        bytes: Vec<Vec<u8>>,
        unknown: Option<u32>,
        stop: Option<u32>,
    ) -> Result<Self> {
        let mut index = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = index.insert(token.clone(), id as u32) {
                return Err(Error::new(
                    ErrorKind::Vocabulary,
                    format!("token {token:?} has two ids, {first} and {id}"),
                ));
            }
        }
        for id in [unknown, stop].into_iter().flatten() {
            if id as usize >= tokens.len() {
                return Err(Error::new(
                    ErrorKind::Vocabulary,
                    format!(
                        "special id {id} is outside the vocabulary of {} tokens",
                        tokens.len()
                    ),
                ));
            }
        }
        debug_assert_eq!(tokens.len(), bytes.len());
        Ok(Self {
            tokens,
            bytes,
            index,
            unknown,
            stop,
            codecs: None,
        })
    }

    /// Number of tokens, `V`.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the vocabulary has no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The name of a token.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The codecs of images and sounds, for a vocabulary that has their tokens.
    pub fn codecs(&self) -> Option<&Codecs> {
        self.codecs.as_deref()
    }

    /// The modality and the code of a token; `None` for other tokens.
    pub fn code(&self, id: u32) -> Option<(Modality, usize)> {
        let (modality, code) = Modality::code_of(self.token(id)?)?;
        let count = self.codecs()?.codes(modality)?;
        (code < count).then_some((modality, code))
    }

    /// The id of a token by its name.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.index.get(token).copied()
    }

    /// The bytes a token decodes to; empty for special tokens.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// The token for text outside the vocabulary, if there is one.
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// Set the token that ends a text, if it is in the vocabulary.
    pub(super) fn set_stop(&mut self, stop: u32) {
        if (stop as usize) < self.len() {
            self.stop = Some(stop);
        }
    }

    /// Drop the token that ends a text where its id is not below `limit`.
    #[cfg(feature = "transformer")]
    pub(super) fn limit_stop(&mut self, limit: usize) {
        self.stop = self.stop.filter(|&stop| (stop as usize) < limit);
    }

    /// The token that ends a text, if there is one.
    pub fn stop(&self) -> Option<u32> {
        self.stop
    }

    /// Format a token for display: its text with visible spaces and control characters, bytes as `<0xE4>`.
    pub fn display(&self, id: u32) -> String {
        let bytes = self.bytes(id);
        if bytes.is_empty() {
            return self
                .token(id)
                .map_or_else(|| format!("#{id}"), str::to_string);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => text
                .chars()
                .map(|character| match character {
                    ' ' => '␣'.to_string(),
                    '\n' => '⏎'.to_string(),
                    '\t' => '⇥'.to_string(),
                    c if c.is_control() => format!("<0x{:02X}>", c as u32),
                    c => c.to_string(),
                })
                .collect(),
            Err(_) => bytes.iter().map(|byte| format!("<0x{byte:02X}>")).collect(),
        }
    }

    /// Find a token by user input: its name, its text, its display form, or its text after a space.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.id(text)
            .or_else(|| {
                self.bytes
                    .iter()
                    .position(|bytes| bytes == text.as_bytes())
                    .map(|id| id as u32)
            })
            .or_else(|| (0..self.len() as u32).find(|&id| self.display(id) == text))
            .or_else(|| {
                let spaced = format!(" {text}");
                self.bytes
                    .iter()
                    .position(|bytes| bytes == spaced.as_bytes())
                    .map(|id| id as u32)
            })
    }
}
