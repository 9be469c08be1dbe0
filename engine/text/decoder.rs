//! Streaming decoder: a character is returned when all of its bytes have arrived.

use crate::text::Tokenizer;

/// Decoder of a stream of tokens.
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
    held: Vec<u8>,
}

impl Decoder {
    /// Add a token and return the text that is complete; may be empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        self.held
            .extend_from_slice(tokenizer.vocabulary().bytes(id));
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(complete) => {
                    text.push_str(complete);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(
                        std::str::from_utf8(&self.held[..valid]).expect("checked just now"),
                    );
                    match error.error_len() {
                        // An incomplete character at the end: wait for its other bytes.
                        None => {
                            self.held.drain(..valid);
                            return text;
                        }
                        Some(wrong) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.held.drain(..valid + wrong);
                        }
                    }
                }
            }
        }
    }

    /// Return the remaining text at the end of the stream; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}
