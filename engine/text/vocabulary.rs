//! The vocabulary: which token each node is, as an id, a string and bytes.

use std::collections::HashMap;

use crate::{Error, ErrorKind, Result};

/// Tokens in the order of their ids.
///
/// ```
/// let tokenizer = brillm::text::Tokenizer::train_characters(std::iter::once("ab".to_string()), 300)?;
/// let vocabulary = tokenizer.vocabulary();
/// let id = vocabulary.id("a").expect("it was in the text");
/// assert_eq!((vocabulary.token(id), vocabulary.bytes(id)), (Some("a"), &b"a"[..]));
/// assert_eq!(vocabulary.display(1), "<0x00>"); // bytes stand for what no token says
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Vocabulary {
    tokens: Vec<String>,
    bytes: Vec<Vec<u8>>,
    index: HashMap<String, u32>,
    unknown: Option<u32>,
    stop: Option<u32>,
}

/// The token that ends a text in vocabularies made here.
pub const END: &str = "<end>";

impl Vocabulary {
    /// A vocabulary from its tokens and what each decodes to.
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
                    format!("id {id} of {} tokens", tokens.len()),
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
        })
    }

    /// Number of tokens, `V`.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token of an id, as its vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The id of a token as its vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.index.get(token).copied()
    }

    /// The bytes a token decodes to; empty for special tokens.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// What stands for text the vocabulary does not have, if anything does.
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// The token that ends a text, if there is one.
    pub fn stop(&self) -> Option<u32> {
        self.stop
    }

    /// A token made readable: its text, with spaces and control characters visible, bytes as `<0xE4>`.
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

    /// The id of what a person types for a node: a token as written, as displayed, or the text it decodes to.
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
