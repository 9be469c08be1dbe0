//! One choice of a completion: its text, tokens, their offsets and log-probabilities.

use serde_json::{Map, Value, json};

use crate::run::TokenScore;
use crate::text::{Decoder, Tokenizer};

/// New text of a choice, with the tokens that it came from.
#[derive(Clone, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) scores: Vec<TokenScore>,
}

impl Piece {
    /// Σ ln p of the tokens; those without a figure count as certain.
    pub(super) fn ln_probability(&self) -> f64 {
        self.scores
            .iter()
            .filter_map(|score| score.ln_probability)
            .sum()
    }
}

/// Offset of the next token's text.
#[derive(Default)]
pub(super) struct Cursor {
    decoder: Decoder,
    /// In characters.
    offset: usize,
}

impl Cursor {
    /// Create a cursor at the start of a text that follows `before`.
    pub(super) fn after(tokenizer: &Tokenizer, before: &[u32]) -> Self {
        Self {
            decoder: Decoder::after(tokenizer, before),
            offset: 0,
        }
    }

    fn advance(&mut self, tokenizer: &Tokenizer, id: u32) {
        self.offset += self.decoder.push(tokenizer, id).chars().count();
    }
}

/// A choice, or the part of it that one event carries.
pub(super) struct Choice<'a> {
    tokenizer: &'a Tokenizer,
    pub(super) index: usize,
    text: String,
    pub(super) cursor: Cursor,
    tokens: Vec<String>,
    offsets: Vec<usize>,
    logprobs: Vec<Option<f64>>,
    top: Vec<Option<Map<String, Value>>>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, index: usize, cursor: Cursor) -> Self {
        Self {
            tokenizer,
            index,
            text: String::new(),
            cursor,
            tokens: Vec::new(),
            offsets: Vec::new(),
            logprobs: Vec::new(),
            top: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, piece: Piece) {
        self.text.push_str(&piece.text);
        for score in piece.scores {
            self.offsets.push(self.cursor.offset);
            self.cursor.advance(self.tokenizer, score.id);
            self.tokens.push(token_text(self.tokenizer, score.id));
            self.logprobs.push(score.ln_probability);
            let listed = score.ln_probability.map(|_| {
                let mut top = Map::new();
                for (id, ln) in score.top {
                    // Different tokens may have the same text: the first, which is the most likely, is listed.
                    top.entry(token_text(self.tokenizer, id))
                        .or_insert(json!(ln));
                }
                top
            });
            self.top.push(listed);
        }
    }

    /// The choice in OpenAI's shape, with log-probabilities where `logprobs` is set.
    pub(super) fn json(self, logprobs: bool, finish: Option<&str>) -> Value {
        let logprobs = logprobs.then(|| {
            json!({
                "tokens": self.tokens,
                "token_logprobs": self.logprobs,
                "top_logprobs": self.top,
                "text_offset": self.offsets,
            })
        });
        json!({
            "index": self.index,
            "text": self.text,
            "logprobs": logprobs,
            "finish_reason": finish,
        })
    }
}

/// A token as text; as OpenAI writes it, `bytes:\xe6\x98`, where its bytes are not valid UTF-8.
fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    let vocabulary = tokenizer.vocabulary();
    let bytes = vocabulary.bytes(id);
    if bytes.is_empty() {
        return vocabulary.display(id);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => {
            let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{escaped}")
        }
    }
}
