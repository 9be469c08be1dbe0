//! Text out of a stream of tokens: a character is held back until all of its bytes are there.

use crate::text::Tokenizer;

/// Decodes one token at a time.
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
    /// Takes a token and returns the text that is complete now; may be empty.
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
                        // The end may be the beginning of a character: wait for more.
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

    /// What is left when no token follows: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}
