//! One choice of a completion, as it grows: text, tokens, where they begin, their log-probabilities.

use serde_json::{Value, json};

use crate::run::TokenScore;
use crate::text::{Decoder, Tokenizer};

/// Text with the tokens it came from.
pub(super) struct Part {
    pub(super) text: String,
    pub(super) scores: Vec<TokenScore>,
    /// Characters at the beginning of the first tokens that are not in the text: a tokenizer may put a space before
    /// every text, and takes it away again.
    pub(super) swallowed: usize,
}

/// Where the next token's text begins.
#[derive(Default)]
pub(super) struct Cursor {
    decoder: Decoder,
    /// In characters.
    offset: usize,
    /// Characters to come that are not in the text.
    swallowed: usize,
}

impl Cursor {
    fn pass(&mut self, tokenizer: &Tokenizer, id: u32) {
        let characters = self.decoder.push(tokenizer, id).chars().count();
        let swallowed = self.swallowed.min(characters);
        self.swallowed -= swallowed;
        self.offset += characters - swallowed;
    }
}

/// One choice, growing.
pub(super) struct Choice<'a> {
    tokenizer: &'a Tokenizer,
    index: usize,
    text: String,
    pub(super) cursor: Cursor,
    tokens: Vec<String>,
    offsets: Vec<usize>,
    logprobs: Vec<Option<f64>>,
    top: Vec<Option<serde_json::Map<String, Value>>>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, index: usize) -> Self {
        Self {
            tokenizer,
            index,
            text: String::new(),
            cursor: Cursor::default(),
            tokens: Vec::new(),
            offsets: Vec::new(),
            logprobs: Vec::new(),
            top: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, part: Part) {
        self.text.push_str(&part.text);
        self.cursor.swallowed += part.swallowed;
        for score in part.scores {
            self.offsets.push(self.cursor.offset);
            self.cursor.pass(self.tokenizer, score.id);
            self.tokens.push(name(self.tokenizer, score.id));
            self.logprobs.push(score.ln_probability);
            let listed = score.ln_probability.map(|_| {
                let mut top = serde_json::Map::new();
                for (id, ln) in score.top {
                    // Different tokens may have one text: the likeliest stands for it.
                    top.entry(name(self.tokenizer, id)).or_insert(json!(ln));
                }
                top
            });
            self.top.push(listed);
        }
    }

    /// As OpenAI writes it; with its tokens where `tokens` asks for them.
    pub(super) fn json(self, tokens: bool, finish: Option<&str>) -> Value {
        let logprobs = tokens.then(|| {
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

/// A token as text; as OpenAI writes it, `bytes:\xe6\x98`, where its bytes alone are none.
fn name(tokenizer: &Tokenizer, id: u32) -> String {
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
