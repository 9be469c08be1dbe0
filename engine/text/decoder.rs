//! Streaming decoder: returns text as soon as later tokens cannot change it.

use crate::text::Tokenizer;
use crate::text::decoder_stage::{Stage, run};

/// Decoder of a stream of tokens. The concatenation of everything it returns is what [`Tokenizer::decode`] returns for
/// all tokens at once, which uses this decoder too.
///
/// ```
/// use brillm::text::{Decoder, Tokenizer};
/// let tokenizer = Tokenizer::train_characters(std::iter::once("a".to_string()), 300)?;
/// let mut decoder = Decoder::default();
/// let text: String = tokenizer.encode("☃")?.into_iter().map(|id| decoder.push(&tokenizer, id)).collect();
/// assert_eq!(text, "☃"); // three byte tokens, one character
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    stages: Option<Vec<Stage>>,
    special: bool,
    /// Text of the preceding tokens that this decoder had not returned yet; it is not returned again.
    counted: String,
}

impl Decoder {
    /// Create a decoder that also returns the names of special tokens.
    pub fn with_special() -> Self {
        Self {
            special: true,
            ..Self::default()
        }
    }

    /// Create a decoder for the tokens that follow `before`, whose text is not returned.
    ///
    /// A token's text can depend on those before it: many tokenizers drop the space before the first word only.
    pub fn after(tokenizer: &Tokenizer, before: &[u32]) -> Self {
        let mut decoder = Self::default();
        for &id in before {
            decoder.push(tokenizer, id);
        }
        decoder.counted = decoder.clone().finish();
        decoder
    }

    /// Add a token and return the text that is complete; may be empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let stages = self.stages.get_or_insert_with(|| tokenizer.stages());
        let text = tokenizer.push(stages, id, self.special);
        self.new_part(text)
    }

    /// Return the remaining text at the end of the stream; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = run(
            &mut self.stages.take().unwrap_or_default(),
            Vec::new(),
            true,
        );
        self.new_part(text)
    }

    /// Remove what belongs to the preceding tokens.
    fn new_part(&mut self, mut text: String) -> String {
        if self.counted.is_empty() || text.is_empty() {
            return text;
        }
        let same = self.counted.chars().zip(text.chars());
        let common: usize = same
            .take_while(|(old, new)| old == new)
            .map(|(old, _)| old.len_utf8())
            .sum();
        if common == text.len() {
            self.counted.drain(..common);
        } else {
            self.counted.clear();
        }
        text.split_off(common)
    }
}

impl Tokenizer {
    /// Decode tokens to text; ids outside the vocabulary and special tokens are skipped, and bytes that are not UTF-8
    /// become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_by(Decoder::default(), ids)
    }

    /// Decode tokens to text, with the names of special tokens.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        self.decode_by(Decoder::with_special(), ids)
    }

    /// Decode tokens that follow `before`: the text that they add to its text.
    pub fn decode_after(&self, before: &[u32], ids: &[u32]) -> String {
        self.decode_by(Decoder::after(self, before), ids)
    }

    fn decode_by(&self, mut decoder: Decoder, ids: &[u32]) -> String {
        let mut text: String = ids.iter().map(|&id| decoder.push(self, id)).collect();
        text.push_str(&decoder.finish());
        text
    }
}
