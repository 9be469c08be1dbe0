//! Training of byte-level byte-pair encoding with the `tokenizers` crate.

use std::collections::HashMap;
use std::sync::OnceLock;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, PreTokenizerWrapper, TokenizerBuilder};

use crate::text::pipeline::{Pipeline, invalid};
use crate::text::vocabulary::END;
use crate::{Error, ErrorKind, Result};

/// The byte of each character of the byte-level alphabet (Radford et al. 2019): printable bytes map to
/// themselves, the others to 256 and up, in order.
fn byte_of_character() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut moved = 256;
    (0..=255u8)
        .map(|byte| {
            let character = if printable(byte) {
                char::from(byte)
            } else {
                moved += 1;
                char::from_u32(moved - 1).expect("below the surrogates")
            };
            (character, byte)
        })
        .collect()
}

/// The bytes of a byte-level token; tokens outside the alphabet decode to themselves.
pub(crate) fn token_bytes(token: &str) -> Vec<u8> {
    static ALPHABET: OnceLock<HashMap<char, u8>> = OnceLock::new();
    let alphabet = ALPHABET.get_or_init(byte_of_character);
    let bytes: Option<Vec<u8>> = token
        .chars()
        .map(|character| alphabet.get(&character).copied())
        .collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// Train a byte-level BPE of `size` tokens, `<end>` first; all 256 bytes are in it, so any text round-trips.
pub(crate) fn train(texts: impl Iterator<Item = String> + Send, size: usize) -> Result<Pipeline> {
    if size < 257 {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("a BPE vocabulary of {size} tokens is too small"),
        )
        .advice("256 bytes and the end token need at least 257"));
    }
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        tokenizers::NormalizerWrapper,
        PreTokenizerWrapper,
        tokenizers::PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(ByteLevel::new(false, false, true).into()))
    .with_decoder(Some(ByteLevel::new(false, false, true).into()))
    .build()
    .map_err(|error| invalid("the tokenizer cannot be created", &error))?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END, true)])
        .build();
    tokenizer
        .train(&mut trainer, texts)
        .map_err(|error| invalid("BPE training failed", &error))?;
    let json = tokenizer
        .to_string(false)
        .map_err(|error| invalid("the tokenizer cannot be written", &error))?;
    Pipeline::read(json.as_bytes())
}
