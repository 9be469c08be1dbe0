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

/// The shape of a choice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The text of a completion.
    Text,
    /// A message of a chat.
    Message,
    /// What an event adds to a message of a chat.
    Delta,
}

/// A choice, or the part of it that one event carries.
pub(super) struct Choice<'a> {
    tokenizer: &'a Tokenizer,
    form: Form,
    pub(super) index: usize,
    text: String,
    pub(super) cursor: Cursor,
    offsets: Vec<usize>,
    scores: Vec<TokenScore>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, form: Form, index: usize, cursor: Cursor) -> Self {
        Self {
            tokenizer,
            form,
            index,
            text: String::new(),
            cursor,
            offsets: Vec::new(),
            scores: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, piece: Piece) {
        self.text.push_str(&piece.text);
        for score in piece.scores {
            self.offsets.push(self.cursor.offset);
            self.cursor.advance(self.tokenizer, score.id);
            self.scores.push(score);
        }
    }

    /// The choice in OpenAI's shape, with log-probabilities where `logprobs` is set.
    pub(super) fn json(self, logprobs: bool, finish: Option<&str>) -> Value {
        let logprobs = match self.form {
            _ if !logprobs => Value::Null,
            Form::Text => self.text_logprobs(),
            Form::Message | Form::Delta => self.chat_logprobs(),
        };
        let (field, text) = match self.form {
            Form::Text => ("text", json!(self.text)),
            Form::Message => {
                let message = json!({"role": "assistant", "content": self.text, "refusal": null});
                ("message", message)
            }
            Form::Delta if finish.is_some() => ("delta", json!({})),
            Form::Delta => ("delta", json!({"content": self.text})),
        };
        json!({
            "index": self.index,
            field: text,
            "logprobs": logprobs,
            "finish_reason": finish,
        })
    }

    /// The first event of a message of a chat.
    pub(super) fn role(index: usize) -> Value {
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null})
    }

    fn text_logprobs(&self) -> Value {
        let name = |id| token_text(self.tokenizer, id);
        let names: Vec<String> = self.scores.iter().map(|score| name(score.id)).collect();
        let logprobs: Vec<_> = self
            .scores
            .iter()
            .map(|score| score.ln_probability)
            .collect();
        let top = self.scores.iter().map(|score| {
            score.ln_probability?;
            let mut top = Map::new();
            for &(id, ln) in &score.top {
                // Different tokens may have the same text: the first, which is the most likely, is listed.
                top.entry(name(id)).or_insert(json!(ln));
            }
            Some(top)
        });
        json!({
            "tokens": names,
            "token_logprobs": logprobs,
            "top_logprobs": top.collect::<Vec<_>>(),
            "text_offset": self.offsets,
        })
    }

    fn chat_logprobs(&self) -> Value {
        let entry = |id: u32, ln: Option<f64>| {
            let bytes = self.tokenizer.vocabulary().bytes(id);
            json!({"token": token_text(self.tokenizer, id), "logprob": ln, "bytes": bytes})
        };
        let content = self.scores.iter().map(|score| {
            let mut token = entry(score.id, score.ln_probability);
            let top = score.top.iter().map(|&(id, ln)| entry(id, Some(ln)));
            token["top_logprobs"] = top.collect();
            token
        });
        json!({"content": content.collect::<Vec<_>>(), "refusal": null})
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
